package expr

// arrayImpls makes the operators and functions of arrays.
func arrayImpls() map[string]*impl {
	contains := func(swap bool) *impl {
		return bound(func(c *checker, t *term) (*impl, *Error) {
			eq, err := elementEquality(c, t)
			if err != nil {
				return nil, err
			}
			return two(func(m *Machine, a, b value) value {
				if swap {
					a, b = b, a
				}
				return containsAll(m, a.arr, b.arr, eq)
			}), nil
		})
	}
	bound1 := func(upper bool) *impl {
		return two(func(_ *Machine, a, dim value) value {
			if dim.i < 1 || dim.i > int64(len(a.arr.dims)) {
				return value{}
			}
			lower := a.arr.lower[dim.i-1]
			if upper {
				return intValue(int64(lower + a.arr.dims[dim.i-1] - 1))
			}
			return intValue(int64(lower))
		})
	}
	return map[string]*impl{
		"arraycontains(anyarray,anyarray)":  contains(false),
		"arraycontained(anyarray,anyarray)": contains(true),
		"arrayoverlap(anyarray,anyarray)": bound(func(c *checker, t *term) (*impl, *Error) {
			eq, err := elementEquality(c, t)
			if err != nil {
				return nil, err
			}
			return two(func(m *Machine, a, b value) value { return overlap(m, a.arr, b.arr, eq) }), nil
		}),
		"cardinality(anyarray)": one(func(_ *Machine, a value) value { return intValue(int64(len(a.arr.elems))) }),
		"array_ndims(anyarray)": one(func(_ *Machine, a value) value {
			if len(a.arr.dims) == 0 {
				return value{}
			}
			return intValue(int64(len(a.arr.dims)))
		}),
		"array_length(anyarray,int4)": two(func(_ *Machine, a, dim value) value {
			if dim.i < 1 || dim.i > int64(len(a.arr.dims)) {
				return value{}
			}
			return intValue(int64(a.arr.dims[dim.i-1]))
		}),
		"array_upper(anyarray,int4)":                       bound1(true),
		"array_lower(anyarray,int4)":                       bound1(false),
		"array_to_string(anyarray,text)":                   arrayToString(),
		"array_to_string(anyarray,text,text)":              arrayToString(),
		"array_position(anycompatiblearray,anycompatible)": arrayPosition(),
	}
}

// containsAll is a @> b: every element of b equals one of a; a null equals none.
func containsAll(m *Machine, a, b *array, eq func(m *Machine, a, b value) value) value {
	for _, want := range b.elems {
		if r := has(m, a, want, eq); !r.isTrue() {
			return r
		}
	}
	return boolValue(true)
}

func overlap(m *Machine, a, b *array, eq func(m *Machine, a, b value) value) value {
	for _, want := range b.elems {
		if r := has(m, a, want, eq); !r.isFalse() {
			return r
		}
	}
	return boolValue(false)
}

func has(m *Machine, a *array, want value, eq func(m *Machine, a, b value) value) value {
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

// arrayToString joins the elements' text forms; nulls go, unless the third
// argument says what stands for them.
func arrayToString() *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		elem := t.args[0].typ.Base().Elem
		if isForeign(elem) || hasZone(elem) {
			return nil, refusal(t.args[0], "the text form of "+typeTitle(elem)+" is not supported", "use the array as it is")
		}
		codec := codecOf(elem)
		join := func(m *Machine, a *array, sep []byte, null value) value {
			start := len(m.arena)
			some := false
			for _, e := range a.elems {
				if e.state == stateNull && null.state == stateNull {
					continue
				}
				if some {
					m.arena = append(m.arena, sep...)
				}
				some = true
				if e.state == stateNull {
					m.arena = append(m.arena, null.s...)
				} else {
					m.arena = codec.print(m, m.arena, e)
				}
			}
			return m.grown(start)
		}
		if len(t.args) == 2 {
			return two(func(m *Machine, a, sep value) value { return join(m, a.arr, sep.s, value{}) }), nil
		}
		return &impl{lax: true, many: func(m *Machine, a []value) value {
			if a[0].state == stateNull || a[1].state == stateNull {
				return value{}
			}
			return join(m, a[0].arr, a[1].s, a[2])
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
