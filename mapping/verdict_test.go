package mapping_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// witness notes what it is told, in lines.
type witness struct{ lines []string }

var outcomeNames = map[mapping.Outcome]string{
	mapping.Fired: "fired", mapping.Unwatched: "unwatched", mapping.False: "false", mapping.Null: "null", mapping.WasParked: "parked", mapping.Awaits: "awaits",
	mapping.Commit: "commit", mapping.Child: "child", mapping.Nothing: "nothing", mapping.Grouped: "grouped", mapping.Root: "root",
}

func (w *witness) Observe(o *mapping.Observation) {
	var b strings.Builder
	fmt.Fprintf(&b, "%d", o.Ordinal)
	if o.Net {
		b.WriteString(" net")
	}
	if o.Key != nil {
		fmt.Fprintf(&b, " key %s", o.Key)
	}
	if o.HasTenant {
		fmt.Fprintf(&b, " tenant %q", o.Tenant)
	}
	for _, v := range o.Verdicts {
		fmt.Fprintf(&b, ", %d %s", v.Rule, outcomeNames[v.Outcome])
		if v.Outcome == mapping.False || v.Outcome == mapping.Null {
			fmt.Fprintf(&b, " %d", v.Conjunct)
		}
	}
	w.lines = append(w.lines, b.String())
}

func (w *witness) take() []string {
	lines := w.lines
	w.lines = nil
	return lines
}

const verdictRules = `
rules:
  - event: cliente.ativado
    table: clientes
    on: update
    when: old.situacao <> 'AT' and new.situacao = 'AT' and saldo between 1 and 100
    tenant: empresa_id
    columns: [id]
  - event: cliente.renomeado
    table: clientes
    on: update
    watch: nome
    tenant: empresa_id
    columns: [id, nome]
  - event: cliente.saldo
    table: clientes
    on: update
    when: 1 / saldo::int > 0
    tenant: empresa_id
    columns: [id]
  - event: cliente.grande
    table: clientes
    on: insert
    when: new.saldo > 1000 or new.email is not null
    tenant: empresa_id + 0
    columns: [id]
`

// TestVerdicts: an observer is told what each rule made of a change, with the conjunct that
// decided, the row's key, and the tenant where it is known.
func TestVerdicts(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	var w witness
	rs := bind(t, conn, mapping.Options{}, verdictRules)
	m := mapping.NewMapper(rs, nil, mapping.WithObserver(&w))
	base := with(client(), values{"situacao": "VI", "saldo": "50"})
	// Rules without numbers count from 0 for each operation.
	for _, c := range []struct {
		what   string
		change *cdc.Change
		want   []string
	}{
		{"all of when", change(rel, cdc.Update, base, with(base, values{"situacao": "AT"})), []string{`7 key 7 tenant "1", 0 fired, 1 unwatched, 2 false 0`}},
		{"the first conjunct", change(rel, cdc.Update, with(base, values{"situacao": "AT"}), with(base, values{"situacao": "VI", "nome": "Bia"})), []string{`7 key 7 tenant "1", 0 false 0, 1 fired, 2 false 0`}},
		{"the second", change(rel, cdc.Update, base, with(base, values{"nome": "Bia"})), []string{`7 key 7 tenant "1", 0 false 1, 1 fired, 2 false 0`}},
		{"between is one", change(rel, cdc.Update, base, with(base, values{"situacao": "AT", "saldo": "500"})), []string{`7 key 7 tenant "1", 0 false 2, 1 unwatched, 2 false 0`}},
		{"null", change(rel, cdc.Update, base, with(base, values{"situacao": "AT", "saldo": nil})), []string{`7 key 7 tenant "1", 0 null 2, 1 unwatched, 2 null 0`}},
		{"parked", change(rel, cdc.Update, base, with(base, values{"saldo": "0"})), []string{`7 key 7 tenant "1", 0 false 1, 1 unwatched, 2 parked`}},
		{"no rule for it", change(rel, cdc.Delete, base, nil), []string{`7 key 7`}},
		{"a tenant that the row alone does not show", change(rel, cdc.Insert, nil, with(base, values{"email": "a@b"})), []string{`7 key 7 tenant "1", 0 fired`}},
		{"a tenant that is not computed", change(rel, cdc.Insert, nil, with(base, values{"email": nil})), []string{`7 key 7, 0 false 0`}},
		{"another key", change(rel, cdc.Update, base, with(base, values{"id": "8", "nome": "Bia"})), []string{`7 key 8 tenant "1", 0 false 1, 1 fired, 2 false 0`, `7 key 7 tenant "1", 0 false 1, 1 fired, 2 false 0`}},
	} {
		run(t, m, c.change)
		diff(t, c.what, w.take(), c.want)
	}
	if got := string(rs.KeyText(cdc.Name{Schema: "public", Name: "clientes"}, "7")); got != "7" {
		t.Errorf("the key is %q", got)
	}
	diff(t, "conjuncts", rs.Texts()[0].Conjuncts, []string{"old.situacao <> 'AT'", "new.situacao = 'AT'", "saldo between 1 and 100"})
}

// TestObservedMapAllocatesNothing: nor does it when someone may ask why.
func TestObservedMapAllocatesNothing(t *testing.T) {
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{Location: saoPaulo(t)}, benchRules), nil, mapping.WithObserver(counter{}))
	after := client()
	var sink discard
	for _, c := range []*cdc.Change{change(rel, cdc.Update, with(after, values{"situacao": "VI"}), after), change(rel, cdc.Update, after, after)} {
		if n := testing.AllocsPerRun(200, func() { _ = m.Map(c, &sink) }); n != 0 {
			t.Errorf("%v allocations per change", n)
		}
	}
}

