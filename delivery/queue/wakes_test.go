package queue_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
)

// TestListenTo: who listens to several queues hears of which something was said, and what.
func TestListenTo(t *testing.T) {
	t.Parallel()
	server := queuetest.StartRedis(t)
	q := queuetest.OpenOnly(t, server)
	other, err := queue.Open(t.Context(), queue.Options{URL: server.URL(), Prefix: "gancho:a", Logger: queuetest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = other.Close() })
	heard := make(chan string)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		q.ListenTo(ctx, func() []string { return []string{"gancho:a"} }, nil, func(prefix string, why queue.Wake) {
			select {
			case heard <- fmt.Sprintf("%s %+v", prefix, why):
			case <-ctx.Done():
			}
		})
	}()
	defer func() { cancel(); <-ended }()
	client := queuetest.Client(t, server)
	publish := func(text string) func() error {
		return func() error { return client.Publish(t.Context(), "gancho:a:wake", text).Err() }
	}
	for _, c := range []struct {
		what string
		do   func() error
		want queue.Wake
	}{
		{"the subscription", func() error { return nil }, queue.Wake{}},
		{"a change of leases", func() error { return other.Worker().WakeAll(t.Context()) }, queue.Wake{}},
		{"an ask to move events", func() error { return other.AskOverflow(t.Context(), map[string]int64{"bi": 1, "crm": 10}) }, queue.Wake{Overflow: true}},
		{"events", publish("bi\ncrm"), queue.Wake{Events: true}},
		{"events of a side stream", publish("crm\x00"), queue.Wake{Events: true}},
	} {
		if err := c.do(); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(fmt.Sprintf("gancho:a %+v", c.want), <-heard); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}
