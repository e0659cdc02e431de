package strictyaml_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/strictyaml"
)

// TestSchema: the schema is what the decoder asks of values.
func TestSchema(t *testing.T) {
	t.Parallel()
	type value = strictyaml.Value
	for name, c := range map[string]struct {
		decode func(value)
		want   string // of the property x
	}{
		"text":      {func(v value) { v.Text() }, `{"type":["string","number","boolean"],"minLength":1}`},
		"nothing":   {func(value) {}, `{}`},
		"int":       {func(v value) { v.Int(1, 5) }, `{"type":["string","integer"],"minimum":1,"maximum":5,"pattern":"^[+-]?[0-9]+$","minLength":1}`},
		"bool":      {func(v value) { v.Bool() }, `{"type":["string","boolean"],"pattern":"^(true|false)$","minLength":1}`},
		"choice":    {func(v value) { v.Choice("auto", "1.1") }, `{"enum":["auto","1.1",1.1]}`},
		"or a list": {func(v value) { v.Texts() }, `{"anyOf":[{"type":["string","number","boolean"],"minLength":1},{"type":"array","items":{"type":["string","number","boolean"],"minLength":1}}]}`},
		"word":      {func(v value) { _ = v.Is("off") || v.Int(0, 1) > 0 }, `{"anyOf":[{"type":["string","integer"],"minimum":0,"maximum":1,"pattern":"^[+-]?[0-9]+$","minLength":1},{"enum":["off"]}]}`},
		"only words": {func(v value) {
			if !v.Is("none") && !v.IsList() {
				v.Errorf("", "no list")
			} else {
				v.List()
			}
		}, `{"anyOf":[{"enum":["none"]},{"type":"array","items":{}}]}`},
		"mapping": {func(v value) {
			v.Map(strictyaml.Required("a", func(v value) { v.Raw() }), strictyaml.Refused("b", "", ""), strictyaml.Nullable("c", func(v value) { _ = v.IsNull() || v.Bool() }))
		}, `{"type":"object","properties":{"a":{"type":["string","number","boolean"]},"c":{"anyOf":[{"type":["string","boolean"],"pattern":"^(true|false)$","minLength":1},{"type":"null"}]}},"required":["a"],"additionalProperties":false}`},
		"free keys": {func(v value) {
			for _, e := range v.Entries() {
				e.Value.Int(0, 9)
			}
		}, `{"type":"object","additionalProperties":{"type":["string","integer"],"minimum":0,"maximum":9,"pattern":"^[+-]?[0-9]+$","minLength":1}}`},
		// What is stored by the field and read later is seen, too.
		"one or the other": {func(v value) {
			if v.IsMap() {
				v.Map(strictyaml.Required("sql", func(v value) { v.Raw() }))
			} else {
				v.Raw()
			}
		}, `{"anyOf":[{"type":["string","number","boolean"]},{"type":"object","properties":{"sql":{"type":["string","number","boolean"]}},"required":["sql"],"additionalProperties":false}]}`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := strictyaml.Schema("files", false, func(v value) {
				var later value
				v.Map(strictyaml.Optional("x", func(v value) { later = v }))
				if later.Valid() {
					c.decode(later)
				}
			})
			got, err := json.Marshal(s.Properties.Named("x"))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, string(got)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

// TestSchemaOfVariables: what a variable stands for is not known.
func TestSchemaOfVariables(t *testing.T) {
	t.Parallel()
	s := strictyaml.Schema("files", true, func(v strictyaml.Value) {
		v.Map(strictyaml.Optional("x", func(v strictyaml.Value) { v.Duration(0, time.Hour) }))
	})
	if got := s.Properties.Named("x").Pattern; got[len(got)-5:] != `|\$\{` {
		t.Errorf("the pattern is %s", got)
	}
}
