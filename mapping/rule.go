package mapping

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
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
	when       *expression
	tenant     *expression
	key        *expression
	columns    []columnRef
	data       *field // nil without data
	watch      []columnRef
	lookups    []*lookup
	collapse   []*expression
	children   []*childRef
	rootOnly   *rootOnly
	previous   bool
	// numbersAsStrings quotes all numbers of the payload.
	numbersAsStrings bool
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
	var out []cdc.Op
	for _, op := range operations() {
		if s.has(op) {
			out = append(out, op)
		}
	}
	return out
}

// String lists the operations as SQL would: insert or update.
func (s opSet) String() string {
	return strings.Join(mapped(s.list(), cdc.Op.String), " or ")
}

// fingerprint is a short hash of a rule as it is written, without what is for
// people, comments and layout.
func fingerprint(v strictyaml.Value) string {
	h := sha256.New()
	for _, e := range v.Entries() {
		if !slices.Contains([]string{"group", "title", "description"}, e.Name) {
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
