package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/mapping"
)

const (
	// schedulesAtOnce is how many schedules run at once.
	schedulesAtOnce = 4
	// scheduleLook is the longest time between two looks at what is due: clocks jump, and rules are reloaded.
	scheduleLook = 5 * time.Second
	// scheduleLate is from when on a time counts as one that passed while nothing ran.
	scheduleLate = time.Minute
	// clocksApart is how far the clocks may be from each other before people are told.
	clocksApart = time.Minute
	// scheduleRetire is the time between two looks at what no rule has any more.
	scheduleRetire = 24 * time.Hour
)

// scheduleRetry is the wait between two attempts at a run. It is scheduleRest times as long as a query ran that failed, too:
// one that fails whenever it is repeated is not what the source works at most.
var scheduleRetry = retry.Backoff{Min: time.Second, Max: time.Minute}

const scheduleRest = 9

// schedules runs the rules with schedule. The process that captures does so. What has run, and what of a run Redis has, the
// state database knows, so that another one continues; two that both believe to capture for a moment do not queue twice.
type schedules struct {
	*bridge
	rules  func() []*mapping.Scheduled
	source func() *mapping.Source
	leads  func() bool // this process is the one
	now    func() time.Time
	// clocks complains of clocks that are apart or wrong, full of what holds runs up.
	clocks, full complaint
	retired      time.Time // when was looked last at what no rule has any more

	mu       sync.Mutex
	attempts map[string]*scheduleAttempt // guarded by mu; by event
	ended    chan struct{}               // capacity 1: a run has
}

// scheduleAttempt is how often a run of a schedule failed.
type scheduleAttempt struct {
	running bool
	tries   int
	next    time.Time
}

func (b *bridge) schedulesOf(rules func() []*mapping.Scheduled, source func() *mapping.Source, leads func() bool) *schedules {
	return &schedules{
		bridge: b, rules: rules, source: source, leads: leads, now: time.Now,
		clocks:   complaint{log: b.Log, failed: "scheduled runs wait for a clock", again: "scheduled runs wait for no clock any more"},
		full:     complaint{log: b.Log, failed: "scheduled runs wait for redis", again: "scheduled runs go on"},
		attempts: map[string]*scheduleAttempt{}, ended: make(chan struct{}, 1),
	}
}

// errScheduleState: without a state nobody knows what has run.
var errScheduleState = errors.New("rules with schedule need a state database, which knows when they ran and what they have sent: write state: dsn: in the configuration, or remove the rules")

// newSchedules returns those of the rules that capture has.
func (c *capture) newSchedules() *schedules {
	return c.schedulesOf(func() []*mapping.Scheduled { return c.bound.Load().Schedules() }, c.newLookup, c.capturing)
}

// run runs what is due until the context ends.
func (s *schedules) run(ctx context.Context) error {
	var running errgroup.Group
	running.SetLimit(schedulesAtOnce)
	for ctx.Err() == nil {
		wait := scheduleLook
		if all := s.rules(); len(all) > 0 && s.leads() {
			next, err := s.look(ctx, all, &running)
			switch {
			case err == nil:
				s.stateComplaint.over()
				wait = min(wait, max(next.Sub(s.now()), time.Millisecond))
			case ctx.Err() == nil:
				s.stateComplaint.about(err)
			}
		}
		timer := time.NewTimer(wait)
		select {
		case <-ctx.Done():
		case <-s.ended:
		case <-timer.C:
		}
		timer.Stop()
	}
	return running.Wait()
}

// dueRun is a run that is due.
type dueRun struct {
	rule   *mapping.Scheduled
	of     state.Schedule
	due    time.Time
	passed int // scheduled times before it that are not made up
}

