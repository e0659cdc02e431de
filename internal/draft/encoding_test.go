package draft_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/draft"
)

// TestGuessEncoding: what most names and values are written in counts; a letter that was cut at the end of a name does not.
func TestGuessEncoding(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		texts []string
		want  cdc.Encoding
	}{
		"nothing":                {nil, ""},
		"utf8":                   {[]string{"situação"}, cdc.UTF8},
		"latin1":                 {[]string{"situa\xe7\xe3o", "descri\xe7\xe3o"}, cdc.Win1252},
		"one text of another":    {[]string{"situação", "descrição", "endere\xe7o"}, cdc.UTF8},
		"mostly latin1":          {[]string{"situação", "descri\xe7\xe3o", "endere\xe7o"}, cdc.Win1252},
		"a name that was cut":    {[]string{"ç" + strings.Repeat("a", 60) + "\xc3"}, cdc.UTF8},
		"only the letter is cut": {[]string{strings.Repeat("a", 62) + "\xc3"}, ""},
		"a whole name":           {[]string{strings.Repeat("a", 61) + "\xe7\xe3"}, cdc.Win1252},
	} {
		texts := make([][]byte, len(c.texts))
		for i, text := range c.texts {
			texts[i] = []byte(text)
		}
		if diff := cmp.Diff(c.want, draft.Guessed(texts)); diff != "" {
			t.Errorf("%s: -want +got\n%s", name, diff)
		}
	}
}
