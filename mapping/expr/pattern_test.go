package expr_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"unicode"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping/expr"
)

// TestRegexDifferential compares random regular expressions and LIKE patterns
// on random texts with PostgreSQL.
func TestRegexDifferential(t *testing.T) {
	t.Parallel()
	n := seed(t)
	for _, locale := range []string{"C.UTF-8", "C"} {
		t.Run(locale, func(t *testing.T) {
			t.Parallel()
			r := rand.New(rand.NewPCG(n, 2))
			d := newDifferential(t, openSource(t, locale, r, rowsPerSource))
			for range testservers.Cases(15) {
				var batch []generated
				for range 100 {
					batch = append(batch, generated{sql: randomMatch(r)})
				}
				d.run(t, batch)
			}
			if d.refused*2 > d.expressions {
				t.Errorf("%d of %d patterns were refused: more than half", d.refused, d.expressions)
			}
		})
	}
}

// randomMatch matches a random text, or a column, against a random pattern.
func randomMatch(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	var text, pattern strings.Builder
	for range r.IntN(7) {
		text.WriteString(pick("a", "b", "c", "A", "B", "é", "É", "1", "2", " ", "\n", ".", "-", "]", "\\", "%", "_", "ß", "K", "k", "\u212a", "ſ", "s", "{", "ǅ", "_"))
	}
	subject := pick(quote(text.String()), quote(text.String()), "new.t", "new.c5", "new.v")
	if r.IntN(4) == 0 {
		for range r.IntN(6) {
			pattern.WriteString(pick("a", "b", "A", "é", "É", "%", "%", "_", "\\", "\\%", "\\_", "1", "ß"))
		}
		return fmt.Sprintf("%s %s %s", subject, pick("like", "not like", "ilike", "not ilike"), quote(pattern.String()))
	}
	for range 1 + r.IntN(6) {
		pattern.WriteString(pick("a", "b", "c", "A", "é", "É", "1", ".", ".", "[ab]", "[^a]", "[a-c]", "[^a-cÉ]", "[]a]", "[-a]", "[a-]", `[\]x]`, `[\d_]`, "(a|b)", "(?:b|1)", "(ab)", "|", "^", "$",
			"*", "+", "?", "*?", "{2}", "{1,}", "{0,2}", "{", "}", "]", `\d`, `\D`, `\.`, `\\`, `\s`, `\w`, `\n`, "[[:digit:]]", "[[:alpha:]]", "[[:space:]]", "k", "s", "[a-z]", "[k-s]", "(", ")", "-", " ", `\A`, `\Z`, "ß", "[^]a]", "[à-ü]", "ǆ", `\-`, "_"))
	}
	return fmt.Sprintf("%s %s %s", subject, pick("~", "~*", "!~", "!~*", "~*"), quote(pattern.String()))
}

// TestCaseMapping compares upper and lower of every character with the server's,
// without those for which evaluation fails.
func TestCaseMapping(t *testing.T) {
	t.Parallel()
	for _, locale := range []string{"C.UTF-8", "C"} {
		t.Run(locale, func(t *testing.T) {
			t.Parallel()
			conn := connectPlain(t, pg.Database(t, "template template0 encoding 'UTF8' locale '"+locale+"'"))
			var all strings.Builder
			// Behind the scripts that have case, and emoji, some of each page are enough.
			for c := rune(1); c <= unicode.MaxRune; c += 1 + c/0x1fb00*0x3f {
				if (c < 0xd800 || c > 0xdfff) && (locale == "C" || expr.CaseIsSettled(c)) {
					all.WriteRune(c)
				}
			}
			text := all.String()
			scope := &expr.Scope{Relation: &cdc.Relation{Name: "t", Columns: []cdc.Column{{Name: "x", Type: baseType(25, "text"), TypeMod: -1}}}, New: true, Insert: true,
				Settings: expr.Settings{Collation: locale, CType: locale}}
			machine := expr.NewMachine(scope.Settings)
			machine.Load(&cdc.Change{Op: cdc.Insert, New: []cdc.Datum{{State: cdc.Present, Text: []byte(text)}}})
			for _, f := range []string{"upper", "lower"} {
				e, err := expr.Compile(f+"(x)", scope)
				if err != nil {
					t.Fatal(err)
				}
				got, _, err := machine.AppendText(nil, e)
				if err != nil {
					t.Fatal(err)
				}
				var want string
				if err := conn.QueryRow(context.Background(), "select "+f+"($1::text)", text).Scan(&want); err != nil {
					t.Fatal(err)
				}
				in, w, g := []rune(text), []rune(want), []rune(string(got))
				if len(w) != len(g) {
					t.Fatalf("%s: %d characters, want %d", f, len(g), len(w))
				}
				var diff []string
				for i := range w {
					if w[i] != g[i] {
						diff = append(diff, fmt.Sprintf("%s(U+%04X) = U+%04X, want U+%04X", f, in[i], g[i], w[i]))
					}
				}
				if d := cmp.Diff([]string(nil), diff); d != "" {
					t.Errorf("%s: %d differences\n%s", locale, len(diff), d[:min(len(d), 3000)])
				}
			}
		})
	}
}
