package main_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

// clockSpan is after of the rules below: what a test waits for is the clock that it sets.
const clockSpan = 20 * time.Minute

// expectedTimer is a timer that a change of a row has set: it is due at a time, and highest is the latest that the source's clock has
// shown until another change has canceled it or set it again, or, of one that nothing has, until the end.
type expectedTimer struct {
	event        string
	row          int
	due, highest time.Time
	ended        bool
}

func (e *expectedTimer) name() string {
	return fmt.Sprint(e.event, " of row ", e.row, " due ", e.due.Format(time.RFC3339Nano))
}

// timedRow is a row of the model.
type timedRow struct {
	there bool
	state string
	due   time.Time
}

// timerModel says which timers there are, from what the source has committed and what its clock has shown.
type timerModel struct {
	t       *testing.T
	random  *rand.Rand
	w       *world
	conn    *pgx.Conn
	clock   *testservers.Clock
	ahead   time.Duration // of this machine's clock
	rows    []timedRow
	timers  []*expectedTimer
	current map[string]*expectedTimer // by event and row
	waited  map[string]bool           // for the events of these, by name
}

// now is what the source's clock shows.
func (m *timerModel) now() time.Time { return time.Now().Add(m.ahead) }

// shows notes what the clock shows in the timers that are pending.
func (m *timerModel) shows(at time.Time) {
	for _, e := range m.timers {
		if !e.ended && at.After(e.highest) {
			e.highest = at
		}
	}
}

// jump sets the source's clock.
func (m *timerModel) jump(by time.Duration) {
	m.t.Helper()
	if err := m.clock.Set(m.ahead + by); err != nil {
		m.t.Fatal(err)
	}
	m.shows(m.now()) // later than when it was set
	m.ahead += by
	m.shows(m.now())
}

// change changes a row at random, and notes what that means for its timers.
func (m *timerModel) change() {
	m.t.Helper()
	i := m.random.IntN(len(m.rows))
	r := m.rows[i]
	sql := fmt.Sprintf("update pedidos set total = total + 1 where id = %d", i)
	state := []string{"00", "01", "02", "09"}[m.random.IntN(4)]
	switch n := m.random.IntN(10); {
	case !r.there:
		r = timedRow{there: true, state: state, due: m.someTime()}
		sql = fmt.Sprintf("insert into pedidos values (%d, '%s', 0, '%s')", i, r.state, r.due.Format(time.RFC3339Nano))
	case n == 0:
		r = timedRow{}
		sql = fmt.Sprintf("delete from pedidos where id = %d", i)
	case n < 3:
		r.due = m.someTime()
		sql = fmt.Sprintf("update pedidos set vence = '%s' where id = %d", r.due.Format(time.RFC3339Nano), i)
	case n < 8:
		r.state = state
		sql = fmt.Sprintf("update pedidos set situacao = '%s' where id = %d", r.state, i)
	}
	m.set(i, r, m.commit(sql))
}

// someTime is one that the clock shows soon, or has shown.
func (m *timerModel) someTime() time.Time {
	return m.now().Add(time.Duration(m.random.Int64N(int64(50*time.Minute))) - 10*time.Minute).UTC().Truncate(time.Microsecond)
}

// commit commits a statement, and returns the commit's time.
func (m *timerModel) commit(sql string) (at time.Time) {
	m.t.Helper()
	var id string
	tx, err := m.conn.Begin(m.t.Context())
	if err == nil {
		_, err = tx.Exec(m.t.Context(), sql)
	}
	if err == nil {
		err = tx.QueryRow(m.t.Context(), "select pg_current_xact_id()::text").Scan(&id)
	}
	if err == nil {
		err = tx.Commit(m.t.Context())
	}
	if err == nil {
		err = m.conn.QueryRow(m.t.Context(), "select pg_xact_commit_timestamp($1::text::xid)", id).Scan(&at)
	}
	if err != nil {
		m.t.Fatalf("%s: %v", sql, err)
	}
	m.shows(m.now()) // later than the commit
	return at
}

// set notes what a change of a row, which was committed at a time, means for its timers.
func (m *timerModel) set(i int, r timedRow, at time.Time) {
	before := m.rows[i]
	m.rows[i] = r
	for event, state := range map[string]string{"abandonado": "00", "parado": "01", "vencido": "02"} {
		was, is := before.there && before.state == state, r.there && r.state == state
		due := at.Add(clockSpan)
		if event == "vencido" {
			due = r.due
			if due.Before(at) {
				due = at
			}
		}
		name := fmt.Sprint(event, " ", i)
		if pending := m.current[name]; pending != nil && was && (!is || m.again(event, before, r)) {
			pending.ended = true
		}
		if is && (!was || m.again(event, before, r)) {
			e := &expectedTimer{event: event, row: i, due: due, highest: at}
			m.timers, m.current[name] = append(m.timers, e), e
		}
	}
}

// again: a change that leaves a row as when says begins the time again, or moves it.
func (m *timerModel) again(event string, before, now timedRow) bool {
	return event == "parado" || event == "vencido" && !before.due.Equal(now.due)
}

