package expr

import (
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

type tokenKind uint8

const (
	tokEnd    tokenKind = iota
	tokWord             // unquoted identifier or keyword, folded to lower case
	tokQuoted           // "quoted identifier"
	tokString
	tokInteger
	tokNumber // with a point or an exponent
	tokOp     // an operator, also + - * / % ^ < > =
	tokPunct  // ( ) [ ] , . : ;
	tokCast   // ::
	tokParam  // $1, in a statement only
)

// Token is a piece of SQL.
type Token struct {
	kind tokenKind
	// Text is a name as SQL folds it, without its quotes, or another token: in a
	// statement as written, else unescaped.
	Text       string
	Start, End int // in bytes of the source
}

// lexer splits SQL as PostgreSQL's scan.l does, with standard_conforming_strings
// on: https://www.postgresql.org/docs/current/sql-syntax-lexical.html
type lexer struct {
	src         string
	pos         int
	foldAccents bool // the server folds accented letters of identifiers too
	// statement: the text is SQL that the server will read, so that what
	// expressions may not have is split all the same, and literals stay as written.
	statement bool
}

// Is reports whether the token is the word in lower case, or the operator or
// punctuation.
func (t Token) Is(text string) bool { return t.kind != tokQuoted && t.Text == text }

// IsName reports whether the token can be the name of something.
func (t Token) IsName() bool { return t.kind == tokWord || t.kind == tokQuoted }

// IsWord reports whether the token is a name or keyword without quotes.
func (t Token) IsWord() bool { return t.kind == tokWord }

// IsString reports whether the token is a string literal.
func (t Token) IsString() bool { return t.kind == tokString }

// Literal returns the text that a string literal of a statement stands for; false: the
// token is none, or PostgreSQL refuses an escape in it.
func (t Token) Literal() (text string, ok bool) {
	switch {
	case t.kind != tokString:
		return "", false
	case t.Text[0] == '$':
		tag := strings.IndexByte(t.Text[1:], '$') + 2
		return t.Text[tag : len(t.Text)-tag], true
	}
	l := lexer{src: t.Text}
	unescaped, err := l.next()
	return unescaped.Text, err == nil
}

// IsParameter reports whether the token is a parameter, such as $1.
func (t Token) IsParameter() bool { return t.kind == tokParam }

// TokenList are the tokens of a text, in order.
type TokenList []Token

// At returns a token, the zero Token outside of the list.
func (l TokenList) At(i int) Token {
	if i < 0 || i >= len(l) {
		return Token{}
	}
	return l[i]
}

// Tokens splits an SQL statement. With an error come the tokens before it.
func Tokens(sql string) (TokenList, *Error) {
	l := lexer{src: sql, foldAccents: true, statement: true}
	list, err := l.all()
	if err == nil {
		list = list[:len(list)-1] // without the end
	}
	return list, err
}

const maxSource = 64 << 10

// foldsAccents: a server in a single-byte encoding folds all letters that its
// locale knows, one in UTF8 only the ASCII ones (downcase_identifier).
func (s Settings) foldsAccents() bool {
	return !s.utf8() && !isC(s.CType)
}

func (s Settings) utf8() bool {
	return s.Encoding == "" || strings.EqualFold(s.Encoding, "UTF8")
}

// bytewise: the server counts bytes, because it does not know the encoding.
func (s Settings) bytewise() bool { return strings.EqualFold(s.Encoding, "SQL_ASCII") }

func isC(locale string) bool {
	return locale == "C" || locale == "POSIX"
}

func (l *lexer) errorf(off, end int, hint, format string, args ...any) *Error {
	return &Error{Offset: off, Length: max(end-off, 1), Message: fmt.Sprintf(format, args...), Hint: hint}
}

func (l *lexer) tokens() ([]Token, *Error) {
	if len(l.src) > maxSource {
		return nil, l.errorf(0, 1, "split the rule", "expression is longer than %d bytes", maxSource)
	}
	if i := strings.IndexByte(l.src, 0); i >= 0 {
		return nil, l.errorf(i, i+1, "remove it", "NUL byte in the expression")
	}
	if !utf8.ValidString(l.src) {
		return nil, l.errorf(0, len(l.src), "save the file as UTF-8", "expression is not valid UTF-8")
	}
	return l.all()
}

// all returns the tokens up to an error, or to the end, which is one.
func (l *lexer) all() (list []Token, err *Error) {
	for {
		t, err := l.next()
		if err != nil {
			return list, err
		}
		list = append(list, t)
		if t.kind == tokEnd {
			return list, nil
		}
	}
}

func (l *lexer) next() (Token, *Error) {
	if _, err := l.skipSpace(); err != nil {
		return Token{}, err
	}
	start := l.pos
	if start == len(l.src) {
		return Token{tokEnd, "", start, start}, nil
	}
	c := l.src[start]
	switch {
	case c == '\'':
		return l.stringLiteral(start, false)
	case c == '"':
		return l.quotedIdent(start)
	case isIdentStart(c):
		return l.word(start)
	case isDigit(c), c == '.' && start+1 < len(l.src) && isDigit(l.src[start+1]):
		return l.number(start)
	case c == ':' && strings.HasPrefix(l.src[start:], "::"):
		l.pos += 2
		return Token{tokCast, "::", start, l.pos}, nil
	case strings.IndexByte("()[],.:;", c) >= 0:
		l.pos++
		return Token{tokPunct, l.src[start:l.pos], start, l.pos}, nil
	case isOpChar(c):
		return l.operator(start), nil
	case c == '$' && l.statement:
		return l.dollar(start)
	case c == '$':
		return Token{}, l.errorf(start, start+1, "write the value as a 'string' or a number", "parameters and dollar quotes are not supported")
	}
	r, n := utf8.DecodeRuneInString(l.src[start:])
	if l.statement {
		l.pos += n
		return Token{tokPunct, l.src[start:l.pos], start, l.pos}, nil
	}
	return Token{}, l.errorf(start, start+n, "remove it", "unexpected character %q", r)
}

// dollar reads $1, $$text$$ or $tag$text$tag$ of a statement.
func (l *lexer) dollar(start int) (Token, *Error) {
	l.pos++
	l.digits(len(l.src), func(c byte) bool { return isIdentStart(c) || isDigit(c) })
	switch name := l.src[start+1 : l.pos]; {
	case name != "" && isDigit(name[0]):
		return Token{tokParam, l.src[start:l.pos], start, l.pos}, nil
	case l.pos == len(l.src) || l.src[l.pos] != '$':
		l.pos = start + 1
		return Token{tokPunct, "$", start, l.pos}, nil
	}
	l.pos++
	tag := l.src[start:l.pos]
	n := strings.Index(l.src[l.pos:], tag)
	if n < 0 {
		return Token{}, l.errorf(start, len(l.src), "close it with "+tag, "string does not end")
	}
	l.pos += n + len(tag)
	return Token{tokString, l.src[start:l.pos], start, l.pos}, nil
}

// skipSpace passes over blanks and comments and reports whether a line ended.
func (l *lexer) skipSpace() (newline bool, err *Error) {
	for l.pos < len(l.src) {
		switch c := l.src[l.pos]; {
		case c == '\n' || c == '\r':
			newline = true
			l.pos++
		case c == ' ' || c == '\t' || c == '\f' || c == '\v':
			l.pos++
		case strings.HasPrefix(l.src[l.pos:], "--"):
			n := strings.IndexAny(l.src[l.pos:], "\n\r")
			if n < 0 {
				n = len(l.src) - l.pos
			}
			l.pos += n
		case strings.HasPrefix(l.src[l.pos:], "/*"):
			if err := l.blockComment(); err != nil {
				return false, err
			}
		default:
			return newline, nil
		}
	}
	return newline, nil
}

// blockComment skips a comment; they nest.
func (l *lexer) blockComment() *Error {
	start, depth := l.pos, 0
	for l.pos < len(l.src) {
		switch {
		case strings.HasPrefix(l.src[l.pos:], "/*"):
			depth++
			l.pos += 2
		case strings.HasPrefix(l.src[l.pos:], "*/"):
			depth--
			l.pos += 2
			if depth == 0 {
				return nil
			}
		default:
			l.pos++
		}
	}
	return l.errorf(start, start+2, "close it with */", "comment does not end")
}

// stringLiteral reads '...' with its continuations on following lines. l.pos
// is at the opening quote; start is where the token begins (E comes before).
func (l *lexer) stringLiteral(start int, escapes bool) (Token, *Error) {
	var b strings.Builder
	for {
		l.pos++
		if err := l.stringBody(&b, start, escapes); err != nil {
			return Token{}, err
		}
		end := l.pos
		newline, err := l.skipSpace()
		if err != nil {
			return Token{}, err
		}
		if !newline || l.pos == len(l.src) || l.src[l.pos] != '\'' {
			l.pos = end
			break
		}
	}
	if l.statement {
		return Token{tokString, l.src[start:l.pos], start, l.pos}, nil
	}
	if !utf8.ValidString(b.String()) || strings.IndexByte(b.String(), 0) >= 0 {
		return Token{}, l.errorf(start, l.pos, "write \\u escapes for characters", "escapes in the string make no valid UTF-8 text")
	}
	return Token{tokString, b.String(), start, l.pos}, nil
}

// stringBody reads up to and including the closing quote.
func (l *lexer) stringBody(b *strings.Builder, start int, escapes bool) *Error {
	for l.pos < len(l.src) {
		c := l.src[l.pos]
		switch {
		case c == '\'' && strings.HasPrefix(l.src[l.pos:], "''"):
			b.WriteByte('\'')
			l.pos += 2
		case c == '\'':
			l.pos++
			return nil
		case c == '\\' && escapes && l.statement:
			l.pos = min(l.pos+2, len(l.src))
		case c == '\\' && escapes:
			if err := l.escape(b); err != nil {
				return err
			}
		default:
			b.WriteByte(c)
			l.pos++
		}
	}
	return l.errorf(start, len(l.src), "close it with '", "string does not end")
}

// escape reads one backslash escape of an E” string.
func (l *lexer) escape(b *strings.Builder) *Error {
	at := l.pos
	l.pos++
	if l.pos == len(l.src) {
		return l.errorf(at, at+1, "close it with '", "string does not end")
	}
	c := l.src[l.pos]
	l.pos++
	switch {
	case c == 'u' || c == 'U':
		return l.unicodeEscape(b, at, c)
	case c == 'x' && l.pos < len(l.src) && isHex(l.src[l.pos]):
		n := l.digits(2, isHex)
		v, _ := strconv.ParseUint(l.src[l.pos-n:l.pos], 16, 8) // at most two hex digits
		b.WriteByte(byte(v))
	case c >= '0' && c <= '7':
		l.pos--
		n := l.digits(3, func(c byte) bool { return c >= '0' && c <= '7' })
		v, _ := strconv.ParseUint(l.src[l.pos-n:l.pos], 8, 16) // at most three octal digits
		b.WriteByte(byte(v))                                   // PostgreSQL keeps the low byte too
	default:
		if i := strings.IndexByte("bfnrtv", c); i >= 0 {
			c = "\b\f\n\r\t\v"[i]
		}
		b.WriteByte(c)
	}
	return nil
}

func (l *lexer) unicodeEscape(b *strings.Builder, at int, c byte) *Error {
	want := 4
	if c == 'U' {
		want = 8
	}
	n := l.digits(want, isHex)
	v, _ := strconv.ParseUint(l.src[l.pos-n:l.pos], 16, 32) // hex digits only
	if n != want || v == 0 || !utf8.ValidRune(rune(v)) {
		return l.errorf(at, l.pos, "write \\uXXXX or \\UXXXXXXXX, or the character itself", "invalid Unicode escape")
	}
	b.WriteRune(rune(v))
	return nil
}

// digits passes over up to limit bytes of a class and returns how many.
func (l *lexer) digits(limit int, class func(byte) bool) int {
	n := 0
	for n < limit && l.pos < len(l.src) && class(l.src[l.pos]) {
		l.pos++
		n++
	}
	return n
}

func (l *lexer) quotedIdent(start int) (Token, *Error) {
	var b strings.Builder
	for l.pos++; l.pos < len(l.src); l.pos++ {
		if l.src[l.pos] != '"' {
			b.WriteByte(l.src[l.pos])
			continue
		}
		if !strings.HasPrefix(l.src[l.pos:], `""`) {
			l.pos++
			if b.Len() == 0 {
				return Token{}, l.errorf(start, l.pos, "name a column", "quoted name is empty")
			}
			return Token{tokQuoted, b.String(), start, l.pos}, nil
		}
		b.WriteByte('"')
		l.pos++
	}
	return Token{}, l.errorf(start, len(l.src), `close it with "`, "quoted name does not end")
}

func (l *lexer) word(start int) (Token, *Error) {
	for l.pos < len(l.src) && isIdentPart(l.src[l.pos]) {
		l.pos++
	}
	raw := l.src[start:l.pos]
	quoted := l.pos < len(l.src) && l.src[l.pos] == '\''
	switch {
	case quoted && (raw == "e" || raw == "E"):
		return l.stringLiteral(start, true)
	case l.statement:
		return Token{tokWord, l.fold(raw), start, l.pos}, nil
	case quoted && len(raw) == 1:
		switch raw[0] {
		case 'b', 'B', 'x', 'X':
			return Token{}, l.errorf(start, l.pos+1, "compare with a number or a text", "bit strings are not supported")
		case 'n', 'N':
			return Token{}, l.errorf(start, l.pos+1, "write '...' without the N", "N'...' strings are not supported")
		}
	}
	if (raw == "u" || raw == "U") && strings.HasPrefix(l.src[l.pos:], "&'") {
		return Token{}, l.errorf(start, l.pos+2, `write E'\u00e9' or the character itself`, "U&'...' strings are not supported")
	}
	return Token{tokWord, l.fold(raw), start, l.pos}, nil
}

func (l *lexer) fold(s string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'A' && r <= 'Z' {
			return r + 'a' - 'A'
		}
		if r >= utf8.RuneSelf && l.foldAccents {
			return unicode.ToLower(r)
		}
		return r
	}, s)
}

