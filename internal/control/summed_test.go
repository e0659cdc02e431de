package control_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/rs/zerolog"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/testservers"
)

// TestStatusOfSourcesInTrouble: the sums over several sources are not read again at once where they could not be read, nor at all while Redis is
// unreachable, and nobody waits for them longer than for the answer.
func TestStatusOfSourcesInTrouble(t *testing.T) {
	t.Parallel()
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	q, err := queue.Open(t.Context(), queue.Options{URL: redis.URL(), Logger: zerolog.Nop()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = q.Close() })
	var asked atomic.Int32
	options := control.Options{Queue: q, EachSource: func(context.Context, func(*control.Service) error) error {
		asked.Add(1)
		return errors.New("source a: a fault")
	}}
	s := control.New(options)
	for range 3 {
		if v, err := s.Status(t.Context(), root); err != nil || v.Errors["queue"] != "source a: a fault" {
			t.Errorf("errors %v, %v", v.Errors, err)
		}
	}
	if n := asked.Load(); n != 1 {
		t.Errorf("the sources were asked %d times, want once", n)
	}

	reading, end := make(chan struct{}), make(chan struct{})
	slow := options
	slow.EachSource = func(context.Context, func(*control.Service) error) error {
		close(reading)
		<-end
		return nil
	}
	waiting := control.New(slow)
	done := make(chan error)
	go func() {
		_, err := waiting.Status(context.Background(), root)
		done <- err
	}()
	<-reading
	ended, cancel := context.WithCancel(t.Context())
	second := make(chan error)
	go func() {
		_, err := waiting.Status(ended, root)
		second <- err
	}()
	cancel()
	if err := <-second; err != nil {
		t.Error(err)
	}
	close(end)
	if err := <-done; err != nil {
		t.Error(err)
	}

	asked.Store(0)
	redis.Kill()
	if v, err := control.New(options).Status(t.Context(), root); err != nil || v.Errors["queue"] == "" || asked.Load() != 0 {
		t.Errorf("without redis: errors %v, %v; the sources were asked %d times", v.Errors, err, asked.Load())
	}
}
