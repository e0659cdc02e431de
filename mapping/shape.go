package mapping

import (
	"encoding/json"
	"slices"

	"gancho/cdc"
	"gancho/internal/jsonschema"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// Payload says what the events hold that a rule makes for one of its operations.
type Payload struct {
	Event, Rule, Table string // Rule is file:line
	Op                 cdc.Op
	// Data is the schema of Event.Data, Previous that of Event.Previous; nil: it is nil.
	Data, Previous *jsonschema.Schema
	// LeftOut and Failing are the paths that Event.Unchanged and Event.Errors may name.
	LeftOut, Failing []string
	// Hidden are the paths of what is masked or hashed.
	Hidden []string
	// Tenant says whether there is one.
	Tenant Presence
}

// Presence says whether something is there.
type Presence uint8

// The presences.
const (
	Never Presence = iota
	Sometimes
	Always
)

// Payloads describes the events of all rules, in the order of the files and of the
// operations, for as long as the source is as the rules were bound to it.
func (rs *Ruleset) Payloads() []Payload {
	var out []Payload
	for _, b := range slices.Concat(rs.rules, rs.heirs) {
		var plans [groups]*rulePlan
		if b.after != nil {
			s := shaper{bound: b, op: cdc.Timer}
			out = append(out, s.payload(newRulePlan(rs, b, b.table.Relation, false, groupWrite).program))
			continue
		}
		for _, op := range b.ops.list() {
			g := groupOf(op)
			if plans[g] == nil {
				plans[g] = newRulePlan(rs, b, b.table.Relation, false, g)
			}
			s := shaper{bound: b, op: op}
			p := s.payload(plans[g].program)
			out = append(out, p)
			if op == cdc.Insert && b.reads() && b.after == nil { // rows that are there already are taken as if they were inserted
				p.Op = cdc.Read
				out = append(out, p)
			}
		}
	}
	for _, s := range rs.schedules {
		out = append(out, s.payload())
	}
	return out
}

// shaper describes the payload of a rule for an operation.
type shaper struct {
	bound *boundRule
	op    cdc.Op
	out   Payload
}

func (s *shaper) payload(p *program) Payload {
	b := s.bound
	s.out = Payload{Event: b.event, Rule: b.place(), Table: b.table.Relation.TableName().String(), Op: s.op}
	s.out.Data = s.object(p.payload)
	if b.previous && s.op == cdc.Update {
		s.out.Previous = s.previous(p.payload)
	}
	if p.tenant != nil {
		s.out.Tenant = Sometimes
		if r := p.tenant.Result(s.fact); !r.Nullable && !textual(r.Type) {
			s.out.Tenant = Always
		}
	}
	if b.numbersAsStrings {
		s.out.Data = s.out.Data.NumbersAsStrings()
		if s.out.Previous != nil {
			s.out.Previous = s.out.Previous.NumbersAsStrings()
		}
	}
	return s.out
}

// textual: a value of the type may be an empty text.
func textual(t *cdc.Type) bool {
	s := pgtext.JSONSchema(t, -1, false)
	return slices.Contains(s.Type, jsonschema.String) && s.Format == "" && len(s.Enum) == 0
}

func unquoted(text string) (name string) {
	_ = json.Unmarshal([]byte(text), &name) // it was made by jsonString
	return name
}

func (n *node) key() string {
	if n.name == "" {
		return ""
	}
	return unquoted(n.name[:len(n.name)-1])
}

// object describes an object of the payload.
func (s *shaper) object(n *node) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
	for _, child := range n.children {
		var schema *jsonschema.Schema
		switch {
		case child.leaf != nil:
			schema = s.leaf(child)
		case child.list:
			schema = s.list(child, s.leaf)
		default:
			schema = s.object(child)
		}
		out.Properties = append(out.Properties, jsonschema.Property{Name: child.key(), Schema: schema})
		if (child.leaf != nil || child.list) && s.mayBeUnknown(child) {
			s.out.LeftOut = append(s.out.LeftOut, unquoted(child.path))
		} else {
			out.Required = append(out.Required, child.key())
		}
	}
	return out
}

