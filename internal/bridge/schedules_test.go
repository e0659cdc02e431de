package bridge_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"github.com/rs/zerolog"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/bridge"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/migrations"
)

// scheduleWorld is a source with a table of rows, a state, and a queue with an endpoint for all and one of tenant 1.
type scheduleWorld struct {
	bridge.SchedulesWorld

	t      testing.TB
	conn   *pgx.Conn // to the source
	state  string    // the DSN of the state database
	client *redis.Client
}

func newScheduleWorld(t testing.TB, rule string) *scheduleWorld {
	t.Helper()
	ctx := t.Context()
	w := &scheduleWorld{t: t}
	w.Read = new(atomic.Int64)
	w.Source = pg.Database(t, "", "create table linhas (id int primary key, empresa int not null, n int not null default 0)")
	var err error
	if w.conn, err = pgx.Connect(ctx, w.Source); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.conn.Close(context.Background()) })
	w.state = pg.Database(t, "")
	if _, err := migrations.Apply(ctx, w.state); err != nil {
		t.Fatal(err)
	}
	if w.Store, err = state.Open(ctx, state.Options{DSN: w.state, Logger: zerolog.Nop()}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.Store.Close)
	w.Endpoints = []endpoint.Endpoint{{Name: "todos", URL: "https://a.example.com"}, {Name: "um", URL: "https://b.example.com", Tenants: []string{"1"}}}
	server := queuetest.StartRedis(t, "appendfsync", "always")
	w.Queue, w.client = queuetest.Open(t, server, w.Endpoints...), queuetest.Client(t, server)
	w.Location, w.Log, w.Slot = time.UTC, zerolog.Nop(), "gancho"
	w.bind(rule)
	return w
}

// bind has the rules be one of an event e.
func (w *scheduleWorld) bind(rule string) {
	w.t.Helper()
	w.bindAll("rules:\n  - event: e\n" + rule)
}

func (w *scheduleWorld) bindAll(all string) {
	w.t.Helper()
	file := filepath.Join(w.t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(all), 0o600); err != nil {
		w.t.Fatal(err)
	}
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}, Location: w.Location})
	if err == nil {
		w.Rules, err = rules.Bind(w.t.Context(), w.conn)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

func (w *scheduleWorld) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.conn.Exec(w.t.Context(), sql, args...); err != nil {
		w.t.Fatal(err)
	}
}

// at runs until the schedule has run for the time, by a clock that stands at now.
func (w *scheduleWorld) at(now, ran time.Time) state.Schedule {
	w.t.Helper()
	w.Now = func() time.Time { return now }
	stop := w.start()
	defer stop()
	var of state.Schedule
	queuetest.Eventually(w.t, "the run of "+ran.String(), func() bool {
		of = w.known()
		return of.Due.IsZero() && !of.Since.Before(ran)
	})
	return of
}

func (w *scheduleWorld) known() state.Schedule {
	w.t.Helper()
	all, err := w.Store.Schedules(w.t.Context(), w.Slot)
	if err != nil {
		w.t.Fatal(err)
	}
	return all["e"]
}

// start runs what is due until the returned function is called.
func (w *scheduleWorld) start() (stop func()) {
	running, cancel := context.WithCancel(w.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- w.Run(running) }()
	return func() {
		cancel()
		if err := <-ended; err != nil {
			w.t.Error(err)
		}
	}
}

// sent are the events of an endpoint's queue, in order, as webhook-id and data; the others' fields are those of all.
func (w *scheduleWorld) sent(name string) (ids, data []string) {
	w.t.Helper()
	keys, err := w.client.Keys(w.t.Context(), "*"+name+"*:x").Result()
	if err != nil || len(keys) > 1 {
		w.t.Fatalf("keys %q, %v", keys, err)
	}
	for _, key := range keys {
		entries, err := w.client.XRange(w.t.Context(), key, "-", "+").Result()
		if err != nil {
			w.t.Fatal(err)
		}
		for _, e := range entries {
			if e.Values["o"] != "schedule" || e.Values["r"] != nil {
				w.t.Fatalf("an entry is %v", e.Values)
			}
			ids, data = append(ids, fmt.Sprint(e.Values["w"])), append(data, fmt.Sprint(e.Values["d"]))
		}
	}
	return ids, data
}

