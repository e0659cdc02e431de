package bridge

import (
	"cmp"
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/strictyaml"
	"gancho/mapping"
)

const (
	// verdictsKept is how many records of changes are kept, and readsKept how many of rows that
	// backfills read: 16 MiB in all.
	verdictsKept = 7 << 15
	readsKept    = 1 << 15
)

// verdicts remembers what became of the newest changes, and of the rows that backfills have
// read, without any of their values: rows are found by a hash of their primary keys, whose
// seed this process has made up. Observe is the capture's; all else is safe from any goroutine.
type verdicts struct {
	seed   maphash.Seed
	source string // of several, which: endpoints that do not take it are not among those that events are offered to

	mu sync.Mutex
	// A backfill reads millions of rows, which must not push out what was changed.
	changes, reads verdictRing
	// settings are the newest versions, by the number that records have; rules and rosters
	// are what they name.
	settings map[uint16]verdictSettings
	rules    map[uint64]*verdictRules
	rosters  map[uint64][]*addressee
	version  uint16
	used     bool      // a record has the version
	since    time.Time // when capture began, or went on
}

// newVerdicts has room for so many records of each kind, multiples of chunkRecords.
func newVerdicts(changes, reads uint64) *verdicts { return newVerdictsOf(chunkRecords, changes, reads) }

// newVerdictsOf has room for so many records of each kind, multiples of those of a chunk.
func newVerdictsOf(chunk, changes, reads uint64) *verdicts {
	return &verdicts{
		seed: maphash.MakeSeed(), changes: newVerdictRing(chunk, changes), reads: newVerdictRing(chunk, reads),
		settings: map[uint16]verdictSettings{0: {}}, rules: map[uint64]*verdictRules{0: {}}, rosters: map[uint64][]*addressee{0: nil},
	}
}

// hash is never 0.
func (v *verdicts) hash(text []byte) uint64 { return max(maphash.Bytes(v.seed, text), 1) }

// Observe implements mapping.Observer.
func (v *verdicts) Observe(o *mapping.Observation) {
	r := verdictRecord{commit: uint64(o.Commit), ordinal: o.Ordinal, micros: o.Time.UnixMicro(), table: o.Table, op: uint8(o.Op)}
	if o.Net {
		r.op |= opNet
	}
	if o.Key != nil {
		r.key = v.hash(o.Key)
	}
	if o.HasTenant {
		r.tenant = v.hash(o.Tenant)
	}
	v.mu.Lock()
	defer v.mu.Unlock()
	r.settings, v.used = v.version, true
	ring := &v.changes
	if o.Op == cdc.Read {
		ring = &v.reads
	}
	for rest := o.Verdicts; ; {
		r.n = uint8(copy(r.verdicts[:], rest))
		ring.add(&r)
		if rest = rest[r.n:]; len(rest) == 0 {
			return
		}
	}
}

// began says that from now on all changes are observed: that of another process, which had
// the slot meanwhile, were not.
func (v *verdicts) began(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.since = at
}

// place is a change.
type place struct{ commit, ordinal uint64 }

// remembered is what is known of a change.
type remembered struct {
	place
	table   uint32
	micros  int64
	op      uint8
	records []verdictRecord
	foreign bool // it is not known to be the tenant's
}

// all calls yield with every record, the oldest of each kind first.
func (v *verdicts) all(yield func(*verdictRecord)) {
	v.each(&v.changes, yield)
	v.each(&v.reads, yield)
}

// find returns the changes that have a record that is looked for, in the order of the positions. The tenant is a
// hash; 0: whosever they are.
func (v *verdicts) find(tenant uint64, looked func(*verdictRecord) bool) []remembered {
	changes := map[place]*remembered{}
	v.all(func(r *verdictRecord) {
		if !looked(r) {
			return
		}
		at := place{r.commit, r.ordinal}
		if changes[at] == nil {
			changes[at] = &remembered{place: at, table: r.table, micros: r.micros, op: r.op, foreign: tenant != 0}
		}
		if r.tenant == tenant {
			changes[at].foreign = false
		}
	})
	v.all(func(r *verdictRecord) {
		f := changes[place{r.commit, r.ordinal}]
		// What was decided later has no key, and a tenant only if there is an event.
		if f == nil || f.foreign || tenant != 0 && r.tenant != tenant && (r.tenant != 0 || r.key != 0) {
			return
		}
		f.records = append(f.records, *r)
	})
	var out []remembered
	for _, f := range changes {
		if !f.foreign {
			out = append(out, *f)
		}
	}
	slices.SortFunc(out, func(a, b remembered) int {
		return cmp.Or(cmp.Compare(a.commit, b.commit), cmp.Compare(a.ordinal, b.ordinal))
	})
	return out
}