// list describes a list, or an object within one: whole, or not at all.
func (s *shaper) list(n *node, leaf func(*node) *jsonschema.Schema) *jsonschema.Schema {
	if n.leaf != nil {
		return leaf(n)
	}
	if !n.list {
		out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
		for _, child := range n.children {
			out.Properties = append(out.Properties, jsonschema.Property{Name: child.key(), Schema: s.list(child, leaf)})
			out.Required = append(out.Required, child.key())
		}
		return out
	}
	out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Array}, MinItems: len(n.children)}
	for _, child := range n.children {
		out.Prefix = append(out.Prefix, s.list(child, leaf))
	}
	out.Items = jsonschema.Nothing()
	return out
}

// leaf describes the value of a leaf, and notes what may become of it.
func (s *shaper) leaf(n *node) *jsonschema.Schema {
	r := n.leaf.Result(s.fact)
	path := unquoted(n.path)
	if r.Hidden {
		s.out.Hidden = append(s.out.Hidden, path)
	}
	failing := s.bound.onError.Valid() && (r.Fails || n.delegated > 0)
	if failing {
		s.out.Failing = append(s.out.Failing, path)
		if s.bound.previous && s.op == cdc.Update && n.fromRow {
			s.out.Failing = append(s.out.Failing, "previous."+path)
		}
	}
	return s.value(r, failing)
}

func (s *shaper) value(r expr.Result, failing bool) *jsonschema.Schema {
	out := pgtext.JSONSchema(r.Type, r.TypeMod, r.Wall)
	if r.Values != nil {
		limited := *out
		limited.Enum, limited.MaxLength = nil, 0
		for _, text := range r.Values {
			value, err := pgtext.AppendJSON(nil, r.Type, r.TypeMod, []byte(text), nil)
			if err == nil && !slices.ContainsFunc(limited.Enum, func(o json.RawMessage) bool { return string(o) == string(value) }) {
				limited.Enum = append(limited.Enum, value)
			}
		}
		limited.Minimum, limited.Maximum = "", ""
		if out = &limited; len(limited.Enum) == 0 { // it is always null
			return &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Null}}
		}
	}
	if r.Nullable || failing {
		out = out.Accepting(jsonschema.Null)
	}
	return out
}

// previous describes Event.Previous: any of the leaves that depend on the row, with what it
// had before.
func (s *shaper) previous(n *node) *jsonschema.Schema {
	out := &jsonschema.Schema{Type: jsonschema.Types{jsonschema.Object}}
	leaf := func(n *node) *jsonschema.Schema {
		return s.value(n.leaf.Result(s.fact), s.bound.onError.Valid())
	}
	for _, child := range n.children {
		if !child.hasPrevious() {
			continue
		}
		var schema *jsonschema.Schema
		if child.leaf != nil || child.list {
			schema = s.list(child, leaf)
		} else {
			schema = s.previous(child)
			schema.MinProperties = 1
		}
		out.Properties = append(out.Properties, jsonschema.Property{Name: child.key(), Schema: schema})
	}
	return out
}

// hasPrevious: some leaf below the node depends on the row and names no old value.
func (n *node) hasPrevious() bool {
	return n.fromRow || slices.ContainsFunc(n.children, (*node).hasPrevious)
}

// fact is what is certain of a column.
func (s *shaper) fact(_ bool, column int) expr.Fact {
	name := s.bound.table.Relation.Columns[column].Name
	return expr.Fact{NotNull: s.bound.table.NotNull[name], Values: s.bound.allowed[name]}
}

// mayBeUnknown reports whether the stream may not say what a part of the payload depends on.
func (s *shaper) mayBeUnknown(n *node) bool {
	if n.leaf == nil {
		return slices.ContainsFunc(n.children, s.mayBeUnknown)
	}
	columns := n.leaf.Columns()
	if n.delegated > 0 {
		columns = n.sent
	}
	return slices.ContainsFunc(columns, s.unsent)
}

// unsent: the server may not send a value of the column: an old one outside of the replica
// identity, or a new one that is stored out of line and was not touched.
func (s *shaper) unsent(c expr.Column) bool {
	t := s.bound.table
	if s.bound.full.empty() && (t.Kind != 'p' || t.Relation.ReplicaIdentity == 'f') {
		return false
	}
	if c.Old {
		return !t.Relation.Columns[c.Index].Key
	}
	return s.op == cdc.Update && outOfLine(t, c.Index)
}
