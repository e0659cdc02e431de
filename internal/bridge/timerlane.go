package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
	"gancho/mapping"
)

const (
	// duePatience is how long the rows of a page of one rule may take to be read before the rule leaves the lane of all, and
	// stuckPatience afterwards: longer than the statement_timeout.
	duePatience   = 10 * time.Second
	stuckPatience = 40 * time.Second
	// stuckSoon is the least time between two attempts.
	stuckSoon = time.Second
	// timersRest is how many times as long as a page has taken is waited until the next one, at most timersRestMost: many timers that fall due together
	// take a part of the source, of Redis and of this machine that leaves events of changes theirs.
	timersRest     = 3
	timersRestMost = 50 * time.Millisecond
	// pagesApplied is after how many pages the timers that were set and cancelled meanwhile are applied.
	pagesApplied = 16
	// firedBytes is how large the events are, about, that are queued at once: Redis does nothing else meanwhile.
	firedBytes = 4 << 20
)

// errManyBytes: the events are to be made of fewer timers at a time.
var errManyBytes = errors.New("the events of timers are large")

var errSlowRows = errors.New("read the rows of timers: there was no answer")

// timerLane fires timers one page after the other.
type timerLane struct {
	*timers
	alone    string // the only rule; empty: all that are not stuck
	patience time.Duration
	page     int // how many timers are fired at once
	source   *mapping.Source
	rules    *mapping.Ruleset
	mapper   *mapping.Mapper
}

func newTimerLane(t *timers, patience time.Duration) *timerLane {
	return &timerLane{timers: t, patience: patience, page: timersPage, source: t.newLookup().For("timers wait for it")}
}

func (l *timerLane) close(ctx context.Context) { l.source.Close(context.WithoutCancel(ctx)) }

// fireUpTo fires what was due a moment before a mark.
func (l *timerLane) fireUpTo(ctx context.Context, mark cdc.Mark, which queue.WhichTimers) error {
	if err := l.await(ctx, mark.LSN); err != nil {
		return err
	}
	if err := l.stage.drained(ctx); err != nil {
		return err
	}
	for pages := 0; ; pages++ {
		if pages%pagesApplied == 0 { // what changes meanwhile does not wait for all of them
			if err := l.queue.ApplyTimers(ctx); err != nil {
				return err
			}
		}
		due, err := l.queue.DueTimers(ctx, mark.At.Add(-timerMargin), which, l.page)
		if err != nil || len(due) == 0 {
			return err
		}
		// After a restart of Redis the timers may be those of before, until what was lost is appended again.
		if !l.stage.handles(mark.LSN) {
			return queue.ErrRestarted
		}
		if err := l.room(ctx); err != nil {
			return err
		}
		begun := time.Now()
		switch err := l.fire(ctx, mark, due); {
		case len(due) > 1 && (errors.Is(err, errManyBytes) || errors.Is(err, mapping.ErrTooMuch) || l.alone != "" && errors.Is(err, errSlowRows)):
			l.page = len(due) / 2
			if ctx.Err() != nil {
				return ctx.Err()
			}
		case err != nil:
			return err
		default:
			l.page = min(2*l.page, timersPage)
			if err := retry.Wait(ctx, min(timersRest*time.Since(begun), timersRestMost)); err != nil {
				return err
			}
		}
		if l.alone == "" {
			which.But = l.stuckRules()
		}
	}
}

// What became of timers, for the metric; empty: it is to be seen.
const (
	timerFired  = "fired"
	timerNone   = "none"
	timerLate   = "late"
	timerGone   = "gone"
	timerFailed = "failed"
)

// fire fires timers that are due, but those of rules that it makes stuck.
func (l *timerLane) fire(ctx context.Context, mark cdc.Mark, due []queue.PendingTimer) error {
	l.use(l.bound.Load())
	endpoints := l.endpointsNow()
	round := &firing{
		timerLane: l, mark: mark, endpoints: endpoints, router: queue.NewRouter(endpoints),
		fired: make([]queue.FiredTimer, len(due)),
	}
	fired, outcomes := round.fired, map[*queue.FiredTimer]string{}
	wanted := map[string][]mapping.Timer{}
	for i, d := range due {
		f := &fired[i]
		f.PendingTimer = d
		rule, known := l.rules.TimerRule(d.Rule)
		switch {
		case !known:
			outcomes[f] = timerGone
		case rule.MaxLate > 0 && mark.At.Sub(d.Due) > rule.MaxLate:
			outcomes[f] = timerLate
		default:
			id, err := l.queue.TimerWebhookID(ctx, d.ID)
			if err != nil {
				return err
			}
			f.Message.ID = id
			wanted[d.Rule] = append(wanted[d.Rule], mapping.Timer{Position: d.ID.Position(), N: i, Rule: d.Rule, Key: d.Key, Due: d.Due})
		}
	}
	for _, rule := range sortedKeys(wanted) {
		if err := l.fireRule(ctx, wanted[rule], round); err != nil {
			if l.alone != "" || ctx.Err() != nil || errors.Is(err, errManyBytes) || errors.Is(err, mapping.ErrTooMuch) {
				return err
			}
			l.stick(rule, err)
			return l.fire(ctx, mark, slices.DeleteFunc(slices.Clone(due), func(d queue.PendingTimer) bool { return d.Rule == rule }))
		}
	}
	if err := round.sequence(fired); err != nil {
		return err
	}
	if err := l.queue.FireTimers(ctx, fired); err != nil {
		return err
	}
	l.tell(fired, outcomes)
	for i := range fired {
		if f := &fired[i]; f.Message.Type != "" && len(f.Endpoints) > 0 {
			l.traces.made(&f.Message)
		}
	}
	return nil
}

