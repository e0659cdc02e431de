package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/retry"
	"gancho/internal/testservers"
)

const timedTable = `
create table pedidos (id int primary key, situacao text not null, total int not null default 0, vence timestamptz);
alter table pedidos replica identity full`

// timerEvent is what an event of a timer says.
type timerEvent struct {
	ID, Op, Type string
	Due          time.Time
	Late         *int64
	Sequence     string
	Data         struct{ ID, Total int }
}

func timerEvents(t *testing.T, all []arrival) []timerEvent {
	t.Helper()
	var out []timerEvent
	for _, a := range all {
		var e timerEvent
		if err := json.Unmarshal(a.body, &e); err != nil {
			t.Fatal(err)
		}
		if e.Op != "timer" || e.Due.IsZero() || e.Late == nil {
			t.Errorf("%s has no op, due and late", a.body)
		}
		out = append(out, e)
	}
	return out
}

// TestTimersModel changes rows at random, while the bridge and Redis are killed, and compares what arrives with what each row's
// changes mean: one event under one webhook-id, at its time, or none.
func TestTimersModel(t *testing.T) {
	t.Parallel()
	random := seeded(t)
	w := newWorld(t, testservers.RedisOptions{}, timedTable)
	r := newReceiver(t, nil)
	const after = 12 * time.Second
	w.rules = `
rules:
  - {event: abandonado, table: pedidos, on: [insert, update], when: situacao = '00', after: 12s, columns: [id, total]}
  - {event: parado, table: pedidos, on: [insert, update], when: situacao = '01', after: 12s, restart: true, columns: [id, total]}
  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '02', after: vence, columns: [id, total]}
`
	w.endpoint("a", r.url())
	b := w.run()
	conn := w.connect()
	var begun time.Time
	if err := conn.QueryRow(t.Context(), "select clock_timestamp()").Scan(&begun); err != nil {
		t.Fatal(err)
	}
	moved := begun.Add(after + 500*time.Millisecond).Truncate(time.Microsecond)
	// What becomes of rows, by the rest of their number: statements with %[1]d for it, what arrives, and the last statement that its
	// time counts from.
	kinds := []struct {
		event      string
		statements []string
		from       int
	}{
		{"abandonado", []string{"insert into pedidos values (%[1]d, '00')", "update pedidos set total = 1 where id = %[1]d"}, 0},
		{"", []string{"insert into pedidos values (%[1]d, '00')", "update pedidos set situacao = '09' where id = %[1]d"}, 0},
		{"", []string{"insert into pedidos values (%[1]d, '00')", "delete from pedidos where id = %[1]d"}, 0},
		{"abandonado", []string{"insert into pedidos values (%[1]d, '00')", "update pedidos set situacao = '09' where id = %[1]d", "update pedidos set situacao = '00' where id = %[1]d"}, 2},
		{"parado", []string{"insert into pedidos values (%[1]d, '01')", "update pedidos set total = 1 where id = %[1]d", "update pedidos set total = 2 where id = %[1]d"}, 2},
		{"vencido", []string{"insert into pedidos values (%[1]d, '02', 0, now() + interval '11 seconds')", "update pedidos set vence = '" + moved.Format(time.RFC3339Nano) + "' where id = %[1]d"}, -1},
		{"abandonado", []string{"insert into pedidos values (%[1]d + 10000, '00')", "update pedidos set id = %[1]d where id = %[1]d + 10000"}, 1},
		{"", []string{"insert into pedidos values (%[1]d, '00')", "update pedidos set id = %[1]d + 10000 where id = %[1]d", "delete from pedidos where id = %[1]d + 10000"}, 0},
	}
	const rows = 64
	next, sent := make([]int, rows), make([][]time.Time, rows)
	open := make([]int, rows)
	for i := range open {
		open[i] = i
	}
	for n := 0; len(open) > 0; n++ {
		at := random.IntN(len(open))
		i := open[at]
		k := kinds[i%len(kinds)]
		var before time.Time
		if err := conn.QueryRow(t.Context(), "select clock_timestamp()").Scan(&before); err != nil {
			t.Fatal(err)
		}
		sent[i] = append(sent[i], before)
		if _, err := conn.Exec(t.Context(), fmt.Sprintf(k.statements[next[i]], i)); err != nil {
			t.Fatal(err)
		}
		if next[i]++; next[i] == len(k.statements) {
			open = append(open[:at], open[at+1:]...)
		}
		switch n {
		case 40, 90:
			b.kill()
			b = w.start("run", "--create", "--config", w.write())
		case 70:
			w.redis.Kill()
			if err := w.redis.Start(); err != nil {
				t.Fatal(err)
			}
		}
	}
	if took := time.Since(begun); took > after-2*time.Second {
		t.Fatalf("the changes took %s, and timers were due before their last one", took)
	}
	want := 0
	for i := range rows {
		if kinds[i%len(kinds)].event != "" {
			want++
		}
	}
	r.waitCount(want / 4)
	b.kill()
	b = w.start("run", "--create", "--config", w.write())
	r.waitCount(want / 2)
	w.redis.Kill()
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	all := r.waitCount(want)
	b.stop()
	checkTimers(t, timerEvents(t, all), want, func(e timerEvent) error {
		k := kinds[e.Data.ID%len(kinds)]
		if e.Data.ID >= rows || k.event != e.Type {
			return fmt.Errorf("was canceled")
		}
		switch {
		case k.from < 0 && !e.Due.Equal(moved):
			return fmt.Errorf("was due at %s, not at %s", e.Due, moved)
		case k.from >= 0 && e.Due.Before(sent[e.Data.ID][k.from].Add(after)):
			return fmt.Errorf("was due at %s, before %s after %s", e.Due, after, sent[e.Data.ID][k.from])
		}
		return nil
	})
}

