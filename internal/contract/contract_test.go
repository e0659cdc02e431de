package contract_test

import (
	"encoding/json"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/contract"
	own "gancho/internal/jsonschema"
	"gancho/internal/testservers"
)

const variedSchema = `
create domain sn as char(1) check (value in ('S', 'N'));
create domain codigo as varchar(14);
create type sentido as enum ('ENTRADA', 'SAIDA');
create type par as (a int, b text);
create table pessoas (id int primary key, nome text not null, cpf varchar(14));
insert into pessoas values (1, 'Ana', '11144477735');
create table varios (id bigint primary key, empresa int not null, status char(2) not null check (status in ('A', 'L', 'CC')), faixa int check (faixa = 1 or faixa = 2), sn sn not null,
  nome varchar(100) not null, apelido varchar(5), nota text, grande text not null, valor numeric(12, 2) not null, livre numeric, real8 float8, n2 smallint, ok boolean not null, dia date not null, em timestamp not null,
  tz timestamptz, hora time, u uuid, j jsonb not null, js json, b bytea, e sentido not null, ai int[] not null, at text[], p par, dur interval, cod codigo, pessoa int, r int4range, m money);
create table cheia (id int primary key, nome text not null, grande text); alter table cheia replica identity full;
create table chave (id int primary key, nome text not null);
create table apaga (id int primary key, nome text not null);`

const variedRules = `
rules:
  - event: varios.gravado
    table: varios
    on: [insert, update]
    tenant: empresa
    on_error: null
    columns: [id, status, faixa, sn, nome, apelido, nota, grande, valor, livre, real8, n2, ok, dia, em, tz, hora, u, j, js, b, e, ai, at, p, dur, cod, r, m]
    lookup:
      pessoa: select nome, cpf from pessoas where id = new.pessoa
    data:
      situacao: case status when 'A' then 'aberto' when 'L' then 'pago' end
      nivel: case when faixa = 1 then 1 else 2 end
      tipo: case when ok then 'sim' else 'não' end
      maiusculo: upper(nome)
      apelidado: coalesce(apelido, nome)
      inteiro: nota::int
      dobro: valor * 2
      ano: extract(year from em)
      local: em + interval '1 day'
      nada: "null"
      fixo: "'v1'"
      pessoa: {nome: pessoa.nome, cpf: mask_cpf(pessoa.cpf)}
      segredo: "hmac(nome, 'chave')"
      lista: [id, nome, {valor: valor}]
      longa: [grande]
      sub: "(select count(*) from pessoas)"
      campo: j ->> 'a'
  - event: cheia.mudou
    table: cheia
    on: [insert, update, delete]
    previous: true
    columns: [id, nome, grande]
  - {event: chave.apagada, table: chave, on: delete, columns: [id, nome]}
  - {event: dois, table: apaga, on: [insert, update], numbers: string, data: {id: id, nome: nome}}
  - {event: parada, table: cheia, on: [insert, update], when: nome is not null, after: 1h, columns: [id, nome]}
  - {event: dois, table: cheia, on: [update, truncate], data: {total: "1", texto: "'x'"}}
`

var variedChanges = []string{
	`insert into varios (id, empresa, status, sn, nome, grande, valor, ok, dia, em, j, e, ai)
	 values (9223372036854775807, 1, 'A', 'S', 'Ana', repeat('x', 10), 1, true, '2026-01-31', '2026-01-31 10:00', '{"a": 1.50}', 'ENTRADA', '{}')`,
	`insert into varios values (2, 2, 'CC', 2, 'N', repeat('n', 100), 'curto', '12', (select string_agg(md5(i::text), '') from generate_series(1, 2000) i), 'NaN', 123456789012345678901234567890.123456789, 'Infinity', -32768, false, 'infinity', '1899-12-30 00:00',
	  '-infinity', '10:00', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', 'null', '[1, {"a": null}]', '\x00ff', 'SAIDA', '{{1,2},{3,null}}', '{a,null}', row(1, null), '1 day', 'x', 1, '[1,5)', 12.34)`,
	"update varios set nome = 'Bia' where id = 2", // grande is not sent
	"update varios set nota = 'doze', real8 = 1e-300, livre = 'NaN', tz = now(), p = null",
	"insert into cheia values (1, 'a', (select string_agg(md5(i::text), '') from generate_series(1, 2000) i)), (2, 'b', null)",
	"update cheia set nome = 'c'", "update cheia set grande = 'k' where id = 1", "update cheia set nome = nome", "delete from cheia where id = 1",
	"insert into chave values (1, 'x')", "delete from chave", "insert into apaga values (1, 'x')", "update apaga set nome = 'y'", "truncate cheia",
}

