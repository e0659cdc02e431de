package expr

import (
	"bytes"
	"slices"

	"gancho/internal/pgtext"
)

// sentText is the text form of an array that the server sent, and how to read it. Where
// PostgreSQL has arrays in binary form, reading all of the text would make a function that
// asks for little of it, such as cardinality or a[1], 200 times as slow.
type sentText struct {
	pgtext.PrintedArray
	delim    byte
	parse    func(m *Machine, s []byte) value // of elements
	integers bool
	quoted   bool // there are quotes, or what the server prints only in quotes
}

// smallArray is the length of the texts that are read at once, in bytes.
const smallArray = 256

// sentArray is parseArray for what the server sent.
func sentArray(m *Machine, s []byte, delim byte, parse func(m *Machine, s []byte) value, integers bool) value {
	if len(s) > smallArray {
		if p, dims, lower, ok := pgtext.ReadPrintedArray(s, delim); ok {
			quoted := slices.ContainsFunc([]byte(`"\ `), func(c byte) bool { return bytes.IndexByte(s, c) >= 0 })
			return value{state: stateKnown, arr: &array{dims: dims, lower: lower, sent: &sentText{p, delim, parse, integers, quoted}}}
		}
	}
	return parseArray(m, s, delim, parse)
}

// readElements reads the elements, if they are not read yet.
func (m *Machine) readElements(a *array) (failed value, ok bool) {
	if a.sent == nil {
		return value{}, true
	}
	elems, ok := m.elements(a.length())
	if !ok {
		return m.overMemory(), false
	}
	r := a.reader()
	for i := range elems {
		v, _ := r.next(m)
		if v.state == stateFailed {
			return v, false
		}
		if a.sent.quoted && len(v.s) > 0 { // the reader reuses its memory
			if !m.room(len(v.s)) {
				return m.overMemory(), false
			}
			v.s = m.appended(append(m.arena, v.s...)).s
		}
		elems[i] = v
	}
	a.elems, a.sent = elems, nil
	return value{}, true
}

// element is an element by its place, from 0.
func (m *Machine) element(a *array, i int) value {
	if a.sent == nil {
		return a.elems[i]
	}
	item, text, err := a.sent.Element(i)
	return a.sent.value(m, item, text, err)
}

func (s *sentText) value(m *Machine, item pgtext.ArrayItem, text []byte, err error) value {
	switch {
	case err != nil:
		return m.failWith(err)
	case item == pgtext.ArrayNull:
		return value{}
	}
	return s.parse(m, text)
}

// elementReader reads an array's elements one by one. Those that were not read yet are
// not kept.
type elementReader struct {
	a    *array
	i    int                // of elems
	rest []byte             // of a text without quotes
	text pgtext.ArrayReader // of one with quotes
}

func (a *array) reader() elementReader {
	r := elementReader{a: a}
	if s := a.sent; s != nil && s.quoted {
		r.text = pgtext.ReadArray(s.Braces(), s.delim)
	} else if s != nil {
		r.rest = s.Braces()
	}
	return r
}

// next returns an element, which is valid until the next one, as long as there are more.
func (r *elementReader) next(m *Machine) (v value, more bool) {
	s := r.a.sent
	switch {
	case s == nil && r.i < len(r.a.elems):
		r.i++
		return r.a.elems[r.i-1], true
	case s == nil:
		return value{}, false
	case !s.quoted:
		return r.bare(m)
	}
	for {
		item, text, err := r.text.Next()
		if err != nil || item == pgtext.ArrayElement || item == pgtext.ArrayNull {
			return s.value(m, item, text, err), true
		}
		if item == pgtext.ArrayEnd {
			return value{}, false
		}
	}
}

// bare is next for a text without quotes, where most elements are numbers.
func (r *elementReader) bare(m *Machine) (v value, more bool) {
	sent, s, start := r.a.sent, r.rest, 0
	for start < len(s) && (s[start] == '{' || s[start] == sent.delim || s[start] == '}') {
		start++
	}
	if start == len(s) {
		return value{}, false
	}
	end, n, digits := start, int64(0), sent.integers
	for ; end < len(s) && s[end] != sent.delim && s[end] != '}'; end++ {
		d := s[end] - '0'
		digits = digits && d <= 9
		n = n*10 + int64(d)
	}
	r.rest = s[end:]
	switch text := s[start:end]; {
	case digits && len(text) <= 18:
		return intValue(n), true
	case string(text) == "NULL":
		return value{}, true
	default:
		return sent.parse(m, text), true
	}
}
