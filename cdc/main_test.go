package cdc_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"go.uber.org/goleak"

	"gancho/cdc"
	"gancho/internal/testservers"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) {
	// These tests wait for servers more than they compute.
	if err := flag.Set("test.parallel", "6"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	code := testservers.Main(m, &pg)
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// patience is how long a test waits for something that must happen.
const patience = 30 * time.Second

// committed is a transaction as the recorder saw it.
type committed struct {
	cdc.Transaction
	Changes   []string // see render
	Positions []cdc.Position
	Relations []*cdc.Relation
}

// recorder is a handler that writes down what it gets, and confirms it.
type recorder struct {
	reader  *cdc.Reader
	confirm bool    // confirm every commit and keepalive
	late    int     // that many commits are left to the test
	glances cdc.LSN // the reader looks first, and has confirmed that; 0: it does not
	asks    bool    // and is asked before
	lazily  bool    // the reader loads no types
	// change, if set, is called with every change first, and logged with every line of the log.
	change func(*cdc.Change) error
	logged func(line string)

	open         committed
	transactions chan committed
	resets       chan struct{}
	keepalives   chan cdc.LSN  // the newest one
	flushes      chan struct{} // holds one signal
}

func newRecorder() *recorder {
	return &recorder{confirm: true, transactions: make(chan committed, 1<<16), resets: make(chan struct{}, 1<<10),
		keepalives: make(chan cdc.LSN, 1), flushes: make(chan struct{}, 1)}
}

// onlooker returns a recorder that confirms nothing.
func onlooker() *recorder {
	r := newRecorder()
	r.confirm = false
	return r
}

func (r *recorder) Begin(tx *cdc.Transaction) error {
	r.open = committed{Transaction: *tx}
	return nil
}

func (r *recorder) Change(c *cdc.Change) error {
	if r.change != nil {
		if err := r.change(c); err != nil {
			return err
		}
	}
	r.open.Changes = append(r.open.Changes, render(c))
	r.open.Positions = append(r.open.Positions, c.Position)
	r.open.Relations = append(r.open.Relations, c.Relation)
	return nil
}

func (r *recorder) Commit(tx *cdc.Transaction) error {
	r.open.Transaction = *tx
	if len(r.open.Changes) > 0 { // PostgreSQL 14 sends transactions of unpublished tables as empty ones
		r.transactions <- r.open
	}
	if r.late > 0 {
		r.late--
		return nil
	}
	if r.confirm {
		r.reader.Confirm(tx.End)
	}
	return nil
}

func (r *recorder) Keepalive(lsn cdc.LSN) error {
	select {
	case <-r.keepalives:
	default:
	}
	r.keepalives <- lsn
	if r.confirm {
		r.reader.Confirm(lsn)
	}
	return nil
}

func (r *recorder) Flush() error {
	select {
	case r.flushes <- struct{}{}:
	default:
	}
	return nil
}

func (r *recorder) Reset() error {
	r.open = committed{}
	r.resets <- struct{}{}
	return nil
}

// render writes a change as one line: op schema.table new(...) old(...).
func render(c *cdc.Change) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s %s", c.Op, c.Relation.TableName())
	row := func(label string, row []cdc.Datum) {
		if row == nil {
			return
		}
		b.WriteString(" " + label + "(")
		for i, d := range row {
			if i > 0 {
				b.WriteString(" ")
			}
			b.WriteString(c.Relation.Columns[i].Name + "=")
			switch d.State {
			case cdc.Missing:
				b.WriteString("<missing>")
			case cdc.Null:
				b.WriteString("<null>")
			case cdc.Unchanged:
				b.WriteString("<unchanged>")
			case cdc.Present:
				if len(d.Text) > 60 {
					fmt.Fprintf(&b, "<%d bytes>", len(d.Text))
				} else {
					b.Write(d.Text)
				}
			}
		}
		b.WriteString(")")
	}
	row("new", c.New)
	row("old", c.Old)
	return b.String()
}

// stream is a running reader.
type stream struct {
	*recorder
	t      testing.TB
	source *cdc.Source
	log    *logBuffer
	cancel context.CancelFunc
	done   chan error // gets what Run returned
	once   sync.Once
	err    error
}

// optionsFor returns options with a slot of the database's own: slots belong to
// the whole server.
func optionsFor(dsn string) cdc.Options {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		panic(err) // the DSN is testservers' own
	}
	return cdc.Options{DSN: dsn, Slot: "slot_" + config.Database, Publication: "gancho", Create: true}
}

