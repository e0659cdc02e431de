package mapping

import (
	"bytes"
	"context"
	"errors"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
	"gancho/mapping/expr"
)

// Sink receives what a Mapper makes of a change. Its arguments are valid only
// until it returns. Its errors end Map, which returns them unchanged.
type Sink interface {
	Event(*Event) error
	Park(*Parked) error
}

// Mapper applies a Ruleset to changes. It belongs to one goroutine and reuses
// its memory: in a steady state it allocates nothing.
type Mapper struct {
	rules        *Ruleset
	schemaChange func(*SchemaError)
	source       *Source // nil when the rules read nothing from the database
	answer       func(*Question) (Answer, error)
	rows         func(RuleName, *cdc.Table) ([][]cdc.Datum, error)
	coverage     *Coverage // nil: nothing is counted
	past         bool      // see WithPast
	// transactionMemory bounds, in bytes, what waits in memory for a commit.
	transactionMemory int64
	// plans by OID: a table has one relation at a time.
	plans map[uint32]*tablePlan
	last  *tablePlan
	// readPlans are those of rows that were there already.
	readPlans map[uint32]*readPlan
	// Since the rules were loaded: compared are the tables, by OID, whose types
	// were compared with those of the rules, and reread what did not fit a type and
	// made the catalogue be read.
	compared map[uint32]bool
	reread   map[misfit]bool

	machine *expr.Machine
	// before evaluates on the old row, as if it were the new one.
	before       *expr.Machine
	beforeChange cdc.Change
	beforeLoaded bool
	numbers      pgtext.JSONOptions // as numbers
	strings      pgtext.JSONOptions // numbers as strings

	waiting waiting
	// collector holds what waits for the commit of the open transaction.
	collector collector
	// keeps: parked changes are kept whole. redrives: what is mapped was parked before,
	// and what no longer fits is parked again under any policy.
	keeps, redrives bool
	// keepsEvents: events have their change with them.
	keepsEvents bool
	// unreadParent: what is parked is a parent of which the key alone is known.
	unreadParent bool
	// childChanged: a child of the row at hand has changed, which watch lets pass.
	childChanged bool
	caches       map[string]*lookupCache
	now          func() time.Time // the clock of caches
	// found are the rows of the lookups of the event at hand, foundBefore those for the
	// old row.
	found, foundBefore []foundRow

	event  Event
	parked Parked
	// unchanged is the array of Event.Unchanged while a payload is rendered.
	data, previous, unchanged, errors, tags, tenant, key, row, scratch []byte
	argument                                                           []cdc.Datum
	timerKey, formerKey, dueText                                       []byte
	// timedPlans are those of rules with after for the tables as the rules know them.
	timedPlans map[*boundRule]*rulePlan
	// nullErrors: the rule at hand has on_error: null.
	nullErrors bool

	observer    Observer // nil: nobody asks
	observation Observation
	observedKey []byte
	// why is the reason of the last fires that was false.
	why Verdict
	// committed is the transaction of the Commit that was called last.
	committed *cdc.Transaction
}

// MapperOption sets what a Mapper uses besides its rules.
type MapperOption func(*Mapper)

// WithSource lets the Mapper read what changes do not carry. Rules with lookup
// or children need it.
func WithSource(s *Source) MapperOption { return func(m *Mapper) { m.source = s } }

// defaultTransactionMemory is how much of a transaction waits in memory for its
// commit, in bytes.
const defaultTransactionMemory = 64 << 20

// WithTransactionMemory sets how much of what must wait for a commit is kept in
// memory, in bytes; the rest goes to a temporary file.
func WithTransactionMemory(bytes int64) MapperOption {
	return func(m *Mapper) { m.transactionMemory = bytes }
}

// WithPast says that all changes are of an earlier time, or of another server's positions:
// the relations are those of their time, and queries need not wait for them.
func WithPast() MapperOption { return func(m *Mapper) { m.past = true } }

// NewMapper returns a Mapper for the rules. The function, which may be nil, is
// called once for each rule that does not fit a relation of the stream, under
// either policy.
func NewMapper(rs *Ruleset, schemaChange func(*SchemaError), options ...MapperOption) *Mapper {
	if schemaChange == nil {
		schemaChange = func(*SchemaError) {}
	}
	m := &Mapper{schemaChange: schemaChange, transactionMemory: defaultTransactionMemory, now: time.Now}
	for _, o := range options {
		o(m)
	}
	m.collector = newCollector(m.transactionMemory)
	m.Swap(rs)
	return m
}

