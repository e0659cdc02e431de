package mapping

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/internal/timetable"
)

// Scheduled is a rule that runs a query at its times, instead of one of a table. It is immutable, and safe for any number
// of goroutines.
type Scheduled struct {
	bound *boundRule
	query *boundLookup
	// rules has the rule alone, as one on inserts into a table with the columns of the query.
	rules  *Ruleset
	once   []int      // columns
	tables []cdc.Name // that the query reads; none: a saved catalogue does not have them
}

// queryRelation names the columns of a query in messages.
const queryRelation = "query"

// Schedules are the rules with schedule, in the order of the files.
func (rs *Ruleset) Schedules() []*Scheduled { return slices.Clone(rs.schedules) }

// readers are the rules that may read the source: those with schedule have their query as a lookup here.
func (rs *Ruleset) readers() []*boundRule {
	out := slices.Clone(rs.rules)
	for _, s := range rs.schedules {
		reader := *s.bound
		reader.lookups = []*boundLookup{s.query}
		out = append(out, &reader)
	}
	return out
}

// bindSchedule checks a rule with schedule; nil: its query cannot be used.
func (b *binder) bindSchedule(ctx context.Context, r *rule, in *Ruleset) (*Scheduled, error) {
	relation := &cdc.Relation{Name: queryRelation, ReplicaIdentity: 'f'}
	table, denials := &cdc.Table{Relation: relation}, b.denials
	written := *r.schedule.query
	query, _, err := b.prepareLookup(ctx, table, &written, nil)
	if err != nil || query == nil {
		return nil, err
	}
	if err = b.denyLookup(ctx, query, table); err == nil {
		err = b.noteBodies(ctx, r, query)
	}
	if err != nil {
		return nil, err
	}
	query.session, relation.Columns = zoneOf(b.settings), query.columns
	bound := &boundRule{rule: r, table: table, columns: map[string]*cdc.Type{}, computed: query.computed}
	s := &Scheduled{bound: bound, query: query}
	c := &compiler{relation: relation, settings: b.settings, computed: query.computed}
	for _, ref := range r.schedule.once {
		if i := c.find(ref); i >= 0 {
			s.once, table.PrimaryKey = append(s.once, i), append(table.PrimaryKey, ref.name)
		}
	}
	c.primaryKey = table.PrimaryKey
	c.compile(r, groupWrite)
	b.errors = append(b.errors, c.mistakes...)
	for _, u := range c.uses {
		column := relation.Columns[u.Index]
		bound.columns[u.Name] = column.Type
		b.checkUse(bound, u, column)
	}
	bound.hidden = hiddenColumns(c.uses)
	s.rules = &Ruleset{
		rules: []*boundRule{bound}, byTable: map[cdc.Name][]*boundRule{relation.TableName(): {bound}},
		perTransaction: map[int]*boundRule{}, transactional: map[cdc.Name][]*transactionTable{},
		settings: in.settings, path: in.path, schemas: in.schemas, policy: Park,
	}
	denied := b.denials > denials
	if denied {
		reader := *bound
		reader.lookups = []*boundLookup{query}
		b.lacking = append(b.lacking, &reader)
	}
	switch {
	case b.saved != nil:
	case denied:
		s.tables, err = b.tablesOf(ctx, query)
	default:
		s.tables, err = b.explainSchedule(ctx, r, query)
	}
	return s, err
}

// Event is the name of the event that the rule makes. No other rule with schedule makes it.
func (s *Scheduled) Event() string { return s.bound.event }

// Tables are those that the query reads, whoever may: those that it names, in which a view is what it is made of, with their partitions and heirs.
func (s *Scheduled) Tables() []cdc.Name { return slices.Clone(s.tables) }

// Place is the rule's, file:line.
func (s *Scheduled) Place() string { return s.bound.place() }

// Timetable says when it runs.
func (s *Scheduled) Timetable() timetable.Timetable { return s.bound.schedule.timetable }

// CatchUp says what is done about times that have passed while nothing ran.
func (s *Scheduled) CatchUp() CatchUp { return s.bound.schedule.catchUp }

// Once reports whether a row makes an event only the first time that the query has it.
func (s *Scheduled) Once() bool { return len(s.once) > 0 }

