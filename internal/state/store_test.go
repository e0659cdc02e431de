package state_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/migrations"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

const latin1 = "template template0 encoding 'LATIN1' locale 'C'"

// keys parses texts of a key such as "a" to 32 bytes of it.
func keys(t testing.TB, ids ...string) *state.Keyring {
	t.Helper()
	k, err := state.ParseKeys(keyText(ids...))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func keyText(ids ...string) string {
	var parts []string
	for _, id := range ids {
		parts = append(parts, id+":"+base64.StdEncoding.EncodeToString([]byte(strings.Repeat(id[:1], 32))))
	}
	return strings.Join(parts, ",")
}

// database makes a database with the schema.
func database(t testing.TB, options string) string {
	t.Helper()
	if options == "" {
		return pg.Database(t, pg.Template(t, "state", migrations.Apply))
	}
	dsn := pg.Database(t, options)
	if _, err := migrations.Apply(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	return dsn
}

func open(t testing.TB, dsn string, k *state.Keyring) *state.Store {
	t.Helper()
	s, err := state.Open(t.Context(), state.Options{DSN: dsn, Keyring: k, Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

// newStore opens a store on a database of its own.
func newStore(t testing.TB) (*state.Store, string) {
	t.Helper()
	dsn := database(t, "")
	return open(t, dsn, keys(t, "a")), dsn
}

// execute runs SQL beside the store, written in UTF-8.
func execute(t testing.TB, dsn, sql string, args ...any) {
	t.Helper()
	conn := connect(t, dsn)
	if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
		t.Fatal(err)
	}
}

func query[T any](t testing.TB, dsn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := connect(t, dsn).QueryRow(t.Context(), sql, args...).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func connect(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn+"&client_encoding=UTF8")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

func must[T any](t testing.TB) func(T, error) T {
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func same(t testing.TB, what string, want, got any) {
	t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

func pointer[T any](v T) *T { return &v }

// noon is a time of which the tests' rows are.
var noon = time.Date(2026, 3, 14, 12, 0, 0, 123456000, time.UTC)

func TestOpenChecksTheSchema(t *testing.T) {
	t.Parallel()
	options := func(dsn string) state.Options {
		return state.Options{DSN: dsn, Keyring: keys(t, "a"), Logger: zerolog.Nop()}
	}
	refused := func(name, dsn string, want error, hint string) {
		t.Helper()
		s, err := state.Open(t.Context(), options(dsn))
		if err == nil {
			s.Close()
		}
		if !errors.Is(err, want) || !strings.Contains(err.Error(), hint) {
			t.Errorf("%s: got %v, want %v with %q", name, err, want, hint)
		}
	}
	refused("no schema", pg.Database(t, ""), state.ErrSchema, "run gancho migrate")

	newer := database(t, "")
	execute(t, newer, `insert into gancho.schema_version (version_id, is_applied) values (9999, true)`)
	refused("newer schema", newer, migrations.ErrNewer, "install the newer gancho")
	refused("newer schema", newer, state.ErrSchema, "")

	older := database(t, "")
	execute(t, older, `delete from gancho.schema_version where version_id > 0`)
	refused("older schema", older, state.ErrSchema, "00001_state.sql")

	refused("no server", "postgres://nobody:senha-secreta@127.0.0.1:1/x?sslmode=disable", state.ErrUnreachable, "127.0.0.1")
	_, err := state.Open(t.Context(), options("postgres://nobody:senha-secreta@127.0.0.1:1/x?sslmode=disable"))
	if strings.Contains(err.Error(), "senha") {
		t.Errorf("the error shows the password: %v", err)
	}
	_, err = state.Open(t.Context(), options("isto não é senha-secreta="))
	if err == nil || strings.Contains(err.Error(), "senha") {
		t.Errorf("a bad DSN: %v", err)
	}
}

// TestOrdinaryRole: CREATE on the database and the right to temporary tables,
// which everybody has by default, are all that the role needs.
func TestOrdinaryRole(t *testing.T) {
	t.Parallel()
	admin := pg.Database(t, "")
	name := query[string](t, admin, "select current_database()")
	role := "dono_" + name
	execute(t, admin, "create role "+role+" login; grant create on database "+name+" to "+role)
	t.Cleanup(func() {
		if err := pg.Exec(context.Background(), name, "drop owned by "+role+"; drop role "+role); err != nil {
			t.Error(err)
		}
	})
	dsn := strings.Replace(admin, "postgres@", role+"@", 1)
	must[[]string](t)(migrations.Apply(t.Context(), dsn))
	s := open(t, dsn, keys(t, "a"))
	check(t, s.WriteAttempts(t.Context(), []state.Attempt{attempt("crm", 1)}))
	check(t, s.WriteEvents(t.Context(), []webhook.Message{event(1)}))
	check(t, s.WriteDead(t.Context(), []state.DeadLetter{deadLetter("crm", 1)}))
	check(t, s.Maintain(t.Context(), time.Hour, time.Hour))
	must[state.Endpoint](t)(s.AddEndpoint(t.Context(), "cli:ana", newEndpoint("crm"), nil))

	execute(t, admin, "revoke temporary on database "+name+" from public")
	other, err := state.Open(t.Context(), state.Options{DSN: dsn, Keyring: keys(t, "a"), Logger: zerolog.Nop()})
	if want := "GRANT TEMPORARY ON DATABASE " + name + " TO " + role; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("without temporary tables: %v, want %q", err, want)
	}
	if err == nil {
		other.Close()
	}
}

// TestSessionSettings: what the database's or role's own settings could change is pinned.
func TestSessionSettings(t *testing.T) {
	t.Parallel()
	dsn := database(t, "")
	name := query[string](t, dsn, "select current_database()")
	for _, setting := range []string{
		"timezone = 'America/Sao_Paulo'", "datestyle = 'German, DMY'", "search_path = 'public, gancho'", "statement_timeout = '100ms'",
		"default_transaction_read_only = on", "bytea_output = 'escape'", "standard_conforming_strings = off",
	} {
		check(t, pg.Exec(t.Context(), "postgres", "alter database "+name+" set "+setting))
	}
	s := open(t, dsn, keys(t, "a"))
	a := attempt("crm", 1)
	check(t, s.WriteAttempts(t.Context(), []state.Attempt{a}))
	page, _, err := s.Attempts(t.Context(), state.Filter{}, "", 10)
	check(t, err)
	same(t, "attempts", []state.Attempt{a}, page)
}

func TestServerGoesAway(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	dsn := server.DSN("postgres")
	must[[]string](t)(migrations.Apply(t.Context(), dsn))
	s := open(t, dsn, keys(t, "a"))
	must[[]state.Endpoint](t)(s.EndpointsOf(t.Context(), ""))

	server.Stop("immediate")
	if err := s.WriteAttempts(t.Context(), []state.Attempt{attempt("crm", 1)}); !errors.Is(err, state.ErrUnreachable) {
		t.Errorf("write: %v, want ErrUnreachable", err)
	}
	if _, err := s.EndpointsOf(t.Context(), ""); !errors.Is(err, state.ErrUnreachable) {
		t.Errorf("read: %v, want ErrUnreachable", err)
	}
	if _, err := s.Authenticate(t.Context(), "gancho_"+strings.Repeat("0", 43)); !errors.Is(err, state.ErrUnreachable) {
		t.Errorf("authenticate: %v, want ErrUnreachable", err)
	}
	check(t, server.Start())
	check(t, s.WriteAttempts(t.Context(), []state.Attempt{attempt("crm", 1)}))
	page, _, err := s.Attempts(t.Context(), state.Filter{}, "", 10)
	check(t, err)
	if len(page) != 1 {
		t.Errorf("%d attempts after the restart, want 1", len(page))
	}
}
