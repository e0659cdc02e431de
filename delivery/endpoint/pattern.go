package endpoint

import (
	"slices"
	"strings"
)

// Covers reports whether the pattern covers all of s; only * is special: any run
// of characters, dots included. It is linear in s for each star.
func Covers(pattern, s string) bool {
	head, rest, starred := strings.Cut(pattern, "*")
	if !starred {
		return pattern == s
	}
	s, ok := strings.CutPrefix(s, head)
	if !ok {
		return false
	}
	for {
		part, next, more := strings.Cut(rest, "*")
		if !more {
			return strings.HasSuffix(s, part)
		}
		i := strings.Index(s, part)
		if i < 0 {
			return false
		}
		s, rest = s[i+len(part):], next
	}
}

// CoveredBy reports whether one of the patterns covers s.
func CoveredBy(patterns []string, s string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool { return Covers(p, s) })
}

// Reads reports whether the endpoint gets events of the source, where there are several.
func (e *Endpoint) Reads(source string) bool {
	return len(e.Sources) == 0 || CoveredBy(e.Sources, source)
}
