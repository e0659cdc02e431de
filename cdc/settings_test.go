package cdc_test

import (
	"context"
	"errors"
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// hostile is what a role may bring that ends, hides or changes what its sessions read.
var hostile = map[string]string{
	"statement_timeout": "700ms", "lock_timeout": "700ms", "idle_in_transaction_session_timeout": "700ms", "idle_session_timeout": "700ms",
	"extra_float_digits": "0", "bytea_output": "escape", "intervalstyle": "iso_8601", "datestyle": "German", "timezone": "Asia/Tokyo",
}

// roleDSN creates a role with the hostile settings, and returns the DSN with it.
func roleDSN(t *testing.T, dsn, role, attributes string) string {
	t.Helper()
	conn := dial(t, dsn)
	do(t, conn, "create role "+role+" login "+attributes)
	t.Cleanup(func() { do(t, dial(t, pg.DSN("postgres")), "drop role "+role) })
	t.Cleanup(func() { do(t, dial(t, dsn), "drop owned by "+role) })
	for name, value := range hostile {
		do(t, conn, "alter role "+role+" set "+name+" = '"+value+"'")
	}
	if value[bool](t, conn, "select current_setting('transaction_timeout', true) is not null") {
		do(t, conn, "alter role "+role+" set transaction_timeout = '700ms'")
	}
	return strings.Replace(dsn, "postgres://postgres@", "postgres://"+role+"@", 1)
}

// TestRoleCannotEndOrChangeSessions: what a role sets does not reach the
// sessions, those of lookups included, and what the DSN says does.
func TestRoleCannotEndOrChangeSessions(t *testing.T) {
	t.Parallel()
	dsn := roleDSN(t, pg.Database(t, ""), "hostile", "")
	ctx := t.Context()
	settings := func(conn *pgx.Conn) map[string]string {
		t.Helper()
		rows, _ := conn.Query(ctx, `select name, setting from pg_settings where name in ('statement_timeout', 'lock_timeout', 'transaction_timeout',
			'idle_session_timeout', 'idle_in_transaction_session_timeout', 'row_security', 'search_path', 'transaction_read_only', 'extra_float_digits', 'bytea_output')`)
		out := map[string]string{}
		var name, setting string
		if _, err := pgx.ForEachRow(rows, []any{&name, &setting}, func() error { out[name] = setting; return nil }); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close(ctx)
		delete(out, "transaction_timeout") // asserted by the stream's test; not every server has it
		return out
	}
	conn, err := cdc.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"statement_timeout": "0", "lock_timeout": "0", "idle_session_timeout": "0", "idle_in_transaction_session_timeout": "0",
		"row_security": "off", "search_path": "pg_catalog, pg_temp", "transaction_read_only": "off", "extra_float_digits": "0", "bytea_output": "escape",
	}
	if d := cmp.Diff(want, settings(conn)); d != "" {
		t.Errorf("an ordinary connection: -want +got:\n%s", d)
	}
	conn, each, err := cdc.ConnectLikeStream(ctx, dsn+"&lock_timeout=5s&row_security=on&search_path=public&default_transaction_read_only=off", "", "pg_catalog", map[string]string{"statement_timeout": "30s", "lock_timeout": "1s"})
	if err != nil {
		t.Fatal(err)
	}
	maps.Copy(want, map[string]string{"statement_timeout": "30000", "lock_timeout": "5000", "search_path": "pg_catalog", "transaction_read_only": "on", "extra_float_digits": "3", "bytea_output": "hex"})
	if d := cmp.Diff(want, settings(conn)); d != "" || each != "" {
		t.Errorf("a connection for lookups, which wants %q before each query: -want +got:\n%s", each, d)
	}
}

