package simulate

import (
	"context"
	"hash/maphash"
	"iter"
	"slices"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/mapping"
)

// Sent compares events that were sent, and are kept, with what rules make now. It belongs to one goroutine.
type Sent struct {
	diff *diff
	now  *side
	// places are those of the rules by their events: kept events do not say theirs.
	places map[string]string
	counts SentReport
	// undecided are as SentReport has them.
	undecided map[string]int64
}

// SentReport is what a Sent has found.
type SentReport struct {
	// Read is how many existing rows, or kept changes, were read.
	Read int64 `json:"read"`
	// Events are what the rules make of them; Parked changes would wait for somebody to fix a rule.
	Events int64       `json:"events"`
	Parked int64       `json:"parked"`
	Diff   []EventDiff `json:"diff"`
	// Undecided are, by events, changes of which it cannot be said whether the rules make one: it depends on changes of
	// other rows, or of children, that are not kept. Nothing is sent of them.
	Undecided map[string]int64 `json:"undecided,omitempty"`
	// Notes are what is to be known about the comparison.
	Notes []string `json:"notes,omitempty"`
}

// Worse reports whether events change, are gone, or cannot be made.
func (r *SentReport) Worse() bool { return worse(r.Diff) }

// NewSent returns a comparison of what was sent with what the rules make. It numbers the rules.
func NewSent(rules *mapping.Ruleset, o Options) *Sent {
	now := newSide(rules, &o, nil)
	was := &side{masks: map[string]*masks{}}
	s := &Sent{now: now, places: map[string]string{}, undecided: map[string]int64{}}
	for _, r := range rules.Rules() {
		if _, known := s.places[r.Event]; !known {
			s.places[r.Event] = r.Place
		}
		// What the rule no longer shows may be anything.
		was.masks[r.Place] = &masks{names: now.masks[r.Place].names, off: o.Unmasked, strict: true}
	}
	s.diff = newDiff(was, now)
	return s
}

// Close closes what lookups have opened.
func (s *Sent) Close(ctx context.Context) { s.now.source.Close(ctx) }

// Report is what was found until now.
func (s *Sent) Report(read int64, notes ...string) *SentReport {
	out := s.counts
	out.Read, out.Undecided, out.Notes, out.Diff = read, s.undecided, notes, s.diff.report()
	return &out
}

// sentEvent is a kept event as one of a side.
func (s *Sent) sentEvent(m *webhook.Message) event {
	e := event{
		id: m.ID, name: m.Type, rule: s.places[m.Type], op: opOf(m.Op), time: m.Time, tenant: m.Tenant, key: m.Key,
		data: m.Data, previous: m.Previous, unchanged: m.Unchanged, errors: m.Errors,
	}
	if _, id, err := queue.ParseWebhookID(m.ID); err == nil { // else it is no event of a change
		e.Position, e.n = id.Position(), id.N()
	}
	return e
}

func opOf(name string) cdc.Op {
	for op := cdc.Insert; op <= cdc.Read; op++ {
		if op.String() == name {
			return op
		}
	}
	return 0
}

// count counts what the rules make.
func (s *Sent) count(e *event) {
	if e.reason != "" {
		s.counts.Parked++
	} else {
		s.counts.Events++
	}
}

// SentRows compares what was last sent of each key with what rules make of the rows that are there: a
// mapping.Sink for the latter.
type SentRows struct {
	*Sent
	// last finds what was last sent of events by name, tenant and key.
	last  func(context.Context, []state.EventKey) (map[state.EventKey]*webhook.Message, error)
	found map[uint64]struct{} // hashes of the keys that were sent and are there
	seed  maphash.Seed
}

// Rows compares with what last finds: of each key the newest message, if one is kept.
func (s *Sent) Rows(last func(context.Context, []state.EventKey) (map[state.EventKey]*webhook.Message, error)) *SentRows {
	return &SentRows{Sent: s, last: last, found: map[uint64]struct{}{}, seed: maphash.MakeSeed()}
}

// Event implements mapping.Sink.
func (r *SentRows) Event(e *mapping.Event) error { return r.now.Event(e) }

// Park implements mapping.Sink.
func (r *SentRows) Park(p *mapping.Parked) error { return r.now.Park(p) }

// Flush compares what the sink has got.
func (r *SentRows) Flush(ctx context.Context) error {
	made := r.now.taken()
	keys := make([]state.EventKey, 0, len(made))
	for i := range made {
		if made[i].reason == "" {
			keys = append(keys, state.EventKey{Event: made[i].name, Tenant: made[i].tenant, Key: made[i].key})
		}
	}
	sent, err := r.last(ctx, keys)
	if err != nil {
		return err
	}
	for i := range made {
		r.compare(&made[i], sent)
	}
	return nil
}

