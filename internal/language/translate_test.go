package language_test

import (
	"testing"

	"gancho/internal/language"
)

// TestTranslateWhole: a message is translated as a whole, or not at all. A sentence that nobody has translated is not
// taken apart by a short text with values.
func TestTranslateWhole(t *testing.T) {
	t.Parallel()
	l := language.Of("pt-BR")
	for english, want := range map[string]string{
		"appendfsync is no": "appendfsync é no",
		"over http whoever is on the network path reads the console's session": "over http whoever is on the network path reads the console's session",
	} {
		if got := l.Translate("cli.finding", english); got != want {
			t.Errorf("%q is %q, want %q", english, got, want)
		}
	}
}

// TestTranslateAlike: of two messages of which one has a part more, each is translated as itself.
func TestTranslateAlike(t *testing.T) {
	t.Parallel()
	l := language.Of("pt-BR")
	for more, want := range map[string]string{"": "", ", nor are those of other sources: 3": ", nem os de outras origens: 3"} {
		english := "of endpoint crm: that of 2026-11-20 of source a is not of the whole day (missing in the delivery log: 1)" + more + "; gancho prove --source a --from 2026-11-20 shows the counts"
		want = "do endpoint crm: o de 2026-11-20 da origem a não é do dia inteiro (faltam no registro de entregas: 1)" + want + "; gancho prove --source a --from 2026-11-20 mostra as contagens"
		if got := l.Translate("cli.status", english); got != want {
			t.Errorf("%q is %q, want %q", english, got, want)
		}
	}
}
