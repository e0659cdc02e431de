package strictyaml

import (
	"encoding/json"
	"slices"
	"strconv"
	"strings"

	"gancho/internal/jsonschema"
)

// Schema returns the JSON Schema of the files that a decoder reads, for editors. It is
// found by running the decoder, which must do nothing but decode, on values that stand for
// any. variables: ${NAME} is replaced in the files. Mistakes that depend on several keys, or
// on what a text says, are not in it.
func Schema(title string, variables bool, decode func(Value)) *jsonschema.Schema {
	root := explore(decode, variables)
	w := schemaWriter{variables: variables}
	out := *w.slot(&root.slots[shapeMap], shapeMap)
	out.Dialect, out.Title = jsonschema.Dialect, title
	return &out
}

type schemaWriter struct{ variables bool }

// shape is the schema of a place.
func (w schemaWriter) shape(s *shape, kinds shapeKind) *jsonschema.Schema {
	var of []*jsonschema.Schema
	all := true
	for k := range shapeKinds {
		if k >= kinds || !s.slots[k].accepted() {
			all = all && k == shapeNull
			continue
		}
		of = append(of, w.slot(&s.slots[k], k))
		all = all && !s.slots[k].read
	}
	if all { // nothing was asked of it
		return &jsonschema.Schema{}
	}
	return jsonschema.Any(of...)
}

func (w schemaWriter) slot(s *slot, kind shapeKind) *jsonschema.Schema {
	switch kind {
	case shapeList:
		out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Array}}
		if s.items != nil {
			out.Items = w.shape(s.items, shapeKinds)
		}
		return out
	case shapeMap:
		return w.mapping(s)
	case shapeNull:
		return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Null}}
	}
	return w.scalar(s)
}

func (w schemaWriter) mapping(s *slot) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
	if !s.exact {
		if s.items != nil {
			out.AdditionalProperties = w.shape(s.items, shapeKinds)
		}
		return out
	}
	for _, f := range s.fields {
		child := s.shapes[f.name]
		if child == nil { // it is refused
			continue
		}
		out.Properties = append(out.Properties, jsonschema.Property{Name: f.name, Schema: w.shape(child, f.kinds())})
		if f.required {
			out.Required = append(out.Required, f.name)
		}
	}
	out.AdditionalProperties = jsonschema.Nothing()
	return out
}

// scalar is the schema of a scalar: of any of its forms, or one of its words.
func (w schemaWriter) scalar(s *slot) *jsonschema.Schema {
	var of []*jsonschema.Schema
	forms := s.forms
	if general := slices.IndexFunc(forms, func(f form) bool { return f.kind == formText || f.kind == formRaw }); general >= 0 {
		forms = forms[general : general+1]
	}
	for _, f := range forms {
		of = append(of, w.form(f))
	}
	if len(s.words) > 0 {
		of = append(of, w.choice(s.words))
	}
	if len(of) == 0 {
		return &jsonschema.Schema{Type: scalars()}
	}
	return jsonschema.Any(of...)
}

// scalars: a text may be written without quotes, and be a number to others.
func scalars() jsonschema.Types {
	return jsonschema.Types{jsonschema.String, jsonschema.Number, jsonschema.Boolean}
}

func (w schemaWriter) form(f form) *jsonschema.Schema {
	switch f.kind {
	case formText:
		return &jsonschema.Schema{Type: scalars(), MinLength: 1}
	case formRaw:
		return &jsonschema.Schema{Type: scalars()}
	case formChoice:
		return w.choice(f.names)
	case formBool:
		return w.pattern(`^(true|false)$`, jsonschema.Boolean)
	case formInt:
		out := w.pattern(`^[+-]?[0-9]+$`, jsonschema.Integer)
		out.Minimum, out.Maximum = number(f.lo), number(f.hi)
		return out
	case formBytes:
		out := w.pattern(`^[0-9]+ *([kKMG]?B|[KMG]iB)?$`, jsonschema.Integer)
		out.Minimum, out.Maximum = number(f.lo), number(f.hi)
		return out
	case formDuration:
		return w.pattern(`^([0-9]+d)?(\+?([0-9]+(\.[0-9]*)?|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)([0-9.]+(ns|us|µs|μs|ms|s|m|h))*)?$`)
	case formShare:
		out := w.pattern(`^([0-9.]+([eE][+-]?[0-9]+)?)$`, jsonschema.Number)
		out.Minimum, out.Maximum = number(0), number(1)
		return out
	case formRate:
		return w.pattern(`^[^/]+/ *[smh] *$`)
	}
	return w.pattern(`^[0-9a-fA-F.:]+(/[0-9]+)?$`)
}

func number(n int64) json.Number { return json.Number(strconv.FormatInt(n, 10)) }

// reference is a text that a variable is a part of.
const reference = `\$\{`

// pattern accepts the types, and texts of the pattern.
func (w schemaWriter) pattern(pattern string, types ...string) *jsonschema.Schema {
	if w.variables {
		pattern += "|" + reference
	}
	return &jsonschema.Schema{Type: append(jsonschema.Types{jsonschema.String}, types...), Pattern: pattern, MinLength: 1}
}

// choice accepts names, and what YAML makes of one without quotes.
func (w schemaWriter) choice(names []string) *jsonschema.Schema {
	out := &jsonschema.Schema{}
	for _, name := range names {
		out.Enum = append(out.Enum, jsonschema.Text(name))
		if json.Valid([]byte(name)) && !strings.HasPrefix(name, `"`) {
			out.Enum = append(out.Enum, json.RawMessage(name))
		}
	}
	if !w.variables {
		return out
	}
	return jsonschema.Any(out, &jsonschema.Schema{Type: jsonschema.Types{jsonschema.String}, Pattern: reference})
}
