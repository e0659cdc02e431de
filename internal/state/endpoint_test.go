package state_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/state"
)

// endpoint is one as the commands hand it on.
func newEndpoint(name string, tenants ...string) state.Endpoint {
	return state.Endpoint{
		Name: name, Tenants: tenants, State: endpoint.Active,
		Document: json.RawMessage(`{"url":"https://crm.example.com/?chave=segredo-do-crm","title":"São Paulo €"}`),
		Public:   json.RawMessage(`{"url":"https://crm.example.com/?chave=***","title":"São Paulo €"}`),
	}
}

// equal compares endpoints without their times.
func equal(t *testing.T, what string, want, got state.Endpoint) {
	t.Helper()
	for _, e := range []*state.Endpoint{&want, &got} {
		e.Created, e.Updated = time.Time{}, time.Time{}
		e.Public = normal(t, e.Public)
		for i := range e.Secrets {
			e.Secrets[i].Created = time.Time{}
		}
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(endpoint.Secret.Equal)); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func normal(t *testing.T, text json.RawMessage) json.RawMessage {
	t.Helper()
	if len(text) == 0 {
		return nil
	}
	var v any
	check(t, json.Unmarshal(text, &v))
	return must[[]byte](t)(json.Marshal(v))
}

func TestEndpoints(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{"utf8": "", "latin1": latin1} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := database(t, options)
			s := open(t, dsn, keys(t, "a"))
			ctx := t.Context()
			first, second := endpoint.GenerateSecret(), endpoint.GenerateSecret()

			e := newEndpoint("crm", "1", "São €")
			added, err := s.AddEndpoint(ctx, "cli:ana", e, []endpoint.Secret{second, first})
			check(t, err)
			e.ID, e.Version = added.ID, 1
			e.Secrets = []state.Secret{{ID: added.Secrets[0].ID, Secret: second}, {ID: added.Secrets[1].ID, Secret: first}}
			equal(t, "added", e, added)
			if time.Since(added.Created) > time.Minute || added.Secrets[0].ID <= added.Secrets[1].ID {
				t.Errorf("created %v, secrets %v", added.Created, added.Secrets)
			}
			_, err = s.AddEndpoint(ctx, "cli:ana", newEndpoint("crm"), nil)
			if !errors.Is(err, state.ErrConflict) || !strings.Contains(err.Error(), "of this name") {
				t.Errorf("the same name again: %v", err)
			}
			all := must[[]state.Endpoint](t)(s.EndpointsOf(ctx, ""))
			if len(all) != 1 {
				t.Fatalf("%d endpoints, want 1", len(all))
			}
			equal(t, "listed", e, all[0])

			e = added
			e.Tenants, e.Document, e.Public = nil, json.RawMessage(`{"url":"https://erp.example.com"}`), json.RawMessage(`{"url":"https://erp.example.com"}`)
			updated := must[state.Endpoint](t)(s.UpdateEndpoint(ctx, "token:suporte", e))
			e.Version = 2
			equal(t, "updated", e, updated)
			if _, err := s.UpdateEndpoint(ctx, "token:suporte", added); !errors.Is(err, state.ErrConflict) {
				t.Errorf("an update of an old version: %v", err)
			}
			paused := must[state.Endpoint](t)(s.SetEndpointState(ctx, "cli:ana", "crm", endpoint.Paused))
			e.State, e.Version = endpoint.Paused, 3
			equal(t, "paused", e, paused)

			check(t, s.RemoveEndpoint(ctx, "cli:ana", "crm", false))
			same(t, "drops", []string(nil), must[[]string](t)(s.Drops(ctx)))
			for what, err := range map[string]error{
				"read":   second2(s.Endpoint(ctx, "crm")),
				"update": second2(s.UpdateEndpoint(ctx, "x", e)),
				"pause":  second2(s.SetEndpointState(ctx, "x", "crm", endpoint.Paused)),
				"rotate": second2(s.RotateSecret(ctx, "x", "crm", first, 0)),
				"remove": s.RemoveEndpoint(ctx, "x", "crm", false),
			} {
				if !errors.Is(err, state.ErrNotFound) {
					t.Errorf("%s of what is removed: %v, want ErrNotFound", what, err)
				}
			}
			again := must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", newEndpoint("crm"), nil))
			if again.ID <= added.ID {
				t.Errorf("the id %d is used again", again.ID)
			}
			var actions []string
			for _, c := range must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Object: "endpoint/crm"}, 0, 100)) {
				actions = append(actions, c.Actor+" "+c.Action)
			}
			same(t, "audit", []string{
				"cli:ana endpoint.add", "cli:ana endpoint.remove", "cli:ana endpoint.pause", "token:suporte endpoint.edit", "cli:ana endpoint.add",
			}, actions)
			notInClear(t, dsn, "segredo-do-crm", first.Reveal()[6:], second.Reveal()[6:])
		})
	}
}