// checkTimers checks that as many rows as wanted have one event, under one webhook-id.
func checkTimers(t *testing.T, events []timerEvent, want int, check func(timerEvent) error) {
	t.Helper()
	ids := map[string]string{}
	for _, e := range events {
		if err := check(e); err != nil {
			t.Errorf("%s of row %d %v", e.Type, e.Data.ID, err)
		}
		row := fmt.Sprint(e.Type, " ", e.Data.ID)
		if id, seen := ids[row]; seen && id != e.ID {
			t.Errorf("%s came under %s and %s", row, id, e.ID)
		}
		ids[row] = e.ID
	}
	if len(ids) != want {
		t.Errorf("%d rows have events, want %d", len(ids), want)
	}
}

// TestTimersLate: what was due while no bridge ran is fired in order at the start, and says how late; what is later than
// max_late is dropped, and so are timers of rules that are gone.
func TestTimersLate(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, timedTable)
	r := newReceiver(t, nil)
	const head = "rules:\n  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '02', after: vence, columns: [id, total]}\n"
	w.rules = head + `
  - {event: tarde, table: pedidos, on: insert, when: situacao = '03', after: vence, max_late: 1s, columns: [id, total]}
  - {event: some, table: pedidos, on: insert, when: situacao = '04', after: vence, columns: [id, total]}
`
	w.endpoint("a", r.url(), "order: endpoint")
	b := w.run()
	w.exec("insert into pedidos select i, '02', 0, now() + interval '2 seconds' - i * interval '1 ms' from generate_series(1, 20) i")
	w.exec("insert into pedidos values (30, '03', 0, now() + interval '2 seconds'), (31, '04', 0, now() + interval '2 seconds')")
	w.waitTimers(22)
	b.kill()
	w.exec("update pedidos set total = 7") // read at its time, so that this is what is sent
	w.exec("select pg_sleep_until(max(vence) + interval '2 seconds') from pedidos")
	w.rules = strings.Split(w.rules, "  - {event: some")[0]
	b = w.run()
	all := timerEvents(t, r.waitCount(20))
	b.waitLog("timers wait whose rule is gone")
	b.waitLog("timers were due whose rule is gone")
	b.waitLog("longer than max_late")
	b.stop()
	for i, e := range all {
		if e.Data.ID != 20-i || e.Data.Total != 7 || *e.Late < 1 {
			t.Errorf("event %d is of row %d, total %d, late %d", i, e.Data.ID, e.Data.Total, *e.Late)
		}
		if i > 0 && e.Sequence <= all[i-1].Sequence {
			t.Errorf("sequence %s follows %s", e.Sequence, all[i-1].Sequence)
		}
	}
	if len(all) != 20 {
		t.Errorf("%d events", len(all))
	}
}

