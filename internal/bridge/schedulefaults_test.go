package bridge_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/bridge"
)

const everyDay = `
    schedule: daily 08:00
    query: select id from linhas order by id
    columns: [id]
`

// Two bridges of different sources share a state database: the run of one is not that of the other, though the event is.
func TestScheduleOfTwoSources(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, everyDay)
	w.exec("insert into linhas values (1, 1), (2, 2)")
	for _, slot := range []string{"academia", "loja"} {
		w.Slot = slot
		if err := w.Store.AddSchedule(t.Context(), slot, "e", eight.Add(-time.Hour)); err != nil {
			t.Fatal(err)
		}
		w.clear()
		w.at(eight, eight)
		if _, data := w.sent("todos"); len(data) != 2 {
			t.Errorf("the source of slot %s sent %q", slot, data)
		}
	}
}

// The clock of one machine that is years ahead begins no run, and so none is missed when it is right again.
func TestScheduleWrongClock(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, everyDay)
	log := &strings.Builder{}
	w.Log = zerolog.New(zerolog.SyncWriter(log))
	since := time.Now()
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", since); err != nil {
		t.Fatal(err)
	}
	var asked atomic.Int64
	w.Now = func() time.Time {
		asked.Add(1)
		return since.AddDate(2, 0, int(asked.Load()))
	}
	stop := w.start()
	queuetest.Eventually(t, "some looks at what is due", func() bool { return asked.Load() > 20 })
	stop()
	if of := w.known(); !of.Due.IsZero() || of.Last != nil || !of.Since.Before(since.Add(time.Second)) {
		t.Errorf("a wrong clock has led to %+v", of)
	}
	if !strings.Contains(log.String(), "the clocks of this machine and of the state database are ") {
		t.Errorf("the log is %s", log)
	}
}

// While Redis is full a run waits, says so, and does not read the source; it goes on when there is room.
func TestScheduleWaitsForRoom(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, everyDay)
	w.exec("insert into linhas values (1, 1)")
	w.MaxMemoryPercent = 50
	limit := func(to string) {
		t.Helper()
		if err := w.client.ConfigSet(t.Context(), "maxmemory", to).Err(); err != nil {
			t.Fatal(err)
		}
	}
	limit("2mb") // less than twice what an empty one takes
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.Now = func() time.Time { return eight }
	stop := w.start()
	defer stop()
	queuetest.Eventually(t, "a run that waits", func() bool { return strings.Contains(w.known().Failure, "it waits for redis: ") })
	if n := w.Read.Load(); n != 0 {
		t.Errorf("the source was read %d times meanwhile", n)
	}
	limit("0")
	queuetest.Eventually(t, "its end", func() bool { return w.known().Last != nil })
	if of := w.known(); of.Failure != "" || of.Last.Events != 1 || w.Read.Load() != 1 {
		t.Errorf("the run was %+v, and the source was read %d times", of, w.Read.Load())
	}
}

// A fault behind a long query that succeeded does not hold the run up for many times as long: only a query that fails is spared.
func TestScheduleFaultAfterQuery(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, `
    schedule: daily 08:00
    query: select id from linhas, pg_sleep(2)
    columns: [id]
`)
	w.exec("insert into linhas values (1, 1)")
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), w.state)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	do := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	do("alter table gancho.scheduled_rows rename to elsewhere")
	var passed atomic.Int64 // by the clock, which stands otherwise
	w.Now = func() time.Time { return eight.Add(time.Duration(passed.Load())) }
	stop := w.start()
	defer stop()
	queuetest.Eventually(t, "a run that fails", func() bool { return w.known().Failure != "" })
	do("alter table gancho.elsewhere rename to scheduled_rows")
	passed.Store(int64(10 * time.Second)) // less than nine times the query, and more than the first wait
	queuetest.Eventually(t, "its end", func() bool { return w.known().Last != nil })
}

