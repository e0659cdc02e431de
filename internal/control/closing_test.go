package control_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestClosingOfSource: the webhook-ids of a day of one of several databases are its own alone, also while Redis cannot say which these are: then there is an
// error, and not those of all.
func TestClosingOfSource(t *testing.T) {
	t.Parallel()
	w := newEventWorld(t)
	ctx, now := context.Background(), time.Now().UTC().Truncate(time.Microsecond)
	var attempts []state.Attempt
	for _, id := range []string{w.alfa, "76543210-001-0000000000001000-000000000000-0000"} {
		attempts = append(attempts, state.Attempt{Time: now, Endpoint: "todos", Entry: "1234567890123456-" + id, WebhookID: id, Event: "x.y", Tenant: "alfa", Committed: now, Number: 1, Outcome: "delivered"})
	}
	if err := w.Store.WriteAttempts(ctx, attempts); err != nil {
		t.Fatal(err)
	}
	list := func(unclaimed bool) (ids []string, err error) {
		day := string(endpoint.DayOf(now))
		err = w.house.Of(ctx, root, "alfa", func(of *control.Service) error {
			if unclaimed {
				o := of.Options
				o.Queue = w.Queue
				of = control.New(o)
			}
			page, err := of.Closing(ctx, root, "todos", day, "", 0)
			for _, e := range page.Items {
				ids = append(ids, e.WebhookID)
			}
			return err
		})
		return ids, err
	}
	if ids, err := list(false); err != nil || !cmp.Equal(ids, []string{w.alfa}) {
		t.Errorf("of one source: %q, %v", ids, err)
	}
	w.unreachable["alfa"] = queue.ErrUnreachable
	if ids, err := list(false); !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("without its queue: %q, %v", ids, err)
	}
	if ids, err := list(true); !errors.Is(err, queue.ErrNotClaimed) {
		t.Errorf("of one that was never read: %q, %v", ids, err)
	}
}
