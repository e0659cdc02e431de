package dispatch_test

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"

	"gancho/delivery/queue/queuetest"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

func unparkEndpoints() []endpoint.Endpoint {
	return []endpoint.Endpoint{{Name: "a"}, {Name: "b"}, {Name: "tenant-2", Tenants: []string{"2"}}}
}

func TestUnpark(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	testUnpark(t, queuetest.Open(t, r, unparkEndpoints()...), queuetest.Client(t, r), "gancho")
}

// testUnpark: a change leaves the parked ones with its event, which each endpoint gets once,
// under the position's webhook-id, whoever else tries to do the same, or has died over it.
func testUnpark(t *testing.T, q *queue.Queue, client redis.UniversalClient, prefix string) {
	t.Helper()
	const n = 8
	b := q.NewBatch()
	for i := range n {
		p := mapping.Parked{
			Position: cdc.Position{Commit: cdc.LSN(queuetest.LSN(i)), Ordinal: 3}, N: 7, Type: fmt.Sprint("evento.", i%2), Rule: "r.yaml:3", Table: "t",
			Op: cdc.Insert, Time: queuetest.Event(i, "").Time, Reason: "first", Change: []byte("sealed"),
		}
		if i == 5 {
			p.Change, p.Unkept = nil, "too large"
		}
		if err := b.Park(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	list := func(f queue.ParkedFilter) (text []string, all []queue.ParkedChange) {
		t.Helper()
		all, err := q.Parked(t.Context(), f, queue.ID{}, n)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			text = append(text, fmt.Sprintf("%d %s %v", (uint64(p.ID.Position().Commit)-queuetest.LSN(0))/0x100, p.Reason, p.Redrivable))
		}
		return text, all
	}
	_, all := list(queue.ParkedFilter{})
	if len(all) != n {
		t.Fatalf("%d are parked", len(all))
	}
	for _, c := range []struct {
		filter queue.ParkedFilter
		want   string
	}{
		{queue.ParkedFilter{IDs: []queue.ID{all[6].ID, all[1].ID}}, "1 first true,6 first true"},
		{queue.ParkedFilter{Events: []string{"*.1"}, From: all[3].Time, To: all[6].Time}, "3 first true,5 first false"},
		{queue.ParkedFilter{WebhookIDs: []string{all[4].WebhookID}}, "4 first true"},
		{queue.ParkedFilter{Events: []string{"outro"}}, ""},
		{queue.ParkedFilter{Last: all[1].ID}, "0 first true,1 first true"},
	} {
		if got, _ := list(c.filter); strings.Join(got, ",") != c.want {
			t.Errorf("%+v: %v, want %s", c.filter, got, c.want)
		}
	}

	if last, err := q.LastParked(t.Context()); err != nil || last != all[n-1].ID {
		t.Errorf("the last is %s, %v", last, err)
	}
	if bytes, err := q.ParkedBytes(t.Context()); err != nil || bytes < n*10 {
		t.Errorf("%d parked changes have %d bytes, %v", n, bytes, err)
	}

	var changes []queue.Unparked
	for i := range 4 {
		m := webhook.Message{
			ID: all[i].WebhookID, Type: all[i].Type, Tenant: "1", Key: "k", Time: all[i].Time, Data: fmt.Appendf(nil, `{"id":%d,"key":"k"}`, i),
		}
		changes = append(changes, queue.Unparked{ID: all[i].ID, Endpoints: queue.Routed(unparkEndpoints(), m.Type, []byte(m.Tenant)), Message: m})
	}
	changes[3].Endpoints = nil // its rule no longer fires
	// Of a cluster, a has got the first one from a process that died then.
	_, cluster := client.(*redis.ClusterClient)
	if cluster {
		if err := client.HSet(t.Context(), prefix+":{a}:jobs", "parked "+all[0].ID.String(), "1").Err(); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.StillParked(t.Context(), all[4].ID, "second"); err != nil {
		t.Fatal(err)
	}
	if err := q.StillParked(t.Context(), all[0].ID, "second"); err != nil {
		t.Fatal(err)
	}
	var group sync.WaitGroup
	tries := 4
	if cluster { // there one process does so at a time
		tries = 1
	}
	for range tries {
		group.Go(func() {
			if err := q.Unpark(context.WithoutCancel(t.Context()), changes); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	// Once more, as after a lost answer.
	if err := q.Unpark(t.Context(), changes); err != nil {
		t.Error(err)
	}
	for e, want := range map[string][]queue.ParkedChange{"a": all[:3], "b": all[:3], "tenant-2": nil} {
		if cluster && e == "a" {
			want = want[1:]
		}
		entries, err := client.XRange(t.Context(), prefix+":{"+e+"}:x", "-", "+").Result()
		if err != nil || len(entries) != len(want) {
			t.Fatalf("%s got %v, %v", e, entries, err)
		}
		for i := range entries { // "s" would be another sequence than the webhook-id's
			if v := entries[i].Values; v["w"] != want[i].WebhookID || v["r"] != "1" || v["s"] != nil {
				t.Errorf("%s got %v, want %s", e, v, want[i].WebhookID)
			}
		}
	}
	if got, _ := list(queue.ParkedFilter{}); strings.Join(got, ",") != "4 second true,5 first false,6 first true,7 first true" {
		t.Errorf("still parked: %v", got)
	}
	// What has gone leaves no reason behind.
	reasons := prefix + ":{" + prefix + ":parked}:reasons"
	if err := client.XDel(t.Context(), prefix+":parked", all[4].ID.String()).Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.ForgetReasons(t.Context()); err != nil {
		t.Fatal(err)
	}
	if left, err := client.HKeys(t.Context(), reasons).Result(); err != nil || len(left) != 0 {
		t.Errorf("reasons of %v, %v", left, err)
	}
	if dropped, err := q.DropParked(t.Context(), []queue.ID{all[0].ID, all[5].ID, all[6].ID}); err != nil || dropped != 2 {
		t.Errorf("dropped %d, %v", dropped, err)
	}
}
