package mapping_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// transactionSchema has parents and children, a tree, and payments that share a receipt.
const transactionSchema = `
create table categorias (id int primary key, empresa_id int not null default 1, pai_id int references categorias on delete cascade, nome text);
alter table categorias replica identity full;
create table cobrancas (id int primary key, empresa_id int not null default 1, status char(1) not null default 'P', valor numeric(12,2), observacao text);
alter table cobrancas replica identity full;
create table cobrancas_itens (cobranca_id int references cobrancas on delete cascade, seq int, descricao text, valor numeric(12,2), primary key (cobranca_id, seq));
alter table cobrancas_itens replica identity full;
create table pagamentos (id serial primary key, empresa_id int not null default 1, recibo int, forma char(2), valor numeric(12,2));
alter table pagamentos replica identity full;
create table contas (id int primary key, saldo int, texto text);
create table movimentos (conta int, valor int);
create table fim (id int primary key);
`

const endRule = `
  - {event: fim, table: fim, on: insert, columns: [id]}
`

// transactions is what came of a run: by transaction, type, key, data and previous.
type transactions struct {
	lines     [][]string
	positions [][]cdc.Position
	numbers   [][]int
}

// commits is a handler that maps and notes what each transaction made.
type commits struct {
	recorder
	ctx    context.Context
	mapper *mapping.Mapper
	done   func()
	out    transactions
	next   chan []string // what each transaction made; nil: nobody waits
}

func (h *commits) Begin(tx *cdc.Transaction) error { h.mapper.Begin(tx); return nil }
func (h *commits) Change(c *cdc.Change) error      { return h.mapper.Map(c, h) }
func (h *commits) Keepalive(cdc.LSN) error         { return nil }
func (h *commits) Flush() error                    { return h.mapper.Resolve(h.ctx, h) }
func (h *commits) Reset() error                    { h.mapper.Reset(); return nil }

func (h *commits) Commit(tx *cdc.Transaction) error {
	if err := h.mapper.Commit(h.ctx, tx, h); err != nil {
		return err
	}
	if err := h.mapper.Resolve(h.ctx, h); err != nil {
		return err
	}
	var lines []string
	var numbers []int
	for _, e := range h.all {
		line := strings.TrimSpace(fmt.Sprintf("%s %s %s %s %s", e.Type, e.Key, e.Data, e.Previous, e.Unchanged))
		if e.Parked != "" {
			line = e.Type + " parked: " + e.Parked
		}
		lines, numbers = append(lines, line), append(numbers, e.N)
		if e.Type == "fim" {
			h.done()
			return nil
		}
	}
	h.out.lines, h.out.numbers = append(h.out.lines, lines), append(h.out.numbers, numbers)
	h.out.positions = append(h.out.positions, h.position)
	h.recorder = recorder{}
	if h.next != nil {
		select {
		case h.next <- lines:
		case <-h.ctx.Done():
		}
	}
	return nil
}

// source is a database with a slot, to run statements on and read their changes.
type source struct {
	dsn     string
	conn    *pgx.Conn
	rules   *mapping.Ruleset
	options cdc.Options
	prep    *cdc.Source
}

func newTransactions(t testing.TB, rules string, setup ...string) *source {
	t.Helper()
	ctx := context.Background()
	s := &source{dsn: pg.Database(t, "", append([]string{transactionSchema}, setup...)...)}
	var err error
	if s.conn, err = pgx.Connect(ctx, s.dsn); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.conn.Close(ctx) })
	s.rules = bind(t, s.conn, mapping.Options{OnSchemaChange: mapping.Park}, rules+endRule)
	s.options = cdc.Options{DSN: s.dsn, Slot: "gancho_" + s.conn.Config().Database, Publication: "gancho", Create: true}
	if s.prep, err = cdc.Prepare(ctx, s.options, s.rules.Tables()); err != nil {
		t.Fatal(err)
	}
	return s
}