func second2[T any](_ T, err error) error { return err }

// notInClear looks through every row of every table of the schema.
func notInClear(t *testing.T, dsn string, secrets ...string) {
	t.Helper()
	conn := connect(t, dsn)
	rows, err := conn.Query(t.Context(), `select c.oid::regclass::text from pg_class c where relnamespace = 'gancho'::regnamespace and relkind in ('r', 'p')`)
	check(t, err)
	tables := must[[]string](t)(pgx.CollectRows(rows, pgx.RowTo[string]))
	if len(tables) < 10 {
		t.Fatalf("only %d tables", len(tables))
	}
	for _, table := range tables {
		// bytea prints in hexadecimal: both forms are looked for.
		for _, secret := range secrets {
			var n int
			sql := fmt.Sprintf(`select count(*) from %s r where strpos(r::text, $1) > 0 or strpos(r::text, $2) > 0`, table)
			check(t, conn.QueryRow(t.Context(), sql, secret, fmt.Sprintf("%x", secret)).Scan(&n))
			if n > 0 {
				t.Errorf("%s holds a secret in clear", table)
			}
		}
	}
}

func TestDropsOfQueues(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	for _, name := range []string{"b", "a"} {
		must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", newEndpoint(name), nil))
		check(t, s.RemoveEndpoint(ctx, "cli:ana", name, true))
	}
	same(t, "drops", []string{"b", "a"}, must[[]string](t)(s.Drops(ctx)))
	// The new endpoint's events would be deleted with the old one's.
	_, err := s.AddEndpoint(ctx, "cli:ana", newEndpoint("b"), nil)
	if !errors.Is(err, state.ErrConflict) || !strings.Contains(err.Error(), "not dropped yet") {
		t.Errorf("a name whose queue is to be dropped: %v", err)
	}
	check(t, s.Dropped(ctx, "b"))
	check(t, s.Dropped(ctx, "b"))
	must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", newEndpoint("b"), nil))
	same(t, "drops", []string{"a"}, must[[]string](t)(s.Drops(ctx)))

	// The queue of an endpoint that was removed without it, or was never stored.
	check(t, s.DropQueue(ctx, "cli:ana", "esquecido"))
	check(t, s.DropQueue(ctx, "cli:ana", "esquecido"))
	same(t, "drops", []string{"a", "esquecido"}, must[[]string](t)(s.Drops(ctx)))
	if err := s.DropQueue(ctx, "cli:ana", "b"); !errors.Is(err, state.ErrConflict) {
		t.Errorf("dropping the queue of an endpoint that is there: %v", err)
	}
}

