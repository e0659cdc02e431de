package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/retry"
)

const (
	// closeEvery is the most time between two looks at what is to be closed, closeSoon the least.
	closeEvery = time.Minute
	closeSoon  = time.Second
	// afterMidnight is how old a commit is that is in the WAL for certain.
	afterMidnight = time.Minute
	// closableDays is for how many days back counts are kept as a whole.
	closableDays = int(queue.TallyAge/(24*time.Hour)) - 2
)

// closings sends the closings of days, of one source. The process that captures does so, because it knows which commits have been
// counted; what was queued, Redis knows, so that another one continues.
type closings struct {
	*bridge
	// mark is beyond all commits of the days that ended a minute before mark.At, and confirmed how far the slot was
	// confirmed when that was read last: with that position, everything before it is counted.
	mark      cdc.Mark
	confirmed cdc.LSN
	closed    map[string]endpoint.Day // by endpoint, the last day, as far as this process knows
	waiting   map[string]endpoint.Day // by endpoint, of which was logged that it waits
	uncounted bool                    // one waits until the slot is confirmed further, which a visit has it do
}

func newClosings(b *bridge) *closings {
	return &closings{bridge: b, closed: map[string]endpoint.Day{}, waiting: map[string]endpoint.Day{}}
}

// sendClosings sends the closings that are due until the context ends.
func (b *bridge) sendClosings(ctx context.Context) error {
	return b.sendAllClosings(ctx, b.capturing, newClosings(b).sendDue)
}

// sendAllClosings calls sendDue while this process captures, soon again while some are pending.
func (b *bridge) sendAllClosings(ctx context.Context, captures func() bool, sendDue func(context.Context) (pending bool, err error)) error {
	complaint := complaint{log: b.Log, failed: "closings of days cannot be sent; trying again", again: "closings of days are sent again"}
	backoff := retry.Backoff{Min: closeSoon, Max: closeEvery}
	for tries := 0; ; tries++ {
		pending, err := true, error(nil)
		if captures() {
			if pending, err = sendDue(ctx); err == nil {
				complaint.over()
			} else if ctx.Err() == nil {
				complaint.about(err)
			}
		} else {
			tries = 0
		}
		wait := backoff.Delay(tries)
		if !pending && err == nil {
			tries, wait = 0, closeEvery
		}
		if err := retry.Wait(ctx, wait); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// sendDue sends what is due and can be sent; pending: some cannot yet.
func (c *closings) sendDue(ctx context.Context) (pending bool, err error) {
	for _, e := range c.endpointsNow() {
		if !c.due(e) {
			continue
		}
		waits, failed := c.closeDays(ctx, e)
		pending, err = pending || waits, errors.Join(err, failed)
	}
	return pending, err
}

// due reports whether the endpoint is to get closings of the source that it does not have, as far as this process knows.
func (c *closings) due(e *endpoint.Endpoint) bool {
	return e.Closing != 0 && e.State != endpoint.Inactive && (c.member == nil || queue.TakesSource(e, c.member.Name)) &&
		c.closed[e.Name] < e.Closing.LastDue(time.Now(), c.Location)
}

// closeDays sends an endpoint's closings, day after day; pending: one has to wait, and so do those after it.
func (c *closings) closeDays(ctx context.Context, e *endpoint.Endpoint) (pending bool, err error) {
	last := e.Closing.LastDue(time.Now(), c.Location)
	if c.State.KeepLog == 0 {
		return false, fmt.Errorf("close %s of endpoint %q: closings are made from the delivery log, which state.keep_log turns off", last, e.Name)
	}
	begun, err := c.queue.BeginClosings(ctx, e.Name, string(last))
	if err != nil {
		return false, err
	}
	closed := endpoint.Day(begun)
	for closed < last {
		day := max(closed.Plus(1), last.Plus(-closableDays))
		if day > closed.Plus(1) {
			c.Log.Warn().Str("endpoint", e.Name).Str("from", string(closed.Plus(1))).Str("to", string(day.Plus(-1))).
				Msg("days are too long ago to be closed: their counts have expired; their closings are not sent")
		}
		done, err := c.closeDay(ctx, e, closed, day)
		if !done || err != nil {
			return true, err
		}
		closed = day
	}
	c.closed[e.Name] = closed
	return false, nil
}

// closeDay queues the closing of a day; false: it has to wait.
func (c *closings) closeDay(ctx context.Context, e *endpoint.Endpoint, before, day endpoint.Day) (bool, error) {
	if counted, err := c.counted(ctx, control.CountedUntil(day, c.Location)); !counted || err != nil {
		return false, err
	}
	data, done, err := control.ReadClosing(ctx, c.store, c.overflowed(), c.queue, e.Name, day, c.Location)
	if data.Source = c.sourceName(); err != nil {
		return false, fmt.Errorf("close %s of endpoint %q: %w", day, e.Name, err)
	}
	if !done {
		if c.waiting[e.Name] != day {
			c.waiting[e.Name] = day
			c.Log.Info().Str("endpoint", e.Name).Str("day", string(day)).Msg("closing waits until every event of the day is delivered or a dead letter")
		}
		return false, nil
	}
	body, err := json.Marshal(data)
	if err != nil {
		return false, fmt.Errorf("encode event %s: %w", eventClosing, err)
	}
	source, err := c.queue.SourceID(ctx)
	if err != nil {
		return false, err
	}
	// The same closing has the same webhook-id, should Redis lose it and it be sent twice.
	m := webhook.Message{ID: operationalID(eventClosing, e.Name, source+string(day)), Type: eventClosing, Key: e.Name, Time: time.Now(), Data: body}
	if m.Tenant = c.sourceName(); len(e.Tenants) == 1 {
		m.Tenant = e.Tenants[0]
	}
	var lacks *queue.IncompleteClosing
	if !data.Complete {
		lacks = &queue.IncompleteClosing{Day: string(day), Missing: data.Missing}
	}
	queued, err := c.queue.QueueClosing(ctx, e.Name, string(before), string(day), lacks, m)
	if !queued || err != nil {
		return false, err // what is closed is read again
	}
	c.metrics.notices.WithLabelValues(eventClosing).Inc()
	log := c.Log.Info()
	text := "closing queued"
	if !data.Complete {
		log, text = c.Log.Warn().Int64("missing", data.Missing), "closing queued, and incomplete: the delivery log and the counts of the day do not agree; gancho prove with --from and --to of the day shows the counts"
	}
	log.Str("endpoint", e.Name).Str("day", string(day)).Int64("events", data.Count).Msg(text)
	return true, nil
}

// counted reports whether all commits before a time have been counted, and their events queued.
func (c *closings) counted(ctx context.Context, to time.Time) (bool, error) {
	var err error
	if c.mark.At.Before(to.Add(afterMidnight)) {
		if c.mark, err = c.gauge.Mark(ctx); err != nil || c.mark.At.Before(to.Add(afterMidnight)) {
			return false, err
		}
	}
	if c.confirmed < c.mark.LSN {
		slot, err := c.gauge.Measure(ctx)
		if err != nil {
			return false, err
		}
		c.confirmed = slot.ConfirmedFlush
	}
	c.uncounted = c.uncounted || c.confirmed < c.mark.LSN
	return c.confirmed >= c.mark.LSN, nil
}
