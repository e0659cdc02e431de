package ruletest

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/jsonschema"
	"gancho/internal/pgtext"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

// Suite are the cases of some files, for rules that are bound.
type Suite struct {
	Cases []*Case

	rules     *mapping.Ruleset
	questions []mapping.Question
	inputs    *inputs
	events    []string // that the rules make
	// asks: what the cases do not answer is asked of the source.
	asks bool
}

// Case is one test.
type Case struct {
	Name string
	File string
	Line int

	index     int // among the file's
	changes   []change
	runs      []scheduledRun
	lookups   map[string]answer
	evaluated map[string]strictyaml.Value
	rows      map[*cdc.Table][][]cdc.Datum // that the transaction did not change
	now       time.Time
	passes    time.Duration // how long after now timers are looked at
	// expect are the expected events; written is false where there is no such key.
	expect  []*expected
	written bool
	place   strictyaml.Value // of expect, or of the case
}

// change is a row change of given.
type change struct {
	op       cdc.Op
	table    *cdc.Table
	old, new []cdc.Datum
}

// answer is the row of a lookup; nil fields: there is no row.
type answer struct {
	value  strictyaml.Value
	fields []strictyaml.Entry
}

// expected is an event as a case expects it; not valid values are not compared.
type expected struct {
	value                                                  strictyaml.Value
	event, parked                                          string
	tenant, key, op, data, partial, previous, left, failed strictyaml.Value
}

// maxPasses bounds passes.
const maxPasses = 10 * 366 * 24 * time.Hour

// defaultNow is the time of the commit in a case without now.
var defaultNow = time.Date(2026, 1, 1, 12, 0, 0, 0, time.UTC)

// Options say what else a Suite needs.
type Options struct {
	// Location is the time zone of the source.
	Location *time.Location
	// Asks: what the cases do not answer is asked of a source.
	Asks bool
}

// Load reads files of cases. The error is a strictyaml.Errors with all mistakes of all
// files, or that of a file that cannot be read.
func Load(rs *mapping.Ruleset, o Options, files ...string) (*Suite, error) {
	s := newSuite(rs, o)
	var errs strictyaml.Errors
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			return nil, fmt.Errorf("read tests: %w", err)
		}
		errs = append(errs, s.read(name, src)...)
	}
	if err := errs.Err(); err != nil {
		return nil, err
	}
	return s, nil
}

func newSuite(rs *mapping.Ruleset, o Options) *Suite {
	return &Suite{rules: rs, questions: rs.Questions(), inputs: newInputs(o.Location, pgtext.ParseDateOrder("ISO, "+rs.Catalogue().Settings.DateOrder)), events: rs.EventNames(), asks: o.Asks}
}

func (s *Suite) read(name string, src []byte) strictyaml.Errors {
	d := strictyaml.Parse(name, src, nil) // its values are data, not SQL
	if !d.Root().Valid() && len(d.Errors()) == 0 {
		d.Add("write tests: and below it - name:, given: and expect:", "the file is empty")
	}
	s.readCases(d.Root())
	return d.Errors()
}

// Schema returns the JSON Schema of files of cases.
func Schema() *jsonschema.Schema {
	return strictyaml.Schema("Tests of rules", false, func(v strictyaml.Value) {
		(&Suite{inputs: newInputs(time.UTC, pgtext.ParseDateOrder("ISO, MDY"))}).readCases(v)
	})
}

func (s *Suite) readCases(v strictyaml.Value) {
	v.Map(strictyaml.Required("tests", func(v strictyaml.Value) {
		for i, item := range v.List() {
			s.Cases = append(s.Cases, s.readCase(item, i))
		}
	}))
}

