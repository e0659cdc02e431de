package dispatch

import (
	"sync"
	"testing"
	"time"
)

// Several dispatchers have an endpoint's concurrency together, and none of them waits for ever while another is busy.
func TestGovernorShares(t *testing.T) {
	t.Parallel()
	const limit, each = 2, 200
	g := NewGovernor()
	s := g.of("crm")
	if g.of("crm") != s || g.of("erp") == s {
		t.Fatal("shares are mixed up")
	}
	var mu sync.Mutex
	inFlight, most := 0, 0
	var all sync.WaitGroup
	for user := range 3 {
		all.Go(func() {
			woken := make(chan struct{}, 1)
			wake := func() {
				select {
				case woken <- struct{}{}:
				default:
				}
			}
			for range each {
				for !s.take(user, limit, time.Now(), wake) {
					select {
					case <-woken:
					case <-time.After(shareAgain): // as the courier asks again
					}
				}
				mu.Lock()
				inFlight++
				most = max(most, inFlight)
				mu.Unlock()
				mu.Lock()
				inFlight--
				mu.Unlock()
				s.give(time.Now())
			}
		})
	}
	all.Wait()
	if most > limit || s.inFlight != 0 {
		t.Errorf("%d requests at once, and %d left; %d may be", most, s.inFlight, limit)
	}
}

// Who has waited longest is next, although another one asks all the time.
func TestGovernorTurns(t *testing.T) {
	t.Parallel()
	s, now := NewGovernor().of("crm"), time.Now()
	woken := make(chan string, 10)
	wake := func(name string) func() { return func() { woken <- name } }
	if !s.take("busy", 1, now, wake("busy")) || s.take("waits", 1, now, wake("waits")) {
		t.Fatal("the first request is not given once")
	}
	s.give(now)
	if got := <-woken; got != "waits" {
		t.Fatalf("%s is woken", got)
	}
	if s.take("busy", 1, now, wake("busy")) {
		t.Error("who asks again goes before who waits")
	}
	if !s.take("waits", 1, now, wake("waits")) {
		t.Error("who was woken gets nothing")
	}
	s.give(now)
	<-woken // busy
	if !s.take("third", 1, now.Add(2*shareGrace), wake("third")) {
		t.Error("a turn is kept for ever for who does not come")
	}
	var none *share
	if !none.take("alone", 1, now, nil) || none.limiterOf(0) != nil || none.limiterOf(5) == nil {
		t.Error("without a governor, requests are not those of one dispatcher")
	}
	if a, b := s.limiterOf(5), s.limiterOf(5); a != b || s.limiterOf(6) == a {
		t.Error("a rate is not had together")
	}
}

// Those that wait and end, or send nothing any more, hold up nobody: who comes later gets the request by asking alone.
func TestGovernorForgetsTheEnded(t *testing.T) {
	t.Parallel()
	now, silent := time.Now(), func() {}
	for _, leaves := range []bool{true, false} {
		s := NewGovernor().of("crm")
		if !s.take("a", 1, now, silent) {
			t.Fatal("the first request is not given")
		}
		dead := []string{"b", "c", "d"}
		for _, of := range dead {
			if s.take(of, 1, now, silent) {
				t.Fatalf("%s gets a request, and one is in flight", of)
			}
		}
		if leaves {
			for _, of := range dead {
				s.leave(of, now)
			}
		}
		s.give(now)
		asked := 1
		for ; !s.take("later", 1, now, silent) && asked < 10; asked++ {
			now = now.Add(shareAgain)
		}
		if most := 1 + len(dead); leaves && asked > 1 || asked > most {
			t.Errorf("left %t: the request is given when it was asked for %d times", leaves, asked)
		}
	}
}
