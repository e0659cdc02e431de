package mapping_test

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/mapping"
)

// keeper is a sink that keeps what was parked.
type keeper struct {
	recorder
	parked []mapping.Parked
}

func (k *keeper) Park(p *mapping.Parked) error {
	kept := *p
	kept.Change, kept.Tenant, kept.Key = bytes.Clone(p.Change), bytes.Clone(p.Tenant), bytes.Clone(p.Key)
	k.parked = append(k.parked, kept)
	return k.recorder.Park(p)
}

// parks maps changes, of which each is to be parked, and returns them.
func parks(t testing.TB, rs *mapping.Ruleset, source *mapping.Source, changes ...*cdc.Change) []mapping.Parked {
	t.Helper()
	var k keeper
	m := mapping.NewMapper(rs, nil, mapping.WithSource(source), mapping.WithKeptChanges())
	for _, c := range changes {
		if err := m.Map(c, &k); err != nil {
			t.Fatal(err)
		}
	}
	if source != nil {
		if err := m.Resolve(context.Background(), &k); err != nil {
			t.Fatal(err)
		}
	}
	if len(k.parked) != len(changes) || len(k.all) != len(changes) {
		t.Fatalf("of %d changes these became: %+v", len(changes), k.all)
	}
	return k.parked
}

// redrive maps a parked change again.
func redrive(t testing.TB, rs *mapping.Ruleset, source *mapping.Source, p mapping.Parked) recorder {
	t.Helper()
	if p.Change == nil {
		t.Fatalf("the change was not kept: %q", p.Unkept)
	}
	var r recorder
	if err := mapping.NewRedriver(rs, source).Map(context.Background(), p.Change, &r); err != nil {
		t.Fatal(err)
	}
	for _, position := range r.position {
		if position != (cdc.Position{}) && position != p.Position { // a reason alone has none
			t.Errorf("position %v, want %v", position, p.Position)
		}
	}
	return r
}

// TestRedrive: a change that is mapped again leads to what it would have led to had the
// rules been right.
func TestRedrive(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	clients := relation(t, conn, "", "clientes")
	before := client()
	update := change(clients, cdc.Update, before, with(before, values{"nome": "Zoé\x00\n\"", "email": nil, "extras": `{"a": [1, 2.50]}`}))
	update.Tx.Time = update.Tx.Time.UTC()
	update.New[clients.Column("foto")] = cdc.Datum{State: cdc.Unchanged}
	update.Old[clients.Column("foto")] = cdc.Datum{State: cdc.Unchanged}
	rule := func(expression string, more ...string) string {
		return "rules:\n  - event: outro\n    table: pedidos\n    on: insert\n    columns: [id]\n" +
			"  - event: cliente\n    table: clientes\n    on: [update, delete]\n    columns: [id, nome, email, foto, extras, tags, dt_cadastro]\n" +
			strings.Join(more, "\n") + "\n    data: {x: " + expression + ", tx: now()}\n"
	}
	broken := rule("1 / (id - id)")
	old := bind(t, conn, mapping.Options{}, broken)
	old.Number([]int{7, 4})
	p := parks(t, old, nil, update)[0]
	for name, c := range map[string]struct {
		rules string
		want  string // of the reason; empty: as if the rules had been so
	}{
		"fixed":      {rule("id + 1"), ""},
		"previous":   {rule("upper(nome)", "    previous: true"), ""},
		"watch":      {rule("id", "    watch: [nome]"), ""},
		"not when":   {rule("id", "    when: coalesce(nome, '') = 'outra'"), ""},
		"not watch":  {rule("id", "    watch: [situacao]"), ""},
		"other op":   {strings.Replace(rule("id"), "[update, delete]", "delete", 1), ""},
		"collapse":   {rule("id", "    collapse: id"), ""},
		"still":      {broken, "division by zero"},
		"other rule": {strings.Replace(rule("id"), "event: cliente", "event: pessoa", 1), "no longer have this one"},
		"order":      {"rules:\n" + strings.Replace(strings.TrimPrefix(rule("id"), "rules:\n"), "event: outro", "event: outros", 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			now := bind(t, conn, mapping.Options{}, c.rules)
			now.Number([]int{7, 4})
			got := redrive(t, now, nil, p).all
			if c.want != "" {
				if len(got) != 1 || !strings.Contains(got[0].Parked, c.want) {
					t.Errorf("got %+v, want parked: %s", got, c.want)
				}
				return
			}
			m, want := mapping.NewMapper(now, nil), recorder{}
			m.Begin(update.Tx)
			if err := m.Map(update, &want); err != nil {
				t.Fatal(err)
			}
			if err := m.Commit(t.Context(), update.Tx, &want); err != nil {
				t.Fatal(err)
			}
			diff(t, "events", got, want.all)
		})
	}
}

