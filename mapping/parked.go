package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"time"

	"gancho/cdc"
)

// Parked is a change that a rule could not be applied to. It goes to the dead
// letters with its position: a run-time error neither stops other rules nor gets
// lost. Row values are only those of columns that the rule names, but for Change.
type Parked struct {
	cdc.Position
	N      int // as in Event: the number that the event would have had
	Type   string
	Rule   string
	Table  string
	Op     cdc.Op
	Time   time.Time
	Reason string // what went wrong, without row data
	Row    []byte // JSON: {"new":{...},"old":{...}}, text forms of the columns that the rule names
	// Change is what a Redriver needs, as WithKeptChanges has it kept: the whole row,
	// whatever the rule shows of it. It is not to be stored as it is. Nil: it was not kept.
	Change []byte
	// Unkept is why it was not, although it should have been.
	Unkept string
	// Tenant and Key are the event's, if Known: they can be read from the row alone.
	Tenant, Key []byte
	Known       bool
	// Subject stands for the two where the change is stored; it is for who stores it.
	Subject string
}

// maxKept bounds, in bytes, the values of a change that is kept.
const maxKept = 1 << 20

// WithKeptChanges has parked changes kept whole, in Parked.Change.
func WithKeptChanges() MapperOption { return func(m *Mapper) { m.keeps = true } }

// WithEventChanges has events have the change with them that they were made of, in Event.Change, and parked changes
// kept whole, too.
func WithEventChanges() MapperOption {
	return func(m *Mapper) { m.keeps, m.keepsEvents = true, true }
}

// kept is a change, of a parked one or an event, with all that mapping it again depends on. Its JSON is
// stored: names and numbers in it, those of cdc.Change included, keep their meaning.
type kept struct {
	Rule string // its identity, as in Ruleset.Identities
	N    int
	// Child: a child of the row has changed, which watch lets pass.
	Child bool `json:",omitempty"`
	// Parent: a child of the row has changed, and the row, of which this has the key, could
	// not be read.
	Parent bool `json:",omitempty"`
	// Net: a rule that is decided at the commit has taken it, on the net change of a row. Row is as rowOf has it.
	Net bool     `json:",omitempty"`
	Row []string `json:",omitempty"`
	// Denied are columns in privacy.deny, which the rule did not use: they are not in the rows.
	Denied []string `json:",omitempty"`
	Change *cdc.Change

	also []string // other rules that have made an event of it
}

// park gives the change to the sink as one that the rule could not be applied to.
func (m *Mapper) park(r *rulePlan, n int, c *cdc.Change, sink Sink, reason string) error {
	return m.parkUnkept(r, n, c, sink, reason, "")
}

// parkUnkept parks a change whose rows are not whole, for a reason; "": they are.
func (m *Mapper) parkUnkept(r *rulePlan, n int, c *cdc.Change, sink Sink, reason, unkept string) error {
	m.told(n, WasParked)
	m.row = append(m.row[:0], '{')
	m.row = appendRow(m.row, `"new":{`, c.New, r)
	m.row = appendRow(m.row, `"old":{`, c.Old, r)
	m.row = append(m.row, '}')
	m.parked = Parked{
		Position: c.Position, N: n, Type: r.bound.event, Rule: r.place, Table: r.table.String(),
		Op: c.Op, Time: c.Tx.Time, Reason: reason, Row: m.row,
	}
	if m.keeps {
		if unkept == "" {
			m.parked.Change, unkept = m.keep(r, n, c)
		}
		m.parked.Unkept = unkept
	}
	if !m.unreadParent && m.knows(r, c) {
		m.parked.Tenant, m.parked.Key, m.parked.Known = m.tenant, m.key, true
	}
	if len(m.waiting.entries) > 0 {
		m.waiting.park(&m.parked)
		return nil
	}
	return sink.Park(&m.parked)
}

// knows fills in m.tenant and m.key of a change that is parked, if it can.
func (m *Mapper) knows(r *rulePlan, c *cdc.Change) bool {
	if r.broken != nil || r.tenant != nil && len(r.tenant.Lookups()) > 0 || r.key != nil && len(r.key.Lookups()) > 0 {
		return false
	}
	m.load(c) // what has failed may have used up the budget
	return m.subject(r, c) == nil
}

const (
	unkeptSize  = "its row has more than 1 MiB, and was not kept"
	unkeptChild = "it is a change of a child (children), and which parent's event it belongs to was not known"
)

