package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
	"gancho/mapping"
)

// A rule with after makes its event when time has passed. Its timers are in Redis (delivery/queue/timers.go), set and canceled by
// what is appended. A timer that is due at a time is fired when the source's clock is past it, and everything that was
// committed until then has been mapped, appended and applied: a change that cancels it may be on its way.

const (
	// timerMargin is how long after it is due, by the source's clock, a timer is fired: a commit has its time a moment
	// before it is in the WAL.
	timerMargin = 250 * time.Millisecond
	// timersIdle is the most time between two looks at when the next timer is due, and timersSoon the least after a failure.
	timersIdle = time.Minute
	timersSoon = 100 * time.Millisecond
	// timersAway is the time between two looks whether this process captures.
	timersAway = time.Second
	// askFirst and askMost are the time between two questions to the source how far the stream is, and nudgeAfter after how long it is made to move: what
	// it has written last may be nothing that the stream ends at.
	askFirst   = 25 * time.Millisecond
	askMost    = time.Second
	nudgeAfter = 2 * time.Second
)

// timers fires timers.
type timers struct {
	*capture
	complaint complaint
	// ahead is how far the source's clock is ahead of ours, as far as is known.
	ahead time.Duration
	// mapper and source are for rules.
	rules  *mapping.Ruleset
	mapper *mapping.Mapper
	source *mapping.Source
}

// runTimers fires timers while this process captures, until the context ends.
func (c *capture) runTimers(ctx context.Context) error {
	t := &timers{capture: c, source: c.newLookup(), complaint: complaint{
		log: c.Log, failed: "timers cannot be fired; those that are due are late, and none is lost", again: "timers are fired again",
	}}
	defer func() { t.source.Close(context.WithoutCancel(ctx)) }()
	backoff := retry.Backoff{Min: timersSoon, Max: appendBackoff.Max}
	for tries, wait := 0, timersSoon; ; {
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			timer.Stop()
			return nil
		case <-c.stage.timers:
		case <-timer.C:
		}
		timer.Stop()
		if !c.capturing() || !c.stage.handles(1) {
			if wait = timersAway; c.capturing() {
				c.reader.Ask() // how far the stream is
			}
			continue
		}
		next, err := t.turn(ctx)
		switch {
		case err == nil:
			tries, wait = 0, min(next, timersIdle)
			t.complaint.over()
			continue
		case ctx.Err() == nil && !errors.Is(err, queue.ErrRestarted) && !errors.Is(err, queue.ErrFenced): // the stage sees to these
			t.complaint.about(err)
		}
		tries++
		wait = backoff.Delay(tries)
	}
}

// turn applies what was appended, fires what is due, and returns how long to wait for the next one.
func (t *timers) turn(ctx context.Context) (time.Duration, error) {
	if err := t.queue.ApplyTimers(ctx); err != nil {
		return 0, err
	}
	_, next, err := t.queue.DueTimers(ctx, time.Unix(-1, 0)) // none is
	if err != nil {
		return 0, err
	}
	if pending, err := t.queue.CountTimers(ctx); err == nil {
		t.metrics.timersPending.Set(float64(pending))
	}
	if next.IsZero() {
		return timersIdle, nil
	}
	if wait := next.Add(timerMargin).Sub(time.Now().Add(t.ahead)); wait > 0 {
		return wait, nil
	}
	mark, err := t.gauge.Mark(ctx)
	if err != nil {
		return 0, err
	}
	if mark.At.IsZero() {
		return 0, errors.New("the source does not know the time: it is a standby that has heard nothing of its primary")
	}
	t.ahead = time.Until(mark.At)
	if wait := next.Add(timerMargin).Sub(mark.At); wait > 0 {
		return wait, nil
	}
	return 0, t.fireUpTo(ctx, mark)
}

// fireUpTo fires what was due a moment before a mark.
func (t *timers) fireUpTo(ctx context.Context, mark cdc.Mark) error {
	if err := t.await(ctx, mark.LSN); err != nil {
		return err
	}
	if err := t.stage.drained(ctx); err != nil {
		return err
	}
	if err := t.queue.ApplyTimers(ctx); err != nil {
		return err
	}
	for ordinal := uint64(0); ; {
		due, _, err := t.queue.DueTimers(ctx, mark.At.Add(-timerMargin))
		if err != nil || len(due) == 0 {
			return err
		}
		// After a restart of Redis the timers may be those of before, until what was lost is appended again.
		if !t.stage.handles(mark.LSN) {
			return queue.ErrRestarted
		}
		if err := t.fire(ctx, mark, due, ordinal); err != nil {
			return err
		}
		ordinal += uint64(len(due))
	}
}

// await waits until every change before a position has been mapped.
func (t *timers) await(ctx context.Context, lsn cdc.LSN) error {
	nudge := time.Now().Add(nudgeAfter)
	asks := retry.Backoff{Min: askFirst, Max: askMost}
	for tries := 1; !t.stage.handles(lsn); tries++ {
		if !t.stage.handles(1) {
			return queue.ErrRestarted // capture goes back
		}
		if err := t.waiting(); err != nil {
			return err
		}
		t.reader.Ask()
		if time.Now().After(nudge) {
			t.reads.nudge(ctx)
			nudge = time.Now().Add(nudgeAfter)
		}
		if err := retry.Wait(ctx, asks.Delay(tries)); err != nil {
			return err
		}
	}
	return nil
}

