package mapping

import (
	"bytes"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
)

// Outcome is what became of a change under a rule.
type Outcome uint8

// The outcomes. Awaits is followed by another one, of the same position; Commit and Child,
// too, if the rule is for what the transaction has made of the row: of the position of its
// last change, or, when the rule is applied to the net change, of that of its event.
const (
	Fired         Outcome = 1 + iota // an event was made
	Unwatched                        // an update that changed none of the columns of watch
	False                            // a conjunct of when was false
	Null                             // a conjunct of when was null
	WasParked                        // the rule could not be applied
	Awaits                           // its lookups are read
	Commit                           // the rule is applied to the net change, at the commit
	Child                            // it counts as a change of its parent, at the commit
	Nothing                          // the net change of the row is none
	Grouped                          // one event is made of the rows with its collapse key: that of the last
	Root                             // root_only: its parent is deleted in the same transaction
	TimerSet                         // the row's timer was set, moved, or begun again: the event comes when it is due
	TimerCanceled                    // the row's timer was canceled, if one was pending
	TimerWaits                       // the row's timer stays as it is
)

// Verdict is what a rule made of a change. It holds no values.
type Verdict struct {
	Rule     uint16 // Event.N
	Outcome  Outcome
	Conjunct uint8 // False and Null: which of [RuleText.Conjuncts]; NoConjunct: not known
}

// NoConjunct is the Verdict.Conjunct of a condition of which it is not known which part decided.
const NoConjunct = 0xff

// Observation is what the rules made of one change. It is valid only until Observe returns.
type Observation struct {
	cdc.Position
	// Net: it is what the transaction has made of the row, and the position that of its events.
	Net   bool
	Time  time.Time
	Table uint32 // the OID
	Op    cdc.Op
	// Key is the row's primary key, columns joined by commas; nil: it is not known, or, of
	// what was decided later, in an observation of the same position.
	Key []byte
	// Tenant is the one that all these rules would give the event, if HasTenant.
	Tenant    []byte
	HasTenant bool
	// Later: the verdicts, as all of a Net, follow others of the same rules, that were Awaits,
	// Commit or Child.
	// Again: they were told before, under another Key.
	Later, Again bool
	// Verdicts are in the order of the rules; none: no rule is for the operation.
	Verdicts []Verdict
}

// Observer is told what the rules make of each change of their tables.
type Observer interface{ Observe(*Observation) }

// WithObserver has an observer told of every change, and of every row that was there already.
// It is called by Map, Read, Commit and Resolve.
func WithObserver(o Observer) MapperOption { return func(m *Mapper) { m.observer = o } }

// subjectPlan is how a change's row is recognized later: by its primary key, and by its
// tenant where all rules give it the same plain column.
type subjectPlan struct {
	key    []int
	tenant tenantColumn
}

// tenantColumn is where the tenant stands.
type tenantColumn struct {
	known, none bool // none: no rule has a tenant
	old         bool
	index       int
}

// tenantOf is the tenant's column of rules for one operation.
func tenantOf(rules []*rulePlan) tenantColumn {
	var all tenantColumn
	for i, r := range rules {
		one := tenantColumn{known: true, none: r.bound.tenant == nil}
		if !one.none {
			if r.tenant == nil {
				return tenantColumn{} // it no longer fits
			}
			column, bare := r.tenant.Bare()
			if !bare {
				return tenantColumn{}
			}
			one.old, one.index = column.Old, column.Index
		}
		if i > 0 && one != all {
			return tenantColumn{}
		}
		all = one
	}
	return all
}

// addSubjects fills in how the table's rows are recognized.
func (p *tablePlan) addSubjects(rs *Ruleset) {
	key := columnIndexes(p.relation, rs.primaryKey(p.relation.TableName()))
	for op := range p.byOp {
		var rules []*rulePlan
		for i := range p.byOp[op] {
			rules = append(rules, &p.byOp[op][i])
		}
		for _, c := range p.collects {
			if op < len(c.rules) {
				for _, r := range c.rules[op] {
					rules = append(rules, &r.rulePlan)
				}
			}
		}
		for i := range p.timers {
			rules = append(rules, &p.timers[i])
		}
		p.subjects[op] = subjectPlan{key, tenantOf(rules)}
		for _, c := range p.collects {
			if op < len(c.subjects) {
				c.subjects[op] = p.subjects[op]
			}
		}
	}
}

// primaryKey is that of a table of the rules, or of their children.
func (rs *Ruleset) primaryKey(table cdc.Name) []string {
	for _, b := range rs.withChildren() {
		if b.table.Relation.TableName() == table {
			return b.table.PrimaryKey
		}
	}
	return nil
}

// told notes what a rule made of the change at hand.
func (m *Mapper) told(n int, o Outcome) { m.toldOf(Verdict{Rule: uint16(n), Outcome: o}) }

func (m *Mapper) toldOf(v Verdict) {
	if m.observer != nil {
		m.observation.Verdicts = append(m.observation.Verdicts, v)
	}
}