// allOps needs everything of the tables.
func allOps(tables ...string) []cdc.TableNeed {
	var needs []cdc.TableNeed
	for _, table := range tables {
		name, err := cdc.ParseName(table)
		if err != nil {
			panic(err) // a test's own
		}
		needs = append(needs, cdc.TableNeed{Schema: name.Schema, Name: name.Name, Insert: true, Update: true, Delete: true, Truncate: true})
	}
	return needs
}

func prepare(t testing.TB, o cdc.Options, needs []cdc.TableNeed) *cdc.Source {
	t.Helper()
	source, err := cdc.Prepare(t.Context(), o, needs)
	if err != nil {
		t.Fatalf("prepare: %v", err)
	}
	return source
}

// start prepares the database and runs a reader on it until the test ends.
func start(t testing.TB, o cdc.Options, needs []cdc.TableNeed) *stream {
	t.Helper()
	return run(t, o, prepare(t, o, needs), newRecorder())
}

func run(t testing.TB, o cdc.Options, source *cdc.Source, rec *recorder) *stream {
	t.Helper()
	s := &stream{recorder: rec, t: t, source: source, log: &logBuffer{logged: rec.logged}, done: make(chan error, 1)}
	o.Log = zerolog.New(s.log)
	s.reader = cdc.NewReader(o, source)
	if rec.lazily {
		s.reader.LoadLazily()
	}
	if rec.glances != 0 {
		s.reader.Confirm(rec.glances)
		s.reader.Glance()
		if rec.asks {
			s.reader.Ask()
		}
	}
	var ctx context.Context
	ctx, s.cancel = context.WithCancel(context.Background())
	go func() { s.done <- s.reader.Run(ctx, rec) }()
	t.Cleanup(func() {
		if err := s.end(); err != nil {
			t.Errorf("run: %v\n%s", err, s.log)
		}
	})
	await(t, rec.resets, "the stream to start")
	return s
}

// end stops the reader and returns what Run returned.
func (s *stream) end() error {
	s.once.Do(func() {
		s.cancel()
		s.err = await(s.t, s.done, "the reader to end")
	})
	return s.err
}

// changes returns the next n changes, over as many transactions as they take.
func (s *stream) changes(n int) []string {
	s.t.Helper()
	var all []string
	for len(all) < n {
		all = append(all, s.next().Changes...)
	}
	return all
}

func (s *stream) next() committed {
	s.t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case tx := <-s.transactions:
		return tx
	case err := <-s.done:
		s.t.Fatalf("the reader ended: %v\n%s", err, s.log)
	case <-deadline.C:
		s.t.Fatalf("no transaction within %s\n%s", patience, s.log)
	}
	return committed{}
}

func await[T any](t testing.TB, c <-chan T, what string) T {
	t.Helper()
	deadline := time.NewTimer(patience)
	defer deadline.Stop()
	select {
	case v := <-c:
		return v
	case <-deadline.C:
		t.Fatalf("waited %s for %s", patience, what)
	}
	panic("unreachable")
}

// eventually asks again until the answer is yes.
func eventually(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %s for %s", patience, what)
		}
	}
}

// logBuffer collects log lines.
type logBuffer struct {
	logged func(line string) // if set, is called with every line
	mu     sync.Mutex
	b      strings.Builder
}

func (l *logBuffer) Write(p []byte) (int, error) {
	if l.logged != nil {
		l.logged(string(p))
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// dial opens a connection for the test's own statements.
func dial(t testing.TB, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// do runs statements in one transaction each.
func do(t testing.TB, conn *pgx.Conn, statements ...string) {
	t.Helper()
	for _, s := range statements {
		if _, err := conn.Exec(context.Background(), s); err != nil {
			t.Fatalf("%s: %v", s, err)
		}
	}
}

// value reads one value.
func value[T any](t testing.TB, conn *pgx.Conn, sql string, args ...any) T {
	t.Helper()
	var v T
	if err := conn.QueryRow(context.Background(), sql, args...).Scan(&v); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return v
}
