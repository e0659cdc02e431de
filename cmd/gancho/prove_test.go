package main_test

import (
	"encoding/json"
	"net/http"
	"strconv"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// proveRules have every outcome: all changes match one, half of them another, a third of them cannot
// be mapped by the next, and the last makes one event of all the rows of a transaction.
const proveRules = loadRules + `
  - event: evento.par
    table: eventos
    on: insert
    when: seq % 2 = 0
    key: cliente_id
    columns: [id, seq]
  - event: evento.falha
    table: eventos
    on: insert
    when: 10 / (seq % 3) > 0
    columns: [id, seq]
  - event: evento.lote
    table: eventos
    on: insert
    key: cliente_id
    collapse: cliente_id
    data: {cliente: cliente_id}
`

// proof is what gancho prove --json prints.
type proof struct {
	Rules []struct {
		Event                                                          string
		Seen, Matched, Filtered, Collapsed, Repeated, Parked, Backfill int
		Endpoints                                                      []proofOf
	}
	Differences []string
}

type proofOf struct {
	Endpoint                                    string
	Appended, Delivered, Dead, Waiting, Dropped int
	Superseded                                  int
}

// prove runs gancho prove, which finds differences or not.
func (w *world) prove(code int) proof {
	w.t.Helper()
	got, stdout, stderr := command(w.t, "prove", "--json", "--from", "1h", "--config", w.write())
	var p proof
	if err := json.Unmarshal([]byte(stdout), &p); err != nil || got != code {
		w.t.Fatalf("prove: exit code %d, want %d: %v\n%s%s", got, code, err, stdout, stderr)
	}
	return p
}

// TestProveAfterKills kills the bridge and Redis under load, and then compares each number of gancho prove with
// what the source and the receivers know: nothing may be counted twice or left out.
func TestProveAfterKills(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = proveRules
	a := newReceiver(t, nil)
	refuses := newReceiver(t, func(out http.ResponseWriter, got arrival) {
		if seq, err := strconv.Atoi(got.field("seq")); err == nil && seq%4 == 0 {
			out.Header().Set("webhook-delivery", "abort")
			out.WriteHeader(http.StatusTeapot)
		}
	})
	w.endpoint("a", a.url(), "events: [evento.criado, evento.lote]")
	w.endpoint("b", refuses.url(), "events: [evento.par, evento.falha]")
	w.endpoint("c", a.url(), "events: [evento.par]", "state: paused")
	b := w.run()
	l := startLoad(t, w.dsn, loadPace)
	for round := range 8 {
		l.waitRows(50 + random.IntN(150))
		if round%4 == 3 {
			w.redis.Kill()
			l.waitRows(random.IntN(50))
			if err := w.redis.Start(); err != nil {
				t.Fatal(err)
			}
			continue
		}
		b.kill()
		b = w.start("run", "--create", "--config", w.write())
		if random.IntN(2) == 0 {
			b.waitLog("bridge is ready")
		}
	}
	rows := l.stop()
	b.waitLog("bridge is ready")
	count := func(sql string) (n int) {
		t.Helper()
		if err := w.connect().QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	even, parked := count("select count(*) from eventos where seq % 2 = 0"), count("select count(*) from eventos where seq % 3 = 0")
	batches, refused := count("select count(distinct xmin::text) from eventos"), count("select count(*) from eventos where seq % 4 = 0")
	lost := count("select count(*) from eventos where seq % 4 = 0 and seq % 3 <> 0")
	var p proof
	queuetest.Eventually(t, "everything delivered and counted", func() bool {
		_, stdout, _ := command(t, "prove", "--json", "--from", "1h", "--config", w.write())
		p = proof{}
		if json.Unmarshal([]byte(stdout), &p) != nil || len(p.Rules) != 4 {
			return false
		}
		waiting := 0
		for _, r := range p.Rules {
			for _, e := range r.Endpoints {
				if e.Endpoint != "c" {
					waiting += e.Waiting
				}
			}
		}
		return waiting == 0 && p.Rules[0].Seen >= rows
	})
	p = w.prove(0)
	want := map[string][]int{
		"evento.criado": {rows, rows, 0, 0, 0, 0},
		"evento.par":    {rows, even, rows - even, 0, 0, 0},
		"evento.falha":  {rows, rows - parked, 0, 0, 0, parked},
		"evento.lote":   {rows, batches, 0, rows - batches, 0, 0},
	}
	wantOf := map[string][]proofOf{
		"evento.criado": {{"a", rows, rows, 0, 0, 0, 0}},
		"evento.par":    {{"b", even, even - refused, refused, 0, 0, 0}, {"c", even, 0, 0, even, 0, 0}},
		"evento.falha":  {{"b", rows - parked, rows - parked - lost, lost, 0, 0, 0}},
		"evento.lote":   {{"a", batches, batches, 0, 0, 0, 0}},
	}
	got, gotOf := map[string][]int{}, map[string][]proofOf{}
	for _, r := range p.Rules {
		got[r.Event], gotOf[r.Event] = []int{r.Seen, r.Matched, r.Filtered, r.Collapsed, r.Repeated, r.Parked}, r.Endpoints
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rules, of %d rows: %s", rows, diff)
	}
	if diff := cmp.Diff(wantOf, gotOf); diff != "" {
		t.Errorf("endpoints: %s", diff)
	}
	// An event that vanishes from its queue behind Gancho's back is a difference.
	c := w.redisClient()
	first, err := c.XRangeN(t.Context(), "gancho:{c}:q", "-", "+", 1).Result()
	if err != nil || len(first) != 1 {
		t.Fatal(len(first), err)
	}
	if err := c.XDel(t.Context(), "gancho:{c}:q", first[0].ID).Err(); err != nil {
		t.Fatal(err)
	}
	if p = w.prove(3); len(p.Differences) != 1 {
		t.Errorf("differences: %q", p.Differences)
	}
	b.stop()
}
