package mapping_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

const readingRules = `
rules:
  - event: venda
    table: vendas
    on: update
    children: {table: itens_venda, parent: venda_id}
    columns: [id, total]
  - {event: parada, table: vendas, on: update, after: 1h, columns: [id, total]}
  - event: item
    table: itens_venda
    on: insert
    data: {id: id, nome: p.nome}
    lookup: {p: "select nome from artigos where id = new.artigo_id"}
`

// readingSchema has tables that a role may not read, or not all rows of. Roles
// belong to the whole server: each test has its own.
func readingSchema(role string) []string {
	return []string{
		"create table vendas (id int primary key, total int)", "create table artigos (id int primary key, nome text)",
		"create table itens_venda (id int primary key, venda_id int, artigo_id int)", "alter table itens_venda replica identity full",
		"insert into vendas values (1, 10)", "insert into artigos values (1, 'Mensalidade')",
		"create role " + role + " login",
	}
}

func dropRole(t *testing.T, conn *pgx.Conn, role string) {
	t.Cleanup(func() {
		if _, err := conn.Exec(context.Background(), "drop owned by "+role+"; drop role "+role); err != nil {
			t.Error(err)
		}
	})
}

// TestWhatMayNotBeRead: a missing privilege, and rows that row-level security
// would hide, are mistakes of the rule that needs them, told before it runs.
func TestWhatMayNotBeRead(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	conn := connect(t, readingSchema("leitor")...)
	dropRole(t, conn, "leitor")
	dsn := strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://leitor@", 1)
	reader, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = reader.Close(context.Background()) })
	for _, step := range []struct {
		sql, parents, lookup string
	}{
		{"select", "GRANT SELECT ON public.vendas TO leitor;", "GRANT SELECT ON public.artigos TO leitor;"},
		{"grant select on vendas, artigos to leitor", "", ""},
		{"alter table vendas enable row level security; create policy tudo on vendas using (true)", "ALTER ROLE leitor BYPASSRLS;", ""},
		{"alter table vendas disable row level security; alter table artigos enable row level security", "", "ALTER ROLE leitor BYPASSRLS;"},
		{"alter role leitor bypassrls", "", ""},
	} {
		do(t, conn, step.sql)
		rules := parse(t, mapping.Options{}, readingRules)
		_, err := rules.Bind(t.Context(), reader)
		text := ""
		if err != nil {
			text = err.Error()
		}
		for place, want := range map[string]string{
			"children need to read rows of public.vendas": step.parents, "after needs to read rows of public.vendas": step.parents, "lookup p:": step.lookup,
		} {
			if has := strings.Contains(text, place); has != (want != "") || has && !strings.Contains(text, "\n"+want) {
				t.Errorf("after %s: %q has %v, want %q:\n%s", step.sql, place, has, want, text)
			}
		}
		// The rules may be bound by another role than the one that reads for them.
		bound, err := rules.Bind(t.Context(), conn)
		if err != nil {
			t.Fatal(err)
		}
		source := mapping.NewSource(dsn, "", zerolog.Nop())
		err = source.Check(t.Context(), bound)
		source.Close(t.Context())
		if (err != nil) != (step.parents+step.lookup != "") || err != nil && !strings.Contains(err.Error(), step.parents) && !strings.Contains(err.Error(), step.lookup) {
			t.Errorf("after %s: checked: %v", step.sql, err)
		}
	}
}

