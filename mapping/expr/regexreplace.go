package expr

import (
	"regexp"
	"strings"
	"unicode/utf8"
)

const replaceHint = "write constants: a pattern without *? and the like, a replacement without \\1, and the flags g and i"

// regexReplaceImpl is regexp_replace. What is replaced depends on where a match ends, and
// so on greediness: without non-greedy quantifiers PostgreSQL's match is the leftmost
// longest, which RE2 finds, too. What a group within it matches is another question, so
// that \1 is refused.
func regexReplaceImpl() *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		var text [4]string
		for i, a := range t.args[1:] {
			switch {
			case a.isNullConst():
				return &impl{many: func(*Machine, []value) value { return value{} }}, nil
			case !a.isConst():
				return nil, refusal(a, "the pattern, the replacement and the flags of regexp_replace must be constants", replaceHint)
			}
			text[i] = string(a.lit.s)
		}
		if err := c.ownCollation(t); err != nil {
			return nil, err
		}
		r, problem := newReplacer(text[0], text[1], text[2], c.scope.Settings)
		if problem != "" {
			return nil, refusal(t.args[1], "regexp_replace: "+problem, replaceHint)
		}
		return &impl{many: func(m *Machine, args []value) value { return r.replace(m, args[0].s) }}, nil
	})
}

// replacer is regexp_replace with its constants.
type replacer struct {
	// first is for the start of a text, and rest for what follows, where ^ matches nothing.
	first, rest *regexp.Regexp
	weight      int
	unbounded   bool     // a match may look at all that follows
	parts       [][]byte // of the replacement, between whole matches
	all         bool
}

func newReplacer(pattern, replacement, flags string, settings Settings) (*replacer, string) {
	r := &replacer{all: strings.Contains(flags, "g"), unbounded: strings.ContainsAny(pattern, "*+{")}
	if settings.bytewise() {
		return nil, "regular expressions depend on the encoding of the text, which a database of SQL_ASCII does not know"
	}
	if strings.Trim(flags, "gi") != "" {
		return nil, "flags other than g and i are not supported"
	}
	compile := func(start string) (*regexp.Regexp, string) {
		tr := translator{rest: pattern, ignoreCase: strings.Contains(flags, "i"), settings: settings, start: start}
		re, weight, problem := tr.compile()
		if problem == "" && tr.lazy {
			problem = "non-greedy quantifiers are not supported"
		}
		if problem != "" {
			return nil, problem
		}
		re.Longest()
		r.weight = weight
		return re, ""
	}
	var problem string
	if r.first, problem = compile(""); problem != "" {
		return nil, problem
	}
	if r.rest, problem = compile(`[^\x{0}-\x{10ffff}]`); problem != "" {
		return nil, problem
	}
	r.parts, problem = replacementParts(replacement)
	return r, problem
}

// replacementParts parts a replacement at \&, which is the match.
func replacementParts(s string) (parts [][]byte, problem string) {
	var part []byte
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			part = append(part, s[i])
			continue
		}
		if i++; i == len(s) || s[i] != '\\' && s[i] != '&' {
			return nil, `a replacement with \ before other than & and \ is not supported`
		}
		if s[i] == '\\' {
			part = append(part, '\\')
			continue
		}
		parts, part = append(parts, part), nil
	}
	return append(parts, part), ""
}

// replace is replace_text_regexp: after an empty match the search goes on one character
// later.
func (r *replacer) replace(m *Machine, s []byte) value {
	out := m.arena
	copied, from := 0, 0
	for re := r.first; from <= len(s); re = r.rest {
		if r.unbounded && len(s) > freeOutput && !m.step((len(s)-from)*r.weight) {
			return m.overSteps()
		}
		at := re.FindIndex(s[from:])
		if at == nil {
			break
		}
		start, end := from+at[0], from+at[1]
		if !r.unbounded && len(s) > freeOutput && !m.step((end-from+1)*r.weight) {
			return m.overSteps()
		}
		out = append(append(out, s[copied:start]...), r.parts[0]...)
		for _, part := range r.parts[1:] {
			out = append(append(out, s[start:end]...), part...)
		}
		if int64(len(out)-len(m.arena)) > m.memory {
			return m.overMemory()
		}
		copied, from = end, end
		if start == end {
			_, size := utf8.DecodeRune(s[end:])
			from += max(size, 1)
		}
		if !r.all {
			break
		}
	}
	if copied == 0 && len(out) == len(m.arena) {
		return textValue(s)
	}
	return m.appended(append(out, s[copied:]...))
}
