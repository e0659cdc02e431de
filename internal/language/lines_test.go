package language_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/language"
)

// TestLines: each line of an error has its place as it was, and its text in the language, as far as that is known.
func TestLines(t *testing.T) {
	t.Parallel()
	english := "/etc/gancho/rules.yaml:2:67: column \"nome\" is not in table clientes; columns: id, empresa_id\nrules.yaml:9: something that nobody has translated\nthe source is not ready:\n  - wal_level is replica\n" +
		"run this in the source database, or let gancho run --create do it:\n-- as postgres, the owner of public.t:\nCREATE PUBLICATION gancho FOR TABLE public.t;\n" +
		"open a replication connection to the source: server error: FATAL: role \"x\" does not exist (SQLSTATE 28000)"
	want := []language.Line{
		{Text: "/etc/gancho/rules.yaml:2:67: a coluna \"nome\" não está na tabela clientes; colunas: id, empresa_id", Known: true},
		{Text: "rules.yaml:9: something that nobody has translated"},
		{Text: "a origem não está pronta:", Known: true},
		{Text: "  - wal_level é replica", Known: true},
		{Text: "execute isto no banco de origem, ou deixe que gancho run --create o faça:", Known: true},
		{Text: "-- como postgres, dono de public.t:", Known: true},
		{Text: "CREATE PUBLICATION gancho FOR TABLE public.t;", Known: true},
		{Text: "abrir uma conexão de replicação com a origem: server error: FATAL: role \"x\" does not exist (SQLSTATE 28000)", Known: true},
	}
	if diff := cmp.Diff(want, language.Of(language.Portuguese).Lines(english)); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	for _, line := range language.Of(language.English).Lines(english) {
		if !line.Known {
			t.Errorf("%q is not English", line.Text)
		}
	}
}
