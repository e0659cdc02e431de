package expr

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
		"arraycontains(anyarray,anyarray)":  withEquality(containsAll),
		"arraycontained(anyarray,anyarray)": withEquality(func(m *Machine, a, b *array, eq equality) value { return containsAll(m, b, a, eq) }),
		"arrayoverlap(anyarray,anyarray)":   withEquality(overlap),
		"cardinality(anyarray)":             one(func(_ *Machine, a value) value { return intValue(int64(len(a.arr.elems))) }),
		"array_ndims(anyarray)": one(func(_ *Machine, a value) value {
			if len(a.arr.dims) == 0 {
				return value{}
			}
			return intValue(int64(len(a.arr.dims)))
		}),
		"array_length(anyarray,int4)":                      onDimension(func(_, length int) int { return length }),
		"array_upper(anyarray,int4)":                       onDimension(func(lower, length int) int { return lower + length - 1 }),
		"array_lower(anyarray,int4)":                       onDimension(func(lower, _ int) int { return lower }),
		"array_to_string(anyarray,text)":                   arrayToString(),
		"array_to_string(anyarray,text,text)":              arrayToString(),
		"array_position(anycompatiblearray,anycompatible)": arrayPosition(),
	}
}

// containsAll is a @> b: every element of b equals one of a; a null equals none.
func containsAll(m *Machine, a, b *array, eq equality) value {
	for _, want := range b.elems {
		if r := has(m, a, want, eq); !r.isTrue() {
			return r
		}
	}
	return boolValue(true)
}

func overlap(m *Machine, a, b *array, eq equality) value {
	for _, want := range b.elems {
		if r := has(m, a, want, eq); !r.isFalse() {
			return r
		}
	}
	return boolValue(false)
}

func has(m *Machine, a *array, want value, eq equality) value {
	if want.state == stateNull {
		return boolValue(false)
	}
	for _, e := range a.elems {
		if e.state == stateNull {
			continue
		}
		if r := eq(m, e, want); !r.isFalse() {
			return r
		}
	}
	return boolValue(false)
}

// arrayToString joins the elements' text forms. Nulls are left out, unless the
// third argument replaces them.
func arrayToString() *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		elem, err := textCodec(t.args[0], t.args[0].typ.Base().Elem, "use the array as it is")
		if err != nil {
			return nil, err
		}
		codecs := []*codec{elem}
		if len(t.args) == 2 {
			return two(func(m *Machine, a, sep value) value { return m.join(a.arr.elems, codecs, sep.s, value{}) }), nil
		}
		return &impl{lax: true, many: func(m *Machine, a []value) value {
			if a[0].state == stateNull || a[1].state == stateNull {
				return value{}
			}
			return m.join(a[0].arr.elems, codecs, a[1].s, a[2])
		}}, nil
	})
}

// arrayPosition finds the first element that is not distinct from the second
// argument.
func arrayPosition() *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		eq, err := elementEquality(c, t)
		if err != nil {
			return nil, err
		}
		return &impl{lax: true, many: func(m *Machine, a []value) value {
			if a[0].state == stateNull {
				return value{}
			}
			arr, want := a[0].arr, a[1]
			if len(arr.dims) > 1 {
				return m.fail("0A000", "searching for elements in multidimensional arrays is not supported")
			}
			for i, e := range arr.elems {
				found := e.state == stateNull && want.state == stateNull
				if e.state == stateKnown && want.state == stateKnown {
					r := eq(m, e, want)
					if r.state == stateFailed {
						return r
					}
					found = r.isTrue()
				}
				if found {
					return intValue(int64(arr.lower[0] + i))
				}
			}
			return value{}
		}}, nil
	})
}
