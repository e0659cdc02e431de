package expr

import (
	"fmt"
	"slices"

	"gancho/cdc"
	"gancho/internal/pgtext"
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

// parseArray reads an array's text form. Elements are copied to the arena,
// because the reader keeps its text only until the next one.
func parseArray(m *Machine, s []byte, delim byte, elem *codec) value {
	r, a := pgtext.ReadArray(s, delim), &array{}
	for {
		item, text, err := r.Next()
		if err != nil {
			return m.failWith(err)
		}
		switch item {
		case pgtext.ArrayEnd:
			a.dims, a.lower = r.Shape()
			return value{state: stateKnown, arr: a}
		case pgtext.ArrayNull:
			a.elems = append(a.elems, value{})
		case pgtext.ArrayElement:
			v := elem.parse(m, m.appended(append(m.arena, text...)).s)
			if v.state == stateFailed {
				return v
			}
			a.elems = append(a.elems, v)
		}
	}
}

// listValue creates a one-dimensional array.
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
			dst = pgtext.AppendArrayElement(dst, elem.print(m, nil, v), delim)
		}
		next++
	}
	return append(dst, '}'), next
}
