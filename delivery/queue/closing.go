package queue

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/webhook"
	"gancho/internal/retry"
)

// A closing says what an endpoint was given in a day. It goes through the side stream: it is queued
// when everything of the day has left the main stream, and so comes after it.

// closedDay is the field of an endpoint's state with the last day of which a closing was queued.
const closedDay = "closed"

// beginClosingsScript returns the last closed day, and makes it one where there is none. Its first write is one
// that a full Redis allows: see ackScript. KEYS: state. ARGV: the day.
var beginClosingsScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
redis.call('HSETNX', KEYS[1], 'closed', ARGV[1])
return redis.call('HGET', KEYS[1], 'closed')`)

// BeginClosings returns the last day, as 2006-01-02, of which a closing was queued for the endpoint: first
// where there was none, so that days before it are not closed.
func (q *Queue) BeginClosings(ctx context.Context, endpoint, first string) (closed string, err error) {
	if err = q.register(ctx, endpoint); err == nil {
		closed, err = beginClosingsScript.Run(ctx, q.client, []string{q.keys.state(endpoint)}, first).Text()
	}
	return closed, annotate(err, "read which days of endpoint %q are closed", endpoint)
}

// incompleteClosing is the field of an endpoint's state with <day>:<missing> while the last closing was incomplete.
const incompleteClosing = "closing_lacks"

// IncompleteClosing is the newest closing of an endpoint, whose count and digest are not of all events that it was given.
type IncompleteClosing struct {
	Source string `json:"source,omitempty"` // of several, which
	Day    string `json:"day"`
	// Missing is how many events of the day the delivery log does not have; 0: what became of some is not known.
	Missing int64 `json:"missing"`
	// Others is of how many other sources the newest closing is incomplete.
	Others int `json:"others,omitempty"`
}

// Text says what is the matter, and what to do.
func (c *IncompleteClosing) Text() string {
	if c.Source != "" {
		others := ""
		if c.Others > 0 {
			others = fmt.Sprintf(", nor are those of other sources: %d", c.Others)
		}
		return fmt.Sprintf("that of %s of source %s is not of the whole day (missing in the delivery log: %d)%s; gancho prove --source %s --from %s shows the counts", c.Day, c.Source, c.Missing, others, c.Source, c.Day)
	}
	return fmt.Sprintf("that of %s is not of the whole day (missing in the delivery log: %d); gancho prove --from %s shows the counts", c.Day, c.Missing, c.Day)
}

// field is what Redis keeps of it; nil: "".
func (c *IncompleteClosing) field() string {
	if c == nil {
		return ""
	}
	return c.Day + ":" + strconv.FormatInt(c.Missing, 10)
}

// parseIncomplete reads what Redis keeps of it; nil: the newest closing is complete, or there is none.
func parseIncomplete(text string) *IncompleteClosing {
	day, missing, found := strings.Cut(text, ":")
	n, err := strconv.ParseInt(missing, 10, 64)
	if !found || err != nil {
		return nil
	}
	return &IncompleteClosing{Day: day, Missing: n}
}

// closingScript appends a closing if the day before is the last one that was closed: 1, else 0. Both or none
// are there after a crash. KEYS: the side stream, state. ARGV: the day before, the day, what it lacks, the fields.
var closingScript = redis.NewScript(`
if redis.call('HGET', KEYS[2], '` + closedDay + `') ~= ARGV[1] then return 0 end
redis.call('XADD', KEYS[1], '*', unpack(ARGV, 4))
redis.call('HSET', KEYS[2], '` + closedDay + `', ARGV[2])
if ARGV[3] == '' then redis.call('HDEL', KEYS[2], '` + incompleteClosing + `') else redis.call('HSET', KEYS[2], '` + incompleteClosing + `', ARGV[3]) end
return 1`)

// QueueClosing queues the closing of a day, if the last day that was closed is before: false: it is
// another, because another process has queued this closing, or this one, whose answer was lost. A Redis that has lost its end
// queues it again; the message's ID has to be the same then. lacks is nil for a complete one. An error is worth repeating.
func (q *Queue) QueueClosing(ctx context.Context, endpoint, before, day string, lacks *IncompleteClosing, m webhook.Message) (bool, error) {
	args := append([]any{before, day, lacks.field()}, sideFields(&m, false)...)
	queued, err := closingScript.Run(ctx, q.client, []string{q.keys.side(endpoint), q.keys.state(endpoint)}, args...).Bool()
	if err != nil {
		return false, annotate(err, "queue the closing of %s for endpoint %q", day, endpoint)
	}
	if queued {
		q.wakeSide(ctx, endpoint)
	}
	return queued, nil
}

// clockSlack is how far commits may be out of the order of their times, when clocks are set.
const clockSlack = time.Hour

// Waits reports whether events that were committed in a span, To excluded, wait in the endpoint's stream in
// Redis. Those that have moved to the Overflow are to be looked for there after it.
func (q *Queue) Waits(ctx context.Context, endpoint string, from, to time.Time) (waits bool, err error) {
	err = q.eachWaiting(ctx, endpoint, ID{}, func(_ ID, committed time.Time) bool {
		waits = !committed.Before(from) && committed.Before(to)
		return !waits && committed.Before(to.Add(clockSlack))
	})
	return waits, err
}

// AwaitStored returns when everything that is in the endpoint's log and dead letters now has been stored
// elsewhere; false: it was not within a time.
func (q *Queue) AwaitStored(ctx context.Context, endpoint string, patience time.Duration) (bool, error) {
	const every = 200 * time.Millisecond
	for _, key := range []string{q.keys.log(endpoint), q.keys.dead(endpoint)} {
		last, err := q.client.XRevRangeN(ctx, key, "+", "-", 1).Result()
		if err != nil {
			return false, annotate(err, "read the log of endpoint %q", endpoint)
		}
		for began := time.Now(); len(last) > 0; {
			first, err := q.client.XRangeN(ctx, key, "-", last[0].ID, 1).Result()
			switch {
			case err != nil:
				return false, annotate(err, "read the log of endpoint %q", endpoint)
			case len(first) == 0:
				last = nil
				continue
			case time.Since(began) > patience:
				return false, nil
			}
			if err := retry.Wait(ctx, every); err != nil {
				return false, err
			}
		}
	}
	return true, nil
}

// SourceID is what the webhook-ids of the events begin with that are captured: by this process, or, where it has not claimed the queue, by
// the one that has claimed it last. [ErrNotClaimed]: none has.
func (q *Queue) SourceID(ctx context.Context) (string, error) {
	if c := q.sources.current.Load(); c != nil {
		return c.source, nil
	}
	s := &q.sources
	s.mu.Lock()
	defer s.mu.Unlock()
	r, err := s.readLocked(ctx)
	switch {
	case err != nil:
		return "", annotate(err, "read %s", s.key)
	case r == nil || s.names[r.epoch] == "":
		return "", ErrNotClaimed
	}
	return s.names[r.epoch], nil
}
