package dispatch

import (
	"testing"
	"testing/synctest"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

func TestFailuresRefit(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_000_000, 0)
	last := now.Add(-time.Minute)
	one := endpoint.Endpoint{Retry: []time.Duration{10 * time.Minute}, MaxAge: time.Hour}
	for name, c := range map[string]struct {
		a    queue.Attempts
		ep   endpoint.Endpoint
		idle int64
		want queue.Attempts
	}{
		"shorter": {queue.Attempts{N: 1, Failures: queue.Failures{First: last, Last: last}, Due: now.Add(2 * time.Hour)}, one, 0, queue.Attempts{Due: last.Add(12 * time.Minute)}},
		"longer":  {queue.Attempts{N: 1, Failures: queue.Failures{First: last, Last: last}, Due: now.Add(time.Minute)}, one, 0, queue.Attempts{Due: now.Add(time.Minute)}},
		"age": {
			queue.Attempts{N: 1, Failures: queue.Failures{First: now.Add(-55 * time.Minute), Last: now}, Due: now.Add(2 * time.Hour)}, one, 0,
			queue.Attempts{Due: now.Add(5 * time.Minute)},
		},
		"age that stood still": {
			queue.Attempts{N: 1, Failures: queue.Failures{First: now.Add(-55 * time.Minute), Last: now}, Due: now.Add(2 * time.Hour)}, one, 60_000,
			queue.Attempts{Due: now.Add(6 * time.Minute)},
		},
		"blocks no more": {queue.Attempts{N: 1, Failures: queue.Failures{Last: last}, Blocked: true}, one, 0, queue.Attempts{Due: now}},
		"blocks":         {queue.Attempts{N: 1, Failures: queue.Failures{Last: last}, Blocked: true}, endpoint.Endpoint{OnExhausted: endpoint.Block}, 0, queue.Attempts{Blocked: true}},
	} {
		f := failures{at(t, 1): c.a}
		f.refit(&c.ep, c.idle, now)
		if got := f[at(t, 1)]; !got.Due.Equal(c.want.Due) || got.Blocked != c.want.Blocked {
			t.Errorf("%s: due %s, blocked %t; want %s, %t", name, got.Due, got.Blocked, c.want.Due, c.want.Blocked)
		}
	}
}

func TestFailuresKeepAndHasten(t *testing.T) {
	t.Parallel()
	now, f := time.Now(), failures{}
	f.keep(at(t, 1), queue.Attempts{N: 1, Failures: queue.Failures{Answer: "no", Error: "no"}, Due: now.Add(time.Hour)})
	f.keep(at(t, 2), queue.Attempts{N: 1, Blocked: true})
	f.keep(at(t, 3), queue.Attempts{N: 1, Due: now.Add(-time.Hour)})
	f.hasten(now)
	for n, due := range map[int]time.Time{1: now, 2: now, 3: now.Add(-time.Hour)} {
		if a := f[at(t, n)]; !a.Due.Equal(due) || a.Blocked || a.Answer+a.Error != "" {
			t.Errorf("event %d: %+v, want due %s", n, a, due)
		}
	}
}

// Probes come after one second, then after twice as long, up to a minute.
func TestBreakerProbes(t *testing.T) {
	t.Parallel()
	var b breaker
	now := time.Now()
	for key := range breakerFailures - 1 {
		if b.failed(now, uint64(key%breakerKeys)) {
			t.Fatalf("open after %d failures", key+1)
		}
	}
	if !b.failed(now, 0) || b.due(now.Add(probeFirst-1)) || !b.due(now.Add(probeFirst)) || !b.oldest() {
		t.Fatalf("after %d failures: %+v", breakerFailures, b)
	}
	wait := probeFirst
	for n := range 10 {
		b.probing = true
		if b.due(now.Add(time.Hour)) {
			t.Fatal("two probes at a time")
		}
		b.probing = false
		b.probeFailed(now)
		if wait = min(2*wait, probeLast); !b.next.Equal(now.Add(wait)) || b.oldest() != (n%2 == 1) {
			t.Errorf("after %d failed probes: the next after %s, oldest %t; want after %s", n+1, b.next.Sub(now), b.oldest(), wait)
		}
	}
	if !b.answered() || b.open || b.answered() {
		t.Errorf("after an answer: %+v", b)
	}
	few := breaker{}
	for range 100 {
		if few.failed(now, 1) || few.failed(now, 2) {
			t.Fatal("two failing keys open the breaker")
		}
	}
}

func TestEndpointFailure(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		class  string
		status int
		want   bool
	}{
		{webhook.ClassOK, 200, false}, {webhook.ClassBody, 200, false}, {webhook.ClassCanceled, 0, false}, {webhook.ClassStatus, 499, false},
		{webhook.ClassStatus, 500, true}, {webhook.ClassTimeout, 0, true}, {webhook.ClassDNS, 0, true},
	} {
		if got := endpointFailure(&webhook.Outcome{Class: c.class, Status: c.status}); got != c.want {
			t.Errorf("%s %d: %t, want %t", c.class, c.status, got, c.want)
		}
	}
}

// A rate allows a burst of a hundredth of a second, and then its pace.
func TestSendingRate(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		rate  float64
		burst int
		wait  time.Duration
	}{{0, 1000, 0}, {50, 1, 20 * time.Millisecond}, {500, 5, 2 * time.Millisecond}} {
		var s sending
		s.limiter = newLimiter(c.rate)
		now := time.Now()
		for n := range c.burst {
			if wait := s.reserve(now); wait != 0 {
				t.Errorf("%v/s: request %d waits %s", c.rate, n, wait)
			}
		}
		for range 3 { // asking does not count
			if wait := s.reserve(now); wait != c.wait {
				t.Errorf("%v/s: waits %s, want %s", c.rate, wait, c.wait)
			}
		}
		if wait := s.reserve(now.Add(c.wait)); wait != 0 {
			t.Errorf("%v/s: waits %s after the wait", c.rate, wait)
		}
	}
}

func TestAlarm(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		rings := make(chan time.Duration, 10)
		a := alarm{ring: func() { rings <- time.Since(start) }}
		a.set(start.Add(3 * time.Second))
		a.set(start.Add(time.Second))
		a.set(start.Add(2 * time.Second)) // later than it will ring
		if at := <-rings; at != time.Second {
			t.Errorf("rang after %s, want 1s", at)
		}
		a.rang()
		a.set(start.Add(5 * time.Second))
		if at := <-rings; at != 5*time.Second {
			t.Errorf("rang after %s, want 5s", at)
		}
		a.rang()
		a.set(start.Add(6 * time.Second))
		a.stop()
		a.set(start.Add(7 * time.Second))
		<-time.After(time.Hour) // of the bubble's clock
		if len(rings) != 0 {
			t.Error("a stopped alarm rings")
		}
	})
}