func TestRotateSecret(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	one, two, three := endpoint.GenerateSecret(), endpoint.GenerateSecret(), endpoint.GenerateSecret()
	must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", newEndpoint("crm", "1"), []endpoint.Secret{one}))

	e := must[state.Endpoint](t)(s.RotateSecret(ctx, "token:suporte", "crm", two, time.Hour))
	if len(e.Secrets) != 2 || !e.Secrets[0].Secret.Equal(two) || !e.Secrets[1].Secret.Equal(one) {
		t.Fatalf("secrets after the first rotation: %v", e.Secrets)
	}
	if left := time.Until(e.Secrets[1].Expires); !e.Secrets[0].Expires.IsZero() || left < 59*time.Minute || left > time.Hour {
		t.Errorf("the old secret expires in %v, the new one at %v", left, e.Secrets[0].Expires)
	}
	// A longer overlap does not make the first one last longer.
	expires := e.Secrets[1].Expires
	e = must[state.Endpoint](t)(s.RotateSecret(ctx, "token:suporte", "crm", three, 48*time.Hour))
	if len(e.Secrets) != 3 || !e.Secrets[2].Expires.Equal(expires) {
		t.Errorf("secrets after the second rotation: %v", e.Secrets)
	}
	e = must[state.Endpoint](t)(s.RotateSecret(ctx, "token:suporte", "crm", one, 0))
	if len(e.Secrets) != 1 || !e.Secrets[0].Secret.Equal(one) || e.Version != 4 {
		t.Errorf("secrets after a rotation without overlap: %v, version %d", e.Secrets, e.Version)
	}
	changes := must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Tenant: pointer("1"), Action: "secret.rotate"}, 0, 10))
	if len(changes) != 3 || !strings.Contains(string(changes[2].After), `"overlap":"1h0m0s"`) {
		t.Errorf("audit: %+v", changes)
	}
	for range endpoint.MaxKeys - 1 {
		must[state.Endpoint](t)(s.RotateSecret(ctx, "token:suporte", "crm", endpoint.GenerateSecret(), time.Hour))
	}
	if _, err := s.RotateSecret(ctx, "token:suporte", "crm", two, time.Hour); !errors.Is(err, state.ErrLimit) {
		t.Errorf("a key too many: %v", err)
	}
	if e = must[state.Endpoint](t)(s.RotateSecret(ctx, "token:suporte", "crm", two, 0)); len(e.Secrets) != 1 {
		t.Errorf("keys after a rotation without overlap: %v", e.Secrets)
	}
	notInClear(t, dsn, one.Reveal()[6:], two.Reveal()[6:], three.Reveal()[6:])
}

// TestEndpointsOf: a tenant's are those that are its alone; without the key, the tenants are known.
func TestEndpointsOf(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	for name, tenants := range map[string][]string{"all": nil, "um": {"1"}, "dois": {"2"}, "both": {"1", "2"}, "euro": {"São €"}} {
		must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", newEndpoint(name, tenants...), nil))
	}
	for tenant, want := range map[string]string{"": "all both dois euro um", "1": "um", "São €": "euro", "3": ""} {
		var names []string
		for _, e := range must[[]state.Endpoint](t)(s.EndpointsOf(ctx, tenant)) {
			names = append(names, e.Name)
		}
		same(t, "endpoints of "+tenant, want, strings.Join(names, " "))
	}
	of := must[map[string][]string](t)(open(t, dsn, keys(t, "b")).EndpointTenants(ctx))
	if len(of) != 5 || len(of["both"]) != 2 || len(of["all"]) != 0 || of["euro"][0] != "São €" {
		t.Errorf("the tenants are %v", of)
	}
}

// TestRekeyBesideAChange: a change of an endpoint that is under way ends, and
// rekeying waits for it.
func TestRekeyBesideAChange(t *testing.T) {
	t.Parallel()
	dsn := database(t, "")
	ctx := t.Context()
	before := open(t, dsn, keys(t, "a"))
	must[state.Endpoint](t)(before.AddEndpoint(ctx, "cli:ana", newEndpoint("crm"), nil))
	both := open(t, dsn, keys(t, "b", "a"))
	tx := must[pgx.Tx](t)(connect(t, dsn).Begin(ctx))
	if _, err := tx.Exec(ctx, `select id from gancho.endpoints where name = 'crm' for update`); err != nil {
		t.Fatal(err)
	}
	rekeyed := make(chan error, 1)
	go func() {
		_, err := both.Rekey(ctx, "cli:ana", parked{})
		rekeyed <- err
	}()
	const waiting = `select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'`
	observer := connect(t, dsn)
	for waits := 0; waits == 0; { // the server has no event for it
		check(t, observer.QueryRow(ctx, waiting).Scan(&waits))
	}
	if _, err := tx.Exec(ctx, `update gancho.endpoints set state = 'paused' where name = 'crm'`); err != nil {
		t.Errorf("the change: %v", err)
	}
	check(t, tx.Commit(ctx))
	check(t, <-rekeyed)
}

