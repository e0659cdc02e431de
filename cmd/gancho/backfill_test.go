package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// The table that backfills read while others change it: conta.estado follows each row,
// conta.nova knows only those that are new.
const (
	backfillTable = `create table contas (id int primary key, saldo numeric not null, nota text)`
	backfillRules = `rules:
  - event: conta.estado
    table: contas
    on: [insert, update, delete]
    data: {id: id, saldo: saldo, nota: nota}
  - event: conta.nova
    table: contas
    on: insert
    data: {id: id, saldo: saldo}
`
)

// backfillRows is how many rows the test begins with.
func backfillRows(t *testing.T) int {
	text := os.Getenv("GANCHO_TEST_BACKFILL_ROWS")
	if text == "" {
		return 5000
	}
	n, err := strconv.Atoi(text)
	if err != nil {
		t.Fatalf("GANCHO_TEST_BACKFILL_ROWS: %v", err)
	}
	return n
}

// churn changes rows of contas from some sessions until it is stopped.
type churn struct {
	stopped chan struct{}
	writers sync.WaitGroup
	cut     context.CancelFunc // ends the writers' statements
	once    sync.Once
	t       *testing.T
}

func startChurn(t *testing.T, dsn string, random *rand.Rand, rows int, every time.Duration) *churn {
	ctx, cut := context.WithCancel(context.Background())
	c := &churn{stopped: make(chan struct{}), cut: cut, t: t}
	tick := time.NewTicker(every)
	t.Cleanup(tick.Stop)
	for range loadWriters {
		own := rand.New(rand.NewPCG(random.Uint64(), 0))
		c.writers.Go(func() {
			for {
				select {
				case <-c.stopped:
					return
				case <-tick.C:
				}
				if conn, err := pgx.Connect(ctx, dsn); err == nil { // else the server restarts
					c.session(ctx, conn, tick.C, own, rows)
					_ = conn.Close(context.Background())
				}
			}
		})
	}
	t.Cleanup(c.stop)
	return c
}

func (c *churn) stop() {
	c.once.Do(func() { close(c.stopped) })
	ended(c.t, &c.writers, c.cut)
}

// session changes rows until the connection is cut.
func (c *churn) session(ctx context.Context, conn *pgx.Conn, tick <-chan time.Time, random *rand.Rand, rows int) {
	for {
		id := 1 + random.IntN(rows*11/10)
		sql := "update contas set saldo = saldo + 1 where id = $1"
		switch random.IntN(6) {
		case 0:
			sql = "delete from contas where id = $1"
		case 1, 2:
			sql = "insert into contas values ($1, 0.50, 'nova') on conflict (id) do update set saldo = contas.saldo * 2, nota = 'outra vez'"
		}
		if _, err := conn.Exec(ctx, sql, id); err != nil {
			return
		}
		select {
		case <-c.stopped:
			return
		case <-tick:
		}
	}
}

