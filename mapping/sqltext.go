package mapping

import (
	"slices"
	"strings"
)

// sqlToken is a token of an SQL statement, as far as it matters for finding
// what stands outside of strings and comments.
type sqlToken struct {
	kind       sqlTokenKind
	start, end int // bytes
}

type sqlTokenKind uint8

const (
	sqlSymbol     sqlTokenKind = iota // one byte of punctuation
	sqlWord                           // an identifier or keyword without quotes, a number
	sqlQuoted                         // "identifier"
	sqlString                         // '...', $$...$$
	sqlPositional                     // $1
)

// sqlFault is why a statement cannot be used, at a byte offset.
type sqlFault struct {
	offset        int
	message, hint string
}

// sqlParam is a column of the change in a statement: new.x or old.x.
type sqlParam struct {
	start, end int
	old        bool
	column     string
}

// scanSQL splits a statement into tokens, under standard_conforming_strings.
// https://www.postgresql.org/docs/current/sql-syntax-lexical.html
func scanSQL(s string) ([]sqlToken, *sqlFault) {
	var tokens []sqlToken
	for i := 0; i < len(s); {
		start, kind, end := i, sqlSymbol, i+1
		switch c := s[i]; {
		case c == ' ' || '\t' <= c && c <= '\r':
			i++
			continue
		case strings.HasPrefix(s[i:], "--"):
			i = endOfLine(s, i)
			continue
		case strings.HasPrefix(s[i:], "/*"):
			if i = endOfComment(s, i); i < 0 {
				return nil, &sqlFault{start, "the comment does not end", "close it with */"}
			}
			continue
		case c == '\'' || (c == 'e' || c == 'E') && strings.HasPrefix(s[i+1:], "'"):
			kind, end = sqlString, endOfQuotes(s, strings.IndexByte(s[i:], '\'')+i, '\'', c != '\'')
		case c == '"':
			kind, end = sqlQuoted, endOfQuotes(s, i, '"', false)
		case c == '$':
			kind, end = dollar(s, i)
		case wordByte(c):
			for end < len(s) && wordByte(s[end]) {
				end++
			}
			kind = sqlWord
		}
		if end < 0 {
			return nil, &sqlFault{start, "the quotes do not end", "close them"}
		}
		tokens = append(tokens, sqlToken{kind, start, end})
		i = end
	}
	return tokens, nil
}

func wordByte(c byte) bool { return identifierByte(c) }

func endOfLine(s string, i int) int {
	if n := strings.IndexAny(s[i:], "\r\n"); n >= 0 {
		return i + n
	}
	return len(s)
}

// endOfComment returns where a comment ends, which may have others in it, or -1.
func endOfComment(s string, i int) int {
	depth := 0
	for i < len(s) {
		switch {
		case strings.HasPrefix(s[i:], "/*"):
			depth++
			i += 2
		case strings.HasPrefix(s[i:], "*/"):
			depth--
			i += 2
			if depth == 0 {
				return i
			}
		default:
			i++
		}
	}
	return -1
}

// endOfQuotes returns the end of what begins with the quote at i, or -1.
func endOfQuotes(s string, i int, quote byte, escapes bool) int {
	for i++; i < len(s); i++ {
		switch {
		case escapes && s[i] == '\\':
			i++
		case s[i] == quote && i+1 < len(s) && s[i+1] == quote:
			i++
		case s[i] == quote:
			return i + 1
		}
	}
	return -1
}

// dollar reads $1, $$text$$ or $tag$text$tag$.
func dollar(s string, i int) (sqlTokenKind, int) {
	end := i + 1
	for end < len(s) && wordByte(s[end]) && s[end] != '$' {
		end++
	}
	if end > i+1 && '0' <= s[i+1] && s[i+1] <= '9' {
		return sqlPositional, end
	}
	if end >= len(s) || s[end] != '$' {
		return sqlSymbol, i + 1
	}
	tag := s[i : end+1]
	n := strings.Index(s[end+1:], tag)
	if n < 0 {
		return sqlString, -1
	}
	return sqlString, end + 1 + n + len(tag)
}

// parseLookupSQL checks that a text is one query, as far as its form tells, and
// finds the columns of the change in it. It returns the query's end, without a
// semicolon and what follows.
func parseLookupSQL(s string) (params []sqlParam, end int, fault *sqlFault) {
	tokens, fault := scanSQL(s)
	if fault != nil {
		return nil, 0, fault
	}
	for len(tokens) > 0 && s[tokens[len(tokens)-1].start] == ';' {
		tokens = tokens[:len(tokens)-1]
	}
	if len(tokens) == 0 {
		return nil, 0, &sqlFault{0, "the query is empty", "write select ... from ... where id = new.cliente_id"}
	}
	first := tokens[0]
	if word := strings.ToLower(s[first.start:first.end]); !slices.Contains([]string{"select", "with", "values", "("}, word) {
		return nil, 0, &sqlFault{first.start, "a lookup is a query", "write select ... from ... where id = new.cliente_id"}
	}
	depth := 0
	for i, t := range tokens {
		switch text := s[t.start:t.end]; {
		case t.kind == sqlPositional:
			return nil, 0, &sqlFault{t.start, text + " has no value", "write new.column, or old.column"}
		case t.kind == sqlSymbol && text == ";":
			return nil, 0, &sqlFault{t.start, "a lookup is one query", "remove what follows the semicolon"}
		case t.kind == sqlSymbol && text == "(":
			depth++
		case t.kind == sqlSymbol && text == ")":
			if depth--; depth < 0 {
				return nil, 0, &sqlFault{t.start, "this parenthesis closes nothing", "remove it"}
			}
		case t.kind == sqlWord:
			p, found, fault := paramAt(s, tokens, i)
			if fault != nil {
				return nil, 0, fault
			}
			if found {
				params = append(params, p)
			}
		}
	}
	if depth > 0 {
		return nil, 0, &sqlFault{first.start, "a parenthesis is not closed", "add )"}
	}
	return params, tokens[len(tokens)-1].end, nil
}

// paramAt reads new.x or old.x at a word. "new" in quotes is a name of the
// query's own.
func paramAt(s string, tokens []sqlToken, i int) (sqlParam, bool, *sqlFault) {
	symbol := func(i int, c byte) bool {
		return i >= 0 && i < len(tokens) && tokens[i].kind == sqlSymbol && s[tokens[i].start] == c
	}
	t := tokens[i]
	row := strings.ToLower(s[t.start:t.end])
	if row != "new" && row != "old" || symbol(i-1, '.') || !symbol(i+1, '.') {
		return sqlParam{}, false, nil
	}
	if i+2 >= len(tokens) || tokens[i+2].kind != sqlWord && tokens[i+2].kind != sqlQuoted {
		return sqlParam{}, false, &sqlFault{t.start, row + ". needs a column's name", "write " + row + ".column"}
	}
	c := tokens[i+2]
	name := strings.ToLower(s[c.start:c.end])
	if c.kind == sqlQuoted {
		name = strings.ReplaceAll(s[c.start+1:c.end-1], `""`, `"`)
	}
	return sqlParam{start: t.start, end: c.end, old: row == "old", column: name}, true, nil
}
