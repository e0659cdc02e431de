package main_test

import (
	"encoding/base64"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// TestStateDatabaseAway: while the state database is stopped, deliveries go on;
// afterwards the log is complete and has nothing twice.
func TestStateDatabaseAway(t *testing.T) {
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	s := newStateful(t, server, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	s.endpoint("crm", r.url())
	b := s.run()
	s.events(1, 200)
	r.waitCount(200)
	s.until(200, "select count(*) from gancho.attempts where outcome = 'delivered'")

	server.Stop("immediate")
	s.events(201, 500)
	r.waitCount(700)
	b.waitLog("they wait in redis")
	s.events(701, 100)
	r.waitCount(800)
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	b.waitLog("are stored again")
	s.until(800, "select count(*) from gancho.attempts where outcome = 'delivered'")
	s.until(800, "select count(distinct webhook_id) from gancho.attempts")
	if n := strings.Count(b.text(), "they wait in redis"); n > 2 {
		t.Errorf("the outage was said %d times", n)
	}
	// Changes of endpoints are seen again, too.
	second := newReceiver(t, nil)
	s.add(b, "erp", second.url())
	l := startLoad(t, s.dsn, loadPace)
	second.waitFor(30*time.Second, "an event for an endpoint added after the outage", func(a []arrival) bool { return len(a) > 0 })
	l.stop()
	b.stop()
}

// TestKillWhileRecording kills the bridge again and again: each delivery that
// was acknowledged is in the log once, and each kept event once.
func TestKillWhileRecording(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	s.endpoint("crm", r.url())
	b := s.run()
	l := startLoad(t, s.dsn, loadPace)
	for range 5 {
		l.waitRows(100 + random.IntN(200))
		b.kill()
		b = s.run()
	}
	rows := l.stop()
	r.waitCount(rows)
	s.until(rows, "select count(*) from gancho.attempts where outcome = 'delivered'")
	s.until(rows, "select count(distinct webhook_id) from gancho.attempts where outcome = 'delivered'")
	s.until(rows, "select count(*) from gancho.events")
	b.stop()
}

// TestRedrive: dead letters move to the store; a job sends them again under
// their webhook-ids, over a kill of the bridge, each at least once.
func TestRedrive(t *testing.T) {
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
	const n = 1200
	s.events(1, n)
	refused := r.waitCount(n)
	s.until(n, "select count(*) from gancho.dead_letters")
	want := map[string]bool{}
	for _, a := range refused {
		want[a.id] = true
	}
	fixed.Store(true)
	var jobs struct{ Items []struct{ ID int } }
	s.call(b, http.MethodPost, "/dead-letters/redrive", `{"filter": {"endpoint": "crm"}, "rate": 400}`, &jobs)
	if len(jobs.Items) != 1 {
		t.Fatalf("the redrive made %d jobs", len(jobs.Items))
	}
	r.waitFor(60*time.Second, "replays", func(all []arrival) bool { return len(all) >= len(refused)+500 })
	b.kill()
	b = s.run()
	s.until(1, "select count(*) from gancho.jobs where state = 'done'")
	s.until(0, "select count(*) from gancho.dead_letters")
	seen := map[string]bool{}
	r.waitFor(60*time.Second, "every dead letter again", func(all []arrival) bool {
		for _, a := range all[len(refused):] {
			if !a.replay || !want[a.id] {
				t.Fatalf("%s arrived, replay %v", a.id, a.replay)
			}
			seen[a.id] = true
		}
		return len(seen) == n
	})
	s.until(n, "select count(distinct webhook_id) from gancho.attempts where replay and outcome = 'delivered'")
	b.stop()
}

// TestResend sends kept events again, as the key chooses them, and nothing else.
func TestResend(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	s.endpoint("crm", r.url())
	b := s.run()
	s.events(1, 100)
	sent := map[string]string{}
	for _, a := range r.waitCount(100) {
		sent[a.id] = string(a.body)
	}
	s.until(100, "select count(*) from gancho.events")
	var job struct{ Total, ID int }
	s.call(b, http.MethodPost, "/resends", `{"endpoint": "crm", "filter": {"key": "7"}, "dry_run": true}`, &job)
	if job.Total != 5 || job.ID != 0 {
		t.Errorf("the dry run says %+v, want 5 events", job)
	}
	s.call(b, http.MethodPost, "/resends", `{"endpoint": "crm", "filter": {"key": "7"}}`, &job)
	again := r.waitFor(60*time.Second, "resent events", func(all []arrival) bool { return len(all) >= 105 })[100:]
	for _, a := range again {
		if !a.replay || a.field("cliente_id") != "7" || sent[a.id] != string(a.body) {
			t.Errorf("%s (replay %v) was resent as %s, first sent as %s", a.id, a.replay, a.body, sent[a.id])
		}
	}
	s.until(1, "select count(*) from gancho.jobs where state = 'done' and sent = 5 and total = 5")
	b.stop()
}

// TestJobsThatWait hold up neither the others, nor lose their lease: those for
// their rate, and one for a full Redis.
func TestJobsThatWait(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	s.endpoint("crm", r.url())
	b := s.run()
	s.events(1, 20)
	r.waitCount(20)
	s.until(20, "select count(*) from gancho.events")
	for range 10 {
		s.call(b, http.MethodPost, "/resends", `{"endpoint": "crm", "filter": {"events": ["*"]}, "rate": 0.01}`, nil)
	}
	s.call(b, http.MethodPost, "/resends", `{"endpoint": "crm", "filter": {"events": ["*"]}}`, nil)
	s.until(1, "select count(*) from gancho.jobs where state = 'done' and sent = 20")

	client := s.redisClient()
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	s.call(b, http.MethodPost, "/resends", `{"endpoint": "crm", "filter": {"key": "7"}}`, nil)
	s.until(1, "select count(*) from gancho.jobs where rate = 0 and state = 'running' and leased > started + interval '13 seconds'")
	s.until(1, "select count(*) from gancho.jobs where rate = 0 and state = 'running' and sent = 0 and claims = 1")
	if err := client.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	s.until(2, "select count(*) from gancho.jobs where rate = 0 and state = 'done' and sent = total and claims = 1")
	b.stop()
}

// TestOperationalEvents: a subscriber is told of dead letters, of an endpoint
// that pauses and of its recovery, and of a slot that lags; one that takes
// everything is not.
func TestOperationalEvents(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	var gone atomic.Bool
	r := newReceiver(t, func(w http.ResponseWriter, a arrival) {
		switch {
		case gone.Load():
			w.WriteHeader(http.StatusGone)
		case a.field("seq") == "1":
			w.WriteHeader(http.StatusBadRequest)
		}
	})
	everything, operations := newReceiver(t, nil), newReceiver(t, nil)
	s.endpoint("crm", r.url(), "retry_refused: []")
	s.endpoint("everything", everything.url(), `events: ["*"]`)
	s.endpoint("operations", operations.url(), `events: ["gancho.*"]`)
	b := s.run()
	next := func(what string, fields map[string]string) {
		t.Helper()
		operations.waitFor(30*time.Second, what, func(all []arrival) bool {
			for _, a := range all {
				ok := a.event == what
				for name, value := range fields {
					ok = ok && a.field(name) == value
				}
				if ok && !a.replay {
					return true
				}
			}
			return false
		})
	}
	s.events(1, 1)
	refused := r.waitCount(1)[0]
	next("gancho.dead_letter", map[string]string{"endpoint": "crm", "event": "evento.criado", "webhook_id": refused.id})
	gone.Store(true)
	s.events(2, 1)
	next("gancho.endpoint.paused", map[string]string{"endpoint": "crm"})
	gone.Store(false)
	s.call(b, http.MethodPost, "/endpoints/crm/activate", "", nil)
	next("gancho.endpoint.recovered", map[string]string{"endpoint": "crm"})
	b.stop()
	everything.waitCount(2)
	if all, _ := everything.snapshot(); len(all) != 2 {
		t.Errorf("the endpoint that takes everything got %d events, want the 2 of the rules", len(all))
	}
}

// TestSlotLagging: with Redis stopped nothing is confirmed, and the source
// holds its WAL; subscribers are told when Redis is back.
func TestSlotLagging(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	operations := newReceiver(t, nil)
	s.endpoint("operations", operations.url(), "events: [gancho.slot.lagging]")
	s.source = "  lag_warning: 1MiB"
	b := s.run()
	s.redis.Kill()
	for range 4 {
		s.exec("select pg_logical_emit_message(false, 'carga', repeat('x', 1000000))")
	}
	s.events(1, 10)
	b.waitLog("of WAL for the slot")
	if err := s.redis.Start(); err != nil {
		t.Fatal(err)
	}
	got := operations.waitFor(60*time.Second, "gancho.slot.lagging", func(all []arrival) bool { return len(all) > 0 })[0]
	if got.event != "gancho.slot.lagging" || got.field("slot") != s.slot() || len(got.field("held_bytes")) < 7 {
		t.Errorf("it says %s", got.body)
	}
	b.stop()
}

// TestRotation: the receiver can verify with the old secret and with the new
// one for as long as they overlap, and then with the new one alone.
func TestRotation(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	b := s.run()
	s.add(b, "crm", r.url())
	old, err := endpoint.ParseSecret(secret)
	if err != nil {
		t.Fatal(err)
	}
	next, err := endpoint.ParseSecret("whsec_" + base64.StdEncoding.EncodeToString([]byte("outro-segredo-de-32-bytes-gancho")))
	if err != nil {
		t.Fatal(err)
	}
	verifies := func(a arrival, by endpoint.Secret) bool {
		h := http.Header{}
		h.Set("webhook-id", a.id)
		h.Set("webhook-timestamp", a.stamp)
		h.Set("webhook-signature", a.signature)
		return webhook.Verify([]endpoint.Secret{by}, h, a.body, time.Now()) == nil
	}
	l := startLoad(t, s.dsn, loadPace)
	// signed waits for an event that is signed by just these.
	signed := func(what string, byOld, byNext bool) {
		t.Helper()
		all, _ := r.snapshot()
		from := len(all)
		r.waitFor(30*time.Second, what, func(all []arrival) bool {
			for _, a := range all[min(from, len(all)):] {
				if verifies(a, old) == byOld && verifies(a, next) == byNext {
					return true
				}
			}
			return false
		})
	}
	signed("the old secret", true, false)
	s.call(b, http.MethodPost, "/endpoints/crm/rotate", `{"secret": "`+next.Reveal()+`", "overlap": "3s"}`, nil)
	signed("both secrets", true, true)
	signed("the new secret alone", false, true)
	l.stop()
	b.stop()
}

// TestRemove: an endpoint's queue stays when it is removed, and goes when that
// was asked for; what was recorded stays.
func TestRemove(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	b := s.run()
	for _, name := range []string{"kept", "dropped"} {
		s.add(b, name, r.url())
		s.call(b, http.MethodPost, "/endpoints/"+name+"/pause", "", nil)
	}
	client := s.redisClient()
	queued := func(name string) int64 { return client.XLen(t.Context(), "gancho:{"+name+"}:q").Val() }
	// Until both are paused in the bridge, too, events may still be sent.
	seq := 1
	for queued("kept") < 20 || queued("dropped") < 20 {
		s.events(seq, 1)
		seq++
	}
	before := queued("kept")
	s.call(b, http.MethodDelete, "/endpoints/kept", "", nil)
	s.call(b, http.MethodDelete, "/endpoints/dropped?drop_queue=true", "", nil)
	b.waitLog("queue dropped")
	s.until(0, "select count(*) from gancho.drops")
	keys, err := client.Keys(t.Context(), "gancho:{dropped}:*").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, key := range keys {
		if !strings.HasSuffix(key, ":fence") && !strings.Contains(key, "}:tally:") { // what was counted of them expires
			t.Errorf("%s is left", key)
		}
	}
	if n := queued("kept"); n < before {
		t.Errorf("%d of %d events are left in the queue that was to stay", n, before)
	}
	// The name may be used again, and what waits is delivered then.
	s.stored = 0
	s.add(b, "kept", r.url())
	r.waitCount(int(before))
	b.stop()
}

// TestDropBeforeRemoval: a bridge that sees that a queue is to be dropped before
// it has applied that the endpoint was removed drops it nevertheless.
func TestDropBeforeRemoval(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	b := s.run()
	s.add(b, "crm", newReceiver(t, nil).url())
	s.call(b, http.MethodPost, "/endpoints/crm/pause", "", nil)
	client := s.redisClient()
	for seq := 1; client.XLen(t.Context(), "gancho:{crm}:q").Val() == 0; seq++ {
		s.events(seq, 1)
	}
	const looks = "select (seq_scan + coalesce(idx_scan, 0))::int from pg_stat_user_tables where schemaname = 'gancho' and relname = 'drops'"
	s.execState("insert into gancho.drops (name) values ('crm')")
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for first := s.count(looks); s.count(looks) < first+3; {
		<-tick.C
	}
	s.until(1, "select count(*) from gancho.drops")
	s.call(b, http.MethodDelete, "/endpoints/crm", "", nil)
	b.waitLog("queue dropped")
	s.until(0, "select count(*) from gancho.drops")
	if n := client.XLen(t.Context(), "gancho:{crm}:q").Val(); n != 0 {
		t.Errorf("%d events are left", n)
	}
	b.stop()
}