// clear empties the queues.
func (w *scheduleWorld) clear() {
	w.t.Helper()
	keys, err := w.client.Keys(w.t.Context(), "*:x").Result()
	if err == nil && len(keys) > 0 {
		err = w.client.Del(w.t.Context(), keys...).Err()
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

var eight = time.Date(2026, 3, 2, 8, 0, 0, 0, time.UTC)

const dayLong = 24 * time.Hour

// Each row is an event for the endpoints that take it; once makes each combination one event only, over runs.
func TestScheduleOnce(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, `
    schedule: daily 08:00
    query: select *, now() as agora from linhas order by id
    once: [id, n]
    tenant: empresa
    data: {id: id, n: 10 / n, quando: agora}
`)
	w.exec("insert into linhas values (1, 1, 1), (2, 2, 2), (3, 1, 0)")
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	of := w.at(eight.Add(time.Second), eight)
	const when = `,"quando":"2026-03-02T08:00:00+00:00"}`
	_, all := w.sent("todos")
	_, one := w.sent("um")
	if diff := cmp.Diff([][]string{{`{"id":1,"n":10` + when, `{"id":2,"n":5` + when}, {`{"id":1,"n":10` + when}}, [][]string{all, one}); diff != "" {
		t.Error(diff)
	}
	if l := of.Last; l == nil || l.Rows != 3 || l.Events != 2 || l.Uncomputed != 1 || !strings.Contains(l.Reason, "division by zero") || !l.Due.Equal(eight) {
		t.Errorf("the run was %+v", of.Last)
	}
	w.clear()
	w.exec("update linhas set n = 7 where id = 2; update linhas set empresa = 2 where id = 1; update linhas set n = 5 where id = 3")
	w.at(eight.Add(dayLong), eight.Add(dayLong))
	if _, all := w.sent("todos"); len(all) != 2 || !strings.Contains(all[0], `"id":2,"n":1`) || !strings.Contains(all[1], `"id":3,"n":2`) {
		t.Errorf("the second run sent %q", all)
	}
	w.clear()
	w.bind(`
    schedule: daily 08:00
    query: select id from linhas
    columns: [id]
`)
	for day := range 2 {
		w.at(eight.Add(time.Duration(2+day)*dayLong), eight.Add(time.Duration(2+day)*dayLong))
	}
	if ids, all := w.sent("todos"); len(all) != 6 || len(distinct(ids)) != 6 {
		t.Errorf("without once, two runs of three rows sent %q as %q", all, ids)
	}
}

// TestScheduleKeepsNoValues: what a run has sent is known by digests alone, with which no row is sent again: the state database has no value of
// it once the run has ended.
func TestScheduleKeepsNoValues(t *testing.T) {
	t.Parallel()
	w := newScheduleWorld(t, `
    schedule: daily 08:00
    query: select 'Maria Marcador ' || id as nome, '123.456.789-0' || id as cpf from linhas
    once: [cpf]
    columns: [nome, cpf]
`)
	w.exec("insert into linhas values (1, 1), (2, 1)")
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.at(eight, eight)
	conn, err := pgx.Connect(t.Context(), w.state)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	tables, err := conn.Query(t.Context(), "select quote_ident(tablename) from pg_tables where schemaname = 'gancho'")
	if err != nil {
		t.Fatal(err)
	}
	names, err := pgx.CollectRows(tables, pgx.RowTo[string])
	if err != nil || !slices.Contains(names, "scheduled_rows") {
		t.Fatalf("the tables are %q, %v", names, err)
	}
	for _, name := range names {
		var text string
		if err := conn.QueryRow(t.Context(), "select coalesce(string_agg(r::text, '|'), '') from gancho."+name+" r").Scan(&text); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(text, "Marcador") || strings.Contains(text, "456.789") {
			t.Errorf("gancho.%s has %s", name, text)
		}
		if rows := strings.Count(text, "|") + 1; name == "scheduled_rows" && (text == "" || rows != 2) {
			t.Errorf("of two rows that were sent %d are known", rows)
		}
	}
	w.clear()
	w.at(eight.Add(dayLong), eight.Add(dayLong))
	if _, all := w.sent("todos"); len(all) != 0 {
		t.Errorf("the next run sent %q", all)
	}
}

func distinct(texts []string) []string {
	all := map[string]bool{}
	for _, text := range texts {
		all[text] = true
	}
	return slices.Sorted(maps.Keys(all))
}

// Times that passed while nothing ran are made up as the rule says.
func TestScheduleCatchUp(t *testing.T) {
	t.Parallel()
	for catchUp, want := range map[string][]string{
		"one":  {`{"dia":5}`},
		"all":  {`{"dia":2}`, `{"dia":3}`, `{"dia":4}`, `{"dia":5}`},
		"none": nil,
	} {
		t.Run(catchUp, func(t *testing.T) {
			t.Parallel()
			w := newScheduleWorld(t, `
    schedule: daily 08:00
    catch_up: `+catchUp+`
    query: select extract(day from current_date)::int as dia
    columns: [dia]
`)
			if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
				t.Fatal(err)
			}
			late := eight.Add(3*dayLong + 2*time.Hour)
			w.at(late, eight.Add(3*dayLong))
			if _, got := w.sent("todos"); !cmp.Equal(want, got) {
				t.Errorf("sent %q, want %q", got, want)
			}
			next := eight.Add(4 * dayLong)
			w.at(next.Add(30*time.Second), next) // not late
			if _, got := w.sent("todos"); len(got) != len(want)+1 || got[len(want)] != `{"dia":6}` {
				t.Errorf("on the next day: sent %q", got)
			}
		})
	}
}

