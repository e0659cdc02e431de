package jsontext

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
)

// MaxDepth is how deep objects and lists may be nested in what people send: far
// deeper than anything that is read from it.
const MaxDepth = 64

// Mistake is what encoding/json accepts and nobody means.
type Mistake struct {
	// Pointer is where it is (RFC 6901), Offset the byte behind it.
	Pointer string
	Offset  int64
	// Message says what is wrong, Hint what to do.
	Message, Hint string
}

// Check returns up to n mistakes of a valid JSON text: a key that an object has
// twice, of which parsers take either; the character U+0000, which PostgreSQL
// keeps in no text; and one that ends the check, a nesting deeper than MaxDepth.
func Check(src []byte, n int) []Mistake {
	c := checker{decoder: json.NewDecoder(bytes.NewReader(src))}
	for len(c.mistakes) < n {
		t, err := c.decoder.Token()
		if err != nil || !c.token(t) { // io.EOF: the text is valid
			break
		}
	}
	return c.mistakes
}

// checker walks over the tokens of a text.
type checker struct {
	decoder  *json.Decoder
	levels   []level
	mistakes []Mistake
}

// level is an object or a list that has begun.
type level struct {
	keys   map[string]bool // of an object; nil: it is a list
	member string          // the key or index of the value that comes next
	index  int
	inside bool // an object's key was read, and its value comes next
}

// token takes the next token and reports whether to go on.
func (c *checker) token(t json.Token) bool {
	if d, ok := t.(json.Delim); ok && (d == '}' || d == ']') {
		c.levels = c.levels[:len(c.levels)-1]
		c.valueEnded()
		return true
	}
	text, isText := t.(string)
	key := false
	if top := c.top(); top != nil && top.keys != nil && !top.inside {
		key, top.member, top.inside = true, text, true
		if top.keys[text] {
			c.mistake("remove one", "%q is given twice", text)
		}
		top.keys[text] = true
	}
	if isText && strings.ContainsRune(text, 0) {
		c.mistake("remove it", `a text holds the character \u0000`)
	}
	switch d, ok := t.(json.Delim); {
	case ok && len(c.levels) == MaxDepth:
		c.mistake("nothing here is nested like this", "objects and lists are nested more than %d deep", MaxDepth)
		return false
	case ok && d == '{':
		c.levels = append(c.levels, level{keys: map[string]bool{}})
	case ok:
		c.levels = append(c.levels, level{member: "0"})
	case !key:
		c.valueEnded()
	}
	return true
}

func (c *checker) top() *level {
	if len(c.levels) == 0 {
		return nil
	}
	return &c.levels[len(c.levels)-1]
}

// valueEnded moves on behind a value.
func (c *checker) valueEnded() {
	switch top := c.top(); {
	case top == nil:
	case top.keys != nil:
		top.inside = false
	default:
		top.index++
		top.member = strconv.Itoa(top.index)
	}
}

func (c *checker) mistake(hint, format string, args ...any) {
	var pointer strings.Builder
	escape := strings.NewReplacer("~", "~0", "/", "~1")
	for i := range c.levels {
		pointer.WriteString("/" + escape.Replace(c.levels[i].member))
	}
	c.mistakes = append(c.mistakes, Mistake{Pointer: pointer.String(), Offset: c.decoder.InputOffset(), Message: fmt.Sprintf(format, args...), Hint: hint})
}
