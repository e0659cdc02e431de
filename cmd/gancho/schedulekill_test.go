package main_test

import (
	"context"
	"fmt"
	"testing"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// TestScheduleKilled: the bridge is killed again and again in the middle of a run, and Redis once. Each row is queued, and
// none twice; meanwhile nothing in the source is held.
func TestScheduleKilled(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const rows, kills = 45_000, 3
	w := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, empresa_id int)",
		fmt.Sprintf("insert into clientes select i, i %% 3 from generate_series(1, %d) i", rows))
	w.rules = `rules:
  - event: cliente.ausente
    schedule: every 10s
    query: select id, empresa_id, repeat('x', 200) as texto from clientes order by empresa_id, id desc
    once: [id]
    tenant: empresa_id
    columns: [id, texto]
`
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url(), "state: paused")
	w.extra = "state:\n  key: " + stateKey
	s := &session{world: w, path: w.write()}
	s.ok("migrate")
	queued := func() int64 { return w.redisClient().XLen(context.Background(), "gancho:{crm}:x").Val() }
	inside := 0
	for kill := range kills {
		b := w.run()
		before := queued()
		queuetest.Eventually(t, "more events", func() bool { return queued() > before })
		if kill == 1 {
			w.redis.Kill()
			// Nothing of the run is open in the source while it waits.
			w.exec("set lock_timeout = '5s'; alter table clientes add column nova int; reset lock_timeout")
			if err := w.redis.Start(); err != nil {
				t.Fatal(err)
			}
		}
		b.kill()
		if n := queued(); n < rows {
			inside++
		}
	}
	if inside == 0 {
		t.Error("the run was never killed in the middle")
	}
	b := w.run()
	queuetest.Eventually(t, "all rows", func() bool { return queued() >= rows })
	b.waitLog("scheduled run ended")
	ids, data := map[any]bool{}, map[any]bool{}
	entries, err := w.redisClient().XRange(context.Background(), "gancho:{crm}:x", "-", "+").Result()
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		ids[e.Values["w"]], data[e.Values["d"]] = true, true
	}
	if len(entries) != rows || len(ids) != rows || len(data) != rows {
		t.Errorf("%d rows are %d events under %d webhook-ids, of %d rows", rows, len(entries), len(ids), len(data))
	}
	b.stop()
}
