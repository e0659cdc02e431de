package mapping_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// A table may change within a transaction, and until it is read.
func TestTransactionSchemaChange(t *testing.T) {
	t.Parallel()
	s := newTransactions(t, `
rules:
  - event: mudou
    table: cobrancas
    on: update
    collapse: id
    previous: true
    columns: [id, valor]
  - event: itens
    table: cobrancas
    on: update
    children: {table: cobrancas_itens, parent: cobranca_id}
    columns: [id]
`, "insert into cobrancas values (1, 1, 'P', 1)", "insert into cobrancas_itens values (1, 1, 'a', 1)")
	drift := func(event, table, column string) string {
		return fmt.Sprintf(`%s parked: RULES apply rule %s: column %q of table public.%s is no longer in the stream; `, event, event, column, table)
	}
	s.check(t,
		`begin; update cobrancas set valor = 2; alter table cobrancas add column extra int default 7; update cobrancas set valor = 3;
			alter table cobrancas drop column observacao; update cobrancas set valor = 4; commit`,
		[]string{`mudou 1 {"id":1,"valor":4.00} {"valor":1.00}`, `itens 1 {"id":1}`},
		"begin; update cobrancas set valor = 5; alter table cobrancas drop column empresa_id; update cobrancas set valor = 4; commit", none(),
	)
	s.exec(t, "begin; alter table cobrancas rename column valor to preco; update cobrancas set preco = 9; commit",
		"begin; alter table cobrancas_itens rename column cobranca_id to cobranca; update cobrancas_itens set descricao = 'b'; commit")
	out := s.read(t)
	parked := slices.Concat(out.lines[len(out.lines)-2:]...)
	for i, want := range []string{drift("mudou", "cobrancas", "valor"), "itens 1 {", drift("itens", "cobrancas_itens", "cobranca_id")} {
		_, after, found := strings.Cut(want, "RULES")
		if i >= len(parked) || !strings.Contains(parked[i], after) || !found && !strings.HasPrefix(parked[i], want) {
			t.Errorf("want %q in %q", want, parked)
		}
	}
}

// Under the policy stop the first change of a table that a rule no longer fits
// is an error, also where the table is a child.
func TestTransactionSchemaChangeStops(t *testing.T) {
	t.Parallel()
	conn := connect(t, "alter table contratos replica identity full")
	rs := bind(t, conn, mapping.Options{OnSchemaChange: mapping.Stop}, `
rules:
  - {event: a, table: clientes, on: update, collapse: id, columns: [id], children: {table: contratos, parent: cliente_id}}
`)
	for _, c := range []struct{ table, column string }{{"clientes", "id"}, {"contratos", "cliente_id"}} {
		rel := *relation(t, conn, "", c.table)
		rel.Columns = slices.Clone(rel.Columns)
		rel.Columns[rel.Column(c.column)].Name = "outra"
		m := mapping.NewMapper(rs, nil)
		err := m.Map(change(&rel, cdc.Update, values{}, values{"outra": "1"}), &recorder{})
		var drift *mapping.SchemaError
		if !errors.As(err, &drift) || drift.Column != c.column || drift.Table.Name != c.table {
			t.Errorf("%s without %s: %v", c.table, c.column, err)
		}
	}
}

// What a half transaction left does not reach the next one.
func TestTransactionReset(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	rs := bind(t, conn, mapping.Options{}, benchRules+perTransaction)
	m := mapping.NewMapper(rs, nil)
	_, changes := thousand(rel)
	tx := &cdc.Transaction{Commit: 0x2000000}
	for name, forget := range map[string]func(){"reset": m.Reset, "begin": func() { m.Begin(tx) }, "swap": func() { m.Swap(rs) }} {
		var r recorder
		m.Begin(tx)
		for _, c := range changes {
			if err := m.Map(c, &r); err != nil {
				t.Fatal(err)
			}
		}
		forget()
		if err := m.Commit(context.Background(), tx, &r); err != nil || len(r.all) > 0 {
			t.Errorf("%s: %d events, %v", name, len(r.all), err)
		}
	}
}

// A temporary directory that takes no file is an error that says what to do.
func TestTransactionWithoutRoom(t *testing.T) {
	t.Setenv("TMPDIR", t.TempDir()+"/gone")
	conn := connect(t)
	_, changes := thousand(relation(t, conn, "", "clientes"))
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, benchRules+perTransaction), nil, mapping.WithTransactionMemory(64<<10))
	var err error
	for _, c := range changes {
		if err = m.Map(c, &recorder{}); err != nil {
			break
		}
	}
	if err == nil || !strings.Contains(err.Error(), "mapping.transaction_memory") {
		t.Errorf("got %v", err)
	}
}

// The stream must have more of the tables of per-transaction rules than the
// rules are on.
func TestTransactionNeeds(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table itens (pedido int, seq int, valor int, primary key (pedido, seq))")
	rs := bind(t, conn, mapping.Options{}, `
rules:
  - {event: a, table: clientes, on: insert, collapse: id, columns: [id]}
  - {event: b, table: estoque_movimentos, on: insert, collapse: produto_id, columns: [produto_id]}
  - {event: c, table: pedidos, on: update, children: {table: itens, parent: pedido}, columns: [id]}
`)
	var got []string
	for _, n := range rs.Tables() {
		got = append(got, fmt.Sprintf("%s %v %v %v", n.Name, n.Insert, n.Update, n.Delete))
	}
	diff(t, "needs", got, []string{
		"clientes true true true", "estoque_movimentos true false false", "itens true true true", "pedidos true true true",
	})
	var notes []string
	for _, f := range rs.Findings() {
		if f.ID == "identity.children" {
			notes = append(notes, f.Title+"; "+f.Fix())
		}
	}
	diff(t, "findings", notes, []string{
		"an update that changes nothing, or a row deleted and inserted again as it was, counts as a change of its parent: the server does not send its old values; " +
			"run ALTER TABLE public.itens REPLICA IDENTITY FULL;",
	})
}