// look begins the runs that are due, those whose last run is longest ago first, and returns when the next one is.
func (s *schedules) look(ctx context.Context, all []*mapping.Scheduled, running *errgroup.Group) (next time.Time, err error) {
	now, err := s.clock(ctx)
	if err != nil {
		return next, err
	}
	known, err := s.store.Schedules(ctx, s.Source.Slot)
	if err != nil {
		return next, err
	}
	next = s.now().Add(scheduleLook)
	var ready []dueRun
	for _, rule := range all {
		of, found := known[rule.Event()]
		if !found {
			if err := s.store.AddSchedule(ctx, s.Source.Slot, rule.Event(), now); err != nil {
				return next, err
			}
			next = s.now() // its number is read
			continue
		}
		if of.Last != nil {
			s.metrics.scheduleLast.WithLabelValues(of.Event).Set(float64(of.Last.Due.Unix()))
		}
		at, passed, err := s.when(ctx, rule, &of, now)
		switch {
		case err != nil:
			return next, err
		case at.IsZero():
		case at.After(now):
			next = earlier(next, s.now().Add(at.Sub(now)))
		default:
			ready = append(ready, dueRun{rule, of, at, passed})
		}
	}
	slices.SortStableFunc(ready, func(a, b dueRun) int { return a.of.Since.Compare(b.of.Since) })
	for i := range ready {
		s.begin(ctx, &ready[i], running)
	}
	return next, s.retire(ctx, all, now)
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// clock is the time by which runs are due: a clock that is wrong for a while must not have times count as past that are to
// come, so that it is the earlier one of this machine's and the state database's.
func (s *schedules) clock(ctx context.Context) (time.Time, error) {
	stored, err := s.store.Clock(ctx)
	if err != nil {
		return stored, err
	}
	now := s.now()
	if apart := now.Sub(stored).Abs(); apart > clocksApart {
		s.clocks.about(fmt.Errorf("the clocks of this machine and of the state database are %v apart; runs begin by the one that is behind: correct the other", apart.Round(time.Second)))
	} else {
		s.clocks.over()
	}
	return earlier(now, stored), nil
}

// retire forgets what no rule has had for long.
func (s *schedules) retire(ctx context.Context, all []*mapping.Scheduled, now time.Time) error {
	if s.now().Sub(s.retired).Abs() < scheduleRetire {
		return nil
	}
	events := make([]string, 0, len(all))
	for _, rule := range all {
		events = append(events, rule.Event())
	}
	err := s.store.RetireSchedules(ctx, s.Source.Slot, events, now)
	if err == nil {
		s.retired = s.now()
	}
	return err
}

// when returns at which time a run of a schedule is to begin, or to go on, which may be past; zero: a run is under way. As of due,
// passed are the times before it that are not made up.
func (s *schedules) when(ctx context.Context, rule *mapping.Scheduled, of *state.Schedule, now time.Time) (at time.Time, passed int, err error) {
	attempt := s.attempt(of.Event)
	switch {
	case attempt.running:
		return time.Time{}, 0, nil
	case attempt.next.After(s.now()):
		return now.Add(attempt.next.Sub(s.now())), 0, nil
	case !of.Due.IsZero():
		return of.Due, 0, nil
	case of.Since.After(now.Add(clocksApart)):
		s.clocks.about(fmt.Errorf("the schedule of %s has run for %s, which is to come: a clock was wrong then; it runs for no time before. To have it run sooner: UPDATE gancho.schedules SET since = now() WHERE id = %d; in the state database",
			of.Event, of.Since.In(s.Location).Format(time.RFC3339), of.ID))
	}
	return s.due(ctx, rule, of, now)
}

// begin begins a run, unless as many as may are under way: those are not waited for.
func (s *schedules) begin(ctx context.Context, due *dueRun, running *errgroup.Group) {
	event := due.of.Event
	run := &scheduledRun{schedules: s, rule: due.rule, of: due.of, due: due.due.In(s.Location), part: due.of.Part, passed: due.passed}
	s.set(event, func(a *scheduleAttempt) { a.running = true })
	if !running.TryGo(func() error { s.carryOut(ctx, run); return nil }) {
		s.set(event, func(a *scheduleAttempt) { a.running = false })
	}
}

// due returns the scheduled time that is to be run next, which may be to come. Those that passed while nothing ran are made
// up as catch_up says; passed are those that are not, which is told once the run has begun.
func (s *schedules) due(ctx context.Context, rule *mapping.Scheduled, of *state.Schedule, now time.Time) (due time.Time, passed int, err error) {
	due = rule.Timetable().Next(of.Since, s.Location)
	if due.IsZero() || due.After(now) || rule.CatchUp() == mapping.CatchUpAll {
		return due, 0, nil
	}
	for {
		later := rule.Timetable().Next(due, s.Location)
		if later.IsZero() || later.After(now) {
			break
		}
		due, passed = later, passed+1
	}
	if rule.CatchUp() != mapping.CatchUpNone || now.Sub(due) <= scheduleLate {
		return due, passed, nil
	}
	if err := s.store.SkipRuns(ctx, of.ID, due); err != nil {
		return time.Time{}, 0, ignoreConflict(err)
	}
	s.tellPassed(rule, of, passed+1)
	return rule.Timetable().Next(due, s.Location), 0, nil
}

// tellPassed logs and counts scheduled times that are not made up.
func (s *schedules) tellPassed(rule *mapping.Scheduled, of *state.Schedule, passed int) {
	if passed == 0 {
		return
	}
	s.Log.Warn().Str("event", of.Event).Str("rule", rule.Place()).Int("times", passed).Time("since", of.Since).
		Msg("scheduled times passed while nothing ran; they are not made up, as catch_up of the rule says")
	s.metrics.scheduleRuns.WithLabelValues(of.Event, "skipped").Add(float64(passed))
}

// ignoreConflict: another process was faster, and the next look tells.
func ignoreConflict(err error) error {
	if errors.Is(err, state.ErrConflict) {
		return nil
	}
	return err
}

// carryOut makes an attempt at a run.
func (s *schedules) carryOut(ctx context.Context, run *scheduledRun) {
	event := run.rule.Event()
	err := run.carryOut(ctx)
	tries := 0
	switch {
	case err == nil:
		s.metrics.scheduleRuns.WithLabelValues(event, "done").Inc()
	case ctx.Err() != nil || errors.Is(err, errCapturesNot) || errors.Is(err, state.ErrConflict):
	default:
		tries = s.attempt(event).tries + 1
		s.metrics.scheduleRuns.WithLabelValues(event, "failed").Inc()
		s.Log.Error().Err(err).Str("event", event).Str("rule", run.rule.Place()).Time("scheduled", run.due).Int("attempt", tries).
			Msg("a scheduled run failed; it goes on where it was, later")
		_ = s.store.FailRun(ctx, run.of.ID, run.due, err.Error()) // what cannot be stored is logged
	}
	s.set(event, func(a *scheduleAttempt) {
		*a = scheduleAttempt{tries: tries}
		if tries > 0 {
			a.next = s.now().Add(max(scheduleRetry.Delay(tries-1), scheduleRest*run.queried))
		}
	})
	signal(s.ended)
}

// running reports whether a run is under way.
func (s *schedules) running() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, a := range s.attempts {
		if a.running {
			return true
		}
	}
	return false
}

// next is the next scheduled time of any rule; zero: there is none.
func (s *schedules) next(now time.Time) (next time.Time) {
	for _, rule := range s.rules() {
		if at := rule.Timetable().Next(now, s.Location); !at.IsZero() && (next.IsZero() || at.Before(next)) {
			next = at
		}
	}
	return next
}

func (s *schedules) attempt(event string) scheduleAttempt {
	s.mu.Lock()
	defer s.mu.Unlock()
	if a := s.attempts[event]; a != nil {
		return *a
	}
	return scheduleAttempt{}
}

func (s *schedules) set(event string, change func(*scheduleAttempt)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.attempts[event] == nil {
		s.attempts[event] = &scheduleAttempt{}
	}
	change(s.attempts[event])
}
