package strictyaml

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v4"
)

// Value is a place in a document. The zero Value, and that of an empty file, is
// not valid: its methods do nothing.
type Value struct {
	doc  *Document
	node *yaml.Node
}

// Valid reports whether there is a value.
func (v Value) Valid() bool { return v.node != nil }

// Resolved returns what an alias stands for, or the value itself: the place
// that Position and ErrorfAt need for the text of an aliased scalar.
func (v Value) Resolved() Value {
	for v.node != nil && v.node.Kind == yaml.AliasNode {
		v.node = v.node.Alias
	}
	return v
}

// Errorf records a mistake at the value. The hint may be empty.
func (v Value) Errorf(hint, format string, args ...any) {
	if v.node != nil {
		if s := v.slot(); s != nil {
			s.failed = true
		}
		v.doc.errorAt(v.node.Line, v.node.Column, hint, format, args...)
	}
}

// ErrorfAt records a mistake at a byte offset in the value's text.
func (v Value) ErrorfAt(offset int, hint, format string, args ...any) {
	if v.node != nil {
		var line, col int
		if !v.doc.full() { // it walks over the value
			line, col = v.Position(offset)
		}
		v.doc.errorAt(line, col, hint, format, args...)
	}
}

// Mistake returns an Error at a byte offset in the value's text without
// recording it: for what is found after the file was read. A negative offset
// stands for the value's beginning, with its quotes.
func (v Value) Mistake(offset int, hint, format string, args ...any) *Error {
	e := &Error{File: v.File()}
	if v.doc != nil {
		e.Hint, e.Message = v.doc.hint(hint), v.doc.message(format, args)
	} else {
		e.Hint, e.Message = hint, fmt.Sprintf(format, args...)
	}
	switch {
	case v.node != nil && offset < 0:
		e.Line, e.Col = v.node.Line, v.node.Column
	case v.node != nil:
		e.Line, e.Col = v.Position(offset)
	}
	return e
}

// MistakeHere is Mistake at the value's beginning.
func (v Value) MistakeHere(hint, format string, args ...any) *Error {
	return v.Mistake(-1, hint, format, args...)
}

// Place is file:line of the value.
func (v Value) Place() string { return fmt.Sprintf("%s:%d", v.File(), v.Line()) }

// File is the name of the value's file.
func (v Value) File() string {
	if v.doc == nil {
		return ""
	}
	return v.doc.name
}

// Line is the value's line in its file, from 1.
func (v Value) Line() int {
	if v.node == nil {
		return 0
	}
	return v.node.Line
}

// Comment is the comment at the end of the value's line, with its #.
func (v Value) Comment() string {
	if v.node == nil {
		return ""
	}
	return v.node.LineComment
}

// IsMap reports whether the value is a mapping.
func (v Value) IsMap() bool { return v.is(yaml.MappingNode) }

// IsList reports whether the value is a list.
func (v Value) IsList() bool { return v.is(yaml.SequenceNode) }

// IsScalar reports whether the value is a scalar that is not empty (null).
func (v Value) IsScalar() bool { return v.is(yaml.ScalarNode) && !v.empty() }

// IsNull reports whether null is written out.
func (v Value) IsNull() bool { return v.empty() && strings.EqualFold(v.Resolved().node.Value, "null") }

func (v Value) is(k yaml.Kind) bool {
	n := v.Resolved().node
	return n != nil && n.Kind == k
}

// empty: nothing was written behind the key, or null.
func (v Value) empty() bool {
	n := v.Resolved().node
	return n != nil && n.Kind == yaml.ScalarNode && n.ShortTag() == "!!null"
}

// IsText reports whether the value is a scalar that YAML takes for a text: one in quotes,
// or one that is neither a number nor a boolean. A date is one.
func (v Value) IsText() bool {
	if !v.IsScalar() {
		return false
	}
	switch v.Resolved().node.ShortTag() {
	case "!!int", "!!float", "!!bool":
		return false
	}
	return true
}

// described names the kind of the value for messages.
func (v Value) described() string {
	switch {
	case v.IsMap():
		return "a mapping"
	case v.IsList():
		return "a list"
	case v.empty():
		return "nothing"
	}
	return "a single value"
}

func (v Value) wrongKind(wanted string) {
	if !v.Valid() {
		return
	}
	if s := v.slot(); s != nil {
		s.refused = true
	}
	hint := ""
	if v.empty() {
		hint = "give it a value or remove the key"
	}
	v.Errorf(hint, "expected %s, found %s", wanted, v.described())
}

// Field is a key that a mapping may have.
type Field struct {
	name     string
	required bool
	nullable bool
	decode   func(Value)
	refusal  string
	hint     string
}

// Required is a key that must be there.
func Required(name string, decode func(Value)) Field {
	return Field{name: name, required: true, decode: decode}
}

// Optional is a key that may be there.
func Optional(name string, decode func(Value)) Field { return Field{name: name, decode: decode} }

// Nullable is a key that may be there, and whose value may be null.
func Nullable(name string, decode func(Value)) Field {
	return Field{name: name, decode: decode, nullable: true}
}

// Refused is a known key that is not accepted; the message says why.
func Refused(name, message, hint string) Field {
	return Field{name: name, refusal: message, hint: hint}
}

