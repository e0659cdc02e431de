package pgtext

import (
	"encoding/hex"
	"unicode/utf8"

	"gancho/internal/jsontext"
)

// maxJSONDepth bounds the nesting of JSON that is read, because each level
// needs a stack frame here and at every receiver (encoding/json has the same limit).
const maxJSONDepth = 10_000

var (
	errJSONSyntax = &Error{Code: codeTextSyntax, Message: "invalid input syntax for type json"}
	errJSONDepth  = &Error{Code: "54001", Message: "JSON nested deeper than 10000 levels"}
)

// jsonScanner walks over JSON text and checks its syntax (RFC 8259).
type jsonScanner struct {
	s     []byte
	i     int
	depth int
	// lines counts the line ends between tokens: strings cannot hold any.
	lines int
}

// checkJSON reports whether text is one JSON value, and the number of line
// ends in it.
func checkJSON(text []byte) (lines int, err error) {
	p := jsonScanner{s: text}
	p.space()
	if err := p.value(); err != nil {
		return 0, err
	}
	p.space()
	if p.i != len(text) {
		return 0, errJSONSyntax
	}
	return p.lines, nil
}

// value walks over one value and leaves the position after it.
func (p *jsonScanner) value() error {
	switch p.peek() {
	case '{':
		return p.container('}')
	case '[':
		return p.container(']')
	case '"':
		return p.str()
	case 't':
		return p.word("true")
	case 'f':
		return p.word("false")
	case 'n':
		return p.word("null")
	}
	n := numberLength(p.s[p.i:])
	if n == 0 {
		return errJSONSyntax
	}
	p.i += n
	return nil
}

// container walks over an object or an array.
func (p *jsonScanner) container(closing byte) error {
	if p.depth++; p.depth > maxJSONDepth {
		return errJSONDepth
	}
	p.i++
	p.space()
	for first := true; ; first = false {
		if first && p.peek() == closing {
			break
		}
		if closing == '}' {
			if err := p.key(); err != nil {
				return err
			}
		}
		if err := p.value(); err != nil {
			return err
		}
		p.space()
		if p.peek() == closing {
			break
		}
		if p.peek() != ',' {
			return errJSONSyntax
		}
		p.i++
		p.space()
	}
	p.i++
	p.depth--
	return nil
}

// key walks over a field's name and the colon.
func (p *jsonScanner) key() error {
	if err := p.str(); err != nil {
		return err
	}
	p.space()
	if p.peek() != ':' {
		return errJSONSyntax
	}
	p.i++
	p.space()
	return nil
}

// str walks over a string: its characters are UTF-8 and its escapes complete.
func (p *jsonScanner) str() error {
	if p.peek() != '"' {
		return errJSONSyntax
	}
	s, i := p.s, p.i+1
	i += jsontext.PlainPrefix(s[i:])
	for i < len(s) {
		c := s[i]
		switch {
		case c >= ' ' && c < utf8.RuneSelf && c != '"' && c != '\\':
			i++
		case c == '"':
			p.i = i + 1
			return nil
		case c == '\\':
			n := escapeLength(s[i:])
			if n == 0 {
				return errJSONSyntax
			}
			i += n
		case c < ' ':
			return errJSONSyntax
		default:
			r, n := utf8.DecodeRune(s[i:])
			if r == utf8.RuneError && n == 1 {
				return errJSONSyntax
			}
			i += n
			i += jsontext.PlainPrefix(s[i:])
		}
	}
	return errJSONSyntax
}

// escapeLength returns the length of the escape that s begins with, 0 when it is none.
func escapeLength(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(s[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(s []byte) (rune, bool) {
	if len(s) < 4 {
		return 0, false
	}
	var b [2]byte
	_, err := hex.Decode(b[:], s[:4])
	return rune(b[0])<<8 | rune(b[1]), err == nil
}

// numberLength returns the length of the JSON number that s begins with, 0
// without one.
func numberLength(s []byte) int {
	i := 0
	if i < len(s) && s[i] == '-' {
		i++
	}
	switch {
	case i < len(s) && s[i] == '0':
		i++
	case i < len(s) && isDigit(s[i]):
		i = skipDigits(s, i)
	default:
		return 0
	}
	if i < len(s) && s[i] == '.' {
		n := skipDigits(s, i+1)
		if n == i+1 {
			return 0
		}
		i = n
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		n := skipDigits(s, i)
		if n == i {
			return 0
		}
		i = n
	}
	return i
}

func skipDigits(s []byte, i int) int {
	for i < len(s) && isDigit(s[i]) {
		i++
	}
	return i
}

func (p *jsonScanner) word(w string) error {
	if len(p.s)-p.i < len(w) || string(p.s[p.i:p.i+len(w)]) != w {
		return errJSONSyntax
	}
	p.i += len(w)
	return nil
}

func (p *jsonScanner) space() {
	for p.i < len(p.s) {
		switch p.s[p.i] {
		case '\n', '\r':
			p.lines++
		case ' ', '\t':
		default:
			return
		}
		p.i++
	}
}

// peek returns the next byte, 0 at the end.
func (p *jsonScanner) peek() byte {
	if p.i < len(p.s) {
		return p.s[p.i]
	}
	return 0
}
