package state

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/webhook"
)

// EndpointTest is what a receiver said to the last test of an endpoint that was delivered.
type EndpointTest struct {
	Time time.Time `json:"time"`
	// Wrong is what it said to wrong requests.
	Wrong []webhook.WrongProbe `json:"wrong"`
	// of is the hash of the settings that were tested.
	of string
}

// Is reports whether the settings, without secrets, are those that were tested.
func (t *EndpointTest) Is(settings json.RawMessage) bool { return t.of == settingsHash(settings) }

func settingsHash(settings json.RawMessage) string {
	sum := sha256.Sum256(settings)
	return hex.EncodeToString(sum[:])
}

// SaveTest remembers a test of the endpoint with these settings, without secrets, in the place of the one before.
func (s *Store) SaveTest(ctx context.Context, endpoint string, settings json.RawMessage, wrong []webhook.WrongProbe) error {
	if wrong == nil {
		wrong = []webhook.WrongProbe{}
	}
	said, err := json.Marshal(wrong)
	if err != nil {
		return err
	}
	return s.write(ctx, "remember the test of an endpoint", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `insert into gancho.endpoint_tests (endpoint, tested, settings, wrong) values ($1, now(), $2, $3::text::json)
			on conflict (endpoint) do update set tested = excluded.tested, settings = excluded.settings, wrong = excluded.wrong`,
			s.text.encode(endpoint), settingsHash(settings), string(asciiJSON(said)))
		return err
	})
}

// Tests returns the last tests of the endpoints, by name. One that was never tested is not there.
func (s *Store) Tests(ctx context.Context, endpoints []string) (map[string]EndpointTest, error) {
	type row struct {
		endpoint, wrong string
		EndpointTest
	}
	rows, err := collectMany(ctx, s, "read the tests of endpoints", `select endpoint, tested, settings, wrong::text from gancho.endpoint_tests where endpoint = any($1)`,
		[]any{s.text.encodeAll(endpoints)}, func(r pgx.CollectableRow) (v row, err error) {
			if err = r.Scan(&v.endpoint, &v.Time, &v.of, &v.wrong); err == nil {
				v.Time = v.Time.UTC()
				err = json.Unmarshal([]byte(v.wrong), &v.Wrong)
			}
			decodeIn(&v.endpoint)
			return v, err
		})
	out := make(map[string]EndpointTest, len(rows))
	for _, r := range rows {
		out[r.endpoint] = r.EndpointTest
	}
	return out, err
}
