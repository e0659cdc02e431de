package draft

import (
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// commentOut turns a rule into a comment with the reasons above it. An anchor in
// it (&name) that later rules refer to moves to the first of them.
func (f *ruleFile) commentOut(i int, reasons []string) string {
	first, last := f.block(i)
	start, end := f.lines[first-1], f.lineEnd(last)
	var b strings.Builder
	b.WriteString(f.text[:start])
	for _, reason := range reasons {
		b.WriteString("  # Commented out: " + strings.ReplaceAll(reason, "\n", " ") + ".\n")
	}
	for n := first; n <= last; n++ {
		line := f.line(n)
		if strings.TrimSpace(line) == "" {
			b.WriteString("\n")
			continue
		}
		b.WriteString("  # " + strings.TrimPrefix(line, "  ") + "\n")
	}
	tail := f.text[end:]
	var edits []edit
	visit(f.rules[i], func(n *yaml.Node) {
		if n.Anchor == "" {
			return
		}
		if alias := firstAlias(f.rules[i+1:], n.Anchor); alias != nil {
			at := f.offset(alias)
			edits = append(edits, edit{at - end, at - end + len("*"+alias.Value), f.anchored(n, last, f.line(alias.Line))})
		}
	})
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	return b.String() + applied(tail, edits)
}

// visit calls a function with each node of a tree, aliases as themselves.
func visit(n *yaml.Node, f func(*yaml.Node)) {
	f(n)
	for _, child := range n.Content {
		visit(child, f)
	}
}

// firstAlias is the first use of an anchor in the rules.
func firstAlias(rules []*yaml.Node, name string) *yaml.Node {
	var found *yaml.Node
	for _, rule := range rules {
		visit(rule, func(n *yaml.Node) {
			if found == nil && n.Kind == yaml.AliasNode && n.Value == name {
				found = n
			}
		})
	}
	return found
}

// anchored is the text of an anchored value in a rule that ends with the last
// line, from its & on, as it stands in place of an alias on another line.
func (f *ruleFile) anchored(n *yaml.Node, last int, target string) string {
	line := n.Line
	for line > 1 && !strings.Contains(f.line(line), "&"+n.Anchor) { // a block's own line is the next one
		line--
	}
	start := f.lines[line-1] + strings.Index(f.line(line), "&"+n.Anchor)
	if n.Style&yaml.FlowStyle != 0 {
		return f.text[start:flowEnd(f.text, start)]
	}
	outer := indent(f.line(line))
	out := strings.TrimSuffix(f.text[start:f.lineEnd(line)], "\n")
	for line++; line <= last && (strings.TrimSpace(f.line(line)) == "" || indent(f.line(line)) > outer); line++ {
		out += "\n" + strings.Repeat(" ", indent(target)) + f.line(line)[min(outer, len(f.line(line))):]
	}
	return strings.TrimRight(out, "\n ")
}

// flowEnd is the offset behind the {...} or [...] at or after start.
func flowEnd(text string, start int) int {
	depth := 0
	for i := start; i < len(text); i++ {
		switch text[i] {
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth == 0 {
				return i + 1
			}
		}
	}
	return len(text)
}
