package jsonschema_test

import (
	"encoding/json"
	"testing"

	"gancho/internal/jsonschema"
)

func parse(t *testing.T, text string) *jsonschema.Schema {
	t.Helper()
	s := &jsonschema.Schema{}
	if err := json.Unmarshal([]byte(text), s); err != nil {
		t.Fatal(err)
	}
	return s
}

func text(t *testing.T, s *jsonschema.Schema) string {
	t.Helper()
	out, err := s.MarshalJSON()
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// TestTransformations: each is what it is named, and leaves the given schema as it is.
func TestTransformations(t *testing.T) {
	t.Parallel()
	null := func(s *jsonschema.Schema) *jsonschema.Schema { return s.Accepting(jsonschema.Null) }
	for _, c := range []struct {
		name, given, want string
		f                 func(*jsonschema.Schema) *jsonschema.Schema
	}{
		{"null", `{"type":"string","enum":["a<b"]}`, `{"type":["string","null"],"enum":["a<b",null]}`, null},
		{"null of anything", `{}`, `{}`, null},
		{"null of nothing", `false`, `{"type":"null"}`, null},
		{"null twice", `{"type":["string","null"]}`, `{"type":["string","null"]}`, null},
		{"null of alternatives", `{"anyOf":[{"type":"number"},{"type":"string"}]}`, `{"anyOf":[{"type":"number"},{"type":"string"},{"type":"null"}]}`, null},
		{"null of a reference", `{"$ref":"#/x"}`, `{"anyOf":[{"$ref":"#/x"},{"type":"null"}]}`, null},
		{"strings", `{"type":["integer","null"],"minimum":-1,"maximum":1}`, `{"type":["string","null"],"pattern":"^-?[0-9]+$"}`, (*jsonschema.Schema).NumbersAsStrings},
		{"strings of values", `{"type":["integer","null"],"enum":[1,null]}`, `{"type":["string","null"],"enum":["1",null]}`, (*jsonschema.Schema).NumbersAsStrings},
		{"strings within", `{"type":"object","properties":{"a":{"type":"array","items":{"type":"integer"}}}}`, `{"type":"object","properties":{"a":{"type":"array","items":{"type":"string","pattern":"^-?[0-9]+$"}}}}`, (*jsonschema.Schema).NumbersAsStrings},
		{"form", `{"type":"object","properties":{"a":{"type":"boolean"},"b":{"type":["string","null"]},"c":{"type":"array","items":{"type":"null"}}},"required":["a","b","c"]}`,
			`{"type":"object","properties":{"a":{"type":"string","enum":["true","false"]},"b":{"type":"string"},"c":{"type":"array","items":{"type":"string"}}},"required":["a","b"]}`, (*jsonschema.Schema).Form},
		{"form of null", `{"type":["string","null"],"format":"date"}`, `{"anyOf":[{"type":"string","format":"date"},{"type":"string","enum":[""]}]}`, (*jsonschema.Schema).Form},
		{"prefixes", `{"type":"array","prefixItems":[{"type":"string"},{"type":"null"}],"items":false}`, `{"type":"array","items":{"anyOf":[{"type":"string"},{"type":"null"}]}}`, (*jsonschema.Schema).WithoutPrefixes},
	} {
		given := parse(t, c.given)
		if got := text(t, c.f(given)); got != c.want {
			t.Errorf("%s: %s\nwant %s", c.name, got, c.want)
		}
		if got := text(t, given); got != c.given {
			t.Errorf("%s: the given schema is now %s", c.name, got)
		}
	}
}
