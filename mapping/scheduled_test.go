package mapping_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// scheduled runs the only rule with schedule of some rules, and returns its events and the identities of its rows.
func scheduled(t *testing.T, dsn string, s *mapping.Scheduled, at time.Time) (all []got, identities []string) {
	t.Helper()
	source := mapping.NewSource(dsn, "", zerolog.Nop())
	defer source.Close(t.Context())
	m, r := s.NewMapper(at), &recorder{}
	err := s.Run(t.Context(), source, at, func(row []cdc.Datum) error {
		identities = append(identities, string(s.AppendIdentity(nil, row)))
		return m.Map(row, r)
	})
	if err != nil {
		t.Fatal(err)
	}
	return r.all, identities
}

// A row of the query is an event, and the time is the scheduled one, in the query as in the expressions.
func TestScheduled(t *testing.T) {
	t.Parallel()
	zone := saoPaulo(t)
	dsn := pg.Database(t, "", schema, `
		insert into clientes (id, empresa_id, nome, saldo, dt_cadastro) values
			(1, 7, 'Ana', 1.50, '2020-02-20 10:00'), (2, 7, 'Bia', 2, '2020-02-28 10:00'), (3, 8, 'Caio', null, '2020-01-01')`)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	rs := bind(t, conn, mapping.Options{Location: zone}, `
rules:
  - event: cliente.ausente
    schedule: daily 08:00
    query: >-
      select c.*, current_date as hoje, age(dt_cadastro)::text as idade, pg_catalog.now() as agora, localtimestamp(0) as relogio,
        extract(day from now())::int as dia
      from clientes c where dt_cadastro < now() - interval '7 days' order by id
    once: [id, saldo]
    catch_up: none
    tenant: empresa_id
    tags: {cliente: id}
    data: {id: id, nome: upper(nome), hoje: hoje, idade: idade, agora: agora, relogio: relogio, desde: dt_cadastro, dia: dia, mesma: agora = now()}
`)
	all := rs.Schedules()
	diff(t, "the tables of the query", all[0].Tables(), []cdc.Name{{Schema: "public", Name: "clientes"}})
	if len(all) != 1 || all[0].Event() != "cliente.ausente" || !all[0].Once() || all[0].CatchUp() != mapping.CatchUpNone {
		t.Fatalf("the schedules are %+v", all)
	}
	if names := rs.EventNames(); !cmp.Equal(names, []string{"cliente.ausente"}) {
		t.Errorf("the events are %q", names)
	}
	at := time.Date(2020, 3, 1, 1, 30, 0, 0, time.UTC) // the day before in São Paulo
	events, identities := scheduled(t, dsn, all[0], at)
	var data []string
	for _, e := range events {
		if e.Parked != "" {
			t.Errorf("a row is parked: %s", e.Parked)
		}
		data = append(data, e.Tenant+" "+e.Key+" "+e.Data)
	}
	const clock = `,"hoje":"2020-02-29","idade":"`
	want := []string{
		`7 1,1.50 {"id":1,"nome":"ANA"` + clock + `8 days 14:00:00","agora":"2020-02-29T22:30:00-03:00","relogio":"2020-02-29T22:30:00","desde":"2020-02-20T10:00:00-03:00","dia":29,"mesma":true}`,
		`8 3, {"id":3,"nome":"CAIO"` + clock + `1 mon 28 days","agora":"2020-02-29T22:30:00-03:00","relogio":"2020-02-29T22:30:00","desde":"2020-01-01T00:00:00-03:00","dia":29,"mesma":true}`,
	}
	if diff := cmp.Diff(want, data); diff != "" {
		t.Error(diff)
	}
	if _, err := conn.Exec(t.Context(), `update clientes set nome = 'Outra', ativo = 'N' where id = 1; update clientes set saldo = 1 where id = 3`); err != nil {
		t.Fatal(err)
	}
	if _, later := scheduled(t, dsn, all[0], at); later[0] != identities[0] || later[1] == identities[1] {
		t.Errorf("rows are known by %q before, and %q after an update of other columns and of once", identities, later)
	}
}

// The plan says what a run costs, and which large table it reads whole; nothing of that runs the query.
func TestSchedulePlan(t *testing.T) {
	t.Parallel()
	conn := connect(t, `
		insert into pedidos select 1, n, '00', n from generate_series(1, 120000) n; analyze pedidos`)
	rs := bind(t, conn, mapping.Options{}, `
rules:
  - event: pedido.caro
    schedule: hourly
    query: select id from pedidos where total > 119990 and pg_sleep(60) is not null
    columns: [id]
  - event: pedido.um
    schedule: {cron: "*/5 8-18 * * 1-5"}
    query: select id from pedidos where id = 1
    columns: [id]
`)
	all := findings(rs)
	var scans, costs, volatile int
	for _, f := range all {
		if strings.Contains(f, "reads all of table public.pedidos, some 120000 rows, each time it runs (hourly)") {
			scans++
		}
		if strings.Contains(f, "the query of pedido.caro calls pg_sleep, which is volatile: ") {
			volatile++
		}
		if strings.Contains(f, "at a cost of ") {
			costs++
		}
	}
	if scans != 1 || costs != 2 || volatile != 1 {
		t.Errorf("%d scans, %d costs and %d volatile functions in %q", scans, costs, volatile, all)
	}
}