// refused notes that a rule did not fire, for the reason that fires has found.
func (m *Mapper) refused(n int) {
	m.why.Rule = uint16(n)
	m.toldOf(m.why)
}

// forgetVerdicts drops what was noted of a change that is not mapped to its end.
func (m *Mapper) forgetVerdicts() { m.observation.Verdicts = m.observation.Verdicts[:0] }

// observe tells the observer what was noted of the change.
func (m *Mapper) observe(c *cdc.Change, s *subjectPlan) {
	if m.observer == nil {
		return
	}
	o := &m.observation
	o.Position, o.Time, o.Table, o.Op = c.Position, c.Tx.Time, c.Relation.OID, c.Op
	m.identify(o, c, s)
	m.observer.Observe(o)
	if c.Op == cdc.Update && c.Old != nil && m.rekeyed(c, s) {
		o.Again = true
		m.observer.Observe(o) // under the key that the row had before
		o.Again = false
	}
	m.forgetVerdicts()
}

// identify fills in the key and the tenant of the change.
func (m *Mapper) identify(o *Observation, c *cdc.Change, s *subjectPlan) {
	row := c.New
	if c.Op == cdc.Delete {
		row = c.Old
	}
	o.Key, o.Tenant, o.HasTenant = m.rowKey(m.observedKey[:0], c, row, s.key), nil, s.tenant.known
	if o.Key != nil {
		m.observedKey = o.Key
	}
	if !s.tenant.known {
		return
	}
	o.Tenant = m.observedTenantOf(o, c, s)
	if m.rules.source != "" {
		m.observedTenant = m.rules.appendTenant(m.observedTenant[:0], o.Tenant)
		o.Tenant = m.observedTenant
	}
}

// observedTenantOf is the tenant that the change alone shows; the observation has none if it does not.
func (m *Mapper) observedTenantOf(o *Observation, c *cdc.Change, s *subjectPlan) []byte {
	if s.tenant.none {
		return nil
	}
	row := c.New
	if s.tenant.old {
		row = c.Old
	}
	switch i := s.tenant.index; {
	case row == nil || row[i].State != cdc.Present && row[i].State != cdc.Null:
		o.HasTenant = false
	case row[i].State == cdc.Present:
		return unpadded(row[i].Text, c.Relation.Columns[i].Type)
	}
	return nil
}

// rowKey appends the primary key of a row; nil: it is not known.
func (m *Mapper) rowKey(dst []byte, c *cdc.Change, row []cdc.Datum, key []int) []byte {
	if row == nil || key == nil {
		return nil
	}
	for i, column := range key {
		if row[column].State != cdc.Present {
			return nil
		}
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, m.rules.settings.KeyText(row[column].Text, c.Relation.Columns[column].Type)...)
	}
	return dst
}

// rekeyed reports whether an update gave the row another key, and makes the observation's
// the one before.
func (m *Mapper) rekeyed(c *cdc.Change, s *subjectPlan) bool {
	changed := slices.ContainsFunc(s.key, func(i int) bool {
		return c.Old[i].State == cdc.Present && !bytes.Equal(c.Old[i].Text, c.New[i].Text)
	})
	if !changed {
		return false
	}
	m.observation.Key = m.rowKey(m.observedKey[:0], c, c.Old, s.key)
	return m.observation.Key != nil
}

// observeLater tells what was decided of a change after others had been mapped.
func (m *Mapper) observeLater(c *cdc.Change) {
	if m.observer == nil || len(m.observation.Verdicts) == 0 {
		return
	}
	if c.Op == cdc.Timer { // of which nobody asks
		m.forgetVerdicts()
		return
	}
	o := &m.observation
	o.Position, o.Time, o.Table, o.Op = c.Position, c.Tx.Time, c.Relation.OID, c.Op
	o.Key, o.Tenant, o.HasTenant = nil, m.tenant, o.Verdicts[0].Outcome == Fired
	m.observeLaterVerdicts()
	m.forgetVerdicts()
}

func (m *Mapper) observeLaterVerdicts() {
	m.observation.Later = true
	m.observer.Observe(&m.observation)
	m.observation.Later = false
}

// observeEvent tells at once of an event whose tenant the change alone does not show, and
// reports whether it has; before is how many verdicts there were before it.
func (m *Mapper) observeEvent(c *cdc.Change, s *subjectPlan, before int) bool {
	o := &m.observation
	if m.observer == nil || s.tenant.known || len(o.Verdicts) == before || o.Verdicts[len(o.Verdicts)-1].Outcome != Fired {
		return false
	}
	all := o.Verdicts
	o.Verdicts = all[before:]
	o.Position, o.Time, o.Table, o.Op = c.Position, c.Tx.Time, c.Relation.OID, c.Op
	m.identify(o, c, s)
	o.Tenant, o.HasTenant = m.tenant, true
	m.observer.Observe(o)
	o.Verdicts = all[:before]
	return true
}

// toldLater notes the rules that wait for the commit.
func (m *Mapper) toldLater(p *collectPlan, op cdc.Op) {
	if m.observer == nil || int(op) >= len(p.rules) {
		return
	}
	for _, r := range p.rules[op] {
		m.told(r.bound.number, Commit)
	}
	for i := range p.children {
		m.told(p.children[i].number, Child)
	}
}

