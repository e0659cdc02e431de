package cdc_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
)

const oneTable = "create table t (id int primary key, v text)"

func insertions(from, to int) (want []string) {
	for i := from; i <= to; i++ {
		want = append(want, fmt.Sprintf("insert public.t new(id=%d v=<null>)", i))
	}
	return want
}

func insertEach(t testing.TB, conn *pgx.Conn, from, to int) {
	t.Helper()
	for i := from; i <= to; i++ {
		do(t, conn, fmt.Sprintf("insert into t values (%d)", i))
	}
}

// server starts a server of the test's own, for tests that stop it.
func server(t *testing.T, settings map[string]string) *testservers.Postgres {
	t.Helper()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{Settings: settings})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	return server
}

// TestLostConnection: after the server ends the connection, what was not
// confirmed comes again, at the same positions, and nothing is skipped.
func TestLostConnection(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	rec := onlooker()
	s := run(t, o, source, rec)
	conn := dial(t, dsn)
	insertEach(t, conn, 1, 3)
	first := []committed{s.next(), s.next(), s.next()}
	s.reader.Confirm(first[0].End)
	for round := range 3 {
		do(t, conn, "select pg_terminate_backend(active_pid) from pg_replication_slots where slot_name = '"+o.Slot+"'")
		await(t, s.resets, "the stream to start again")
		again := []committed{s.next(), s.next()}
		if diff := cmp.Diff(first[1:], again); diff != "" {
			t.Fatalf("round %d: what comes again (-first +again):\n%s", round, diff)
		}
	}
	insertEach(t, conn, 4, 5)
	if diff := cmp.Diff(insertions(4, 5), s.changes(2)); diff != "" {
		t.Errorf("changes after that (-want +got):\n%s", diff)
	}
	if !strings.Contains(s.log.String(), "connection to the source lost") {
		t.Errorf("nothing was logged:\n%s", s.log)
	}
}

