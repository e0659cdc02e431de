package strictyaml

import "encoding/json"

// JSON returns the value as JSON, with every scalar as the string that Text
// returns for it, so that decoding that again reads the same; null, when it is
// written out, is null. It is nil after an error, and when there is no value.
func (v Value) JSON() json.RawMessage {
	tree, ok := v.tree()
	if !ok {
		return nil
	}
	out, err := json.Marshal(tree)
	if err != nil {
		return nil // not reachable: it holds strings and lists and maps of them
	}
	return out
}

func (v Value) tree() (any, bool) {
	switch {
	case !v.Valid():
		return nil, false
	case v.IsMap():
		out, ok := map[string]any{}, true
		for _, e := range v.Entries() {
			item, complete := e.Value.tree()
			out[e.Name], ok = item, ok && complete
		}
		return out, ok
	case v.IsList():
		out, ok := []any{}, true
		for _, item := range v.List() {
			entry, complete := item.tree()
			out, ok = append(out, entry), ok && complete
		}
		return out, ok
	case v.IsNull():
		return nil, true
	}
	errors := len(v.doc.errors)
	text := v.Text()
	return text, len(v.doc.errors) == errors
}
