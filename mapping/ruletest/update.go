package ruletest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Update returns the text of a file with what came in the place of the expectations that
// failed. All other lines stay as they are, and comments within the expectations stay
// where what they stand at is still there. written is the number of expectations.
func Update(src []byte, results []Result) (text []byte, written int, err error) {
	var file yaml.Node
	if err := yaml.Unmarshal(src, &file); err != nil {
		return nil, 0, err
	}
	tests := child(file.Content[0], "tests")
	lines := strings.SplitAfter(string(src), "\n")
	for _, r := range slices.Backward(results) { // so that lines above stay where they are
		if r.Failure == nil || r.broken {
			continue
		}
		updated, err := r.splice(lines, tests)
		if err != nil {
			return nil, 0, fmt.Errorf("%s: %w", r.Case.placeOf(), err)
		}
		lines = updated
		written++
	}
	return []byte(strings.Join(lines, "")), written, nil
}

// splice replaces the lines of a case's expectation.
func (r *Result) splice(lines []string, tests *yaml.Node) ([]string, error) {
	item := tests.Content[r.Case.index]
	if tests.Style&yaml.FlowStyle != 0 || item.Kind != yaml.MappingNode || item.Style&yaml.FlowStyle != 0 {
		return nil, errFlow
	}
	end := len(lines)
	if next := r.Case.index + 1; next < len(tests.Content) {
		end = tests.Content[next].Line - 1
	}
	from, indent := -1, item.Column-1
	var key, old *yaml.Node
	for i := 0; i < len(item.Content); i += 2 {
		line := item.Content[i].Line - 1
		if item.Content[i].Value == "expect" {
			from, key, old = line, item.Content[i], item.Content[i+1]
		} else if from >= 0 {
			end = min(end, line)
		}
	}
	// What stands before the next key or case with no deeper indent belongs to that.
	for end > 0 && end-1 > from {
		text := strings.TrimRight(lines[end-1], "\r\n")
		trimmed := strings.TrimLeft(text, " ")
		if trimmed != "" && (!strings.HasPrefix(trimmed, "#") || len(text)-len(trimmed) > indent) {
			break
		}
		end--
	}
	if from < 0 {
		from = end
	}
	if old != nil && anchored(old) {
		return nil, fmt.Errorf("its expectation has an anchor or an alias (& or *); write it out, and run --update again")
	}
	text, err := r.expectation(key, old, indent)
	if err != nil {
		return nil, err
	}
	if from > 0 && !strings.HasSuffix(lines[from-1], "\n") {
		lines = slices.Clone(lines)
		lines[from-1] += "\n"
	}
	return slices.Concat(lines[:from:from], []string{text}, lines[end:]), nil
}

func anchored(n *yaml.Node) bool {
	return n.Kind == yaml.AliasNode || n.Anchor != "" || slices.ContainsFunc(n.Content, anchored)
}

// expectation is what came, as YAML with an indent, with the comments of the key and the
// value before, nil where there was none.
func (r *Result) expectation(key, old *yaml.Node, indent int) (string, error) {
	value := scalar("none")
	if len(r.events) > 0 {
		value = &yaml.Node{Kind: yaml.SequenceNode}
	}
	for i, e := range r.events {
		var before *yaml.Node
		if old != nil && old.Kind == yaml.SequenceNode && i < len(old.Content) && old.Content[i].Kind == yaml.MappingNode {
			before = old.Content[i]
		}
		value.Content = append(value.Content, e.node(before))
	}
	if old != nil {
		keepComments(value, old)
	}
	name := scalar("expect")
	if key != nil {
		name.LineComment = key.LineComment
	}
	document := &yaml.Node{Kind: yaml.MappingNode, Content: []*yaml.Node{name, value}}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(document); err != nil {
		return "", err
	}
	var out strings.Builder
	for line := range strings.Lines(b.String()) {
		if strings.TrimSpace(line) != "" {
			line = strings.Repeat(" ", indent) + line
		}
		out.WriteString(line)
	}
	return out.String(), nil
}