// Begin opens a transaction. Every Map until its Commit belongs to it.
func (m *Mapper) Begin(*cdc.Transaction) { m.collector.reset() }

// Pending is the number of events and parked changes that Resolve will give to
// a sink: those that wait for a lookup, and those behind them, because
// positions in a stream must rise.
func (m *Mapper) Pending() int { return len(m.waiting.entries) }

// Full reports whether so much is pending that Resolve should be called now.
func (m *Mapper) Full() bool {
	return len(m.waiting.entries) >= maxPending || len(m.waiting.text) >= maxPendingBytes
}

// Resolve reads what the pending events wait for, once their transactions are
// visible, and gives them to the sink in order. While the source is unreachable
// it retries, until the context ends. It may be called within a transaction.
func (m *Mapper) Resolve(ctx context.Context, sink Sink) error {
	w := &m.waiting
	if len(w.entries) == 0 {
		w.clear() // a parked change may have left queries
		return nil
	}
	if m.source == nil && m.answer == nil {
		return errors.New("apply rules with lookup: the mapper has no source; add WithSource")
	}
	entries := w.entries
	rest := entries
	for size := len(rest); len(rest) > 0; {
		n := min(size, len(rest))
		err := m.read(ctx, rest[:n])
		if errors.Is(err, errTooMuch) {
			size = n / 2
			w.forget()
			continue
		}
		if err != nil {
			w.entries = rest
			return err
		}
		// What the sink is given is complete: none of it becomes pending again.
		w.entries = nil
		for i := range rest[:n] {
			if err := m.release(&rest[i], sink); err != nil {
				return err
			}
		}
		clear(rest[:n]) // what they refer to
		if rest, size = rest[n:], 2*n; len(rest) > 0 {
			w.forget()
		}
	}
	w.entries = entries
	w.clear()
	return nil
}

// read reads what some entries wait for. It returns errTooMuch, only for several of them,
// when that would take too much memory.
func (m *Mapper) read(ctx context.Context, entries []entry) error {
	w := &m.waiting
	w.several = len(entries) > 1
	for i := range entries {
		e := &entries[i]
		for _, asked := range [][]int32{e.asked, e.before} {
			for lookup, set := range asked {
				if e.kind == entryWaiting && set >= 0 {
					w.byID[e.rule.lookups[lookup].id].want(set)
				}
			}
		}
	}
	for _, q := range w.queries {
		if len(q.wanted) == 0 {
			continue
		}
		if err := m.lookUp(ctx, q); err != nil {
			return err
		}
		q.wanted = q.wanted[:0]
	}
	return nil
}

// Reset discards an open transaction and everything pending: the stream starts
// again before them.
func (m *Mapper) Reset() {
	m.forgetVerdicts()
	m.waiting.clear()
	m.collector.reset()
}

// Swap replaces the rules. It must not be called within a transaction, whose
// events would be split between the two, nor while anything is pending.
func (m *Mapper) Swap(rs *Ruleset) {
	m.rules = rs
	if m.source != nil {
		m.source.path = rs.path
	}
	m.collector.reset()
	m.collector.settings = rs.settings
	m.caches = map[string]*lookupCache{}
	m.plans, m.readPlans = map[uint32]*tablePlan{}, map[uint32]*readPlan{}
	m.timedPlans = map[*boundRule]*rulePlan{}
	m.compared, m.reread = map[uint32]bool{}, map[misfit]bool{}
	m.last = nil
	m.machine, m.before = expr.NewMachine(rs.settings), expr.NewMachine(rs.settings)
	m.numbers = pgtext.JSONOptions{Location: rs.settings.Location}
	m.strings = pgtext.JSONOptions{Location: rs.settings.Location, NumbersAsStrings: true}
}

