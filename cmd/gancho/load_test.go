package main_test

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue/queuetest"
)

// The load that the crash tests put through the bridge: rows numbered per key,
// each key written by one session, so that the numbers of a key rise in commit
// order.
const (
	loadTable = `create table eventos (id bigserial primary key, cliente_id int not null, seq int not null, texto text)`
	loadRules = `rules:
  - event: evento.criado
    table: eventos
    on: insert
    key: cliente_id
    data: {id: id, cliente_id: cliente_id, seq: seq}
`
)

// load writes numbered rows from several sessions until stop is called. A
// session whose connection is cut looks up how far it got and continues: a
// commit whose answer was lost may or may not have happened.
type load struct {
	t       *testing.T
	dsn     string
	stopped chan struct{}
	writers sync.WaitGroup
	cut     context.CancelFunc // ends the writers' statements
	mu      sync.Mutex
	rows    int
	wrote   chan struct{}    // closed and replaced at every commit
	pace    <-chan time.Time // a token per transaction
}

const (
	loadWriters   = 4
	keysPerWriter = 10
	// fullPace is about the rate that the bridge takes with the race detector.
	fullPace = time.Millisecond
	// loadPace keeps transactions coming for as long as something is dead: what piles
	// up then has to be delivered at the end.
	loadPace = 5 * time.Millisecond
)

// startLoad starts the writers, which commit a transaction every so often.
func startLoad(t *testing.T, dsn string, every time.Duration) *load {
	tick := time.NewTicker(every)
	t.Cleanup(tick.Stop)
	ctx, cut := context.WithCancel(context.Background())
	l := &load{t: t, dsn: dsn, stopped: make(chan struct{}), cut: cut, wrote: make(chan struct{}), pace: tick.C}
	for w := range loadWriters {
		l.writers.Go(func() { l.write(ctx, w) })
	}
	t.Cleanup(func() { l.stop() })
	return l
}

// stop ends the load and returns how many rows the table holds.
func (l *load) stop() int {
	l.t.Helper()
	select {
	case <-l.stopped:
	default:
		close(l.stopped)
	}
	ended(l.t, &l.writers, l.cut)
	var n int
	conn, err := pgx.Connect(context.Background(), l.dsn)
	if err != nil {
		return 0 // the server is stopped: only at the end of a failed test
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(context.Background(), "select count(*) from eventos").Scan(&n); err != nil {
		l.t.Errorf("count rows: %v", err)
	}
	return n
}

// ended waits for sessions that were told to end, and cuts those whose statement does not.
func ended(t *testing.T, sessions *sync.WaitGroup, cut context.CancelFunc) {
	t.Helper()
	late := time.AfterFunc(queuetest.Patience, func() {
		t.Errorf("a statement of the load did not end in %s", queuetest.Patience)
		cut()
	})
	sessions.Wait()
	late.Stop()
	cut()
}

func (l *load) write(ctx context.Context, writer int) {
	for l.next() {
		conn, err := pgx.Connect(ctx, l.dsn)
		if err != nil {
			continue // the server restarts
		}
		_ = l.session(ctx, conn, writer) // a cut connection: start over
		_ = conn.Close(context.Background())
	}
}

// next waits until a transaction may begin; false: the load has ended.
func (l *load) next() bool {
	select {
	case <-l.stopped:
		return false
	case <-l.pace:
		return true
	}
}

// session writes transactions of one to five rows until the load ends or the
// connection does.
func (l *load) session(ctx context.Context, conn *pgx.Conn, writer int) error {
	next := make([]int, keysPerWriter)
	for k := range next {
		if err := conn.QueryRow(ctx, "select coalesce(max(seq), 0) + 1 from eventos where cliente_id = $1", writer*keysPerWriter+k).Scan(&next[k]); err != nil {
			return err
		}
	}
	for n := 0; l.next(); n++ {
		k, rows := n%keysPerWriter, 1+n%5
		_, err := conn.Exec(ctx, "insert into eventos (cliente_id, seq) select $1, g from generate_series($2::int, $3::int) g",
			writer*keysPerWriter+k, next[k], next[k]+rows-1)
		if err != nil {
			return err
		}
		next[k] += rows
		l.mu.Lock()
		l.rows += rows
		close(l.wrote)
		l.wrote = make(chan struct{})
		l.mu.Unlock()
	}
	return nil
}

// waitRows waits until n more rows have been committed, as long as they keep coming.
func (l *load) waitRows(n int) {
	l.t.Helper()
	l.mu.Lock()
	target := l.rows + n
	l.mu.Unlock()
	for {
		l.mu.Lock()
		rows, wrote := l.rows, l.wrote
		l.mu.Unlock()
		if rows >= target {
			return
		}
		select {
		case <-wrote:
		case <-time.After(queuetest.Patience):
			l.t.Fatalf("nothing was committed for %s: %d rows were, %d are to be", queuetest.Patience, rows, target)
		}
	}
}

// checkDelivery checks what the promises say of everything that arrived: every
// row of the table exactly one identity, every first delivery in order of its
// key. It returns the number of repeated deliveries.
func checkDelivery(t *testing.T, arrivals []arrival, rows int) (repeats int) {
	t.Helper()
	first := map[string]string{} // row -> webhook-id
	ids := map[string]string{}   // webhook-id -> row
	last := map[string]int{}     // key -> newest seq delivered
	disorder := 0
	for _, a := range arrivals {
		row := a.field("cliente_id") + "/" + a.field("seq")
		if id, ok := first[row]; ok {
			if id != a.id {
				t.Errorf("row %s arrived as %s and as %s", row, id, a.id)
			}
			repeats++
			continue
		}
		if other, ok := ids[a.id]; ok {
			t.Errorf("rows %s and %s share the identity %s", other, row, a.id)
		}
		first[row], ids[a.id] = a.id, row
		seq, err := strconv.Atoi(a.field("seq"))
		if err != nil {
			t.Fatalf("seq: %v", err)
		}
		key := a.field("cliente_id")
		if seq != last[key]+1 {
			if disorder < 5 {
				t.Errorf("key %s: %d arrived first after %d", key, seq, last[key])
			}
			disorder++
		}
		last[key] = max(last[key], seq)
	}
	if len(first) != rows {
		t.Errorf("%d of %d rows arrived", len(first), rows)
	}
	if disorder > 0 {
		t.Errorf("%d first deliveries out of order", disorder)
	}
	return repeats
}

func describe(rows, repeats, rounds int) string {
	return fmt.Sprintf("%d rows, %d repeated deliveries in %d rounds", rows, repeats, rounds)
}
