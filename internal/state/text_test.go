package state_test

import (
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"gancho/internal/state"
)

func TestEncode(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ server, text, want string }{
		{"UTF8", "São Paulo € 健", "São Paulo € 健"},
		{"SQL_ASCII", "São Paulo €", "São Paulo €"},
		{"LATIN1", "São Paulo €", `São Paulo \u{20ac}`},
		{"WIN1252", "São “x”", `São \u{201c}x\u{201d}`},
		{"LATIN9", "São", `S\u{e3}o`},
		{"UTF8", "a\x00b", `a\u{0}b`},
		{"UTF8", "S\xe3o", `S\x{e3}o`},
		{"UTF8", "\ufffd", "\ufffd"},
		{"LATIN1", "\ufffd", `\u{fffd}`},
		{"LATIN1", "\u0085\u009f\u00a0ÿĀ", `\u{85}\u{9f}` + "\u00a0ÿ" + `\u{100}`},
		{"UTF8", `C:\users\x{41}\u{20ac}`, `C:\users\u{5c}x{41}\u{5c}u{20ac}`},
		{"UTF8", "", ""},
	} {
		if got := state.Encode(c.server, c.text); got != c.want {
			t.Errorf("%s: %q is stored as %q, want %q", c.server, c.text, got, c.want)
		}
	}
	for _, text := range []string{`\u{`, `\u{}`, `\u{zz}`, `\x{100}`, `\u{41`, `\`, `\\u`, `x\`} {
		if got := state.Decode(text); got != text {
			t.Errorf("%q is read as %q", text, got)
		}
	}
}

func FuzzEncode(f *testing.F) {
	for _, s := range []string{"", "São", `\u{5c}`, "\x00", "\xff", `\\u{41}`, `\x{e9}`, "\ufffd", "𝄞"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, server := range []string{"UTF8", "LATIN1", "LATIN9"} {
			stored := state.Encode(server, s)
			if got := state.Decode(stored); got != s {
				t.Errorf("%s: %q is stored as %q and read as %q", server, s, stored, got)
			}
			if !utf8.ValidString(stored) || strings.ContainsRune(stored, 0) {
				t.Errorf("%s: %q is stored as %q", server, s, stored)
			}
			for _, r := range stored {
				if server == "LATIN9" && r > 0x7f || server == "LATIN1" && r > 0xff {
					t.Errorf("%s cannot hold %q of %q", server, r, stored)
				}
			}
		}
	})
}

func FuzzASCIIJSON(f *testing.F) {
	for _, s := range []string{"São €", "𝄞", "\x00", `"\`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		text, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		stored := state.ASCIIJSON(text)
		for _, b := range stored {
			if b >= utf8.RuneSelf {
				t.Fatalf("%q is stored as %q", text, stored)
			}
		}
		var before, after string
		if json.Unmarshal(text, &before) != nil || json.Unmarshal(stored, &after) != nil || before != after {
			t.Errorf("%q is read as %q", before, after)
		}
	})
}