// TestConsequences: what becomes of what may not be read is told as it is: changes are parked, and timers and the runs of schedules wait.
func TestConsequences(t *testing.T) {
	t.Parallel()
	conn := connect(t, readingSchema("quieto")...)
	dropRole(t, conn, "quieto")
	rules := strings.Replace(readingRules, "rules:\n", "rules:\n  - {event: lista, schedule: hourly, query: select id from itens_venda, columns: [id]}\n", 1)
	source := mapping.NewSource(strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://quieto@", 1), "", zerolog.Nop())
	defer source.Close(context.Background())
	if err := source.Check(t.Context(), bind(t, conn, mapping.Options{}, rules)); err == nil {
		t.Fatal("everything may be read")
	}
	got := map[string]string{}
	for _, f := range source.Denials() {
		kind, _, _ := strings.Cut(f.Title, " ")
		got[kind] = f.Why
		if parked := strings.Contains(f.Why, "parked"); parked != strings.Contains(f.Fix(), "gancho parked redrive") {
			t.Errorf("%s: %s; %s", f.Title, f.Why, f.Fix())
		}
	}
	diff(t, "what becomes of it", got, map[string]string{
		"lookup.p": "the changes that need it are parked, and other rules go on", "parents": "the changes that need it are parked, and other rules go on",
		"rows": "the timers of its rule wait, none is lost, and other rules go on", "query": "the runs of its schedule wait, and other rules go on",
	})
}

// TestPrivilegeIsRevoked: under every policy, a privilege that is taken away while the
// rules run concerns the changes that need it alone, and the source says so until it
// is there again.
func TestPrivilegeIsRevoked(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{OnSchemaChange: mapping.Stop}, readingRules, readingSchema("revogado")...)
	dropRole(t, l.conn, "revogado")
	do(t, l.conn, "grant select on vendas, artigos to revogado")
	source := mapping.NewSource(strings.Replace(l.dsn, "postgres://postgres@", "postgres://revogado@", 1), "", zerolog.Nop())
	t.Cleanup(func() { source.Close(context.Background()) })
	m := mapping.NewMapper(bind(t, l.conn, mapping.Options{OnSchemaChange: mapping.Stop}, readingRules), nil, mapping.WithSource(source))
	// insert returns the types of the events, and the reasons of what is parked.
	insert := func(id string) []string {
		t.Helper()
		l.begin("")
		var r recorder
		m.Begin(l.tx)
		if err := m.Map(l.change("itens_venda", values{"id": id, "venda_id": "1", "artigo_id": "1"}), &r); err != nil {
			t.Fatal(err)
		}
		if err := m.Commit(t.Context(), l.tx, &r); err != nil {
			t.Fatal(err)
		}
		if err := m.Resolve(t.Context(), &r); err != nil {
			t.Fatal(err)
		}
		var out []string
		for _, e := range r.all {
			out = append(out, cmp.Or(e.Parked, e.Type))
		}
		slices.Sort(out)
		return out
	}
	if r := insert("1"); !slices.Equal(r, []string{"item", "venda"}) {
		t.Fatalf("with its privileges: %q", r)
	}
	do(t, l.conn, "revoke select on artigos from revogado")
	if r := insert("2"); len(r) != 2 || r[1] != "venda" || !strings.Contains(r[0], "permission denied for table artigos") {
		t.Errorf("without one for the lookup: %q", r)
	}
	do(t, l.conn, "grant select on artigos to revogado; revoke select on vendas from revogado")
	if r := insert("3"); len(r) != 2 || r[0] != "item" && r[1] != "item" || !strings.Contains(strings.Join(r, " "), "permission denied for table vendas") {
		t.Errorf("without one for the parents: %q", r)
	}
	if err := source.Denied(); err == nil || !strings.Contains(err.Error(), "parents of venda of ") || !strings.Contains(err.Error(), "run GRANT SELECT ON public.vendas TO revogado; then gancho parked redrive") {
		t.Errorf("denied: %v", err)
	}
	do(t, l.conn, "grant select on vendas to revogado")
	if r := insert("4"); !slices.Equal(r, []string{"item", "venda"}) || source.Denied() != nil {
		t.Errorf("with its privileges again: %q, %v", r, source.Denied())
	}
}

const callingRules = `
rules:
  - event: item
    table: itens_venda
    on: insert
    data: {id: id, nome: p.nome, titulo: app.titulo(id), outro: titular(id)}
    lookup: {p: "select nome from artigos where id = new.artigo_id"}
  - event: venda
    table: itens_venda
    on: insert
    columns: [id]
`

