package expr_test

import (
	"testing"

	"gancho/cdc"
	"gancho/mapping/expr"
)

func TestLookupColumns(t *testing.T) {
	t.Parallel()
	text := &cdc.Type{OID: 25, Schema: "pg_catalog", Name: "text", Kind: cdc.KindBase, TypeMod: -1}
	number := &cdc.Type{OID: 23, Schema: "pg_catalog", Name: "int4", Kind: cdc.KindBase, TypeMod: -1}
	column := func(name string, typ *cdc.Type) cdc.Column { return cdc.Column{Name: name, Type: typ, TypeMod: -1} }
	scope := &expr.Scope{
		Relation: &cdc.Relation{Name: "cobrancas", Columns: []cdc.Column{column("id", number)}}, New: true, Insert: true,
		Lookups: []expr.Lookup{
			{Name: "empresa", Columns: []cdc.Column{column("razao", text)}},
			{Name: "cliente", Columns: []cdc.Column{column("nome", text), column("idade", number)}},
		},
	}
	present := func(s string) cdc.Datum { return cdc.Datum{State: cdc.Present, Text: []byte(s)} }
	m := expr.NewMachine(expr.Settings{})
	for _, round := range []struct {
		name, age cdc.Datum
		want      string
	}{
		{present("Ana"), present("41"), "Ana tem 42, ACME"},
		{cdc.Datum{State: cdc.Null}, present("7"), "ninguém tem 8, ACME"}, // nothing of the change before
	} {
		m.Load(&cdc.Change{Op: cdc.Insert, Relation: scope.Relation, New: []cdc.Datum{present("1")}, Tx: &cdc.Transaction{}})
		m.LoadLookup(0, []cdc.Datum{present("ACME")})
		m.LoadLookup(1, []cdc.Datum{round.name, round.age})
		e, err := expr.Compile(`coalesce(cliente.nome, 'ninguém') || ' tem ' || (cliente.idade + id)::text || ', ' || empresa.razao`, scope)
		if err != nil {
			t.Fatal(err)
		}
		got, _, err := m.AppendText(nil, e)
		if err != nil || string(got) != round.want {
			t.Errorf("%q, %v; want %q", got, err, round.want)
		}
		if n := len(e.Lookups()); n != 3 || len(e.Columns()) != 1 {
			t.Errorf("%d columns of lookups, %d of the table", n, len(e.Columns()))
		}
	}
	early := *scope
	early.Early = true
	for _, c := range []struct {
		src, want string
		scope     *expr.Scope
	}{
		{"cliente.nme", `column "nme" is not in lookup cliente; did you mean "nome"?`, scope},
		{"clinte.nome", `clinte is not a row of this rule; did you mean cliente.nome?`, scope},
		{"cliente.nome = 1", `text cannot be compared with integer`, scope},
		{"changed(cliente.nome)", `changed() needs a column`, scope},
		{"cliente.nome is null", `lookup cliente is read only after the rule has fired; use columns of the table here; a lookup can be used in data, tenant and key`, &early},
	} {
		_, err := expr.Compile(c.src, c.scope)
		if err == nil || len(err.Error()) < len(c.want) || err.Error()[:len(c.want)] != c.want {
			t.Errorf("%s: %v; want %s", c.src, err, c.want)
		}
	}
}
