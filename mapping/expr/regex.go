package expr

import (
	"cmp"
	"fmt"
	"regexp"
	"regexp/syntax"
	"strings"
	"unicode"
	"unicode/utf8"
)

// regexImpl is ~, ~*, !~ or !~*. The pattern must be constant: it is translated once,
// from PostgreSQL's advanced regular expressions to RE2, and refused where the
// two differ.
func regexImpl(ignoreCase, negate bool) *impl {
	return withConstant(1, "the pattern of a regular expression", "use like, or starts_with", func(c *checker, t *term, pattern string) (*impl, *Error) {
		if err := c.ownCollation(t); err != nil {
			return nil, err
		}
		if c.scope.Settings.bytewise() {
			return nil, refusal(t, "regular expressions depend on the encoding of the text, which a database of SQL_ASCII does not know", "use like, or starts_with")
		}
		tr := translator{rest: pattern, ignoreCase: ignoreCase, settings: c.scope.Settings}
		re, weight, problem := tr.compile()
		if problem != "" {
			return nil, refusal(t.args[1], "regular expression: "+problem, "write it with plain characters, [a-z0-9], (), |, ^, $, . and * + ? {n,m}")
		}
		return two(func(m *Machine, a, _ value) value {
			if len(a.s) > freeOutput && !m.step(len(a.s)*weight) {
				return m.overSteps()
			}
			return boolValue(re.Match(a.s) != negate)
		}), nil
	})
}

// translator turns an advanced regular expression of PostgreSQL into one of
// RE2 that matches the same texts. Whether a text matches does not depend on
// greediness, so only the set of matches has to agree.
type translator struct {
	rest       string
	ignoreCase bool
	settings   Settings
	out        strings.Builder
	problem    string
	// quantifiable: the last piece was an atom, so that a quantifier may follow.
	quantifiable bool
	branchEmpty  bool
	// start is what ^ becomes; empty: ^.
	start string
	// lazy: there was a non-greedy quantifier.
	lazy bool
}

func (tr *translator) fail(format string, args ...any) {
	if tr.problem == "" {
		tr.problem = fmt.Sprintf(format, args...)
	}
}

// compile returns the expression and how many steps it takes for a byte, at most.
func (tr *translator) compile() (re *regexp.Regexp, weight int, problem string) {
	if strings.HasPrefix(tr.rest, "***") {
		tr.fail("*** directors are not supported")
	}
	tr.branchEmpty = true
	depth := 0
	empty := tr.rest == ""
	for tr.rest != "" && tr.problem == "" {
		switch tr.rest[0] {
		case '(':
			depth++
		case ')':
			depth--
		}
		if depth < 0 {
			tr.fail("parentheses do not match")
		}
		tr.step()
	}
	if tr.branchEmpty && !empty {
		tr.fail("empty alternatives are not supported")
	}
	if tr.problem != "" {
		return nil, 0, tr.problem
	}
	re, err := regexp.Compile(tr.out.String())
	if err != nil {
		return nil, 0, "it is malformed, or too large"
	}
	return re, matchWeight(tr.out.String()), ""
}

// matchWeight is how many steps a compiled expression takes for a byte, at most:
// every instruction may be at work for every character.
func matchWeight(pattern string) int {
	tree, err := syntax.Parse(pattern, syntax.Perl)
	if err != nil {
		return 1
	}
	program, err := syntax.Compile(tree.Simplify())
	if err != nil {
		return 1
	}
	return 1 + len(program.Inst)/4
}

// atom writes a piece that a quantifier may follow.
func (tr *translator) atom(s string) {
	tr.out.WriteString(s)
	tr.quantifiable, tr.branchEmpty = true, false
}

// constraint writes a piece that matches no character.
func (tr *translator) constraint(s string) {
	tr.out.WriteString(s)
	tr.quantifiable, tr.branchEmpty = false, false
}

func (tr *translator) step() {
	r, n := utf8.DecodeRuneInString(tr.rest)
	switch r {
	case '(':
		tr.open()
		return
	case ')', '|':
		if tr.branchEmpty {
			tr.fail("empty alternatives are not supported")
		}
		tr.out.WriteRune(r)
		tr.quantifiable, tr.branchEmpty = r == ')', r == '|'
	case '*', '+', '?':
		tr.rest = tr.rest[n:]
		tr.quantifier(string(r))
		return
	case '{':
		tr.brace()
		return
	case '^':
		tr.constraint(cmp.Or(tr.start, "^"))
	case '$':
		tr.constraint(`\z`)
	case '.':
		tr.atom("(?s:.)")
	case '[':
		tr.bracket()
		return
	case '\\':
		tr.escape()
		return
	default:
		tr.atom(tr.character(r))
	}
	tr.rest = tr.rest[n:]
}

func (tr *translator) open() {
	tr.rest = tr.rest[1:]
	if strings.HasPrefix(tr.rest, "?") {
		if !strings.HasPrefix(tr.rest, "?:") {
			tr.fail("(?...) other than (?:...) is not supported")
			return
		}
		tr.rest = tr.rest[2:]
	}
	tr.out.WriteString("(?:")
	tr.quantifiable, tr.branchEmpty = false, true
}

