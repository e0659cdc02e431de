package mapping_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

const driftRules = `
rules:
  - event: mudou
    table: clientes
    on: update
    when: new.situacao = 'AT'
    columns: [id, nome]
  - event: segue
    table: clientes
    on: [update, insert]
    data: {id: id}
`

func TestSchemaDrift(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	for _, c := range []struct {
		name, statement, want string
		decides               bool // when can still be evaluated
	}{
		{name: "added", statement: "alter table clientes add column apelido text", want: ""},
		{name: "unused dropped", statement: "alter table clientes drop column email", want: ""},
		{name: "longer", statement: "alter table clientes alter column nome type varchar(200)", want: ""},
		{name: "dropped", statement: "alter table clientes drop column nome", decides: true,
			want: `column "nome" of table public.clientes is no longer in the stream; correct the rule and load it again`},
		{name: "renamed", statement: "alter table clientes rename column nome to nome_completo", decides: true,
			want: `column "nome" of table public.clientes is no longer in the stream; it may be nome_completo now; correct the rule and load it again`},
		{name: "widened", statement: "alter table clientes alter column nome type text, alter column id type bigint", want: ""},
		{name: "retyped", statement: "alter table clientes alter column nome type bytea using ''", decides: true,
			want: `column "nome" of table public.clientes has changed its type from varchar to bytea; check the rule and load it again`},
		{name: "condition dropped", statement: "alter table clientes drop column situacao",
			want: `column "situacao" of table public.clientes is no longer in the stream; correct the rule and load it again`},
		{name: "condition retyped", statement: "alter table clientes alter column situacao drop default, alter column situacao type int using 1",
			want: `column "situacao" of table public.clientes has changed its type from bpchar to int4; check the rule and load it again`},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			conn := connect(t)
			stop := bind(t, conn, mapping.Options{OnSchemaChange: mapping.Stop}, driftRules)
			park := bind(t, conn, mapping.Options{OnSchemaChange: mapping.Park}, driftRules)
			before := relation(t, conn, "", "clientes")
			if _, err := conn.Exec(context.Background(), c.statement); err != nil {
				t.Fatal(err)
			}
			after := relation(t, conn, "", "clientes")
			row := with(client(), values{"nome_completo": "Ana"})
			if strings.Contains(c.want, "int4") {
				row["situacao"] = "1"
			}

			var told []string
			tell := func(e *mapping.SchemaError) { told = append(told, e.Error()) }
			m := mapping.NewMapper(stop, tell)
			if n := len(run(t, m, change(before, cdc.Update, client(), client()))); n != 2 || told != nil {
				t.Fatalf("%d events and %q before the change", n, told)
			}
			if n := len(run(t, m, change(after, cdc.Insert, nil, row))); n != 1 {
				t.Errorf("%d events of an insert, which the rule is not for", n)
			}
			var r recorder
			err := m.Map(change(after, cdc.Update, row, row), &r)
			var drift *mapping.SchemaError
			switch {
			case c.want == "" && (err != nil || len(r.all) != 2 || told != nil):
				t.Errorf("a harmless change: %v, %d events, told %q", err, len(r.all), told)
			case c.want != "" && (!errors.As(err, &drift) || !strings.HasSuffix(err.Error(), "rules.yaml:3: apply rule mudou: "+c.want) || len(r.all) != 0):
				t.Errorf("got %v and %d events, want %s", err, len(r.all), c.want)
			case c.want != "" && (len(told) != 1 || told[0] != err.Error()):
				t.Errorf("told %q", told)
			}
			if c.want != "" {
				checkParked(t, mapping.NewMapper(park, nil), after, row, err.Error(), c.decides)
			}
		})
	}
}

