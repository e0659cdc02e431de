package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strconv"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// rule is a rule as its file has it, with nothing known about its table.
type rule struct {
	value   strictyaml.Value // the rule's place
	version string
	event   string
	// group, title and description are the event's, for people; not valid where
	// the rule has none.
	group, title, description strictyaml.Value
	// table is the name as written; its schema may be empty.
	table      cdc.Name
	tableValue strictyaml.Value
	ops        opSet
	// schedule is that of a rule that has one instead of table and on; nil: it is of a table.
	schedule *schedule
	when     *expression
	tenant   *expression
	key      *expression
	columns  []columnRef
	data     *field // nil without data
	tags     *field // nil without tags
	watch    []columnRef
	watchAll strictyaml.Value // watch: all; not valid without
	onError  strictyaml.Value // on_error: null; not valid without
	lookups  []*lookup
	collapse []*expression
	children []*childRef
	rootOnly *rootOnly
	previous bool
	// changedAt are columns with the time of a row's last change; none: it is not known.
	changedAt []columnRef
	// noBackfill: the rule takes no rows that are there already.
	noBackfill bool
	// numbersAsStrings quotes all numbers of the payload.
	numbersAsStrings bool
	// after is when the event is due, nil without; restart: every change that leaves when true begins its interval
	// again. What is later than maxLate is dropped; 0: nothing is.
	after   *expression
	restart bool
	maxLate time.Duration
}

func (r *rule) place() string { return r.value.Place() }

// expression is an SQL expression and where it stands.
type expression struct {
	value strictyaml.Value
	text  string
	// path names it in messages: when, tenant, data.cliente.nome.
	path string
}

// columnRef is a column that a list such as watch names.
type columnRef struct {
	value strictyaml.Value
	name  string // folded
}

// opSet is a set of operations.
type opSet uint8

func setOf(ops ...cdc.Op) opSet {
	var s opSet
	for _, op := range ops {
		s |= 1 << op
	}
	return s
}

func (s opSet) has(op cdc.Op) bool { return s&(1<<op) != 0 }

// operations are all, in the order of messages.
func operations() []cdc.Op { return []cdc.Op{cdc.Insert, cdc.Update, cdc.Delete, cdc.Truncate} }

func (s opSet) list() []cdc.Op {
	return slices.DeleteFunc(operations(), func(op cdc.Op) bool { return !s.has(op) })
}

// String lists the operations as SQL would: insert or update.
func (s opSet) String() string {
	return strings.Join(mapped(s.list(), cdc.Op.String), " or ")
}

// fingerprint is a short hash of a rule as it is written, without what is for
// people, for searching or for recovering, comments and layout.
func fingerprint(v strictyaml.Value) string {
	h := sha256.New()
	for _, e := range v.Entries() {
		if !slices.Contains([]string{"group", "title", "description", "changed_at", "tags"}, e.Name) {
			writeText(h, e.Name)
			writeValue(h, e.Value)
		}
	}
	return hex.EncodeToString(h.Sum(nil)[:6])
}

func writeValue(h hash.Hash, v strictyaml.Value) {
	switch {
	case v.IsMap():
		writeText(h, "{")
		for _, e := range v.Entries() {
			writeText(h, e.Name)
			writeValue(h, e.Value)
		}
		writeText(h, "}")
	case v.IsList():
		writeText(h, "[")
		for _, item := range v.List() {
			writeValue(h, item)
		}
		writeText(h, "]")
	case v.IsScalar() || v.IsNull():
		writeText(h, "="+v.Raw())
	}
}

// writeText is unambiguous by its length prefix.
func writeText(h hash.Hash, s string) {
	_, _ = fmt.Fprintf(h, "%d:%s", len(s), s) // a hash never fails to be written
}

// maxDepth bounds the nesting of a payload.
const maxDepth = 32

// field is a node of a payload as the file has it: an object or list with
// fields, or a leaf with an expression.
type field struct {
	value strictyaml.Value
	name  string // the key; empty in a list
	// path is the dotted way from data: cliente.nome, itens.0.
	path   string
	list   bool
	fields []*field
	leaf   *expression
}

