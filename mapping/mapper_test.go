package mapping_test

import (
	"context"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// got is an event or a parked change, copied.
type got struct {
	N                                                    int
	Type, Tenant, Key, Data, Previous, Unchanged, Errors string
	Parked, Row                                          string
}

// recorder is a sink.
type recorder struct {
	all      []got
	position []cdc.Position
	times    []time.Time
	rules    []string
}

func (r *recorder) Event(e *mapping.Event) error {
	r.all = append(r.all, got{
		N: e.N, Type: e.Type, Tenant: string(e.Tenant), Key: string(e.Key),
		Data: string(e.Data), Previous: string(e.Previous), Unchanged: string(e.Unchanged), Errors: string(e.Errors),
	})
	r.position, r.times, r.rules = append(r.position, e.Position), append(r.times, e.Time), append(r.rules, e.Rule)
	return nil
}

func (r *recorder) Park(p *mapping.Parked) error {
	r.all = append(r.all, got{N: p.N, Type: p.Type, Parked: p.Reason, Row: string(p.Row)})
	r.position, r.times, r.rules = append(r.position, p.Position), append(r.times, p.Time), append(r.rules, p.Rule)
	return nil
}

// parse reads rules from a text; their file is rules.yaml in a temporary directory.
func parse(t testing.TB, o mapping.Options, text string) *mapping.Rules {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	o.Files = []string{file}
	rules, err := mapping.Parse(o)
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

func bind(t testing.TB, conn *pgx.Conn, o mapping.Options, text string) *mapping.Ruleset {
	t.Helper()
	rs, err := parse(t, o, text).Bind(context.Background(), conn)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func relation(t testing.TB, conn *pgx.Conn, schema, name string) *cdc.Relation {
	t.Helper()
	table, err := cdc.LoadTable(context.Background(), conn, "", schema, name)
	if err != nil {
		t.Fatal(err)
	}
	return table.Relation
}

// row makes a row of a relation from values by column: a string, nil for null,
// a State; a column without a value is null.
func row(rel *cdc.Relation, values map[string]any) []cdc.Datum {
	out := make([]cdc.Datum, len(rel.Columns))
	for i, c := range rel.Columns {
		switch v := values[c.Name].(type) {
		case nil:
			out[i] = cdc.Datum{State: cdc.Null}
		case string:
			out[i] = cdc.Datum{State: cdc.Present, Text: []byte(v)}
		case cdc.State:
			out[i] = cdc.Datum{State: v}
		}
	}
	return out
}

type values = map[string]any

func with(base values, more values) values {
	out := maps.Clone(base)
	maps.Copy(out, more)
	return out
}

// newerCommit is a position after the rules of any test were bound.
const newerCommit cdc.LSN = 1 << 51

func change(rel *cdc.Relation, op cdc.Op, before, after values) *cdc.Change {
	c := &cdc.Change{
		Position: cdc.Position{Commit: newerCommit, Ordinal: 7}, Op: op, Relation: rel,
		Tx: &cdc.Transaction{Commit: newerCommit, Time: time.Date(2026, 11, 21, 17, 2, 3, 456789000, time.UTC)},
	}
	if before != nil {
		c.Old = row(rel, before)
	}
	if after != nil {
		c.New = row(rel, after)
	}
	return c
}

// run maps changes and returns what came of them.
func run(t testing.TB, m *mapping.Mapper, changes ...*cdc.Change) []got {
	t.Helper()
	var r recorder
	for _, c := range changes {
		if err := m.Map(c, &r); err != nil {
			t.Fatal(err)
		}
	}
	return r.all
}

func diff(t testing.TB, what string, got, want any) {
	t.Helper()
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("%s: -want +got\n%s", what, d)
	}
}

func saoPaulo(t testing.TB) *time.Location {
	t.Helper()
	l, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func client() values {
	return values{
		"id": "7", "empresa_id": "1", "codigo": "C1    ", "nome": "Ana", "cpf_cnpj": "12345678901", "situacao": "AT", "ativo": "S",
		"saldo": "10.50", "observacao": "longa", "dt_cadastro": "2026-11-21 14:00:00", "tags": "{a,NULL}",
	}
}

func TestMapOperations(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{Location: saoPaulo(t)}, `
rules:
  - event: cliente.novo
    table: clientes
    on: insert
    when: new.situacao <> 'VI' and ativo = 'S'
    tenant: codigo
    data:
      id: id
      saldo: saldo
      cadastro: dt_cadastro
      agora: now()
      fixo: {lista: [1, true, null, "'x'", tags], nulo: null}
  - event: cliente.mudou
    table: public.clientes
    on: [insert, update, delete]
    tenant: empresa_id
    key: codigo
    numbers: string
    columns: [codigo, saldo]
  - event: clientes.esvaziada
    table: clientes
    on: truncate
    data: {tabela: "'clientes'"}
`), nil)
	novo := got{
		Type: "cliente.novo", Tenant: "C1", Key: "7",
		Data: `{"id":7,"saldo":10.50,"cadastro":"2026-11-21T14:00:00-03:00","agora":"2026-11-21T14:02:03.456789-03:00","fixo":{"lista":[1,true,null,"x",["a",null]],"nulo":null}}`,
	}
	mudou := got{N: 1, Type: "cliente.mudou", Tenant: "1", Key: "C1", Data: `{"codigo":"C1","saldo":"10.50"}`}
	mudouFirst := mudou
	mudouFirst.N = 0 // the rule for inserts alone is not counted among those for updates

	diff(t, "insert", run(t, m, change(rel, cdc.Insert, nil, client())), []got{novo, mudou})
	diff(t, "insert held back by when", run(t, m, change(rel, cdc.Insert, nil, with(client(), values{"situacao": "VI"}))), []got{mudou})
	diff(t, "insert with null in when", run(t, m, change(rel, cdc.Insert, nil, with(client(), values{"ativo": nil}))), []got{mudou})
	diff(t, "update", run(t, m, change(rel, cdc.Update, client(), client())), []got{mudouFirst})
	diff(t, "delete", run(t, m, change(rel, cdc.Delete, client(), nil)), []got{mudouFirst})
	diff(t, "truncate", run(t, m, change(rel, cdc.Truncate, nil, nil)), []got{{Type: "clientes.esvaziada", Data: `{"tabela":"clientes"}`}})
	diff(t, "other table", run(t, m, change(relation(t, conn, "", "contratos"), cdc.Insert, nil, values{"id": "1"})), []got(nil))
}

func TestMapKeepsPosition(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - {event: a, table: clientes, on: insert, columns: [id]}
  - {event: b, table: clientes, on: insert, data: {x: 1/(id-id)}}
`), nil)
	var r recorder
	c := change(rel, cdc.Insert, nil, client())
	if err := m.Map(c, &r); err != nil {
		t.Fatal(err)
	}
	diff(t, "positions", r.position, []cdc.Position{c.Position, c.Position})
	diff(t, "times", r.times, []time.Time{c.Tx.Time, c.Tx.Time})
	if len(r.rules) != 2 || !strings.HasSuffix(r.rules[0], "rules.yaml:3") || !strings.HasSuffix(r.rules[1], "rules.yaml:4") {
		t.Errorf("rules are %q", r.rules)
	}
}

func TestMapWatch(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - event: mudou
    table: clientes
    on: [insert, update]
    watch: [nome, codigo, saldo, observacao, extras, config, tags]
    columns: [id]
  - {event: todas, table: clientes, on: [insert, update], watch: all, columns: [id]}
`), nil)
	base := client()
	for _, c := range []struct {
		name          string
		before, after values
		fires         bool
	}{
		{"no-op save", nil, nil, false},
		{"touch", nil, values{"alterado_em": "2026-11-21 14:00:00+00", "situacao": "IN"}, false},
		{"text", nil, values{"nome": "Ana Maria"}, true},
		{"to null", nil, values{"codigo": nil}, true},
		{"from null", values{"saldo": nil}, nil, true},
		{"both null", values{"saldo": nil}, values{"saldo": nil}, false},
		{"numeric of another scale", nil, values{"saldo": "10.5"}, false},
		{"numeric", nil, values{"saldo": "10.51"}, true},
		{"large value left alone", nil, values{"observacao": cdc.Unchanged}, false},
		{"large value left alone and name", nil, values{"observacao": cdc.Unchanged, "nome": "Bia"}, true},
		{"jsonb equal as numbers", values{"extras": `{"a": 1.0}`}, values{"extras": `{"a": 1.00}`}, false},
		{"jsonb", values{"extras": `{"a": 1}`}, values{"extras": `{"a": 2}`}, true},
		{"json has no equality: the text decides", values{"config": `{"a":1}`}, values{"config": `{"a": 1}`}, true},
		{"array", nil, values{"tags": "{a,b}"}, true},
	} {
		events := run(t, m, change(rel, cdc.Update, with(base, c.before), with(with(base, c.before), c.after)))
		if c.name == "from null" {
			events = run(t, m, change(rel, cdc.Update, with(base, c.before), base))
		}
		want := []got(nil)
		if c.fires {
			want = []got{{Type: "mudou", Key: "7", Data: `{"id":7}`}}
		}
		if c.fires || c.name == "touch" {
			want = append(want, got{N: 1, Type: "todas", Key: "7", Data: `{"id":7}`})
		}
		diff(t, c.name, events, want)
	}
	diff(t, "insert", run(t, m, change(rel, cdc.Insert, nil, base)), []got{{Type: "mudou", Key: "7", Data: `{"id":7}`}, {N: 1, Type: "todas", Key: "7", Data: `{"id":7}`}})
}