// TestRedriveOfHeir: a rule that no longer applies to the table of a change leaves it
// parked, and one that only has other operations now has no event of it.
func TestRedriveOfHeir(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table base (id int primary key, x int)", "create table base_2024 (primary key (id)) inherits (base)")
	const rules = "rules:\n  - {event: e, table: base, on: %, columns: [id], data: {y: 1 / (id - id)}}\n"
	with := func(ops string) *mapping.Ruleset {
		return bind(t, conn, mapping.Options{}, strings.Replace(rules, "%", ops, 1))
	}
	insert := change(relation(t, conn, "", "base_2024"), cdc.Insert, nil, values{"id": "1"})
	p := parks(t, with("insert"), nil, insert)[0]
	if got := redrive(t, with("delete"), nil, p).all; len(got) != 0 {
		t.Errorf("on delete: %+v", got)
	}
	own := bind(t, conn, mapping.Options{}, strings.Replace(rules, "%", "insert", 1)+"  - {event: f, table: base_2024, on: delete, columns: [id]}\n")
	do(t, conn, "alter table base_2024 no inherit base")
	for what, rs := range map[string]*mapping.Ruleset{"rules of its own": own, "it no longer inherits": with("insert")} {
		if got := redrive(t, rs, nil, p).all; len(got) != 1 || !strings.Contains(got[0].Parked, "no longer applies to public.base_2024") {
			t.Errorf("%s: %+v", what, got)
		}
	}
}

// TestRedriveAcrossAlter: the change is of the table as it was.
func TestRedriveAcrossAlter(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create type cor as enum ('azul')", "create type par as (a int, b text)",
		"create table pecas (id int primary key, cor cor, par par, peso int, nome text)")
	const rules = "rules:\n  - {event: peca, table: pecas, on: insert, data: {id: id, cor: cor, par: par, peso: peso + 1, x: %}}\n"
	c := change(relation(t, conn, "", "pecas"), cdc.Insert, nil, values{"id": "1", "cor": "azul", "par": "(1,dois)", "peso": "9", "nome": "n"})
	p := parks(t, bind(t, conn, mapping.Options{}, strings.Replace(rules, "%", "nome::int", 1)), nil, c)[0]
	for _, sql := range []string{
		"alter type cor rename value 'azul' to 'verde'", "alter type par add attribute z int", "alter table pecas alter peso type bigint",
		"alter table pecas rename nome to titulo", "alter table pecas add nome text",
	} {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	out := redrive(t, bind(t, conn, mapping.Options{}, strings.Replace(rules, "%", "nome", 1)), nil, p)
	diff(t, "events", out.all, []got{{Type: "peca", Key: "1", Data: `{"id":1,"cor":"azul","par":{"a":1,"b":"dois"},"peso":10,"x":"n"}`}})
	out = redrive(t, bind(t, conn, mapping.Options{OnSchemaChange: mapping.Stop}, strings.Replace(rules, "%", "titulo", 1)), nil, p)
	if len(out.all) != 1 || !strings.Contains(out.all[0].Parked, `column "titulo"`) || !strings.Contains(out.all[0].Parked, "did not exist when the change was made") {
		t.Errorf("a column of later: %+v", out.all)
	}
}

// TestKept: what is kept of a row, and what is not.
func TestKept(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	clients := relation(t, conn, "", "clientes")
	deny := mapping.Options{Deny: []string{"clientes.foto", "clientes.observacao", "clientes.cpf_cnpj"}}
	bound := func(o mapping.Options, body string) *mapping.Ruleset {
		return bind(t, conn, o, "rules:\n  - event: e\n    table: clientes\n    on: insert\n"+body)
	}
	rules := bound(deny, "    when: observacao <> '' or true\n    data: {x: 1 / (id - id)}\n")
	small := change(clients, cdc.Insert, nil, with(client(), values{"foto": `\xC0FFEE99`, "observacao": "guardada", "cpf_cnpj": "12345678909"}))
	p := parks(t, rules, nil, small)[0]
	contains := func(text string) bool {
		return strings.Contains(string(p.Change), base64.StdEncoding.EncodeToString([]byte(text)))
	}
	if !contains("guardada") || contains(`\xC0FFEE99`) || contains("12345678909") {
		t.Errorf("kept:\n%s", p.Change)
	}
	diff(t, "the condition's column", redrive(t, bound(deny, "    when: observacao = 'guardada'\n    columns: [id]\n"), nil, p).all, []got{{Type: "e", Key: "7", Data: `{"id":7}`}})
	if got := redrive(t, bound(mapping.Options{}, "    columns: [id, foto]\n"), nil, p).all; len(got) != 1 || !strings.Contains(got[0].Parked, "not kept: it was in privacy.deny") {
		t.Errorf("a column that was denied: %+v", got)
	}
	large := change(clients, cdc.Insert, nil, with(client(), values{"observacao": strings.Repeat("x", 1<<20)}))
	if p := parks(t, bound(deny, "    data: {x: 1 / (id - id)}\n"), nil, large)[0]; p.Change != nil || !strings.Contains(p.Unkept, "1 MiB") {
		t.Errorf("a large row: %d bytes, %q", len(p.Change), p.Unkept)
	}
}

