package expr

import (
	"bytes"
	"unicode"
)

// patternImpls are like, ilike and the regular expressions.
func patternImpls() map[string]*impl {
	all := map[string]*impl{
		"like_escape(text,text)":              two(likeEscape),
		"regexp_replace(text,text,text)":      regexReplaceImpl(),
		"regexp_replace(text,text,text,text)": regexReplaceImpl(),
	}
	for _, t := range []string{"text", "bpchar"} {
		all[t+"like("+t+",text)"] = two(likeImpl(false))
		all[t+"nlike("+t+",text)"] = two(likeImpl(true))
		all[t+"iclike("+t+",text)"] = ilikeImpl(false)
		all[t+"icnlike("+t+",text)"] = ilikeImpl(true)
		all[t+"regexeq("+t+",text)"] = regexImpl(false, false)
		all[t+"regexne("+t+",text)"] = regexImpl(false, true)
		all[t+"icregexeq("+t+",text)"] = regexImpl(true, false)
		all[t+"icregexne("+t+",text)"] = regexImpl(true, true)
	}
	return all
}

// likeEscape rewrites a pattern with another escape character to one with the
// backslash.
func likeEscape(m *Machine, pattern, escape value) value {
	if m.count(escape.s) > 1 {
		return m.fail("22025", "invalid escape string: it must be empty or one character")
	}
	if string(escape.s) == `\` {
		return pattern
	}
	if !m.room(2 * len(pattern.s)) {
		return m.overMemory()
	}
	start := len(m.arena)
	afterEscape := false
	for s := pattern.s; len(s) > 0; {
		n := m.first(s)
		switch c := s[:n]; {
		case len(escape.s) > 0 && bytes.Equal(c, escape.s) && !afterEscape:
			m.arena = append(m.arena, '\\')
			afterEscape = true
		case c[0] == '\\':
			m.arena = append(m.arena, '\\')
			if !afterEscape {
				m.arena = append(m.arena, '\\')
			}
			afterEscape = false
		default:
			m.arena = append(m.arena, c...)
			afterEscape = false
		}
		s = s[n:]
	}
	return m.grown(start)
}

func likeImpl(negate bool) func(m *Machine, a, b value) value {
	return func(m *Machine, a, b value) value {
		r := m.like(a.s, b.s)
		switch {
		case m.steps < 0:
			return m.overSteps()
		case r == likeBadPattern:
			return m.fail("22025", "LIKE pattern must not end with escape character")
		}
		return boolValue((r == likeTrue) != negate)
	}
}

// ilikeImpl lowers both sides, as PostgreSQL does.
func ilikeImpl(negate bool) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		if err := c.ownCollation(t); err != nil {
			return nil, err
		}
		lower, ok := c.scope.Settings.mapCase(unicode.ToLower)
		if !ok {
			return nil, refusal(t, "ilike depends on the database's locale "+c.scope.Settings.CType+", which the rules do not know", "use like")
		}
		match := likeImpl(negate)
		return two(func(m *Machine, a, b value) value {
			if a = m.mapRunes(a.s, lower); a.state != stateKnown {
				return a
			}
			if b = m.mapRunes(b.s, lower); b.state != stateKnown {
				return b
			}
			return match(m, a, b)
		}), nil
	})
}

// likeResult is the outcome of like.c's MatchText.
type likeResult uint8

const (
	likeTrue likeResult = iota
	likeFalse
	likeAbort // the text is at its end, so that no later start can match
	likeBadPattern
)

// like is MatchText of like_match.c, whose order of checks decides whether a
// pattern that ends in its escape is an error.
func (m *Machine) like(t, p []byte) likeResult {
	if len(p) == 1 && p[0] == '%' {
		return likeTrue
	}
	length := len(t)
	t, p, r := m.likePiece(t, p)
	m.step(length - len(t))
	if len(t) > 0 && len(p) > 0 && r == likeTrue {
		return m.likeAny(t, p[1:])
	}
	if r != likeTrue || len(t) > 0 {
		return max(r, likeFalse)
	}
	for len(p) > 0 && p[0] == '%' {
		p = p[1:]
	}
	if len(p) == 0 {
		return likeTrue
	}
	return likeAbort
}

// likePiece matches up to the next % or the end of either side, and returns what
// is left.
func (m *Machine) likePiece(t, p []byte) (restT, restP []byte, r likeResult) {
	for len(t) > 0 && len(p) > 0 {
		n := 1
		switch p[0] {
		case '\\':
			if p = p[1:]; len(p) == 0 {
				return t, p, likeBadPattern
			}
			if p[0] != t[0] {
				return t, p, likeFalse
			}
		case '%':
			return t, p, likeTrue
		case '_':
			n = m.first(t)
		default:
			if p[0] != t[0] {
				return t, p, likeFalse
			}
		}
		t, p = t[n:], p[1:]
	}
	return t, p, likeTrue
}

// likeAny matches what follows a %.
func (m *Machine) likeAny(t, p []byte) likeResult {
	for len(p) > 0 {
		if p[0] == '%' {
			p = p[1:]
		} else if p[0] == '_' {
			if len(t) == 0 {
				return likeAbort
			}
			t, p = t[m.first(t):], p[1:]
		} else {
			break
		}
	}
	if len(p) == 0 {
		return likeTrue
	}
	first := p[0]
	if first == '\\' {
		if len(p) < 2 {
			return likeBadPattern
		}
		first = p[1]
	}
	for len(t) > 0 && m.steps >= 0 {
		if t[0] == first {
			if r := m.like(t, p); r != likeFalse {
				return r
			}
		}
		t = t[m.first(t):]
	}
	return likeAbort
}
