package main_test

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestFailedTimers: a timer whose event cannot be computed is parked, over kill -9 of bridge and Redis, until it is redriven or dropped, or a change of the row moves
// or cancels it; the events of the others are sent.
func TestFailedTimers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, timedTable)
	w.extra = "state: {key: '" + stateKey + "'}"
	r := newReceiver(t, nil)
	w.rules = `
rules:
  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '02', after: vence, data: {id: id, total: 100 / total}}
`
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("insert into pedidos select i, '02', i / 6, now() + interval '1 second' from generate_series(1, 6) i") // 0 but of row 6
	r.waitCount(1)
	b.waitLog("the timer is parked")
	s := &session{world: w, path: w.write()}
	parked := func() []queue.ParkedChange {
		return decoded[control.Page[queue.ParkedChange]](s, "parked", "list").Items
	}
	keys := func() (keys []string) {
		for _, p := range parked() {
			keys = append(keys, p.RowKey)
		}
		return keys
	}
	waitKeys := func(want ...string) {
		t.Helper()
		queuetest.Eventually(t, fmt.Sprintf("%q are parked", want), func() bool { return fmt.Sprint(keys()) == fmt.Sprint(want) })
	}
	waitKeys("1", "2", "3", "4", "5")
	if text := s.ok("why", "--table", "pedidos", "--key", "5", "--url", "http://"+b.listening()); !strings.Contains(text, "which was due and is parked: ") || !strings.Contains(text, "division by zero (SQLSTATE 22012); see gancho parked list") {
		t.Errorf("why: %s", text)
	}
	b.kill()
	w.redis.Kill()
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	b = w.run()
	for _, p := range parked() {
		if p.Operation != "timer" || p.Type != "vencido" || !strings.Contains(p.Rule, "rules.yaml:3") || p.Table != "public.pedidos" || !strings.Contains(p.Reason, "division by zero") || !p.Redrivable || p.Time.IsZero() || p.WebhookID == "" {
			t.Errorf("%+v", p)
		}
	}
	status := decoded[control.StatusView](s, "status")
	if status.Parked != 5 || len(status.Timers) != 1 || status.Timers[0].Pending != 0 || status.Timers[0].Failed != 5 || !status.Timers[0].Next.IsZero() {
		t.Errorf("%d parked, %+v", status.Parked, status.Timers)
	}
	if groups := decoded[control.Page[control.ParkedGroup]](s, "parked", "groups").Items; len(groups) != 1 || groups[0].Count != 5 || groups[0].Redrivable != 5 || groups[0].Sample.RowKey != "1" {
		t.Errorf("%+v", groups)
	}
	first := parked()[0]
	if text := s.ok("parked", "show", first.ID.String()); !strings.Contains(text, "key         1\n") {
		t.Errorf("show: %s", text)
	}
	// A change that leaves it due as it was changes nothing, and what is redriven and fails again is parked again.
	w.exec("update pedidos set total = 5 where id = 3")
	s.ok("parked", "redrive", "--all", "--wait")
	all := timerEvents(t, r.waitCount(2))
	if all[1].Data.ID != 3 || all[1].Data.Total != 20 {
		t.Errorf("%+v", all[1])
	}
	waitKeys("1", "2", "4", "5")
	w.exec("delete from pedidos where id = 1")                                // canceled
	w.exec("update pedidos set situacao = '09' where id = 2")                 // canceled
	w.exec("update pedidos set vence = '2095-03-01', total = 1 where id = 4") // moved
	waitKeys("5")
	status = decoded[control.StatusView](s, "status")
	if status.Parked != 1 || status.Timers[0].Pending != 1 || status.Timers[0].Failed != 1 || status.Timers[0].Next.Year() != 2095 {
		t.Errorf("%d parked, %+v", status.Parked, status.Timers)
	}
	if text := s.ok("parked", "drop", "--all", "--yes"); !strings.Contains(text, "1 parked change dropped") {
		t.Errorf("drop: %s", text)
	}
	waitKeys()
	w.waitTimers(1)
	b.stop()
}

