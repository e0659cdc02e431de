package expr

import (
	"bytes"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"gancho/internal/pgtext"
)

// jsonInput is the input function of json, which keeps the text.
func jsonInput(m *Machine, s []byte) value {
	if err := pgtext.CheckJSON(s); err != nil {
		return m.failWith(err)
	}
	return textValue(s)
}

// jsonbInput is the input function of jsonb, which normalises the text.
func jsonbInput(m *Machine, s []byte) value {
	size, memory, err := pgtext.MeasureJSONB(s)
	if err == nil && !m.settings.utf8() {
		err = pgtext.CheckJSONEscapes(s, m.settings.lastRune())
	}
	switch {
	case err != nil:
		return m.failWith(err)
	case memory > freeOutput && !m.spend(memory), !m.room(size):
		return m.overMemory()
	}
	out, err := pgtext.CanonicalJSONB(m.arena, s)
	if err != nil {
		return m.failWith(err)
	}
	if !m.settings.utf8() && hasWideKey(out[len(m.arena):]) {
		return m.fail("0A000", "jsonb keys with letters beyond ASCII are ordered by their length in encoding "+m.settings.Encoding+", which the rules do not know")
	}
	return m.appended(out)
}

// lastRune is the last character that JSON may write as \u.
func (s Settings) lastRune() rune {
	switch {
	case s.utf8():
		return unicode.MaxRune
	case strings.EqualFold(s.Encoding, "LATIN1"):
		return unicode.MaxLatin1
	}
	return unicode.MaxASCII
}

// hasWideKey reports whether an object's key has a letter beyond ASCII.
func hasWideKey(canonical []byte) bool {
	for i := 0; i < len(canonical); i++ {
		if canonical[i] != '"' {
			continue
		}
		start := i
		for i++; i < len(canonical) && canonical[i] != '"'; i++ {
			if canonical[i] == '\\' {
				i++
			}
		}
		if i+1 < len(canonical) && canonical[i+1] == ':' && !isASCII(canonical[start:i]) {
			return true
		}
	}
	return false
}

// jsonImpls are the operators, functions and casts of json and jsonb.
func jsonImpls() map[string]*impl {
	path := func(m *Machine, a, b value) value {
		if failed, ok := m.readElements(b.arr); !ok {
			return failed
		}
		return jsonPath(a, b.arr.elems)
	}
	all := map[string]*impl{
		"jsonb_contains(jsonb,jsonb)":          two(func(m *Machine, a, b value) value { return m.contains(a, b) }),
		"jsonb_contained(jsonb,jsonb)":         two(func(m *Machine, a, b value) value { return m.contains(b, a) }),
		"jsonb_exists(jsonb,text)":             two(func(_ *Machine, a, key value) value { return boolValue(pgtext.JSONExists(a.s, key.s)) }),
		"jsonb_extract_path(jsonb,_text)":      two(path),
		"jsonb_extract_path_text(jsonb,_text)": two(func(m *Machine, a, b value) value { return jsonText(m, path(m, a, b)) }),
		"jsonb_array_length(jsonb)":            one(jsonLength),
		"json_array_length(json)":              one(jsonLength),
		"bool(jsonb)": one(func(m *Machine, a value) value {
			if t := pgtext.JSONTypeof(a.s); t != "boolean" {
				return m.fail("22023", "cannot cast jsonb "+t+" to type boolean")
			}
			return boolValue(a.s[0] == 't')
		}),
		"numeric(jsonb)": one(func(m *Machine, a value) value { return jsonNumber(m, a, "numeric") }),
	}
	for _, t := range []string{"json", "jsonb"} {
		binary := t == "jsonb"
		field := func(_ *Machine, a, key value) value {
			v, ok := pgtext.JSONGet(a.s, key.s)
			return jsonPart(v, ok)
		}
		element := func(_ *Machine, a, index value) value { return jsonElement(a, index.i, binary) }
		if !binary {
			field, element = readWhole(field), readWhole(element)
		}
		all[t+"_object_field("+t+",text)"] = two(field)
		all[t+"_array_element("+t+",int4)"] = two(element)
		all[t+"_object_field_text("+t+",text)"] = two(func(m *Machine, a, b value) value { return jsonText(m, field(m, a, b)) })
		all[t+"_array_element_text("+t+",int4)"] = two(func(m *Machine, a, b value) value { return jsonText(m, element(m, a, b)) })
		all[t+"_typeof("+t+")"] = one(func(m *Machine, a value) value {
			return m.appended(append(m.arena, pgtext.JSONTypeof(a.s)...))
		})
	}
	number := func(to string, convert func(m *Machine, n value) value) *impl {
		return one(func(m *Machine, a value) value {
			n := jsonNumber(m, a, to)
			if n.state != stateKnown {
				return n
			}
			return convert(m, n)
		})
	}
	for name, bits := range map[string]int{"int2": 16, "int4": 32, "int8": 64} {
		all[name+"(jsonb)"] = number(intNames[bits], func(m *Machine, n value) value { return numericToInt(m, n, bits) })
	}
	for name, bits := range map[string]int{"float4": 32, "float8": 64} {
		all[name+"(jsonb)"] = number(floatNames[bits], func(m *Machine, n value) value { return numericToFloat(m, n, bits) })
	}
	return all
}