// read maps everything from the slot's position to the end, which it marks. It
// confirms nothing: the next read sees it all again.
func (s *source) read(t testing.TB, options ...mapping.MapperOption) transactions {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	if _, err := s.conn.Exec(ctx, "insert into fim select count(*) from fim"); err != nil {
		t.Fatal(err)
	}
	reader := mapping.NewSource(s.dsn, "", zerolog.Nop())
	defer reader.Close(ctx)
	h := &commits{ctx: ctx, mapper: mapping.NewMapper(s.rules, nil, append(options, mapping.WithSource(reader))...), done: cancel}
	if err := cdc.NewReader(s.options, s.prep).Run(ctx, h); err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return h.out
}

// exec runs each text as one transaction.
func (s *source) exec(t testing.TB, transactions ...string) {
	t.Helper()
	for _, sql := range transactions {
		if _, err := s.conn.Exec(context.Background(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// check runs transactions, one per pair, and compares what each makes.
func (s *source) check(t *testing.T, pairs ...any) {
	t.Helper()
	run, stop := s.live(t)
	defer stop()
	for i := 0; i < len(pairs); i += 2 {
		diff(t, pairs[i].(string), run(pairs[i].(string)), pairs[i+1])
	}
}

// live returns a function that runs a transaction and returns what it made as
// soon as it is committed: parents are read as they are then. The other one ends
// that, so that the slot is free again.
func (s *source) live(t *testing.T, options ...mapping.MapperOption) (run func(sql string) []string, stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	reader := mapping.NewSource(s.dsn, "", zerolog.Nop())
	h := &commits{ctx: ctx, mapper: mapping.NewMapper(s.rules, nil, append(options, mapping.WithSource(reader))...), done: cancel, next: make(chan []string)}
	ended := make(chan error, 1)
	go func() { ended <- cdc.NewReader(s.options, s.prep).Run(ctx, h) }()
	stop = func() {
		cancel()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		reader.Close(context.Background())
		h.out.rise(t)
	}
	run = func(sql string) []string {
		t.Helper()
		s.exec(t, sql)
		select {
		case lines := <-h.next:
			return lines
		case err := <-ended:
			ended <- err
			t.Fatalf("%s: %v", sql, err)
		}
		return nil
	}
	return run, stop
}

// rise checks that positions rise within each transaction.
func (o *transactions) rise(t testing.TB) {
	t.Helper()
	for i, positions := range o.positions {
		for j := 1; j < len(positions); j++ {
			a, b := positions[j-1], positions[j]
			if b.Ordinal < a.Ordinal || b.Ordinal == a.Ordinal && o.numbers[i][j] <= o.numbers[i][j-1] {
				t.Errorf("transaction %d: %v/%d follows %v/%d", i, b, o.numbers[i][j], a, o.numbers[i][j-1])
			}
		}
	}
}

func none() []string { return nil }

func TestCollapseNetEffect(t *testing.T) {
	t.Parallel()
	s := newTransactions(t, `
rules:
  - event: cobranca
    table: cobrancas
    on: [insert, update, delete]
    collapse: id
    columns: [id, status, valor]
  - event: mudou
    table: cobrancas
    on: update
    collapse: id
    previous: true
    columns: [id, status, valor]
  - {event: plana, table: cobrancas, on: delete, columns: [id]}
`)
	s.check(t,
		"begin; insert into cobrancas values (1, 1, 'P', 10); update cobrancas set valor = 11; update cobrancas set valor = 12; commit", []string{`cobranca 1 {"id":1,"status":"P","valor":12.00}`},
		"begin; insert into cobrancas values (2, 1, 'P', 10); delete from cobrancas where id = 2; commit", []string{`plana 2 {"id":2}`},
		"begin; update cobrancas set status = 'L'; update cobrancas set status = 'P'; commit", none(),
		"begin; update cobrancas set status = 'L'; update cobrancas set valor = 13; commit",
		[]string{`cobranca 1 {"id":1,"status":"L","valor":13.00}`, `mudou 1 {"id":1,"status":"L","valor":13.00} {"status":"P","valor":12.00}`},
		"begin; delete from cobrancas; insert into cobrancas values (1, 1, 'L', 13); commit", []string{`plana 1 {"id":1}`},
		"begin; delete from cobrancas; insert into cobrancas values (1, 1, 'L', 14); commit",
		[]string{`plana 1 {"id":1}`, `cobranca 1 {"id":1,"status":"L","valor":14.00}`, `mudou 1 {"id":1,"status":"L","valor":14.00} {"valor":13.00}`},
		"update cobrancas set valor = valor", none(),
		"begin; update cobrancas set valor = 99; delete from cobrancas; commit", []string{`plana 1 {"id":1}`, `cobranca 1 {"id":1,"status":"L","valor":14.00}`},
		"begin; insert into cobrancas values (3); savepoint a; update cobrancas set valor = 1; rollback to a; insert into cobrancas values (4); commit",
		[]string{`cobranca 3 {"id":3,"status":"P","valor":null}`, `cobranca 4 {"id":4,"status":"P","valor":null}`},
		"update cobrancas set id = 5 where id = 3", []string{`cobranca 5 {"id":5,"status":"P","valor":null}`, `cobranca 3 {"id":3,"status":"P","valor":null}`},
		"begin; insert into cobrancas values (6); update cobrancas set valor = 1 where id = 4; truncate cobrancas cascade; insert into cobrancas values (7); commit",
		[]string{`cobranca 4 {"id":4,"status":"P","valor":null}`, `cobranca 7 {"id":7,"status":"P","valor":null}`},
	)
}

// P, L and P again within a transaction: row by row both, as a whole nothing.
func TestTransitionsAndBack(t *testing.T) {
	t.Parallel()
	s := newTransactions(t, `
rules:
  - {event: liquidada, table: cobrancas, on: update, when: old.status = 'P' and new.status = 'L', columns: [id]}
  - {event: estornada, table: cobrancas, on: update, when: old.status = 'L' and new.status = 'P', columns: [id]}
  - {event: liquidada.no.fim, table: cobrancas, on: update, collapse: id, when: old.status = 'P' and new.status = 'L', columns: [id]}
`, "insert into cobrancas values (1)")
	s.check(t,
		"begin; update cobrancas set status = 'L'; update cobrancas set status = 'P'; commit", []string{`liquidada 1 {"id":1}`, `estornada 1 {"id":1}`},
		"begin; update cobrancas set status = 'L'; update cobrancas set status = 'P', valor = 1; commit", []string{`liquidada 1 {"id":1}`, `estornada 1 {"id":1}`},
		"begin; update cobrancas set status = 'L'; update cobrancas set valor = 2; commit", []string{`liquidada 1 {"id":1}`, `liquidada.no.fim 1 {"id":1}`},
	)
}

// Large values that no change touched keep what the transaction knows of them.
func TestCollapseUnchangedValues(t *testing.T) {
	t.Parallel()
	s := newTransactions(t, `
rules:
  - event: conta
    table: contas
    on: [insert, update, delete]
    collapse: id
    data: {saldo: saldo, tamanho: length(texto)}
`)
	big := "(select string_agg(md5(i::text), '') from generate_series(1, 1000) i)"
	s.check(t,
		"begin; insert into contas values (1, 1, "+big+"); update contas set saldo = 2; commit", []string{`conta 1 {"saldo":2,"tamanho":32000}`},
		"begin; update contas set saldo = 3; update contas set saldo = 4; commit", []string{`conta 1 {"saldo":4}  ["tamanho"]`},
		"begin; update contas set saldo = 3, texto = 'x' || texto; update contas set saldo = 5; commit", []string{`conta 1 {"saldo":5,"tamanho":32001}`},
		"begin; update contas set saldo = 6; delete from contas; commit", []string{`conta 1 {}  ["saldo","tamanho"]`},
	)
}

func TestCollapseGroups(t *testing.T) {
	t.Parallel()
	s := newTransactions(t, `
rules:
  - event: pagamento
    table: pagamentos
    on: insert
    when: valor > 0
    collapse: [empresa_id, recibo]
    key: recibo
    columns: [id, recibo]
  - event: divisao
    table: pagamentos
    on: insert
    when: valor < -100
    collapse: 10 / (id - id)
    columns: [id]
  - event: movimento
    table: movimentos
    on: insert
    collapse: conta
    columns: [conta, valor]
`)
	s.check(t,
		`insert into pagamentos (empresa_id, recibo, forma, valor) values (1, 7, 'DI', 1), (1, 7, 'PX', 2), (1, 8, 'PX', 2), (2, 7, 'CC', 3), (1, 7, 'CC', 3), (1, 7, 'CC', -1)`,
		[]string{`pagamento 8 {"id":3,"recibo":8}`, `pagamento 7 {"id":4,"recibo":7}`, `pagamento 7 {"id":5,"recibo":7}`},
		`insert into pagamentos (recibo, forma, valor) values (null, 'DI', 1), (null, 'PX', 2)`,
		[]string{`pagamento 7 {"id":7,"recibo":null}`, `pagamento 8 {"id":8,"recibo":null}`},
		`begin; insert into pagamentos (recibo, forma, valor) values (9, 'DI', 1), (9, 'PX', 2); delete from pagamentos where recibo = 9 and forma = 'PX'; commit`,
		[]string{`pagamento 9 {"id":9,"recibo":9}`},
		`insert into movimentos values (1, 5), (2, 6), (1, 7)`, []string{`movimento  {"conta":2,"valor":6}`, `movimento  {"conta":1,"valor":7}`},
		`update pagamentos set valor = -200 where id = 1`, none(),
	)
	s.exec(t, "insert into pagamentos (valor) values (-200)")
	out := s.read(t)
	last := out.lines[len(out.lines)-1]
	if len(last) != 1 || !strings.Contains(last[0], "divisao parked") || !strings.Contains(last[0], "division by zero") {
		t.Errorf("a collapse key that cannot be computed: %q", last)
	}
}

func TestRootOnly(t *testing.T) {
	t.Parallel()
	tree := "insert into categorias values (1, 1, null, 'raiz'), (2, 1, 1, 'a'), (3, 1, 2, 'b'), (4, 1, null, 'outra')"
	s := newTransactions(t, `
rules:
  - {event: removida, table: categorias, on: delete, root_only: pai_id, columns: [id, nome]}
  - {event: por.empresa, table: categorias, on: delete, when: nome <> 'outra', root_only: {parent: [empresa_id, pai_id], key: [empresa_id, id]}, columns: [id]}
`)
	removed := []string{`removida 1 {"id":1,"nome":"raiz"}`, `por.empresa 1 {"id":1}`}
	s.check(t,
		tree, none(),
		"delete from categorias where id = 1", removed, // the cascade: the parent first
		tree+" on conflict do nothing", none(),
		"begin; delete from categorias where id = 3; delete from categorias where id = 2; delete from categorias where id = 1; commit", removed,
		tree+" on conflict do nothing", none(),
		"begin; delete from categorias where id = 3; delete from categorias where id = 4; commit", []string{`removida 3 {"id":3,"nome":"b"}`, `por.empresa 3 {"id":3}`, `removida 4 {"id":4,"nome":"outra"}`},
		"begin; delete from categorias; insert into categorias values (1, 1, null, 'raiz'); commit", []string{`removida 2 {"id":2,"nome":"a"}`, `por.empresa 2 {"id":2}`},
	)
}

func TestChildren(t *testing.T) {
	t.Parallel()
	const items = "insert into cobrancas_itens values (1, 1, 'plano', 10), (1, 2, 'taxa', 5)"
	s := newTransactions(t, `
rules:
  - event: alterada
    table: cobrancas
    on: update
    when: old.status = new.status
    watch: [valor]
    children: {table: cobrancas_itens, parent: cobranca_id}
    previous: true
    columns: [id, status, valor]
  - event: tudo
    table: cobrancas
    on: [insert, update, delete]
    children:
      - {table: cobrancas_itens, parent: cobranca_id, watch: [valor]}
    columns: [id, valor]
`, "insert into cobrancas values (9, 1, 'P', 9), (10, 1, 'P', 10)")
	s.check(t,
		"begin; insert into cobrancas values (1, 1, 'P', 15); "+items+"; commit", []string{`tudo 1 {"id":1,"valor":15.00}`},
		"begin; delete from cobrancas_itens; "+items+"; commit", none(), // saved as it was
		"begin; update cobrancas set observacao = 'x' where id = 1; delete from cobrancas_itens; "+items+"; commit", []string{`tudo 1 {"id":1,"valor":15.00}`},
		"begin; delete from cobrancas_itens; "+items+"; update cobrancas_itens set valor = 6 where seq = 2; commit",
		[]string{`alterada 1 {"id":1,"status":"P","valor":15.00} {}`, `tudo 1 {"id":1,"valor":15.00}`},
		"update cobrancas_itens set descricao = 'outra'", []string{`alterada 1 {"id":1,"status":"P","valor":15.00} {}`},
		"begin; delete from cobrancas_itens where seq = 2; update cobrancas set valor = 10 where id = 1; commit",
		[]string{`alterada 1 {"id":1,"status":"P","valor":10.00} {"valor":15.00}`, `tudo 1 {"id":1,"valor":10.00}`},
		"begin; update cobrancas_itens set valor = 1; update cobrancas set status = 'L' where id = 1; commit", []string{`tudo 1 {"id":1,"valor":10.00}`},
		"update cobrancas_itens set cobranca_id = 9", []string{
			`alterada 9 {"id":9,"status":"P","valor":9.00} {}`, `tudo 9 {"id":9,"valor":9.00}`,
			`alterada 1 {"id":1,"status":"L","valor":10.00} {}`, `tudo 1 {"id":1,"valor":10.00}`,
		},
		"delete from cobrancas where id = 9", []string{`tudo 9 {"id":9,"valor":9.00}`}, // and its items by the cascade
		"begin; insert into cobrancas values (20); insert into cobrancas_itens values (20, 1, 'a', 1); delete from cobrancas where id = 20; commit", none(),
		"begin; insert into cobrancas_itens values (10, 1, 'a', 1); savepoint a; insert into cobrancas_itens values (1, 1, 'a', 1); rollback to a; commit",
		[]string{`alterada 10 {"id":10,"status":"P","valor":10.00} {}`, `tudo 10 {"id":10,"valor":10.00}`},
	)
}

// One transaction of 6,000 rows, in memory and through the temporary file, and
// again after a restart: always the same events with the same positions.
func TestTransactionMemory(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newTransactions(t, `
rules:
  - {event: criada, table: cobrancas, on: insert, collapse: id, columns: [id, valor]}
  - {event: lote, table: cobrancas, on: insert, collapse: id % 10, columns: [id]}
  - {event: itens, table: cobrancas, on: update, children: {table: cobrancas_itens, parent: cobranca_id}, columns: [id, valor]}
  - {event: removida, table: categorias, on: delete, root_only: pai_id, columns: [id]}
  - {event: plana, table: cobrancas, on: update, when: id % 1000 = 0, columns: [id]}
`, "insert into cobrancas select i, 1, 'P', i from generate_series(100001, 101000) i",
		"insert into categorias select i, 1, nullif(i / 10, 0), 'c' from generate_series(1, 2000) i")
	s.exec(t, `begin;
		insert into cobrancas select i, 1, 'P', 1 from generate_series(1, 6000) i;
		update cobrancas set valor = valor * 2 where id <= 6000;
		delete from cobrancas where id between 5701 and 6000;
		insert into cobrancas_itens select i, 1, 'x', 1 from generate_series(100001, 101000) i;
		delete from categorias where id = 1;
		commit`)
	whole := s.read(t)
	if n := len(whole.lines[0]); n != 5700+10+1000+1+6 {
		t.Errorf("%d events", n)
	}
	whole.rise(t)
	for _, memory := range []int64{64 << 10, 1 << 20} {
		spilled := s.read(t, mapping.WithTransactionMemory(memory))
		diff(t, "events with little memory", spilled.lines[0], whole.lines[0])
		diff(t, "positions", spilled.positions[0], whole.positions[0])
		diff(t, "numbers", spilled.numbers[0], whole.numbers[0])
	}
}