// TestServerRestarts: a server that is stopped, or dies, is waited for.
func TestServerRestarts(t *testing.T) {
	t.Parallel()
	server := server(t, nil)
	dsn := server.Database(t, "", oneTable)
	o := optionsFor(dsn)
	s := start(t, o, allOps("t"))
	next := 1
	insert := func() {
		insertEach(t, dial(t, dsn), next, next+9)
		next += 10
	}
	insert()
	got := s.changes(10)
	for _, end := range []func(){func() { server.Stop("fast") }, server.Kill, func() { server.Stop("immediate") }} {
		end()
		if err := server.Start(); err != nil {
			t.Fatal(err)
		}
		insert()
		got = append(got, s.changes(10)...)
	}
	// What was in flight may come twice, but in order and with nothing missing.
	if diff := cmp.Diff(insertions(1, next-1), distinct(got)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func distinct(lines []string) (out []string) {
	seen := make(map[string]bool)
	for _, line := range lines {
		if !seen[line] {
			out = append(out, line)
		}
		seen[line] = true
	}
	return out
}

// TestRewind: the stream goes back to the confirmed position.
func TestRewind(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	rec := onlooker()
	s := run(t, o, source, rec)
	conn := dial(t, dsn)
	for round := range 5 {
		insertEach(t, conn, round*10+1, round*10+3)
		first := []committed{s.next(), s.next(), s.next()}
		s.reader.Confirm(first[0].End)
		s.reader.Rewind()
		await(t, s.resets, "the stream to start again")
		if diff := cmp.Diff(first[1:], []committed{s.next(), s.next()}); diff != "" {
			t.Fatalf("round %d (-first +again):\n%s", round, diff)
		}
		s.reader.Confirm(first[2].End)
	}
}

// TestSlotInUse: a slot that another process reads is waited for, with a line in the log.
func TestSlotInUse(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	first := start(t, o, allOps("t"))
	second := &stream{recorder: newRecorder(), t: t, log: &logBuffer{}, done: make(chan error, 1)}
	o.Log = zerolog.New(second.log)
	second.reader = cdc.NewReader(o, first.source)
	var ctx context.Context
	ctx, second.cancel = context.WithCancel(context.Background())
	go func() { second.done <- second.reader.Run(ctx, second.recorder) }()
	t.Cleanup(func() { _ = second.end() })
	eventually(t, "the log line", func() bool { return strings.Contains(second.log.String(), "slot is in use by another process") })
	conn := dial(t, dsn)
	insertEach(t, conn, 1, 2)
	if diff := cmp.Diff(insertions(1, 2), first.changes(2)); diff != "" {
		t.Errorf("first (-want +got):\n%s", diff)
	}
	lsn := value[cdc.LSN](t, conn, "select pg_current_wal_lsn()")
	eventually(t, "the first reader to confirm", func() bool { return first.reader.Confirmed() >= lsn })
	if err := first.end(); err != nil {
		t.Fatal(err)
	}
	await(t, second.resets, "the second reader to take over")
	insertEach(t, conn, 3, 4)
	if diff := cmp.Diff(insertions(3, 4), second.changes(2)); diff != "" {
		t.Errorf("second (-want +got):\n%s", diff)
	}
	if n := strings.Count(second.log.String(), "slot is in use"); n != 1 {
		t.Errorf("logged %d times", n)
	}
}

// TestSlotGone: a slot that somebody dropped is an error that says what to do.
func TestSlotGone(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	do(t, conn, "select pg_drop_replication_slot('"+o.Slot+"')")
	err := cdc.NewReader(o, source).Run(t.Context(), onlooker())
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "slot_gone", err.Error(), o.Slot, "SLOT")
	o.Known = true
	_, err = cdc.Prepare(t.Context(), o, allOps("t"))
	if lost, ok := errors.AsType[*cdc.LostSlotError](err); !ok || lost.Reason != cdc.SlotMissing {
		t.Errorf("prepared in place of one that was read: %v", err)
	}
	var slots int
	if err := conn.QueryRow(t.Context(), "select count(*) from pg_replication_slots where slot_name = $1", o.Slot).Scan(&slots); err != nil || slots != 0 {
		t.Errorf("%d slots were created in its place, %v", slots, err)
	}
}

// TestYoungPublication: the publication of everything that is younger than the
// changes to be read would skip them: an error, with all versions of PostgreSQL.
func TestYoungPublication(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create publication gancho for table t")
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	do(t, dial(t, dsn), "drop publication gancho", "insert into t values (1)", "create publication gancho for table t")
	err := cdc.NewReader(o, source).Run(t.Context(), onlooker())
	if err == nil {
		t.Fatal("no error")
	}
	if !strings.Contains(err.Error(), "publication gancho did not exist when the next changes were made") || !strings.Contains(err.Error(), "pg_replication_slot_advance('"+o.Slot+"'") {
		t.Error(err)
	}
}

// TestYoungInsertPublication: the publication for tables without identity may
// be made while changes from before its time are waiting. None is lost.
func TestYoungInsertPublication(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create table livro (id int)", "create publication gancho for table t")
	conn := dial(t, dsn)
	o := optionsFor(dsn)
	do(t, conn, "select pg_create_logical_replication_slot('"+o.Slot+"', 'pgoutput')")
	insertEach(t, conn, 1, 3)
	do(t, conn, "insert into livro values (1)") // not published yet
	source := prepare(t, o, append(allOps("t"), cdc.TableNeed{Name: "livro", Insert: true}))
	if source.SlotCreated || len(source.Publications) != 2 {
		t.Fatalf("source %+v", source)
	}
	do(t, conn, "begin; insert into livro values (2); insert into t values (4); commit", "insert into t values (5)")
	rec := newRecorder()
	var waiting error
	rec.logged = func(line string) {
		if strings.Contains(line, "searching for the first that know it") {
			waiting = rec.reader.Waiting()
		}
	}
	s := run(t, o, source, rec)
	want := append(insertions(1, 3), "insert public.livro new(id=2)", insertions(4, 4)[0], insertions(5, 5)[0])
	if diff := cmp.Diff(want, s.changes(len(want))); diff != "" {
		t.Errorf("changes (-want +got):\n%s\n%s", diff, s.log)
	}
	if value[int](t, conn, "select current_setting('server_version_num')::int") >= 180000 {
		return // which skips a publication that it does not know yet: there is nothing to search
	}
	if waiting == nil || !strings.Contains(waiting.Error(), "publication gancho_insert is younger") || s.reader.Waiting() != nil {
		t.Errorf("during the search it waits for %v, then for %v", waiting, s.reader.Waiting())
	}
}

// TestYoungInsertPublicationAlone: nor is one lost that no change of the other
// publication follows, since PostgreSQL sends no transaction without changes.
func TestYoungInsertPublicationAlone(t *testing.T) {
	t.Parallel()
	for _, backlog := range []string{"insert into outside values (1)", "insert into t values (default)"} {
		dsn := pg.Database(t, "", "create table t (id serial primary key)", "create table livro (id int)", "create table outside (id int)")
		conn := dial(t, dsn)
		o := optionsFor(dsn)
		needs := append(allOps("t"), cdc.TableNeed{Name: "livro", Insert: true})
		prepare(t, o, needs)
		do(t, conn, "insert into livro values (0)", "drop publication gancho_insert", backlog, "insert into livro values (1)", backlog) // not published
		source := prepare(t, o, needs)
		do(t, conn, "insert into livro values (2)", "insert into livro values (3)")
		rec := newRecorder()
		rec.late = 1
		s := run(t, o, source, rec)
		first := s.next()
		if diff := cmp.Diff([]string{"insert public.livro new(id=0)"}, first.Changes); diff != "" {
			t.Errorf("before the publication was dropped (-want +got):\n%s", diff)
		}
		s.reader.Confirm(first.End) // which leaving the publication out waits for
		want := []string{"insert public.livro new(id=2)", "insert public.livro new(id=3)"}
		if strings.Contains(backlog, " t ") {
			want = append([]string{"insert public.t new(id=1)", "insert public.t new(id=2)"}, want...)
		}
		if diff := cmp.Diff(want, s.changes(len(want))); diff != "" {
			t.Errorf("after %s: changes (-want +got):\n%s\n%s", backlog, diff, s.log)
		}
		do(t, conn, "insert into livro values (4)", "insert into t values (5)")
		if diff := cmp.Diff("insert public.livro new(id=4)", s.next().Changes[0]); diff != "" {
			t.Errorf("after the publication was left out (-want +got):\n%s\n%s", diff, s.log)
		}
	}
}

// TestHandlerErrors: an error of any method ends Run with that very error.
func TestHandlerErrors(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	do(t, dial(t, dsn), "insert into t values (1)")
	boom := errors.New("boom")
	for _, method := range []string{"Reset", "Begin", "Change", "Commit", "Flush", "Keepalive"} {
		h := &failing{recorder: newRecorder(), method: method, err: boom}
		h.confirm = false
		h.reader = cdc.NewReader(o, source)
		if err := h.reader.Run(t.Context(), h); !errors.Is(err, boom) {
			t.Errorf("%s: %v", method, err)
		}
	}
}

// failing fails in one method.
type failing struct {
	*recorder
	method string
	err    error
}

func (f *failing) fail(method string, next func() error) error {
	if f.method == method {
		return f.err
	}
	return next()
}

func (f *failing) Begin(tx *cdc.Transaction) error {
	return f.fail("Begin", func() error { return f.recorder.Begin(tx) })
}
func (f *failing) Change(c *cdc.Change) error {
	return f.fail("Change", func() error { return f.recorder.Change(c) })
}
func (f *failing) Commit(tx *cdc.Transaction) error {
	return f.fail("Commit", func() error { return f.recorder.Commit(tx) })
}
func (f *failing) Keepalive(lsn cdc.LSN) error {
	return f.fail("Keepalive", func() error { return f.recorder.Keepalive(lsn) })
}
func (f *failing) Flush() error { return f.fail("Flush", f.recorder.Flush) }
func (f *failing) Reset() error { return f.fail("Reset", f.recorder.Reset) }

// TestIdentityChanged: another server, or one taken back in time, is not read.
func TestIdentityChanged(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	for name, change := range map[string]func(*cdc.Identity){
		"system": func(i *cdc.Identity) { i.SystemID = "1" }, "timeline": func(i *cdc.Identity) { i.Timeline++ }, "database": func(i *cdc.Identity) { i.Database = "x" },
	} {
		other := *source
		change(&other.Identity)
		err := cdc.NewReader(o, &other).Run(t.Context(), onlooker())
		var changed *cdc.IdentityChangedError
		if !errors.As(err, &changed) || changed.Was != other.Identity || changed.Is != source.Identity {
			t.Errorf("%s: %v", name, err)
		}
	}
	reader := cdc.NewReader(o, source)
	reader.Confirm(1 << 60)
	err := reader.Run(t.Context(), onlooker())
	var changed *cdc.IdentityChangedError
	if !errors.As(err, &changed) || changed.Confirmed != 1<<60 || !strings.Contains(err.Error(), "back in time") {
		t.Errorf("back in time: %v", err)
	}
}

// TestIdleDatabase: WAL that has nothing for us is confirmed, so that the
// server need not hold it: of tables that are not published, and of other databases. Nothing is written for that.
func TestIdleDatabase(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable, "create table outside (v text)")
	s := start(t, optionsFor(dsn), allOps("t"))
	conn := dial(t, dsn)
	other := dial(t, pg.Database(t, "", "create table outside (v text)"))
	for i := range 4 {
		busy := conn
		if i%2 == 1 {
			busy = other
		}
		do(t, busy, "insert into outside select repeat('x', 1000) from generate_series(1, 1000)")
		lsn := value[cdc.LSN](t, conn, "select pg_current_wal_lsn()")
		eventually(t, "the position to be confirmed at the server", func() bool {
			stats, err := cdc.ReadSlot(context.Background(), conn, optionsFor(dsn).Slot)
			return err == nil && stats.ConfirmedFlush >= lsn && stats.Active
		})
	}
	if len(s.transactions) != 0 {
		t.Error("changes of a table that is not published")
	}
	if _, err := cdc.ReadSlot(context.Background(), conn, "no_such"); !errors.Is(err, cdc.ErrNoSlot) {
		t.Errorf("lag of no slot: %v", err)
	}
}