// keep returns what a Redriver needs of a change, or why there is nothing.
func (m *Mapper) keep(r *rulePlan, n int, c *cdc.Change) (change []byte, unkept string) {
	identity := m.rules.identity(r.bound)
	switch {
	case identity == "":
		return nil, unkeptChild
	case !fits(c):
		return nil, unkeptSize
	}
	whole := *c
	k := kept{Rule: identity, N: n, Child: m.childChanged || m.unreadParent, Parent: m.unreadParent, Change: &whole}
	if m.keepsEvents {
		k.Net, k.Row = r.bound.perTransaction(), rowOf(c, r.bound)
	}
	for _, name := range slices.Sorted(maps.Keys(r.bound.denied)) {
		i := c.Relation.Column(name)
		if _, used := r.bound.columns[name]; used || i < 0 {
			continue
		}
		k.Denied = append(k.Denied, name)
		for _, row := range []*[]cdc.Datum{&whole.New, &whole.Old} {
			if *row != nil {
				*row = slices.Clone(*row)
				(*row)[i] = cdc.Datum{State: cdc.Missing}
			}
		}
	}
	change, err := json.Marshal(&k)
	if err != nil {
		return nil, "it could not be written: " + err.Error()
	}
	return change, ""
}

// fits reports whether the change is small enough to be kept.
func fits(c *cdc.Change) bool {
	size := 0
	for _, row := range [][]cdc.Datum{c.New, c.Old} {
		for _, d := range row {
			size += len(d.Text)
		}
	}
	return size <= maxKept
}

// Redriver applies a Ruleset to parked changes, each by the rule that has parked it, as
// that is now. It belongs to one goroutine.
type Redriver struct {
	mapper *Mapper
	plan   *tablePlan // of the last change
}

// NewRedriver returns a Redriver. The source, which may be nil when no rule reads it, is
// read as it is at the time.
func NewRedriver(rs *Ruleset, source *Source) *Redriver {
	m := NewMapper(rs, nil, WithSource(source))
	m.redrives = true
	return &Redriver{mapper: m}
}

// Map gives the sink the change's event, with the position and number that it would have
// had, or the change as parked again, with the reason alone. It gives nothing when the rule
// no longer fires for the change. The change is a Parked.Change; the relation that it was
// captured with describes it. Its errors are the sink's, that the context has ended, and
// that the change cannot be read.
func (r *Redriver) Map(ctx context.Context, change []byte, sink Sink) error {
	k, err := readKept(change)
	if err != nil {
		return err
	}
	c, m := k.Change, r.mapper
	refuse := func(format string, args ...any) error {
		return sink.Park(&Parked{Reason: fmt.Sprintf(format, args...)})
	}
	bound := m.rules.identified(k.Rule)
	if bound == nil {
		return refuse("the rules no longer have this one (its table, its event and its place among such rules tell)")
	}
	if reason := k.lacks(bound); reason != "" {
		return refuse("%s", reason)
	}
	if bound.after != nil {
		return refuse("%s: a change of a rule with after cannot be redriven; the next change of the row sets its timer", bound.place())
	}
	if k.Parent {
		reason, err := m.readParent(ctx, bound, c)
		switch {
		case err != nil:
			return err
		case reason != "":
			return refuse("%s", reason)
		case c.New == nil:
			return nil // deleted since then, which is another event
		}
	}
	op := r.bind(c)
	plan, group := r.plan.ruleOf(bound, op)
	if plan == nil {
		if table := c.Relation.TableName(); !m.rules.applies(bound, table) {
			return refuse("%s: the rule no longer applies to %s, of which the change is: it no longer inherits from %s, or has rules of its own", bound.place(), table, bound.table.Relation.TableName())
		}
		return nil
	}
	defer m.Reset()
	if err := r.apply(plan, group, k.N, &k, sink); err != nil {
		return err
	}
	return r.resolve(ctx, sink)
}

// readKept reads what keep has written.
func readKept(change []byte) (k kept, err error) {
	if err := json.Unmarshal(change, &k); err != nil {
		return k, fmt.Errorf("read a kept change: %w", err)
	}
	if k.Change == nil || k.Change.Relation == nil || k.Change.Tx == nil {
		return k, errors.New("read a kept change: it is not what Gancho has kept")
	}
	return k, nil
}

