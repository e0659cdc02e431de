package draft

import (
	"cmp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// part is what a rule can do without: a leaf of its payload, a column of a list, the
// tenant, a lookup. It is an entry of a mapping or an item of a sequence.
type part struct {
	rule   int
	path   []step
	reason string
}

// step is a way from a node to one below it: the value's index in its Content.
type step struct {
	parent *yaml.Node
	index  int
}

func (s step) node() *yaml.Node { return s.parent.Content[s.index] }

// name is the dotted way to the part.
func (p part) name() string {
	var names []string
	for _, s := range p.path {
		switch {
		case s.parent.Kind == yaml.MappingNode:
			names = append(names, s.parent.Content[s.index-1].Value)
		case s.node().Kind == yaml.ScalarNode:
			names = append(names, s.node().Value)
		}
	}
	return strings.Join(names, ".")
}

// parts calls a function with the way to each scalar and alias that stands in a rule.
func parts(n *yaml.Node, path []step, f func(path []step)) {
	first := 0
	if n.Kind == yaml.MappingNode {
		first = 1
	}
	for i := first; i < len(n.Content); i += 1 + first {
		below := append(slices.Clip(path), step{n, i})
		if child := n.Content[i]; child.Kind == yaml.ScalarNode || child.Kind == yaml.AliasNode {
			f(below)
		} else {
			parts(child, below, f)
		}
	}
}

// dispensable is the part that the way leads to, if the rule can do without it.
func dispensable(rule int, path []step, reason string) (part, bool) {
	switch key := path[0].parent.Content[path[0].index-1].Value; key {
	case "data", "columns":
		return part{rule, path, reason}, len(path) > 1
	case "watch": // without any, the rule would fire for every update
		return part{rule, path, reason}, len(path) > 1 && len(path[1].parent.Content) > 1
	case "tenant":
		return part{rule, path[:1], reason}, true
	case "lookup":
		return part{rule, path[:min(2, len(path))], reason}, len(path) > 1
	}
	return part{}, false
}

// partAt is the part of a rule that a place in the text belongs to.
func (f *ruleFile) partAt(line, column int, reason string) (part, bool) {
	i := f.ruleAt(line)
	var found []step
	parts(f.rules[i], nil, func(path []step) {
		at := path[len(path)-1]
		start := at.node()
		if at.parent.Kind == yaml.MappingNode {
			start = at.parent.Content[at.index-1] // the key stands before it
		}
		if start.Line < line || start.Line == line && start.Column <= column {
			found = path
		}
	})
	if found == nil {
		return part{}, false
	}
	return dispensable(i, found, reason)
}

// without comments the parts out, or removes those that stand in {} or [], and what
// is empty without them. It returns the text, and what was left out.
func (f *ruleFile) without(parts []part) (string, []Out) {
	gone := map[step]string{} // with the reason, empty for what is part of something else
	var left []Out
	for _, p := range parts {
		last := p.path[len(p.path)-1]
		if _, ok := gone[last]; ok {
			continue
		}
		gone[last] = p.reason
		if p.path[0].parent.Content[p.path[0].index-1].Value == "watch" && f.emptied(last.parent, gone) {
			delete(gone, last) // the next look at the rule finds it alone
			continue
		}
		left = append(left, Out{scalarOf(f.rules[p.rule], "event"), p.name(), []string{p.reason}})
		f.ascend(p.path, p.reason, gone)
	}
	f.withoutAliases(gone)
	var edits []edit
	for s, reason := range gone {
		if !covered(s, gone) && s.parent.Style&yaml.FlowStyle == 0 {
			edits = append(edits, f.commented(s, reason))
		}
	}
	edits = append(edits, f.shortened(gone)...)
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	var apart []edit // one that contains another comes first, and makes its edit, too
	for _, e := range edits {
		if len(apart) == 0 || e.start >= apart[len(apart)-1].end {
			apart = append(apart, e)
		}
	}
	return applied(f.text, apart), left
}

// emptied: everything below a node is gone.
func (f *ruleFile) emptied(n *yaml.Node, gone map[step]string) bool {
	first := 0
	if n.Kind == yaml.MappingNode {
		first = 1
	}
	for i := first; i < len(n.Content); i += 1 + first {
		if _, ok := gone[step{n, i}]; !ok {
			return false
		}
	}
	return true
}

// ascend adds what is empty without a part, from the innermost on.
func (f *ruleFile) ascend(path []step, reason string, gone map[step]string) {
	for i := len(path) - 1; i > 0 && f.emptied(path[i].parent, gone); i-- {
		gone[path[i-1]] = reason
	}
}

// withoutAliases adds the uses of anchors that are gone.
func (f *ruleFile) withoutAliases(gone map[step]string) {
	for again := true; again; {
		again = false
		anchors := map[string]string{}
		for s, reason := range gone {
			visit(s.node(), func(n *yaml.Node) {
				if n.Anchor != "" {
					anchors[n.Anchor] = reason
				}
			})
		}
		for _, rule := range f.rules {
			parts(rule, nil, func(path []step) {
				last := path[len(path)-1]
				reason, used := anchors[last.node().Value]
				if _, done := gone[last]; done || !used || last.node().Kind != yaml.AliasNode {
					return
				}
				again = true
				gone[last] = reason
				f.ascend(path, reason, gone)
			})
		}
	}
}

// covered: a part stands in another one that is gone.
func covered(s step, gone map[step]string) bool {
	for other := range gone {
		if other.node() != s.node() && contains(other.node(), s.parent) {
			return true
		}
	}
	return false
}

func contains(n, wanted *yaml.Node) bool {
	if n == wanted {
		return true
	}
	return slices.ContainsFunc(n.Content, func(child *yaml.Node) bool { return contains(child, wanted) })
}

// commented is the edit that makes comments of the lines of an entry.
func (f *ruleFile) commented(s step, reason string) edit {
	start := s.node()
	if s.parent.Kind == yaml.MappingNode {
		start = s.parent.Content[s.index-1]
	}
	first := start.Line
	depth := indent(f.line(first))
	last := first
	for last < len(f.lines) && (strings.TrimSpace(f.line(last+1)) == "" || indent(f.line(last+1)) > depth) {
		last++
	}
	for last > first && strings.TrimSpace(f.line(last)) == "" {
		last--
	}
	margin := strings.Repeat(" ", depth)
	text := margin + "# " + f.sayf("Left out: %s.", remark(reason)) + "\n"
	for n := first; n <= last; n++ {
		text += margin + "# " + f.line(n)[min(depth, len(f.line(n))):] + "\n"
	}
	return edit{f.lines[first-1], f.lineEnd(last), text}
}

// shortened are the edits of the lists and mappings in {} or [] that items are gone from.
func (f *ruleFile) shortened(gone map[step]string) []edit {
	var edits []edit
	done := map[*yaml.Node]bool{}
	for s := range gone {
		n := s.parent
		if n.Style&yaml.FlowStyle == 0 || done[n] || covered(s, gone) {
			continue
		}
		done[n] = true
		start := f.offset(n)
		start += strings.IndexAny(f.text[start:], "{[") + 1
		items, end := flowItems(f.text, start)
		var kept []string
		for i, item := range items {
			index := i
			if n.Kind == yaml.MappingNode {
				index = 2*i + 1
			}
			if _, ok := gone[step{n, index}]; !ok {
				kept = append(kept, f.shortenedItem(n.Content[index], item, gone))
			}
		}
		edits = append(edits, edit{start, end, strings.Join(kept, ", ")})
	}
	return edits
}

// shortenedItem is an item of a list in {} or [] without what is gone from inside it.
func (f *ruleFile) shortenedItem(n *yaml.Node, item string, gone map[step]string) string {
	if n.Kind == yaml.ScalarNode || n.Kind == yaml.AliasNode {
		return item
	}
	inner := map[step]string{}
	for s, reason := range gone {
		if contains(n, s.parent) {
			inner[s] = reason
		}
	}
	if len(inner) == 0 {
		return item
	}
	edits := f.shortened(inner)
	slices.SortFunc(edits, func(a, b edit) int { return cmp.Compare(a.start, b.start) })
	at := f.offset(n)
	base := at - strings.IndexAny(item, "{[")
	for i := range edits {
		edits[i].start, edits[i].end = edits[i].start-base, edits[i].end-base
	}
	return applied(item, edits)
}

// flowItems are the items of a list in {} or [], whose text begins at start, and
// where it ends.
func flowItems(text string, start int) (items []string, end int) {
	depth, from := 0, start
	for i := start; i < len(text); i++ {
		switch c := text[i]; {
		case c == '"' || c == '\'' && strings.TrimSpace(text[from:i]) == "" || c == '\'' && (text[i-1] == ' ' || text[i-1] == ','):
			if after := closing(text, i); after > i {
				i = after - 1
			}
		case c == '{' || c == '[':
			depth++
		case (c == '}' || c == ']') && depth > 0:
			depth--
		case c == '}' || c == ']':
			if last := strings.TrimSpace(text[from:i]); last != "" {
				items = append(items, last)
			}
			return items, i
		case c == ',' && depth == 0:
			items = append(items, strings.TrimSpace(text[from:i]))
			from = i + 1
		}
	}
	return items, len(text)
}
