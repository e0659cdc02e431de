package mapping_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// lab is a database with rules bound to it, and a mapper whose source can be
// observed.
type lab struct {
	testing.TB
	conn   *pgx.Conn
	dsn    string
	mapper *mapping.Mapper
	source *mapping.Source
	log    *strings.Builder
	tx     *cdc.Transaction
	next   uint64
}

func newLab(t testing.TB, server *testservers.Postgres, o mapping.Options, rules string, statements ...string) *lab {
	t.Helper()
	return newLabIn(t, server, "", o, rules, statements...)
}

// newLabIn is newLab in a database created with options.
func newLabIn(t testing.TB, server *testservers.Postgres, options string, o mapping.Options, rules string, statements ...string) *lab {
	t.Helper()
	l := &lab{TB: t, dsn: server.Database(t, options, append([]string{schema}, statements...)...), log: &strings.Builder{}, tx: &cdc.Transaction{}}
	var err error
	if l.conn, err = pgx.Connect(context.Background(), l.dsn+"&client_encoding=UTF8"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.conn.Close(context.Background()) })
	l.begin("")
	l.source = mapping.NewSource(l.dsn+"&statement_timeout=300ms", "", zerolog.New(l.log))
	t.Cleanup(func() { l.source.Close(context.Background()) })
	l.mapper = mapping.NewMapper(bind(t, l.conn, o, rules), nil, mapping.WithSource(l.source))
	return l
}

// begin runs a statement in a transaction, to which the changes that follow belong.
func (l *lab) begin(sql string) {
	l.Helper()
	tx, err := l.conn.Begin(context.Background())
	if err != nil {
		l.Fatal(err)
	}
	var xid uint64
	if err := tx.QueryRow(context.Background(), "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
		l.Fatal(err)
	}
	if sql != "" {
		if _, err := tx.Exec(context.Background(), sql); err != nil {
			l.Fatal(err)
		}
	}
	if err := tx.Commit(context.Background()); err != nil {
		l.Fatal(err)
	}
	l.tx = &cdc.Transaction{Commit: l.tx.Commit + 100, XID: uint32(xid), Time: time.Unix(0, 0)} // the stream has 32 bits as well
}

// change is an insert, of the transaction at hand, into a table.
func (l *lab) change(table string, v values) *cdc.Change {
	l.Helper()
	l.next++
	return &cdc.Change{
		Position: cdc.Position{Commit: l.tx.Commit, Ordinal: l.next}, Tx: l.tx, Op: cdc.Insert,
		Relation: relation(l, l.conn, "", table), New: row(relation(l, l.conn, "", table), v),
	}
}

// resolve maps changes and returns what they lead to, in order.
func (l *lab) resolve(changes ...*cdc.Change) []got {
	l.Helper()
	var r recorder
	for _, c := range changes {
		if err := l.mapper.Map(c, &r); err != nil {
			l.Fatal(err)
		}
	}
	if err := l.mapper.Resolve(context.Background(), &r); err != nil {
		l.Fatal(err)
	}
	if n := l.mapper.Pending(); n != 0 {
		l.Errorf("%d pending after Resolve", n)
	}
	for i := 1; i < len(r.position); i++ {
		if p, q := r.position[i-1], r.position[i]; p.Commit > q.Commit || p.Commit == q.Commit && p.Ordinal > q.Ordinal {
			l.Errorf("position %v comes after %v", q, p)
		}
	}
	return r.all
}

const fewClients = `
insert into clientes (id, empresa_id, codigo, nome, email, tags, extras, dt_cadastro) values
	(1, 7, 'A1', 'Ana "a" \ ', 'ana@example.com', '{x,NULL}', '{"b": 1.50}', '2026-11-21 10:00'),
	(2, 8, 'B', 'Bia', null, null, null, null);
insert into contratos (id, empresa_id, cliente_id, valor) values (1, 7, 1, 10.50), (2, 7, 1, 20), (3, 7, 1, null), (4, 8, 2, 1)`

