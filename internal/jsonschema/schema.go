package jsonschema

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
)

// Dialect is the value of $schema.
const Dialect = "https://json-schema.org/draft/2020-12/schema"

// The types of JSON values.
const (
	Null    = "null"
	Boolean = "boolean"
	Integer = "integer"
	Number  = "number"
	String  = "string"
	Array   = "array"
	Object  = "object"
)

// Schema is a schema. The zero one accepts everything.
type Schema struct {
	Dialect     string `json:"$schema,omitempty"`
	ID          string `json:"$id,omitempty"`
	Ref         string `json:"$ref,omitempty"`
	Title       string `json:"title,omitempty"`
	Description string `json:"description,omitempty"`

	Type    Types             `json:"type,omitempty"`
	Const   json.RawMessage   `json:"const,omitempty"`
	Enum    []json.RawMessage `json:"enum,omitempty"`
	Minimum json.Number       `json:"minimum,omitempty"`
	Maximum json.Number       `json:"maximum,omitempty"`

	Format          string `json:"format,omitempty"`
	Pattern         string `json:"pattern,omitempty"`
	MinLength       int    `json:"minLength,omitempty"`
	MaxLength       int    `json:"maxLength,omitempty"` // in characters; 0: any
	ContentEncoding string `json:"contentEncoding,omitempty"`

	Properties           Properties `json:"properties,omitempty"`
	Required             []string   `json:"required,omitempty"`
	MinProperties        int        `json:"minProperties,omitempty"`
	AdditionalProperties *Schema    `json:"additionalProperties,omitempty"`
	Prefix               []*Schema  `json:"prefixItems,omitempty"`
	Items                *Schema    `json:"items,omitempty"`
	MinItems             int        `json:"minItems,omitempty"`

	AnyOf    []*Schema         `json:"anyOf,omitempty"`
	Examples []json.RawMessage `json:"examples,omitempty"`
	Defs     Properties        `json:"$defs,omitempty"`

	// nothing: no value is accepted.
	nothing bool
}

// Nothing returns the schema that accepts no value.
func Nothing() *Schema { return &Schema{nothing: true} }

// IsNothing reports whether it is the schema that accepts no value.
func (s *Schema) IsNothing() bool { return s.nothing }

// MarshalJSON writes the schema, or false for the one that accepts nothing.
func (s *Schema) MarshalJSON() ([]byte, error) {
	if s.nothing {
		return []byte("false"), nil
	}
	type plain Schema
	return encode((*plain)(s))
}

// UnmarshalJSON reads what MarshalJSON writes, and true.
func (s *Schema) UnmarshalJSON(text []byte) error {
	switch string(bytes.TrimSpace(text)) {
	case "true":
		*s = Schema{}
		return nil
	case "false":
		*s = Schema{nothing: true}
		return nil
	}
	type plain Schema
	return json.Unmarshal(text, (*plain)(s))
}

// Types are the types of values that a schema accepts; none: all.
type Types []string

// MarshalJSON writes a single type as a string.
func (t Types) MarshalJSON() ([]byte, error) {
	if len(t) == 1 {
		return json.Marshal(t[0])
	}
	return json.Marshal([]string(t))
}

// UnmarshalJSON reads a type, or a list of them.
func (t *Types) UnmarshalJSON(text []byte) error {
	if len(text) > 0 && text[0] == '"' {
		*t = make(Types, 1)
		return json.Unmarshal(text, &(*t)[0])
	}
	return json.Unmarshal(text, (*[]string)(t))
}

// Property is a named schema.
type Property struct {
	Name   string
	Schema *Schema
}

// Properties are named schemas in an order that is kept.
type Properties []Property

// Named returns the schema of the name, nil when there is none.
func (p Properties) Named(name string) *Schema {
	i := slices.IndexFunc(p, func(p Property) bool { return p.Name == name })
	if i < 0 {
		return nil
	}
	return p[i].Schema
}

// MarshalJSON writes an object.
func (p Properties) MarshalJSON() ([]byte, error) {
	o := make(Members, len(p))
	for i := range p {
		o[i] = Member{p[i].Name, p[i].Schema}
	}
	return o.MarshalJSON()
}

// UnmarshalJSON reads an object.
func (p *Properties) UnmarshalJSON(text []byte) error {
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil || t != json.Delim('{') {
		return fmt.Errorf("read properties: an object is wanted (%w)", err)
	}
	*p = nil
	for d.More() {
		name, err := d.Token()
		if err != nil {
			return err
		}
		s := &Schema{}
		if err := d.Decode(s); err != nil {
			return err
		}
		text, _ := name.(string) // a key is one
		*p = append(*p, Property{text, s})
	}
	return nil
}

// Member is a member of an object.
type Member struct {
	Name  string
	Value any
}

// Members are the members of an object in an order that is kept.
type Members []Member

// MarshalJSON writes an object. HTML's characters are not escaped.
func (o Members) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, m := range o {
		if i > 0 {
			out = append(out, ',')
		}
		name, err := encode(m.Name)
		if err != nil {
			return nil, err
		}
		value, err := encode(m.Value)
		if err != nil {
			return nil, err
		}
		out = append(append(append(out, name...), ':'), value...)
	}
	return append(out, '}'), nil
}

func encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return bytes.TrimSpace(b.Bytes()), nil
}

// Encode writes a value as indented JSON, ending in a line end.
func Encode(v any) ([]byte, error) {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(v); err != nil {
		return nil, err
	}
	return b.Bytes(), nil
}

// Text returns a string as JSON.
func Text(s string) json.RawMessage {
	text, _ := encode(s) // a string is always encoded
	return text
}

// Accepting returns the schema that also accepts the type, as null. It shares what it can
// with the given one, and must not be changed.
func (s *Schema) Accepting(name string) *Schema {
	if s.nothing {
		return &Schema{Type: Types{name}}
	}
	plain := s.Ref == "" && len(s.AnyOf) == 0 && len(s.Const) == 0
	switch {
	case plain && len(s.Type) == 0 && len(s.Enum) == 0, slices.Contains(s.Type, name):
		return s
	case plain && len(s.Type) > 0:
		out := *s
		out.Type = append(slices.Clone(s.Type), name)
		if len(s.Enum) > 0 && name == Null {
			out.Enum = append(slices.Clone(s.Enum), json.RawMessage("null"))
		}
		return &out
	}
	return Any(s, &Schema{Type: Types{name}})
}

// Any returns the schema of what one of several accepts. Equal ones count once, and the
// alternatives of an alternative are the whole's.
func Any(of ...*Schema) *Schema {
	var list []*Schema
	var texts []string
	for _, s := range of {
		alternatives := []*Schema{s}
		if only := (&Schema{AnyOf: s.AnyOf}); len(s.AnyOf) > 0 && equal(s, only) {
			alternatives = s.AnyOf
		}
		for _, a := range alternatives {
			text, err := a.MarshalJSON()
			if err != nil || a.nothing || slices.Contains(texts, string(text)) {
				continue
			}
			if string(text) == "{}" {
				return &Schema{}
			}
			list, texts = append(list, a), append(texts, string(text))
		}
	}
	switch len(list) {
	case 0:
		return Nothing()
	case 1:
		return list[0]
	}
	return &Schema{AnyOf: list}
}

func equal(a, b *Schema) bool {
	x, err := a.MarshalJSON()
	y, err2 := b.MarshalJSON()
	return err == nil && err2 == nil && bytes.Equal(x, y)
}

// Equal reports whether two schemas are written alike.
func (s *Schema) Equal(o *Schema) bool { return equal(s, o) }