func (s *Suite) readCase(v strictyaml.Value, index int) *Case {
	c := &Case{File: v.File(), Line: v.Line(), index: index, place: v, now: defaultNow, lookups: map[string]answer{}, evaluated: map[string]strictyaml.Value{}, rows: map[*cdc.Table][][]cdc.Datum{}}
	v.Map(
		strictyaml.Required("name", func(v strictyaml.Value) { c.Name = v.Text() }),
		strictyaml.Required("given", func(v strictyaml.Value) {
			for _, item := range v.ListOrOne() {
				s.readChange(c, item)
			}
		}),
		strictyaml.Optional("lookups", func(v strictyaml.Value) { s.readLookups(c, v) }),
		strictyaml.Optional("evaluated", func(v strictyaml.Value) { s.readEvaluated(c, v) }),
		strictyaml.Optional("rows", func(v strictyaml.Value) { s.readRows(c, v) }),
		strictyaml.Optional("now", func(v strictyaml.Value) {
			at, err := s.inputs.moment(v.Raw())
			if err != nil {
				v.Errorf("write such as 2026-01-31 10:00:00-03", "%q is not a time", v.Raw())
			}
			c.now = at
		}),
		strictyaml.Optional("passes", func(v strictyaml.Value) { c.passes = v.Duration(time.Second, maxPasses) }),
		strictyaml.Optional("expect", func(v strictyaml.Value) { c.written, c.place, c.expect = true, v, s.readExpect(v) }),
	)
	return c
}

// readChange reads {insert: table, new: ...}, {update: table, old: ..., new: ...},
// {delete: table, old: ...} or {truncate: table}; or {schedule: event, rows: [...]}.
func (s *Suite) readChange(c *Case, v strictyaml.Value) {
	var run scheduledRun
	var out change
	var old, new strictyaml.Value
	ops := 0
	of := func(op cdc.Op) strictyaml.Field {
		return strictyaml.Optional(op.String(), func(v strictyaml.Value) { out.op, out.table, ops = op, s.table(v), ops+1 })
	}
	row := func(to *strictyaml.Value) func(strictyaml.Value) {
		return func(v strictyaml.Value) {
			*to = v
			v.Entries() // whatever the table is, a row is a mapping
		}
	}
	v.Map(append(s.runFields(&run), of(cdc.Insert), of(cdc.Update), of(cdc.Delete), of(cdc.Truncate), strictyaml.Optional("old", row(&old)), strictyaml.Optional("new", row(&new)))...)
	switch {
	case !v.IsMap():
		return
	case run.written() && ops == 0 && !old.Valid() && !new.Valid():
		s.readRun(c, v, &run)
		return
	case ops != 1:
		v.Errorf("write insert: table and new:, update: table with old: and new:, or delete: table and old:", "a change is one of insert, update, delete and truncate")
		return
	}
	for _, part := range []strictyaml.Value{run.event, run.list} {
		if part.Valid() {
			part.Errorf("remove them, or write them beside schedule:", "rows are of a run of a rule with schedule")
			break
		}
	}
	needs := func(side strictyaml.Value, name string, wanted bool) {
		switch {
		case wanted && !side.Valid():
			v.Errorf(fmt.Sprintf("write %s: with the columns of the row; those that are not named are null", name), "%s needs %s", out.op, name)
		case !wanted && side.Valid():
			side.Errorf("remove it", "%s has no %s row", out.op, name)
		}
	}
	needs(old, "old", out.op == cdc.Update || out.op == cdc.Delete)
	needs(new, "new", out.op == cdc.Insert || out.op == cdc.Update)
	if out.table == nil {
		return
	}
	columns := out.table.Relation.Columns
	nulls := slices.Repeat([]cdc.Datum{{State: cdc.Null}}, len(columns))
	if old.Valid() {
		out.old = s.row(old, out.table, slices.Clone(nulls))
	}
	if new.Valid() {
		base := nulls
		if out.old != nil {
			base = out.old
		}
		out.new = s.row(new, out.table, slices.Clone(base))
	}
	c.changes = append(c.changes, out)
}

func (s *Suite) table(v strictyaml.Value) *cdc.Table {
	name, err := cdc.ParseName(v.Raw())
	if err != nil {
		v.Errorf("", "%v", err)
		return nil
	}
	if t := s.rules.Table(name); t != nil {
		return t
	}
	var all []string
	for _, n := range s.rules.TableNames() {
		all = append(all, n.Name, n.String())
	}
	hint := "the rules are about " + strings.Join(texts(s.rules.TableNames()), ", ")
	if closest := strictyaml.Closest(v.Raw(), all); closest != "" {
		hint = "did you mean " + closest + "?"
	}
	v.Errorf(hint, "no rule is about table %s", name)
	return nil
}