// compare compares one event. A row says nothing of how it came to be as it is: the operation and what the
// columns had before belong to the change that was sent.
func (r *SentRows) compare(e *event, sent map[state.EventKey]*webhook.Message) {
	r.count(e)
	k := state.EventKey{Event: e.name, Tenant: e.tenant, Key: e.key}
	m := sent[k]
	if e.reason != "" || m == nil {
		r.diff.compare(nil, []event{*e})
		return
	}
	r.found[r.hash(&k)] = struct{}{}
	was := r.sentEvent(m)
	if was.op == cdc.Delete { // the row is there again
		r.diff.compare(nil, []event{*e})
		return
	}
	was.op, was.previous, was.unchanged, e.previous = e.op, nil, nil, nil
	r.diff.both(&was, e)
}

func (r *SentRows) hash(k *state.EventKey) uint64 { return maphash.Comparable(r.seed, *k) }

// Last takes, after all rows, what was last sent of a key: it is gone if no row leads to it now, and its removal
// was not sent.
func (r *SentRows) Last(m *webhook.Message) {
	k := state.EventKey{Event: m.Type, Tenant: m.Tenant, Key: m.Key}
	if _, there := r.found[r.hash(&k)]; there || m.Op == cdc.Delete.String() || m.Op == cdc.Truncate.String() {
		return
	}
	e := r.sentEvent(m)
	r.diff.compare([]event{e}, nil)
}

// SentChanges compares what was sent of changes with what rules make of them, transaction by transaction.
type SentChanges struct {
	*Sent
	redriver *mapping.Redriver
	tenant   *string
	failed   error // what differs has returned
	commit   cdc.LSN
	was      []event // of the transaction at hand
	changes  [][]byte
	bytes    int  // of changes
	apart    bool // it has had more before, or has more to come
	read     int64
}

// changesAtOnce is how many changes of a transaction are compared at once, bytesAtOnce from how many bytes on.
const (
	changesAtOnce = 1000
	bytesAtOnce   = 64 << 20
)

// Changes compares kept events, of one tenant or with nil of all, with what the rules make of their changes. differs gets
// what the rules make that is not as it was last sent, or is new, as it is sent again: under a webhook-id of its own. Its
// error ends Add and Flush.
func (s *Sent) Changes(tenant *string, differs func(*webhook.Message) error) *SentChanges {
	c := &SentChanges{Sent: s, tenant: tenant, redriver: mapping.NewRedriver(s.now.rules, s.now.source)}
	s.diff.differs = func(was, now *event) {
		if c.failed == nil {
			c.failed = differs(c.again(was, now))
		}
	}
	return c
}

// Read is how many changes were compared.
func (c *SentChanges) Read() int64 { return c.read }

// Add takes a kept event with its change, or one that was sent again by other rules, in the order of their commits and ids.
func (c *SentChanges) Add(ctx context.Context, m *webhook.Message) error {
	e := c.sentEvent(m)
	if id, is := parseAgain(m.ID); is {
		c.sentAgain(&e, id)
		return nil
	}
	other := e.Commit != c.commit
	full := (len(c.changes) >= changesAtOnce || c.bytes >= bytesAtOnce) && e.Position != c.was[len(c.was)-1].Position
	if other || full {
		c.apart = c.apart || !other
		if err := c.Flush(ctx); err != nil {
			return err
		}
	}
	if other {
		c.commit, c.apart = e.Commit, false
	}
	c.was, c.changes = append(c.was, e), append(c.changes, m.Change)
	c.bytes += len(m.Change)
	return nil
}

// Flush compares what was added.
func (c *SentChanges) Flush(ctx context.Context) error {
	if len(c.changes) == 0 {
		return nil
	}
	done, err := c.redriver.MapAll(ctx, c.changes, c.apart, c.now)
	if err != nil {
		return err
	}
	c.read += int64(done.Changes)
	for event, n := range done.Undecided {
		c.undecided[event] += int64(n)
	}
	made := slices.DeleteFunc(c.now.taken(), func(e event) bool { return c.tenant != nil && e.reason == "" && e.tenant != *c.tenant })
	for i := range made {
		c.count(&made[i])
	}
	err = groups(slices.Values(c.was), slices.Values(made), func(a, b []event) error {
		c.diff.compare(a, b)
		return c.failed
	})
	c.was, c.changes, c.bytes = c.was[:0], c.changes[:0], 0
	return err
}

// groups calls each with the events of both that one change has, change by change. Each side goes on only when its
// next event is needed, so that a transaction with a million of them takes no more memory.
func groups(mine, theirs iter.Seq[event], each func(a, b []event) error) error {
	nextMine, stop := iter.Pull(mine)
	defer stop()
	nextTheirs, stopTheirs := iter.Pull(theirs)
	defer stopTheirs()
	a, moreA := nextMine()
	b, moreB := nextTheirs()
	var groupA, groupB []event
	for moreA || moreB {
		at := &a
		if !moreA || moreB && b.compare(&a) < 0 {
			at = &b
		}
		position := event{Position: at.Position}
		for groupA = groupA[:0]; moreA && a.compare(&position) == 0; a, moreA = nextMine() {
			groupA = append(groupA, a)
		}
		for groupB = groupB[:0]; moreB && b.compare(&position) == 0; b, moreB = nextTheirs() {
			groupB = append(groupB, b)
		}
		if err := each(groupA, groupB); err != nil {
			return err
		}
	}
	return nil
}
