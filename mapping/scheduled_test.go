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
	var clients, others uint32
	if err := conn.QueryRow(t.Context(), "select 'clientes'::regclass::oid, 'pg_class'::regclass::oid").Scan(&clients, &others); err != nil {
		t.Fatal(err)
	}
	if !all[0].Shows(clients) || all[0].Shows(others) {
		t.Error("the table of the query's columns is not known")
	}
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
