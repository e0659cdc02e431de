package jsonschema

import (
	"encoding/json"
	"slices"
)

// The texts of numbers that became strings.
const (
	integerText = `^-?[0-9]+$`
	numberText  = `^-?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?$`
)

// transformed returns a copy whose parts were changed, the innermost first. The function
// may change what it gets, and return another.
func (s *Schema) transformed(f func(*Schema) *Schema) *Schema {
	if s == nil {
		return nil
	}
	out := *s
	list := func(of []*Schema) []*Schema {
		if of == nil {
			return nil
		}
		all := make([]*Schema, len(of))
		for i := range of {
			all[i] = of[i].transformed(f)
		}
		return all
	}
	out.AnyOf, out.Prefix = list(s.AnyOf), list(s.Prefix)
	out.Items, out.AdditionalProperties = s.Items.transformed(f), s.AdditionalProperties.transformed(f)
	out.Properties = slices.Clone(s.Properties)
	for i := range out.Properties {
		out.Properties[i].Schema = out.Properties[i].Schema.transformed(f)
	}
	return f(&out)
}

// NumbersAsStrings returns the schema of the same values with every number as a string of
// its digits. Values of which nothing is known stay so.
func (s *Schema) NumbersAsStrings() *Schema {
	return s.transformed(func(s *Schema) *Schema {
		for _, t := range []string{Integer, Number} {
			i := slices.Index(s.Type, t)
			if i < 0 {
				continue
			}
			s.Type = slices.Clone(s.Type)
			s.Type[i], s.Minimum, s.Maximum = String, "", ""
			if len(s.Enum) == 0 {
				s.Pattern = map[string]string{Integer: integerText, Number: numberText}[t]
			}
		}
		if s.Enum != nil {
			s.Enum = slices.Clone(s.Enum)
		}
		for i, value := range s.Enum {
			if isNumber(value) {
				s.Enum[i] = Text(string(value))
			}
		}
		return s
	})
}

func isNumber(value json.RawMessage) bool {
	return len(value) > 0 && (value[0] == '-' || value[0] >= '0' && value[0] <= '9')
}

// Form returns the schema of the same values as a form has them: every scalar a text, null
// an empty one. Empty objects and lists are left out, so that an object or list may be.
func (s *Schema) Form() *Schema {
	return s.NumbersAsStrings().transformed(func(s *Schema) *Schema {
		if s.nothing {
			return s
		}
		for i := range s.Enum {
			switch text := string(s.Enum[i]); text {
			case "null":
				s.Enum[i] = Text("")
			case "true", "false":
				s.Enum[i] = Text(text)
			}
		}
		hasNull := slices.Contains(s.Type, Null)
		var types Types
		for _, t := range s.Type {
			if t == Null || t == Boolean {
				t = String
			}
			if !slices.Contains(types, t) {
				types = append(types, t)
			}
		}
		switch {
		case slices.Contains(s.Type, Boolean) && len(s.Type) == 1:
			s.Enum = []json.RawMessage{Text("true"), Text("false")}
		case slices.Contains(s.Type, Boolean) && hasNull && len(s.Type) == 2:
			s.Enum = []json.RawMessage{Text("true"), Text("false"), Text("")}
		case hasNull && len(s.Enum) == 0 && (s.Pattern != "" || s.Format != "" || s.MinLength > 0):
			text := *s
			text.Type = slices.DeleteFunc(slices.Clone(types), func(t string) bool { return t == Null })
			return Any(&text, &Schema{Type: Types{String}, Enum: []json.RawMessage{Text("")}})
		}
		s.Type = types
		s.Required = slices.DeleteFunc(slices.Clone(s.Required), func(name string) bool { return s.Properties.Named(name).mayBeEmpty() })
		s.MinItems = 0
		return s
	})
}

// mayBeEmpty reports whether the schema accepts an object or list, which a form leaves out
// when it is empty.
func (s *Schema) mayBeEmpty() bool {
	if s == nil || len(s.Type) == 0 && len(s.AnyOf) == 0 && len(s.Enum) == 0 && s.Ref == "" {
		return true
	}
	return slices.Contains(s.Type, Object) || slices.Contains(s.Type, Array) || slices.ContainsFunc(s.AnyOf, (*Schema).mayBeEmpty)
}

// WithoutPrefixes returns the schema with lists whose items may be what any of them is, for
// readers of older drafts.
func (s *Schema) WithoutPrefixes() *Schema {
	return s.transformed(func(s *Schema) *Schema {
		if len(s.Prefix) > 0 {
			s.Items, s.Prefix = Any(s.Prefix...), nil
		}
		return s
	})
}