// Map decodes a mapping with exactly these keys: an unknown key is an error with
// the closest known one, and so is a missing one.
func (v Value) Map(fields ...Field) {
	if !v.Valid() {
		return
	}
	if !v.IsMap() {
		v.wrongKind("a mapping")
		return
	}
	if v.standsForAny() {
		v.anyMap(fields)
		return
	}
	seen := map[string]bool{}
	for _, e := range v.Entries() {
		i := slices.IndexFunc(fields, func(f Field) bool { return f.name == e.Name })
		switch {
		case i < 0 && v.splits(e):
			e.Key.Errorf("between { and } a comma ends a value; if it is part of the value before, quote that", "this is not a key")
			continue
		case i < 0:
			e.Key.unknownKey(e.Name, fields)
			continue
		case fields[i].refusal != "":
			e.Key.Errorf(fields[i].hint, "%s", fields[i].refusal)
			continue
		}
		seen[e.Name] = true
		if e.Value.empty() && !(fields[i].nullable && e.Value.IsNull()) {
			e.Key.Errorf("give it a value or remove the key", "%q is empty", e.Name)
			continue
		}
		fields[i].decode(e.Value)
	}
	for _, f := range fields {
		if f.required && !seen[f.name] {
			v.Errorf("", "the key %q is missing", f.name)
		}
	}
}

// splits reports whether the entry is what a comma in a value leaves between { and }: a key
// without quotes, colon and value.
func (v Value) splits(e Entry) bool {
	return v.Resolved().node.Style&yaml.FlowStyle != 0 && e.Key.node.Style == 0 && e.Value.node.Value == "" && !keyName.MatchString(e.Name)
}

func (v Value) unknownKey(name string, fields []Field) {
	if v.doc.full() { // the closest of many keys would be looked for, and not reported
		v.Errorf("", "")
		return
	}
	var known, all []string
	for _, f := range fields {
		all = append(all, f.name)
		if f.refusal == "" {
			known = append(known, f.name)
		}
	}
	what := fmt.Sprintf("unknown key %q", name)
	if !keyName.MatchString(name) { // a value that a missing space or quote made a key: it may be a secret
		what = "this is not a key"
	}
	if c := Closest(name, all); c != "" {
		v.Errorf("did you mean "+`"`+c+`"?`, "%s", what)
		return
	}
	v.Errorf("the keys here are "+strings.Join(known, ", "), "%s", what)
}

// keyName is what a key may look like that is shown although it is unknown.
var keyName = regexp.MustCompile(`^[A-Za-z_-]+$`)

// Entry is one key of a mapping and what is behind it.
type Entry struct {
	Name       string
	Key, Value Value
}

// Entries returns the keys of a mapping in the order of the file. A key given
// twice is an error, and only its first value counts. Merged mappings (<<) come
// behind the mapping's own keys, which win.
func (v Value) Entries() []Entry {
	r := v.Resolved()
	if !r.IsMap() {
		v.wrongKind("a mapping")
		return nil
	}
	if v.standsForAny() {
		var all []Entry
		for _, item := range v.anyItems() {
			all = append(all, Entry{Key: Value{v.doc, &yaml.Node{Kind: yaml.ScalarNode, Tag: "!!str"}}, Value: item})
		}
		return all
	}
	var own, merged []Entry
	first := make(map[string]int, len(r.node.Content)/2) // line of each key
	for i := 0; i+1 < len(r.node.Content); i += 2 {
		key, value := Value{r.doc, r.node.Content[i]}, Value{r.doc, r.node.Content[i+1]}
		k := key.Resolved()
		switch {
		case k.node.Kind == yaml.ScalarNode && k.node.ShortTag() == "!!merge":
			merged = append(merged, value.mergeEntries()...)
			continue
		case k.node.Kind != yaml.ScalarNode:
			key.Errorf("", "a key must be a single value, not %s", k.described())
			continue
		}
		e := Entry{k.node.Value, key, value}
		if line, twice := first[e.Name]; twice {
			key.Errorf("", "the key %q is given twice, first on line %d", e.Name, line)
			continue
		}
		first[e.Name] = key.Line()
		own = append(own, e)
	}
	for _, e := range merged {
		if _, there := first[e.Name]; !there {
			first[e.Name] = e.Key.Line()
			own = append(own, e)
		}
	}
	return own
}

func (v Value) mergeEntries() []Entry {
	if !v.IsMap() && !v.IsList() {
		v.wrongKind("a mapping to merge")
		return nil
	}
	var out []Entry
	for _, item := range v.ListOrOne() {
		out = append(out, item.Entries()...)
	}
	return out
}

// List returns the items of a list.
func (v Value) List() []Value {
	r := v.Resolved()
	if !r.IsList() {
		v.wrongKind("a list")
		return nil
	}
	if v.standsForAny() {
		return v.anyItems()
	}
	out := make([]Value, len(r.node.Content))
	for i, c := range r.node.Content {
		out[i] = Value{r.doc, c}
	}
	return out
}

// ListOrOne returns the items of a list, or the one value that stands there.
func (v Value) ListOrOne() []Value {
	if v.IsList() {
		return v.List()
	}
	return []Value{v}
}

// JSON returns the value as JSON, with every scalar as the string that Text
// returns for it, so that decoding that again reads the same; null, when it is
// written out, is null. It is nil after an error, and when there is no value.
func (v Value) JSON() json.RawMessage {
	tree, ok := v.tree()
	if !ok {
		return nil
	}
	out, _ := json.Marshal(tree) // strings and lists and maps of them always marshal
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
	found := v.doc.found
	text := v.Text()
	return text, v.doc.found == found
}