// TestTimersOfPausedBackfill: a backfill is paused while rows that it has read, and others that it has not, are changed. A change wins over
// what was read before and after it, whether it sets a timer, moves one or cancels it.
func TestTimersOfPausedBackfill(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const rows = 900
	w := newWorld(t, testservers.RedisOptions{}, timedTable, fmt.Sprintf("insert into pedidos select i, '02', 1, '2095-03-01' from generate_series(1, %d) i", rows))
	w.extra = "state: {key: '" + stateKey + "'}"
	w.rules = `
rules:
  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '02', after: vence, columns: [id, total]}
`
	r := newReceiver(t, nil)
	w.endpoint("a", r.url())
	b := w.run()
	s := &session{world: w, path: w.write()}
	id := decoded[struct{ Items []state.Job }](s, "backfill", "--rule", "vencido", "--rate", "300/s").Items[0].ID
	c := w.redisClient()
	timers := func() int64 { return c.ZCard(t.Context(), "gancho:{gancho:parked}:timers-due:0").Val() }
	queuetest.Eventually(t, "timers of rows that were read", func() bool { return timers() > 100 })
	s.ok("backfill", "pause", strconv.FormatInt(id, 10))
	read := s.jobIn(id, state.Paused).Sent
	if read < 100 || read > rows-100 {
		t.Fatalf("%d of %d rows were read when it was paused: the test shows nothing", read, rows)
	}
	b.kill()
	// By the rest of the number: 1 is as it was, 2 is moved, 3 canceled, 4 deleted, 5 fires, and 0 is canceled and set again.
	w.exec("update pedidos set vence = '2096-03-01' where id % 6 = 2")
	w.exec("update pedidos set situacao = '09' where id % 6 in (0, 3)")
	w.exec("delete from pedidos where id % 6 = 4")
	w.exec("update pedidos set vence = now() - interval '1 day' where id % 6 = 5")
	w.exec("update pedidos set situacao = '02', vence = '2097-03-01' where id % 6 = 0")
	b = w.run()
	s.ok("backfill", "resume", strconv.FormatInt(id, 10))
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done {
		t.Fatalf("it ended as %+v", j)
	}
	want := map[int]int64{1: rows / 6, 2: rows / 6, 0: rows / 6}
	due := func() map[int]int64 {
		out := map[int]int64{}
		for rest, at := range map[int]string{1: "2095-03-01T00:00:00Z", 2: "2096-03-01T00:00:00Z", 0: "2097-03-01T00:00:00Z"} {
			when, err := time.Parse(time.RFC3339, at)
			if err != nil {
				t.Fatal(err)
			}
			micros := fmt.Sprint(when.UnixMicro())
			out[rest] = c.ZCount(t.Context(), "gancho:{gancho:parked}:timers-due:0", micros, micros).Val()
		}
		return out
	}
	w.waitTimers(rows / 2)
	for _, e := range timerEvents(t, r.waitCount(rows/6)) {
		if e.Data.ID%6 != 5 {
			t.Errorf("row %d has an event, due %s", e.Data.ID, e.Due)
		}
	}
	if diff := cmp.Diff(want, due()); diff != "" {
		t.Errorf("timers: -want +got\n%s", diff)
	}
	b.stop()
}

// TestTimersOfBackfill: a backfill sets the timers of rows that were there before the rules, once, and leaves those alone that changes have set.
func TestTimersOfBackfill(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, timedTable,
		"insert into pedidos values (1, '02', 1, now() - interval '1 day'), (2, '02', 1, '2095-03-01'), (3, '02', 1, now() - interval '30 days'), (4, '00', 1, null), (5, '09', 1, null)")
	w.extra = "state: {key: '" + stateKey + "'}"
	r := newReceiver(t, nil)
	w.rules = `
rules:
  - {event: abandonado, table: pedidos, on: [insert, update], when: situacao = '00', after: 1h, columns: [id, total]}
  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '02', after: vence, max_late: 7d, columns: [id, total]}
  - {event: nunca, table: pedidos, on: [insert, update], after: 1h, backfill: never, columns: [id, total]}
`
	w.endpoint("a", r.url())
	b := w.run()
	s := &session{world: w, path: w.write()}
	s.fails(2, "no rule that makes these events", "backfill", "--rule", "nunca")
	s.fails(2, "no rule that makes these events", "backfill", "--rule", "vencido", "--endpoint", "a")
	s.ok("backfill", "--all", "--wait")
	if all := timerEvents(t, r.waitCount(1)); all[0].Data.ID != 1 || all[0].Type != "vencido" || *all[0].Late < 24*3600 {
		t.Errorf("%+v", all)
	}
	b.waitLog("longer than max_late")
	w.waitTimers(2)
	timers := func() string {
		var out []string
		for _, v := range decoded[control.StatusView](s, "status").Timers {
			out = append(out, fmt.Sprint(v.Event, " ", v.Pending, " ", v.Next.UTC()))
		}
		return strings.Join(out, "\n")
	}
	before := timers()
	s.ok("backfill", "--rule", "abandonado", "--wait")
	if now := timers(); now != before || !strings.Contains(now, "vencido 1 2095-03-01") {
		t.Errorf("after a second backfill: %s, before it %s", now, before)
	}
	w.exec("update pedidos set situacao = '09' where id = 4") // cancels one; nunca was true of the row before, and has no timer to keep
	w.waitTimers(1)
	b.stop()
}