// The tables that a query reads are known, whether it has columns of them or not: those behind a view, and one that has partitions.
func TestScheduledTables(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table passagens (id int, cliente_id int, dia date) partition by range (dia); create table passagens_2026 partition of passagens for values from ('2026-01-01') to ('2027-01-01')",
		"create view inativos as select id from clientes where ativo = 'N'")
	rs := bind(t, conn, mapping.Options{}, `
rules:
  - {event: a, schedule: hourly, query: "select p.id from pedidos p where not exists (select from inativos i where i.id = p.id)", columns: [id]}
  - {event: b, schedule: hourly, query: select dia from passagens, columns: [dia]}
  - {event: c, schedule: hourly, query: select 1 as um, columns: [um]}
`)
	for i, want := range [][]string{{"clientes", "pedidos"}, {"passagens", "passagens_2026"}, nil} {
		var got []string
		for _, table := range rs.Schedules()[i].Tables() {
			got = append(got, table.Name)
		}
		slices.Sort(got)
		diff(t, rs.Schedules()[i].Event(), got, want)
	}
}

// What a schedule reads does not depend on the role that asks: where lookups have a role of their own, that of source.dsn may read no table.
func TestScheduledTablesOfOthers(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create view inativos as select id from clientes where ativo = 'N'", "create table visitas (id int); create table visitas_antigas () inherits (visitas)")
	if _, err := conn.Exec(t.Context(), "set role pg_monitor"); err != nil { // which may read none of them
		t.Fatal(err)
	}
	reader := func(context.Context) (string, error) { return "postgres", nil }
	rs := bind(t, conn, mapping.Options{Reader: reader}, `
rules:
  - {event: a, schedule: hourly, query: "select p.id from pedidos p where not exists (select from inativos i where i.id = p.id) and exists (select from visitas)", columns: [id]}
`)
	diff(t, "the tables", rs.Schedules()[0].Tables(), []cdc.Name{
		{Schema: "public", Name: "clientes"}, {Schema: "public", Name: "pedidos"}, {Schema: "public", Name: "visitas"}, {Schema: "public", Name: "visitas_antigas"},
	})
	for _, f := range findings(rs) {
		if strings.Contains(f, "at a cost of") {
			t.Errorf("the role may read the tables: %s", f)
		}
	}
}

// What a column shows under a new name is known by the names that the query has.
func TestScheduledShownNames(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rs := bind(t, conn, mapping.Options{}, `
rules:
  - event: a
    schedule: hourly
    query: select id, cpf_cnpj as documento, lower(email) as contato from clientes
    data: {id: id, doc: documento, contato: contato}
`)
	names := rs.Schedules()[0].ShownNames()
	for path, want := range map[string]string{"doc": "cpf_cnpj", "contato": "email"} {
		if !slices.Contains(names[path], want) {
			t.Errorf("%s shows %q, without %s", path, names[path], want)
		}
	}
	if slices.Contains(names["id"], "cpf_cnpj") {
		t.Errorf("id shows %q", names["id"])
	}
}

// TestScheduledThroughPooler: a pooler in transaction mode serves the check of a schedule and its runs, whose session's settings are of their
// transactions alone: the application, which uses the connection next, finds its own.
func TestScheduledThroughPooler(t *testing.T) {
	t.Parallel()
	direct := connect(t)
	pooler := testservers.StartPooler(t, direct.Config().ConnString())
	application, err := pgx.Connect(t.Context(), pooler.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = application.Close(context.Background()) })
	do(t, application, "set timezone to 'Asia/Tokyo'; set search_path to nowhere; set statement_timeout to '1234ms'")
	const settings = "select current_setting('timezone') || ' ' || current_setting('search_path') || ' ' || current_setting('statement_timeout') || ' ' || (select count(*) from pg_prepared_statements)"
	of := func() (text string) {
		t.Helper()
		if err := application.QueryRow(t.Context(), settings, pgx.QueryExecModeSimpleProtocol).Scan(&text); err != nil {
			t.Fatal(err)
		}
		return text
	}
	before := of()
	conn, err := cdc.Connect(t.Context(), pooler.DSN())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	rs := bind(t, conn, mapping.Options{Location: saoPaulo(t)}, `
rules:
  - event: a
    schedule: daily 08:00
    query: select n, current_date as hoje, repeat('x', 100) as texto from generate_series(1, 20000) n where now() is not null
    columns: [n, hoje]
`)
	dsn := strings.Replace(pooler.DSN(), "&default_query_exec_mode=cache_describe", "", 1)
	source := mapping.NewSource(dsn, "", zerolog.Nop())
	t.Cleanup(func() { source.Close(context.Background()) })
	if err := source.Check(t.Context(), rs); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		events, _ := scheduled(t, dsn, rs.Schedules()[0], time.Date(2026, 3, 2, 1, 30, 0, 0, time.UTC))
		if len(events) != 20_000 || events[0].Data != `{"n":1,"hoje":"2026-03-01"}` {
			t.Fatalf("%d events, the first one %+v", len(events), events[0])
		}
		if after := of(); after != before {
			t.Errorf("the application's session has %s, had %s", after, before)
		}
	}
}
