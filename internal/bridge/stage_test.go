package bridge_test

import (
	"context"
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/bridge"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// drained returns only when what was staged before is in Redis, or has been
// dropped by a rewind.
func TestStageSettles(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	ctx := t.Context()
	q, err := queue.Open(ctx, queue.Options{
		URL: server.URL(), Endpoints: []*endpoint.Endpoint{{Name: "crm", URL: "https://crm.example.com"}}, Logger: zerolog.Nop(),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	if _, err := q.Claim(ctx, queue.Source{SystemID: "1", Database: "d", Slot: "s", Timeline: 1, SlotCreated: true}, false); err != nil {
		t.Fatal(err)
	}
	stage := bridge.NewStage(q)
	running, stop := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() { ended <- stage.Run(running) }()
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	n := 0
	add := func() {
		t.Helper()
		n++
		e := &mapping.Event{Position: cdc.Position{Commit: cdc.LSN(0x1000 * n)}, Type: "a.b", Time: time.Now(), Key: []byte("1"), Data: []byte("{}")}
		if err := stage.Add(e); err != nil {
			t.Fatal(err)
		}
	}
	backlog := func() int64 {
		t.Helper()
		held, err := queuetest.Stats(ctx, q, "crm")
		if err != nil {
			t.Fatal(err)
		}
		return held.Backlog
	}
	settles := func() chan error {
		done := make(chan error, 1)
		go func() { done <- stage.Drained(ctx) }()
		return done
	}

	if err := stage.Drained(ctx); err != nil {
		t.Fatal(err)
	}
	for range 3 {
		add()
		if err := stage.Drained(ctx); err != nil || backlog() != int64(n) {
			t.Fatalf("%d of %d events are in redis, %v", backlog(), n, err)
		}
	}
	// While Redis does not answer, nothing is drained; a rewind drops what is
	// open, but not what is on its way.
	if err := server.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	add()
	first := settles()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !stage.InFlight() {
		<-tick.C
	}
	add()
	second := settles()
	stage.Rewind()
	short, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if err := stage.Drained(short); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("drained while redis stands still: %v", err)
	}
	if err := server.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	for _, done := range []chan error{first, second} {
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
}

// TestParkedRoom: beyond their room parked changes are kept with what their rule shows alone.
func TestParkedRoom(t *testing.T) {
	t.Parallel()
	key, err := state.GenerateKey("k")
	if err != nil {
		t.Fatal(err)
	}
	keys, err := state.ParseKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	stage := bridge.NewStage(queuetest.Open(t, queuetest.StartRedis(t)))
	stage.ParkedRoom(100)
	for i, kept := range []bool{true, false} {
		p, err := stage.Seal(keys, &mapping.Parked{Row: []byte("{}"), Change: []byte(`{"a":1}`)})
		if err != nil || p.Change == nil || kept != (p.Unkept == "") || p.Row != nil {
			t.Errorf("change %d: %d bytes kept, %q, %v", i, len(p.Change), p.Unkept, err)
		}
	}
}