const lookupRules = `
rules:
  - event: contrato
    table: contratos
    on: [insert, update]
    tenant: cliente.empresa_id
    key: coalesce(cliente.codigo, 'ninguém')
    columns: [id]
    data:
      cliente: {nome: cliente.nome, desde: cliente.dt_cadastro, extras: cliente.extras, tags: cliente.tags}
      outros: contratos.lista
      total: contratos.total + 0.25
      texto: texto.a || texto.b || texto."C d"
    lookup:
      cliente: select * from clientes where id = new.cliente_id;
      contratos: |
        select json_agg(json_build_object('id', c.id, 'valor', c.valor) order by c.id) as lista, sum(valor) as total -- new.nada
        from contratos c where c.cliente_id = NEW . "cliente_id" and c.id <> new.id
      texto: >-
        select 'new.x''' as a, $$;new.y$$ as b /* new.z /* nested */ */,
        E'\'new.w' || "new"."OLD" as "C d" from (select '!' as "OLD") "new"
  - event: plano
    table: pedidos
    on: insert
    columns: [id]
`

func TestLookup(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{Location: saoPaulo(t)}, lookupRules, fewClients)
	got1 := l.resolve(
		l.change("pedidos", values{"empresa_id": "1", "id": "1"}),
		l.change("contratos", values{"id": "1", "cliente_id": "1"}),
		l.change("pedidos", values{"empresa_id": "1", "id": "2"}),
		l.change("contratos", values{"id": "9", "cliente_id": nil}),
	)
	diff(t, "events", got1, []got{
		{Type: "plano", Key: "1", Data: `{"id":1}`},
		{Type: "contrato", Tenant: "7", Key: "A1", Data: `{"id":1,"cliente":{"nome":"Ana \"a\" \\ ","desde":"2026-11-21T10:00:00-03:00","extras":{"b": 1.50},"tags":["x",null]},` +
			`"outros":[{"id" : 2, "valor" : 20.00}, {"id" : 3, "valor" : null}],"total":20.25,"texto":"new.x';new.y'new.w!"}`},
		{Type: "plano", Key: "2", Data: `{"id":2}`},
		{Type: "contrato", Key: "ninguém", Data: `{"id":9,"cliente":{"nome":null,"desde":null,"extras":null,"tags":null},"outros":null,"total":null,"texto":"new.x';new.y'new.w!"}`},
	})
	// A plain event leaves at once when nothing is pending, and an event is the
	// same whether or not it had company.
	var r recorder
	if err := l.mapper.Map(l.change("pedidos", values{"empresa_id": "1", "id": "3"}), &r); err != nil || len(r.all) != 1 {
		t.Errorf("%d events, %v", len(r.all), err)
	}
	diff(t, "alone", l.resolve(l.change("contratos", values{"id": "1", "cliente_id": "1"})), got1[1:2])
}

