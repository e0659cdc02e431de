package expr

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

// caseMapping says how the server changes case: only ASCII under ctype C, else
// letter by letter as libc does, which is Unicode's simple mapping.
type caseMapping uint8

const (
	caseUnknown caseMapping = iota
	caseASCII
	caseSimple
)

func (s Settings) caseMapping() caseMapping {
	ctype := strings.ToLower(s.CType)
	switch {
	case s.Provider == "i" || s.Provider == "b":
		return caseUnknown
	case isC(s.CType):
		return caseASCII
	case !s.utf8() && !strings.EqualFold(s.Encoding, "LATIN1"):
		return caseUnknown
	}
	for _, turkic := range []string{"tr", "az", "crh", "ku", "tt"} { // map i otherwise
		if strings.HasPrefix(ctype, turkic+"_") {
			return caseUnknown
		}
	}
	return caseSimple
}

// runeMapping maps a character, if it is known what the server makes of it.
type runeMapping func(r rune) (to rune, known bool)

// mapCase restricts a mapping of runes to what the server's does; not ok when that
// is not known.
func (s Settings) mapCase(f func(rune) rune) (m runeMapping, ok bool) {
	latin1 := !s.utf8()
	switch s.caseMapping() {
	case caseASCII:
		return func(r rune) (rune, bool) {
			if r < utf8.RuneSelf {
				return f(r), true
			}
			return r, true
		}, true
	case caseSimple:
		return func(r rune) (rune, bool) {
			to := f(r)
			switch {
			case latin1 && to > unicode.MaxLatin1: // a byte has no larger letters
				return r, true
			case r < utf8.RuneSelf || to < utf8.RuneSelf:
				return to, true
			}
			return to, caseIsSettled(r)
		}, true
	}
	return nil, false
}

// caseIsSettled: all C libraries in use change the case of a character alike. The
// others have letters that got their counterpart in a later version of Unicode,
// or may get one.
func caseIsSettled(r rune) bool {
	switch {
	case r < 0x0250, r >= 0x0386 && r <= 0x03CE, r >= 0x0400 && r <= 0x045F, r >= 0x048A && r <= 0x0513:
		return true
	case r >= 0x1E00 && r <= 0x1E95, r >= 0x1EA0 && r <= 0x1EF9, r >= 0xFF21 && r <= 0xFF3A, r >= 0xFF41 && r <= 0xFF5A: // Vietnamese, fullwidth
		return true
	case r >= 0x1F000 && r <= 0x1FAFF: // pictures
		return true
	case unicode.In(r, unicode.Latin, unicode.Greek, unicode.Cyrillic, unicode.Georgian, unicode.Cherokee):
		return unicode.In(r, unicode.Lo, unicode.Lm)
	}
	cased := unicode.ToUpper(r) != r || unicode.ToLower(r) != r
	return !cased && unicode.In(r, unicode.L, unicode.M, unicode.N, unicode.P, unicode.S, unicode.Z, unicode.C)
}

func caseFunction(f func(rune) rune) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		if err := c.ownCollation(t); err != nil {
			return nil, err
		}
		mapping, ok := c.scope.Settings.mapCase(f)
		if !ok {
			return nil, refusal(t, "upper and lower depend on the database's locale "+c.scope.Settings.CType+", which the rules do not know",
				"compare with each spelling, or use translate")
		}
		return one(func(m *Machine, a value) value { return m.mapRunes(a.s, mapping) }), nil
	})
}

// mapRunes maps each character of a text.
func (m *Machine) mapRunes(s []byte, f runeMapping) value {
	if !m.room(len(s) + len(s)/2 + utf8.UTFMax) { // two bytes may become three
		return m.overMemory()
	}
	start := len(m.arena)
	for len(s) > 0 {
		r, n := rune(s[0]), 1
		if r >= utf8.RuneSelf {
			if m.bytewise {
				m.arena, s = append(m.arena, s[0]), s[1:]
				continue
			}
			r, n = utf8.DecodeRune(s)
		}
		to, known := f(r)
		if !known {
			m.arena = m.arena[:start]
			return m.fail("0A000", "the text has a letter whose other case depends on the server's version of Unicode")
		}
		m.arena = utf8.AppendRune(m.arena, to)
		s = s[n:]
	}
	return m.grown(start)
}