func TestRekey(t *testing.T) {
	t.Parallel()
	dsn := database(t, "")
	ctx := t.Context()
	before := open(t, dsn, keys(t, "a"))
	secret := endpoint.GenerateSecret()
	for _, name := range []string{"crm", "erp"} {
		must[state.Endpoint](t)(before.AddEndpoint(ctx, "cli:ana", newEndpoint(name), []endpoint.Secret{secret}))
	}
	must[state.Endpoint](t)(before.RotateSecret(ctx, "cli:ana", "erp", secret, 0)) // one that has expired
	want := must[[]state.Endpoint](t)(before.EndpointsOf(ctx, ""))

	var lost *state.KeyError
	without := open(t, dsn, keys(t, "b"))
	if _, err := without.EndpointsOf(ctx, ""); !errors.As(err, &lost) || lost.ID != "a" {
		t.Errorf("reading without the key: %v", err)
	}
	if n, err := without.Rekey(ctx, "cli:ana", parked{}); !errors.As(err, &lost) || n != 0 {
		t.Errorf("rekeying without the key: %d, %v", n, err)
	}
	both := open(t, dsn, keys(t, "b", "a"))
	if n := must[int](t)(both.Rekey(ctx, "cli:ana", parked{})); n != 5 {
		t.Errorf("%d values were encrypted again, want 2 endpoints and 3 secrets", n)
	}
	if n := must[int](t)(both.Rekey(ctx, "cli:ana", parked{})); n != 0 {
		t.Errorf("%d values were encrypted again the second time", n)
	}
	if diff := cmp.Diff(want, must[[]state.Endpoint](t)(without.EndpointsOf(ctx, "")), cmp.Comparer(endpoint.Secret.Equal)); diff != "" {
		t.Errorf("after rekeying, with the new key alone (-want +got):\n%s", diff)
	}
	if _, err := before.Endpoint(ctx, "crm"); !errors.As(err, &lost) || lost.ID != "b" {
		t.Errorf("reading with the old key: %v", err)
	}

	// Half way through, a value that cannot be read: nothing is changed.
	must[state.Endpoint](t)(open(t, dsn, keys(t, "c")).AddEndpoint(ctx, "cli:ana", newEndpoint("loja"), nil))
	if _, err := open(t, dsn, keys(t, "d", "b")).Rekey(ctx, "cli:ana", parked{}); !errors.As(err, &lost) || lost.ID != "c" || !strings.Contains(err.Error(), `"loja"`) {
		t.Errorf("rekeying with a lost key: %v", err)
	}
	readable, err := without.EndpointsOf(ctx, "")
	if !errors.As(err, &lost) || len(readable) != 3 || readable[0].Document == nil || readable[2].Name != "loja" || readable[2].Document != nil {
		t.Errorf("with one that cannot be read: %d endpoints, %v", len(readable), err)
	}
	if _, err := without.Endpoint(ctx, "crm"); err != nil {
		t.Errorf("a refused rekey has changed something: %v", err)
	}
	// What cannot be read can still be removed.
	check(t, without.RemoveEndpoint(ctx, "cli:ana", "loja", false))
	if n := must[int](t)(open(t, dsn, keys(t, "d", "b")).Rekey(ctx, "cli:ana", parked{})); n != 5 {
		t.Errorf("%d values, want 5", n)
	}
}

// parked are parked changes in Redis.
type parked []*queue.ParkedChange