// fire fires timers that are due. Their events have sequences from the mark on, counted by ordinal.
func (t *timers) fire(ctx context.Context, mark cdc.Mark, due []queue.PendingTimer, ordinal uint64) error {
	t.use(t.bound.Load())
	endpoints := t.endpointsNow()
	round := &firing{
		timers: t, mark: mark, count: ordinal, endpoints: endpoints, router: queue.NewRouter(endpoints),
		due: map[setting]*queue.FiredTimer{}, failed: map[*queue.FiredTimer]bool{},
	}
	fired, outcome := make([]queue.FiredTimer, len(due)), make([]string, len(due))
	var wanted []mapping.Timer
	for i, d := range due {
		fired[i].PendingTimer = d
		rule, known := t.rules.TimerRule(d.N)
		switch {
		case !known:
			outcome[i] = timerGone
		case rule.MaxLate > 0 && mark.At.Sub(d.Due) > rule.MaxLate:
			outcome[i] = timerLate
		default:
			id, err := t.queue.TimerWebhookID(ctx, d.ID)
			if err != nil {
				return err
			}
			fired[i].Message.ID = id
			round.due[setting{d.ID.Position(), d.N}] = &fired[i]
			wanted = append(wanted, mapping.Timer{Position: d.ID.Position(), N: d.N, Key: d.Key, Due: d.Due})
		}
	}
	if err := t.mapper.Fire(ctx, wanted, round); err != nil {
		return err
	}
	if err := t.queue.FireTimers(ctx, fired); err != nil {
		return err
	}
	t.tell(fired, outcome, round.failed)
	return nil
}

// use has the mapper use rules.
func (t *timers) use(rules *mapping.Ruleset) {
	if t.rules != rules {
		t.rules, t.mapper = rules, mapping.NewMapper(rules, nil, mapping.WithSource(t.source), mapping.WithPast())
	}
}

// What became of timers, for the metric.
const (
	timerFired  = "fired"
	timerNone   = "none"
	timerLate   = "late"
	timerGone   = "gone"
	timerFailed = "failed"
)

// tell counts what became of timers, and logs those that were dropped.
func (t *timers) tell(fired []queue.FiredTimer, outcome []string, failed map[*queue.FiredTimer]bool) {
	dropped := map[string]int{}
	for i := range fired {
		f := &fired[i]
		switch {
		case outcome[i] != "":
			dropped[outcome[i]]++
		case failed[f]:
			outcome[i] = timerFailed
		case f.Message.Type != "":
			outcome[i] = timerFired
		default:
			outcome[i] = timerNone
		}
		rule, _ := t.rules.TimerRule(f.N)
		t.metrics.timers.WithLabelValues(rule.Event, outcome[i]).Inc()
	}
	if n := dropped[timerGone]; n > 0 {
		t.Log.Warn().Int("timers", n).Msg("timers were due whose rule is gone, or has no after any more; they were dropped")
	}
	if n := dropped[timerLate]; n > 0 {
		t.Log.Warn().Int("timers", n).Msg("timers were due for longer than max_late of their rule; they were dropped")
	}
}

// firing takes the events of timers.
type firing struct {
	*timers
	mark   cdc.Mark
	count  uint64 // of events before the next one, for the sequence
	router *queue.Router
	// endpoints are those of the router.
	endpoints []endpoint.Endpoint
	due       map[setting]*queue.FiredTimer
	failed    map[*queue.FiredTimer]bool
}

// setting is the change that has set a timer, and the timer's rule.
type setting struct {
	cdc.Position
	n int
}

func (f *firing) Event(e *mapping.Event) error {
	t := f.due[setting{e.Position, e.N}]
	// Nothing that was handled before the mark has a later sequence, and nothing behind it an earlier one.
	sequence, err := f.queue.WebhookID(cdc.Position{Commit: f.mark.LSN - 1, Ordinal: f.count}, e.N)
	if err != nil {
		return err
	}
	f.count++
	t.Message = webhook.Message{
		ID: t.Message.ID, Type: e.Type, Tenant: string(e.Tenant), Key: string(e.Key), Time: e.Time, Sequence: sequence[webhook.SourceDigits+1:],
		Op: e.Op.String(), Late: int64(f.mark.At.Sub(e.Time) / time.Second), Version: e.Version,
		Data: slices.Clone(e.Data), Unchanged: slices.Clone(e.Unchanged), Errors: slices.Clone(e.Errors),
	}
	if len(e.Tags) > 0 {
		if err := json.Unmarshal(e.Tags, &t.Message.Tags); err != nil {
			return err
		}
	}
	for _, i := range f.router.Match(e.Type, e.Tenant) {
		t.Endpoints = append(t.Endpoints, f.endpoints[i].Name)
	}
	return nil
}

// Park implements mapping.Sink: there is no change that could be kept, so that the timer is dropped, and that is told.
func (f *firing) Park(p *mapping.Parked) error {
	f.failed[f.due[setting{p.Position, p.N}]] = true
	f.Log.Error().Str("rule", p.Rule).Str("event", p.Type).Str("table", p.Table).Stringer("lsn", p.Commit).Uint64("ordinal", p.Ordinal).
		Str("reason", p.Reason).Msg("the event of a timer cannot be computed; it is not sent")
	return nil
}
