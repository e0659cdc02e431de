package mapping

import (
	"math"
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
	// firing: timers are fired. A query that no longer fits ends that under any policy: there is no change that could be parked.
	firing bool
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
	// given is the tenant as the rule gives it; see Ruleset.Of.
	given                        []byte
	argument                     []cdc.Datum
	timerKey, formerKey, dueText []byte
	// timedPlans are those of rules with after for the tables as the rules know them.
	timedPlans map[*boundRule]*rulePlan
	// nullErrors: the rule at hand has on_error: null.
	nullErrors bool

	observer    Observer // nil: nobody asks
	observation Observation
	observedKey []byte
	// observedTenant is the observation's, of several sources.
	observedTenant []byte
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
func (m *Mapper) Map(c *cdc.Change, sink Sink) (err error) {
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
	timers := plan.timers
	for i := range rules {
		if timers, err = m.setTimers(timers, rules[i].n, c, sink); err != nil {
			return err
		}
		before := len(m.observation.Verdicts)
		if err := m.apply(&rules[i], rules[i].n, c, sink); err != nil {
			m.forgetVerdicts()
			return err
		}
		apart = m.observeEvent(c, &plan.subjects[c.Op], before) || apart
	}
	if _, err = m.setTimers(timers, math.MaxInt, c, sink); err != nil {
		return err
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