// Every value of a batch is what the query gives on its own, whatever the types
// of arguments and results.
func TestLookupEqualsTheQuery(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const query = `select a.i, a.n, a.t, a.c, a.b, a.d, a.ts, a.e, a.r, a.j, m.n + 1 as m from tudo a join tudo m on m.i = a.i
		where a.i = new.i and a.n is not distinct from new.n and a.t is not distinct from new.t and a.c is not distinct from new.c
		and a.b is not distinct from new.b and a.d is not distinct from new.d and a.ts is not distinct from new.ts
		and a.e is not distinct from new.e and a.r is not distinct from new.r and a.j is not distinct from new.j`
	const columns = "i, n, t, c, b, d, ts, e, r, j"
	var data, show strings.Builder
	for c := range strings.SplitSeq(columns+", m", ", ") {
		fmt.Fprintf(&data, "      %s: q.%s::text\n", c, c)
		fmt.Fprintf(&show, "q.%s::text, ", c)
	}
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: tudo
    table: tudo
    on: insert
    data:
`+data.String()+`    lookup:
      q: >-
        `+strings.ReplaceAll(query, "\n", "\n        ")+"\n", `
create table tudo (i bigint primary key, n numeric, t text, c char(5), b bytea, d date, ts timestamptz, e tp_sentido, r int[], j jsonb);
insert into tudo select i, case when i % 7 > 0 then (i * 1.10)::numeric end, case when i % 5 > 0 then 'a"\,{}' || chr(i::int + 64) || e'\n' end, 'c' || i % 10,
	decode(md5(i::text), 'hex'), date '0001-01-01 BC' + (i * 9999)::int, case when i % 3 = 0 then 'infinity' else to_timestamp(i * 1e7) end,
	case when i % 2 = 0 then 'ENTRADA' else 'SAIDA' end::tp_sentido, array[i, null, -i], jsonb_build_object('k', i) from generate_series(1, 300) i`)
	if _, err := l.conn.Exec(context.Background(), "set timezone to 'UTC'; set bytea_output to hex"); err != nil {
		t.Fatal(err)
	}
	var changes []*cdc.Change
	var want []map[string]*string
	rows, err := l.conn.Query(context.Background(), "select "+strings.ReplaceAll(columns, ", ", "::text, ")+"::text, (n + 1)::text from tudo order by i")
	if err != nil {
		t.Fatal(err)
	}
	names := strings.Split(columns+", m", ", ")
	var all [][]*string
	for rows.Next() {
		texts := make([]*string, len(names))
		into := make([]any, len(names))
		for i := range texts {
			into[i] = &texts[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		all = append(all, texts)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	for _, texts := range all {
		v, w := values{}, map[string]*string{}
		for i, name := range names {
			w[name] = texts[i]
			if texts[i] != nil && name != "m" {
				v[name] = *texts[i]
			}
		}
		changes, want = append(changes, l.change("tudo", v)), append(want, w)
	}
	before := l.source.Queries()
	events := l.resolve(changes...)
	if n := l.source.Queries() - before; n > 2 {
		t.Errorf("%d queries", n)
	}
	var found []map[string]*string
	for _, e := range events {
		m := map[string]*string{}
		if err := json.Unmarshal([]byte(e.Data), &m); err != nil {
			t.Fatalf("%v: %+v", err, e)
		}
		if c := m["c"]; c != nil && want[len(found)]["c"] != nil { // ::text of char(n) has no padding here nor there
			*c = strings.TrimRight(*c, " ")
			*want[len(found)]["c"] = strings.TrimRight(*want[len(found)]["c"], " ")
		}
		found = append(found, m)
	}
	diff(t, "batched", found, want)
}

// TestLookupTimestamps: only a column of a table is known to be local in the
// source's zone, not what a query computes, nor a view.
func TestLookupTimestamps(t *testing.T) {
	t.Parallel()
	zone, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	l := newLab(t, pg, mapping.Options{Location: zone}, `
rules:
  - event: contrato
    table: contratos
    on: insert
    data: {coluna: c.a, calculada: c.b, visao: v.em, dias: c.dias, nascimento: c.nascimento}
    lookup:
      c: >-
        select dt_cadastro as a, alterado_em at time zone 'UTC' as b, array[dt_cadastro] as dias, nascimento
        from (select *, timestamp '1985-11-02 00:00' as nascimento from clientes) c where id = new.id
      v: select em from alteracoes where id = new.id
`, "insert into clientes (id, empresa_id, nome, dt_cadastro, alterado_em) values (1, 7, 'Ana', '2026-01-31 10:00', '2026-01-31 10:00Z')",
		"create view alteracoes as select id, alterado_em at time zone 'UTC' as em from clientes")
	got := l.resolve(l.change("contratos", values{"id": "1"}))
	const want = `{"coluna":"2026-01-31T10:00:00-03:00","calculada":"2026-01-31T10:00:00","visao":"2026-01-31T10:00:00","dias":["2026-01-31T10:00:00"],"nascimento":"1985-11-02T00:00:00"}`
	if len(got) != 1 || got[0].Data != want {
		t.Errorf("%+v; want %s", got, want)
	}
}

// What fails for one change is that change's business.
func TestLookupParks(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: contrato
    table: contratos
    on: insert
    data: {id: id, nome: cliente.nome, razao: divisao.q}
    lookup:
      cliente: select nome from clientes where empresa_id = new.empresa_id
      divisao: select 100 / new.id as q
`, fewClients, "insert into clientes (id, empresa_id, nome) values (11, 9, 'Um'), (12, 9, 'Dois'), (13, 9, 'Três')")
	var changes []*cdc.Change
	for i := range 50 {
		empresa := "7"
		if i == 33 {
			empresa = "9"
		}
		changes = append(changes, l.change("contratos", values{"id": fmt.Sprint(i), "empresa_id": empresa}))
	}
	unknown := l.change("contratos", values{"id": "60", "empresa_id": cdc.Unchanged})
	events := l.resolve(append(changes, unknown)...)
	if len(events) != 51 {
		t.Fatalf("%d events", len(events))
	}
	for i, e := range events {
		reason := map[int]string{
			0:  "read lookup.divisao: the query fails: the server refuses a value (SQLSTATE 22012)",
			33: "read lookup.cliente: the query finds more than one row",
			50: "lookup.cliente needs new.empresa_id",
		}[i]
		switch {
		case reason == "" && (e.Parked != "" || !strings.Contains(e.Data, `"nome":"Ana`)):
			t.Errorf("change %d: %+v", i, e)
		case !strings.Contains(e.Parked, reason):
			t.Errorf("change %d is parked because %q, want %q", i, e.Parked, reason)
		}
	}
}

