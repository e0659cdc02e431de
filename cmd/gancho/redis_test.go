package main_test

import (
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// TestRedrivesAtOnce: of several redrives of the same dead letters each is sent once, and
// while the receiver still refuses, they become no more.
func TestRedrivesAtOnce(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, func(w http.ResponseWriter, _ arrival) { w.WriteHeader(http.StatusUnprocessableEntity) })
	b := s.run()
	s.add(b, "crm", r.url(), `"retry_refused": []`)
	const n, redrives = 100, 4
	s.events(1, n)
	r.waitCount(n)
	s.until(n, "select count(*) from gancho.dead_letters")
	// Paused, so that nothing dies again before all redrives exist.
	s.call(b, http.MethodPost, "/endpoints/crm/pause", "", nil)
	b.waitLogs(`"stored":1,`, 2)
	for range redrives {
		s.call(b, http.MethodPost, "/dead-letters/redrive", `{"filter": {"endpoint": "crm"}}`, nil)
	}
	s.until(0, "select count(*) from gancho.jobs where state in ('queued', 'running')")
	s.until(0, "select count(*) from gancho.dead_letters")
	s.call(b, http.MethodPost, "/endpoints/crm/activate", "", nil)
	s.until(n, "select count(*) from gancho.dead_letters")
	all, _ := r.snapshot()
	if len(all) != 2*n {
		t.Errorf("%d requests, want each event once more: %d", len(all), 2*n)
	}
	b.stop()
}