// Map gives the events of a change, and what had to be parked, to the sink, in
// the order of Event.N; the events of rules about whole transactions come at
// Commit. Its errors are a *SchemaError under the policy Stop; cdc.ErrStaleTypes,
// before anything is given to the sink, for an enum's label or a number of fields
// that the relation's types do not know, once for each; the sink's; and that the temporary file of a
// large transaction cannot be written.
func (m *Mapper) Map(c *cdc.Change, sink Sink) error {
	m.collector.count = c.Ordinal + 1
	plan := m.plan(c.Relation, m.past || c.Commit < m.rules.boundAt)
	if plan == nil {
		return cdc.ErrStaleTypes
	}
	rules := plan.byOp[c.Op]
	if len(rules) == 0 && plan.collects == nil && len(plan.timers) == 0 {
		if plan.ruled {
			m.observe(c, &plan.subjects[c.Op])
		}
		return nil
	}
	if broken := plan.failing(c.Op); broken != nil && m.rules.policy == Stop {
		return broken
	}
	if len(plan.alterable) > 0 && m.stale(plan, c) {
		return cdc.ErrStaleTypes
	}
	if len(rules) > 0 || len(plan.timers) > 0 {
		m.load(c)
	}
	apart := false
	for i := range rules {
		before := len(m.observation.Verdicts)
		if err := m.apply(&rules[i], rules[i].n, c, sink); err != nil {
			m.forgetVerdicts()
			return err
		}
		apart = m.observeEvent(c, &plan.subjects[c.Op], before) || apart
	}
	for i := range plan.timers {
		if err := m.setTimer(&plan.timers[i], c, sink); err != nil {
			m.forgetVerdicts()
			return err
		}
	}
	for _, p := range plan.collects {
		if err := m.collector.collect(p, c); err != nil {
			return err
		}
		m.toldLater(p, c.Op)
	}
	if !apart || len(m.observation.Verdicts) > 0 {
		m.observe(c, &plan.subjects[c.Op])
	}
	return nil
}

// load makes c the change that expressions see, and drops the memory of a large
// payload before.
func (m *Mapper) load(c *cdc.Change) {
	m.machine.Load(c)
	m.beforeLoaded = false
	if cap(m.data) > keptMemory {
		m.data = nil
	}
	if cap(m.previous) > keptMemory {
		m.previous = nil
	}
}

// plan returns the table's plan, nil when the rules know another version of a
// type than the relation. older: the change is older than the rules.
func (m *Mapper) plan(rel *cdc.Relation, older bool) *tablePlan {
	if m.last != nil && m.last.relation == rel {
		return m.last
	}
	plan := m.plans[rel.OID]
	if plan == nil || plan.relation != rel {
		if m.outdated(rel) {
			return nil
		}
		plan = newTablePlan(m.rules, rel, older, m.schemaChange)
		m.plans[rel.OID] = plan
	}
	m.last = plan
	return plan
}

// failure is why a rule could not be applied, and in which part.
type failure struct {
	part       string // watch, previous or key, when there is no expression
	expression *expression
	err        error
}

func (m *Mapper) apply(r *rulePlan, n int, c *cdc.Change, sink Sink) error {
	undecided := "" // why the part of the condition that is decided here is not
	if r.decides {
		fires, failed := m.fires(r, c)
		switch {
		case failed != nil && len(r.late) > 0 && r.broken == nil:
			undecided = failed.reason(r, c.Relation)
		case failed != nil:
			return m.park(r, n, c, sink, failed.reason(r, c.Relation))
		case !fires:
			m.refused(n)
			return nil
		}
	}
	if r.broken != nil {
		return m.park(r, n, c, sink, r.broken.Error())
	}
	if r.awaits {
		return m.suspend(r, n, c, sink, undecided)
	}
	if failed := m.build(r, n, c); failed != nil {
		return m.park(r, n, c, sink, failed.reason(r, c.Relation))
	}
	m.told(n, Fired)
	return m.emit(sink)
}

// emit gives m.event to the sink, or puts it behind what is pending.
func (m *Mapper) emit(sink Sink) error {
	if len(m.waiting.entries) > 0 {
		m.waiting.event(&m.event)
		return nil
	}
	return sink.Event(&m.event)
}

// fires evaluates watch AND when in three-valued logic: what was not sent
// matters only if the rest does not decide.
func (m *Mapper) fires(r *rulePlan, c *cdc.Change) (bool, *failure) {
	if m.coverage != nil {
		m.coverage.count(m, r, c)
	}
	var unknown *failure
	if c.Op == cdc.Update && len(r.watch) > 0 && !m.childChanged {
		var changed bool
		changed, unknown = m.changed(r, c)
		if !changed && unknown == nil {
			m.why = Verdict{Outcome: Unwatched}
			return false, nil
		}
	}
	if r.when != nil {
		value, null, part, err := m.machine.Decide(r.when)
		switch {
		case err != nil:
			return false, &failure{expression: r.bound.when, err: err}
		case null || !value:
			m.why = r.reason(part, null)
			return false, nil
		}
	}
	return unknown == nil, unknown
}

