package expr

// variadicImpl makes the functions that take any number of any type.
func variadicImpl(name string) (*impl, bool) {
	switch name {
	case "concat":
		return bound(func(_ *checker, t *term) (*impl, *Error) { return concatImpl(t, false) }), true
	case "concat_ws":
		return bound(func(_ *checker, t *term) (*impl, *Error) { return concatImpl(t, true) }), true
	case "num_nulls":
		return countNulls(true), true
	case "num_nonnulls":
		return countNulls(false), true
	case "jsonb_extract_path":
		return pathImpl(false), true
	case "jsonb_extract_path_text":
		return pathImpl(true), true
	}
	return nil, false
}

// concatImpl joins the text forms of what is not null, in concat_ws with the
// first argument between them.
func concatImpl(t *term, separated bool) (*impl, *Error) {
	codecs := make([]*codec, len(t.args))
	for i, a := range t.args {
		if isForeign(a.typ) || hasZone(a.typ) {
			return nil, refusal(a, "the text form of "+typeTitle(a.typ)+" is not supported", "use the value as it is")
		}
		codecs[i] = codecOf(a.typ)
	}
	return &impl{lax: true, many: func(m *Machine, args []value) value {
		var sep []byte
		first := 0
		if separated {
			if args[0].state == stateNull {
				return value{}
			}
			sep, first = args[0].s, 1
		}
		start := len(m.arena)
		some := false
		for i, a := range args[first:] {
			if a.state == stateNull {
				continue
			}
			if some {
				m.arena = append(m.arena, sep...)
			}
			some = true
			m.arena = codecs[first+i].print(m, m.arena, a)
		}
		return m.grown(start)
	}}, nil
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