// lacks is why a rule cannot be applied to the change; "": it can.
func (k *kept) lacks(bound *boundRule) string {
	for _, name := range k.Denied {
		if bound.columns[name] != nil {
			return fmt.Sprintf("%s: the rule uses the column %q, which was not kept: it was in privacy.deny, and the rule did not use it", bound.place(), name)
		}
	}
	return ""
}

// bind has r.plan be that of the change's relation, and returns the operation by which rules take the change.
func (r *Redriver) bind(c *cdc.Change) cdc.Op {
	if r.plan == nil || !reflect.DeepEqual(r.plan.relation, c.Relation) {
		r.plan = newTablePlan(r.mapper.rules, c.Relation, true, func(*SchemaError) {})
	}
	c.Relation = r.plan.relation
	if !c.Op.Streamed() {
		return cdc.Insert
	}
	return c.Op
}

// apply applies one rule as the number n to the change.
func (r *Redriver) apply(plan *rulePlan, group *transactionPlan, n int, k *kept, sink Sink) error {
	c, m := k.Change, r.mapper
	if k.Child && len(plan.bound.children) == 0 && k.identical() {
		return nil // the row has not changed, and children do not concern the rule
	}
	m.load(c)
	m.childChanged = k.Child && len(plan.bound.children) > 0 && k.madeBy(m.rules.identity(plan.bound))
	defer func() { m.childChanged = false }()
	if group != nil && plan.broken == nil {
		if _, _, failed := m.inputsOf(nil, group); failed != nil {
			return m.park(plan, n, c, sink, failed.reason(plan, c.Relation))
		}
	}
	return m.apply(plan, n, c, sink)
}

func (r *Redriver) resolve(ctx context.Context, sink Sink) error {
	r.mapper.waiting.transactions = nil // it is visible for long, and its number may be another's by now
	return r.mapper.Resolve(ctx, sink)
}

// readParent reads the row of a parked change that has its key alone, as it is now: no row
// if it has gone. The reason is why it cannot be read now, either.
func (m *Mapper) readParent(ctx context.Context, b *boundRule, c *cdc.Change) (reason string, err error) {
	rel := b.table.Relation
	keys := columnIndexes(rel, b.familyKey)
	row := make([]cdc.Datum, len(rel.Columns))
	for _, i := range keys {
		at := -1
		if i >= 0 {
			at = c.Relation.Column(rel.Columns[i].Name)
		}
		if at < 0 || len(b.children) == 0 || c.Op != cdc.Update {
			return fmt.Sprintf("%s: the rule no longer has the children, or the key, with which the change was parked", b.place()), nil
		}
		row[i] = c.New[at]
	}
	about, known := m.collector.appendColumns(nil, rel, keys, row)
	if !known || m.source == nil {
		return fmt.Sprintf("%s: the row cannot be read again", b.place()), nil
	}
	found := &result{number: b.number}
	err = m.readParentRows(ctx, nil, b, map[string]*result{string(about): found})
	switch {
	case err != nil && ctx.Err() == nil:
		return err.Error(), nil
	case err != nil:
		return "", err
	case found.reason != "":
		return found.reason, nil
	}
	c.Relation, c.New, c.Old = rel, nil, nil
	if found.row != nil {
		c.New = datums(nil, found.row, len(rel.Columns))
		c.Old = c.New
	}
	return "", nil
}

// is reports whether the rule is another one, or that for an heir.
func (b *boundRule) is(other *boundRule) bool { return b == other || b.inherits == other }

// applies reports whether the rule is one for some operation of the table.
func (rs *Ruleset) applies(bound *boundRule, table cdc.Name) bool {
	return bound.table.Relation.TableName() == table || slices.ContainsFunc(rs.byTable[table], func(b *boundRule) bool { return b.is(bound) })
}

// ruleOf finds a rule as one for an operation, and as the one that groups rows.
func (p *tablePlan) ruleOf(bound *boundRule, op cdc.Op) (*rulePlan, *transactionPlan) {
	for i := range p.byOp[op] {
		if r := &p.byOp[op][i]; r.bound.is(bound) {
			return r, nil
		}
	}
	for _, c := range p.collects {
		if int(op) >= len(c.rules) {
			break
		}
		for _, t := range c.rules[op] {
			switch {
			case !t.bound.is(bound):
			case t.group != nil:
				return &t.rulePlan, t
			default:
				return &t.rulePlan, nil
			}
		}
	}
	return nil, nil
}