// contas is what the table holds: the fields of conta.estado by id.
func (w *world) contas() map[string]string {
	w.t.Helper()
	conn := w.connect()
	rows, _ := conn.Query(context.Background(), "select id::text, json_build_object('id', id, 'saldo', saldo, 'nota', nota)::text from contas")
	out := map[string]string{}
	var id, text string
	if _, err := pgx.ForEachRow(rows, []any{&id, &text}, func() error {
		out[id] = canonical(w.t, []byte(text))
		return nil
	}); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// canonical is JSON with its members in order and its numbers as they are.
func canonical(t *testing.T, text []byte) string {
	t.Helper()
	var v map[string]json.RawMessage
	if err := json.Unmarshal(text, &v); err != nil {
		t.Fatal(err)
	}
	out, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

// ledger applies events as a receiver does: each webhook-id once, in the order of arrival.
type ledger struct {
	rows  map[string]string
	known map[string]bool   // webhook-ids
	last  map[string]string // the sequence of a row's newest event
	read  map[string]int    // events of rows that were there, by row
	first map[string]bool   // rows of conta.nova
	again int               // how often rows may be read again
	wrong []string
}

func apply(t *testing.T, all []arrival) *ledger {
	t.Helper()
	l := &ledger{rows: map[string]string{}, known: map[string]bool{}, last: map[string]string{}, read: map[string]int{}, first: map[string]bool{}}
	for i := range all {
		a := &all[i]
		if l.known[a.id] {
			continue
		}
		l.known[a.id] = true
		var envelope struct{ Op, Sequence string }
		if err := json.Unmarshal(a.body, &envelope); err != nil {
			t.Fatal(err)
		}
		id := a.field("id")
		switch a.event {
		case "conta.nova":
			l.first[id] = true
			continue
		case "conta.estado":
		default:
			continue
		}
		if l.last[id] >= envelope.Sequence {
			l.wrong = append(l.wrong, fmt.Sprintf("row %s: %s of %s came behind %s", id, envelope.Op, envelope.Sequence, l.last[id]))
		}
		l.last[id] = envelope.Sequence
		switch envelope.Op {
		case "delete":
			delete(l.rows, id)
			continue
		case "read":
			l.read[id]++
		}
		text, err := json.Marshal(a.data)
		if err != nil {
			t.Fatal(err)
		}
		l.rows[id] = string(text)
	}
	return l
}

// check compares what the receiver has with the table.
func (l *ledger) check(t *testing.T, table map[string]string) {
	t.Helper()
	if diff := cmp.Diff(table, l.rows); diff != "" {
		t.Errorf("the table and what the receiver has of it:\n%s", tail(diff, 4000))
	}
	if len(l.wrong) > 0 {
		t.Errorf("%d events out of order: %s", len(l.wrong), tail(strings.Join(l.wrong, "; "), 2000))
	}
	again := 0
	for _, n := range l.read {
		again += n - 1
	}
	if again > l.again {
		t.Errorf("rows were read %d times more than once, under different webhook-ids; at most %d may be", again, l.again)
	}
	for id := range table {
		if !l.first[id] {
			t.Errorf("row %s is in the table, and its rule on insert has never had it", id)
		}
	}
}

// backfillInsert fills the table.
func backfillInsert(rows int) string {
	return fmt.Sprintf("insert into contas select n, n / 4.0, case when n %% 3 > 0 then 'nota ' || n end from generate_series(1, %d) n", rows)
}

// newBackfillWorld has a table with rows, on a server of its own: a backfill waits for the
// transactions of others, and keeps to what the slot has still to read of the server's WAL.
func newBackfillWorld(t *testing.T, rows int) *session {
	t.Helper()
	w := newWorldOn(t, ownPostgres(t, nil), "", testservers.RedisOptions{Settings: map[string]string{"appendfsync": "everysec"}}, backfillTable, backfillInsert(rows))
	w.rules = backfillRules
	w.extra = "state: {key: '" + stateKey + "'}"
	s := &session{world: w}
	return s
}

// started creates the configuration and starts the bridge.
func (s *session) started(receivers map[string]*receiver) *bridge {
	s.t.Helper()
	for _, name := range slices.Sorted(maps.Keys(receivers)) {
		s.endpoint(name, receivers[name].url())
	}
	s.path = s.write()
	return s.run()
}

// jobIn waits until a job is in one of the states.
func (s *session) jobIn(id int64, states ...state.JobState) state.Job {
	s.t.Helper()
	var j state.Job
	queuetest.Eventually(s.t, fmt.Sprintf("job %d in %v", id, states), func() bool {
		code, out, _ := s.gancho("backfill", "show", strconv.FormatInt(id, 10), "--json")
		if code != 0 {
			return false // the server restarts
		}
		j = state.Job{}
		if err := json.Unmarshal([]byte(out), &j); err != nil {
			s.t.Fatal(err)
		}
		return slices.Contains(states, j.State)
	})
	return j
}

// caughtUp waits until the receiver has everything, and returns what that is.
func (s *session) caughtUp(r *receiver) *ledger {
	s.t.Helper()
	s.exec("insert into contas values (-1, 1, 'fim')")
	seen := 0
	r.waitFor(2*time.Minute, "the last row", func(all []arrival) bool {
		for ; seen < len(all); seen++ {
			if all[seen].field("id") == "-1" {
				return true
			}
		}
		return false
	})
	queuetest.Drained(s.t, s.queue(), "a")
	all, _ := r.snapshot()
	return apply(s.t, all)
}

func TestBackfillUnderKills(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	random, rows := seeded(t), backfillRows(t)
	s := newBackfillWorld(t, rows)
	own := s.postgres
	r := newReceiver(t, nil)
	b := s.started(map[string]*receiver{"a": r})
	c := startChurn(t, s.dsn, random, rows, 2*time.Millisecond)
	out := decoded[struct{ Items []state.Job }](s, "backfill", "--table", "contas", "--rate", fmt.Sprintf("%d/s", rows/5))
	id := out.Items[0].ID
	part := func(n int) {
		r.waitFor(time.Minute, "a part of the rows", func(all []arrival) bool { return len(all) >= n*rows/4 })
	}
	part(1)
	b.kill()
	b = s.run()
	part(3)
	s.redis.Kill()
	if err := s.redis.Start(); err != nil {
		t.Fatal(err)
	}
	part(5)
	own.Kill()
	if err := own.Start(); err != nil {
		t.Fatal(err)
	}
	part(6)
	b.kill()
	s.redis.Kill()
	if err := s.redis.Start(); err != nil {
		t.Fatal(err)
	}
	b = s.run()
	j := s.jobIn(id, state.Done, state.Failed)
	if j.State != state.Done || j.Sent < int64(rows)/2 {
		t.Errorf("job ended as %+v", j)
	}
	c.stop()
	l := s.caughtUp(r)
	l.again = rows / 4 // of two kills in a row, one chunk: nobody has seen that it was taken
	l.check(t, s.contas())
	t.Logf("%d rows, %d read, %d events", len(l.rows), len(l.read), len(l.known))
	b.stop()
}

// TestBackfillSession is what an operator does with a backfill: looks at it, starts it, stops it for a while, lets it
// go on, and gives another one up.
func TestBackfillSession(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newBackfillWorld(t, 3000)
	s.rules += `  - event: conta.do.grupo
    table: contas
    on: insert
    backfill: never
    data: {id: id}
  - event: conta.lida
    table: contas
    on: insert
    tenant: case when id < 3 then 'poucos' else 'muitos' end
    data: {id: id, n: soltas.n, hash: md5(reverse(nota) || 'x')}
    lookup: {soltas: select count(*) as n from soltas where n <= new.id}
  - event: sem.chave
    table: soltas
    on: insert
    key: n
    data: {n: n}
`
	s.exec("create table soltas (n int)")
	s.exec("insert into soltas values (1), (2), (2)")
	r, other := newReceiver(t, nil), newReceiver(t, nil)
	b := s.started(map[string]*receiver{"a": r, "b": other})

	s.fails(2, "say whose rows: --rule, --table, or --all", "backfill")
	s.fails(2, "has no primary key", "backfill", "--rule", "sem.chave")
	s.fails(2, "no rule that makes these events", "backfill", "--rule", "conta.do.grupo")
	s.fails(2, "no rule on insert that is chosen is for the table", "backfill", "--table", "nada")
	s.fails(2, "column \"saldos\"", "backfill", "--table", "contas", "--where", "saldos > 1")
	s.fails(2, "pg_sleep", "backfill", "--table", "contas", "--where", "pg_sleep(1) is null")
	s.fails(2, "endpoint \"c\"", "backfill", "--table", "contas", "--endpoint", "c")
	out := s.ok("backfill", "--rule", "conta.estado", "--dry-run")
	for _, part := range []string{"public.contas: 3000 rows, for conta.estado", `{"data":{"id":9,"saldo":9.99999999999999999999,"nota":"xxxx 9"},"event":"conta.estado","op":"read"}`, "3000 rows would be read; nothing was changed"} {
		if !strings.Contains(out, part) {
			t.Errorf("the dry run does not say %s:\n%s", part, out)
		}
	}

	// A part, to one endpoint.
	s.ok("backfill", "--rule", "conta.estado", "--where", "id % 1000 = 7 and nota is not null", "--endpoint", "b", "--wait")
	got := other.waitCount(2)
	if len(got) != 2 || got[0].field("id") != "7" && got[0].field("id") != "1007" {
		t.Errorf("%d events came of a part of the rows, want those of 7 and 1007 (2007 has no nota)", len(got))
	}
	if all, _ := r.snapshot(); len(all) > 0 {
		t.Errorf("%d events went to another endpoint", len(all))
	}

	// With values from other tables, for one tenant.
	s.ok("backfill", "--rule", "conta.lida", "--where", "id < 5", "--tenant", "poucos", "--wait")
	lida := map[string]string{}
	for _, a := range r.waitCount(2) {
		lida[a.field("id")] = a.field("n") + string(a.data["hash"])
	}
	if diff := cmp.Diff(map[string]string{"1": `1"e8d7289d1b6b81baad43f7fba8dc4695"`, "2": `3"1b41ae7100921e740f65d701de698172"`}, lida); diff != "" {
		t.Errorf("conta.lida (-want +got):\n%s", diff)
	}

	// Pause, resume.
	id := decoded[struct{ Items []state.Job }](s, "backfill", "--rule", "conta.estado", "--rate", "1000/s").Items[0].ID
	job := strconv.FormatInt(id, 10)
	s.fails(1, "a backfill has not ended", "backfill", "--table", "contas")
	r.waitCount(502)
	s.ok("backfill", "pause", job)
	b.kill()
	b = s.run() // what was open is closed although nobody does the job
	queuetest.Eventually(t, "a closed backfill", func() bool {
		text, err := s.redisClient().HGet(context.Background(), "gancho:source", "reads").Result()
		return err == nil && text == ""
	})
	if j := s.jobIn(id, state.Paused); j.Sent == 0 || j.Sent >= 3000 {
		t.Errorf("paused as %+v", j)
	}
	s.exec("update contas set saldo = -saldo")
	s.ok("backfill", "resume", job)
	if j := s.jobIn(id, state.Done, state.Failed); j.State != state.Done || j.Sent != 3000 || j.Total != 3000 {
		t.Errorf("it ended as %+v", j)
	}
	s.caughtUp(r)
	all, _ := r.snapshot()
	l := apply(t, all)
	l.first = map[string]bool{} // only conta.estado was chosen
	for id := range l.rows {
		l.first[id] = true
	}
	l.check(t, s.contas())
	if len(l.read) != 3000 {
		t.Errorf("%d rows were read, want 3000", len(l.read))
	}

	// Cancel.
	id = decoded[struct{ Items []state.Job }](s, "backfill", "--table", "contas", "--rate", "500/s").Items[0].ID
	s.ok("backfill", "cancel", strconv.FormatInt(id, 10))
	s.fails(1, "has ended already", "backfill", "resume", strconv.FormatInt(id, 10))
	s.ok("backfill", "--rule", "conta.estado", "--where", "id = 1", "--wait") // nothing is in its way
	b.stop()
}