// TestOnError: what fails for a row's values is null and named; what is not a leaf, or no
// fault of the values, parks the change.
func TestOnError(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	const rules = `
rules:
  - event: mudou
    table: clientes
    on: [insert, update]
    on_error: null
    previous: true
    data:
      id: id
      codigo: codigo::int
      ficha: {saldo: 100 / saldo, nome: nome}
      lista: [nome::int, 1]
      grande: observacao::int
      "a.b": codigo::int
      reserva: [observacao, nome::int]
  - {event: parada, table: clientes, on: insert, data: {codigo: codigo::int}}
  - {event: chave, table: clientes, on: insert, on_error: null, key: codigo::int, columns: [id]}
  - {event: park, table: clientes, on: insert, on_error: park, columns: [id]}
`
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, rules), nil)
	base := with(client(), values{"observacao": "12", "saldo": "4"})
	parked := func(n int, event, path string) got {
		return got{N: n, Type: event, Parked: path + `: invalid input syntax for type integer (SQLSTATE 22P02)`}
	}
	insert := run(t, m, change(rel, cdc.Insert, nil, base))
	for i := range insert {
		insert[i].Row = ""
		if _, reason, found := strings.Cut(insert[i].Parked, "data.codigo: "); found {
			insert[i].Parked = "data.codigo: " + reason
		}
		if _, reason, found := strings.Cut(insert[i].Parked, "key: "); found {
			insert[i].Parked = "key: " + reason
		}
	}
	diff(t, "insert", insert, []got{
		{
			Type: "mudou", Key: "7", Data: `{"id":7,"codigo":null,"ficha":{"saldo":25.0000000000000000,"nome":"Ana"},"lista":[null,1],"grande":12,"a.b":null,"reserva":["12",null]}`,
			Errors: `["codigo","lista.0","a.b","reserva.1"]`,
		},
		parked(1, "parada", "data.codigo"), parked(2, "chave", "key"), {N: 3, Type: "park", Key: "7", Data: `{"id":7}`},
	})
	diff(t, "update", run(t, m, change(rel, cdc.Update, with(base, values{"codigo": "1", "saldo": "0", "nome": "1", "observacao": nil}), with(base, values{"nome": "2", "codigo": "x", "observacao": cdc.Unchanged}))), []got{{
		Type: "mudou", Key: "7", Data: `{"id":7,"codigo":null,"ficha":{"saldo":25.0000000000000000,"nome":"2"},"lista":[2,1],"a.b":null}`,
		Previous:  `{"codigo":1,"ficha":{"saldo":null,"nome":"1"},"lista":[1,1],"a.b":1}`,
		Unchanged: `["grande","reserva"]`, Errors: `["codigo","a.b","previous.ficha.saldo"]`,
	}})
}

