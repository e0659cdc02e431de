package mapping_test

import (
	"slices"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// Numbers, not places, order the events of a change and are their N; an heir has
// its parent's, and a child that broke its rule is parked under that rule's.
func TestNumber(t *testing.T) {
	t.Parallel()
	conn := connect(t, inherited, "alter table contratos replica identity full")
	rs := bind(t, conn, mapping.Options{OnSchemaChange: mapping.Park}, `
rules:
  - {event: a, table: contratos, on: insert, columns: [id]}
  - {event: b, table: contratos, on: [insert, delete], columns: [id]}
  - {event: pai, table: clientes, on: update, collapse: id, columns: [id], children: {table: contratos, parent: cliente_id}}
  - {event: a, table: public.contratos, on: insert, columns: [id]}
  - {event: venda, table: vendas, on: insert, columns: [id]}
`)
	diff(t, "identities", rs.Identities(), []string{
		"public.contratos 0 a", "public.contratos 0 b", "public.clientes 0 pai", "public.contratos 1 a", "public.vendas 0 venda",
	})
	rs.Number([]int{9, 3, 5, 1, 65535})
	m := mapping.NewMapper(rs, nil)
	numbers := func(c *cdc.Change) (types []string, n []int) {
		for _, e := range run(t, m, c) {
			if e.Parked != "" {
				e.Type += " parked"
			}
			types, n = append(types, e.Type), append(n, e.N)
		}
		return types, n
	}
	contracts, heir := relation(t, conn, "", "contratos"), relation(t, conn, "", "vendas_2026")
	renamed := *contracts
	renamed.Columns = slices.Clone(renamed.Columns)
	renamed.Columns[renamed.Column("cliente_id")].Name = "outra"
	for name, c := range map[string]struct {
		change *cdc.Change
		types  []string
		n      []int
	}{
		"order":        {change(contracts, cdc.Insert, nil, values{"id": "1"}), []string{"a", "b", "a"}, []int{1, 3, 9}},
		"delete":       {change(contracts, cdc.Delete, values{"id": "1"}, nil), []string{"b"}, []int{3}},
		"heir":         {change(heir, cdc.Insert, nil, values{"id": "1"}), []string{"venda"}, []int{65535}},
		"broken child": {change(&renamed, cdc.Insert, nil, values{"id": "1"}), []string{"a", "b", "pai parked", "a"}, []int{1, 3, 5, 9}},
	} {
		types, n := numbers(c.change)
		diff(t, name, types, c.types)
		diff(t, name+": numbers", n, c.n)
	}
}

// The rules about whole transactions are in the order of their numbers, too.
func TestNumberTransactions(t *testing.T) {
	t.Parallel()
	s := newTransactions(t, `
rules:
  - {event: primeiro, table: cobrancas, on: update, collapse: id, columns: [id]}
  - {event: avulso, table: cobrancas, on: update, columns: [id]}
  - {event: segundo, table: cobrancas, on: update, children: {table: cobrancas_itens, parent: cobranca_id}, columns: [id]}
  - {event: grupo, table: cobrancas, on: update, collapse: empresa_id, columns: [id]}
`, "insert into cobrancas values (1)", "insert into cobrancas_itens values (1, 1, 'a', 1)")
	s.rules.Number([]int{40, 500, 30, 20, 0})
	s.exec(t, "update cobrancas set valor = 2", "update cobrancas_itens set valor = 2")
	out := s.read(t)
	out.rise(t)
	diff(t, "events", out.lines[len(out.lines)-2:], [][]string{{`avulso 1 {"id":1}`, `grupo 1 {"id":1}`, `segundo 1 {"id":1}`, `primeiro 1 {"id":1}`}, {`segundo 1 {"id":1}`}})
	diff(t, "numbers", out.numbers[len(out.numbers)-2:], [][]int{{500, 20, 30, 40}, {30}})
}
