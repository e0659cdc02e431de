package bridge_test

import (
	"encoding/json"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/bridge"
)

// TestBacklogIsAnnounced: people are told, once, of an endpoint whose oldest event has waited for an hour although nothing says that it fails; and again
// after the backlog was gone. Not of one whose events are new, and not of one that is paused.
func TestBacklogIsAnnounced(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	server := queuetest.StartRedis(t)
	endpoints := []endpoint.Endpoint{
		{Name: "crm", Events: []string{"cobranca.*"}}, {Name: "novo", Events: []string{"pedido.*"}},
		{Name: "parado", Events: []string{"cobranca.*"}, State: endpoint.Paused}, {Name: "ops", Events: []string{"gancho.*"}},
	}
	q, client := queuetest.Open(t, server, endpoints...), queuetest.Client(t, server)
	add := func(n int, event string, committed time.Time) {
		t.Helper()
		e := queuetest.Event(n, "k")
		e.Type, e.Time = event, committed
		b := q.NewBatch()
		if to, err := b.Add(e); err != nil || to == 0 {
			t.Fatalf("add: %d endpoints, %v", to, err)
		}
		if err := q.Append(ctx, b); err != nil {
			t.Fatal(err)
		}
	}
	oldest := time.Now().Add(-2 * time.Hour).UTC().Truncate(time.Microsecond)
	add(1, "cobranca.paga", oldest)
	add(2, "cobranca.paga", time.Now())
	add(3, "pedido.criado", time.Now())
	look := bridge.WarnOfBacklogs(q, endpoints...)
	told := func() []map[string]any {
		t.Helper()
		entries, err := client.XRange(ctx, "gancho:{ops}:x", "-", "+").Result()
		if err != nil {
			t.Fatal(err)
		}
		var all []map[string]any
		for _, e := range entries {
			var data map[string]any
			text, _ := e.Values["d"].(string)
			if err := json.Unmarshal([]byte(text), &data); err != nil {
				t.Fatalf("%v in %v", err, e.Values)
			}
			all = append(all, data)
		}
		return all
	}
	look(ctx)
	look(ctx)
	all := told()
	if len(all) != 1 {
		t.Fatalf("told %d times: %v", len(all), all)
	}
	if got := all[0]; got["endpoint"] != "crm" || got["queued"] != 2.0 || got["oldest"] != oldest.Format(time.RFC3339Nano) || got["link"] != "https://webhooks.example.com/console/endpoints/crm" {
		t.Errorf("told %v", got)
	}
	if err := client.XTrimMaxLen(ctx, "gancho:{crm}:q", 0).Err(); err != nil {
		t.Fatal(err)
	}
	look(ctx)
	add(4, "cobranca.paga", oldest.Add(time.Minute))
	look(ctx)
	if all := told(); len(all) != 2 || all[1]["endpoint"] != "crm" || all[1]["queued"] != 1.0 {
		t.Errorf("after a backlog that was gone, told %v", all)
	}
}
