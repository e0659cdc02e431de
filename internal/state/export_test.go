package state

import (
	"context"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// ExplainAttempts is the plan of the part of Attempts that comes first.
func (s *Store) ExplainAttempts(ctx context.Context, f Filter, cursor string, n int) (string, error) {
	var after attemptCursor
	var err error
	if cursor != "" {
		if after, err = parseAttemptCursor(cursor); err != nil {
			return "", err
		}
	}
	if f.Events, err = s.eventNames(ctx, attemptsTable, &f); err != nil {
		return "", err
	}
	sql, args, err := s.attemptsQuery(ctx, f.parts(time.Now(), after.Time)[0], after, n)
	if err != nil {
		return "", err
	}
	lines, err := collect(ctx, s, "explain", "explain (analyze, buffers) "+sql, args, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}

// ExplainLastGiven is the plan of LastGiven.
func (s *Store) ExplainLastGiven(ctx context.Context, g Given) (string, error) {
	sql, args := g.latest(s.text)
	lines, err := collect(ctx, s, "explain", "explain (analyze, buffers) "+sql, args, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}

// ExplainGiven is the plan of GivenPage.
func (s *Store) ExplainGiven(ctx context.Context, g Given, after, last string, n int) (string, error) {
	sql, args := g.page(s.text, after, last, n)
	lines, err := collect(ctx, s, "explain", "explain (analyze, buffers) "+sql, args, pgx.RowTo[string])
	return strings.Join(lines, "\n"), err
}

// ExplainLately is the plan of Lately, of one endpoint and tenant.
func (s *Store) ExplainLately(ctx context.Context, endpoint string, since time.Time, tenant string) (plan string, err error) {
	err = pgx.BeginTxFunc(ctx, s.pool, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, latelyPlan); err != nil {
			return err
		}
		rows, _ := tx.Query(ctx, "explain (analyze, buffers) "+latelySQL, []string{endpoint}, since, tenant, LatelyAttempts)
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		plan = strings.Join(lines, "\n")
		return err
	})
	return plan, err
}

// Encode and Decode are the escaping of texts for a server's encoding.
func Encode(server, text string) string { return encodingOf(server).encode(text) }

// Decode undoes Encode.
func Decode(text string) string { return decode(text) }

// ASCIIJSON is how JSON is stored.
func ASCIIJSON(text []byte) []byte { return asciiJSON(text) }

// Seal and Unseal are what the keyring does to values.
func (k *Keyring) Seal(place string, plain []byte) []byte {
	return k.seal(sealPlace{text: place}, plain)
}

// Unseal undoes Seal.
func (k *Keyring) Unseal(place, what string, sealed []byte) ([]byte, error) {
	return k.unseal(sealPlace{text: place}, what, sealed)
}

// WithoutClaim is the job as its row, without what a worker has of it.
func (j Job) WithoutClaim() Job {
	j.claim = claim{}
	return j
}

// ClaimSQL is the statement of ClaimJob.
const ClaimSQL = claimSQL

// Unresealed are the kinds of encrypted values that Rekey leaves out.
func Unresealed() (kinds []int) {
	for kind, r := range resealers {
		if r.inTx == nil && r.inRedis == nil {
			kinds = append(kinds, kind)
		}
	}
	return kinds
}

// QuickBytes is quickBytes.
const QuickBytes = quickBytes

// QuickDeflated is quickDeflated.
func QuickDeflated(plain []byte) []byte { return quickDeflated(plain) }