// gate blocks a handler until it is opened.
type gate struct {
	reached chan struct{} // closed when the handler is blocked
	open    chan struct{}
	once    sync.Once
}

func newGate() *gate { return &gate{reached: make(chan struct{}), open: make(chan struct{})} }

func (g *gate) pass(*cdc.Change) error {
	g.once.Do(func() { close(g.reached) })
	<-g.open
	return nil
}

// TestBlockedHandler: a handler that is blocked for longer than the server
// waits keeps its connection, reads nothing more, and does not keep the server
// from shutting down.
func TestBlockedHandler(t *testing.T) {
	t.Parallel()
	for name, load := range map[string]string{
		// Fills all chunks and the socket: nothing can be heard from the server any more.
		"much to read":   "insert into t select i, repeat('x', 10000) from generate_series(1, 3000) i",
		"little to read": "insert into t values (1, 'x')",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := server(t, map[string]string{"wal_sender_timeout": "1000"})
			dsn := server.Database(t, "", oneTable)
			o := optionsFor(dsn)
			source := prepare(t, o, allOps("t"))
			rec := newRecorder()
			g := newGate()
			rec.change = g.pass
			s := run(t, o, source, rec)
			conn := dial(t, dsn)
			do(t, conn, load)
			await(t, g.reached, "the handler to block")
			rows := value[int](t, conn, "select count(*) from t")

			const alive = "select count(*) from pg_stat_replication where backend_start < clock_timestamp() - interval '3 s'"
			eventually(t, "the connection to have lived for three timeouts", func() bool { return value[int](t, conn, alive) == 1 })
			_ = conn.Close(context.Background())
			stopped := make(chan struct{})
			go func() { server.Stop("fast"); close(stopped) }()
			await(t, stopped, "the server to shut down")
			if err := server.Start(); err != nil {
				t.Fatal(err)
			}
			close(g.open)
			await(t, s.resets, "the stream to start again")
			eventually(t, "all rows to have arrived", func() bool {
				return len(s.transactions) > 0 && len((<-s.transactions).Changes) == rows
			})
		})
	}
}

