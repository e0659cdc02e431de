package mapping_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

const (
	againRules = `
rules:
  - {event: pai, table: clientes, on: [insert, update], watch: [nome], children: {table: contratos, parent: cliente_id}, columns: [id, nome]}
  - {event: pai.valor, table: clientes, on: update, watch: [nome], children: {table: contratos, parent: cliente_id, watch: [valor]}, columns: [id]}
  - {event: alterado, table: clientes, on: update, columns: [id, nome]}
  - {event: email, table: clientes, on: update, watch: [email], data: {id: id, email: email}}
  - {event: novo, table: clientes, on: insert, when: observacao <> 'x', columns: [id]}
  - {event: liquido, table: clientes, on: [insert, update], when: new.nome <> 'meio', collapse: id, data: {id: id, nome: nome}}
  - {event: da.empresa, table: clientes, on: update, collapse: empresa_id, data: {id: id, nome: nome}}
  - {event: contrato, table: contratos, on: [insert, update], data: {id: id, valor: valor}}
  - {event: contrato.liquido, table: contratos, on: [insert, update], collapse: id, columns: [id]}
`
	treeRules = `
rules:
  - {event: removida, table: categorias, on: delete, columns: [id]}
  - {event: raiz, table: categorias, on: delete, root_only: pai_id, columns: [id]}
`
)

// keptEvents is a sink that has events with the changes that they were made of.
type keptEvents struct {
	recorder
	changes [][]byte
}

func (k *keptEvents) Event(e *mapping.Event) error {
	if e.Change != nil {
		k.changes = append(k.changes, bytes.Clone(e.Change))
	}
	return k.recorder.Event(e)
}

// placed are events with their positions, sorted.
func (r *recorder) placed() []string {
	out := make([]string, len(r.all))
	for i := range r.all {
		out[i] = fmt.Sprintf("%03d %+v", r.position[i].Ordinal, r.all[i])
	}
	return slices.Sorted(slices.Values(out))
}

