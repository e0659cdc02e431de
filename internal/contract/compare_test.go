package contract_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/internal/contract"
	"gancho/internal/jsonschema"
	"gancho/mapping"
)

// contractOf are the events of rules on a catalogue.
func contractOf(t *testing.T, catalogue, rules string) []contract.Event {
	t.Helper()
	c, err := mapping.ParseCatalogue("catalogue.yaml", []byte(catalogue))
	if err != nil {
		t.Fatal(err)
	}
	parsed := parse(t, rules)
	rs, err := parsed.BindTo(c)
	if err != nil {
		t.Fatal(err)
	}
	return contract.Events(parsed.EventTypes(), rs.Payloads())
}

const comparedCatalogue = `
settings: {encoding: UTF8, locale_provider: c, collation: C, ctype: C, lc_monetary: C, money_digits: 2, search_path: [public]}
types:
  - {name: public.estado, kind: enum, labels: [A, B]}
tables:
  - name: public.t
    replica_identity: f
    primary_key: [id]
    columns:
      - {name: id, type: int4, not_null: true}
      - {name: nome, type: varchar(40), not_null: true}
      - {name: valor, type: "numeric(12,2)", not_null: true}
      - {name: dia, type: date, not_null: true}
      - {name: uf, type: bpchar(2), not_null: true, values: [PR, SP]}
      - {name: e, type: public.estado, not_null: true}
      - {name: nota, type: text}
`

const comparedRules = `
rules:
  - event: gravado
    table: t
    on: [insert, update]
    columns: [id, nome, valor, dia, uf, e]
    data: {extra: {nota: nota, tipo: "case when id > 1 then 'a' else 'b' end"}, lista: [id, nome]}
  - {event: removido, table: t, on: delete, columns: [id, nome]}
`

// formerly are the schemas of events, read back.
func formerly(t *testing.T, events []contract.Event) []*jsonschema.Schema {
	t.Helper()
	var former []*jsonschema.Schema
	for _, e := range events {
		text, err := jsonschema.Encode(e.Schema(&endpoint.Endpoint{Format: endpoint.FormatForm}))
		if err != nil {
			t.Fatal(err)
		}
		s := &jsonschema.Schema{}
		if err := json.Unmarshal(text, s); err != nil {
			t.Fatal(err)
		}
		former = append(former, s)
	}
	return former
}

// compared are the changes from former schemas, with ! before what breaks.
func compared(t *testing.T, former []*jsonschema.Schema, catalogue, rules string) []string {
	t.Helper()
	var got []string
	for _, change := range contract.Compare(former, contractOf(t, catalogue, rules)) {
		text := change.Event + ": " + change.Text
		if change.Breaks {
			text = "! " + text
		}
		got = append(got, text)
	}
	return sortedTexts(got)
}