// TestSilentServer: a connection that leads nowhere any more is given up.
func TestSilentServer(t *testing.T) {
	t.Parallel()
	server := server(t, map[string]string{"wal_sender_timeout": "1200"})
	dsn := server.Database(t, "", oneTable)
	cut := newProxy(t, server.Port())
	o := optionsFor(dsn)
	o.DSN = strings.Replace(dsn, ":"+strconv.Itoa(server.Port())+"/", ":"+strconv.Itoa(cut.port)+"/", 1)
	s := start(t, o, allOps("t"))
	conn := dial(t, dsn)
	insertEach(t, conn, 1, 2)
	got := s.changes(2)
	cut.freeze()
	insertEach(t, conn, 3, 4)
	await(t, s.resets, "the stream to start again")
	if diff := cmp.Diff(insertions(1, 4), distinct(append(got, s.changes(2)...))); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if !strings.Contains(s.log.String(), "silent") {
		t.Errorf("log:\n%s", s.log)
	}
}

// proxy passes connections on until it is frozen: then those that are open
// pass nothing more, and say nothing, while new ones work.
type proxy struct {
	port    int
	mu      sync.Mutex
	frozen  chan struct{}
	running sync.WaitGroup
}

func newProxy(t *testing.T, target int) *proxy {
	t.Helper()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{port: listener.Addr().(*net.TCPAddr).Port, frozen: make(chan struct{})}
	var open []net.Conn
	p.running.Go(func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			upstream, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(target))
			if err != nil {
				_ = client.Close()
				continue
			}
			p.mu.Lock()
			open = append(open, client, upstream)
			frozen := p.frozen
			p.mu.Unlock()
			p.running.Go(func() { p.copy(client, upstream, frozen) })
			p.running.Go(func() { p.copy(upstream, client, frozen) })
		}
	})
	t.Cleanup(func() {
		_ = listener.Close()
		p.mu.Lock()
		for _, c := range open {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.running.Wait()
	})
	return p
}

