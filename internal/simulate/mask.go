package simulate

import (
	"bytes"
	"encoding/json"
	"slices"
	"strconv"

	"gancho/internal/draft"
	"gancho/internal/jsontext"
)

// hidden stands in samples for what is personal by its names.
const hidden = "***"

// masks are those of a rule's payload.
type masks struct {
	// names are what each leaf shows, by its dotted path; see mapping.Ruleset.ShownNames.
	names map[string][]string
	off   bool
}

// hides reports whether a leaf, or what is below one, is personal by its names. A leaf
// that the rule hides itself is shown as it leaves.
func (m *masks) hides(path, key string) bool {
	names, leaf := m.names[path]
	switch {
	case m.off || leaf && len(names) == 0:
		return false
	case slices.ContainsFunc(names, draft.Personal):
		return true
	}
	return draft.Personal(key)
}

// tenant is an event's tenant, as it may be shown.
func (m *masks) tenant(text string) string {
	if !m.off && text != "" && slices.ContainsFunc(m.names[""], draft.Personal) {
		return hidden
	}
	return text
}

// object masks the JSON of a payload; nil stays nil.
func (m *masks) object(text []byte) []byte {
	if len(text) == 0 || m.off {
		return text
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return m.value(nil, d, "", "", true)
}

// value copies the decoder's next value. inRule: its path is one of the rule's, and not
// within a value of json.
func (m *masks) value(dst []byte, d *json.Decoder, path, key string, inRule bool) []byte {
	token, err := d.Token()
	if err != nil {
		return append(dst, "null"...) // it is the mapper's, and whole
	}
	_, leaf := m.names[path]
	hide := key != "" && (inRule && leaf && m.hides(path, key) || !inRule && draft.Personal(key))
	below := inRule && !(leaf && path != "")
	delim, nested := token.(json.Delim)
	if !nested {
		if hide && token != nil {
			token = hidden
		}
		return appendScalar(dst, token)
	}
	start := len(dst)
	dst = append(dst, byte(delim))
	for i := 0; d.More(); i++ {
		if i > 0 {
			dst = append(dst, ',')
		}
		name, step := key, strconv.Itoa(i)
		if delim == '{' {
			token, _ := d.Token() // a key: the text is whole
			name, _ = token.(string)
			step = name
			dst = append(jsontext.AppendString(dst, name), ':')
		}
		if path != "" {
			step = path + "." + step
		}
		dst = m.value(dst, d, step, name, below)
	}
	_, _ = d.Token() // the closing delimiter
	if hide {
		return jsontext.AppendString(dst[:start], hidden)
	}
	if delim == '{' {
		return append(dst, '}')
	}
	return append(dst, ']')
}

func appendScalar(dst []byte, token json.Token) []byte {
	switch v := token.(type) {
	case nil:
		return append(dst, "null"...)
	case bool:
		return strconv.AppendBool(dst, v)
	case json.Number:
		return append(dst, v.String()...)
	case string:
		return jsontext.AppendString(dst, v)
	}
	return dst
}
