package queue_test

import (
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// Names are known without scanning the keys, but for what older versions left.
func TestEndpointNames(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	c := queuetest.Client(t, r)
	for _, key := range []string{"gancho:{old}:q", "gancho:{logged}:log", "gancho:{dead}:dead", "other:{x}:q"} {
		if err := c.Do(t.Context(), "XADD", key, "1-1", "t", "x").Err(); err != nil {
			t.Fatal(err)
		}
	}
	a, b := endpoint.Endpoint{Name: "a"}, endpoint.Endpoint{Name: "b"}
	q := queuetest.Open(t, r, a, b)
	queuetest.AppendEvents(t, q, 0, 4, 2, queuetest.KeyModulo(1))
	names := func(want ...string) {
		t.Helper()
		got, err := q.EndpointNames(t.Context())
		if diff := cmp.Diff(want, got); diff != "" || err != nil {
			t.Errorf("names: %v (-want +got):\n%s", err, diff)
		}
	}
	names("a", "b", "dead", "logged", "old")
	scans := queuetest.Calls(t, c)["scan"]
	if err := queuetest.Replay(t.Context(), q, "side", []webhook.Message{{ID: "evt_1", Type: "x.y"}}); err != nil {
		t.Fatal(err)
	}
	names("a", "b", "dead", "logged", "old", "side")
	orphans, err := q.Orphans(t.Context(), queuetest.Endpoints(a))
	if diff := cmp.Diff(map[string]int64{"b": 4, "old": 1}, orphans); diff != "" || err != nil {
		t.Errorf("orphans: %v (-want +got):\n%s", err, diff)
	}
	if err := q.Drop(t.Context(), "b"); err != nil {
		t.Fatal(err)
	}
	names("a", "dead", "logged", "old", "side")
	queuetest.AppendEvents(t, q, 4, 5, 2, queuetest.KeyModulo(1)) // it was added again
	names("a", "b", "dead", "logged", "old", "side")
	if n := queuetest.Calls(t, c)["scan"]; n != scans {
		t.Errorf("%d scans more, want none", n-scans)
	}
}