// Times that passed are told once for each schedule, also of those that wait until others have run.
func TestSchedulePassedOnce(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, everyDay)
	const schedules = 7 // more than run at once
	rules := "rules:\n"
	for i := range schedules {
		rules += fmt.Sprintf("  - {event: e%d, schedule: daily 08:00, query: 'select 1 as id from pg_sleep(1)', columns: [id]}\n", i)
		if err := w.Store.AddSchedule(t.Context(), w.Slot, fmt.Sprint("e", i), eight.Add(-3*dayLong)); err != nil {
			t.Fatal(err)
		}
	}
	w.bindAll(rules)
	log := &strings.Builder{}
	w.Log = zerolog.New(zerolog.SyncWriter(log))
	w.Now = func() time.Time { return eight }
	stop := w.start()
	queuetest.Eventually(t, "the end of all", func() bool {
		all, err := w.Store.Schedules(t.Context(), w.Slot)
		if err != nil {
			t.Fatal(err)
		}
		ended := 0
		for _, of := range all {
			if of.Last != nil {
				ended++
			}
		}
		return ended == schedules
	})
	stop()
	if n := strings.Count(log.String(), "scheduled times passed while nothing ran"); n != schedules {
		t.Errorf("it is told %d times:\n%s", n, log)
	}
}

// Of more schedules than run at once, those whose last run is longest ago run first: none waits for ever behind others.
func TestScheduleOrder(t *testing.T) {
	t.Parallel()
	const often = `
    schedule: every 10s
    query: select 1 as id, pg_sleep(0.05)::text as nada
    columns: [id]
`
	w := newScheduleWorld(t, often)
	rules := "rules:\n"
	for i := range 7 {
		rules += fmt.Sprintf("  - event: e%d%s", i, often)
	}
	w.bindAll(rules)
	for i := range 7 {
		if err := w.Store.AddSchedule(t.Context(), w.Slot, fmt.Sprintf("e%d", i), eight); err != nil {
			t.Fatal(err)
		}
	}
	var ticks atomic.Int64
	w.Now = func() time.Time { return eight.Add(time.Duration(ticks.Add(1)) * time.Second) } // the first are due again before the last have run
	stop := w.start()
	defer stop()
	queuetest.Eventually(t, "a run of each", func() bool {
		all, err := w.Store.Schedules(t.Context(), w.Slot)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 7 {
			if all[fmt.Sprintf("e%d", i)].Last == nil {
				return false
			}
		}
		return true
	})
}

// Events that are much larger than their rows make more parts, and a column that a table got meanwhile nothing.
func TestScheduleLargeEvents(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, `
    schedule: daily 08:00
    query: select * from linhas order by id
    key: id
    data: {id: id, texto: "repeat('x', 100000)"}
`)
	const rows = 3 * bridge.ScheduledBytes / 100_000
	w.exec("insert into linhas select i, 1 from generate_series(1, $1::int) i", rows)
	w.exec("alter table linhas add column nova text default 'x'")
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.Now = func() time.Time { return eight }
	stop := w.start()
	defer stop()
	var part int64
	queuetest.Eventually(t, "the end of the run", func() bool {
		of := w.known()
		part = max(part, of.Part)
		if of.Failure != "" {
			t.Fatal(of.Failure)
		}
		return of.Last != nil
	})
	ids, data := w.sent("todos")
	if len(distinct(ids)) != rows || len(data) != rows || part < 3 {
		t.Errorf("%d rows are %d events under %d ids, in %d parts", rows, len(data), len(distinct(ids)), part)
	}
}

// Equal values of once are one combination, however they are written.
func TestScheduleEqualOnce(t *testing.T) {
	t.Parallel()
	rule := func(valor, quando string) string {
		return `
    schedule: daily 08:00
    query: select id, ` + valor + ` as valor, ` + quando + ` as quando from linhas
    once: [id, valor, quando]
    columns: [id]
`
	}
	w := newScheduleWorld(t, rule("10.50", "timestamptz '2026-01-01 00:00+00'"))
	w.exec("insert into linhas values (1, 1)")
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.at(eight, eight)
	w.Location = time.FixedZone("", 0)
	zone, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	w.Location = zone
	w.bind(rule("10.5000", "timestamptz '2025-12-31 22:00-02'"))
	next := w.known().Since.Add(dayLong + 3*time.Hour) // 08:00 there
	w.at(next, next.Add(-time.Hour))
	if _, data := w.sent("todos"); !cmp.Equal(data, []string{`{"id":1}`}) {
		t.Errorf("sent %q", data)
	}
}