const clientRules = `
rules:
  - event: contrato
    table: contratos
    on: insert
    data: {id: id, nome: cliente.nome}
    lookup:
      cliente: {sql: select nome from clientes where id = new.cliente_id%s}
`

func TestLookupCache(t *testing.T) {
	t.Parallel()
	for cache, want := range map[string]string{"": "Nova", ", cache: 1h": "Bia", ", cache: 59m": "Nova"} {
		l := newLab(t, pg, mapping.Options{}, fmt.Sprintf(clientRules, cache), fewClients)
		now := time.Unix(1_700_000_000, 0)
		l.mapper.SetClock(func() time.Time { return now })
		c := l.change("contratos", values{"id": "1", "cliente_id": "2"})
		diff(t, "first", l.resolve(c)[0].Data, `{"id":1,"nome":"Bia"}`)
		l.begin("update clientes set nome = 'Nova' where id = 2")
		now = now.Add(59*time.Minute + time.Second)
		c = l.change("contratos", values{"id": "1", "cliente_id": "2"})
		diff(t, "second with "+cache, l.resolve(c)[0].Data, `{"id":1,"nome":"`+want+`"}`)
	}
}

// A lookup that no longer fits its tables is treated as a rule that does not.
func TestLookupDrift(t *testing.T) {
	t.Parallel()
	rules := fmt.Sprintf(clientRules, "")
	for _, drift := range []string{"alter table clientes rename nome to nome_completo", "alter table clientes alter nome type bytea using ''", "drop table clientes"} {
		l := newLab(t, pg, mapping.Options{OnSchemaChange: mapping.Stop}, rules, fewClients)
		parks := mapping.NewMapper(bind(t, l.conn, mapping.Options{OnSchemaChange: mapping.Park}, rules), nil, mapping.WithSource(l.source))
		l.begin(drift)
		c := l.change("contratos", values{"id": "1", "cliente_id": "2"})
		var r recorder
		if err := l.mapper.Map(c, &r); err != nil {
			t.Fatal(err)
		}
		err := l.mapper.Resolve(context.Background(), &r)
		if e := new(mapping.SchemaError); !errors.As(err, &e) || len(r.all) > 0 {
			t.Errorf("%s: %v, %d events", drift, err, len(r.all))
		}
		l.mapper.Reset()
		if n := l.mapper.Pending(); n != 0 {
			t.Errorf("%d pending after Reset", n)
		}
		l.mapper = parks
		if events := l.resolve(c); !strings.Contains(events[0].Parked, "lookup cliente no longer fits the database") {
			t.Errorf("%s: %+v", drift, events)
		}
	}
}

