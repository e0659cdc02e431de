package console

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"

	"go.yaml.in/yaml/v4"
)

// object decodes a JSON object, its numbers as they are written.
func object(document json.RawMessage) map[string]any {
	d := json.NewDecoder(bytes.NewReader(document))
	d.UseNumber()
	out := map[string]any{}
	if d.Decode(&out) != nil {
		return map[string]any{}
	}
	return out
}

// yamlOf writes a JSON object as YAML, for people to read and change.
func yamlOf(document json.RawMessage) string {
	if len(document) == 0 {
		return ""
	}
	return yamlText(object(document))
}

// yamlText writes a value of JSON as YAML.
func yamlText(v any) string {
	var out bytes.Buffer
	encoder := yaml.NewEncoder(&out)
	encoder.SetIndent(2)
	if encoder.Encode(plain(v)) != nil {
		return ""
	}
	return out.String()
}

// plain has integers in the place of json.Number, which YAML would take for a text.
func plain(v any) any {
	switch v := v.(type) {
	case map[string]any:
		for name := range v {
			v[name] = plain(v[name])
		}
	case []any:
		for i := range v {
			v[i] = plain(v[i])
		}
	case json.Number:
		if n, err := v.Int64(); err == nil {
			return n
		}
		if f, err := v.Float64(); err == nil {
			return f
		}
	}
	return v
}

// fromYAML reads a YAML object as JSON has it. Scalars are what they look like: 0123 is a text, not a number of base 8.
func fromYAML(text string) (map[string]any, error) {
	value, err := yamlValue(text)
	if err != nil || value == nil {
		return map[string]any{}, err
	}
	out, ok := value.(map[string]any)
	if !ok {
		return nil, errors.New("it is not a list of keys with values, such as timeout: 15s")
	}
	return out, nil
}

// yamlValue is the value of a text in YAML; nil: there is nothing.
func yamlValue(text string) (any, error) {
	var root yaml.Node
	if err := yaml.Unmarshal([]byte(text), &root); err != nil || len(root.Content) == 0 {
		return nil, err
	}
	return nodeValue(root.Content[0])
}

func nodeValue(n *yaml.Node) (any, error) {
	switch n.Kind {
	case yaml.MappingNode:
		out := map[string]any{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			name := n.Content[i].Value
			if _, twice := out[name]; twice {
				return nil, fmt.Errorf("line %d: the key %q is there twice", n.Content[i].Line, name)
			}
			value, err := nodeValue(n.Content[i+1])
			if err != nil {
				return nil, err
			}
			out[name] = value
		}
		return out, nil
	case yaml.SequenceNode:
		out := []any{}
		for _, item := range n.Content {
			value, err := nodeValue(item)
			if err != nil {
				return nil, err
			}
			out = append(out, value)
		}
		return out, nil
	case yaml.ScalarNode:
		if quoted := n.Style&(yaml.DoubleQuotedStyle|yaml.SingleQuotedStyle|yaml.LiteralStyle|yaml.FoldedStyle) != 0; quoted {
			return n.Value, nil
		}
		if value, ok := scalar(n.Value); ok {
			return value, nil
		}
		return n.Value, nil
	}
	return nil, fmt.Errorf("line %d: anchors and aliases are not known here", n.Line)
}

// scalar returns the number, true, false or null that a text without quotes is.
func scalar(text string) (any, bool) {
	switch text {
	case "true":
		return true, true
	case "false":
		return false, true
	case "", "~", "null":
		return nil, true
	}
	if first := text[0]; first != '-' && (first < '0' || first > '9') || !json.Valid([]byte(text)) {
		return nil, false
	}
	return json.Number(text), true
}

// mergePatch returns the merge patch (RFC 7396) that makes one object of another: only what differs, so that what is shown as
// *** and was not touched is not in it.
func mergePatch(from, to map[string]any) map[string]any {
	out := map[string]any{}
	for name := range from {
		if _, there := to[name]; !there {
			out[name] = nil
		}
	}
	for name, value := range to {
		was, _ := from[name].(map[string]any)
		is, isObject := value.(map[string]any)
		switch {
		case reflect.DeepEqual(from[name], value):
		case isObject && was != nil:
			out[name] = mergePatch(was, is)
		default:
			out[name] = value
		}
	}
	return out
}