// answer is what a row's changes became; webhookID names the event of a rule's number.
func (v *verdicts) answer(q control.WhyQuestion, webhookID func(cdc.Position, int) (string, error)) (control.WhyView, error) {
	known, now := v.named()
	out := v.emptyAnswer()
	var schedules []*mapping.Scheduled
	var read []cdc.Name // by their queries
	if q.Tenant == nil {
		schedules = now.Schedules()
	}
	for _, s := range schedules {
		read = append(read, s.Tables()...)
	}
	table, oid, err := tableOf(now.texts, q.Table, read...)
	if err != nil {
		return out, err
	}
	out.Table, out.Key, out.KeyColumns = table.String(), q.Key, append([]string{}, now.PrimaryKey(table)...)
	for i := range now.texts {
		if t := &now.texts[i]; t.OID == oid {
			out.Rules = append(out.Rules, control.WhyTableRule{Rule: t.Place, Event: t.Event, On: t.On})
		}
	}
	out.Schedules = schedulesOver(schedules, table)
	var from int64
	if !q.From.IsZero() {
		from = q.From.UnixMicro()
	}
	key := v.hash(now.KeyText(table, q.Key))
	if q.Change != "" {
		if key, err = v.rowOf(oid, q.Change); err != nil {
			return out, err
		}
	}
	changes := v.find(v.tenantOf(q), func(r *verdictRecord) bool { return r.table == oid && r.key == key && r.micros >= from })
	if more := len(changes) - control.MaxWhyChanges; more > 0 {
		changes, out.More = changes[more:], true
	}
	return out, v.tellAll(&out, changes, &known, webhookID)
}

// emptyAnswer has since when changes are known.
func (v *verdicts) emptyAnswer() control.WhyView {
	v.mu.Lock()
	defer v.mu.Unlock()
	out := control.WhyView{Since: v.since.UTC(), Rules: []control.WhyTableRule{}, Changes: []control.WhyChange{}}
	if made := v.changes.madeRoom(); made.After(out.Since) {
		out.Since, out.Overwritten = made, true
	}
	out.ReadsSince = v.reads.madeRoom()
	return out
}

// tenantOf is the hash of the question's tenant; 0: it has none.
func (v *verdicts) tenantOf(q control.WhyQuestion) uint64 {
	if q.Tenant == nil {
		return 0
	}
	return v.hash([]byte(*q.Tenant))
}

func (v *verdicts) tellAll(out *control.WhyView, changes []remembered, known *knownSettings, webhookID func(cdc.Position, int) (string, error)) error {
	for i := range changes {
		c, err := v.tell(&changes[i], known, webhookID)
		if err != nil {
			return err
		}
		out.Changes = append(out.Changes, c)
	}
	return nil
}

// schedulesOver are the rules with schedule whose query reads a table.
func schedulesOver(all []*mapping.Scheduled, table cdc.Name) (over []control.WhySchedule) {
	for _, s := range all {
		if slices.Contains(s.Tables(), table) {
			over = append(over, control.WhySchedule{ScheduleView: control.ScheduleView{Rule: s.Place(), Event: s.Event()}})
		}
	}
	return over
}

// named is what records name, and the rules that are in use.
func (v *verdicts) named() (known knownSettings, now *verdictRules) {
	v.mu.Lock()
	defer v.mu.Unlock()
	return knownSettings{maps.Clone(v.settings), maps.Clone(v.rules), maps.Clone(v.rosters)}, v.rules[v.settings[v.version].rules]
}

