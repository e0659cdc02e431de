package draft

import "strings"

// token is a piece of SQL, as far as names need it.
type token struct {
	start, end int
	kind       tokenKind
	text       string
}

type tokenKind uint8

const (
	punctuation tokenKind = iota
	identifier
	other // a string, a number or a quoted name
)

// tokens splits SQL. Blanks and comments are left out.
func tokens(sql string) []token {
	var out []token
	for i := 0; i < len(sql); {
		start, kind := i, punctuation
		c := sql[i]
		switch {
		case c == ' ' || c == '\t' || c == '\n' || c == '\r':
			i++
			continue
		case strings.HasPrefix(sql[i:], "--"):
			if n := strings.IndexByte(sql[i:], '\n'); n >= 0 {
				i += n
				continue
			}
			return out
		case c == '\'' || c == '"':
			n := strings.IndexByte(sql[i+1:], c)
			if n < 0 {
				return out
			}
			i, kind = i+n+2, other
		case letter(c):
			for i < len(sql) && (letter(sql[i]) || digit(sql[i])) {
				i++
			}
			kind = identifier
		case digit(c):
			for i < len(sql) && (digit(sql[i]) || sql[i] == '.') {
				i++
			}
			kind = other
		default:
			i++
		}
		out = append(out, token{start, i, kind, strings.ToLower(sql[start:i])})
	}
	return out
}

func letter(c byte) bool { return c == '_' || c >= 0x80 || c|0x20 >= 'a' && c|0x20 <= 'z' }

func digit(c byte) bool { return c >= '0' && c <= '9' }

// edit replaces a part of a text.
type edit struct {
	start, end int
	text       string
}

// applied makes edits that are in order and do not overlap.
func applied(text string, edits []edit) string {
	var b strings.Builder
	last := 0
	for _, e := range edits {
		b.WriteString(text[last:e.start])
		b.WriteString(e.text)
		last = e.end
	}
	b.WriteString(text[last:])
	return b.String()
}
