package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/language"
)

// Cells of tables that are words of ours, or reasons, are said in Portuguese; names, values and English tables stay what they are.
func TestTranslatedCells(t *testing.T) {
	t.Parallel()
	heading := []string{"ENDPOINT", "OUTCOME", "STATE", "KIND", "ROLE", "ERROR OR WAIT"}
	row := func() []string {
		return []string{"delivered", "retry (again)", "queued", "resend", "viewer", "redis does not take events"}
	}
	if diff := cmp.Diff(row(), cells(language.Of(language.English), heading, row())); diff != "" {
		t.Errorf("English: %s", diff)
	}
	want := []string{"delivered", "falhou (de novo)", "na fila", "reenvio", "leitor", "o Redis não aceita eventos"}
	if diff := cmp.Diff(want, cells(language.Of(language.Portuguese), heading, row())); diff != "" {
		t.Errorf("-want +got: %s", diff)
	}
}
