package dispatch_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
)

func events(all []arrival) []int {
	out := make([]int, len(all))
	for i, a := range all {
		out[i] = number(a.id)
	}
	return out
}

// Only an endpoint that fails as a whole, over several keys, opens its breaker.
func TestWhatOpensTheBreaker(t *testing.T) {
	t.Parallel()
	of := func(class string) webhook.Outcome { o := refused(); o.Class = class; return o }
	body := status(200)
	body.Class = webhook.ClassBody
	for name, c := range map[string]struct {
		answer webhook.Outcome
		keys   int
		opens  bool
	}{
		"refused connections":       {refused(), 30, true},
		"timeouts":                  {of(webhook.ClassTimeout), 30, true},
		"names that do not resolve": {of(webhook.ClassDNS), 30, true},
		"500":                       {status(500), 30, true},
		"three keys":                {status(503), 3, true},
		"two keys":                  {status(503), 2, false},
		"404":                       {answer(404, webhook.Refused), 30, false},
		"429":                       {status(429), 30, false},
		"200 with an error":         {body, 30, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a", Concurrency: 1, Retry: ms(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1), RetryRefused: ms(1)}
			if c.keys == 30 {
				ep.Retry, ep.RetryRefused = []time.Duration{time.Hour}, []time.Duration{time.Hour}
			}
			q := queuetest.Open(t, r, ep)
			queuetest.AppendEvents(t, q, 0, 30, 30, queuetest.KeyModulo(c.keys))
			sink := newReceiver()
			sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return c.answer }
			_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
			rc := queuetest.Client(t, r)
			open := func() bool { return rc.HGet(t.Context(), "gancho:{a}:state", "open").Val() != "" }
			if c.opens {
				queuetest.Eventually(t, "the breaker to open", open)
				stop()
				if n := len(sink.list()); n > 12 {
					t.Errorf("%d attempts, want 10 and a probe", n)
				}
				return
			}
			sink.until(t, "30 attempts", func(all []arrival) bool { return len(all) >= 30 })
			stop()
			if open() {
				t.Error("the breaker is open")
			}
		})
	}
}

// A breaker that is open lets the oldest event through, then another, and so on
// in turns, and it stays open when the endpoint gets another owner.
func TestProbesAreTheOldestEventAndOthers(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 1, Retry: []time.Duration{time.Hour}}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 30, 30, queuetest.KeyModulo(30))
	sink := newReceiver()
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return refused() }
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.until(t, "the first probe", func(all []arrival) bool { return len(all) == 11 })
	stop()
	rc := queuetest.Client(t, r)
	opened := rc.HGet(t.Context(), "gancho:{a}:state", "open").Val()
	again := newReceiver()
	again.answer = sink.answer
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), again, dispatch.Options{}, ep)
	again.until(t, "two probes", func(all []arrival) bool { return len(all) == 2 })
	stop()
	if got, want := events(sink.list()), append(upTo(0, 10), 10); !slices.Equal(got, want) {
		t.Errorf("first %v, want %v", got, want)
	}
	if got, want := events(again.list()), []int{10, 11}; !slices.Equal(got, want) {
		t.Errorf("after the move %v, want %v", got, want)
	}
	// Probes are no attempts, and the breaker was never closed.
	if n := rc.HLen(t.Context(), "gancho:{a}:at").Val(); n != 10 {
		t.Errorf("%d events with attempts, want 10", n)
	}
	if now := rc.HGet(t.Context(), "gancho:{a}:state", "open").Val(); opened == "" || now != opened {
		t.Errorf("open since %q, and after the move since %q", opened, now)
	}
}

// One event that the receiver breaks over does not keep the breaker open.
func TestPoisonousEventDoesNotKeepTheBreakerOpen(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Concurrency: 1, Retry: []time.Duration{time.Hour}}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 30, 30, queuetest.KeyModulo(30))
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if number(m.ID) <= 10 {
			return refused()
		}
		return delivered()
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	sink.distinct(t, 30)
	queuetest.Eventually(t, "the others to be done", func() bool {
		held, err := queuetest.Stats(t.Context(), q, "a")
		return err == nil && held.Backlog == 11
	})
	stop()
	if got, want := events(sink.list())[:12], append(upTo(0, 11), 11); !slices.Equal(got, want) {
		t.Errorf("first %v, want %v", got, want)
	}
	if n := sink.attemptsOf("a", sink.list()[10].id); n != 2 {
		t.Errorf("event 10 was sent %d times, want twice: as a probe, and as itself", n)
	}
	if open := queuetest.Client(t, r).HGet(t.Context(), "gancho:{a}:state", "open").Val(); open != "" {
		t.Errorf("the breaker is open since %s", open)
	}
}

