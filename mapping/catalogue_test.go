package mapping_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/mapping"
)

func TestCatalogue(t *testing.T) {
	t.Parallel()
	rules := parse(t, mapping.Options{}, `rules:
  - {event: cliente.novo, title: Cliente novo, table: clientes, on: insert, columns: [id, nome]}
  - {event: cobranca.mudou, table: financeiro.cobrancas, on: [insert, update], data: {id: id, cliente: {id: cliente_id}}}
`)
	got := rules.Catalogue()
	for i := range got {
		if got[i].Rule == "" || got[i].Version == "" {
			t.Errorf("%+v has no place or version", got[i])
		}
		got[i].Rule, got[i].Version = "", ""
	}
	want := []mapping.EventType{
		{Event: "cliente.novo", Title: "Cliente novo", Table: cdc.Name{Name: "clientes"}, On: "insert", Fields: []string{"id", "nome"}},
		{Event: "cobranca.mudou", Table: cdc.Name{Schema: "financeiro", Name: "cobrancas"}, On: "insert or update", Fields: []string{"id", "cliente"}},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("catalogue (-want +got):\n%s", diff)
	}
}