// TestRedriveLookup: lookups are read again, with the whole row to choose by.
func TestRedriveLookup(t *testing.T) {
	t.Parallel()
	const rules = "rules:\n  - event: e\n    table: contratos\n    on: insert\n    columns: [id]\n    data: {nome: cliente.nome%}\n" +
		"    lookup:\n      cliente: select nome, id, $ as x from clientes where id = new.cliente_id\n"
	l := newLab(t, pg, mapping.Options{}, strings.NewReplacer("%", "", "$", "1").Replace(rules), fewClients)
	with := func(expression, column string) *mapping.Ruleset {
		return bind(t, l.conn, mapping.Options{OnSchemaChange: mapping.Stop}, strings.NewReplacer("%", expression, "$", column).Replace(rules))
	}
	insert := l.change("contratos", values{"id": "5", "cliente_id": "2", "valor": "3.50"})
	fixed := with(", valor: valor", "1")
	for name, broken := range map[string]*mapping.Ruleset{
		"expression": with(", x: 1 / (cliente.id - 2)", "1"),
		"query":      with("", "new.id / (new.id - new.id)"),
	} {
		p := parks(t, broken, l.source, insert)[0]
		// The number is by now that of a transaction to come.
		p.Change = bytes.Replace(p.Change, fmt.Appendf(nil, `"XID":%d`, l.tx.XID), []byte(`"XID":4000000000`), 1)
		diff(t, name, redrive(t, fixed, l.source, p).all, []got{{Type: "e", Key: "5", Data: `{"id":5,"nome":"Bia","valor":3.50}`}})
	}
}

// TestRedriveTransactions: what was parked is a transaction's net change of a row, or of
// the parent of a row.
func TestRedriveTransactions(t *testing.T) {
	t.Parallel()
	const rules = `
rules:
  - {event: cliente, table: clientes, on: [insert, update], watch: [nome], children: {table: contratos, parent: cliente_id}, columns: [id, nome], data: {x: %}}
`
	l := newLab(t, pg, mapping.Options{}, strings.ReplaceAll(rules, "%", "1"), fewClients, "alter table contratos replica identity full")
	broken := bind(t, l.conn, mapping.Options{}, strings.ReplaceAll(rules, "%", "1 / (id - id)"))
	var k keeper
	m := mapping.NewMapper(broken, nil, mapping.WithSource(l.source), mapping.WithKeptChanges())
	clients := relation(t, l.conn, "", "clientes")
	inserted := l.change("clientes", client())
	renamed := *change(clients, cdc.Update, client(), with(client(), values{"nome": "Nova"}))
	renamed.Tx, renamed.Position = l.tx, cdc.Position{Commit: l.tx.Commit, Ordinal: 7}
	child := l.change("contratos", values{"id": "9", "cliente_id": "2"})
	child.Ordinal = 8
	m.Begin(l.tx)
	for _, c := range []*cdc.Change{inserted, &renamed, child} {
		if err := m.Map(c, &k); err != nil {
			t.Fatal(err)
		}
	}
	if err := m.Commit(t.Context(), l.tx, &k); err != nil {
		t.Fatal(err)
	}
	fixed := bind(t, l.conn, mapping.Options{}, strings.ReplaceAll(rules, "%", "id + 1"))
	var all []got
	for _, p := range k.parked {
		all = append(all, redrive(t, fixed, l.source, p).all...)
	}
	diff(t, "events", all, []got{{Type: "cliente", Key: "7", Data: `{"id":7,"nome":"Nova","x":8}`}, {Type: "cliente", Key: "2", Data: `{"id":2,"nome":"Bia","x":3}`}})

	// A child that no longer fits has no parent.
	contracts := *relation(t, l.conn, "", "contratos")
	contracts.Columns = slices.Clone(contracts.Columns)
	contracts.Columns[contracts.Column("cliente_id")].Name = "outra"
	parked := bind(t, l.conn, mapping.Options{OnSchemaChange: mapping.Park}, strings.ReplaceAll(rules, "%", "1"))
	if p := parks(t, parked, nil, change(&contracts, cdc.Insert, nil, values{"id": "1"}))[0]; p.Change != nil || !strings.Contains(p.Unkept, "child") {
		t.Errorf("a broken child: %d bytes, %q", len(p.Change), p.Unkept)
	}
}

