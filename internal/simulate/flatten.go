package simulate

import (
	"bytes"
	"encoding/json"
	"maps"
	"slices"

	"gancho/internal/jsontext"
)

// leaf is a value of a payload, by its path.
type leaf struct{ path, text string }

// flatten returns the leaves of a JSON value with their texts, below a name. Items of a
// list have its path and [].
func flatten(out []leaf, name string, text []byte) []leaf {
	if len(text) == 0 {
		return out
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return flattenValue(out, d, name)
}

func flattenValue(out []leaf, d *json.Decoder, path string) []leaf {
	token, err := d.Token()
	if err != nil {
		return out // it is the mapper's, and whole
	}
	delim, nested := token.(json.Delim)
	if !nested {
		return append(out, leaf{path, string(jsontext.AppendScalar(nil, token))})
	}
	before := len(out)
	for d.More() {
		below := path + "[]"
		if delim == '{' {
			token, _ := d.Token()
			key, _ := token.(string)
			if below = key; path != "" {
				below = path + "." + key
			}
		}
		out = flattenValue(out, d, below)
	}
	_, _ = d.Token()
	if len(out) == before {
		out = append(out, leaf{path, map[json.Delim]string{'{': "{}", '[': "[]"}[delim]})
	}
	return out
}

// leaves are those of all that receivers get of an event.
func (e *event) leaves() map[string][]string {
	all := flatten(nil, "", e.data)
	all = flatten(all, "previous", e.previous)
	all = flatten(all, "unchanged", e.unchanged)
	all = flatten(all, "errors", e.errors)
	quoted := func(s string) string { return string(jsontext.AppendString(nil, s)) }
	all = append(all, leaf{"(tenant)", quoted(e.tenant)}, leaf{"(key)", quoted(e.key)}, leaf{"(op)", quoted(e.op.String())})
	out := map[string][]string{}
	for _, l := range all {
		out[l.path] = append(out[l.path], l.text)
	}
	return out
}

// changedFields are the paths at which two events differ, sorted.
func changedFields(a, b *event) []string {
	if a.tenant == b.tenant && a.key == b.key && a.op == b.op && bytes.Equal(a.data, b.data) && bytes.Equal(a.previous, b.previous) &&
		bytes.Equal(a.unchanged, b.unchanged) && bytes.Equal(a.errors, b.errors) {
		return nil
	}
	was, is := a.leaves(), b.leaves()
	changed := map[string]bool{}
	for path, texts := range was {
		changed[path] = !slices.Equal(texts, is[path])
	}
	for path := range is {
		if _, had := was[path]; !had {
			changed[path] = true
		}
	}
	maps.DeleteFunc(changed, func(_ string, c bool) bool { return !c })
	return slices.Sorted(maps.Keys(changed))
}