// start resolves in the background; the channel has the events at the end.
func (l *lab) start(ctx context.Context, c *cdc.Change) <-chan []got {
	done := make(chan []got, 1)
	var r recorder
	if err := l.mapper.Map(c, &r); err != nil {
		l.Fatal(err)
	}
	go func() {
		defer close(done)
		if err := l.mapper.Resolve(ctx, &r); err != nil {
			l.Errorf("resolve: %v", err)
			return
		}
		done <- r.all
	}()
	return done
}

// A change is read from the WAL before its transaction is visible, and must not
// be looked up until it is.
func TestLookupWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ctx := context.Background()
	for _, standby := range []string{"", "nobody"} {
		l := newLab(t, server, mapping.Options{}, fmt.Sprintf(clientRules, ""), fewClients)
		slow, err := pgx.Connect(ctx, l.dsn)
		if err != nil {
			t.Fatal(err)
		}
		must := func(conn *pgx.Conn, sql string) {
			t.Helper()
			if _, err := conn.Exec(ctx, sql); err != nil {
				t.Fatal(err)
			}
		}
		must(l.conn, "alter system set synchronous_standby_names = '"+standby+"'")
		must(l.conn, "select pg_reload_conf()")
		open := func() {
			must(slow, "begin")
			must(slow, "update clientes set nome = 'Depois' where id = 2")
			var xid uint64
			if err := slow.QueryRow(ctx, "select pg_current_xact_id()::text::bigint").Scan(&xid); err != nil {
				t.Fatal(err)
			}
			l.tx = &cdc.Transaction{Commit: 1, XID: uint32(xid), Time: time.Unix(0, 0)} // the stream has 32 bits as well
		}
		committed := make(chan error, 1)
		commit := func() { go func() { _, err := slow.Exec(ctx, "commit"); committed <- err }() }
		open()
		if standby != "" {
			// The commit record is in the WAL now, as the stream has it, and the
			// backend waits for a standby, unless the server has not taken the
			// setting over yet: then once more.
			commit()
			for !l.is("select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep'") {
				select {
				case err := <-committed:
					if err != nil {
						t.Fatal(err)
					}
					open()
					commit()
				default: // the server answers once more
				}
			}
		}
		pauses := l.pauses()
		done := l.start(ctx, l.change("contratos", values{"id": "1", "cliente_id": "2"}))
		<-pauses
		select {
		case events := <-done:
			t.Fatalf("an event before its commit: %+v", events)
		default:
		}
		if standby == "" {
			commit()
		} else {
			must(l.conn, "alter system set synchronous_standby_names = ''")
			must(l.conn, "select pg_reload_conf()")
		}
		if err := <-committed; err != nil {
			t.Fatal(err)
		}
		diff(t, "events", <-done, []got{{Type: "contrato", Key: "1", Data: `{"id":1,"nome":"Depois"}`}})
		_ = slow.Close(ctx)
	}
}

// pauses tells of each wait of the source from now on: for a transaction, or for
// another attempt.
func (l *lab) pauses() <-chan struct{} {
	out := make(chan struct{}, 1000)
	l.source.OnPause(func() {
		select {
		case out <- struct{}{}:
		default:
		}
	})
	return out
}

func (l *lab) is(sql string) (ok bool) {
	l.Helper()
	if err := l.conn.QueryRow(context.Background(), sql).Scan(&ok); err != nil {
		l.Fatal(err)
	}
	return ok
}

