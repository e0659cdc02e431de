package dispatch

import (
	"context"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
)

// deaf is a sender that sends nothing.
type deaf struct{ sender }

func (deaf) Redial(*endpoint.Endpoint) {}

// quietCourier has the lease of an endpoint whose streams are empty and read.
func quietCourier(t *testing.T) *courier {
	t.Helper()
	ep := (&endpoint.Endpoint{Name: "a"}).WithDefaults()
	q := queuetest.Open(t, queuetest.StartRedis(t), ep)
	owners, err := q.Worker().Acquire(t.Context(), queue.LeaseMost, []string{"a"})
	if err != nil || owners[0] == nil {
		t.Fatalf("acquired %v, %v", owners, err)
	}
	c := newCourier(&means{
		sender: deaf{}, o: Options{WindowEvents: DefaultWindowEvents, WindowBytes: DefaultWindowBytes}, log: queuetest.Logger(t), memory: &memory{}, gate: newGate(schedulerDelays()), restAfter: restAfter,
		cancelable: func() (context.Context, context.CancelFunc) { return context.WithCancel(context.Background()) },
	}, &ep, owners[0], lease{until: time.Now().Add(queue.LeaseMost)})
	c.reading.loaded, c.reading.main.end, c.reading.side.end, c.reading.generation = true, true, true, c.owner.Generation()
	c.activateLocked()
	return c
}

// What was delivered is remembered from when Redis knows it, not from the answer: Redis may have been unreachable between the two.
func TestRestBeginsWithTheAcknowledgement(t *testing.T) {
	t.Parallel()
	c := quietCourier(t)
	c.touched = time.Now().Add(-time.Hour)
	c.reading.delivered(at(t, 1), class{})
	c.writing.outgoing.Done = append(c.writing.outgoing.Done, at(t, 1))
	c.applyWritten(true)
	c.lease.asked = time.Now()
	if c.restLocked(); c.activity == nil {
		t.Error("it forgets what it has delivered right after the acknowledgement")
	}
	c.lease.asked = time.Now().Add(restAfter)
	if c.restLocked(); c.activity != nil || c.reading.recent != nil {
		t.Error("it does not rest")
	}
}

// While Redis does not answer, time alone is no reason to forget what was delivered: it may have died before it had written the
// acknowledgements.
func TestNothingIsForgottenWhileRedisIsAway(t *testing.T) {
	t.Parallel()
	c := quietCourier(t)
	c.touched = time.Now().Add(-time.Hour)
	c.reading.delivered(at(t, 1), class{})
	standing := queue.Standing{Owned: true}
	c.applyStanding(standing, 0, c.touched.Add(restAfter-1), c.lease.until)
	for range 3 { // whose renewals fail
		c.renewal()
	}
	changed := *c.ep
	c.update(&changed)
	if c.activity == nil || c.reading.recent == nil || len(c.reading.recent.ids) != 1 {
		t.Fatal("it forgets what it has delivered before Redis has answered for long enough")
	}
	c.applyStanding(standing, 0, c.touched.Add(restAfter), c.lease.until)
	if c.activity != nil || c.reading.recent != nil {
		t.Error("it does not rest")
	}
}

// Moves that fail stay put off while the endpoint rests.
func TestFailingMovesArePutOffAtRest(t *testing.T) {
	t.Parallel()
	c := quietCourier(t)
	if !c.moves.failed(time.Now(), time.Hour) {
		t.Error("the first failure is not the first")
	}
	c.restLocked()
	if c.overflow(1); c.activity != nil {
		t.Error("events are moved again before the next try")
	}
	if c.moves.failed(time.Now(), time.Hour) {
		t.Error("the second failure in a row is logged as the first")
	}
}

// Redis takes a longer lease for one from before its clock was set back.
func TestLeaseIsBounded(t *testing.T) {
	t.Parallel()
	q := queuetest.Open(t, queuetest.StartRedis(t))
	for given, want := range map[time.Duration]time.Duration{0: DefaultLease, time.Second: time.Second, time.Hour: queue.LeaseMost} {
		if d := New(q, nil, nil, Options{Lease: given}); d.o.Lease != want {
			t.Errorf("a lease of %s is one of %s, want %s", given, d.o.Lease, want)
		}
	}
}
