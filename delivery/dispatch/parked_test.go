package dispatch_test

import (
	"context"
	"errors"
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
		changes = append(changes, queue.Unparked{ID: all[i].ID, Endpoints: queue.Routed(queuetest.Endpoints(unparkEndpoints()...), m.Type, []byte(m.Tenant)), Message: m})
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
			if _, err := q.Unpark(context.WithoutCancel(t.Context()), changes); err != nil {
				t.Error(err)
			}
		})
	}
	group.Wait()
	// Once more, as after a lost answer.
	if n, err := q.Unpark(t.Context(), changes); n != len(changes) || err != nil {
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

func TestRekeyParked(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	testRekeyParked(t, queuetest.Open(t, r, unparkEndpoints()...), queuetest.Client(t, r), "gancho")
}

// testRekeyParked: parked changes are encrypted again where they are. What is parked and
// dropped meanwhile is not lost, nor comes back, and an error changes nothing.
func testRekeyParked(t *testing.T, q *queue.Queue, client redis.UniversalClient, prefix string) {
	t.Helper()
	park := func(numbers ...int) {
		t.Helper()
		b := q.NewBatch()
		for _, i := range numbers {
			p := mapping.Parked{
				Position: cdc.Position{Commit: cdc.LSN(queuetest.LSN(i))}, Type: "e", Rule: "r.yaml:3", Table: "t", Op: cdc.Insert,
				Time: queuetest.Event(i, "").Time, Reason: "first", Change: fmt.Appendf(nil, "old %d", i), Subject: "old",
			}
			if err := b.Park(&p); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	parked := func() (ids []queue.ID, text string) {
		t.Helper()
		all, err := q.ParkedPage(t.Context(), queue.ParkedFilter{}, queue.ID{}, 100, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			ids, text = append(ids, p.ID), text+fmt.Sprintf("%s %s %s, ", p.Change, p.Subject, p.Type)
		}
		return ids, text
	}
	drop := func(id queue.ID) {
		t.Helper()
		if n, err := q.DropParked(t.Context(), []queue.ID{id}); err != nil || n != 1 {
			t.Fatalf("dropped %d, %v", n, err)
		}
	}
	none := func(*queue.ParkedChange) (bool, error) { return false, nil }
	if n, err := q.RekeyParked(t.Context(), none); err != nil || n != 0 {
		t.Errorf("of no change %d were encrypted again, %v", n, err)
	}
	park(0, 1, 2, 3, 4, 5)
	ids, before := parked()
	failed := errors.New("no key")
	if n, err := q.RekeyParked(t.Context(), func(*queue.ParkedChange) (bool, error) { return false, failed }); n != 0 || !errors.Is(err, failed) {
		t.Errorf("%d, %v", n, err)
	}
	if n, err := q.RekeyParked(t.Context(), none); err != nil || n != 0 {
		t.Errorf("%d, %v", n, err)
	}
	if _, after := parked(); after != before {
		t.Errorf("with an error %s became %s", before, after)
	}
	n, err := q.RekeyParked(t.Context(), func(p *queue.ParkedChange) (bool, error) {
		switch p.ID {
		case ids[0]:
			return false, nil // it has the new key already
		case ids[3]:
			drop(ids[1])
			drop(ids[4])
			drop(ids[5])
			park(6, 7)
		case ids[4]:
			last, err := q.LastParked(t.Context())
			if err != nil {
				t.Error(err)
			}
			drop(last) // a last id that no entry has
		}
		p.Change, p.Subject = []byte(strings.Replace(string(p.Change), "old", "new", 1)), "new"
		return true, nil
	})
	if err != nil || n < 4 {
		t.Errorf("%d, %v", n, err)
	}
	const want = "old 0 old e, new 2 new e, new 3 new e, new 6 new e, "
	if _, got := parked(); got != want {
		t.Errorf("parked are %s", got)
	}
	park(5, 6, 7) // as after a replay of the WAL
	if _, got := parked(); got != want {
		t.Errorf("after a replay %s are parked", got)
	}
	if keys, err := client.Keys(t.Context(), prefix+":*rekeyed*").Result(); err != nil || len(keys) != 0 {
		t.Errorf("left are %v, %v", keys, err)
	}
	if ttl, err := client.TTL(t.Context(), prefix+":parked").Result(); err != nil || ttl != -1 {
		t.Errorf("parked changes expire in %s, %v", ttl, err)
	}
}

// TestParkedBytes: a Redis that refuses MEMORY USAGE tells nevertheless about how much room
// parked changes take, and that there is more of it when some are dropped.
func TestParkedBytes(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q, client := queuetest.Open(t, r), queuetest.Client(t, r)
	if err := client.Do(t.Context(), "ACL", "SETUSER", "default", "-memory").Err(); err != nil {
		t.Fatal(err)
	}
	bytes := func() int64 {
		t.Helper()
		n, err := q.ParkedBytes(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if n := bytes(); n != 0 {
		t.Errorf("nothing takes %d bytes", n)
	}
	const size, n = 4000, 40
	b := q.NewBatch()
	for i := range n {
		p := mapping.Parked{Position: cdc.Position{Commit: cdc.LSN(queuetest.LSN(i))}, Rule: "r.yaml:3", Table: "t", Op: cdc.Insert, Time: queuetest.Event(i, "").Time, Change: make([]byte, size)}
		if err := b.Park(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	all := bytes()
	if all < n*size || all > 2*n*size {
		t.Errorf("%d changes of %d bytes take %d", n, size, all)
	}
	ids := []queue.ID{}
	parked, err := q.Parked(t.Context(), queue.ParkedFilter{}, queue.ID{}, n/2)
	if err != nil {
		t.Fatal(err)
	}
	for i := range parked {
		ids = append(ids, parked[i].ID)
	}
	if _, err := q.DropParked(t.Context(), ids); err != nil {
		t.Fatal(err)
	}
	if half := bytes(); half > all*2/3 {
		t.Errorf("half of them take %d bytes of %d", half, all)
	}
}
