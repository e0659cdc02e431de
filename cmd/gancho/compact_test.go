package main_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// TestCompactAfterKills kills the bridge and Redis under load while a receiver that wants states is slow and fails: its last
// event of each key is the newest, one that wants histories has all, and everything is accounted for.
func TestCompactAfterKills(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules, w.extra = loadRules, "state: {key: '"+stateKey+"', keep_events: 7d}"
	var requests atomic.Int64
	var calm atomic.Bool
	states := newReceiver(t, func(out http.ResponseWriter, _ arrival) {
		if calm.Load() {
			return
		}
		<-time.After(20 * time.Millisecond) // a slow receiver
		if requests.Add(1)%4 == 0 {
			out.WriteHeader(http.StatusInternalServerError)
		}
	})
	histories := newReceiver(t, nil)
	w.endpoint("states", states.url(), "compact: key", "retry: [20ms, 20ms, 20ms, 20ms, 1h, 1h, 1h]")
	w.endpoint("histories", histories.url())
	b := w.run()
	l := startLoad(t, w.dsn, loadPace)
	for round := range 6 {
		l.waitRows(50 + random.IntN(100))
		if round%3 == 2 {
			w.redis.Kill()
			if err := w.redis.Start(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b.kill()
		b = w.run()
	}
	rows := l.stop()
	calm.Store(true)
	var p proof
	queuetest.Eventually(t, "everything delivered and counted", func() bool {
		_, stdout, _ := command(t, "prove", "--json", "--from", "1h", "--config", w.write())
		p = proof{}
		if json.Unmarshal([]byte(stdout), &p) != nil || len(p.Rules) != 1 || p.Rules[0].Seen < rows {
			return false
		}
		waiting := 0
		for _, e := range p.Rules[0].Endpoints {
			waiting += e.Waiting
		}
		return waiting == 0
	})
	if p = w.prove(0); len(p.Rules[0].Endpoints) != 2 {
		t.Fatalf("%+v", p.Rules)
	}
	all, compacted := p.Rules[0].Endpoints[0], p.Rules[0].Endpoints[1]
	if all.Delivered != rows || all.Superseded != 0 {
		t.Errorf("histories: %+v, want all %d delivered", all, rows)
	}
	if compacted.Superseded == 0 || compacted.Delivered+compacted.Superseded != rows {
		t.Errorf("states: %+v, want %d delivered or superseded", compacted, rows)
	}
	last := map[string]string{}
	for _, got := range arrivalsOf(states) {
		last[got.field("cliente_id")] = got.field("seq")
	}
	newest := map[string]string{}
	found, err := w.connect().Query(t.Context(), "select cliente_id::text, max(seq)::text from eventos group by 1")
	if err != nil {
		t.Fatal(err)
	}
	for found.Next() {
		var key, seq string
		if err := found.Scan(&key, &seq); err != nil {
			t.Fatal(err)
		}
		newest[key] = seq
	}
	if err := found.Err(); err != nil {
		t.Fatal(err)
	}
	for key, seq := range newest {
		if last[key] != seq {
			t.Errorf("key %s: the last one that arrived is %s, the newest is %s", key, last[key], seq)
		}
	}
	count := func(outcome string) (n int) {
		code, stdout, stderr := command(t, "deliveries", "--endpoint", "states", "--outcome", outcome, "--all", "--json", "--config", w.write())
		if code != 0 {
			t.Fatal(code, stderr)
		}
		return strings.Count(strings.ReplaceAll(stdout, `": "`, `":"`), `"outcome":"`+outcome+`"`)
	}
	queuetest.Eventually(t, "the delivery log", func() bool { return count("superseded") == compacted.Superseded })
	t.Logf("%d rows, %d superseded, %d requests", rows, compacted.Superseded, requests.Load())
	b.stop()
}
