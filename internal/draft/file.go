package draft

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// ruleFile is a rule file as text, with where its rules stand.
type ruleFile struct {
	speaker
	name  string
	text  string
	lines []int // the offsets of the lines' beginnings
	rules []*yaml.Node
}

func (s speaker) parseFile(name, text string) (*ruleFile, error) {
	f := &ruleFile{speaker: s, name: name, text: text, lines: []int{0}}
	for i := range len(text) {
		if text[i] == '\n' {
			f.lines = append(f.lines, i+1)
		}
	}
	var doc yaml.Node
	loader, err := yaml.NewLoader(strings.NewReader(text))
	if err == nil {
		err = loader.Load(&doc)
	}
	if err != nil {
		return nil, fmt.Errorf("read rules %s: %w", name, err)
	}
	if doc.Kind == yaml.DocumentNode && len(doc.Content) == 1 {
		if list := value(doc.Content[0], "rules"); list != nil {
			f.rules = list.Content
		}
	}
	return f, nil
}

// value is what a mapping has behind a key, or nil.
func value(n *yaml.Node, key string) *yaml.Node {
	for i := 0; i+1 < len(n.Content) && n.Kind == yaml.MappingNode; i += 2 {
		if n.Content[i].Value == key {
			return n.Content[i+1]
		}
	}
	return nil
}

// scalarOf is the text behind a key, "" when there is none.
func scalarOf(n *yaml.Node, key string) string {
	if v := value(n, key); v != nil {
		return v.Value
	}
	return ""
}

// offset is where a node begins in the text.
func (f *ruleFile) offset(n *yaml.Node) int {
	at := f.lines[n.Line-1]
	for range n.Column - 1 {
		_, size := utf8.DecodeRuneInString(f.text[at:])
		at += size
	}
	return at
}

// line is the text of a line, from 1, without its end.
func (f *ruleFile) line(n int) string {
	return strings.TrimSuffix(f.text[f.lines[n-1]:f.lineEnd(n)], "\n")
}

// lineEnd is the offset behind a line.
func (f *ruleFile) lineEnd(n int) int {
	if n < len(f.lines) {
		return f.lines[n]
	}
	return len(f.text)
}

// block are the lines of a rule, first and last, without the comment above it
// and the blank lines and comments below.
func (f *ruleFile) block(i int) (first, last int) {
	first, last = f.rules[i].Line, len(f.lines)
	if i+1 < len(f.rules) {
		last = f.rules[i+1].Line - 1
	}
	for last > first {
		if s := strings.TrimSpace(f.line(last)); s != "" && s[0] != '#' {
			break
		}
		last--
	}
	return first, last
}

// ruleAt is the index of the rule that a line belongs to, -1 if none.
func (f *ruleFile) ruleAt(line int) int {
	i := slices.IndexFunc(f.rules, func(n *yaml.Node) bool { return n.Line > line })
	if i < 0 {
		i = len(f.rules)
	}
	return i - 1
}

// rewrite makes the edit that gives a scalar another text.
func (f *ruleFile) rewrite(n *yaml.Node, change func(string) string) (edit, bool) {
	start := f.offset(n)
	switch {
	case n.Style&(yaml.LiteralStyle|yaml.FoldedStyle) != 0:
		first, last := n.Line+1, n.Line // the text is below, deeper than its key
		for last < len(f.lines) && (strings.TrimSpace(f.line(last+1)) == "" || indent(f.line(last+1)) > indent(f.line(n.Line))) {
			last++
		}
		if last < first {
			return edit{}, false
		}
		old := f.text[f.lines[first-1]:f.lineEnd(last)]
		return edit{f.lines[first-1], f.lineEnd(last), change(old)}, true
	case n.Style&(yaml.SingleQuotedStyle|yaml.DoubleQuotedStyle) != 0:
		end := closing(f.text, start)
		return edit{start, end, quote(change(n.Value))}, end > start
	case strings.HasPrefix(f.text[start:], n.Value):
		text := change(n.Value)
		if strings.HasPrefix(text, `"`) || strings.HasPrefix(text, "'") {
			text = quote(text)
		}
		return edit{start, start + len(n.Value), text}, true
	}
	return edit{}, false
}

// quote writes a YAML scalar in single quotes.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// closing is the offset behind the quoted scalar that begins at start, or 0.
func closing(text string, start int) int {
	q := text[start]
	for i := start + 1; i < len(text); i++ {
		switch {
		case text[i] == '\\' && q == '"':
			i++
		case text[i] == q && q == '\'' && i+1 < len(text) && text[i+1] == q:
			i++
		case text[i] == q:
			return i + 1
		}
	}
	return 0
}

func indent(line string) int { return len(line) - len(strings.TrimLeft(line, " ")) }

// commentOut turns a rule into a comment with the reasons above it. An anchor in
// it (&name) that later rules refer to moves to the first of them.
func (f *ruleFile) commentOut(i int, reasons []string) string {
	first, last := f.block(i)
	start, end := f.lines[first-1], f.lineEnd(last)
	var b strings.Builder
	b.WriteString(f.text[:start])
	for _, reason := range reasons {
		b.WriteString("  # " + f.sayf("Commented out: %s.", strings.ReplaceAll(reason, "\n", " ")) + "\n")
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
