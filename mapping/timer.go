package mapping

import (
	"cmp"
	"errors"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// TimerChange is what a change means for the timer of a row, of one rule with after. Its slices are valid until the
// sink returns.
type TimerChange struct {
	cdc.Position
	N    int    // the rule's number: Event.N
	Rule string // the rule, as Timer.Rule has it
	// All: the table was truncated, and no row of it has a timer by the rule any more. There is no key then.
	All bool
	// Key is the row's, as Timer.Key has it. Due is when the row's timer is due, not before the change's commit, and zero:
	// there is none any more.
	Key []byte
	Due time.Time
	// Pending: it is moved if it is pending, under one of the keys; none is set. Read: the row was there already, and a timer that it has stays as it is, unless
	// after is a time, and another one by now.
	Pending, Read bool
	// Span: after is an interval, which counts from a change.
	Span bool
	// Former is the key that the row had before the change, whose timer is canceled; nil: it has the same.
	Former []byte

	rule *boundRule
}

// Place is where the rule is: file:line.
func (t *TimerChange) Place() string { return t.rule.place() }

// TimerSink is a [Sink] that takes timers, too. To one that does not they are not given.
type TimerSink interface{ Timer(*TimerChange) error }

// addTimer compiles a rule with after.
func (p *tablePlan) addTimer(rs *Ruleset, b *boundRule, older bool, report func(*SchemaError)) {
	r := *newRulePlan(rs, b, p.relation, older, groupWrite)
	r.n = len(rs.byTable[p.relation.TableName()]) + len(p.timers)
	if rs.numbered {
		r.n = b.number
	}
	r.identity = rs.identity(b)
	// What a rule says of a change comes in the order of the numbers, which is not that of the files.
	at, _ := slices.BinarySearchFunc(p.timers, r.n+1, func(r rulePlan, n int) int { return cmp.Compare(r.n, n) })
	p.timers = slices.Insert(p.timers, at, r)
	if r.broken == nil {
		return
	}
	report(r.broken)
	for _, op := range rowOps().list() {
		if p.broken[op] == nil {
			p.broken[op] = r.broken
		}
	}
}

// wait is what a row means for a timer.
type wait struct {
	is   bool  // when is true, and after not null
	due  int64 // microseconds since 2000, in UTC
	span string
}

// setTimers sets the timers of rules, which are in the order of their numbers, up to a number, and returns the rest.
func (m *Mapper) setTimers(rules []rulePlan, upTo int, c *cdc.Change, sink Sink) (rest []rulePlan, err error) {
	for ; len(rules) > 0 && rules[0].n < upTo; rules = rules[1:] {
		if err := m.setTimer(&rules[0], c, sink); err != nil {
			m.forgetVerdicts()
			return nil, err
		}
	}
	return rules, nil
}

// setTimer sets, moves or cancels the timer that a row has by a rule.
func (m *Mapper) setTimer(r *rulePlan, c *cdc.Change, sink Sink) error {
	to, takes := sink.(TimerSink)
	if !takes {
		return nil
	}
	t := &TimerChange{Position: c.Position, N: r.n, Rule: r.identity, rule: r.bound}
	if c.Op == cdc.Truncate {
		t.All = true
		return to.Timer(t)
	}
	if r.broken != nil {
		return m.park(r, r.n, c, sink, r.broken.Error())
	}
	var before, now wait
	var failed *failure
	if c.Op != cdc.Insert {
		if before, failed = m.waitBefore(r, c); failed != nil {
			return m.park(r, r.n, c, sink, failed.reason(r, c.Relation))
		}
	}
	if c.Op != cdc.Delete {
		if m.coverage != nil {
			m.coverage.count(m, r, c)
		}
		if now, failed = m.waitOf(m.machine, r); failed != nil {
			return m.park(r, r.n, c, sink, failed.reason(r, c.Relation))
		}
	}
	row := c.New
	if c.Op == cdc.Delete {
		row = c.Old
	}
	keys := columnIndexes(c.Relation, r.bound.table.PrimaryKey)
	var known bool
	if m.timerKey, known = m.collector.appendColumns(m.timerKey[:0], c.Relation, keys, row); !known {
		return m.park(r, r.n, c, sink, "the primary key was not sent, so that the row's timer is not known")
	}
	t.Key = m.timerKey
	if c.Op == cdc.Update {
		if m.formerKey, known = m.collector.appendColumns(m.formerKey[:0], c.Relation, keys, c.Old); known && string(m.formerKey) != string(m.timerKey) {
			t.Former, before = m.formerKey, wait{is: before.is}
		}
	}
	if !m.decideTimer(r, c, before, now, t) {
		switch {
		case now.is:
			m.told(r.n, TimerWaits)
		case c.Op != cdc.Delete:
			m.refused(r.n)
		}
		return nil
	}
	outcome := TimerSet
	if t.Due.IsZero() {
		outcome = TimerCanceled
	}
	m.told(r.n, outcome)
	return to.Timer(t)
}

// readTimer sets the timer of a row that was there already, a [cdc.Read]: an interval counts from when it was read, and a time that has passed is due since then.
func (m *Mapper) readTimer(r *rulePlan, c *cdc.Change, sink Sink) error {
	to, takes := sink.(TimerSink)
	if !takes {
		return nil
	}
	now, failed := m.waitOf(m.machine, r)
	if failed != nil {
		return m.park(r, r.n, c, sink, failed.reason(r, c.Relation))
	}
	if !now.is {
		m.refused(r.n)
		return nil
	}
	var known bool
	if m.timerKey, known = m.collector.appendColumns(m.timerKey[:0], c.Relation, columnIndexes(c.Relation, r.bound.table.PrimaryKey), c.New); !known {
		return m.park(r, r.n, c, sink, "the primary key was not sent, so that the row's timer is not known")
	}
	m.told(r.n, TimerSet)
	return to.Timer(&TimerChange{
		Position: c.Position, N: r.n, Rule: r.identity, rule: r.bound, Key: m.timerKey, Due: time.UnixMicro(now.due + micros2000).UTC(), Read: true, Span: r.timed.span != nil,
	})
}

// decideTimer fills in what a change means for the timer of its row; false: nothing.
func (m *Mapper) decideTimer(r *rulePlan, c *cdc.Change, before, now wait, t *TimerChange) bool {
	moved := t.Former != nil || r.bound.restart || now.span != before.span || now.span == "" && now.due != before.due
	switch {
	case now.is && (!before.is || moved):
		t.Pending = !r.bound.ops.has(c.Op)
		if t.Pending && !before.is {
			return false // it had none, and gets none
		}
		if t.Due = time.UnixMicro(now.due + micros2000).UTC(); t.Due.Before(c.Tx.Time) { // it is not late: it was not due before there was a timer
			t.Due = c.Tx.Time.UTC()
		}
		return true
	case now.is:
		return false
	}
	return before.is
}

// micros2000 is 2000-01-01 in microseconds of Unix time.
const micros2000 = 946684800 * 1e6

// maxDue is the last time, in microseconds since 2000, that a timer is kept for: what Redis counts exactly. A later one
// is never due.
const maxDue = 1<<53 - 1 - micros2000

// minDue stands for all that was long ago, -infinity too.
const minDue = -micros2000

// waitOf evaluates when and after on the row that a machine has loaded.
func (m *Mapper) waitOf(machine *expr.Machine, r *rulePlan) (wait, *failure) {
	if r.when != nil {
		value, null, part, err := machine.Decide(r.when)
		if err != nil {
			return wait{}, &failure{expression: r.bound.when, err: err}
		}
		m.why = r.reason(part, null)
		if null || !value {
			return wait{}, nil
		}
	}
	var w wait
	var null bool
	var err error
	if r.timed.span != nil {
		if m.dueText, null, err = machine.AppendText(m.dueText[:0], r.timed.span); err == nil && !null {
			w.span = string(m.dueText)
		}
	}
	if err == nil && !null {
		m.dueText, null, err = machine.AppendText(m.dueText[:0], r.timed.due)
	}
	if err == nil && !null {
		w.due, err = pgtext.ParseTimestampTZ(m.dueText, time.UTC)
	}
	if err != nil {
		return wait{}, &failure{expression: r.bound.after, err: err}
	}
	if w.is = !null && w.due < maxDue; !w.is {
		m.why = Verdict{Outcome: Null, Conjunct: NoConjunct}
	}
	w.due = max(w.due, minDue)
	return w, nil
}

// waitBefore is waitOf of the row before the change. A value that the server did not send is a failure; what could not
// be computed then had set no timer.
func (m *Mapper) waitBefore(r *rulePlan, c *cdc.Change) (wait, *failure) {
	if c.Old == nil {
		return wait{}, &failure{part: "after", err: &expr.UnknownError{Column: c.Relation.Columns[r.needs[0]].Name, Old: true, State: cdc.Missing}}
	}
	m.loadBefore(c)
	w, failed := m.waitOf(m.before, r)
	if failed == nil {
		return w, nil
	}
	if unknown := new(expr.UnknownError); errors.As(failed.err, &unknown) && unknown.State != cdc.Invalid {
		old := *unknown
		old.Old = true
		failed.err = &old
		return w, failed
	}
	return wait{}, nil
}