// formats are all forms of bodies.
func formats() []*endpoint.Endpoint {
	var out []*endpoint.Endpoint
	for _, f := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatCloudEvents, endpoint.FormatCloudEventsBinary, endpoint.FormatBare, endpoint.FormatForm} {
		out = append(out, &endpoint.Endpoint{Format: f}, &endpoint.Endpoint{Format: f, StringNumbers: true})
	}
	return append(out, &endpoint.Endpoint{Format: endpoint.FormatChat, Style: "slack"})
}

// body is what a request carries, as a value of JSON.
func body(t *testing.T, ep *endpoint.Endpoint, m *webhook.Message) any {
	t.Helper()
	_, text := webhook.Draft(ep, m)
	if ep.Format != endpoint.FormatForm {
		return value(t, text)
	}
	tree := map[string]any{}
	for field := range strings.SplitSeq(string(text), "&") {
		name, v, _ := strings.Cut(field, "=")
		name, err := url.QueryUnescape(name)
		if err != nil {
			t.Fatal(err)
		}
		v, err = url.QueryUnescape(v)
		if err != nil {
			t.Fatal(err)
		}
		at := tree
		path := strings.FieldsFunc(name, func(r rune) bool { return r == '[' || r == ']' })
		for _, key := range path[:len(path)-1] {
			if _, ok := at[key].(map[string]any); !ok {
				at[key] = map[string]any{}
			}
			at = at[key].(map[string]any)
		}
		at[path[len(path)-1]] = v
	}
	return lists(tree)
}

// lists makes a list of what has its keys, as PHP's json_encode does.
func lists(v any) any {
	tree, ok := v.(map[string]any)
	if !ok {
		return v
	}
	var list []any
	for i := range len(tree) {
		if item, ok := tree[strconv.Itoa(i)]; ok {
			list = append(list, lists(item))
		}
	}
	if len(list) == len(tree) {
		return list
	}
	for key := range tree {
		tree[key] = lists(tree[key])
	}
	return tree
}

func event(t *testing.T, events []contract.Event, name string) *contract.Event {
	t.Helper()
	i := slices.IndexFunc(events, func(e contract.Event) bool { return e.Name == name })
	if i < 0 {
		t.Fatalf("no event %s", name)
	}
	return &events[i]
}

// TestContract describes the events of real changes once, and looks at it from all sides.
func TestContract(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := open(t, variedSchema, variedRules)
	for name, test := range map[string]func(*testing.T, *source){
		"bodies": testBodies, "fields": testFields, "samples": testSamples, "bundle": testBundle, "envelope": testEnvelope, "documents": testDocuments,
	} {
		t.Run(name, func(t *testing.T) { test(t, s) })
	}
}