func parseData(v strictyaml.Value) *field {
	if !v.IsMap() {
		v.Errorf("write an expression for each key of the payload, below data:", "data is not a mapping")
		return nil
	}
	root := &field{value: v}
	parseFields(root, v, "", 1)
	return root
}

func parseField(v strictyaml.Value, name, path string, depth int) *field {
	f := &field{value: v, name: name, path: path}
	switch {
	case depth > maxDepth:
		v.Errorf("", "the payload is nested more than %d deep", maxDepth)
	case v.IsMap() || v.IsList():
		f.list = v.IsList()
		parseFields(f, v, path+".", depth+1)
	case v.IsScalar() || v.IsNull():
		f.leaf = parseExpression(v, "data."+path)
	default:
		v.Errorf("write an expression, or null", "%q is empty", path)
	}
	return f
}

func parseFields(f *field, v strictyaml.Value, prefix string, depth int) {
	if f.list {
		for i, item := range v.List() {
			f.fields = append(f.fields, parseField(item, "", prefix+strconv.Itoa(i), depth))
		}
		return
	}
	for _, e := range v.Entries() {
		if e.Name == "" {
			e.Key.Errorf("name it", "a key of the payload is empty")
		}
		f.fields = append(f.fields, parseField(e.Value, e.Name, prefix+e.Name, depth))
	}
}

// columnRefs reads a list of column names.
func columnRefs(v strictyaml.Value, what string) []columnRef {
	var refs []columnRef
	items := v.ListOrOne()
	if len(items) == 0 {
		v.Errorf("name columns, or remove the key", "%s is an empty list", what)
	}
	for _, item := range items {
		text := item.Raw()
		if text == "" {
			continue
		}
		if text == "*" {
			item.Errorf("name each column: one that is added later must not be sent automatically", "%s cannot be *", what)
			continue
		}
		name, err := cdc.ParseName(text)
		if err != nil || name.Schema != "" {
			item.Errorf(`write the name of a column, with "double quotes" around one that is not plain lower case`, "%q is not the name of a column", text)
			continue
		}
		if slices.Contains(names(refs), name.Name) {
			item.Errorf("remove one", "%s is given twice", cdc.QuoteIdentifier(name.Name))
		}
		refs = append(refs, columnRef{item, name.Name})
	}
	return refs
}

// without is the rule without what depends on lookups that have a mistake, so that the rest
// can be looked at: the rule itself if there are none.
func (r *rule) without(bound []*boundLookup) *rule {
	if len(bound) == len(r.lookups) {
		return r
	}
	missing := slices.DeleteFunc(slices.Clone(r.lookups), func(l *lookup) bool {
		return slices.ContainsFunc(bound, func(b *boundLookup) bool { return b.name == l.name })
	})
	names := func(e *expression) bool {
		if e == nil {
			return false
		}
		tokens, _ := expr.Tokens(e.text) // the syntax has been checked
		for i, t := range tokens {
			if tokens.At(i+1).Is(".") && slices.ContainsFunc(missing, func(l *lookup) bool { return t.IsName() && l.name == t.Text }) {
				return true
			}
		}
		return false
	}
	kept := *r
	kept.lookups = slices.DeleteFunc(slices.Clone(r.lookups), func(l *lookup) bool { return slices.Contains(missing, l) })
	for _, e := range []**expression{&kept.when, &kept.tenant, &kept.key} {
		if names(*e) {
			*e = nil
		}
	}
	kept.data, kept.tags = r.data.without(names), r.tags.without(names)
	return &kept
}

// without is the field without the leaves of some expressions.
func (f *field) without(names func(*expression) bool) *field {
	if f == nil || names(f.leaf) {
		return nil
	}
	kept := *f
	kept.fields = nil
	for _, child := range f.fields {
		if child = child.without(names); child != nil {
			kept.fields = append(kept.fields, child)
		}
	}
	return &kept
}
