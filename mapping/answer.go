package mapping

import (
	"slices"
	"strings"

	"gancho/cdc"
)

// Question is a query whose row an event waits for: a lookup of its rule, or expressions
// that the source evaluates.
type Question struct {
	Rule string // file:line
	// Name is the lookup's; empty of expressions.
	Name string
	// Expressions are, for each of the columns, the expression as the rule has it and
	// where it stands, such as data.nome; nil of a lookup.
	Expressions []Evaluated
	Columns     []cdc.Column
}

// Evaluated is an expression that the source evaluates.
type Evaluated struct{ Text, Path string }

// Answer is the row for a question, of texts as the stream has them. Known is false
// where it must be asked of the source; no row and known is a lookup that finds none.
type Answer struct {
	Row   []cdc.Datum
	Known bool
}

// WithAnswers answers the questions of lookups and of expressions that the source
// evaluates, the same for all changes that wait: for tests of rules. What is not known
// is asked of the source of WithSource; without one it is an error of the function.
func WithAnswers(answer func(*Question) (Answer, error)) MapperOption {
	return func(m *Mapper) { m.answer = answer }
}

// WithRows gives the rows of tables of rules with children, in the place of the source's:
// those that a transaction did not change itself.
func WithRows(rows func(rule RuleName, t *cdc.Table) ([][]cdc.Datum, error)) MapperOption {
	return func(m *Mapper) { m.rows = rows }
}

// knownParents finds parents among the rows of WithRows.
func (m *Mapper) knownParents(b *boundRule, wanted map[string]*result) error {
	rel := m.parentPlan(b).relation
	rows, err := m.rows(RuleName{b.place(), b.event}, b.table)
	for _, row := range rows {
		key, _ := m.collector.appendColumns(nil, rel, columnIndexes(rel, b.familyKey), row)
		if r := wanted[string(key)]; r != nil {
			r.row, _ = appendDatums(nil, row)
		}
	}
	return err
}

// Questions are all that the rules may ask, in their order.
func (rs *Ruleset) Questions() []Question {
	var out []Question
	for _, b := range rs.rules {
		for _, l := range b.lookups {
			out = append(out, l.question())
		}
	}
	return out
}

func (l *boundLookup) question() Question {
	q := Question{Rule: l.place, Name: l.name, Columns: l.columns}
	if l.expression != nil {
		q.Name, q.Expressions = "", l.parts
	}
	return q
}

// answered fills in the rows that are known without the source, and returns the sets of
// arguments of the others.
func (m *Mapper) answered(q *query, sets []int32) ([]int32, error) {
	if m.answer == nil {
		return sets, nil
	}
	question := q.lookup.question()
	a, err := m.answer(&question)
	if err != nil || !a.Known {
		return sets, err
	}
	row := a.Row
	if row == nil {
		row = slices.Repeat([]cdc.Datum{{State: cdc.Null}}, len(question.Columns))
	}
	for _, set := range sets {
		q.rows[set] = foundRow{row: row, done: true}
	}
	return nil, nil
}

// Table returns the table of a name as a rule may write it, of those that rules are about
// or whose changes count as changes of theirs; nil when there is none.
func (rs *Ruleset) Table(name cdc.Name) *cdc.Table {
	var found *cdc.Table
	for _, b := range rs.withChildren() {
		t := b.table.Relation
		if t.Name != name.Name || name.Schema != "" && t.Schema != name.Schema {
			continue
		}
		at := func(t *cdc.Table) int { return slices.Index(rs.catalogue.Settings.SearchPath, t.Relation.Schema) }
		if found == nil || at(b.table) >= 0 && at(b.table) < at(found) {
			found = b.table
		}
	}
	return found
}

// TableNames are those of Table, sorted.
func (rs *Ruleset) TableNames() []cdc.Name {
	var out []cdc.Name
	for _, b := range rs.withChildren() {
		out = append(out, b.table.Relation.TableName())
	}
	slices.SortFunc(out, func(a, b cdc.Name) int { return strings.Compare(a.String(), b.String()) })
	return slices.Compact(out)
}

// EventNames are the names of the events that the rules make, sorted.
func (rs *Ruleset) EventNames() []string {
	var out []string
	for _, b := range rs.readers() {
		out = append(out, b.event)
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// RuleName is where a rule stands, file:line, and the event that it makes.
type RuleName struct{ Place, Event string }

// Rules are the names of the rules, in the order of the files.
func (rs *Ruleset) Rules() []RuleName {
	var out []RuleName
	for _, b := range rs.rules {
		out = append(out, RuleName{b.place(), b.event})
	}
	return out
}
