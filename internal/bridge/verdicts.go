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
	// verdictsKept is how many records the verdicts have room for: 16 MiB. They are
	// allocated chunk by chunk, as they are needed.
	verdictsKept = 1 << 18
	chunkRecords = 1 << 10
	// settingsKept is how many versions of rules and endpoints are remembered.
	settingsKept = 16
	// recordVerdicts is how many verdicts are in a record; what has more takes several.
	recordVerdicts = 4
)

// verdictRecord is what is remembered of a change, in 64 bytes. Key and tenant are hashes,
// 0 where they are not known.
type verdictRecord struct {
	commit, ordinal, key, tenant uint64
	micros                       int64
	table                        uint32
	settings                     uint16
	op                           uint8 // with opNet
	n                            uint8
	verdicts                     [recordVerdicts]mapping.Verdict
}

const (
	opNet = 1 << 7
	opAll = opNet - 1
)

// verdicts remembers what became of the newest changes, without any of their values: rows
// are found by a hash of their primary keys, whose seed this process has made up. Observe is
// the capture's; all else is safe from any goroutine.
type verdicts struct {
	seed maphash.Seed
	kept uint64 // how many records are, a multiple of chunkRecords

	mu     sync.Mutex
	chunks [][]verdictRecord
	next   uint64 // how many records there have been
	// settings are the newest versions, by the number that records have.
	settings map[uint16]*verdictSettings
	version  uint16
	used     bool // a record has the version
	// since is when capture began, or went on, and made the time of the newest commit
	// whose record had to make room, in microseconds.
	since time.Time
	made  int64
}

// verdictSettings are what verdicts are about.
type verdictSettings struct {
	rules     *mapping.Ruleset
	texts     []mapping.RuleText
	endpoints []endpoint.Endpoint // without their settings
}

func newVerdicts(kept uint64) *verdicts {
	return &verdicts{seed: maphash.MakeSeed(), kept: kept, chunks: make([][]verdictRecord, kept/chunkRecords), settings: map[uint16]*verdictSettings{0: {}}}
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
	for rest := o.Verdicts; ; {
		r.n = uint8(copy(r.verdicts[:], rest))
		v.addLocked(&r)
		if rest = rest[r.n:]; len(rest) == 0 {
			return
		}
	}
}

func (v *verdicts) addLocked(r *verdictRecord) {
	at := v.next % v.kept
	chunk := &v.chunks[at/chunkRecords]
	if *chunk == nil {
		*chunk = make([]verdictRecord, chunkRecords)
	}
	slot := &(*chunk)[at%chunkRecords]
	if v.next >= v.kept {
		v.made = max(v.made, slot.micros)
	}
	*slot = *r
	v.next++
}

// began says that from now on all changes are observed: that of another process, which had
// the slot meanwhile, were not.
func (v *verdicts) began(at time.Time) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.since = at
}

// use has what follows judged by these rules.
func (v *verdicts) use(rules *mapping.Ruleset) {
	v.change(func(s *verdictSettings) bool {
		s.rules, s.texts = rules, rules.Texts()
		return true
	})
}

// offer has what follows offered to these endpoints.
func (v *verdicts) offer(endpoints []endpoint.Endpoint) {
	names := make([]endpoint.Endpoint, len(endpoints))
	for i := range endpoints {
		e := &endpoints[i]
		names[i] = endpoint.Endpoint{Name: e.Name, State: e.State, Events: e.Events, Tenants: e.Tenants}
	}
	v.change(func(s *verdictSettings) bool {
		same := slices.EqualFunc(s.endpoints, names, func(a, b endpoint.Endpoint) bool {
			return a.Name == b.Name && a.State == b.State && slices.Equal(a.Events, b.Events) && slices.Equal(a.Tenants, b.Tenants)
		})
		s.endpoints = names
		return !same
	})
}

// change makes a new version of the settings, unless to reports that it changed nothing.
func (v *verdicts) change(to func(*verdictSettings) bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := *v.settings[v.version]
	if !to(&s) {
		return
	}
	if v.used {
		v.version++
		v.used = false
	}
	delete(v.settings, v.version-settingsKept)
	v.settings[v.version] = &s
}