func (l *lexer) number(start int) (Token, *Error) {
	kind := tokInteger
	l.digits(len(l.src), isDigit)
	if l.pos < len(l.src) && l.src[l.pos] == '.' {
		kind = tokNumber
		l.pos++
		l.digits(len(l.src), isDigit)
	}
	if l.pos < len(l.src) && (l.src[l.pos] == 'e' || l.src[l.pos] == 'E') {
		at := l.pos
		l.pos++
		if l.pos < len(l.src) && (l.src[l.pos] == '+' || l.src[l.pos] == '-') {
			l.pos++
		}
		if l.digits(len(l.src), isDigit) == 0 {
			l.pos = at
		} else {
			kind = tokNumber
		}
	}
	if l.pos < len(l.src) && isIdentPart(l.src[l.pos]) && !l.statement {
		for l.pos < len(l.src) && isIdentPart(l.src[l.pos]) {
			l.pos++
		}
		return Token{}, l.errorf(start, l.pos, "put a blank after the number, or quotes around the text", "trailing junk after the number")
	}
	return Token{kind, l.src[start:l.pos], start, l.pos}, nil
}

// operator reads the longest run of operator characters, which ends before a
// comment, and gives back a trailing + or - unless the run has one of the
// characters that no SQL operator has: so a=-1 is a = -1.
func (l *lexer) operator(start int) Token {
	end := start
	for end < len(l.src) && isOpChar(l.src[end]) {
		if rest := l.src[end:]; end > start && (strings.HasPrefix(rest, "--") || strings.HasPrefix(rest, "/*")) {
			break
		}
		end++
	}
	if !strings.ContainsAny(l.src[start:end-1], "~!@#^&|`?%") {
		for end-start > 1 && (l.src[end-1] == '+' || l.src[end-1] == '-') {
			end--
		}
	}
	l.pos = end
	text := l.src[start:end]
	if text == "!=" {
		text = "<>"
	}
	return Token{tokOp, text, start, end}
}

func isDigit(c byte) bool { return c >= '0' && c <= '9' }

func isHex(c byte) bool {
	return isDigit(c) || c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F'
}

func isIdentStart(c byte) bool {
	return c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_' || c >= utf8.RuneSelf
}

func isIdentPart(c byte) bool { return isIdentStart(c) || isDigit(c) || c == '$' }

func isOpChar(c byte) bool { return strings.IndexByte("~!@#^&|`?+-*/%<>=", c) >= 0 }