// TestNobodyRunsCodeInOurSessions: a role that may create in public, which comes
// before PostgreSQL's own schema there, makes functions and operators that our
// statements would call. Names of tables lead where the database says.
func TestNobodyRunsCodeInOurSessions(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create schema primeiro; create table primeiro.t (k int primary key, formula int generated always as (k * 2) stored)")
	do(t, dial(t, dsn), `
		create function public.trampa() returns boolean language plpgsql as $$ begin raise exception 'it runs as %', current_user; end $$;
		create function public.unnest(int2[]) returns setof int2 language sql as 'select 1::int2 where public.trampa()';
		create function public.quote_ident(name) returns text language sql as 'select ''x'' where public.trampa()';
		create function public.current_setting(text) returns text language sql as 'select ''x'' where public.trampa()';
		create function public.diferente(int, int) returns boolean language sql as 'select public.trampa()';
		create function public.diferente(text, text) returns boolean language sql as 'select public.trampa()';
		create operator public.<> (leftarg = int, rightarg = int, function = public.diferente);
		create operator public.<> (leftarg = text, rightarg = text, function = public.diferente);
		create operator public.= (leftarg = text, rightarg = text, function = public.diferente)`)
	dsn += "&search_path=primeiro,public,pg_catalog"
	ctx := t.Context()
	conn, err := cdc.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	table, err := cdc.LoadTable(ctx, conn, "", "", "t")
	if err != nil || table.Relation.Schema != "primeiro" {
		t.Fatalf("t is %+v, %v", table, err)
	}
	if _, err := cdc.Hazards(ctx, conn, "", "gancho", cdc.Ruled{OID: table.Relation.OID}); err != nil {
		t.Error(err)
	}
	if _, err := cdc.Remarks(ctx, conn, "", "gancho"); err != nil {
		t.Error(err)
	}
	if _, err := cdc.LoadSettings(ctx, conn); err != nil {
		t.Error(err)
	}
	lookups, _, err := cdc.ConnectLikeStream(ctx, dsn, "", "pg_catalog", nil)
	if err != nil {
		t.Fatal(err)
	}
	_ = lookups.Close(ctx)
	// The control.
	if _, err := dial(t, dsn).Exec(ctx, "select 1 <> 2"); err == nil || !strings.Contains(err.Error(), "it runs as postgres") {
		t.Errorf("the trap does not work: %v", err)
	}
}

// TestNothingStaysOnAPooledConnection: through a pooler the application uses our
// server connection next, and finds it as it was.
func TestNothingStaysOnAPooledConnection(t *testing.T) {
	t.Parallel()
	pooler := testservers.StartPooler(t, pg.Database(t, "", oneTable))
	application := dial(t, pooler.DSN())
	const changed = `select coalesce(string_agg(name || ' = ' || setting, ', ' order by name), '') from pg_settings where source = 'session'`
	before := value[string](t, application, changed)
	ctx := t.Context()
	conn, err := cdc.Connect(ctx, pooler.DSN())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(ctx)
	conn, each, err := cdc.ConnectLikeStream(ctx, pooler.DSN(), "", "pg_catalog", map[string]string{"statement_timeout": "30s"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if !strings.Contains(each, "extra_float_digits") || !strings.Contains(each, "'30s'") {
		t.Errorf("before each query: %q", each)
	}
	var timeout string
	if err := pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, each); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "select current_setting('statement_timeout')").Scan(&timeout)
	}); err != nil || timeout != "30s" {
		t.Errorf("a transaction has statement_timeout %q, %v", timeout, err)
	}
	if after := value[string](t, application, changed); after != before {
		t.Errorf("the application's connection now has %s; it had %s", after, before)
	}
	// A session whose statements depend on a setting is refused where it does not hold.
	do(t, application, "set default_transaction_isolation = 'serializable'")
	config, err := pgx.ParseConfig(pooler.DSN())
	if err != nil {
		t.Fatal(err)
	}
	cdc.PinSession(&config.Config, map[string]string{"default_transaction_isolation": "read committed", "statement_timeout": "60s"})
	_, err = pgx.ConnectConfig(ctx, config)
	if wrong := new(cdc.SettingError); !errors.As(err, &wrong) || wrong.Name != "default_transaction_isolation" || cdc.FaultOf(err) != cdc.FaultPermanent {
		t.Errorf("a session under another isolation: %v", err)
	}
}

// TestStartParametersThroughAPooler: one that a pooler does not know is a
// mistake in the DSN, for which nobody needs to wait.
func TestStartParametersThroughAPooler(t *testing.T) {
	t.Parallel()
	pooler := testservers.StartPooler(t, pg.Database(t, ""))
	_, err := cdc.Connect(context.Background(), pooler.DSN()+"&geqo=off")
	if cdc.FaultOf(err) != cdc.FaultPermanent || !strings.Contains(err.Error(), "unsupported startup parameter") {
		t.Errorf("fault %d: %v", cdc.FaultOf(err), err)
	}
}