// transactKept maps one transaction, of which events keep their changes.
func transactKept(t testing.TB, l *lab, rs *mapping.Ruleset, changes ...*cdc.Change) *keptEvents {
	t.Helper()
	out := &keptEvents{}
	m := mapping.NewMapper(rs, nil, mapping.WithSource(l.source), mapping.WithEventChanges())
	m.Begin(l.tx)
	for i, c := range changes {
		c.Tx, c.Position = l.tx, cdc.Position{Commit: l.tx.Commit, Ordinal: uint64(i)}
		if err := m.Map(c, out); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Commit(context.Background(), l.tx, out); err != nil {
		t.Fatal(err)
	}
	return out
}

func mapAll(t testing.TB, l *lab, rs *mapping.Ruleset, apart bool, changes [][]byte) (*recorder, mapping.Remapped) {
	t.Helper()
	var out recorder
	done, err := mapping.NewRedriver(rs, l.source).MapAll(context.Background(), changes, apart, &out)
	if err != nil {
		t.Fatal(err)
	}
	return &out, done
}

// TestMapAll: the same rules make of kept changes the events that they were kept with, and no other.
func TestMapAll(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, againRules, fewClients, "alter table contratos replica identity full",
		"create table categorias (id int primary key, pai_id int, nome text)", "alter table categorias replica identity full")
	rs := bind(t, l.conn, mapping.Options{}, againRules)
	clients, contracts := relation(t, l.conn, "", "clientes"), relation(t, l.conn, "", "contratos")
	update := func(before, more values) *cdc.Change { return change(clients, cdc.Update, before, with(before, more)) }
	ana, bia := with(client(), values{"id": "1"}), with(client(), values{"id": "2", "nome": "Bia"})
	contract := values{"id": "9", "cliente_id": "1", "valor": "1"}
	insert := func(v values) *cdc.Change { return change(contracts, cdc.Insert, nil, v) }
	renamed := values{"nome": "Nova"}
	for name, changes := range map[string][]*cdc.Change{
		"a child":                         {insert(contract)},
		"a child, not the other's":        {change(contracts, cdc.Update, contract, with(contract, values{"observacao": "x"}))},
		"a child that moves":              {change(contracts, cdc.Update, contract, with(contract, values{"cliente_id": "2"}))},
		"children of two":                 {insert(contract), insert(with(contract, values{"id": "10", "cliente_id": "2"}))},
		"children of one":                 {insert(contract), insert(with(contract, values{"id": "10"}))},
		"the row":                         {update(ana, renamed)},
		"the row and a child":             {update(ana, renamed), insert(contract)},
		"a child and the row":             {insert(contract), update(ana, renamed)},
		"nothing":                         {update(ana, values{})},
		"nothing, and a child":            {update(ana, values{}), insert(contract)},
		"there and back":                  {update(ana, renamed), change(clients, cdc.Update, with(ana, renamed), ana)},
		"there and back, with a child":    {update(ana, renamed), change(clients, cdc.Update, with(ana, renamed), ana), insert(contract)},
		"two rows of a group":             {update(ana, renamed), update(bia, values{"email": "b@x.br"})},
		"inserted and changed":            {change(clients, cdc.Insert, nil, ana), update(ana, values{"nome": "meio"})},
		"inserted, changed, with a child": {change(clients, cdc.Insert, nil, ana), update(ana, renamed), insert(contract)},
		"a denied condition":              {change(clients, cdc.Insert, nil, with(ana, values{"observacao": "y"}))},
	} {
		t.Run(name, func(t *testing.T) {
			want := transactKept(t, l, rs, changes...)
			got, done := mapAll(t, l, rs, false, want.changes)
			diff(t, "events", got.placed(), want.placed())
			again, _ := mapAll(t, l, rs, true, want.changes) // of a transaction that is cut
			diff(t, "events apart", again.placed(), want.placed())
			t.Logf("%d changes, undecided: %v", done.Changes, done.Undecided)
		})
	}

	// What depends on other rows is not decided, unless it has led to an event.
	tree := relation(t, l.conn, "", "categorias")
	removed := func(id, parent string) *cdc.Change {
		return change(tree, cdc.Delete, values{"id": id, "pai_id": parent, "nome": "n"}, nil)
	}
	rs = bind(t, l.conn, mapping.Options{}, treeRules)
	want := transactKept(t, l, rs, removed("1", "0"), removed("2", "1"), removed("3", "2"))
	got, done := mapAll(t, l, rs, false, want.changes)
	diff(t, "removed", got.placed(), want.placed())
	diff(t, "undecided", done, mapping.Remapped{Changes: 4, Undecided: map[string]int{"raiz": 2}})
}

// TestMapAllDenied: each event has kept its change without the denied columns that its own rule does not use.
func TestMapAllDenied(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, "rules:\n  - {event: a, table: clientes, on: insert, columns: [id]}\n")
	deny := mapping.Options{Deny: []string{"clientes.email", "clientes.observacao"}}
	const rules = "rules:\n  - {event: a, table: clientes, on: update, when: email = 'a@x.br', columns: [id]}\n" +
		"  - {event: b, table: clientes, on: update, when: observacao = 'longa', columns: [id]}\n  - {event: c, table: clientes, on: update, columns: [id]}\n"
	rs := bind(t, l.conn, deny, rules)
	clients := relation(t, l.conn, "", "clientes")
	want := transactKept(t, l, rs, change(clients, cdc.Update, client(), with(client(), values{"email": "a@x.br"})))
	for i := range want.changes { // whichever comes first
		got, done := mapAll(t, l, rs, false, slices.Concat(want.changes[i:], want.changes[:i]))
		diff(t, "events", got.placed(), want.placed())
		if done.Changes != 1 || len(want.all) != 3 {
			t.Errorf("%d events of %d changes", len(want.all), done.Changes)
		}
	}
}

