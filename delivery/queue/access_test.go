package queue_test

import (
	"errors"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/queue"
)

// What Redis answers to whom it does not let in is what is reported.
func TestRefusalsOfAccess(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	set(t, r, "requirepass", "segredo")
	for url, want := range map[string]string{
		r.URL(): "NOAUTH", "redis://:errada@" + r.Addr(): "WRONGPASS", "redis://ana:errada@" + r.Addr(): "WRONGPASS",
	} {
		_, err := queue.Open(t.Context(), queue.Options{URL: url, Logger: queuetest.Logger(t)})
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, queue.ErrUnreachable) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestNoRoomForAClient(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "maxclients", "1")
	if err := queuetest.Client(t, r).Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	_, err := queue.Open(t.Context(), queue.Options{URL: r.URL(), Logger: queuetest.Logger(t)})
	if !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "max number of clients reached") {
		t.Errorf("got %v, want ErrUnreachable that says why", err)
	}
}