// TestCanceledRedrive: what a redrive has sent when it is canceled, while it waits for the disk,
// the next one does not send again.
func TestCanceledRedrive(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	var fixed atomic.Bool
	r := newReceiver(t, func(w http.ResponseWriter, _ arrival) {
		if !fixed.Load() {
			w.WriteHeader(http.StatusUnprocessableEntity)
		}
	})
	b := s.run()
	s.add(b, "crm", r.url(), `"retry_refused": []`)
	const n = 50
	s.events(1, n)
	r.waitCount(n)
	s.until(n, "select count(*) from gancho.dead_letters")
	fixed.Store(true)
	c := s.redisClient()
	set := func(name, value string) {
		t.Helper()
		if err := c.ConfigSet(t.Context(), name, value).Err(); err != nil {
			t.Fatal(err)
		}
	}
	var jobs struct{ Items []struct{ ID int } }
	// One that has sent nothing, because Redis is full, keeps nothing from the next.
	set("maxmemory", "1")
	s.call(b, http.MethodPost, "/dead-letters/redrive", `{"filter": {"endpoint": "crm"}}`, &jobs)
	b.waitLog("redis does not take a job's events safely now")
	s.call(b, http.MethodPost, fmt.Sprintf("/resends/%d/cancel", jobs.Items[0].ID), "", nil)
	s.until(0, "select count(*) from gancho.jobs where leased is not null")
	set("maxmemory", "0")
	set("rdb-key-save-delay", "300000") // µs
	if err := c.BgRewriteAOF(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	s.call(b, http.MethodPost, "/dead-letters/redrive", `{"filter": {"endpoint": "crm"}}`, &jobs)
	r.waitFor(60*time.Second, "the first redrive", func(all []arrival) bool { return len(all) == 2*n })
	s.call(b, http.MethodPost, fmt.Sprintf("/resends/%d/cancel", jobs.Items[0].ID), "", nil)
	s.call(b, http.MethodPost, "/dead-letters/redrive", `{"filter": {"endpoint": "crm"}}`, nil)
	s.until(0, "select count(*) from gancho.jobs where state in ('queued', 'running')")
	s.until(0, "select count(*) from gancho.dead_letters")
	b.stop()
	if all, _ := r.snapshot(); len(all) != 2*n {
		t.Errorf("%d requests, want each event once more: %d", len(all), 2*n)
	}
}

// TestFlushall: a Redis that is emptied under a running bridge, and under a stopped one, is
// told as that, and no event that was delivered comes again under another webhook-id.
func TestFlushall(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	s.endpoint("crm", r.url())
	b := s.run()
	flush := func() {
		t.Helper()
		if err := s.redisClient().FlushAll(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
	}
	arrived := func(n int) {
		t.Helper()
		r.waitFor(60*time.Second, "every row", func(all []arrival) bool {
			rows := map[string]string{}
			for _, a := range all {
				if other := rows[a.field("seq")]; other != "" && other != a.id {
					t.Fatalf("row %s came as %s and as %s", a.field("seq"), other, a.id)
				}
				rows[a.field("seq")] = a.id
			}
			return len(rows) == n
		})
	}
	s.events(1, 50)
	arrived(50)
	flush()
	s.events(51, 50)
	arrived(100)
	b.waitLog("is no longer in redis")
	s.until(1, "select count(*) from gancho.sources where epoch = 1 and numbers::text like '{\"1\":{%}}'")
	b.stop()
	flush()
	s.events(101, 50)
	b = s.run()
	b.waitLog("redis has lost what it knew of this slot")
	arrived(150)
	if text := b.text(); strings.Contains(text, "another process has claimed") {
		t.Error("an emptied Redis was taken for another process's")
	}
	b.stop()
}

// TestFullRedisDrains: a bridge that starts on a full Redis delivers what makes room.
func TestFullRedisDrains(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	r := newReceiver(t, nil)
	w.endpoint("a", r.url(), "state: paused")
	b := w.run()
	insert := func(from, to string) {
		w.exec("insert into eventos (cliente_id, seq) select g % 20, g from generate_series(" + from + ", " + to + ") g")
	}
	insert("1", "100")
	c := w.redisClient()
	queuetest.Eventually(t, "the backlog", func() bool { return c.XLen(t.Context(), "gancho:{a}:q").Val() == 100 })
	b.stop()
	set := func(bytes string) {
		t.Helper()
		if err := c.ConfigSet(t.Context(), "maxmemory", bytes).Err(); err != nil {
			t.Fatal(err)
		}
	}
	set("1")
	w.endpoints = nil
	w.endpoint("a", r.url())
	b = w.run()
	insert("101", "110")
	delivered := func(n int) {
		t.Helper()
		r.waitFor(60*time.Second, "every row", func(all []arrival) bool {
			rows := map[string]bool{}
			for _, a := range all {
				rows[a.field("seq")] = true
			}
			return len(rows) == n
		})
	}
	b.waitLog("capture waits, and the source keeps its WAL")
	delivered(100)
	set("0")
	delivered(110)
	b.stop()
}

// TestUnsafeSettingIsReported: what stops confirmations is at /readyz and in the metrics.
func TestUnsafeSettingIsReported(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	r := newReceiver(t, nil)
	w.endpoint("a", r.url())
	b := w.run()
	set := func(policy string) {
		t.Helper()
		if err := w.redisClient().ConfigSet(t.Context(), "maxmemory-policy", policy).Err(); err != nil {
			t.Fatal(err)
		}
	}
	base := "http://" + b.listening()
	set("allkeys-lru")
	w.exec("insert into eventos (cliente_id, seq) values (1, 1)")
	r.waitCount(1)
	b.waitLog("positions cannot be confirmed: the slot holds its WAL until this is fixed")
	queuetest.Eventually(t, "/readyz to say so", func() bool {
		status, text := fetch(t, base+"/readyz")
		return status == http.StatusServiceUnavailable && strings.Contains(text, "maxmemory-policy")
	})
	if _, text := fetch(t, base+"/metrics"); !strings.Contains(text, "gancho_confirmations_stopped 1") {
		t.Error("the metric does not say so")
	}
	set("noeviction")
	b.waitLog("positions are confirmed again")
	queuetest.Eventually(t, "the bridge to be ready", func() bool { status, _ := fetch(t, base+"/readyz"); return status == http.StatusOK })
	b.stop()
}