func texts(names []cdc.Name) []string {
	var out []string
	for _, n := range names {
		out = append(out, n.String())
	}
	return out
}

// row reads the columns of a row over what it has without them.
func (s *Suite) row(v strictyaml.Value, t *cdc.Table, row []cdc.Datum) []cdc.Datum {
	for _, e := range v.Entries() {
		name, err := cdc.ParseName(e.Name)
		i := -1
		if err == nil && name.Schema == "" {
			i = t.Relation.Column(name.Name)
		}
		if i < 0 {
			i = t.Relation.Column(e.Name)
		}
		if i < 0 {
			unknownColumn(e, t.Relation.Columns, t.Generated, "table "+t.Relation.Name)
			continue
		}
		row[i] = s.datum(e.Value, t.Relation.Columns[i])
	}
	return row
}

func unknownColumn(e strictyaml.Entry, columns []cdc.Column, generated map[string]string, of string) {
	var names []string
	for _, c := range columns {
		names = append(names, c.Name)
	}
	hint := "its columns are " + strings.Join(names, ", ")
	if closest := strictyaml.Closest(e.Name, names); closest != "" {
		hint = fmt.Sprintf("did you mean %q?", closest)
	}
	if generated[e.Name] != "" {
		e.Key.Errorf("remove it", "column %q is generated, and the stream does not carry generated columns", e.Name)
		return
	}
	e.Key.Errorf(hint, "column %q is not in %s", e.Name, of)
}

// datum reads a value of a column.
func (s *Suite) datum(v strictyaml.Value, c cdc.Column) cdc.Datum {
	switch {
	case v.IsNull():
		return cdc.Datum{State: cdc.Null}
	case !v.IsScalar():
		v.Errorf("write it as one text in quotes, as PostgreSQL prints it: '{1,2}' for an array, '{\"a\": 1}' for jsonb; or null", "column %q needs a single value", c.Name)
		return cdc.Datum{State: cdc.Null}
	}
	value, err := s.inputs.read(v.Raw(), c.Type, c.TypeMod)
	if err != nil {
		v.Errorf("write what PostgreSQL accepts for the type, or null", "column %q: %v", c.Name, err)
	}
	return cdc.Datum{State: cdc.Present, Text: value}
}

// readRows reads {pedidos: [{id: 1, ...}]}.
func (s *Suite) readRows(c *Case, v strictyaml.Value) {
	for _, e := range v.Entries() {
		t := s.table(e.Key)
		if t == nil {
			for _, item := range e.Value.ListOrOne() {
				item.Entries()
			}
			continue
		}
		for _, item := range e.Value.ListOrOne() {
			c.rows[t] = append(c.rows[t], s.row(item, t, slices.Repeat([]cdc.Datum{{State: cdc.Null}}, len(t.Relation.Columns))))
		}
	}
}

// readLookups reads {cliente: {nome: Ana}, empresa: none}.
func (s *Suite) readLookups(c *Case, v strictyaml.Value) {
	var names []string
	for _, q := range s.questions {
		if q.Name != "" && !slices.Contains(names, q.Name) {
			names = append(names, q.Name)
		}
	}
	for _, e := range v.Entries() {
		a := answer{value: e.Value}
		switch {
		case e.Value.IsMap():
			a.fields = e.Value.Entries()
		case !e.Value.Is("none"):
			e.Value.Errorf("write the columns of the row, such as {nome: Ana}, or none where no row is found", "lookup %q is not a row", e.Name)
		}
		if !slices.Contains(names, e.Name) {
			hint := "the rules have no lookup"
			if len(names) > 0 {
				hint = "the lookups are " + strings.Join(names, ", ")
			}
			if closest := strictyaml.Closest(e.Name, names); closest != "" {
				hint = fmt.Sprintf("did you mean %q?", closest)
			}
			e.Key.Errorf(hint, "no rule has a lookup %q", e.Name)
			continue
		}
		for _, f := range a.fields {
			s.checkLookupColumn(e.Name, f)
		}
		c.lookups[e.Name] = a
	}
}