func (p *proxy) freeze() {
	p.mu.Lock()
	defer p.mu.Unlock()
	close(p.frozen)
	p.frozen = make(chan struct{})
}

func (p *proxy) copy(to io.WriteCloser, from io.Reader, frozen chan struct{}) {
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		select {
		case <-frozen:
			if err != nil {
				return
			}
			continue // swallowed
		default:
		}
		if err == nil {
			_, err = to.Write(b[:n])
		}
		if err != nil {
			_ = to.Close()
			return
		}
	}
}

// TestAdvance: a position is confirmed without a reader, and never taken back.
func TestAdvance(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	insertEach(t, conn, 1, 1)
	lsn := value[cdc.LSN](t, conn, "select pg_current_wal_lsn()")
	insertEach(t, conn, 2, 2)
	for _, to := range []cdc.LSN{lsn, source.ConfirmedFlush} {
		if err := cdc.Advance(t.Context(), o, to); err != nil {
			t.Fatal(err)
		}
	}
	s := run(t, o, source, newRecorder())
	if diff := cmp.Diff(insertions(2, 2), s.changes(1)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestSlotGauge: one connection serves all measurements, and a new one those
// after it was lost.
func TestSlotGauge(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", oneTable)
	o := optionsFor(dsn)
	prepare(t, o, allOps("t"))
	conn := dial(t, dsn)
	const gauge = "application_name=gauge"
	backend := func() string {
		return value[string](t, conn, "select coalesce(string_agg(pid::text, ' '), '') from pg_stat_activity where datname = current_database() and application_name = 'gauge'")
	}
	g := cdc.NewSlotGauge(dsn+"&"+gauge, o.Slot)
	before, err := g.Measure(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	first := backend()
	do(t, conn, "insert into t values (1)")
	after, err := g.Measure(t.Context())
	if err != nil || after.Name != o.Slot || after.Active || after.UnconfirmedBytes <= before.UnconfirmedBytes || after.HeldBytes < after.UnconfirmedBytes || after.WALStatus != "reserved" {
		t.Errorf("measured %+v, before %+v: %v", after, before, err)
	}
	if first == "" || backend() != first {
		t.Errorf("the connections are %q and were %q", backend(), first)
	}
	do(t, conn, "select pg_terminate_backend("+first+")")
	if _, err := g.Measure(t.Context()); err != nil || backend() == first {
		t.Errorf("after the connection was terminated: %v", err)
	}
	do(t, conn, "select pg_drop_replication_slot('"+o.Slot+"')")
	kept := backend()
	if _, err := g.Measure(t.Context()); !errors.Is(err, cdc.ErrNoSlot) || backend() != kept {
		t.Errorf("without the slot: %v", err)
	}
	g.Close(t.Context())
	eventually(t, "the connection to be closed", func() bool { return backend() == "" })
}