// TestPrivilegesOfRules: whatever a rule reads or calls may be revoked. Before the rules
// are bound, the statements of the mistakes are all that is needed; while they run, its
// changes alone are parked, under on_schema_change: stop as well, until it is granted again.
func TestPrivilegesOfRules(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	options := mapping.Options{OnSchemaChange: mapping.Stop}
	role := "chamador"
	setup := append(readingSchema(role), "create schema app", "alter table artigos set schema app",
		"create function app.titulo(int) returns text language plpgsql stable as $$ begin return 'T' || $1; end $$",
		"create function titular(int) returns text language plpgsql stable as $$ begin return 'S' || $1; end $$",
		"revoke execute on all functions in schema app, public from public", "revoke create on schema public from public",
		"do $$ begin execute format('alter database %I set search_path = public, app', current_database()); end $$")
	conn := connect(t, setup...)
	dropRole(t, conn, role)
	dsn := strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://"+role+"@", 1)
	rules := parse(t, options, callingRules)
	// Each run may only find what the one before has made visible: the schema comes first.
	var mistakes *mapping.MistakesError
	for range 3 {
		reader, err := cdc.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		_, err = rules.Bind(t.Context(), reader)
		_ = reader.Close(t.Context())
		if err == nil {
			break
		}
		if !errors.As(err, &mistakes) {
			t.Fatal(err)
		}
		t.Log(err)
		for _, s := range cdc.Gather(cdc.Statements(mistakes.Findings())) {
			if s.Who.Role != "postgres" {
				t.Errorf("%s is for %s", s.SQL, s.Who)
			}
			do(t, conn, s.SQL)
		}
	}
	fresh, err := pgx.Connect(t.Context(), conn.Config().ConnString()) // which has the database's search_path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fresh.Close(context.Background()) })
	l := &lab{TB: t, conn: fresh, dsn: dsn, log: &strings.Builder{}, tx: &cdc.Transaction{}}
	l.source = mapping.NewSource(dsn, "", zerolog.Nop())
	t.Cleanup(func() { l.source.Close(context.Background()) })
	rs := bind(t, fresh, options, callingRules)
	if err := l.source.Check(t.Context(), rs); err != nil {
		t.Fatalf("after the statements: %v", err)
	}
	l.mapper = mapping.NewMapper(rs, nil, mapping.WithSource(l.source))
	id := 0
	insert := func() (parked string) {
		t.Helper()
		id++
		l.begin("")
		l.mapper.Begin(l.tx)
		for _, g := range l.resolve(l.change("itens_venda", values{"id": strconv.Itoa(id), "venda_id": "1", "artigo_id": "1"})) {
			parked += g.Parked
		}
		return parked
	}
	if parked := insert(); parked != "" {
		t.Fatalf("with its privileges: %s", parked)
	}
	for privilege, object := range map[string]string{
		"SELECT": "app.artigos", "USAGE": "SCHEMA app", "EXECUTE": "FUNCTION app.titulo(integer)", "EXECUTE ": "FUNCTION public.titular(integer)",
	} {
		privilege = strings.TrimSpace(privilege)
		do(t, conn, "revoke "+privilege+" on "+object+" from "+role)
		grant := "GRANT " + privilege + " ON " + object + " TO " + role + ";"
		if parked := insert(); !strings.Contains(parked, grant) {
			t.Errorf("without %s on %s: parked with %q", privilege, object, parked)
		}
		denials := l.source.Denials()
		if len(denials) == 0 || !strings.Contains(denials[0].Fix(), grant) || denials[0].ID != "privilege.lost" {
			t.Errorf("without %s on %s: %+v", privilege, object, denials)
		}
		if err := l.source.Check(t.Context(), rs); err == nil || !strings.Contains(err.Error(), "\n"+grant) {
			t.Errorf("without %s on %s: checked: %v", privilege, object, err)
		}
		other := mapping.NewSource(dsn, "", zerolog.Nop())
		if l.source.Recheck(t.Context(), rs, other); l.source.Denied() == nil {
			t.Errorf("%s on %s: forgotten although it was not granted", privilege, object)
		}
		do(t, conn, grant)
		if l.source.Recheck(t.Context(), rs, other); l.source.Denied() != nil {
			t.Errorf("%s on %s: granted, and still %v", privilege, object, l.source.Denied())
		}
		other.Close(t.Context())
		if parked := insert(); parked != "" {
			t.Errorf("with %s again: %s", privilege, parked)
		}
	}
	// What is really gone is no privilege.
	do(t, conn, "drop table app.artigos")
	l.begin("")
	err = l.mapper.Map(l.change("itens_venda", values{"id": "99", "venda_id": "1", "artigo_id": "1"}), &recorder{})
	if err == nil {
		err = l.mapper.Resolve(t.Context(), &recorder{})
	}
	if drift := new(mapping.SchemaError); !errors.As(err, &drift) || l.source.Denied() != nil {
		t.Errorf("the table is dropped: %v, denied %v", err, l.source.Denied())
	}
}

