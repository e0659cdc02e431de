package mapping

import (
	"fmt"
	"maps"
	"slices"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// SchemaError says that a rule no longer fits its table as the stream describes
// it: a column that it uses was dropped or renamed, or has another type.
type SchemaError struct {
	Rule   string // file:line
	Event  string
	Table  cdc.Name
	Column string // empty when it is no single column
	What   string // no longer exists
	Hint   string
}

// Error returns the message with what to do about it.
func (e *SchemaError) Error() string {
	subject := "table " + e.Table.String()
	if e.Column != "" {
		subject = fmt.Sprintf("column %q of table %s", e.Column, e.Table)
	}
	s := fmt.Sprintf("%s: apply rule %s: %s %s", e.Rule, e.Event, subject, e.What)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// differences compares the columns that a rule uses, as they were when it was
// bound, with the relation of the stream, in the order of their names.
func (b *boundRule) differences(rel *cdc.Relation) []*SchemaError {
	var out []*SchemaError
	for _, name := range slices.Sorted(maps.Keys(b.columns)) {
		bound := b.columns[name].Base()
		i := rel.Column(name)
		if i < 0 {
			out = append(out, b.schemaError(rel, name, "is no longer in the stream", droppedHint(b, rel, name)))
			continue
		}
		if now := rel.Columns[i].Type.Base(); now.OID != bound.OID {
			out = append(out, b.schemaError(rel, name, fmt.Sprintf("has changed its type from %s to %s", bound.Name, now.Name),
				"check the rule and load it again"))
		}
	}
	return out
}

// droppedHint guesses a renamed column: one that the table did not have before.
func droppedHint(b *boundRule, rel *cdc.Relation, name string) string {
	var added []string
	for _, c := range rel.Columns {
		if b.table.Relation.Column(c.Name) < 0 && c.Type.Base().OID == b.columns[name].Base().OID {
			added = append(added, c.Name)
		}
	}
	hint := "correct the rule and load it again"
	renamed := strictyaml.Closest(name, added)
	if len(added) == 1 {
		renamed = added[0]
	}
	if renamed != "" {
		hint = fmt.Sprintf("it may be %s now; %s", cdc.QuoteIdentifier(renamed), hint)
	}
	return hint
}

func (b *boundRule) schemaError(rel *cdc.Relation, column, what, hint string) *SchemaError {
	return &SchemaError{Rule: b.place(), Event: b.event, Table: rel.TableName(), Column: column, What: what, Hint: hint}
}