// A run that is cut off again and again, while rows come, go and change, sends each row that was there all the time, and
// nothing twice.
func TestScheduleCutOff(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	const rows = bridge.ScheduledRows*2 + 1234
	w := newScheduleWorld(t, `
    schedule: daily 08:00
    query: select id, empresa from linhas order by n, id
    once: [id]
    tenant: empresa
    columns: [id]
`)
	w.exec("insert into linhas select i, i % 2, i % 7 from generate_series(1, $1::int) i", rows)
	if err := w.Store.AddSchedule(t.Context(), w.Slot, "e", eight.Add(-time.Hour)); err != nil {
		t.Fatal(err)
	}
	w.Now = func() time.Time { return eight }
	cuts := 0
	for cut := range 6 {
		before := w.queued()
		stop := w.start()
		queuetest.Eventually(t, "more events", func() bool { return w.queued() > before || w.known().Last != nil })
		stop()
		if w.known().Last == nil {
			cuts++
		}
		w.exec("update linhas set n = (id * 31 + $1) % 11", cut) // another order
		w.exec("delete from linhas where id % 50 = $1", cut)
		w.exec("insert into linhas select $1::int + i, 1, 3 from generate_series(1, 10) i", rows+10*cut)
	}
	if cuts == 0 {
		t.Error("the run was never cut off")
	}
	w.at(eight, eight)
	for _, name := range []string{"todos", "um"} {
		ids, data := w.sent(name)
		if n := len(distinct(ids)); n != len(ids) {
			t.Errorf("%s got %d events under %d webhook-ids", name, len(ids), n)
		}
		got := map[string]bool{}
		for _, d := range data {
			if got[d] {
				t.Fatalf("%s got %s twice", name, d)
			}
			got[d] = true
		}
		for id := 1; id <= rows; id++ {
			if there := id%50 >= 6 && (name == "todos" || id%2 == 1); there && !got[fmt.Sprintf(`{"id":%d}`, id)] {
				t.Fatalf("%s did not get row %d", name, id)
			}
		}
	}
}

// queued is how many events are in the queue of all.
func (w *scheduleWorld) queued() int64 {
	w.t.Helper()
	n, err := w.Queue.ReplayBacklog(w.t.Context(), "todos")
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}
