package expr

import (
	"bytes"
	"strconv"
)

// arrayParser reads an array's text form. It is stricter than some versions of
// PostgreSQL's array_in and never more lenient.
type arrayParser struct {
	s     []byte
	i     int
	delim byte
	m     *Machine
	elem  *codec
	a     *array
	bad   bool
}

// maxDimensions is PostgreSQL's MAXDIM.
const maxDimensions = 6

func (p *arrayParser) space() {
	for p.i < len(p.s) && isBlank(p.s[p.i]) {
		p.i++
	}
}

func (p *arrayParser) take(c byte) bool {
	if p.i < len(p.s) && p.s[p.i] == c {
		p.i++
		return true
	}
	return false
}

// bounds reads [0:1][5:6]= before the braces.
func (p *arrayParser) bounds() {
	for p.take('[') {
		lo, ok1 := p.integer()
		ok2 := p.take(':')
		hi, ok3 := p.integer()
		if !ok1 || !ok2 || !ok3 || !p.take(']') || hi < lo || len(p.a.dims) == maxDimensions {
			p.bad = true
			return
		}
		p.a.lower = append(p.a.lower, lo)
		p.a.dims = append(p.a.dims, hi-lo+1)
	}
	if p.a.dims != nil && !p.take('=') {
		p.bad = true
	}
}

func (p *arrayParser) integer() (int, bool) {
	start := p.i
	p.take('-')
	for p.i < len(p.s) && isDigit(p.s[p.i]) {
		p.i++
	}
	n, err := strconv.ParseInt(string(p.s[start:p.i]), 10, 32)
	return int(n), err == nil
}

// level reads one brace with what is in it. All braces of a level have the
// same number of items, and only the innermost have elements.
func (p *arrayParser) level(depth int) value {
	p.space()
	if p.bad || depth == maxDimensions || !p.take('{') {
		p.bad = true
		return value{}
	}
	p.space()
	if p.take('}') {
		p.bad = p.bad || depth > 0 // {{}} differs between versions
		return value{}
	}
	count, innermost := 0, true
	for {
		p.space()
		nested := p.i < len(p.s) && p.s[p.i] == '{'
		if count > 0 && nested == innermost {
			p.bad = true
			return value{}
		}
		innermost = !nested
		var v value
		if nested {
			v = p.level(depth + 1)
		} else {
			v = p.element()
		}
		if p.bad || v.state == stateFailed {
			return v
		}
		count++
		p.space()
		if p.take('}') {
			break
		}
		if !p.take(p.delim) {
			p.bad = true
			return value{}
		}
	}
	p.close(depth, count, innermost)
	return value{}
}

// close notes how many items a brace had. The inner braces close first.
func (p *arrayParser) close(depth, count int, innermost bool) {
	for len(p.a.dims) <= depth {
		p.a.dims = append(p.a.dims, 0)
	}
	if p.a.dims[depth] != 0 && p.a.dims[depth] != count || innermost && len(p.a.dims) > depth+1 {
		p.bad = true
	}
	p.a.dims[depth] = count
}

// element reads a quoted or plain element and appends its value.
func (p *arrayParser) element() value {
	if p.take('"') {
		start := len(p.m.arena)
		for p.i < len(p.s) && p.s[p.i] != '"' {
			p.unescaped()
		}
		if !p.take('"') {
			p.bad = true
		}
		return p.add(p.m.grown(start).s)
	}
	start, end, escaped := len(p.m.arena), len(p.m.arena), false
	for p.i < len(p.s) && p.s[p.i] != p.delim && p.s[p.i] != '}' {
		switch c := p.s[p.i]; {
		case c == '{' || c == '"':
			p.bad = true
			return value{}
		case c == '\\':
			p.unescaped()
			end, escaped = len(p.m.arena), true
		default:
			p.unescaped()
			if !isBlank(c) { // blanks at the end do not count
				end = len(p.m.arena)
			}
		}
	}
	text := p.m.arena[start:end:end]
	if len(text) == 0 {
		p.bad = true
		return value{}
	}
	if !escaped && bytes.EqualFold(text, []byte("null")) {
		p.a.elems = append(p.a.elems, value{})
		return value{}
	}
	return p.add(text)
}

func isBlank(c byte) bool {
	return c == ' ' || c >= '\t' && c <= '\r'
}

// unescaped takes one byte, or the one after a backslash.
func (p *arrayParser) unescaped() {
	if p.s[p.i] == '\\' {
		p.i++
	}
	if p.i == len(p.s) {
		p.bad = true
		return
	}
	p.m.arena = append(p.m.arena, p.s[p.i])
	p.i++
}

func (p *arrayParser) add(text []byte) value {
	if p.bad {
		return value{}
	}
	v := p.elem.parse(p.m, text)
	if v.state != stateFailed {
		p.a.elems = append(p.a.elems, v)
	}
	return v
}