func TestMapUnchanged(t *testing.T) {
	t.Parallel()
	conn := connect(t, "alter table clientes replica identity default")
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - event: mudou
    table: clientes
    on: [update, delete]
    columns: [id, observacao]
    data:
      ficha: {obs: upper(observacao), nome: nome}
      lista: [nome, observacao]
      tudo: {so: observacao}
      ou: coalesce(nome, observacao)
`), nil)
	toast := with(client(), values{"observacao": cdc.Unchanged})
	diff(t, "update", run(t, m, change(rel, cdc.Update, nil, toast)), []got{{
		Type: "mudou", Key: "7", Data: `{"id":7,"ficha":{"nome":"Ana"},"tudo":{},"ou":"Ana"}`,
		Unchanged: `["observacao","ficha.obs","lista","tudo.so"]`,
	}})
	onlyKey := values{}
	for _, c := range rel.Columns {
		onlyKey[c.Name] = cdc.Missing
	}
	onlyKey["id"] = "7"
	diff(t, "delete", run(t, m, change(rel, cdc.Delete, onlyKey, nil)), []got{{
		Type: "mudou", Key: "7", Data: `{"id":7,"ficha":{},"tudo":{}}`,
		Unchanged: `["observacao","ficha.obs","ficha.nome","lista","tudo.so","ou"]`,
	}})
	diff(t, "known", run(t, m, change(rel, cdc.Update, nil, with(client(), values{"observacao": nil}))), []got{{
		Type: "mudou", Key: "7", Data: `{"id":7,"observacao":null,"ficha":{"obs":null,"nome":"Ana"},"lista":["Ana",null],"tudo":{"so":null},"ou":"Ana"}`,
	}})
}

func TestMapPrevious(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - event: mudou
    table: clientes
    on: [insert, update]
    previous: true
    columns: [id, nome]
    data:
      iniciais: left(nome, 1)
      cadastro: {cpf: cpf_cnpj, obs: observacao, fixo: 1}
      lista: [empresa_id, situacao, "'x'"]
      ontem: coalesce(became(situacao, 'AT'), false)
`), nil)
	base := client()
	one := func(data, previous, unchanged string) []got {
		return []got{{Type: "mudou", Key: "7", Data: data, Previous: previous, Unchanged: unchanged}}
	}
	const same = `{"id":7,"nome":"Ana","iniciais":"A","cadastro":{"cpf":"12345678901","obs":"longa","fixo":1},"lista":[1,"AT","x"],"ontem":false}`
	diff(t, "nothing shown", run(t, m, change(rel, cdc.Update, base, with(base, values{"ativo": "N"}))), one(same, `{}`, ""))
	diff(t, "insert", run(t, m, change(rel, cdc.Insert, nil, with(base, values{"situacao": "IN"}))),
		one(strings.Replace(same, `"AT"`, `"IN"`, 1), "", ""))
	diff(t, "changes", run(t, m, change(rel, cdc.Update,
		with(base, values{"nome": "Anabela", "cpf_cnpj": nil, "situacao": "IN"}), base)),
		one(strings.Replace(same, "false", "true", 1), `{"nome":"Anabela","cadastro":{"cpf":null},"lista":[1,"IN","x"]}`, ""))
	diff(t, "large value left alone", run(t, m, change(rel, cdc.Update, base, with(base, values{"observacao": cdc.Unchanged, "nome": "Bia"}))),
		one(strings.NewReplacer(`"obs":"longa",`, "", `"Ana"`, `"Bia"`, `"iniciais":"A"`, `"iniciais":"B"`).Replace(same), `{"nome":"Ana","iniciais":"A"}`, `["cadastro.obs"]`))
}