// toldNet tells what became of a row at the commit, with the position of its last change.
func (m *Mapper) toldNet(last uint64, verdicts ...Verdict) {
	if m.observer == nil {
		return
	}
	for _, v := range verdicts {
		m.toldOf(v)
	}
	o := &m.observation
	o.Position, o.Time, o.Op = cdc.Position{Commit: m.committed.Commit, Ordinal: last}, m.committed.Time, 0
	o.Key, o.Tenant, o.HasTenant = nil, nil, false
	m.observeLaterVerdicts()
	m.forgetVerdicts()
}

// toldNothing tells that a row is as before the transaction. A parent may have an event
// because of its children.
func (m *Mapper) toldNothing(n *net, op cdc.Op) {
	if m.observer == nil {
		return
	}
	var verdicts []Verdict
	add := func(number int) {
		v := Verdict{Rule: uint16(number), Outcome: Nothing}
		if !slices.Contains(verdicts, v) {
			verdicts = append(verdicts, v)
		}
	}
	for _, rules := range n.plan.rules {
		for _, r := range rules {
			if op == 0 || len(r.bound.children) == 0 {
				add(r.bound.number)
			}
		}
	}
	for i := range n.plan.children {
		add(n.plan.children[i].number)
	}
	if len(verdicts) > 0 {
		m.toldNet(n.last, verdicts...)
	}
}

// conjunctAt is the number of the conjunct that has the offset.
func conjunctAt(spans []span, offset int) uint8 {
	for i, s := range spans {
		if offset >= s.from && offset <= s.to && i < NoConjunct {
			return uint8(i)
		}
	}
	return NoConjunct
}

// RuleText is what people read of a rule.
type RuleText struct {
	Number    int // Event.N, as Number has given it
	Event     string
	Place     string // file:line
	Table     cdc.Name
	OID       uint32 // the table's
	On        string // insert or update
	Conjuncts []string
	// Child: it stands for the children of a rule's table.
	Child    bool
	Identity Identity
}

// Identity is how much of old rows a rule needs, and how much the server sends.
type Identity struct {
	// Needs is IdentityNone, IdentityKey or IdentityFull, and Reason why it is the last.
	Needs  string `json:"needs"`
	Reason string `json:"reason,omitempty"`
	// Has is the table's REPLICA IDENTITY when the rules were bound: default, full, index or nothing.
	Has string `json:"has"`
}

// What of an old row a rule needs.
const (
	IdentityNone = "none" // it is for inserts alone
	IdentityKey  = "key"  // which tells whose row was changed
	IdentityFull = "full"
)

// identity is that of a rule.
func (b *boundRule) identity() Identity {
	out := Identity{Needs: IdentityNone, Reason: b.needsOld, Has: identityNames[b.table.Relation.ReplicaIdentity]}
	switch {
	case b.needsOld != "":
		out.Needs = IdentityFull
	case b.seen&setOf(cdc.Update, cdc.Delete) != 0:
		out.Needs = IdentityKey
	}
	return out
}

// identityNames are those of pg_class.relreplident.
var identityNames = map[byte]string{'d': "default", 'f': "full", 'i': "index", 'n': "nothing"}

// Texts returns the rules, with those for children and heirs, as people read them.
func (rs *Ruleset) Texts() []RuleText {
	var out []RuleText
	add := func(b *boundRule, number int, child bool) {
		t := RuleText{Number: number, Event: b.event, Place: b.place(), Table: b.table.Relation.TableName(), OID: b.table.Relation.OID, On: b.ops.String(), Child: child, Identity: b.identity()}
		if b.when != nil {
			for _, s := range conjuncts(b.when.text) {
				t.Conjuncts = append(t.Conjuncts, strings.Join(strings.Fields(b.when.text[s.from:s.to]), " "))
			}
		}
		out = append(out, t)
	}
	for _, b := range slices.Concat(rs.rules, rs.heirs) {
		add(b, b.number, false)
		for _, child := range b.children {
			add(child.boundRule, b.number, true)
		}
	}
	return out
}

// KeyText returns a primary key that a person has written, columns joined by commas, as
// Observation.Key has it.
func (rs *Ruleset) KeyText(table cdc.Name, text string) []byte {
	for _, b := range rs.withChildren() {
		rel := b.table.Relation
		if rel.TableName() != table {
			continue
		}
		columns := columnIndexes(rel, b.table.PrimaryKey)
		parts := splitKey(text, len(columns))
		if parts == nil {
			break
		}
		var out []byte
		for i, part := range parts {
			if i > 0 {
				out = append(out, ',')
			}
			out = append(out, rs.settings.KeyText([]byte(part), rel.Columns[columns[i]].Type)...)
		}
		return out
	}
	return []byte(text)
}

// PrimaryKey is the columns that tell the rows of a table of the rules apart.
func (rs *Ruleset) PrimaryKey(table cdc.Name) []string { return slices.Clone(rs.primaryKey(table)) }