// TestKeptForm: what an earlier version has kept is read. The text is as it was stored.
func TestKeptForm(t *testing.T) {
	t.Parallel()
	conn := connect(t, "alter table pedidos replica identity full")
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: p, table: pedidos, on: update, watch: [status], previous: true, columns: [id, status, total]}\n")
	const change = `{"Rule":"public.pedidos 0 p","N":3,"Child":true,"Change":{"Commit":4096,"Ordinal":2,"Tx":{"Commit":4096,"End":0,"Time":"2026-11-21T10:00:00Z","XID":7},"Op":2,` +
		`"Relation":{"OID":16400,"Schema":"public","Name":"pedidos","ReplicaIdentity":102,"Columns":[` +
		`{"Name":"empresa_id","Key":true,"Type":{"OID":23,"Schema":"pg_catalog","Name":"int4","Kind":1,"Elem":null,"TypeMod":-1,"Labels":null,"Fields":null,"Delim":44,"Extension":"","IsText":false,"Equals":false},"TypeMod":-1},` +
		`{"Name":"id","Key":true,"Type":{"OID":23,"Schema":"pg_catalog","Name":"int4","Kind":1,"Elem":null,"TypeMod":-1,"Labels":null,"Fields":null,"Delim":44,"Extension":"","IsText":false,"Equals":false},"TypeMod":-1},` +
		`{"Name":"status","Key":true,"Type":{"OID":1042,"Schema":"pg_catalog","Name":"bpchar","Kind":1,"Elem":null,"TypeMod":-1,"Labels":null,"Fields":null,"Delim":44,"Extension":"","IsText":false,"Equals":false},"TypeMod":6},` +
		`{"Name":"total","Key":true,"Type":{"OID":1700,"Schema":"pg_catalog","Name":"numeric","Kind":1,"Elem":null,"TypeMod":-1,"Labels":null,"Fields":null,"Delim":44,"Extension":"","IsText":false,"Equals":false},"TypeMod":786438}],"Weaker":null},` +
		`"New":[{"State":2,"Text":"MQ=="},{"State":2,"Text":"Nw=="},{"State":1,"Text":null},{"State":2,"Text":"MS41MA=="}],` +
		`"Old":[{"State":2,"Text":"MQ=="},{"State":2,"Text":"Nw=="},{"State":2,"Text":"MDE="},{"State":2,"Text":"MS41MA=="}]}}`
	p := mapping.Parked{Position: cdc.Position{Commit: 4096, Ordinal: 2}, Change: []byte(change)}
	diff(t, "events", redrive(t, rs, nil, p).all, []got{{N: 3, Type: "p", Key: "7", Data: `{"id":7,"status":null,"total":1.50}`, Previous: `{"status":"01"}`}})
}

// TestParkedSubject: a parked change has the tenant and the key that its event would have
// had, where the row alone tells them.
func TestParkedSubject(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	clients := relation(t, conn, "", "clientes")
	update := change(clients, cdc.Update, client(), with(client(), values{"nome": "Zoé"}))
	const lookup = "\n    lookup: {outro: select id from clientes where id = new.id}"
	for name, c := range map[string]struct {
		rule string
		want string // empty: they are not known
	}{
		"row":               {"tenant: empresa_id\n    data: {x: 1 / (id - id)}", "1/7"},
		"no tenant":         {"key: nome\n    data: {x: 1 / (id - id)}", "/Zoé"},
		"out of budget":     {"tenant: empresa_id\n    data: {x: \"length(repeat(nome, 900000000))\"}", "1/7"},
		"when":              {"tenant: empresa_id\n    when: 1 / (id - id) = 1\n    columns: [id]", "1/7"},
		"tenant fails":      {"tenant: 1 / (id - id)\n    columns: [id]", ""},
		"key fails":         {"key: 1 / (id - id)\n    columns: [id]", ""},
		"tenant of lookup":  {"tenant: outro.id" + lookup + "\n    when: 1 / (id - id) = 1\n    columns: [id]", ""},
		"lookup of another": {"tenant: empresa_id" + lookup + "\n    when: 1 / (id - id) = 1\n    data: {x: outro.id}", "1/7"},
	} {
		t.Run(name, func(t *testing.T) {
			rs := bind(t, conn, mapping.Options{}, "rules:\n  - event: cliente\n    table: clientes\n    on: update\n    "+c.rule+"\n")
			p := parks(t, rs, nil, update)[0]
			got := ""
			if p.Known {
				got = string(p.Tenant) + "/" + string(p.Key)
			}
			if got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}