func (p parked) RekeyParked(_ context.Context, reseal func(*queue.ParkedChange) (bool, error)) (n int64, err error) {
	for i := 0; i < len(p) && err == nil; i++ {
		var changed bool
		if changed, err = reseal(p[i]); changed {
			n++
		}
	}
	return n, err
}

// TestRekeyParked: parked changes are encrypted again, and whose they are is hashed again;
// one that cannot be decrypted stays, and is an error.
func TestRekeyParked(t *testing.T) {
	t.Parallel()
	dsn := database(t, "")
	ctx := t.Context()
	before, both, after := keys(t, "a"), keys(t, "b", "a"), keys(t, "b")
	var all parked
	for i, k := range []*state.Keyring{before, before, keys(t, "c"), after} {
		id := must[queue.ID](t)(queue.NewID(1, cdc.Position{Commit: cdc.LSN(i + 1)}, 0))
		row := state.ParkedRow{Row: []byte("{}"), Change: []byte(`{"id":1}`)}
		p := &queue.ParkedChange{ID: id}
		if i == 0 {
			row.Known, row.Tenant, row.Key = true, "1", "4711"
			p.Subject = k.Subjects("1", "4711")[0]
		}
		p.Change = must[[]byte](t)(k.SealParked(id.Position(), id.N(), &row))
		all = append(all, p)
	}
	var lost *state.KeyError
	if n, err := open(t, dsn, both).Rekey(ctx, "cli:ana", all); n != 2 || !errors.As(err, &lost) || lost.ID != "c" || !strings.Contains(err.Error(), "1 parked changes") {
		t.Errorf("%d, %v", n, err)
	}
	for i, p := range all {
		row, err := after.OpenParked(p)
		if readable := i != 2; readable != (err == nil) || readable && string(row.Change) != `{"id":1}` {
			t.Errorf("change %d with the new key: %s, %v", i, row.Change, err)
		}
	}
	if all[0].Subject != after.Subjects("1", "4711")[0] {
		t.Errorf("the subject is %s", all[0].Subject)
	}
	if n := must[int](t)(open(t, dsn, both).Rekey(ctx, "cli:ana", all[:2])); n != 0 {
		t.Errorf("%d are encrypted again the second time", n)
	}
}

// TestRekeyIsWhole: every kind of encrypted values is encrypted again.
func TestRekeyIsWhole(t *testing.T) {
	t.Parallel()
	if kinds := state.Unresealed(); kinds != nil {
		t.Errorf("the kinds %v of encrypted values are lost with the key that rekey replaces", kinds)
	}
}

func TestNoKeys(t *testing.T) {
	t.Parallel()
	s := open(t, database(t, ""), nil)
	_, err := s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil)
	if !errors.Is(err, state.ErrKeys) {
		t.Errorf("adding without keys: %v", err)
	}
	same(t, "endpoints", []state.Endpoint{}, must[[]state.Endpoint](t)(s.EndpointsOf(t.Context(), "")))
}

// TestConcurrentChanges has ten editors of one endpoint, who each read it
// again when somebody was faster.
func TestConcurrentChanges(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", newEndpoint("crm"), nil))
	const editors = 10
	errs := make(chan error, editors)
	for range editors {
		go func() {
			for {
				e, err := s.Endpoint(ctx, "crm")
				if err == nil {
					e.Document = append(e.Document[:len(e.Document)-1:len(e.Document)-1], `,"n":1}`...)
					_, err = s.UpdateEndpoint(ctx, "cli:ana", e)
				}
				if !errors.Is(err, state.ErrConflict) {
					errs <- err
					return
				}
			}
		}()
	}
	for range editors {
		check(t, <-errs)
	}
	e := must[state.Endpoint](t)(s.Endpoint(ctx, "crm"))
	if n := strings.Count(string(e.Document), `"n":1`); n != editors || e.Version != editors+1 {
		t.Errorf("%d of %d changes are there, version %d", n, editors, e.Version)
	}
}
