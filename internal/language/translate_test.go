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