// TestCompare: each edit of the catalogue or the rules is what it is to receivers.
func TestCompare(t *testing.T) {
	t.Parallel()
	former := formerly(t, contractOf(t, comparedCatalogue, comparedRules))
	for name, c := range map[string]struct {
		catalogue, rules []string // replacements
		want             []string
	}{
		"nothing":         {},
		"event renamed":   {rules: []string{"removido", "apagado"}, want: []string{"! removido: it is no longer sent", "apagado: it is new"}},
		"field removed":   {rules: []string{"uf, e]", "e]"}, want: []string{"! gravado: data.uf is no longer sent"}},
		"nested removed":  {rules: []string{"nota: nota, ", ""}, want: []string{"! gravado: data.extra.nota is no longer sent"}},
		"field added":     {rules: []string{"delete, columns: [id, nome]}", "delete, columns: [id, nome, dia]}"}, want: []string{"removido: data.dia is new"}},
		"retyped":         {rules: []string{"columns: [id, nome]", "data: {id: id::text, nome: nome}"}, want: []string{"! removido: data.id was integer and is string"}},
		"nullable":        {catalogue: []string{"date, not_null: true", "date"}, want: []string{"! gravado: data.dia may now be null"}},
		"not null":        {catalogue: []string{"type: text}", "type: text, not_null: true}"}},
		"number nullable": {catalogue: []string{`(12,2)", not_null: true`, `(12,2)"`}, want: []string{"! gravado: data.valor may now be null"}},
		"identity":        {catalogue: []string{"replica_identity: f", "replica_identity: d", "int4, not_null", "int4, identity: true, not_null"}, want: []string{"! gravado: data.extra.nota may now be missing", "! removido: data.nome may now be missing", "gravado: unchanged is new", "removido: unchanged is new"}},
		"label added":     {catalogue: []string{"[A, B]", "[A, B, C]"}, want: []string{`! gravado: data.e may now be "C"`}},
		"label removed":   {catalogue: []string{"[A, B]", "[A]"}, want: []string{`gravado: data.e is no longer "B"`}},
		"check dropped":   {catalogue: []string{", values: [PR, SP]", ""}, want: []string{"! gravado: data.uf was one of `\"PR\"`, `\"SP\"`, and may now be any string, at most 2 characters"}},
		"longer":          {catalogue: []string{"varchar(40)", "varchar(60)"}, want: []string{"! gravado: data.lista.1 had at most 40 characters, and may now have 60", "! gravado: data.nome had at most 40 characters, and may now have 60", "! removido: data.nome had at most 40 characters, and may now have 60"}},
		"shorter":         {catalogue: []string{"varchar(40)", "varchar(20)"}},
		"bigger":          {catalogue: []string{"type: int4", "type: int8"}, want: []string{"! gravado: data.id was at most 2147483647, and may now be 9223372036854775807", "! gravado: data.lista.0 was at most 2147483647, and may now be 9223372036854775807", "! removido: data.id was at most 2147483647, and may now be 9223372036854775807"}},
		"smaller":         {catalogue: []string{"type: int4", "type: int2"}},
		"integer":         {catalogue: []string{`"numeric(12,2)"`, "int4"}},
		"another form":    {catalogue: []string{"type: date", "type: timestamp"}, want: []string{"! gravado: data.dia had the format date, and has date-time"}},
		"value added":     {rules: []string{"then 'a'", "then 'c'"}, want: []string{`! gravado: data.extra.tipo may now be "c"`, `gravado: data.extra.tipo is no longer "a"`}},
		"op added":        {rules: []string{"on: delete", "on: [delete, insert]"}, want: []string{"! removido: it is now also sent on insert, and op has another value", "! removido: it is now also sent on read, and op has another value"}},
		"op removed":      {rules: []string{"on: [insert, update]", "on: insert"}, want: []string{"! gravado: it is no longer sent on update"}},
		"list":            {rules: []string{"lista: [id, nome]", "lista: [id]"}, want: []string{"! gravado: data.lista had 2 items, and has 1"}},
		"longer list":     {rules: []string{"lista: [id, nome]", "lista: [id, nome, uf]"}, want: []string{"! gravado: data.lista had 2 items, and has 3"}},
		"tenant":          {rules: []string{"    on: [insert", "    tenant: id\n    on: [insert"}, want: []string{"! gravado: tenant was null and is string"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := compared(t, former, strings.NewReplacer(c.catalogue...).Replace(comparedCatalogue), strings.NewReplacer(c.rules...).Replace(comparedRules))
			if diff := cmp.Diff(sortedTexts(c.want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

const sharedRules = `
rules:
  - {event: feito, table: t, on: update, when: id = 1, tenant: nota, previous: true, columns: [id, nome, dia], data: {a: {b: [id]}}}
  - {event: feito, table: t, on: update, when: id = 2, columns: [id, nome], data: {c: nota}}
`

// TestCompareShared: what only one of the rules that make an event sent is missed, too.
func TestCompareShared(t *testing.T) {
	t.Parallel()
	former := formerly(t, contractOf(t, comparedCatalogue, sharedRules))
	for name, c := range map[string]struct {
		rules []string // a replacement
		want  []string
	}{
		"nothing":         {rules: []string{"", ""}},
		"of one rule":     {rules: []string{"[id, nome, dia], data: {a", "[id, nome], data: {a"}, want: []string{"! feito: data.dia is no longer sent", "! feito: previous.dia is no longer sent"}},
		"inside one rule": {rules: []string{"a: {b: [id]}", "a: {x: id}"}, want: []string{"! feito: data.a.b is no longer sent", "! feito: previous.a.b is no longer sent", "feito: data.a.x is new", "feito: previous.a.x is new"}},
		"one previous":    {rules: []string{"previous: true, columns: [id, nome, dia]", "columns: [id, nome, dia]"}, want: []string{"! feito: previous is no longer sent"}},
		"one tenant":      {rules: []string{"tenant: nota, ", ""}, want: []string{"! feito: tenant is now always null"}},
		"one always null": {rules: []string{"{c: nota}", "{c: \"null\"}"}, want: []string{"! feito: data.c is now always null"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := compared(t, former, comparedCatalogue, strings.Replace(sharedRules, c.rules[0], c.rules[1], 1))
			if diff := cmp.Diff(sortedTexts(c.want), got); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}