func scalar(text string) *yaml.Node { return &yaml.Node{Kind: yaml.ScalarNode, Value: text} }

// textNode is a scalar that is read again as a text.
func textNode(s string) *yaml.Node {
	n := &yaml.Node{}
	n.SetString(s)
	n.Tag = "!!str"
	return n
}

// node is an event as an expectation: of partial the fields that were named before.
func (e event) node(before *yaml.Node) *yaml.Node {
	n := &yaml.Node{Kind: yaml.MappingNode}
	add := func(key string, value *yaml.Node) { n.Content = append(n.Content, scalar(key), value) }
	if e.parked != "" {
		add("parked", textNode(e.name))
		return n
	}
	add("event", textNode(e.name))
	had := func(key string) bool { return before == nil || child(before, key) != nil }
	if e.tenant != "" && had("tenant") {
		add("tenant", plain(e.tenant))
	}
	if e.key != "" && had("key") {
		add("key", plain(e.key))
	}
	if before != nil && child(before, "op") != nil {
		add("op", scalar(e.op))
	}
	partial := (*yaml.Node)(nil)
	if before != nil {
		partial = child(before, "partial")
	}
	if partial != nil {
		add("partial", tree(e.data, partial))
	} else {
		add("data", tree(e.data, nil))
	}
	for _, more := range []struct {
		key  string
		json []byte
	}{{"previous", e.previous}, {"unchanged", e.left}, {"errors", e.failed}} {
		if more.json != nil && had(more.key) {
			add(more.key, tree(more.json, nil))
		}
	}
	return n
}

// plain is a text that is compared as it is written, in quotes only where YAML needs them.
func plain(s string) *yaml.Node {
	n := scalar(s)
	if strings.Trim(s, "0123456789") != "" {
		return textNode(s)
	}
	return n
}

// tree is JSON as YAML, with the order and the digits of the JSON; only: what of it.
func tree(text []byte, only *yaml.Node) *yaml.Node {
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	return value(d, only)
}

func value(d *json.Decoder, only *yaml.Node) *yaml.Node {
	token, err := d.Token()
	if err != nil {
		return scalar("null")
	}
	switch t := token.(type) {
	case json.Delim:
		n := &yaml.Node{Kind: yaml.MappingNode}
		if t == '[' {
			n.Kind = yaml.SequenceNode
		}
		for d.More() {
			if t == '[' {
				n.Content = append(n.Content, value(d, nil))
				continue
			}
			key, _ := d.Token()
			name := fmt.Sprint(key)
			below := (*yaml.Node)(nil)
			if only != nil && only.Kind == yaml.MappingNode {
				below = child(only, name)
			}
			v := value(d, below)
			if only == nil || only.Kind != yaml.MappingNode || below != nil {
				n.Content = append(n.Content, textNode(name), v)
			}
		}
		_, _ = d.Token() // the end
		if len(n.Content) == 0 {
			n.Style = yaml.FlowStyle
		}
		return n
	case string:
		return textNode(t)
	case nil:
		return scalar("null")
	}
	return scalar(fmt.Sprint(token)) // a number or a boolean
}

// child is the value of a key of a mapping; nil: there is none.
func child(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content); i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// keepComments takes over the comments of what was there before.
func keepComments(now, before *yaml.Node) {
	now.HeadComment, now.LineComment, now.FootComment = before.HeadComment, before.LineComment, before.FootComment
	if now.Kind != before.Kind {
		return
	}
	if now.Kind == yaml.SequenceNode {
		for i := range min(len(now.Content), len(before.Content)) {
			keepComments(now.Content[i], before.Content[i])
		}
		return
	}
	for i := 0; i+1 < len(now.Content); i += 2 {
		for j := 0; j+1 < len(before.Content); j += 2 {
			if now.Content[i].Value == before.Content[j].Value {
				keepComments(now.Content[i], before.Content[j])
				keepComments(now.Content[i+1], before.Content[j+1])
			}
		}
	}
}