// readWhole is an operator of json, which reads the whole value first.
func readWhole(f func(m *Machine, a, b value) value) func(m *Machine, a, b value) value {
	return func(m *Machine, a, b value) value {
		if err := pgtext.CheckJSONEscapes(a.s, m.settings.lastRune()); err != nil {
			return m.failWith(err)
		}
		return f(m, a, b)
	}
}

func (m *Machine) contains(a, b value) value {
	ok, err := pgtext.JSONContains(a.s, b.s, &m.steps)
	switch {
	case err != nil:
		return m.failWith(err)
	case m.steps < 0:
		return m.overSteps()
	}
	return boolValue(ok)
}

func jsonPart(s []byte, ok bool) value {
	if !ok {
		return value{}
	}
	return textValue(s)
}

// jsonElement is json -> n. A scalar jsonb counts as an array of itself.
func jsonElement(a value, i int64, binary bool) value {
	if s := bytes.TrimSpace(a.s); binary && len(s) > 0 && s[0] != '[' && s[0] != '{' {
		return jsonPart(a.s, i == 0 || i == -1)
	}
	return jsonPart(pgtext.JSONIndex(a.s, int(i)))
}

// jsonText turns the result of -> into that of ->>.
func jsonText(m *Machine, v value) value {
	if v.state != stateKnown {
		return v
	}
	if !m.room(len(v.s)) {
		return m.overMemory()
	}
	out, null, err := pgtext.AppendJSONText(m.arena, v.s)
	if null {
		return value{}
	}
	return m.textResult(out, err)
}

// jsonPath is jsonb #> path.
func jsonPath(a value, path []value) value {
	if slices.ContainsFunc(path, func(step value) bool { return step.state == stateNull }) {
		return value{}
	}
	for _, step := range path {
		switch pgtext.JSONTypeof(a.s) {
		case "object":
			a = jsonPart(pgtext.JSONGet(a.s, step.s))
		case "array":
			i, err := strconv.ParseInt(string(bytes.TrimLeft(step.s, " \t\n\v\f\r")), 10, 32)
			if err != nil {
				return value{}
			}
			a = jsonPart(pgtext.JSONIndex(a.s, int(i)))
		default:
			return value{}
		}
		if a.state == stateNull {
			return a
		}
	}
	return a
}

// pathImpl is jsonb_extract_path with its path as arguments.
func pathImpl(text bool) *impl {
	return many(func(m *Machine, args []value) value {
		v := jsonPath(args[0], args[1:])
		if text {
			return jsonText(m, v)
		}
		return v
	})
}

// jsonLength counts an array's elements.
func jsonLength(m *Machine, a value) value {
	if t := pgtext.JSONTypeof(a.s); t != "array" {
		return m.fail("22023", "cannot get array length of a JSON "+t)
	}
	return intValue(int64(pgtext.JSONLength(a.s)))
}

func jsonNumber(m *Machine, a value, to string) value {
	if t := pgtext.JSONTypeof(a.s); t != "number" {
		return m.fail("22023", "cannot cast jsonb "+t+" to type "+to)
	}
	return parseNumericValue(m, a.s)
}