type counter struct{}

func (counter) Observe(*mapping.Observation) {}

// TestLaterVerdicts: the observer is told what became of a row at the commit, and of rules
// with lookups when these have been read.
func TestLaterVerdicts(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, laterRules)
	var w witness
	m := mapping.NewMapper(bind(t, l.conn, mapping.Options{}, laterRules), nil, mapping.WithSource(l.source), mapping.WithObserver(&w))
	clients, contracts := relation(t, l.conn, "", "clientes"), relation(t, l.conn, "", "contratos")
	l.begin("")
	at := func(ordinal uint64, rel *cdc.Relation, before, after values) *cdc.Change {
		c := change(rel, cdc.Update, before, after)
		c.Ordinal, c.Tx, c.Commit = ordinal, l.tx, l.tx.Commit
		return c
	}
	row := func(id, nome string) values { return with(client(), values{"id": id, "nome": nome}) }
	m.Begin(l.tx)
	run(t, m,
		at(0, clients, row("1", "Ana"), row("1", "Bia")), at(1, clients, row("2", "Ana"), row("2", "x")), at(2, clients, row("3", "Ana"), row("3", "Eva")),
		at(3, clients, row("1", "Bia"), row("1", "Ana")),
		at(4, contracts, nil, values{"id": "8", "situacao": "AT", "valor": "1", "observacao": "vip"}),
		at(5, contracts, nil, values{"id": "9", "situacao": "AT", "valor": "1", "observacao": "não"}))
	diff(t, "at the changes", w.take(), []string{
		`0 key 1 tenant "1", 0 commit, 1 commit`, `1 key 2 tenant "1", 0 commit, 1 commit`, `2 key 3 tenant "1", 0 commit, 1 commit`, `3 key 1 tenant "1", 0 commit, 1 commit`,
		`4 key 8 tenant "", 0 awaits`, `5 key 9 tenant "", 0 awaits`,
	})
	var sink recorder
	if err := m.Commit(t.Context(), l.tx, &sink); err != nil {
		t.Fatal(err)
	}
	if err := m.Resolve(t.Context(), &sink); err != nil {
		t.Fatal(err)
	}
	diff(t, "later", w.take(), []string{
		`3, 0 nothing, 1 nothing`, `1, 1 false 0`, `2, 1 grouped`,
		`7 net key 2 tenant "1", 0 fired`, `8 net key 3 tenant "1", 0 fired`, `8 net key 3 tenant "1", 1 fired`,
		`4 tenant "", 0 fired`, `5, 0 false 1`,
	})
}

const laterRules = `
rules:
  - {event: a, table: clientes, on: update, collapse: id, tenant: empresa_id, columns: [id]}
  - {event: b, table: clientes, on: update, collapse: empresa_id, when: nome <> 'x', tenant: empresa_id, columns: [id]}
  - event: c
    table: contratos
    on: update
    when: situacao = 'AT' and vip.e and valor > 0
    columns: [id]
    lookup: {vip: "select new.observacao = 'vip' as e"}
`

// TestReadVerdicts: the observer is told what became of a row that was there already, under the
// rules that are chosen, and later of what waited for a lookup.
func TestReadVerdicts(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, readRules)
	var w witness
	rs := bind(t, l.conn, mapping.Options{}, readRules)
	rs.Number([]int{10, 11, 12, 13, 14})
	m := mapping.NewMapper(rs, nil, mapping.WithSource(l.source), mapping.WithObserver(&w))
	clients := relation(t, l.conn, "", "clientes")
	l.begin("")
	read := func(row values, chosen ...string) []string {
		t.Helper()
		c := change(clients, cdc.Insert, nil, row)
		c.Op, c.Tx, c.Commit = cdc.Read, l.tx, l.tx.Commit
		if err := m.Read(c, func(event string) bool { return len(chosen) == 0 || slices.Contains(chosen, event) }, &recorder{}); err != nil {
			t.Fatal(err)
		}
		return w.take()
	}
	row := with(client(), values{"id": "8", "saldo": "50"})
	diff(t, "all", read(row), []string{`7 key 8 tenant "1", 10 fired, 11 false 0, 12 awaits, 14 fired`})
	if err := m.Resolve(t.Context(), &recorder{}); err != nil {
		t.Fatal(err)
	}
	diff(t, "later", w.take(), []string{`7 tenant "1", 12 fired`})
	diff(t, "one", read(row, "lida"), []string{`7 key 8 tenant "1", 10 fired`})
	diff(t, "none", read(row, "outra"), []string(nil))
	diff(t, "parked", read(with(row, values{"saldo": "0"}), "dividida"), []string{`7 key 8 tenant "1", 11 parked`})
}

const readRules = `
rules:
  - {event: lida, table: clientes, on: [insert, update], when: nome is not null, tenant: empresa_id, columns: [id]}
  - {event: dividida, table: clientes, on: insert, when: 1 / saldo::int > 0, tenant: empresa_id, columns: [id]}
  - event: procurada
    table: clientes
    on: insert
    tenant: empresa_id
    columns: [id]
    data: {soma: um.n}
    lookup: {um: select new.id + 1 as n}
  - {event: mudada, table: clientes, on: update, tenant: empresa_id, columns: [id]}
  - {event: junta, table: clientes, on: insert, collapse: id, tenant: empresa_id, columns: [id]}
`
