package expr_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/mapping/expr"
)

// tokens are the tokens of a statement as kind (1 word, 2 quoted, 3 parameter) and
// text, and what ended them.
func tokens(sql string) string {
	list, fault := expr.Tokens(sql)
	out := make([]string, len(list))
	for i, t := range list {
		kind := 0
		switch {
		case t.IsParameter():
			kind = 3
		case t.IsName() && !t.Is(t.Text): // quoted
			kind = 2
		case t.IsName():
			kind = 1
		}
		out[i] = fmt.Sprint(kind, t.Text)
	}
	if fault != nil {
		out = append(out, fmt.Sprintf("%d %v", fault.Offset, fault))
	}
	return strings.Join(out, " ")
}

func TestTokens(t *testing.T) {
	t.Parallel()
	for sql, want := range map[string]string{
		"select NOME, c.\"Id\"\"x\" from clientes c": `1select 1nome 0, 1c 0. 2Id"x 1from 1clientes 1c`,
		"a -- b's\n/* c /* d */ ' */ e":              "1a 1e",
		"'it''s' E'a\\'b' $$x'y$$ $t$ $$ $t$":        "0'it''s' 0E'a\\'b' 0$$x'y$$ 0$t$ $$ $t$",
		"a=-1.5e3::int->>'k'":                        "1a 0= 0- 01.5e3 0:: 1int 0->> 0'k'",
		"$1 + $ x$y 1from":                           "3$1 0+ 0$ 1x$y 01 1from",
		"B'1' N'a' u&'b' \\ {ç}":                     `1b 0'1' 1n 0'a' 1u 0& 0'b' 0\ 0{ 1ç 0}`,
		"SITUAÇÃO":                                   "1situação",
		"a 'b":                                       "1a 2 string does not end; close it with '",
		"a \"b":                                      "1a 2 quoted name does not end; close it with \"",
		"a /* b":                                     "1a 2 comment does not end; close it with */",
		"a $b$ $c$":                                  "1a 2 string does not end; close it with $b$",
		"E'\\":                                       "0 string does not end; close it with '",
		"":                                           "",
	} {
		if diff := cmp.Diff(want, tokens(sql)); diff != "" {
			t.Errorf("%s: -want +got\n%s", sql, diff)
		}
	}
}

// Whatever the text, tokens follow each other and hold all but blanks and comments.
func FuzzTokens(f *testing.F) {
	for _, seed := range []string{"select a.b from c where d = $1", "E'\\x", "$$a$$ 'b'\n'c'", "\"a\"\"\" /* b */ 1.e -- c", "\xff:::"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		list, fault := expr.Tokens(sql)
		end := 0
		for _, token := range list {
			if token.Start < end || token.End <= token.Start || token.End > len(sql) {
				t.Fatalf("%q: the token %+v begins before %d or has no end", sql, token, end)
			}
			if between := strings.TrimSpace(sql[end:token.Start]); between != "" && !strings.HasPrefix(between, "--") && !strings.HasPrefix(between, "/*") {
				t.Fatalf("%q: %q is in no token", sql, between)
			}
			end = token.End
		}
		if fault != nil && (fault.Offset < end || fault.Offset >= len(sql)) {
			t.Fatalf("%q: the fault is at %d", sql, fault.Offset)
		}
	})
}