// TestLookupThroughPooler: values have the forms of the stream, and nothing of
// what makes them so stays on the server's connection, which others use.
func TestLookupThroughPooler(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	pooler := testservers.StartPooler(t, conn.Config().ConnString())
	application, err := pgx.Connect(t.Context(), pooler.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = application.Close(context.Background()) })
	// What a previous user left there, as a session of its own would not have it.
	for name, value := range map[string]string{"extra_float_digits": "-10", "bytea_output": "escape", "intervalstyle": "iso_8601", "datestyle": "German", "timezone": "Asia/Tokyo"} {
		if _, err := application.Exec(t.Context(), "set "+name+" = '"+value+"'"); err != nil {
			t.Fatal(err)
		}
	}
	changed := func() (text string) {
		t.Helper()
		err := application.QueryRow(t.Context(), `select string_agg(name || ' = ' || setting, ', ' order by name) from pg_settings where source = 'session'`).Scan(&text)
		if err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := changed()
	identity, err := cdc.LoadIdentity(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	dsn := strings.Replace(pooler.DSN(), "&default_query_exec_mode=cache_describe", "", 1) // nobody needs to write it for lookups
	source := mapping.NewSource(dsn+"&statement_timeout=250ms", "", zerolog.Nop()).Of(identity)
	t.Cleanup(func() { source.Close(context.Background()) })
	var got []string
	err = source.Query(t.Context(), `select 0.1::float8 + 0.2::float8, '\x01ff'::bytea, '1 day 02:00'::interval, '2026-03-04 05:06:07+00'::timestamptz, $1::int, current_setting('statement_timeout')`,
		[][]byte{[]byte("7")}, nil, func(row []cdc.Datum) error {
			for _, d := range row {
				got = append(got, string(d.Text))
			}
			return nil
		})
	if want := `0.30000000000000004 \x01ff 1 day 02:00:00 2026-03-04 05:06:07+00 7 250ms`; err != nil || strings.Join(got, " ") != want {
		t.Errorf("read %v, %v; want %s", got, err, want)
	}
	failed := source.Query(t.Context(), "select pg_sleep(60)", nil, nil, func([]cdc.Datum) error { return nil })
	if cdc.FaultOf(failed) != cdc.FaultTimeout {
		t.Errorf("a query that takes too long: %v", failed)
	}
	if written := source.Query(t.Context(), "create table x ()", nil, nil, func([]cdc.Datum) error { return nil }); cdc.SQLState(written) != cdc.CodeReadOnly {
		t.Errorf("a query that writes: %v", written)
	}
	var prepared int
	if err := application.QueryRow(t.Context(), "select count(*) from pg_prepared_statements").Scan(&prepared); err != nil || prepared != 0 {
		t.Errorf("the application's connection has %d prepared statements, %v", prepared, err)
	}
	if after := changed(); after != before {
		t.Errorf("the application's connection has\n%s\nand had\n%s", after, before)
	}
}

// TestLookupsOfAnotherDatabase: its transactions have nothing to do with those
// of the stream, and waiting for them would be for ever.
func TestLookupsOfAnotherDatabase(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	identity := cdc.Identity{}
	if err := conn.QueryRow(t.Context(), "select system_identifier::text, current_database()::text from pg_control_system()").Scan(&identity.SystemID, &identity.Database); err != nil {
		t.Fatal(err)
	}
	do(t, conn, "create role sem_sistema login; revoke execute on function pg_control_system() from public")
	dropRole(t, conn, "sem_sistema")
	role, err := pgx.Connect(t.Context(), strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://sem_sistema@", 1))
	if err != nil {
		t.Fatal(err)
	}
	is, err := cdc.LoadIdentity(t.Context(), role)
	_ = role.Close(t.Context())
	if want := (cdc.Identity{Database: identity.Database}); err != nil || is != want {
		t.Errorf("a role that may not know the system: %v, %v", is, err)
	}
	other := identity
	other.SystemID = "1"
	for _, test := range []struct {
		identity cdc.Identity
		right    bool
	}{{identity, true}, {cdc.Identity{SystemID: identity.SystemID, Database: "outro"}, false}, {other, false}} {
		source := mapping.NewSource(conn.Config().ConnString(), "", zerolog.Nop()).Of(test.identity)
		err := source.Query(t.Context(), "select 1", nil, nil, func([]cdc.Datum) error { return nil })
		source.Close(t.Context())
		if (err == nil) != test.right || err != nil && (cdc.FaultOf(err).Passing() || !strings.Contains(err.Error(), "source.lookup_dsn")) {
			t.Errorf("%s: %v", test.identity, errors.Unwrap(err))
		}
	}
}

func do(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// TestDriftIsNoPrivilege: what a query names may have the name of a schema that the role may
// not use, and yet the schema of the table has changed; and what is really not found for a
// missing privilege is asked once, until Recheck finds another reason.
func TestDriftIsNoPrivilege(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const role = "desviado"
	const rules = `
rules:
  - event: item
    table: itens_venda
    on: insert
    data: {id: id, nome: p.nome}
    lookup: {p: "select cadastro.nome from artigos cadastro where id = new.artigo_id"}
`
	options := mapping.Options{OnSchemaChange: mapping.Stop}
	setup := append(readingSchema(role), "create schema cadastro", "create schema app", "create table cadastro.outra (id int)", "alter table artigos set schema app",
		"grant usage on schema app to "+role, "grant select on app.artigos to "+role,
		"do $$ begin execute format('alter database %I set search_path = public, app, cadastro', current_database()); end $$")
	conn := connect(t, setup...)
	dropRole(t, conn, role)
	dsn := strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://"+role+"@", 1)
	fresh, err := pgx.Connect(t.Context(), conn.Config().ConnString()) // which has the database's search_path
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = fresh.Close(context.Background()) })
	l := &lab{TB: t, conn: fresh, dsn: dsn, log: &strings.Builder{}, tx: &cdc.Transaction{}}
	l.source = mapping.NewSource(dsn, "", zerolog.Nop())
	t.Cleanup(func() { l.source.Close(context.Background()) })
	rs := bind(t, fresh, options, rules)
	l.mapper = mapping.NewMapper(rs, nil, mapping.WithSource(l.source))
	id := 0
	insert := func() (string, error) {
		id++
		l.begin("")
		l.mapper.Begin(l.tx)
		var r recorder
		if err := l.mapper.Map(l.change("itens_venda", values{"id": strconv.Itoa(id), "venda_id": "1", "artigo_id": "1"}), &r); err != nil {
			return "", err
		}
		if err := l.mapper.Resolve(t.Context(), &r); err != nil {
			l.mapper.Reset()
			return "", err
		}
		return r.all[0].Parked, nil
	}
	recheck := func() {
		t.Helper()
		by := mapping.NewSource(dsn, "", zerolog.Nop())
		l.source.Recheck(t.Context(), rs, by)
		by.Close(t.Context())
	}
	drifts := func(after string) {
		t.Helper()
		parked, err := insert()
		if drift := new(mapping.SchemaError); !errors.As(err, &drift) || strings.Contains(err.Error(), "GRANT") || l.source.Denied() != nil {
			t.Errorf("after %s: parked %q, error %v, denied %v", after, parked, err, l.source.Denied())
		}
	}
	parks := func(after, want, not string) {
		t.Helper()
		parked, err := insert()
		if err != nil || !strings.Contains(parked, want) || not != "" && strings.Contains(parked, not) {
			t.Errorf("after %s: parked %q, error %v", after, parked, err)
		}
	}
	const usage, selects = "GRANT USAGE ON SCHEMA app TO " + role + ";", "GRANT SELECT ON app.artigos TO " + role + ";"
	parks("nothing", "", "lookup")
	do(t, conn, "alter table app.artigos rename column nome to titulo")
	drifts("a column was renamed")
	do(t, conn, "alter table app.artigos rename column titulo to nome; alter table app.artigos rename to mercadorias")
	drifts("a table was renamed")
	do(t, conn, "alter table app.mercadorias rename to artigos; revoke usage on schema app from "+role)
	parks("USAGE was revoked", "lookup p lacks a privilege: relation \"artigos\" does not exist", "cadastro TO")
	parks("USAGE was revoked", "as postgres, run "+usage, selects)
	do(t, conn, "revoke select on app.artigos from "+role)
	parks("SELECT was revoked, which nobody asks", usage, selects)
	recheck()
	parks("SELECT was revoked, and rechecked", selects, "")
	do(t, conn, usage+selects+"alter table app.artigos rename to mercadorias")
	recheck()
	drifts("both were granted, and the table was renamed")
	do(t, conn, "alter table app.mercadorias rename to artigos")
	parks("all was taken back", "", "lookup")
	do(t, conn, "create schema fora; alter table app.artigos set schema fora; grant usage on schema fora to "+role)
	reader, err := cdc.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	_, err = parse(t, options, rules).Bind(t.Context(), reader)
	_ = reader.Close(t.Context())
	if err == nil || !strings.Contains(err.Error(), "write fora.artigos: ") || strings.Contains(err.Error(), "GRANT USAGE") {
		t.Errorf("with the table outside of the search_path: %v", err)
	}
}