// fireRule makes the events of one rule's timers.
func (l *timerLane) fireRule(ctx context.Context, timers []mapping.Timer, round *firing) error {
	limited, cancel := context.WithTimeout(ctx, l.patience)
	defer cancel()
	err := l.mapper.Fire(limited, timers, round)
	if err != nil && limited.Err() != nil && ctx.Err() == nil {
		if waits := l.source.Waiting(); waits != nil {
			return fmt.Errorf("%w within %s: %w", errSlowRows, l.patience, waits)
		}
		return fmt.Errorf("%w within %s: the source does not answer; see whether their table is locked (pg_locks)", errSlowRows, l.patience)
	}
	return err
}

// use has the mapper use rules.
func (l *timerLane) use(rules *mapping.Ruleset) {
	if l.rules != rules {
		l.rules, l.mapper = rules, mapping.NewMapper(rules, nil, mapping.WithSource(l.source), mapping.WithPast())
	}
}

// tell counts what became of timers, and logs those that were dropped or parked.
func (l *timerLane) tell(fired []queue.FiredTimer, outcomes map[*queue.FiredTimer]string) {
	dropped := map[string]int{}
	for i := range fired {
		f := &fired[i]
		outcome := outcomes[f]
		switch {
		case outcome != "":
			dropped[outcome]++
		case f.Failure != nil:
			outcome = timerFailed
			l.tellParked(f)
		case f.Message.Type != "":
			outcome = timerFired
		default:
			outcome = timerNone
		}
		rule, _ := l.rules.TimerRule(f.Rule)
		l.metrics.timers.WithLabelValues(rule.Event, outcome).Inc()
	}
	if n := dropped[timerGone]; n > 0 {
		l.Log.Warn().Int("timers", n).Msg("timers were due whose rule is gone, or has no after any more; they were dropped")
	}
	if n := dropped[timerLate]; n > 0 {
		l.Log.Warn().Int("timers", n).Msg("timers were due for longer than max_late of their rule; they were dropped")
	}
}

// firing takes the events of timers.
type firing struct {
	*timerLane
	mark   cdc.Mark
	bytes  int
	router *queue.Router
	// endpoints are those of the router.
	endpoints []*endpoint.Endpoint
	// fired are the timers, which the mapper knows by their places here: positions repeat in other epochs.
	fired []queue.FiredTimer
}

func (f *firing) Event(e *mapping.Event) error {
	t := &f.fired[e.N]
	if f.bytes += len(e.Data) + len(e.Errors); f.bytes > firedBytes && len(f.fired) > 1 {
		return errManyBytes
	}
	t.Message = webhook.Message{
		ID: t.Message.ID, Type: e.Type, Tenant: string(e.Tenant), Key: string(e.Key), Time: e.Time,
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

// sequence gives the events their sequences, in the order of the times: nothing that was handled before the mark has a later one, and nothing
// behind it an earlier one.
func (f *firing) sequence(fired []queue.FiredTimer) error {
	next := f.sequences(f.mark.At, len(fired))
	for i := range fired {
		if fired[i].Message.Type == "" {
			continue
		}
		id, err := f.queue.WebhookID(cdc.Position{Commit: f.mark.LSN - 1, Ordinal: next}, 0)
		if err != nil {
			return err
		}
		fired[i].Message.Sequence = id[webhook.SourceDigits+1:]
		next++
	}
	return nil
}

// Park implements mapping.Sink: the timer is parked in the place of its event.
func (f *firing) Park(p *mapping.Parked) error {
	f.fired[p.N].Failure = &queue.TimerFailure{Event: p.Type, Place: p.Rule, Table: p.Table, Reason: p.Reason, At: f.mark.At}
	return nil
}

// tellParked counts and logs a timer that was parked.
func (l *timerLane) tellParked(f *queue.FiredTimer) {
	l.metrics.parked.WithLabelValues(f.Failure.Event).Inc()
	at := f.ID.Position()
	l.Log.Error().Str("rule", f.Failure.Place).Str("event", f.Failure.Event).Str("table", f.Failure.Table).Stringer("lsn", at.Commit).Uint64("ordinal", at.Ordinal).
		Str("reason", f.Failure.Reason).Msg("the event of a timer cannot be computed; the timer is parked")
}

// stuckTimersError is why the timers of a rule cannot be fired.
type stuckTimersError struct {
	rule string
	err  error
}

// Error says which rule, and why.
func (s *stuckTimersError) Error() string {
	return fmt.Sprintf("the timers of the rule at %s cannot be fired: %v", s.rule, s.err)
}

func sortedKeys[V any](m map[string]V) []string { return slices.Sorted(maps.Keys(m)) }