func (tr *translator) quantifier(s string) {
	if !tr.quantifiable {
		tr.fail("a quantifier needs something to repeat")
		return
	}
	if strings.HasPrefix(tr.rest, "?") { // non-greedy matches the same texts
		tr.rest, tr.lazy = tr.rest[1:], true
	}
	tr.out.WriteString(s)
	tr.quantifiable = false
}

// brace is {n}, {n,}, {n,m}, or a plain brace when no digit follows.
func (tr *translator) brace() {
	if len(tr.rest) < 2 || !isDigit(tr.rest[1]) {
		tr.atom(`\{`)
		tr.rest = tr.rest[1:]
		return
	}
	end := strings.IndexByte(tr.rest, '}')
	if end < 0 {
		tr.fail("{ is not closed")
		return
	}
	lo, hi, ranged := strings.Cut(tr.rest[1:end], ",")
	if !bound255(lo) || ranged && hi != "" && !bound255(hi) {
		tr.fail("a repetition count must be at most 255")
		return
	}
	s := tr.rest[:end+1]
	tr.rest = tr.rest[end+1:]
	tr.quantifier(s)
}

func bound255(s string) bool {
	if s == "" || len(s) > 3 || !allDigits([]byte(s)) {
		return false
	}
	return len(s) < 3 || s <= "255"
}

// character matches one character, with the other case of it if asked.
func (tr *translator) character(r rune) string {
	if !tr.ignoreCase {
		return regexp.QuoteMeta(string(r))
	}
	var set runeSet
	tr.addCases(&set, r, r)
	return set.class(false)
}

// addCases adds the lower and upper forms of a range, as PostgreSQL's allcases does.
func (tr *translator) addCases(set *runeSet, lo, hi rune) {
	for _, f := range []func(rune) rune{unicode.ToLower, unicode.ToUpper} {
		mapping, ok := tr.settings.mapCase(f)
		if !ok {
			tr.fail("ignoring case depends on the database's locale %s", tr.settings.CType)
			return
		}
		for r := lo; r <= hi; r++ {
			to, known := mapping(r)
			if !known {
				tr.fail("the other case of %q depends on the server's version of Unicode", r)
				return
			}
			set.add(to, to)
		}
	}
}

// escape is a backslash outside brackets.
func (tr *translator) escape() {
	r, n := utf8.DecodeRuneInString(tr.rest[1:])
	if n == 0 {
		tr.fail(`it ends with a \`)
		return
	}
	tr.rest = tr.rest[1+n:]
	switch r {
	case 'A':
		tr.constraint(cmp.Or(tr.start, "^"))
		return
	case 'Z':
		tr.constraint(`\z`)
		return
	case 'D', 'S', 'W':
		var set runeSet
		tr.addClass(&set, shorthand(unicode.ToLower(r)))
		tr.atom(set.class(true))
		return
	}
	var set runeSet
	if tr.addEscape(&set, r) {
		tr.atom(set.class(false))
	}
}

// addEscape adds what the escape of r means, in or outside brackets.
func (tr *translator) addEscape(set *runeSet, r rune) bool {
	switch {
	case r == 'd' || r == 's' || r == 'w':
		return tr.addClass(set, shorthand(r))
	case strings.ContainsRune("fnrtv", r):
		c := rune("\f\n\r\t\v"[strings.IndexRune("fnrtv", r)])
		set.add(c, c)
	case r < utf8.RuneSelf && (isDigit(byte(r)) || unicode.IsLetter(r)), r >= utf8.RuneSelf:
		tr.fail(`\%c is not supported`, r)
		return false
	default:
		set.add(r, r)
	}
	return true
}

func shorthand(r rune) string {
	return map[rune]string{'d': "digit", 's': "space", 'w': "word"}[r]
}

// addClass adds a named class. Only digits are the same in every locale.
func (tr *translator) addClass(set *runeSet, name string) bool {
	ascii := isC(tr.settings.CType) && tr.settings.Provider != "i" && tr.settings.Provider != "b"
	switch {
	case name == "xdigit":
		set.add('0', '9')
		set.add('a', 'f')
		set.add('A', 'F')
		return true
	case name == "digit" && tr.settings.Provider != "i":
		set.add('0', '9')
		return true
	case !ascii || tr.ignoreCase && (name == "lower" || name == "upper"):
		tr.fail("class %s depends on the database's locale %s: write the characters, such as [a-z]", name, tr.settings.CType)
		return false
	}
	ranges, ok := map[string]string{
		"alnum": "09AZaz", "alpha": "AZaz", "blank": "\t\t  ", "cntrl": "\x00\x1f\x7f\x7f", "graph": "!~", "lower": "az",
		"print": " ~", "punct": "!/:@[`{~", "space": "\t\r  ", "upper": "AZ", "word": "09AZ__az",
	}[name]
	if !ok {
		tr.fail("class %s does not exist", name)
		return false
	}
	for i := 0; i < len(ranges); i += 2 {
		set.add(rune(ranges[i]), rune(ranges[i+1]))
	}
	return true
}