// A lookup that is not answered holds everything until it is.
func TestLookupHolds(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, fmt.Sprintf(clientRules, ""), fewClients)
	want := []got{{Type: "contrato", Key: "1", Data: `{"id":1,"nome":"Bia"}`}}
	diff(t, "events", l.resolve(l.change("contratos", values{"id": "1", "cliente_id": "2"})), want)

	// A lock makes the query run into its timeout, again and again.
	tx, err := l.conn.Begin(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), "lock table clientes"); err != nil {
		t.Fatal(err)
	}
	pauses := l.pauses()
	done := l.start(context.Background(), l.change("contratos", values{"id": "1", "cliente_id": "2"}))
	for range 2 {
		<-pauses
	}
	if err := tx.Commit(context.Background()); err != nil {
		t.Fatal(err)
	}
	diff(t, "after the timeouts", <-done, want)

	// A connection that is cut is opened again.
	if _, err := l.conn.Exec(context.Background(), "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'gancho' and datname = current_database()"); err != nil {
		t.Fatal(err)
	}
	diff(t, "after a cut", l.resolve(l.change("contratos", values{"id": "1", "cliente_id": "2"})), want)
	for _, message := range []string{"reading the source failed; capture waits and retries", "SQLSTATE 57014", "the source is available again"} {
		if !strings.Contains(l.log.String(), message) {
			t.Errorf("the log lacks %q:\n%s", message, l.log)
		}
	}

	// The end of the bridge ends the wait.
	if tx, err = l.conn.Begin(context.Background()); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(context.Background(), "lock table clientes"); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var r recorder
	if err := l.mapper.Map(l.change("contratos", values{"id": "1", "cliente_id": "2"}), &r); err != nil {
		t.Fatal(err)
	}
	pauses = l.pauses()
	ended := make(chan error, 1)
	go func() { ended <- l.mapper.Resolve(ctx, &r) }()
	<-pauses
	cancel()
	if err := <-ended; !errors.Is(err, context.Canceled) || len(r.all) > 0 {
		t.Errorf("%v, %d events", err, len(r.all))
	}
}

// lookupHandler is what the bridge does with a mapper.
type lookupHandler struct {
	recorder
	mapper *mapping.Mapper
	want   int
	ctx    func() context.Context
	done   func()
}

func (h *lookupHandler) Begin(tx *cdc.Transaction) error { h.mapper.Begin(tx); return nil }
func (h *lookupHandler) Change(c *cdc.Change) error {
	err := h.mapper.Map(c, h)
	if err == nil && h.mapper.Full() {
		err = h.mapper.Resolve(h.ctx(), h)
	}
	return err
}
func (h *lookupHandler) Commit(tx *cdc.Transaction) error { return h.mapper.Commit(h.ctx(), tx, h) }
func (h *lookupHandler) Keepalive(cdc.LSN) error          { return nil }
func (h *lookupHandler) Reset() error                     { h.mapper.Reset(); return nil }
func (h *lookupHandler) Flush() error {
	err := h.mapper.Resolve(h.ctx(), h)
	if len(h.all) >= h.want {
		h.done()
	}
	return err
}

// Ten thousand changes in one transaction take a few queries, in a few batches.
func TestLookupOfALargeTransaction(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	l := newLab(t, pg, mapping.Options{}, fmt.Sprintf(clientRules, ""),
		"insert into clientes (id, empresa_id, nome) select i, 1, 'Cliente ' || i from generate_series(1, 10000) i")
	o := cdc.Options{DSN: l.dsn, Slot: "gancho_lookups", Publication: "gancho", Create: true}
	source, err := cdc.Prepare(ctx, o, []cdc.TableNeed{{Name: "contratos", Insert: true}})
	if err != nil {
		t.Fatal(err)
	}
	l.begin("insert into contratos (id, cliente_id) select i, 10001 - i from generate_series(1, 10000) i")
	h := &lookupHandler{mapper: l.mapper, want: 10000, done: cancel, ctx: func() context.Context { return ctx }}
	before := l.source.Queries()
	if err := cdc.NewReader(o, source).Run(ctx, h); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	if n := l.source.Queries() - before; n > 24 {
		t.Errorf("%d queries", n)
	}
	for i, e := range h.all {
		if want := fmt.Sprintf(`{"id":%d,"nome":"Cliente %d"}`, i+1, 10000-i); e.Data != want {
			t.Fatalf("event %d: %+v, want %s", i, e, want)
		}
	}
	if len(h.all) != 10000 {
		t.Errorf("%d events", len(h.all))
	}
}