// AppendIdentity appends what a row is known by, as Run gave it: its columns of once; or all of it.
func (s *Scheduled) AppendIdentity(dst []byte, row []cdc.Datum) []byte {
	add := func(d cdc.Datum, text []byte) {
		dst = append(dst, byte(d.State))
		dst = binary.AppendUvarint(dst, uint64(len(text)))
		dst = append(dst, text...)
	}
	for _, i := range s.once {
		add(row[i], s.identityText(row[i].Text, s.query.columns[i].Type))
	}
	for _, d := range row {
		if len(s.once) == 0 {
			add(d, d.Text)
		}
	}
	return dst
}

// identityText is the text of a value of once, the same for values that are equal: a time with zone must not be another one
// because source.timezone or its rules are.
func (s *Scheduled) identityText(text []byte, t *cdc.Type) []byte {
	if t.Base().OID == pgtype.TimestamptzOID && len(text) > 0 {
		if at, err := pgtext.ParseTimestampTZ(text, s.rules.settings.Location); err == nil {
			return pgtext.AppendTimestampTZ(nil, at, time.UTC)
		}
	}
	return s.rules.settings.EqualText(text, t)
}

// Run runs the query as of a time: that is what now() and its like are in it. It is one read-only statement, in the closed
// room of lookups, under the session's statement_timeout; each row is given to each as it arrives, so that memory does not
// grow with them, and is valid only until each returns. Whoever reads slowly holds the statement up.
func (s *Scheduled) Run(ctx context.Context, source *Source, at time.Time, each func(row []cdc.Datum) error) error {
	sql, _ := s.query.scheduledSQL(at, s.query.schemas, s.query.columns, "") // a table may have got more
	err := source.In(s.rules.path).queryAfter(ctx, s.query.session, sql, nil, s.unchanged, func(row []cdc.Datum) error { return each(row[1:]) })
	if err != nil {
		return fmt.Errorf("run the query of %s at %s: %w", s.Event(), s.Place(), withoutData(err))
	}
	return nil
}

// unchanged refuses a result with other columns than the rule was bound to.
func (s *Scheduled) unchanged(fields []pgconn.FieldDescription) error {
	same := len(fields) == len(s.query.columns)+1
	for i := range s.query.columns {
		same = same && fields[i+1].DataTypeOID == s.query.columns[i].Type.OID && fields[i+1].Name == s.query.columns[i].Name
	}
	if !same {
		return fmt.Errorf("the query has other columns than when the rules were loaded: load them again")
	}
	return nil
}

// ScheduledMapper makes the events of a schedule's rows. It belongs to one goroutine.
type ScheduledMapper struct {
	of     *Scheduled
	mapper *Mapper
	change cdc.Change
}

// NewMapper returns one for rows of a run at a time.
func (s *Scheduled) NewMapper(at time.Time) *ScheduledMapper {
	return &ScheduledMapper{of: s, mapper: NewMapper(s.rules, nil), change: cdc.Change{
		Tx: &cdc.Transaction{Time: at}, Op: cdc.Insert, Relation: s.bound.table.Relation,
	}}
}

// Map gives the event of a row to the sink, its Op schedule and its Time the scheduled one; or that it cannot be computed,
// as parked. Its errors are the sink's, and cdc.ErrStaleTypes.
func (m *ScheduledMapper) Map(row []cdc.Datum, sink Sink) error {
	m.change.New = row
	return m.mapper.Map(&m.change, scheduledSink{sink})
}

// scheduledSink has events say what they come from.
type scheduledSink struct{ Sink }

func (s scheduledSink) Event(e *Event) error {
	e.Op = cdc.Schedule
	return s.Sink.Event(e)
}

// payload describes the event.
func (s *Scheduled) payload() Payload {
	shape := shaper{bound: s.bound, op: cdc.Insert}
	p := shape.payload(newRulePlan(s.rules, s.bound, s.bound.table.Relation, false, groupWrite).program)
	p.Op, p.Table = cdc.Schedule, ""
	return p
}

// Columns is how many columns a row of Run has.
func (s *Scheduled) Columns() int { return len(s.query.columns) }

// ShownNames is [Ruleset.ShownNames] of the rule. A column that may be another one under a new name has all names of the query.
func (s *Scheduled) ShownNames() map[string][]string {
	var inner []string
	all := unhidden(s.query.text)
	for i, t := range all {
		if t.IsName() && !all.At(i+1).Is("(") {
			inner = append(inner, t.Text)
		}
	}
	out := s.rules.ShownNames(s.Place())
	for path, names := range out {
		if slices.ContainsFunc(names, s.query.renames) {
			out[path] = append(names, inner...)
		}
	}
	return out
}

// Result describes a row of Run, as a table.
func (s *Scheduled) Result() *cdc.Table { return s.bound.table }