func TestMapKeys(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "acessos")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - {event: padrao, table: acessos, on: [insert, delete], columns: [id]}
  - {event: cliente, table: acessos, on: insert, tenant: "nullif(cliente_id, 5)", key: cliente_id, columns: [id]}
  - {event: estoque, table: estoque_movimentos, on: insert, columns: [produto_id]}
`), nil)
	access := values{"id": "9", "cliente_id": "5", "dt_acesso": "2026-11-21 10:00:00", "sentido": "ENTRADA", "liberado": "t"}
	diff(t, "null tenant", run(t, m, change(rel, cdc.Insert, nil, access)), []got{
		{N: 0, Type: "padrao", Key: "9,2026-11-21 10:00:00", Data: `{"id":9}`},
		{N: 1, Type: "cliente", Key: "5", Data: `{"id":9}`},
	})
	diff(t, "null key", run(t, m, change(rel, cdc.Insert, nil, with(access, values{"cliente_id": nil}))), []got{
		{N: 0, Type: "padrao", Key: "9,2026-11-21 10:00:00", Data: `{"id":9}`},
		{N: 1, Type: "cliente", Key: "9,2026-11-21 10:00:00", Data: `{"id":9}`},
	})
	diff(t, "no primary key", run(t, m, change(relation(t, conn, "", "estoque_movimentos"), cdc.Insert, nil, values{"produto_id": "3"})), []got{
		{Type: "estoque", Data: `{"produto_id":3}`},
	})
}

func TestMapParks(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{Deny: []string{"clientes.cpf_cnpj"}}, `
rules:
  - event: divide
    table: clientes
    on: [insert, update]
    when: cpf_cnpj is not null
    data:
      id: id
      taxa: 100 / (id - 7)
  - event: condicao
    table: clientes
    on: update
    when: old.situacao <> new.situacao or new.observacao like 'x%'
    columns: [id]
  - event: observada
    table: clientes
    on: update
    watch: [situacao, nome]
    when: ativo = 'S'
    columns: [id]
  - event: segue
    table: clientes
    on: [insert, update]
    columns: [id]
