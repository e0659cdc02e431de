package dispatch

import (
	"sync"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// at returns the id of the n-th event of a test.
func at(t *testing.T, n int) queue.ID {
	t.Helper()
	id, err := queue.NewID(1, cdc.Position{Commit: cdc.LSN(n)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func TestReadingAfterARestart(t *testing.T) {
	t.Parallel()
	r := newReading()
	for n := 1; n <= 5; n++ {
		if deliver, lost := r.pass(&r.main, at(t, n)); !deliver || lost {
			t.Fatalf("event %d: deliver %t, lost %t; want a new one to be delivered", n, deliver, lost)
		}
	}
	r.endPage(&r.main, true)
	r.delivered(at(t, 2), class{})
	r.rewind()
	r.skip[at(t, 4)] = false // in flight
	if r.main.end || !r.main.cursor.IsZero() {
		t.Fatalf("rewound to %s, end %t", r.main.cursor, r.main.end)
	}
	// 1 was not done, 2 was and Redis has lost that, 3 was lost, 4 is in flight.
	for _, c := range []struct {
		n             int
		deliver, lost bool
	}{{1, true, false}, {2, false, true}, {4, false, false}} {
		if deliver, lost := r.pass(&r.main, at(t, c.n)); deliver != c.deliver || lost != c.lost {
			t.Errorf("event %d: deliver %t, lost %t; want %t, %t", c.n, deliver, lost, c.deliver, c.lost)
		}
	}
	r.endPage(&r.side, true)
	r.endPage(&r.main, true)
	if r.skip == nil {
		t.Error("the restart is over before the cursor is where it was")
	}
	r.pass(&r.main, at(t, 5))
	if r.endPage(&r.main, true); r.skip != nil {
		t.Error("the restart is not over")
	}
}

// An event that is appended while a page is being read may not be in it.
func TestReadingIsNotAtTheEndWhenSomethingCame(t *testing.T) {
	t.Parallel()
	r := newReading()
	r.beginPage(&r.main)
	r.markUnread(&r.main)
	if r.endPage(&r.main, true); r.main.end {
		t.Error("the stream counts as read to its end")
	}
	r.page = nil
	r.beginPage(&r.main)
	r.markUnread(&r.side)
	if r.endPage(&r.main, true); !r.main.end || r.side.end {
		t.Errorf("main end %t, side end %t; want the main one only", r.main.end, r.side.end)
	}
}

func TestReadingRetries(t *testing.T) {
	t.Parallel()
	r, now := newReading(), time.Now()
	if !r.failed(now) || r.failed(now) {
		t.Error("only the first of two failures is the first")
	}
	if wait := r.retryAt.Sub(now); wait < 100*time.Millisecond || wait > 150*time.Millisecond {
		t.Errorf("the second retry after %s, want 100ms and up to half more", wait)
	}
}

// However little memory is left, a stream of which nothing is in memory has room.
func TestStreamsHaveRoomWhenMemoryIsUsedUp(t *testing.T) {
	t.Parallel()
	for name, ep := range map[string]*endpoint.Endpoint{
		"one request": {Concurrency: 1}, "two requests": {Concurrency: 2}, "lists": {Concurrency: 1, Batch: endpoint.Batching{Max: 2}},
	} {
		c := &courier{
			means: &means{o: Options{WindowEvents: DefaultWindowEvents, WindowBytes: DefaultWindowBytes}, memory: &memory{}},
			ep:    ep, reading: newReading(), activity: &activity{},
		}
		c.memory.hold(memoryWindows*DefaultWindowEvents, memoryWindows*DefaultWindowBytes)
		for _, f := range [...]*feed{&c.reading.main, &c.reading.side} {
			if b := c.budgetLocked(f); !b.page || b.events < 1 || b.bytes < 1 {
				t.Errorf("%s, side %t: room for %+v", name, f.side, b)
			}
		}
	}
}

// A page is asked for with what was found to be free, however others use the memory meanwhile. It is not parallel to others, so that
// these really do.
func TestPagesAreNeverOfNothing(t *testing.T) {
	c := &courier{
		means: &means{o: Options{WindowEvents: DefaultWindowEvents, WindowBytes: DefaultWindowBytes}, memory: &memory{}},
		ep:    &endpoint.Endpoint{State: endpoint.Active, Concurrency: 1}, reading: newReading(), activity: &activity{},
	}
	c.reading.loaded = true
	const bodies = 100 // in lanes: more than the least window has, and less than half of the largest
	c.lanes.main.bodies = bodies
	var others sync.WaitGroup
	defer others.Wait()
	done := make(chan struct{})
	defer close(done)
	others.Go(func() {
		for {
			select {
			case <-done:
				return
			default:
				c.memory.hold(memoryWindows*DefaultWindowEvents, 0)
				c.memory.hold(-memoryWindows*DefaultWindowEvents, 0)
			}
		}
	})
	for pages := 0; pages < 50_000; {
		f, room := c.readableLocked()
		if f != &c.reading.main {
			continue // there is no room
		}
		if pages++; room.events < 1 || room.bytes < 1 {
			t.Fatalf("page %d is of %d events, of %d bytes", pages, room.events, room.bytes)
		}
	}
}

func TestRecentIDsAreBounded(t *testing.T) {
	t.Parallel()
	var r recentIDs
	for n := 1; n <= recentLimit+2; n++ {
		r.add(at(t, n), class{})
	}
	if len(r.ids) != recentLimit || r.ids[0] != at(t, recentLimit+1) || r.ids[2] != at(t, 3) {
		t.Errorf("%d ids, the first %s, the third %s", len(r.ids), r.ids[0], r.ids[2])
	}
}