// changed reports whether an update changed a watched column.
func (m *Mapper) changed(r *rulePlan, c *cdc.Change) (bool, *failure) {
	var unknown *failure
	for _, w := range r.watch {
		now := c.New[w.index]
		if now.State == cdc.Unchanged {
			continue
		}
		if c.Old == nil && c.Relation.KeepsKey(w.index) {
			continue
		}
		if c.Old != nil && c.Old[w.index].Sent() && (now.State == cdc.Invalid || c.Old[w.index].State == cdc.Invalid) {
			if bytes.Equal(now.Text, c.Old[w.index].Text) {
				continue
			}
			return true, nil
		}
		if c.Old == nil || !c.Old[w.index].Known() {
			unknown = &failure{part: "watch", err: &expr.UnknownError{Column: c.Relation.Columns[w.index].Name, Old: true, State: cdc.Missing}}
			continue
		}
		was := c.Old[w.index]
		if was.State == now.State && (now.State == cdc.Null || bytes.Equal(was.Text, now.Text)) {
			continue
		}
		if w.changed == nil || was.State != now.State {
			return true, nil
		}
		differs, _, err := m.machine.Bool(w.changed)
		if err != nil {
			return false, &failure{part: "watch", err: err}
		}
		if differs {
			return true, nil
		}
	}
	return false, unknown
}

// subject fills in m.tenant and m.key.
func (m *Mapper) subject(r *rulePlan, c *cdc.Change) *failure {
	m.tenant = m.tenant[:0]
	if err := m.machine.Sent(r.sent); err != nil {
		return &failure{part: "tenant or key", err: err}
	}
	if r.tenant != nil {
		var err error
		if m.tenant, _, err = m.machine.AppendText(m.tenant, r.tenant); err != nil {
			return &failure{expression: r.bound.tenant, err: err}
		}
		m.tenant = unpadded(m.tenant, r.tenant.Type())
	}
	return m.orderingKey(r, c)
}

// build fills in m.event.
func (m *Mapper) build(r *rulePlan, n int, c *cdc.Change) *failure {
	if failed := m.subject(r, c); failed != nil {
		return failed
	}
	m.unchanged, m.errors, m.nullErrors = m.unchanged[:0], m.errors[:0], r.bound.onError.Valid()
	var failed *failure
	if m.data, failed = m.renderObject(m.data[:0], r.payload, m.options(r)); failed != nil {
		return failed
	}
	e := &m.event
	*e = Event{
		Position: c.Position, N: n, Type: r.bound.event, Rule: r.place, Version: r.bound.version,
		Time: c.Tx.Time, Tenant: m.tenant, Key: m.key, Op: c.Op, Data: m.data,
	}
	if m.keepsEvents {
		e.Change, _ = m.keep(r, n, c) // an event without is sent all the same
	}
	if len(m.unchanged) > 0 {
		m.unchanged = append(m.unchanged, ']')
		e.Unchanged = m.unchanged
	}
	if r.bound.previous && c.Op == cdc.Update {
		if m.previous, failed = m.renderPrevious(m.previous[:0], r, c); failed != nil {
			return failed
		}
		e.Previous = m.previous
	}
	if len(m.errors) > 0 {
		m.errors = append(m.errors, ']')
		e.Errors = m.errors
	}
	if len(r.tags) == 0 {
		return nil
	}
	if failed = m.renderTags(r, m.options(r)); failed == nil && len(m.tags) > 0 {
		e.Tags = m.tags
	}
	return failed
}

// orderingKey fills in m.key: the rule's, or the primary key.
func (m *Mapper) orderingKey(r *rulePlan, c *cdc.Change) *failure {
	m.key = m.key[:0]
	if r.key != nil {
		var null bool
		var err error
		if m.key, null, err = m.machine.AppendText(m.key, r.key); err != nil {
			return &failure{expression: r.bound.key, err: err}
		}
		if !null {
			m.key = append(m.key[:0], m.rules.settings.KeyText(m.key, r.key.Type())...)
			return nil
		}
		m.key = m.key[:0]
	}
	row, old := c.New, false
	if c.Op == cdc.Delete {
		row, old = c.Old, true
	}
	for i, column := range r.fallback {
		if i > 0 {
			m.key = append(m.key, ',')
		}
		state := cdc.Missing
		if row != nil {
			state = row[column].State
		}
		if state != cdc.Present && state != cdc.Null {
			return &failure{part: "key", err: &expr.UnknownError{Column: c.Relation.Columns[column].Name, Old: old, State: state}}
		}
		m.key = append(m.key, m.rules.settings.KeyText(row[column].Text, c.Relation.Columns[column].Type)...)
	}
	return nil
}

// unpadded returns a text without the padding of char(n).
func unpadded(text []byte, t *cdc.Type) []byte {
	if len(text) > 0 && text[len(text)-1] == ' ' && padded(t) {
		return bytes.TrimRight(text, " ")
	}
	return text
}