// tableOf finds a table of the rules by its name, whose schema may be missing, or else one of others, which have no OID.
func tableOf(texts []mapping.RuleText, name string, others ...cdc.Name) (cdc.Name, uint32, error) {
	wrong := func(hint, message string) error {
		return &control.InvalidError{Problems: []control.Problem{{Pointer: "/table", Message: message, Hint: hint}}}
	}
	var all []cdc.Name
	var names []string
	found := map[cdc.Name]uint32{}
	add := func(table cdc.Name, oid uint32) {
		if _, again := found[table]; !again {
			found[table] = oid
			all = append(all, table)
			names = append(names, table.Name, table.Schema+"."+table.Name)
		}
	}
	for i := range texts {
		add(texts[i].Table, texts[i].OID)
	}
	meant, err := cdc.MatchNames(name, all)
	if len(meant) == 0 {
		for _, table := range others {
			add(table, 0)
		}
		meant, err = cdc.MatchNames(name, all)
	}
	switch {
	case err != nil:
		return cdc.Name{}, 0, wrong("write it as in the rules", err.Error())
	case len(meant) == 1:
		return meant[0], found[meant[0]], nil
	case len(meant) == 0:
		hint := "write a rule for it, or see the tables of the rules: gancho events"
		if near := strictyaml.Closest(name, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		return cdc.Name{}, 0, wrong(hint, "no rule is for the table "+name+", so its changes make no events")
	}
	return cdc.Name{}, 0, wrong("write its schema, too", "several tables of the rules have the name "+name)
}

// tell says what became of one change. The last verdict of a rule counts: those before it
// were of the waiting, or of a change that was read twice.
func (v *verdicts) tell(c *remembered, known *knownSettings, webhookID func(cdc.Position, int) (string, error)) (control.WhyChange, error) {
	at := cdc.Position{Commit: cdc.LSN(c.commit), Ordinal: c.ordinal}
	out := control.WhyChange{
		Time: time.UnixMicro(c.micros).UTC(), Position: at.Commit.String(), Ordinal: at.Ordinal, Op: cdc.Op(c.op & opAll).String(), Net: c.op&opNet != 0,
		Rules: []control.WhyRule{},
	}
	index := map[uint16]int{}
	for i := range c.records {
		r := &c.records[i]
		rules, roster, complete := known.of(r)
		scope := known.settings[r.settings].scope
		if cdc.Op(c.op) == cdc.Read {
			out.Job = scope.job
		}
		for _, verdict := range r.verdicts[:r.n] {
			told := rules.told(c, verdict)
			var err error
			if verdict.Outcome == mapping.Fired || verdict.Outcome == mapping.WasParked || verdict.Outcome == mapping.TimerSet {
				if told.WebhookID, err = webhookID(at, int(verdict.Rule)); err != nil {
					return out, err
				}
			}
			switch {
			case verdict.Outcome != mapping.Fired:
			case cdc.Op(c.op) == cdc.Read && scope.tenant != 0 && scope.tenant != r.tenant:
				told.Outcome, told.WebhookID = control.WhyOtherTenant, ""
			default:
				if told.EndpointsUnknown = !complete; complete {
					told.Endpoints = v.offered(roster, told.Event, r.tenant)
				}
				if cdc.Op(c.op) == cdc.Read {
					scope.narrow(told.Endpoints)
				}
			}
			if j, again := index[verdict.Rule]; again {
				out.Rules[j] = told
				continue
			}
			index[verdict.Rule] = len(out.Rules)
			out.Rules = append(out.Rules, told)
		}
	}
	return out, nil
}

// outcomes are the words of the API.
var outcomes = map[mapping.Outcome]string{
	mapping.Fired: control.WhyEvent, mapping.Unwatched: control.WhyUnwatched, mapping.False: control.WhyFalse, mapping.Null: control.WhyNull,
	mapping.WasParked: control.WhyParked, mapping.Awaits: control.WhyAwaits, mapping.Commit: control.WhyCommit, mapping.Child: control.WhyChild,
	mapping.Nothing: control.WhyNothing, mapping.Grouped: control.WhyGrouped, mapping.Root: control.WhyRoot,
	mapping.TimerSet: control.WhyTimerSet, mapping.TimerCanceled: control.WhyTimerCanceled, mapping.TimerWaits: control.WhyTimerWaits,
}

// told is a verdict for people.
func (s *verdictRules) told(c *remembered, verdict mapping.Verdict) control.WhyRule {
	out := control.WhyRule{Outcome: outcomes[verdict.Outcome]}
	i := slices.IndexFunc(s.texts, func(t mapping.RuleText) bool {
		return t.Number == int(verdict.Rule) && t.OID == c.table
	})
	if i < 0 {
		return out
	}
	t := &s.texts[i]
	out.Rule, out.Event = t.Place, t.Event
	if (verdict.Outcome == mapping.False || verdict.Outcome == mapping.Null) && int(verdict.Conjunct) < len(t.Conjuncts) {
		out.Number, out.Of, out.Conjunct = int(verdict.Conjunct)+1, len(t.Conjuncts), t.Conjuncts[verdict.Conjunct]
	}
	return out
}

// offered are the endpoints, with why they did not get an event of a tenant.
func (v *verdicts) offered(roster []*addressee, event string, tenant uint64) []control.WhyEndpoint {
	var out []control.WhyEndpoint
	for _, a := range roster {
		refused := queue.Refuses(&endpoint.Endpoint{Events: a.events, State: a.state}, event)
		own := len(a.tenants) == 0 || slices.ContainsFunc(a.tenants, func(t string) bool { return v.hash([]byte(t)) == tenant })
		if refused == "" && !own {
			refused = queue.RefusedTenant
		}
		out = append(out, control.WhyEndpoint{Endpoint: a.name, Refused: refused, Tenants: a.tenants})
	}
	return out
}

// why answers what became of a row's changes.
func (b *bridge) why(q control.WhyQuestion) (control.WhyView, error) {
	u, err := b.remembered()
	if err != nil {
		return control.WhyView{}, err
	}
	answer := u.verdicts.answer
	if q.WebhookID != "" {
		answer = u.verdicts.answerEvent
	}
	out, err := answer(q, u.webhookID)
	out.Capturing = b.follows()
	return out, err
}

// hasBegun: this process has captured.
func (v *verdicts) hasBegun() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.since.IsZero()
}
