package dispatch

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// laneSetOf has events 1 to n, under as many keys.
func laneSetOf(t *testing.T, n, keys int) *laneSet {
	t.Helper()
	s := newLaneSet(&endpoint.Endpoint{}, nil, &memory{})
	for i := 1; i <= n; i++ {
		s.add(at(t, i), &webhook.Message{Key: fmt.Sprint(i % keys), Data: []byte("{}")})
	}
	return &s
}

// checkTally fails unless the tallies are what the lanes hold.
func checkTally(t *testing.T, s *laneSet) {
	t.Helper()
	var want tally
	for _, l := range s.lanes {
		want.lanes++
		want.events += l.waiting()
		want.bodies += len(l.bodies)
		for _, m := range l.bodies {
			want.bodyBytes += sizeOf(m)
		}
	}
	if s.main.tally != want {
		t.Errorf("tally %+v, want %+v", s.main.tally, want)
	}
}

func TestLanesHoldOneEventOfAKeyInFlight(t *testing.T) {
	t.Parallel()
	s := laneSetOf(t, 6, 3)
	var first []*lane
	for l := s.next(1); l != nil; l = s.next(1) {
		first = append(first, l)
	}
	if len(first) != 3 || s.sendable(1) != 0 {
		t.Fatalf("%d lanes busy, %d sendable; want 3 and 0", len(first), s.sendable(1))
	}
	s.advance(first[0], 1)
	s.requeue(first[1])
	s.delay(first[2], time.Unix(5, 0))
	checkTally(t, s)
	if first[2].body() != nil {
		t.Error("a lane that waits keeps its bodies")
	}
	if next := s.releaseDue(time.Unix(4, 0)); !next.Equal(time.Unix(5, 0)) {
		t.Errorf("next release at %s", next)
	}
	got := []queue.ID{s.next(1).first(), s.next(1).first()}
	if want := []queue.ID{at(t, 4), at(t, 2)}; !slices.Equal(got, want) || s.next(1) != nil {
		t.Errorf("then %v, want %v and no more", got, want)
	}
	if next := s.releaseDue(time.Unix(5, 0)); !next.IsZero() || s.next(1) != first[2] {
		t.Errorf("the delayed lane is not released; next %s", next)
	}
}

func TestLanesAfterAdvancing(t *testing.T) {
	t.Parallel()
	s := laneSetOf(t, 500, 1)
	for i := 1; i <= 500; i++ {
		l := s.next(1)
		if l.first() != at(t, i) || l.body() == nil {
			t.Fatalf("event %s, want %s with its body", l.first(), at(t, i))
		}
		s.advance(l, 1)
		checkTally(t, s)
	}
	if len(s.lanes) != 0 || s.sendable(1) != 0 {
		t.Errorf("%d lanes left", len(s.lanes))
	}
}

func TestLanesPickTheOldest(t *testing.T) {
	t.Parallel()
	s := laneSetOf(t, 4, 4)
	l := s.next(1)
	s.requeue(l) // behind the others
	s.filterReady(func(l *lane) bool {
		moved := l.first() == at(t, 2)
		if moved {
			s.block(l)
		}
		return moved
	})
	if l := s.nextOldest(1); l.first() != at(t, 1) {
		t.Errorf("the oldest is %s, want %s", l.first(), at(t, 1))
	}
	s.reschedule(func(queue.ID) (time.Time, bool) { return time.Time{}, false })
	if l := s.nextOldest(1); l.first() != at(t, 2) {
		t.Errorf("then %s, want the lane that was blocked", l.first())
	}
}

func TestLanesKeepInFlight(t *testing.T) {
	t.Parallel()
	s := laneSetOf(t, 9, 3)
	busy := s.next(1)
	s.delay(s.next(1), time.Unix(5, 0))
	s.keepInFlight()
	checkTally(t, s)
	if len(s.lanes) != 1 || busy.waiting() != 1 || s.next(1) != nil || !s.releaseDue(time.Unix(9, 0)).IsZero() {
		t.Errorf("%d lanes left, %d events in the busy one", len(s.lanes), busy.waiting())
	}
	s.putBack(busy)
	if s.next(1) != busy {
		t.Error("what was put back is not next")
	}
}

func TestListPlan(t *testing.T) {
	t.Parallel()
	sizes := func(p *listPlan) (out []int) {
		for _, part := range p.parts {
			out = append(out, part.n)
		}
		return out
	}
	p := &listPlan{}
	for _, step := range []struct {
		do   func()
		want []int
	}{
		{func() { p.split(7, queue.Attempts{N: 3}) }, []int{4, 3}},
		{func() { p.split(4, queue.Attempts{N: 4}) }, []int{2, 2, 3}},
		{func() { p.fix(1) }, []int{1, 1, 2, 3}}, // a part was read only in part
		{func() { p.advance(1) }, []int{1, 2, 3}},
		{func() { p.advance(5) }, []int{1}},
		{func() { p.advance(9) }, nil},
	} {
		if step.do(); !slices.Equal(sizes(p), step.want) {
			t.Errorf("parts %v, want %v", sizes(p), step.want)
		}
	}
	if p.fixed() || (*listPlan)(nil).fixed() {
		t.Error("an empty plan has parts")
	}
}
