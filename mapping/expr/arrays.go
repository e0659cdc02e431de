package expr

import (
	"bytes"
	"fmt"
	"slices"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// array is an array's value, row by row. A large one that the server sent is read no
// further than it is asked for.
type array struct {
	dims, lower []int
	elems       []value   // not to be used before readElements
	sent        *sentText // nil: elems are read
}

// length is the number of elements.
func (a *array) length() int {
	if len(a.dims) == 0 {
		return 0
	}
	n := 1
	for _, d := range a.dims {
		n *= d
	}
	return n
}

func arrayCodec(t *cdc.Type) *codec {
	elem := codecOf(t.Elem)
	delim := t.Delim
	if delim == 0 {
		delim = ','
	}
	return &codec{
		parse:    func(m *Machine, s []byte) value { return sentArray(m, s, delim, elem.parse, isInt(t.Elem.Base())) },
		input:    func(m *Machine, s []byte) value { return parseArray(m, s, delim, elem.read) },
		print:    func(m *Machine, dst []byte, v value) []byte { return printArray(m, dst, v.arr, delim, elem) },
		literals: elem.literals,
		elem:     elem,
	}
}

// parseArray reads an array's text form. Elements with quotes or blanks are copied
// to the arena, because the reader keeps its text only until the next one; others
// refer to s, and their number is that of the delimiters.
func parseArray(m *Machine, s []byte, delim byte, parse func(m *Machine, s []byte) value) value {
	r, a := pgtext.ReadArray(s, delim), &array{}
	copied := bytes.ContainsAny(s, "\"\\ \t\n\r\v\f")
	var ok bool
	if copied {
		ok = m.room(len(s))
	} else {
		a.elems, ok = m.elements(bytes.Count(s, []byte{delim}) + 1)
		a.elems = a.elems[:0]
	}
	if !ok {
		return m.overMemory()
	}
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
			a.elems, ok = m.withElement(a.elems, value{})
		case pgtext.ArrayElement:
			if copied {
				text = m.appended(append(m.arena, text...)).s
			}
			v := parse(m, text)
			if v.state == stateFailed {
				return v
			}
			a.elems, ok = m.withElement(a.elems, v)
		}
		if !ok {
			return m.overMemory()
		}
	}
}

// listValue creates a one-dimensional array.
func listValue(elems []value) value {
	if len(elems) == 0 {
		return value{state: stateKnown, arr: &array{}}
	}
	return value{state: stateKnown, arr: &array{dims: []int{len(elems)}, lower: []int{1}, elems: elems}}
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
	var scratch []byte
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
			text := v.s
			if !elem.plain {
				scratch = elem.print(m, scratch[:0], v)
				text = scratch
			}
			dst = pgtext.AppendArrayElement(dst, text, delim)
		}
		next++
	}
	return append(dst, '}'), next
}

// equality is the code that compares two elements.
type equality = func(m *Machine, a, b value) value

// withEquality is an implementation that compares elements of its arrays.
func withEquality(f func(m *Machine, a, b *array, eq equality) value) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		eq, err := elementEquality(c, t)
		return two(func(m *Machine, a, b value) value { return f(m, a.arr, b.arr, eq) }), err
	})
}

// onDimension is an implementation about one dimension; null when the array has
// fewer.
func onDimension(f func(lower, length int) int) *impl {
	return two(func(_ *Machine, a, dim value) value {
		if dim.i < 1 || dim.i > int64(len(a.arr.dims)) {
			return value{}
		}
		return intValue(int64(f(a.arr.lower[dim.i-1], a.arr.dims[dim.i-1])))
	})
}

// arrayImpls are the operators and functions of arrays.
func arrayImpls() map[string]*impl {
	return map[string]*impl{
		"cardinality(anyarray)":               one(func(_ *Machine, a value) value { return intValue(int64(a.arr.length())) }),
		"array_length(anyarray,int4)":         onDimension(func(_, length int) int { return length }),
		"array_to_string(anyarray,text)":      arrayToString(),
		"array_to_string(anyarray,text,text)": arrayToString(),
	}
}

// arrayToString joins the elements' text forms. Nulls are left out, unless the
// third argument replaces them.
func arrayToString() *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		elem, err := c.textCodec(t.args[0], t.args[0].typ.Base().Elem, "use the array as it is")
		if err != nil {
			return nil, err
		}
		codecs := []*codec{elem}
		if len(t.args) == 2 {
			return two(func(m *Machine, a, sep value) value { return m.joinElements(a.arr, codecs, sep.s, value{}) }), nil
		}
		return &impl{lax: true, many: func(m *Machine, a []value) value {
			if a[0].state == stateNull || a[1].state == stateNull {
				return value{}
			}
			return m.joinElements(a[0].arr, codecs, a[1].s, a[2])
		}}, nil
	})
}

// variadicImpls are the functions of any number of arguments of any type.
func variadicImpls() map[string]*impl {
	return map[string]*impl{
		"concat":                  bound(func(c *checker, t *term) (*impl, *Error) { return c.concatImpl(t, false) }),
		"concat_ws":               bound(func(c *checker, t *term) (*impl, *Error) { return c.concatImpl(t, true) }),
		"num_nulls":               countNulls(true),
		"num_nonnulls":            countNulls(false),
		"jsonb_extract_path":      pathImpl(false),
		"jsonb_extract_path_text": pathImpl(true),
	}
}

// concatImpl joins the text forms of what is not null, in concat_ws with the
// first argument between them.
func (c *checker) concatImpl(t *term, separated bool) (*impl, *Error) {
	codecs := make([]*codec, len(t.args))
	for i, a := range t.args {
		var err *Error
		if codecs[i], err = c.textCodec(a, a.typ, "use the value as it is"); err != nil {
			return nil, err
		}
	}
	return &impl{lax: true, many: func(m *Machine, args []value) value {
		if !separated {
			return m.join(args, codecs, nil, value{})
		}
		if args[0].state == stateNull {
			return value{}
		}
		return m.join(args[1:], codecs[1:], args[0].s, value{})
	}}, nil
}

func (m *Machine) joinElements(a *array, codecs []*codec, sep []byte, null value) value {
	if failed, ok := m.readElements(a); !ok {
		return failed
	}
	return m.join(a.elems, codecs, sep, null)
}

// join writes the text forms with sep between them. Nulls are replaced by null, or
// left out when that is null too. Values beyond the codecs have the last one.
func (m *Machine) join(list []value, codecs []*codec, sep []byte, null value) value {
	size := 0
	for i, v := range list {
		if failed, ok := m.canPrint(v); !ok {
			return failed
		}
		switch {
		case v.state != stateNull:
			size += len(sep) + codecs[min(i, len(codecs)-1)].size(v)
		case null.state != stateNull:
			size += len(sep) + len(null.s)
		}
	}
	if !m.room(size) {
		return m.overMemory()
	}
	start := len(m.arena)
	some := false
	for i, v := range list {
		if v.state == stateNull && null.state == stateNull {
			continue
		}
		if some {
			m.arena = append(m.arena, sep...)
		}
		some = true
		if v.state == stateNull {
			m.arena = append(m.arena, null.s...)
		} else {
			m.arena = codecs[min(i, len(codecs)-1)].print(m, m.arena, v)
		}
	}
	return m.grown(start)
}

func countNulls(nulls bool) *impl {
	return &impl{lax: true, many: func(_ *Machine, args []value) value {
		n := 0
		for _, a := range args {
			if (a.state == stateNull) == nulls {
				n++
			}
		}
		return intValue(int64(n))
	}}
}