// checkLookupColumn checks that one of the lookups of a name has the column, and that the
// value is one of its type.
func (s *Suite) checkLookupColumn(lookup string, f strictyaml.Entry) {
	var columns []cdc.Column
	for _, q := range s.questions {
		if q.Name != lookup {
			continue
		}
		if i := slices.IndexFunc(q.Columns, func(c cdc.Column) bool { return c.Name == f.Name }); i >= 0 {
			s.datum(f.Value, q.Columns[i])
			return
		}
		columns = append(columns, q.Columns...)
	}
	unknownColumn(f, columns, nil, "lookup "+lookup)
}

// readEvaluated reads the values of expressions by their texts or places.
func (s *Suite) readEvaluated(c *Case, v strictyaml.Value) {
	var all []string
	for _, q := range s.questions {
		for _, e := range q.Expressions {
			all = append(all, e.Text, e.Path)
		}
	}
	for _, e := range v.Entries() {
		key := strings.Join(strings.Fields(e.Name), " ")
		if !slices.Contains(all, key) {
			hint := "Gancho evaluates all expressions of the rules itself; remove it"
			if len(all) > 0 {
				hint = "write one as its rule has it: " + strings.Join(s.evaluatedTexts(), "; ")
			}
			e.Key.Errorf(hint, "no expression %q is evaluated by PostgreSQL", e.Name)
			continue
		}
		c.evaluated[key] = e.Value
		for _, q := range s.questions {
			for i, known := range q.Expressions {
				if known.Text == key {
					s.datum(e.Value, q.Columns[i])
				}
			}
		}
	}
}

func (s *Suite) evaluatedTexts() []string {
	var out []string
	for _, q := range s.questions {
		for _, e := range q.Expressions {
			if !slices.Contains(out, e.Text) {
				out = append(out, e.Text)
			}
		}
	}
	return out
}

// readExpect reads a list of events, or none.
func (s *Suite) readExpect(v strictyaml.Value) []*expected {
	if v.Is("none") {
		return nil
	}
	if !v.IsList() {
		v.Errorf("write none, or a list: - event: name, with data: below it", "expect is not a list of events")
		return nil
	}
	var out []*expected
	for _, item := range v.List() {
		e := &expected{value: item}
		name := func(to *string) func(strictyaml.Value) {
			return func(v strictyaml.Value) {
				*to = v.Raw()
				if *to == "" || slices.Contains(s.events, *to) {
					return
				}
				hint := "the events are " + strings.Join(s.events, ", ")
				if closest := strictyaml.Closest(*to, s.events); closest != "" {
					hint = "did you mean " + closest + "?"
				}
				v.Errorf(hint, "no rule makes the event %q", *to)
			}
		}
		value := func(to *strictyaml.Value) func(strictyaml.Value) {
			return func(v strictyaml.Value) { *to = v }
		}
		item.Map(
			strictyaml.Optional("event", name(&e.event)), strictyaml.Optional("parked", name(&e.parked)),
			strictyaml.Nullable("tenant", value(&e.tenant)), strictyaml.Nullable("key", value(&e.key)),
			strictyaml.Optional("op", value(&e.op)), strictyaml.Optional("data", value(&e.data)), strictyaml.Optional("partial", value(&e.partial)),
			strictyaml.Nullable("previous", value(&e.previous)), strictyaml.Nullable("unchanged", value(&e.left)), strictyaml.Nullable("errors", value(&e.failed)),
		)
		switch {
		case !item.IsMap():
		case (e.event == "") == (e.parked == ""):
			item.Errorf("write event: name; or parked: name, where the rule cannot be applied to the change", "an expected event needs its name")
		case e.data.Valid() && e.partial.Valid():
			e.partial.Errorf("keep data for the whole payload, or partial for some fields of it", "data and partial exclude each other")
		}
		out = append(out, e)
	}
	return out
}
