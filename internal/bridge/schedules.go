package bridge

import (
	"context"
	"errors"
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
)

// scheduleRetry is the wait between two attempts at a run.
var scheduleRetry = retry.Backoff{Min: time.Second, Max: time.Minute}

// schedules runs the rules with schedule. The process that captures does so. What has run, and what of a run Redis has, the
// state database knows, so that another one continues; two that both believe to capture for a moment do not queue twice.
type schedules struct {
	*bridge
	rules  func() []*mapping.Scheduled
	source func() *mapping.Source
	leads  func() bool // this process is the one
	now    func() time.Time

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

// look begins the runs that are due, and returns when the next one is.
func (s *schedules) look(ctx context.Context, all []*mapping.Scheduled, running *errgroup.Group) (next time.Time, err error) {
	known, err := s.store.Schedules(ctx)
	if err != nil {
		return next, err
	}
	next = s.now().Add(scheduleLook)
	for _, rule := range all {
		of, found := known[rule.Event()]
		if !found {
			of = state.Schedule{Event: rule.Event(), Since: s.now()}
			if err := s.store.AddSchedule(ctx, rule.Event(), of.Since); err != nil {
				return next, err
			}
		}
		at, err := s.begin(ctx, rule, &of, running)
		if err != nil {
			return next, err
		}
		if !at.IsZero() && at.Before(next) {
			next = at
		}
	}
	return next, nil
}

// begin begins the run of a schedule that is due, and returns when to look again; zero: when one has ended.
func (s *schedules) begin(ctx context.Context, rule *mapping.Scheduled, of *state.Schedule, running *errgroup.Group) (next time.Time, err error) {
	attempt := s.attempt(rule.Event())
	switch {
	case attempt.running:
		return next, nil
	case attempt.next.After(s.now()):
		return attempt.next, nil
	}
	if of.Due.IsZero() {
		due, err := s.due(ctx, rule, of)
		switch {
		case err != nil || due.IsZero():
			return next, err
		case due.After(s.now()):
			return due, nil
		}
		if err := s.store.BeginRun(ctx, of.Event, due); err != nil {
			return next, ignoreConflict(err)
		}
		of.Due, of.Part = due, 0
	}
	s.set(of.Event, func(a *scheduleAttempt) { a.running = true })
	run := &scheduledRun{schedules: s, rule: rule, due: of.Due.In(s.Location), part: of.Part}
	if !running.TryGo(func() error { s.carryOut(ctx, run); return nil }) {
		s.set(of.Event, func(a *scheduleAttempt) { a.running = false })
	}
	return next, nil
}

// due returns the scheduled time that is to be run next, which may be to come. Those that passed while nothing ran are made
// up as catch_up says.
func (s *schedules) due(ctx context.Context, rule *mapping.Scheduled, of *state.Schedule) (time.Time, error) {
	now := s.now()
	due := rule.Timetable().Next(of.Since, s.Location)
	if due.IsZero() || due.After(now) || rule.CatchUp() == mapping.CatchUpAll {
		return due, nil
	}
	passed := 0
	for {
		later := rule.Timetable().Next(due, s.Location)
		if later.IsZero() || later.After(now) {
			break
		}
		due, passed = later, passed+1
	}
	late := rule.CatchUp() == mapping.CatchUpNone && now.Sub(due) > scheduleLate
	if late {
		passed++
	}
	if passed > 0 {
		s.Log.Warn().Str("event", of.Event).Str("rule", rule.Place()).Int("times", passed).Time("since", of.Since).
			Msg("scheduled times passed while nothing ran; they are not made up, as catch_up of the rule says")
		s.metrics.scheduleRuns.WithLabelValues(of.Event, "skipped").Add(float64(passed))
	}
	if !late {
		return due, nil
	}
	if err := s.store.SkipRuns(ctx, of.Event, due); err != nil {
		return time.Time{}, ignoreConflict(err)
	}
	return rule.Timetable().Next(due, s.Location), nil
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
		s.metrics.scheduleLast.WithLabelValues(event).Set(float64(run.due.Unix()))
	case ctx.Err() != nil || errors.Is(err, errCapturesNot) || errors.Is(err, state.ErrConflict):
	default:
		tries = s.attempt(event).tries + 1
		s.metrics.scheduleRuns.WithLabelValues(event, "failed").Inc()
		s.Log.Error().Err(err).Str("event", event).Str("rule", run.rule.Place()).Time("scheduled", run.due).Int("attempt", tries).
			Msg("a scheduled run failed; it goes on where it was, later")
		_ = s.store.FailRun(ctx, event, run.due, err.Error()) // what cannot be stored is logged
	}
	s.set(event, func(a *scheduleAttempt) {
		*a = scheduleAttempt{tries: tries}
		if tries > 0 {
			a.next = s.now().Add(scheduleRetry.Delay(tries - 1))
		}
	})
	signal(s.ended)
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