`), nil)
	events := run(t, m, change(rel, cdc.Insert, nil, client()))
	if len(events) != 2 || !strings.HasSuffix(events[0].Parked, `rules.yaml:9:13: evaluate data.taxa: division by zero (SQLSTATE 22012)`) {
		t.Fatalf("got %+v", events)
	}
	diff(t, "row", events[0].Row, `{"new":{"id":"7"}}`)
	diff(t, "other rules go on", events[1], got{N: 1, Type: "segue", Key: "7", Data: `{"id":7}`})

	// The stream of a time before REPLICA IDENTITY FULL.
	old := *rel
	old.ReplicaIdentity = 'd'
	old.Columns = slices.Clone(rel.Columns)
	for i := range old.Columns {
		old.Columns[i].Key = old.Columns[i].Name == "id"
	}
	base := with(client(), values{"id": "8"})
	events = run(t, m, change(&old, cdc.Update, nil, base))
	diff(t, "old row missing", events, []got{
		{N: 0, Type: "divide", Key: "8", Data: `{"id":8,"taxa":100}`},
		{
			N: 1, Type: "condicao", Parked: `when needs old.situacao, which is outside of the replica identity and was not sent; run ALTER TABLE public.clientes REPLICA IDENTITY FULL;`,
			Row: `{"new":{"id":"8","situacao":"AT","observacao":"longa"}}`,
		},
		{
			N: 2, Type: "observada", Parked: `watch needs old.nome, which is outside of the replica identity and was not sent; run ALTER TABLE public.clientes REPLICA IDENTITY FULL;`,
			Row: `{"new":{"id":"8","nome":"Ana","situacao":"AT","ativo":"S"}}`,
		},
		{N: 3, Type: "segue", Key: "8", Data: `{"id":8}`},
	})
	// false AND unknown is false, true OR unknown is true: then nothing is parked.
	events = run(t, m, change(&old, cdc.Update, nil, with(base, values{"ativo": "N", "observacao": "xis"})))
	diff(t, "decided all the same", events, []got{
		{N: 0, Type: "divide", Key: "8", Data: `{"id":8,"taxa":100}`},
		{N: 1, Type: "condicao", Key: "8", Data: `{"id":8}`},
		{N: 3, Type: "segue", Key: "8", Data: `{"id":8}`},
	})
}

func TestMapKeyThatWasNotSent(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - {event: a, table: clientes, on: delete, tenant: empresa_id, key: codigo, columns: [nome]}
`), nil)
	weaker := *relation(t, conn, "", "clientes") // since the rules were bound
	weaker.ReplicaIdentity = 'd'
	rel := &weaker
	key := values{}
	for _, c := range rel.Columns {
		key[c.Name] = cdc.Missing
	}
	key["id"], key["empresa_id"] = "7", "1"
	events := run(t, m, change(rel, cdc.Delete, key, nil))
	diff(t, "parked", events, []got{{
		Type: "a", Parked: `key needs old.codigo, which is outside of the replica identity and was not sent; run ALTER TABLE public.clientes REPLICA IDENTITY FULL;`,
		Row: `{"old":{"empresa_id":"1"}}`,
	}})
}

// A value that is no text is no null and is not left out: it parks what reads it,
// and has changed when its bytes have.
func TestMapInvalidText(t *testing.T) {
	t.Parallel()
	conn := connect(t)
	rel := relation(t, conn, "", "clientes")
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, `
rules:
  - {event: mostra, table: clientes, on: update, columns: [id, nome]}
  - {event: vista, table: clientes, on: update, watch: [nome], columns: [id]}
  - {event: liquida, table: clientes, on: update, watch: [nome], collapse: id, columns: [id]}
`), nil)
	update := func(was, now string) []got {
		c := change(rel, cdc.Update, client(), client())
		i := rel.Column("nome")
		c.Old[i], c.New[i] = cdc.Datum{State: cdc.Invalid, Text: []byte(was)}, cdc.Datum{State: cdc.Invalid, Text: []byte(now)}
		m.Begin(c.Tx)
		var r recorder
		if err := m.Map(c, &r); err != nil {
			t.Fatal(err)
		}
		if err := m.Commit(context.Background(), c.Tx, &r); err != nil {
			t.Fatal(err)
		}
		return r.all
	}
	parked := got{Type: "mostra", Parked: "columns.nome needs new.nome, whose bytes are no text in source.encoding; correct the row, or the setting", Row: `{"new":{"id":"7"},"old":{"id":"7"}}`}
	diff(t, "the same bytes", update("\x81", "\x81"), []got{parked})
	diff(t, "other bytes", update("\x81", "\x8d"), []got{parked, {N: 1, Type: "vista", Key: "7", Data: `{"id":7}`}, {Type: "liquida", Key: "7", Data: `{"id":7}`}})
}
