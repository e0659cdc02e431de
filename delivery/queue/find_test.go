package queue_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/mapping"
)

// TestFind: an event is found by its id for each endpoint that it waits for, and a webhook-id is known as one of the queue's source, by a process that
// captures nothing, too.
func TestFind(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "all"}, endpoint.Endpoint{Name: "tenant-2", Tenants: []string{"2"}}, endpoint.Endpoint{Name: "paused", State: endpoint.Paused})
	b := q.NewBatch()
	one, two := queuetest.Event(1, "k1"), queuetest.Event(2, "k2")
	for _, event := range []*mapping.Event{one, two} {
		if _, err := b.Add(event); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	id, err := queue.NewID(1, two.Position, two.N)
	if err != nil {
		t.Fatal(err)
	}
	webhookID, err := q.WebhookID(two.Position, two.N)
	if err != nil {
		t.Fatal(err)
	}
	other := queuetest.OpenOnly(t, r)
	for name, q := range map[string]*queue.Queue{"the capture": q, "another process": other} {
		found, err := q.Find(t.Context(), id)
		var got []string
		for _, f := range found {
			got = append(got, f.Endpoint+" "+f.Message.ID+" "+f.Message.Key)
		}
		if diff := cmp.Diff([]string{"all " + webhookID + " k2", "paused " + webhookID + " k2"}, got); diff != "" || err != nil {
			t.Errorf("%s: %v -want +got\n%s", name, err, diff)
		}
		unknown, err := queue.NewID(1, cdc.Position{Commit: two.Position.Commit + 1}, two.N)
		if err != nil {
			t.Fatal(err)
		}
		if found, err := q.Find(t.Context(), unknown); len(found) > 0 || err != nil {
			t.Errorf("%s finds %+v, %v", name, found, err)
		}
		source, _, err := queue.ParseWebhookID(webhookID)
		if err != nil {
			t.Fatal(err)
		}
		epoch, err := queue.NewID(2, two.Position, two.N)
		if err != nil {
			t.Fatal(err)
		}
		for text, want := range map[string]bool{webhookID: true, unknown.WebhookID(source): true, id.WebhookID("00000000"): false, epoch.WebhookID(source): false, "evt-1": false, "": false} {
			if is, err := q.Names(t.Context(), text); is != want || err != nil {
				t.Errorf("%s: %q is of the source: %t, %v", name, text, is, err)
			}
		}
	}
}
