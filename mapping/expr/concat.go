package expr

// variadicImpl finds the functions of any number of arguments of any type.
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
		var err *Error
		if codecs[i], err = textCodec(a, a.typ, "use the value as it is"); err != nil {
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

// join writes the text forms with sep between them. Nulls are replaced by null, or
// left out when that is null too. Values beyond the codecs have the last one.
func (m *Machine) join(list []value, codecs []*codec, sep []byte, null value) value {
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
