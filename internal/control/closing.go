package control

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"hash"
	"maps"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/state"
)

// ClosingData is the data of gancho.closing: what an endpoint was given in a day, by which its receiver
// sees what it lacks.
type ClosingData struct {
	Endpoint string       `json:"endpoint"`
	Source   string       `json:"source,omitempty"` // of several, which
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

// CountedUntil is until when all commits have to be counted for the closing of a day: its end, or, where the zone's offset is
// not of whole hours, as in India and Newfoundland, the end of the interval of the counts that the day ends in.
func CountedUntil(day endpoint.Day, zone *time.Location) time.Time {
	return day.Plus(1).Begins(zone).Add(queue.TallyInterval - 1).Truncate(queue.TallyInterval)
}

// ReadClosing computes the closing of a day of an endpoint. Call it when everything that was committed before CountedUntil is
// counted (queue.Tally). False: events wait that were counted with the day's, or what became of them is not stored yet.
// overflow is where the backlogs of the queue move.
func ReadClosing(ctx context.Context, store *state.Store, overflow *state.Overflow, q *queue.Queue, name string, day endpoint.Day, zone *time.Location) (c ClosingData, done bool, err error) {
	c = ClosingData{Endpoint: name, Day: day, From: day.Begins(zone), To: day.Plus(1).Begins(zone)}
	// An event leaves the stream for the Overflow, or for good: this order misses none.
	counted := queue.TallySpan{From: c.From.Truncate(queue.TallyInterval), To: CountedUntil(day, zone)}
	if waits, err := q.Waits(ctx, name, counted.From, counted.To); waits || err != nil {
		return c, false, err
	}
	heads, err := overflow.Heads(ctx)
	if head := heads[name]; err != nil || head.Events > 0 && head.Oldest.Before(counted.To) {
		return c, false, err
	}
	appended, dropped, open, err := countGiven(ctx, overflow, q, name, counted)
	if err != nil {
		return c, false, err
	}
	for again := false; ; again = true {
		beside, err := c.addEvents(ctx, store, q, counted)
		if err != nil {
			return c, false, err
		}
		c.Missing = max(0, appended-dropped-c.Count-beside)
		c.Complete = open == 0 && c.Count+beside == appended-dropped
		if c.Complete || again {
			return c, true, nil
		}
		stored, err := q.AwaitStored(ctx, name, storedPatience)
		if !stored || err != nil {
			return c, false, err
		}
	}
}

// countGiven counts what an endpoint was given in a span of whole intervals, how much of that was dropped or superseded, and, open, how much of it has no
// outcome: nothing, unless counting began within it, or events vanished.
func countGiven(ctx context.Context, overflow *state.Overflow, q *queue.Queue, name string, span queue.TallySpan) (appended, dropped, open int64, err error) {
	tallies, err := q.Tallies(ctx, span)
	if err != nil {
		return 0, 0, 0, err
	}
	of := func(t time.Time) int64 { return t.Unix() / int64(queue.TallyInterval/time.Second) }
	first, last := of(span.From), of(span.To)
	var intervals []int64
	for n := first; n < last; n++ {
		intervals = append(intervals, n)
	}
	for _, r := range tallies.Rules {
		appended += r.To[name]
	}
	fates, err := q.Fates(ctx, name, intervals)
	if err != nil {
		return 0, 0, 0, err
	}
	overflowed, err := overflow.Fates(ctx, name, first, last)
	if err != nil {
		return 0, 0, 0, err
	}
	open = appended
	for _, some := range []map[queue.EventKey]int64{fates, overflowed} {
		for key, n := range some {
			open -= n
			if key.Fate == queue.FateDropped || key.Fate == queue.FateSuperseded {
				dropped += n
			}
		}
	}
	return appended, dropped, open, nil
}

// addEvents reads the day's webhook-ids; beside are how many events were counted with the day's and are of the days beside it.
func (c *ClosingData) addEvents(ctx context.Context, store *state.Store, q *queue.Queue, counted queue.TallySpan) (beside int64, err error) {
	source, err := q.SourceID(ctx)
	if err != nil {
		return 0, err
	}
	for _, span := range [][2]time.Time{{counted.From, c.From}, {c.To, counted.To}} {
		if span[0].Equal(span[1]) {
			continue
		}
		err := store.GivenIDs(ctx, state.Given{Endpoint: c.Endpoint, Source: source, From: span[0], To: span[1]}, func(state.GivenEvent) { beside++ })
		if err != nil {
			return 0, err
		}
	}
	c.Count, c.Events = 0, []ClosingEvent{}
	type of struct {
		count  int64
		digest hash.Hash
	}
	events := map[string]*of{}
	err = store.GivenIDs(ctx, state.Given{Endpoint: c.Endpoint, Source: source, From: c.From, To: c.To}, func(e state.GivenEvent) {
		given := events[e.Event]
		if given == nil {
			given = &of{digest: sha256.New()}
			events[e.Event] = given
		} else {
			_, _ = given.digest.Write([]byte("\n")) // a hash returns no error
		}
		_, _ = given.digest.Write([]byte(e.WebhookID))
		given.count++
		c.Count++
	})
	for _, event := range slices.Sorted(maps.Keys(events)) {
		c.Events = append(c.Events, ClosingEvent{Event: event, Count: events[event].count, Digest: hex.EncodeToString(events[event].digest.Sum(nil))})
	}
	return beside, err
}

// givenSeparator is between the two webhook-ids of a cursor: where the next page begins, and the last of all.
const givenSeparator = "~"

// Closing lists the webhook-ids of what an endpoint was given in a day, in their order: those that its closing has the
// digest of, and of a day that is not closed those that there are yet. A tenant sees its own only: the endpoint may have been another's. ErrNotFound: there is no such endpoint, or day. Of one of several
// sources those of its webhook-ids alone are listed: it is an error, queue.ErrUnreachable or queue.ErrNotClaimed, while Redis cannot say which these are. Needs Viewer.
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
	if s.EachSource == nil {
		// Where there is one source, those of all are listed while Redis does not know it, or does not answer.
		if given.Source, err = s.sourceID(ctx); err != nil && s.SourceName != "" {
			return none, err
		}
	}
	after, last, _ := strings.Cut(cursor, givenSeparator)
	if last == "" {
		if last, err = store.LastGiven(ctx, given); err != nil || last == "" {
			return none, err
		}
	}
	rows, err := store.GivenPage(ctx, given, after, last, n+1)
	if err != nil {
		return none, err
	}
	return cut(rows, n, func(e *state.GivenEvent) string { return e.WebhookID + givenSeparator + last }), nil
}

// sourceID is what the source's webhook-ids begin with. queue.ErrNotClaimed: nothing was read of it yet.
func (s *Service) sourceID(ctx context.Context) (string, error) {
	if s.Queue == nil {
		return "", s.QueueDown
	}
	return s.Queue.SourceID(ctx)
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
