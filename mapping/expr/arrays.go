package expr

import (
	"bytes"
	"fmt"
	"slices"

	"gancho/cdc"
)

func arrayCodec(t *cdc.Type) *codec {
	elem := codecOf(t.Elem)
	delim := t.Delim
	if delim == 0 {
		delim = ','
	}
	return &codec{
		parse:    func(m *Machine, s []byte) value { return parseArray(m, s, delim, elem) },
		print:    func(m *Machine, dst []byte, v value) []byte { return printArray(m, dst, v.arr, delim, elem) },
		literals: elem.literals,
	}
}

func parseArray(m *Machine, s []byte, delim byte, elem *codec) value {
	p := arrayParser{s: trimBlanks(s), delim: delim, m: m, elem: elem, a: &array{}}
	p.bounds()
	declared := p.a.dims
	p.a.dims = nil
	if v := p.level(0); v.state == stateFailed {
		return v
	}
	p.space()
	switch {
	case p.bad, p.i != len(p.s), declared != nil && !slices.Equal(declared, p.a.dims):
		return m.fail("22P02", "malformed array literal")
	case declared == nil:
		for range p.a.dims {
			p.a.lower = append(p.a.lower, 1)
		}
	}
	return value{state: stateKnown, arr: p.a}
}

// listValue makes a one-dimensional array.
func listValue(elems []value) value {
	if len(elems) == 0 {
		return value{state: stateKnown, arr: &array{}}
	}
	return value{state: stateKnown, arr: &array{[]int{len(elems)}, []int{1}, elems}}
}

// printArray is array_out.
func printArray(m *Machine, dst []byte, a *array, delim byte, elem *codec) []byte {
	if len(a.dims) == 0 {
		return append(dst, "{}"...)
	}
	if slices.ContainsFunc(a.lower, func(n int) bool { return n != 1 }) {
		for i, n := range a.dims {
			dst = fmt.Appendf(dst, "[%d:%d]", a.lower[i], a.lower[i]+n-1)
		}
		dst = append(dst, '=')
	}
	dst, _ = printLevel(m, dst, a, 0, 0, delim, elem)
	return dst
}

// printLevel writes one brace of the array and returns the next element's index.
func printLevel(m *Machine, dst []byte, a *array, level, next int, delim byte, elem *codec) ([]byte, int) {
	dst = append(dst, '{')
	for i := range a.dims[level] {
		if i > 0 {
			dst = append(dst, delim)
		}
		if level+1 < len(a.dims) {
			dst, next = printLevel(m, dst, a, level+1, next, delim, elem)
			continue
		}
		if v := a.elems[next]; v.state == stateNull {
			dst = append(dst, "NULL"...)
		} else {
			dst = printElement(dst, elem.print(m, nil, v), delim)
		}
		next++
	}
	return append(dst, '}'), next
}

func printElement(dst, text []byte, delim byte) []byte {
	quote := len(text) == 0 || bytes.EqualFold(text, []byte("null")) || bytes.IndexByte(text, delim) >= 0 ||
		bytes.ContainsAny(text, "{}\"\\ \t\n\r\v\f")
	if !quote {
		return append(dst, text...)
	}
	dst = append(dst, '"')
	for _, c := range text {
		if c == '"' || c == '\\' {
			dst = append(dst, '\\')
		}
		dst = append(dst, c)
	}
	return append(dst, '"')
}
