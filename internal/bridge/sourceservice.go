package bridge

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/mapping"
)

// oneSource are the metrics of the sources, of several, in a process with one: none, so that what watches them has a value.
type oneSource struct{}

// Describe implements prometheus.Collector.
func (oneSource) Describe(out chan<- *prometheus.Desc) {
	out <- sourceStates
	out <- sourceRefused
}

// Collect implements prometheus.Collector.
func (oneSource) Collect(out chan<- prometheus.Metric) {
	for _, state := range []string{control.SourceStreaming, control.SourceVisited, control.SourceRefused, control.SourceMissing} {
		out <- prometheus.MustNewConstMetric(sourceStates, prometheus.GaugeValue, 0, state)
	}
	out <- prometheus.MustNewConstMetric(sourceRefused, prometheus.GaugeValue, 0, "")
}

// eachSource calls a function with what people do with each source, several at once, over queues of their own: those of the sessions would be kept open, and
// no other sessions begin, for as long as it takes. While Redis is unreachable they have no queues: what needs none is answered. It fails until it is
// known which sources there are.
func (f *fleet) eachSource(ctx context.Context, do func(*control.Service) error) error {
	if !f.isListed() {
		return errUnlisted
	}
	var down atomic.Pointer[error] // Redis is that of all: when one has waited for it in vain, the others do not
	return f.each(func(m *member) error {
		if err := down.Load(); err != nil {
			return m.serve(nil, *err, do)
		}
		return m.ask(ctx, do, func(unreachable error) { down.Store(&unreachable) })
	})
}

// ofSource does with that of one, if there is one of the name, as eachSource does.
func (f *fleet) ofSource(ctx context.Context, name string, do func(*control.Service) error) (known bool, err error) {
	if !f.isListed() {
		return false, errUnlisted
	}
	f.mu.Lock()
	m := f.members[name]
	f.mu.Unlock()
	if m == nil {
		return false, nil
	}
	return true, m.ask(ctx, do, func(error) {})
}

// ask calls a function with what people do with the source, over a queue of its own; without one, after it has called down with the reason, while Redis
// is unreachable.
func (m *member) ask(ctx context.Context, do func(*control.Service) error, down func(unreachable error)) error {
	opened := false
	err := m.withOwnQueue(ctx, func(q *queue.Queue) error {
		opened = true
		return m.serve(q, nil, do)
	})
	if !opened && errors.Is(err, queue.ErrUnreachable) && ctx.Err() == nil {
		down(err)
		err = m.serve(nil, err, do)
	}
	return err
}

func (f *fleet) isListed() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.listed
}

// serve calls a function with what people do with the source; unreachable is why there is no queue.
func (m *member) serve(q *queue.Queue, unreachable error, do func(*control.Service) error) error {
	b := m.half()
	defer b.catalog.Close(context.Background())
	b.queue, b.queueDown = q, unreachable
	return do(b.service())
}

// trouble is why the source is not read, or not all of it; nil: it is.
func (m *member) trouble() error {
	m.fleet.mu.Lock()
	problem := m.problem
	m.fleet.mu.Unlock()
	if problem != nil {
		return problem
	}
	if c := m.capture.Load(); c != nil {
		return c.trouble()
	}
	return nil
}

// sourceName is that of the one of several sources that the bridge is of; empty: there is one.
func (b *bridge) sourceName() string {
	if b.member == nil {
		return ""
	}
	return b.member.Name
}

// recollection is what is remembered of a source from one visit to the next, to answer questions.
type recollection struct {
	verdicts *verdicts
	identity cdc.Identity
	id       string // of the source, in webhook-ids
	epoch    uint16
}

// How many changes are remembered of all sources of a process: twice as many as of a single one, and of each at least the least. Of rows that
// backfills have read it is an eighth.
const (
	sharedVerdicts = 2 * verdictsKept
	leastVerdicts  = 4 * memberChunk
	leastReads     = memberChunk
)

// remember returns what is remembered of the source, for a capture by the rules that begins at a position; whole: since the capture
// before nobody else has read the slot, so that nothing is missing.
func (m *member) remember(rules *mapping.Ruleset, identity cdc.Identity, id string, epoch uint16, from cdc.LSN) (v *verdicts, whole bool) {
	f := m.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	// Verdicts name events by their positions alone: those of another epoch would be given the webhook-ids of this one.
	if before := m.recalled; before != nil && before.id == id && before.epoch == epoch {
		v, whole = before.verdicts, m.epoch == epoch && from <= m.confirmed
	} else {
		v = newRecollection(m.Name, len(f.members))
	}
	v.use(rules)
	m.recalled = &recollection{verdicts: v, identity: identity, id: id, epoch: epoch}
	return v, whole
}

// newRecollection has room for the verdicts of one of so many sources.
func newRecollection(source string, of int) *verdicts {
	kept := max(leastVerdicts, sharedVerdicts/uint64(max(1, of))/memberChunk*memberChunk)
	v := newVerdictsOf(memberChunk, min(kept, verdictsKept), min(max(leastReads, kept/8/memberChunk*memberChunk), readsKept))
	v.source = source
	return v
}

// inUse is what questions about the source are answered with.
type inUse struct {
	rules     *mapping.Ruleset
	verdicts  *verdicts
	identity  cdc.Identity
	webhookID func(cdc.Position, int) (string, error) // of an event of a rule's number
}

// inUse returns it; nil: this process has not captured the source.
func (b *bridge) inUse() *inUse {
	switch c := b.capture; {
	case b.member != nil:
		return b.member.inUse()
	case c != nil:
		return &inUse{c.bound.Load(), c.verdicts, c.identity, b.queue.WebhookID}
	}
	return nil
}

func (m *member) inUse() *inUse {
	m.fleet.mu.Lock()
	k := m.recalled
	m.fleet.mu.Unlock()
	if k == nil {
		return nil
	}
	u := &inUse{verdicts: k.verdicts, identity: k.identity, webhookID: func(p cdc.Position, n int) (string, error) {
		id, err := queue.NewID(k.epoch, p, n)
		if err != nil {
			return "", err
		}
		return id.WebhookID(k.id), nil
	}}
	if c := m.capture.Load(); c != nil {
		u.rules = c.bound.Load()
	} else {
		_, now := k.verdicts.named()
		u.rules = now.Ruleset
	}
	return u
}

// newLookup returns a reader of what rules look up, for one goroutine.
func (b *bridge) newLookup(identity cdc.Identity) *mapping.Source {
	return mapping.NewSource(b.LookupDSN, b.Source.Encoding, b.Log).Of(identity)
}

// remembered is what questions about changes are answered with, once this process has captured; else an *ElsewhereError.
func (b *bridge) remembered() (*inUse, error) {
	u := b.inUse()
	if u == nil || !u.verdicts.hasBegun() {
		return nil, &control.ElsewhereError{Slot: b.Source.Slot}
	}
	return u, nil
}

// follows reports whether this process captures, now, or a source of several is read when it was written to.
func (b *bridge) follows() bool {
	if b.member == nil || b.capturing() {
		return b.capturing()
	}
	f := b.member.fleet
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.captures && b.member.problem == nil && !b.member.gone
}
