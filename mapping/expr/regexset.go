package expr

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// runeSet is the inside of a bracket expression.
type runeSet struct{ ranges [][2]rune }

func (s *runeSet) add(lo, hi rune) { s.ranges = append(s.ranges, [2]rune{lo, hi}) }

// class writes the set for RE2.
func (s *runeSet) class(negate bool) string {
	var b strings.Builder
	b.WriteByte('[')
	if negate {
		b.WriteByte('^')
	}
	for _, r := range s.ranges {
		fmt.Fprintf(&b, `\x{%x}`, r[0])
		if r[1] != r[0] {
			fmt.Fprintf(&b, `-\x{%x}`, r[1])
		}
	}
	b.WriteByte(']')
	return b.String()
}

// bracket translates [...].
func (tr *translator) bracket() {
	s := tr.rest[1:]
	negate := strings.HasPrefix(s, "^")
	if negate {
		s = s[1:]
	}
	var set runeSet
	for first := true; ; first = false {
		if s == "" {
			tr.fail("[ is not closed")
			return
		}
		if s[0] == ']' && !first {
			break
		}
		if s = tr.bracketItem(&set, s, first); tr.problem != "" {
			return
		}
	}
	tr.rest = s[1:]
	tr.atom(set.class(negate))
}

// bracketItem adds one character, range or class, and returns what follows.
func (tr *translator) bracketItem(set *runeSet, s string, first bool) string {
	switch {
	case strings.HasPrefix(s, "[:"):
		name, rest, ok := strings.Cut(s[2:], ":]")
		if !ok {
			tr.fail("[: is not closed")
		}
		tr.addClass(set, name)
		return rest
	case strings.HasPrefix(s, "[.") || strings.HasPrefix(s, "[="):
		tr.fail("collating elements are not supported")
		return s
	case s[0] == '-' && !first && !strings.HasPrefix(s, "-]"):
		tr.fail("write - first or last in [ ]")
		return s
	}
	lo, rest, single := tr.bracketRune(set, s)
	if !single || tr.problem != "" {
		return rest
	}
	if !strings.HasPrefix(rest, "-") || strings.HasPrefix(rest, "-]") {
		if tr.ignoreCase {
			tr.addCases(set, lo, lo)
		} else {
			set.add(lo, lo)
		}
		return rest
	}
	if rest = rest[1:]; rest == "" || rest[0] == '[' || rest[0] == '-' {
		tr.fail("a range in [ ] needs two plain characters")
		return rest
	}
	hi, rest, single := tr.bracketRune(&runeSet{}, rest)
	if !single || hi < lo {
		tr.fail("a range in [ ] must be in ascending order")
		return rest
	}
	tr.addRange(set, lo, hi)
	return rest
}

// bracketRune reads one character, which may be escaped; a class escape is
// added immediately, and single is false.
func (tr *translator) bracketRune(set *runeSet, s string) (r rune, rest string, single bool) {
	r, n := utf8.DecodeRuneInString(s)
	if r != '\\' {
		return r, s[n:], true
	}
	r, size := utf8.DecodeRuneInString(s[1:])
	rest = s[1+size:]
	if size == 0 {
		tr.fail(`it ends with a \`)
		return 0, rest, false
	}
	var one runeSet
	if !tr.addEscape(&one, r) {
		return 0, rest, false
	}
	if len(one.ranges) == 1 && one.ranges[0][0] == one.ranges[0][1] {
		return one.ranges[0][0], rest, true
	}
	set.ranges = append(set.ranges, one.ranges...)
	return 0, rest, false
}

// maxCaseRange bounds the ranges whose every character is added.
const maxCaseRange = 0x800

// addRange adds a range by code points, and, ignoring case, the other forms of
// all its characters.
func (tr *translator) addRange(set *runeSet, lo, hi rune) {
	set.add(lo, hi)
	switch {
	case !tr.ignoreCase:
	case hi-lo > maxCaseRange:
		tr.fail("the range in [ ] is too wide to ignore case")
	default:
		tr.addCases(set, lo, hi)
	}
}
