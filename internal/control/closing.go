package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/state"
)

// ClosingData is the data of gancho.closing: what an endpoint was given in a day, by which its receiver
// sees what it lacks.
type ClosingData struct {
	Endpoint string       `json:"endpoint"`
	Day      endpoint.Day `json:"day"`
	// The day is From to To, excluded, of the commits' times.
	From  time.Time `json:"from"`
	To    time.Time `json:"to"`
	Count int64     `json:"count"`
	// Complete: the events are all that the endpoint was given, as it was counted. Missing is how many of them
	// the delivery log does not have, so that they are in no count and digest here.
	Complete bool           `json:"complete"`
	Missing  int64          `json:"missing,omitempty"`
	Events   []ClosingEvent `json:"events"`
}

// ClosingEvent is what there was of an event in the day.
type ClosingEvent struct {
	Event string `json:"event"`
	Count int64  `json:"count"`
	// Digest is the SHA-256, in lower-case hexadecimal digits, of the webhook-ids in the order of their bytes, with a
	// newline between each two.
	Digest string `json:"digest"`
}

// storedPatience is how long the log may take to be stored.
const storedPatience = 5 * time.Second

// ReadClosing computes the closing of a day of an endpoint. Call it when everything that was committed in the day is
// counted (queue.Tally). False: events of the day wait, or what became of them is not stored yet.
func ReadClosing(ctx context.Context, store *state.Store, q *queue.Queue, name string, day endpoint.Day, zone *time.Location) (c ClosingData, done bool, err error) {
	c = ClosingData{Endpoint: name, Day: day, From: day.Begins(zone), To: day.Plus(1).Begins(zone)}
	// An event leaves the stream for the Overflow, or for good: this order misses none.
	if waits, err := q.Waits(ctx, name, c.From, c.To); waits || err != nil {
		return c, false, err
	}
	heads, err := store.Overflow().Heads(ctx)
	if head := heads[name]; err != nil || head.Events > 0 && head.Oldest.Before(c.To) {
		return c, false, err
	}
	appended, dropped, open, err := countGiven(ctx, store, q, &c)
	if err != nil {
		return c, false, err
	}
	for again := false; ; again = true {
		if err := c.addEvents(ctx, store, q); err != nil {
			return c, false, err
		}
		c.Missing = max(0, appended-dropped-c.Count)
		c.Complete = open == 0 && c.Count == appended-dropped
		if c.Complete || again {
			return c, true, nil
		}
		stored, err := q.AwaitStored(ctx, name, storedPatience)
		if !stored || err != nil {
			return c, false, err
		}
	}
}

// countGiven counts what the endpoint was given in the day, how much of that was dropped, and, open, how much of it has no
// outcome: nothing, unless counting began within the day, or events vanished.
func countGiven(ctx context.Context, store *state.Store, q *queue.Queue, c *ClosingData) (appended, dropped, open int64, err error) {
	tallies, err := q.Tallies(ctx, queue.TallySpan{From: c.From, To: c.To})
	if err != nil {
		return 0, 0, 0, err
	}
	of := func(t time.Time) int64 { return t.Unix() / int64(queue.TallyInterval/time.Second) }
	first, last := of(c.From), of(c.To)
	var intervals []int64
	for n := first; n < last; n++ {
		intervals = append(intervals, n)
	}
	for _, r := range tallies.Rules {
		appended += r.To[c.Endpoint]
	}
	fates, err := q.Fates(ctx, c.Endpoint, intervals)
	if err != nil {
		return 0, 0, 0, err
	}
	overflowed, err := store.OverflowFates(ctx, c.Endpoint, first, last)
	if err != nil {
		return 0, 0, 0, err
	}
	open = appended
	for _, some := range []map[queue.EventKey]int64{fates, overflowed} {
		for key, n := range some {
			open -= n
			if key.Fate == queue.FateDropped {
				dropped += n
			}
		}
	}
	return appended, dropped, open, nil
}

// addEvents reads the day's webhook-ids.
func (c *ClosingData) addEvents(ctx context.Context, store *state.Store, q *queue.Queue) error {
	source, err := q.SourceID()
	if err != nil {
		return err
	}
	c.Count, c.Events = 0, []ClosingEvent{}
	var digest hash.Hash
	end := func() {
		if n := len(c.Events); n > 0 {
			c.Events[n-1].Digest = hex.EncodeToString(digest.Sum(nil))
		}
	}
	err = store.GivenIDs(ctx, state.Given{Endpoint: c.Endpoint, Source: source, From: c.From, To: c.To}, func(e state.GivenEvent) {
		if n := len(c.Events); n == 0 || c.Events[n-1].Event != e.Event {
			end()
			c.Events, digest = append(c.Events, ClosingEvent{Event: e.Event}), sha256.New()
		} else {
			_, _ = digest.Write([]byte("\n")) // a hash returns no error
		}
		_, _ = digest.Write([]byte(e.WebhookID))
		c.Events[len(c.Events)-1].Count++
		c.Count++
	})
	end()
	return err
}

// Closing lists the webhook-ids of what an endpoint was given in a day, in their order: those that its closing has the
// digest of, and of a day that is not closed those that there are yet. A tenant sees its own only: the endpoint may have been another's. ErrNotFound: there is no such endpoint, or day. Needs Viewer.
func (s *Service) Closing(ctx context.Context, a Actor, name, day, cursor string, limit int) (Page[state.GivenEvent], error) {
	none := Page[state.GivenEvent]{Items: []state.GivenEvent{}}
	store, err := s.stored(a, state.Viewer)
	if err != nil {
		return none, err
	}
	n, err := pageSize(limit)
	if err != nil {
		return none, err
	}
	if _, err := s.find(ctx, a, name); err != nil && !isSealed(err) {
		return none, err
	}
	d, ok := endpoint.ParseDay(day)
	if !ok {
		return none, state.ErrNotFound
	}
	zone := s.zone()
	given := state.Given{Endpoint: name, Tenant: a.Tenant, From: d.Begins(zone), To: d.Plus(1).Begins(zone)}
	if s.Queue != nil {
		given.Source, _ = s.Queue.SourceID() // a process that only delivers knows no other source
	}
	rows, err := store.GivenPage(ctx, given, cursor, n+1)
	if err != nil {
		return none, err
	}
	return cut(rows, n, func(e *state.GivenEvent) string { return e.WebhookID }), nil
}

// zone is where days begin and end.
func (s *Service) zone() *time.Location {
	if s.Zone == nil {
		return time.UTC
	}
	return s.Zone
}

// checkClosing refuses a closing that could not be made.
func (s *Service) checkClosing(e *endpoint.Endpoint) error {
	if e.Closing != 0 && s.Unlogged {
		return invalid("/closing", "remove keep_log: off from gancho.yaml, or leave closing out", "closings are made from the delivery log, which is off")
	}
	return nil
}