// certain are the timers that nothing has ended and whose time the clock shows now, by name. One that has shown it for a moment, and was set
// back, may have been seen or not.
func (m *timerModel) certain() map[string]int {
	out := map[string]int{}
	for _, e := range m.timers {
		if !e.ended && m.now().After(e.due) {
			out[e.name()]++
		}
	}
	return out
}

// sentTimers are the webhook-ids that have arrived, by the names of their timers.
func sentTimers(t *testing.T, all []arrival) map[string][]string {
	out := map[string][]string{}
	for _, e := range timerEvents(t, all) {
		name := (&expectedTimer{event: e.Type, row: e.Data.ID, due: e.Due.UTC()}).name()
		if !slices.Contains(out[name], e.ID) {
			out[name] = append(out[name], e.ID)
		}
		if *e.Late < 0 {
			t.Errorf("%s was fired %d s before its time", name, -*e.Late)
		}
	}
	return out
}

// waitDue waits until the events of all timers whose time has come have arrived.
func (m *timerModel) waitDue(r *receiver) {
	m.t.Helper()
	m.shows(m.now())
	certain := m.certain()
	for name := range certain {
		m.waited[name] = true
	}
	r.waitFor(3*time.Minute, fmt.Sprint("the events of ", len(certain), " timers"), func(all []arrival) bool {
		sent := sentTimers(m.t, all)
		for name, n := range certain {
			if len(sent[name]) < n {
				return false
			}
		}
		return true
	})
}

// TestTimersOfServerClocks: the clocks of the source and of Redis are set forward and back at random while rows change and the bridge
// and Redis are killed. What counts is the source's clock: each timer makes its event once that has shown its time, under one
// webhook-id, and one that a change has canceled before makes none.
func TestTimersOfServerClocks(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random := seeded(t)
	clock, clockOfRedis := testservers.NewClock(t), testservers.NewClock(t)
	server, err := testservers.StartPostgres(testservers.PostgresOptions{Clock: clock, Settings: map[string]string{"track_commit_timestamp": "on", "autovacuum": "off"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	w := newWorldOn(t, server, "", testservers.RedisOptions{}, timedTable)
	for name, value := range clockOfRedis.Environment() {
		w.redis.Setenv(name, value)
	}
	restart := func() {
		t.Helper()
		w.redis.Kill()
		if err := w.redis.Start(); err != nil {
			t.Fatal(err)
		}
	}
	restart()
	w.rules = `
rules:
  - {event: abandonado, table: pedidos, on: [insert, update], when: situacao = '00', after: 20m, columns: [id, total]}
  - {event: parado, table: pedidos, on: [insert, update], when: situacao = '01', after: 20m, restart: true, columns: [id, total]}
  - {event: vencido, table: pedidos, on: [insert, update], when: situacao = '02', after: vence, columns: [id, total]}
`
	r := newReceiver(t, nil)
	w.endpoint("a", r.url())
	b := w.run()
	m := &timerModel{
		t: t, random: random, w: w, conn: w.connect(), clock: clock, rows: make([]timedRow, 40), current: map[string]*expectedTimer{}, waited: map[string]bool{},
	}
	somewhere := func(most time.Duration) time.Duration { return time.Duration(random.Int64N(int64(most))) }
	steps := []func(){
		func() { m.jump(5*time.Minute + somewhere(25*time.Minute)) },
		func() { m.jump(-somewhere(30 * time.Minute)) },
		func() {
			if err := clockOfRedis.Set(somewhere(2*time.Hour) - time.Hour); err != nil {
				t.Fatal(err)
			}
		},
		func() { b.kill(); b = w.start("run", "--create", "--config", w.write()) },
		restart,
	}
	for round := range 10 {
		for range 30 {
			m.change()
		}
		steps[round%len(steps)]()
		for range 10 { // some of these cancel what is due by now, and may or may not come in time
			m.change()
		}
		if random.IntN(2) == 0 {
			steps[random.IntN(len(steps))]()
		}
		m.waitDue(r)
	}
	last := m.now()
	for _, e := range m.timers {
		if !e.ended && e.due.After(last) {
			last = e.due
		}
	}
	m.jump(last.Add(time.Minute).Sub(m.now()))
	m.waitDue(r)
	b.stop()
	all, _ := r.snapshot()
	sent := sentTimers(t, all)
	least, most := m.certain(), map[string]int{}
	for _, e := range m.timers {
		if e.highest.After(e.due) {
			most[e.name()]++
		}
	}
	canceled, known := 0, map[string]bool{}
	for _, e := range m.timers {
		if e.ended && e.highest.Before(e.due) {
			canceled++
		}
		if n := len(sent[e.name()]); n < least[e.name()] || n > most[e.name()] {
			t.Errorf("%s made %d events, want %d to %d; the clock showed %s until it was ended (%t)", e.name(), n, least[e.name()], most[e.name()], e.highest, e.ended)
		}
		known[e.name()] = true
	}
	for name, ids := range sent {
		if !known[name] {
			t.Errorf("%s came, which no change has set: %q", name, ids)
		}
	}
	if len(m.waited) < 30 || canceled < 30 {
		t.Errorf("only %d timers had to make events, and %d were canceled in time", len(m.waited), canceled)
	}
	t.Logf("%d timers, %d of which had to make events, and %d were canceled in time; %d webhooks", len(m.timers), len(m.waited), canceled, len(all))
}