// TestDeniedKeyIsNotKept: not even to tell rows apart, which it still does.
func TestDeniedKeyIsNotKept(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, "rules:\n  - {event: a, table: clientes, on: insert, columns: [id]}\n",
		"create table pessoas (cpf text primary key, conta int, nome text)", "alter table pessoas replica identity full")
	rs := bind(t, l.conn, mapping.Options{Deny: []string{"pessoas.cpf"}},
		"rules:\n  - {event: p, table: pessoas, on: insert, key: conta, columns: [nome]}\n  - {event: n, table: pessoas, on: insert, key: conta, collapse: conta, columns: [nome]}\n")
	people := relation(t, l.conn, "", "pessoas")
	insert := func(cpf, account string) *cdc.Change {
		return change(people, cdc.Insert, nil, values{"cpf": cpf, "conta": account, "nome": "n"})
	}
	want := transactKept(t, l, rs, insert("12345678909", "1"), insert("98765432100", "2"))
	for _, c := range want.changes {
		if bytes.Contains(c, []byte(`"Net":true`)) {
			continue // that rule uses the column: it tells rows apart
		}
		for _, cpf := range []string{"12345678909", "98765432100"} {
			if bytes.Contains(c, []byte(cpf)) || bytes.Contains(c, []byte(base64.StdEncoding.EncodeToString([]byte(cpf)))) {
				t.Errorf("kept: %s", c)
			}
		}
	}
	got, _ := mapAll(t, l, rs, false, want.changes)
	diff(t, "events", got.placed(), want.placed())
}

// TestMapAllOtherRules: what other rules make of a row's only change, and what they cannot say.
func TestMapAllOtherRules(t *testing.T) {
	t.Parallel()
	l := newLab(t, pg, mapping.Options{}, againRules, fewClients, "alter table contratos replica identity full")
	clients, contracts := relation(t, l.conn, "", "clientes"), relation(t, l.conn, "", "contratos")
	row := with(client(), values{"id": "1"})
	renamed := change(clients, cdc.Update, row, with(row, values{"nome": "Nova"}))
	contract := change(contracts, cdc.Insert, nil, values{"id": "9", "cliente_id": "1", "valor": "1"})
	const plain = "  - {event: alterado, table: clientes, on: update, columns: [id]}\n"
	const parent = "  - {event: pai, table: clientes, on: update, children: {table: contratos, parent: cliente_id}, columns: [id]}\n"
	const net = "  - {event: liquido, table: clientes, on: update, collapse: id, columns: [id]}\n"
	const group = "  - {event: grupo, table: clientes, on: update, when: nome <> 'outro', collapse: empresa_id, columns: [id]}\n"
	for name, c := range map[string]struct {
		was, is   string
		changes   []*cdc.Change
		want      string
		undecided map[string]int
	}{
		"net of the only change":    {plain, plain + net, []*cdc.Change{renamed}, "alterado liquido", nil},
		"net of several":            {plain, plain + net, []*cdc.Change{renamed, change(clients, cdc.Update, with(row, values{"nome": "Nova"}), with(row, values{"nome": "Velha"}))}, "alterado alterado", map[string]int{"liquido": 2}},
		"plain of the net":          {net, net + plain, []*cdc.Change{renamed}, "alterado liquido", nil},
		"plain of a child's parent": {parent, parent + plain + net, []*cdc.Change{contract}, "pai", nil},
		"another's children":        {parent, parent + strings.Replace(parent, "pai", "mae", 1), []*cdc.Change{contract}, "pai", map[string]int{"mae": 1}},
		"a group":                   {plain, plain + group, []*cdc.Change{renamed}, "alterado", map[string]int{"grupo": 1}},
		"no group":                  {plain, plain + strings.Replace(group, "<>", "=", 1), []*cdc.Change{renamed}, "alterado", nil},
		"corrected group":           {group, strings.Replace(group, "columns: [id]", "data: {x: id}", 1), []*cdc.Change{renamed}, "grupo", nil},
	} {
		t.Run(name, func(t *testing.T) {
			kept := transactKept(t, l, bind(t, l.conn, mapping.Options{}, "rules:\n"+c.was), c.changes...)
			got, done := mapAll(t, l, bind(t, l.conn, mapping.Options{}, "rules:\n"+c.is), false, kept.changes)
			var events []string
			for _, e := range got.all {
				events = append(events, e.Type)
			}
			slices.Sort(events)
			if diff(t, "events", strings.Join(events, " "), c.want); !maps.Equal(done.Undecided, c.undecided) {
				t.Errorf("undecided: %v, want %v", done.Undecided, c.undecided)
			}
		})
	}
}