// Time in which an endpoint stands still is no event's age: not while its
// breaker is open, and not while it is paused, here or elsewhere.
func TestAgeStandsStillWithTheEndpoint(t *testing.T) {
	t.Parallel()
	now := time.Now()
	ago := func(d time.Duration) string { return strconv.FormatInt(now.Add(-d).UnixMilli(), 10) }
	for name, c := range map[string]struct {
		state []any
		dead  bool
	}{
		"never":                       {nil, true},
		"before its first failure":    {[]any{"idle", "0"}, true},
		"for a while":                 {[]any{"idle", strconv.FormatInt((10 * time.Hour).Milliseconds(), 10)}, false},
		"until somebody let it go on": {[]any{"idling", ago(10 * time.Hour)}, false},
		"for too short a while":       {[]any{"idling", ago(time.Hour)}, true},
		"open":                        {[]any{"idling", ago(10 * time.Hour), "open", ago(10 * time.Hour)}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a", PauseAfter: -1}
			q := queuetest.Open(t, r, ep)
			queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
			sink := newReceiver()
			sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return status(404) }
			_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
			sink.until(t, "the first attempt", func(all []arrival) bool { return len(all) == 1 })
			stop()
			rc := queuetest.Client(t, r)
			pass(t, rc, "a", 80*time.Hour)
			if c.state != nil {
				rc.HSet(t.Context(), "gancho:{a}:state", c.state...)
			}
			_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, ep)
			sink.until(t, "the second attempt", func(all []arrival) bool { return len(all) == 2 })
			stop()
			if held, err := queuetest.Stats(t.Context(), q, "a"); err != nil || (held.Dead == 1) != c.dead {
				t.Errorf("%d dead letters, %v; want one: %t", held.Dead, err, c.dead)
			}
		})
	}
}

// An endpoint that only probes reach is paused when it has failed for too long;
// when somebody lets it go on, it has all that time again.
func TestFailingForTooLongPauses(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", PauseAfter: 2 * time.Second, Retry: ms(50)}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 30, 30, queuetest.KeyModulo(30))
	var up atomic.Bool
	sink := newReceiver()
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		if up.Load() {
			return delivered()
		}
		return refused()
	}
	start := time.Now()
	_, stop := startDispatcher(t, q, sink, dispatch.Options{}, ep)
	paused := func() string {
		s, err := queuetest.Stats(t.Context(), q, "a")
		if err != nil {
			t.Fatal(err)
		}
		return s.Reason
	}
	queuetest.Eventually(t, "the pause", func() bool { return paused() != "" })
	s, err := queuetest.Stats(t.Context(), q, "a")
	if err != nil || !strings.HasPrefix(s.Reason, "every attempt has failed since 20") {
		t.Errorf("paused because of %q, %v", s.Reason, err)
	}
	rc := queuetest.Client(t, r)
	first := rc.HGet(t.Context(), "gancho:{a}:state", "failing").Val()
	since, err := strconv.ParseInt(first, 10, 64)
	if failing := time.UnixMilli(since); err != nil || failing.Before(start.Truncate(time.Millisecond)) || s.Since.Sub(failing) < ep.PauseAfter {
		t.Errorf("started at %s, failing since %q, %v, paused at %s: want %s or more between the last two", start, first, err, s.Since, ep.PauseAfter)
	}
	// It fails still: it has the whole time again.
	if _, err := q.Resume(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	n := len(sink.list())
	sink.until(t, "another probe", func(all []arrival) bool { return len(all) > n })
	stop()
	if again := rc.HGet(t.Context(), "gancho:{a}:state", "failing").Val(); again <= first {
		t.Errorf("failing since %q, want since after %q", again, first)
	}
	if reason := paused(); reason != "" {
		t.Errorf("paused again: %q", reason)
	}
	up.Store(true)
	startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{}, ep)
	queuetest.Drained(t, q, "a")
	queuetest.Eventually(t, "the failing to end", func() bool { return rc.HGet(t.Context(), "gancho:{a}:state", "failing").Val() == "" })
	if held, err := queuetest.Stats(t.Context(), q, "a"); held.Dead != 0 || err != nil {
		t.Errorf("%d dead letters, %v, want none", held.Dead, err)
	}
}