func testDocuments(t *testing.T, s *source) {
	official, async := metaSchema(t, "openapi-3.1.json"), metaSchema(t, "asyncapi-3.0.json")
	for i, ep := range formats() {
		if ep.StringNumbers == (i%4 == 1) { // each format once
			openAPI(t, official, s.events, ep)
			asyncAPI(t, async, s.events, ep)
		}
	}
	ep := &endpoint.Endpoint{Batch: endpoint.Batching{Max: 10}}
	openAPI(t, official, s.events, ep)
	asyncAPI(t, async, s.events, ep)
	golden(t, "openapi.golden.json", document(t, contract.OpenAPI(s.events[1:3], ep)))
	golden(t, "asyncapi.golden.json", document(t, contract.AsyncAPI(s.events[1:3], &endpoint.Endpoint{Format: endpoint.FormatCloudEventsBinary})))
	golden(t, "events.golden.md", string(contract.Markdown(s.events, &endpoint.Endpoint{})))
	golden(t, "schema.golden.json", document(t, event(t, s.events, "chave.apagada").Schema(&endpoint.Endpoint{})))
}

func document(t *testing.T, v any) string {
	t.Helper()
	text, err := own.Encode(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// testBodies: what the mapper and the formats make of real changes is what the schemas say,
// and what is otherwise is not.
func testBodies(t *testing.T, s *source) {
	s.reads.Store(true)
	messages := s.do(variedChanges...)
	if len(s.parked) > 0 {
		t.Errorf("parked: %q", s.parked)
	}
	if diff := cmp.Diff(encoded(t, contract.Bundle(s.events, &endpoint.Endpoint{})), encoded(t, contract.Bundle(s.saved, &endpoint.Endpoint{}))); diff != "" {
		t.Errorf("the contract of the saved catalogue is another (-live +saved):\n%s", diff)
	}
	seen := map[string]int{}
	for _, m := range messages {
		seen[m.Type+" "+m.Op]++
	}
	want := map[string]int{
		"varios.gravado insert": 2, "varios.gravado update": 3, "cheia.mudou insert": 2, "cheia.mudou update": 5, "cheia.mudou delete": 1,
		"chave.apagada delete": 1, "dois insert": 1, "dois update": 6, "parada timer": 2, "dois truncate": 1,
		"varios.gravado read": 2, "cheia.mudou read": 2, "dois read": 1,
	}
	if diff := cmp.Diff(want, seen); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
	for _, ep := range formats() {
		schemas := map[string]*jsonschema.Schema{}
		for i := range s.events {
			schemas[s.events[i].Name] = compiled(t, s.events[i].Schema(ep), "")
		}
		for _, m := range messages {
			schema := schemas[m.Type]
			v := body(t, ep, m)
			if err := schema.Validate(v); err != nil {
				t.Errorf("%s %s as %s: %v\n%s", m.Type, m.Op, ep.Format, err, encoded(t, v))
				continue
			}
			if ep.Format == endpoint.FormatStandard && !ep.StringNumbers || ep.Format == endpoint.FormatCloudEvents && ep.StringNumbers {
				refused(t, schema, v, m)
			}
		}
	}
}

// optional are the members of an envelope that may be missing, and by event those of its
// payload in an update, because a column may be stored out of line.
var optional = map[string][]string{
	"":               {"unchanged", "errors"},
	"varios.gravado": {"nome", "nota", "grande", "livre", "at", "p", "r", "js", "j", "ai", "b", "campo", "maiusculo", "apelidado", "inteiro", "longa", "segredo", "lista", "cod"}, // cod: next to the longest numeric
	"dois":           {"nome"},
}

// refused checks that bodies with a field of another type are refused, and those without
// one, where the format says of which operation it is.
func refused(t *testing.T, schema *jsonschema.Schema, v any, m *webhook.Message) {
	t.Helper()
	object := v.(map[string]any)
	if data, ok := object["data"].(map[string]any); ok {
		refusedIn(t, schema, v, object, m)
		object = data
	}
	refusedIn(t, schema, v, object, m)
}

func refusedIn(t *testing.T, schema *jsonschema.Schema, whole any, object map[string]any, m *webhook.Message) {
	t.Helper()
	for _, name := range slices.Sorted(maps.Keys(object)) {
		was := object[name]
		if name == "j" || name == "js" { // any JSON
			continue
		}
		object[name] = map[string]any{"wrong": true}
		if _, isObject := was.(map[string]any); isObject {
			object[name] = true
		}
		if err := schema.Validate(whole); err == nil {
			t.Errorf("%s %s: another type of %s is accepted", m.Type, m.Op, name)
		}
		delete(object, name)
		missing := slices.Contains(optional[""], name) || m.Op == "update" && slices.Contains(optional[m.Type], name)
		if err := schema.Validate(whole); (err == nil) != missing {
			t.Errorf("%s %s: a body without %s: %v", m.Type, m.Op, name, err)
		}
		object[name] = was
	}
}

// testFields: what the schema says of each field of the first event.
func testFields(t *testing.T, s *source) {
	var out strings.Builder
	for i := range s.events {
		for _, v := range s.events[i].Variants {
			out.WriteString(s.events[i].Name + " " + strings.Join(v.Ops, ", ") + "\n")
			for _, p := range v.Data.Properties {
				required := "  "
				if slices.Contains(v.Data.Required, p.Name) {
					required = "* "
				}
				out.WriteString(required + p.Name + " " + encoded(t, p.Schema) + "\n")
			}
		}
	}
	golden(t, "fields.golden", out.String())
}

// testSamples: a sample is what its schema says, has nothing that is hidden, and is the same
// each time.
func testSamples(t *testing.T, s *source) {
	for i := range s.events {
		e := &s.events[i]
		for _, ep := range formats() {
			_, sample := e.Sample(ep)
			_, again := e.Sample(ep)
			if string(sample) != string(again) {
				t.Errorf("%s: the samples differ:\n%s\n%s", e.Name, sample, again)
			}
			if ep.Format == endpoint.FormatForm {
				continue
			}
			if err := compiled(t, e.Schema(ep), "").Validate(value(t, sample)); err != nil {
				t.Errorf("%s as %s: %v\n%s", e.Name, ep.Format, err, sample)
			}
		}
	}
	_, sample := event(t, s.events, "varios.gravado").Sample(&endpoint.Endpoint{Format: endpoint.FormatBare})
	var data struct {
		Pessoa  struct{ Nome, CPF string }
		Segredo string
	}
	if err := json.Unmarshal(sample, &data); err != nil || data.Pessoa.CPF != "***" || data.Segredo != "***" || data.Pessoa.Nome == "***" {
		t.Errorf("the sample is not masked (%v): %s", err, sample)
	}
}

// testBundle: the schemas of all events in one document hold what each of them does.
func testBundle(t *testing.T, s *source) {
	ep := &endpoint.Endpoint{}
	schema := compiled(t, contract.Bundle(s.events, ep), "")
	_, sample := s.events[1].Sample(ep)
	if err := schema.Validate(value(t, sample)); err != nil {
		t.Errorf("%v\n%s", err, sample)
	}
	if err := schema.Validate(value(t, []byte(strings.Replace(string(sample), s.events[1].Name, "outro", 1)))); err == nil {
		t.Error("an event that no rule makes is accepted")
	}
}

// testEnvelope: every member that a format writes is described.
func testEnvelope(t *testing.T, s *source) {
	for _, ep := range formats() {
		described := map[string]bool{}
		var collect func(o *own.Schema)
		collect = func(o *own.Schema) {
			for _, p := range o.Properties {
				described[p.Name] = true
			}
			for _, a := range o.AnyOf {
				collect(a)
			}
		}
		for i := range s.events {
			for _, d := range s.events[i].Schema(ep).Defs {
				if d.Name == ep.Format.String() || ep.Format == endpoint.FormatCloudEventsBinary && strings.HasPrefix(d.Name, "headers") {
					collect(d.Schema)
				}
			}
		}
		for _, m := range webhook.Envelope(ep.Format) {
			if !described[m.Name] {
				t.Errorf("%s: %s is not described", ep.Format, m.Name)
			}
		}
	}
}