// each calls yield with every record that is kept, the oldest first. Capture waits for one
// chunk at most.
func (v *verdicts) each(yield func(*verdictRecord)) {
	for seq := uint64(0); ; {
		v.mu.Lock()
		if v.next > v.kept {
			seq = max(seq, v.next-v.kept)
		}
		end := min(v.next, (seq/chunkRecords+1)*chunkRecords)
		for ; seq < end; seq++ {
			yield(&v.chunks[seq%v.kept/chunkRecords][seq%chunkRecords])
		}
		done := seq >= v.next
		v.mu.Unlock()
		if done {
			return
		}
	}
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

// find returns what is remembered of a row, in the order of the positions. The tenant is a
// hash; 0: whosever it is.
func (v *verdicts) find(table uint32, key, tenant uint64, from int64) []remembered {
	changes := map[place]*remembered{}
	v.each(func(r *verdictRecord) {
		if r.table != table || r.key != key || r.micros < from {
			return
		}
		at := place{r.commit, r.ordinal}
		if changes[at] == nil {
			changes[at] = &remembered{place: at, table: table, micros: r.micros, op: r.op, foreign: tenant != 0}
		}
		if r.tenant == tenant {
			changes[at].foreign = false
		}
	})
	v.each(func(r *verdictRecord) {
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
	v.mu.Lock()
	known, now := maps.Clone(v.settings), v.settings[v.version]
	out := control.WhyView{Since: v.since.UTC(), Rules: []control.WhyTableRule{}, Changes: []control.WhyChange{}}
	if made := time.UnixMicro(v.made).UTC(); v.made != 0 && made.After(out.Since) {
		out.Since, out.Overwritten = made, true
	}
	v.mu.Unlock()
	table, oid, err := tableOf(now.texts, q.Table)
	if err != nil {
		return out, err
	}
	out.Table, out.Key, out.KeyColumns = table.String(), q.Key, append([]string{}, now.rules.PrimaryKey(table)...)
	for i := range now.texts {
		if t := &now.texts[i]; t.OID == oid {
			out.Rules = append(out.Rules, control.WhyTableRule{Rule: t.Place, Event: t.Event, On: t.On})
		}
	}
	var tenant uint64
	if q.Tenant != nil {
		tenant = v.hash([]byte(*q.Tenant))
	}
	var from int64
	if !q.From.IsZero() {
		from = q.From.UnixMicro()
	}
	changes := v.find(oid, v.hash(now.rules.KeyText(table, q.Key)), tenant, from)
	if more := len(changes) - control.MaxWhyChanges; more > 0 {
		changes, out.More = changes[more:], true
	}
	for i := range changes {
		c, err := v.tell(&changes[i], known, webhookID)
		if err != nil {
			return out, err
		}
		out.Changes = append(out.Changes, c)
	}
	return out, nil
}

// tableOf finds a table of the rules by its name, whose schema may be missing.
func tableOf(texts []mapping.RuleText, name string) (cdc.Name, uint32, error) {
	wrong := func(hint, message string) error {
		return &control.InvalidError{Problems: []control.Problem{{Pointer: "/table", Message: message, Hint: hint}}}
	}
	asked, err := cdc.ParseName(name)
	if err != nil {
		return cdc.Name{}, 0, wrong("write it as in the rules", err.Error())
	}
	var names []string
	found := map[cdc.Name]uint32{}
	for i := range texts {
		t := &texts[i]
		if t.Table.Name == asked.Name && (asked.Schema == "" || t.Table.Schema == asked.Schema) {
			found[t.Table] = t.OID
		}
		names = append(names, t.Table.Name, t.Table.String())
	}
	switch len(found) {
	case 1:
		for table, oid := range found {
			return table, oid, nil
		}
	case 0:
		hint := "write a rule for it, or see the tables of the rules: gancho events"
		if near := strictyaml.Closest(name, names); near != "" {
			hint = "did you mean " + near + "?"
		}
		return cdc.Name{}, 0, wrong(hint, "no rule is for the table "+asked.String()+", so its changes make no events")
	}
	return cdc.Name{}, 0, wrong("write its schema, too", "several tables of the rules have the name "+asked.String())
}

// tell says what became of one change. The last verdict of a rule counts: those before it
// were of the waiting, or of a change that was read twice.
func (v *verdicts) tell(c *remembered, known map[uint16]*verdictSettings, webhookID func(cdc.Position, int) (string, error)) (control.WhyChange, error) {
	at := cdc.Position{Commit: cdc.LSN(c.commit), Ordinal: c.ordinal}
	out := control.WhyChange{
		Time: time.UnixMicro(c.micros).UTC(), Position: at.Commit.String(), Ordinal: at.Ordinal, Op: cdc.Op(c.op & opAll).String(), Net: c.op&opNet != 0,
		Rules: []control.WhyRule{},
	}
	index := map[uint16]int{}
	for i := range c.records {
		r := &c.records[i]
		settings := known[r.settings]
		if settings == nil {
			settings = &verdictSettings{} // older than the last reloads
		}
		for _, verdict := range r.verdicts[:r.n] {
			told := settings.told(c, verdict)
			var err error
			if verdict.Outcome == mapping.Fired || verdict.Outcome == mapping.WasParked {
				if told.WebhookID, err = webhookID(at, int(verdict.Rule)); err != nil {
					return out, err
				}
			}
			if verdict.Outcome == mapping.Fired {
				told.Endpoints = v.offered(settings.endpoints, told.Event, r.tenant)
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
}

// told is a verdict for people.
func (s *verdictSettings) told(c *remembered, verdict mapping.Verdict) control.WhyRule {
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
func (v *verdicts) offered(endpoints []endpoint.Endpoint, event string, tenant uint64) []control.WhyEndpoint {
	var out []control.WhyEndpoint
	for i := range endpoints {
		e := &endpoints[i]
		refused := queue.Refuses(e, event)
		own := len(e.Tenants) == 0 || slices.ContainsFunc(e.Tenants, func(t string) bool { return v.hash([]byte(t)) == tenant })
		if refused == "" && !own {
			refused = queue.RefusedTenant
		}
		out = append(out, control.WhyEndpoint{Endpoint: e.Name, Refused: refused, Tenants: e.Tenants})
	}
	return out
}

// why answers what became of a row's changes.
func (b *bridge) why(q control.WhyQuestion) (control.WhyView, error) {
	if b.capture == nil || !b.capture.verdicts.hasBegun() {
		return control.WhyView{}, &control.ElsewhereError{Slot: b.Source.Slot}
	}
	out, err := b.capture.verdicts.answer(q, b.queue.WebhookID)
	out.Capturing = b.capturing()
	return out, err
}

// hasBegun: this process has captured.
func (v *verdicts) hasBegun() bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return !v.since.IsZero()
}
