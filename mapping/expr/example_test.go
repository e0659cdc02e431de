package expr_test

import (
	"fmt"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// A rule's condition and one of its values, over an update of a charge.
func Example() {
	column := func(name string, oid uint32, typ string) cdc.Column {
		return cdc.Column{Name: name, Type: &cdc.Type{OID: oid, Schema: "pg_catalog", Name: typ, Kind: cdc.KindBase, TypeMod: -1}, TypeMod: -1}
	}
	row := func(values ...string) (data []cdc.Datum) {
		for _, v := range values {
			data = append(data, cdc.Datum{State: cdc.Present, Text: []byte(v)})
		}
		return data
	}
	charges := &cdc.Relation{Schema: "public", Name: "charges", Columns: []cdc.Column{
		column("id", 23, "int4"), column("status", 25, "text"), column("amount", 1700, "numeric"),
	}}
	scope := &expr.Scope{Relation: charges, Old: true, New: true, Update: true}

	when, err := expr.CompileBool("became(status, 'paid') and amount > 100", scope)
	if err != nil {
		fmt.Println(err)
		return
	}
	value, err := expr.Compile("round(amount * 1.1, 2)", scope)
	if err != nil {
		fmt.Println(err)
		return
	}
	_, err = expr.Compile("amuont * 1.1", scope)
	fmt.Println(err)

	m := expr.NewMachine(scope.Settings)
	m.Load(&cdc.Change{Op: cdc.Update, Relation: charges, Old: row("7", "open", "129.90"), New: row("7", "paid", "129.90")})
	fires, null, err := m.Bool(when)
	fmt.Println(fires, null, err)
	text, null, err := m.AppendText(nil, value)
	fmt.Println(string(text), null, err)
	// Output:
	// column "amuont" is not in table charges; did you mean "amount"?
	// true false <nil>
	// 142.89 false <nil>
}