// checkParked: under the policy Park the rule's changes are parked, those that
// it would not have matched are not when that can be known, and others go on.
func checkParked(t *testing.T, m *mapping.Mapper, rel *cdc.Relation, row values, reason string, decides bool) {
	t.Helper()
	// The two rulesets were read from two directories.
	reason = reason[strings.Index(reason, "rules.yaml:3"):]
	for _, matches := range []bool{true, false} {
		if !matches {
			row = with(row, values{"situacao": "IN"})
		}
		events := run(t, m, change(rel, cdc.Update, row, row))
		parked := matches || !decides
		if !parked {
			diff(t, "not matched", events, []got{{N: 1, Type: "segue", Key: "7", Data: `{"id":7}`}})
			continue
		}
		if len(events) != 2 || !strings.HasSuffix(events[0].Parked, reason) || events[0].N != 0 || events[0].Row == "" {
			t.Fatalf("got %+v, want one parked because %s", events, reason)
		}
		diff(t, "others", events[1], got{N: 1, Type: "segue", Key: "7", Data: `{"id":7}`})
	}
}

func TestSwap(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, driftRules), nil)
	c := change(rel, cdc.Insert, nil, client())
	diff(t, "before", run(t, m, c), []got{{N: 0, Type: "segue", Key: "7", Data: `{"id":7}`}})
	other := strings.Replace(driftRules, "{id: id}", "{nome: nome}", 1)
	m.Swap(bind(t, conn, mapping.Options{}, other))
	diff(t, "after", run(t, m, c), []got{{N: 0, Type: "segue", Key: "7", Data: `{"nome":"Ana"}`}})
	var versions [2][]string
	for i, text := range []string{driftRules, other} {
		for _, e := range parse(t, mapping.Options{}, text).EventTypes() {
			versions[i] = append(versions[i], e.Rules[0].Version)
		}
	}
	if a, b := versions[0], versions[1]; a[0] != b[0] || a[1] == b[1] {
		t.Errorf("versions are %v and %v: only the second rule has changed", a, b)
	}
}

// TestOlderChanges: a change that is older than the rules has the types of its time.
// What no rule can map says so.
func TestOlderChanges(t *testing.T) {
	t.Parallel()
	conn := connect(t, "alter table contratos replica identity full")
	rules := `
rules:
  - {event: soma, table: contratos, on: update, watch: [valor], key: cliente_id, data: {id: id, cliente: cliente_id, dobro: 2 * cliente_id, valor: valor}}
`
	before := relation(t, conn, "", "contratos")
	if _, err := conn.Exec(context.Background(), "alter table contratos alter cliente_id type bigint, alter valor type text"); err != nil {
		t.Fatal(err)
	}
	older := func(c *cdc.Change) *cdc.Change {
		c.Commit = 1
		return c
	}
	m := mapping.NewMapper(bind(t, conn, mapping.Options{OnSchemaChange: mapping.Stop}, rules), nil)
	was, row := values{"id": "1", "cliente_id": "5", "valor": "1.50"}, values{"id": "1", "cliente_id": "5", "valor": "2.50"}
	diff(t, "before it was altered", run(t, m, older(change(before, cdc.Update, was, row))), []got{{Type: "soma", Key: "5", Data: `{"id":1,"cliente":5,"dobro":10,"valor":2.50}`}})
	after := relation(t, conn, "", "contratos")
	big := with(row, values{"cliente_id": "5000000000"})
	diff(t, "after it", run(t, m, change(after, cdc.Update, was, big)), []got{{Type: "soma", Key: "5000000000", Data: `{"id":1,"cliente":5000000000,"dobro":10000000000,"valor":"2.50"}`}})

	// The rule names a column that did not exist then.
	if _, err := conn.Exec(context.Background(), "alter table contratos rename valor to preco"); err != nil {
		t.Fatal(err)
	}
	m = mapping.NewMapper(bind(t, conn, mapping.Options{OnSchemaChange: mapping.Stop}, strings.ReplaceAll(rules, "valor", "preco")), nil)
	err := m.Map(older(change(before, cdc.Update, was, row)), &recorder{})
	if err == nil || !strings.Contains(err.Error(), `column "preco" of table public.contratos did not exist when the change was made; the table was altered since`) {
		t.Errorf("got %v", err)
	}
}
