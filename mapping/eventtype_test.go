package mapping_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/mapping"
)

// Several rules that make one event are one item; its texts may be in any of them.
func TestEventTypes(t *testing.T) {
	t.Parallel()
	got := parse(t, mapping.Options{}, `rules:
  - {event: cliente.novo, title: Cliente novo, group: Clientes, table: clientes, on: insert, columns: [id, nome]}
  - {event: cobranca.mudou, table: financeiro.cobrancas, on: [insert, update], data: {id: id, cliente: {id: cliente_id}}}
  - {event: cliente.novo, description: " Quem comprou. ", title: Cliente novo, table: clientes, on: update, columns: [id], data: {origem: "'visitante'"}}
`).EventTypes()
	for i := range got {
		for j := range got[i].Rules {
			r := &got[i].Rules[j]
			if len(r.Version) != 12 {
				t.Errorf("the version of %+v is %q", r, r.Version)
			}
			r.Place, r.Version = filepath.Base(r.Place), ""
		}
	}
	want := []mapping.EventType{
		{Name: "cliente.novo", Group: "Clientes", Title: "Cliente novo", Description: "Quem comprou.", Rules: []mapping.EventRule{
			{Place: "rules.yaml:2", Table: "clientes", On: "insert", Fields: []string{"id", "nome"}},
			{Place: "rules.yaml:4", Table: "clientes", On: "update", Fields: []string{"id", "origem"}},
		}},
		{Name: "cobranca.mudou", Rules: []mapping.EventRule{{Place: "rules.yaml:3", Table: "financeiro.cobrancas", On: "insert or update", Fields: []string{"id", "cliente"}}}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("event types (-want +got):\n%s", diff)
	}
	fields := got[0].Each(func(r *mapping.EventRule) []string { return r.Fields })
	if diff := cmp.Diff([]string{"id", "nome", "origem"}, fields); diff != "" {
		t.Errorf("fields of all rules (-want +got):\n%s", diff)
	}
}

// Two titles of one event are a mistake, with both places, across files too.
func TestEventTypesDisagree(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	var o mapping.Options
	for name, text := range map[string]string{
		"a.yaml": "rules:\n  - event: x\n    title: Um\n    table: t\n    on: insert\n    columns: [id]\n",
		"b.yaml": "rules:\n  - event: x\n    title: Dois\n    group: G\n    table: t\n    on: delete\n    columns: [id]\n" +
			"  - event: x\n    group: H\n    table: t\n    on: update\n    columns: [id]\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	o.Files = []string{filepath.Join(dir, "a.yaml"), filepath.Join(dir, "b.yaml")}
	_, err := mapping.Parse(o)
	if err == nil {
		t.Fatal("two titles of one event were accepted")
	}
	const hint = "; remove one: one rule that has it is enough, and what is special to a rule can be a comment"
	want := "b.yaml:3:12: event x has another title, at a.yaml:3" + hint + "\nb.yaml:9:12: event x has another group, at b.yaml:4" + hint
	if diff := cmp.Diff(want, strings.ReplaceAll(err.Error(), dir+string(filepath.Separator), "")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

// The title of an event is in any of its rules.
func TestTitle(t *testing.T) {
	t.Parallel()
	rules := parse(t, mapping.Options{}, `rules:
  - {event: cliente.novo, title: " Cliente novo ", table: clientes, on: insert, columns: [id]}
  - {event: cliente.novo, table: clientes, on: update, columns: [id]}
  - {event: cliente.sem, table: clientes, on: update, columns: [id]}
`)
	for event, want := range map[string]string{"cliente.novo": "Cliente novo", "cliente.sem": "", "outro": ""} {
		if got := rules.Title(event); got != want {
			t.Errorf("the title of %s is %q, want %q", event, got, want)
		}
	}
}