// waitTimers waits until so many timers are pending.
func (w *world) waitTimers(want int64) {
	w.t.Helper()
	c := w.redisClient()
	_, err := retry.Do(w.t.Context(), retry.Backoff{Min: 20 * time.Millisecond, Max: 20 * time.Millisecond}, func() (struct{}, error) {
		keys, err := c.Keys(w.t.Context(), "gancho:{gancho:parked}:timers-due:*").Result()
		var n int64
		for _, key := range keys {
			n += c.ZCard(w.t.Context(), key).Val()
		}
		if err == nil && n != want {
			err = fmt.Errorf("%d timers are set", n)
		}
		return struct{}{}, err
	}, func(error) bool { return true })
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestStuckTimers: a rule whose rows cannot be read holds up its own timers alone, and fires them once they can.
func TestStuckTimers(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, timedTable, "create table travados (like pedidos including all)", "alter table travados replica identity full")
	r := newReceiver(t, nil)
	w.rules = `
rules:
  - {event: travado, table: travados, on: insert, when: situacao = '00', after: 3s, columns: [id, total]}
  - {event: livre, table: pedidos, on: insert, when: situacao = '00', after: 3s, columns: [id, total]}
`
	w.endpoint("a", r.url(), "order: endpoint")
	b := w.run()
	w.exec("insert into travados select i, '00' from generate_series(1, 600) i")
	w.exec("insert into pedidos select i, '00' from generate_series(1, 5) i")
	w.waitTimers(605)
	other := w.connect() // as a migration that waits
	for _, sql := range []string{"begin", "lock table travados in access exclusive mode"} {
		if _, err := other.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range timerEvents(t, r.waitCount(5)) {
		if e.Type != "livre" {
			t.Errorf("%s of row %d came first", e.Type, e.Data.ID)
		}
	}
	b.waitLog("the timers of a rule cannot be fired")
	w.exec("insert into pedidos values (6, '00')")
	r.waitCount(6)
	if _, err := other.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	all := timerEvents(t, r.waitCount(606))
	for i, e := range all[6:] {
		if e.Type != "travado" || i > 0 && e.Sequence <= all[5+i].Sequence {
			t.Errorf("event %d: %+v", i, e)
		}
	}
	b.waitLog("the timers of the rule are fired again")
	b.stop()
}

// TestStuckTimersOfLookup: the timers of a rule wait for a lookup that no longer fits, also where changes are parked for that; readiness
// and status name the rule.
func TestStuckTimersOfLookup(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, timedTable, "create table lojas (id int primary key, nome text)", "insert into lojas values (7, 'Centro')")
	w.source = "  on_schema_change: park"
	r := newReceiver(t, nil)
	w.rules = `
rules:
  - {event: vencido, table: pedidos, on: insert, after: 2s, lookup: {loja: select nome from lojas where id = new.total}, data: {id: id, total: total, loja: loja.nome}}
`
	w.endpoint("a", r.url(), "order: endpoint")
	b := w.run()
	w.exec("alter table lojas rename nome to titulo")
	w.exec("insert into pedidos select i, '00', 7 from generate_series(1, 3) i")
	b.waitLog("the timers of a rule cannot be fired")
	if code, text := fetch(t, "http://"+b.listening()+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "rules.yaml:3") {
		t.Errorf("/readyz answers %d %s", code, text)
	}
	w.exec("alter table lojas rename titulo to nome")
	r.waitCount(3)
	b.waitLog("the timers of the rule are fired again")
	b.stop()
}

// TestTimersTold: what status, why and forget say of timers.
func TestTimersTold(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, timedTable)
	w.extra = "state: {key: '" + stateKey + "'}"
	w.rules = `
rules:
  - {event: abandonado, table: pedidos, on: [insert, update], when: situacao = '00', after: 1h, columns: [id, total]}
  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '00', after: vence, columns: [id, total]}
`
	r := newReceiver(t, nil)
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("insert into pedidos values (4711, '00', 1, '2096-03-01 12:00+00'), (2, '00', 1, null)")
	w.exec("update pedidos set vence = '2095-03-01 12:00+00' where id = 4711")
	w.exec("update pedidos set situacao = '09' where id = 2")
	w.waitTimers(2)
	s := &session{world: w, path: w.write()}
	at := "http://" + b.listening()
	told := func(key string) (texts []string) {
		for _, c := range decoded[control.WhyView](s, "why", "--table", "pedidos", "--key", key, "--url", at).Changes {
			for _, r := range c.Rules {
				text := c.Op + " " + r.Event + " " + r.Outcome
				for what, is := range map[string]bool{" due": !r.Due.IsZero(), " canceled": !r.CanceledBy.IsZero(), " again": !r.SetAgainBy.IsZero(), " sent": r.Sent()} {
					if is {
						text += what
					}
				}
				texts = append(texts, text)
			}
		}
		return texts
	}
	if diff := cmp.Diff([]string{"insert abandonado timer_set due", "insert vencido timer_set again", "update abandonado timer_waits", "update vencido timer_set due"}, told("4711")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	if diff := cmp.Diff([]string{"insert abandonado timer_set canceled", "insert vencido when_null", "update abandonado timer_canceled", "update vencido when_false"}, told("2")); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	// One that was due and then changed was not canceled: its event was sent. The log has it a moment later.
	w.exec("insert into pedidos values (3, '00', 1, now())")
	r.waitCount(1)
	w.exec("update pedidos set situacao = '09' where id = 3")
	want := []string{"insert abandonado timer_set canceled", "insert vencido timer_set sent", "update abandonado timer_canceled", "update vencido timer_canceled"}
	queuetest.Eventually(t, fmt.Sprintf("%q", want), func() bool { return cmp.Equal(want, told("3")) })
	status := decoded[control.StatusView](s, "status").Timers
	if len(status) != 2 || status[0].Event != "abandonado" || status[1].Pending != 1 || status[1].Next.Year() != 2095 || !strings.Contains(status[0].Rule, "rules.yaml:3") {
		t.Errorf("%+v", status)
	}
	if text := s.ok("status"); !strings.Contains(text, "NEXT DUE") {
		t.Errorf("status: %s", text)
	}
	if text := s.ok("forget", "--no-tenant", "--key", "4711", "--dry-run"); !strings.Contains(text, "2 timers of rules with after wait") {
		t.Errorf("forget: %s", text)
	}
	b.stop()
}
