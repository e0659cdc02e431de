package receiver

import (
	"bytes"
	"encoding/json"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// formNesting is the most brackets behind a name: PHP leaves out what has more.
const formNesting = 64

// formEnvelope reads a body in format form. Its data becomes JSON, in which
// every value is a text.
func formEnvelope(body []byte) envelope {
	e := envelope{body: body}
	tree := map[string]any{}
	for field := range strings.SplitSeq(string(body), "&") {
		name, value, _ := strings.Cut(field, "=")
		name, nameErr := url.QueryUnescape(name)
		value, valueErr := url.QueryUnescape(value)
		if nameErr != nil || valueErr != nil {
			return envelope{}
		}
		switch name {
		case "type":
			e.Type = &value
		case "timestamp":
			if at, err := time.Parse(time.RFC3339, value); err == nil {
				e.Timestamp = &at
			}
		case "id":
			e.ID = value
		case "tenant":
			e.Tenant = &value
		case "sequence":
			e.Sequence = value
		default:
			if path := dataPath(name); path != nil {
				plant(tree, path, value)
			}
		}
	}
	if data, ok := tree["data"]; ok {
		var out bytes.Buffer
		encoder := json.NewEncoder(&out)
		encoder.SetEscapeHTML(false)
		if encoder.Encode(lists(data)) == nil {
			e.Data = bytes.TrimSpace(out.Bytes())
		}
	}
	return e
}

// dataPath splits data[a][b] into its keys; nil: the name is another one.
func dataPath(name string) []string {
	if name == "data" {
		return []string{name}
	}
	keys, ok := strings.CutPrefix(name, "data[")
	keys, closed := strings.CutSuffix(keys, "]")
	if !ok || !closed || strings.Count(keys, "][") >= formNesting {
		return nil
	}
	return append([]string{"data"}, strings.Split(keys, "][")...)
}

// plant puts the value at the end of the path.
func plant(tree map[string]any, path []string, value string) {
	for ; len(path) > 1; path = path[1:] {
		branch, ok := tree[path[0]].(map[string]any)
		if !ok {
			branch = map[string]any{}
			tree[path[0]] = branch
		}
		tree = branch
	}
	tree[path[0]] = value
}

// lists turns what has the keys of a list (0, 1, and so on) into one.
func lists(v any) any {
	tree, ok := v.(map[string]any)
	if !ok {
		return v
	}
	list := make([]any, 0, len(tree))
	for i := range len(tree) {
		if member, ok := tree[strconv.Itoa(i)]; ok {
			list = append(list, lists(member))
		}
	}
	if len(list) == len(tree) {
		return list
	}
	for key, member := range tree {
		tree[key] = lists(member)
	}
	return tree
}
