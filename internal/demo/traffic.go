package demo

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/internal/retry"
)

// actTimeout bounds one transaction of the traffic.
const actTimeout = time.Minute

// Traffic plays the legacy application on its database: the statements that
// such systems send, with no knowledge of Gancho. It counts which events its
// committed transactions must cause. Its methods, Sum apart, are one
// goroutine's.
type Traffic struct {
	conn   *pgx.Conn
	rng    *rand.Rand
	report func(string)

	tx      pgx.Tx // the transaction of the present act
	pending Sum    // what it adds when it commits
	serial  int    // for numbers that must not repeat

	mu  sync.Mutex
	sum Sum
}

// Sum is what the traffic has committed.
type Sum struct {
	// Events are those that must arrive.
	Events Counts
	// Transactions are those committed; rolled back ones are not counted.
	Transactions int
	// Rows are those that statements inserted, updated or deleted, as
	// PostgreSQL reported them: those that triggers touched are not among them.
	Rows int64
}

// NewTraffic returns traffic for a database with the legacy schema, its seed
// and the demo's rows. The connection stays the caller's. The seed decides the
// choices; report is called with a line for people about each bulk update.
func NewTraffic(conn *pgx.Conn, seed uint64, report func(string)) *Traffic {
	return &Traffic{
		conn: conn, rng: rand.New(rand.NewPCG(seed, seed)), report: report,
		sum: Sum{Events: Counts{}},
	}
}

// Sum returns what has been committed so far. It may be called at any time.
func (t *Traffic) Sum() Sum {
	t.mu.Lock()
	defer t.mu.Unlock()
	s := t.sum
	s.Events = maps.Clone(t.sum.Events)
	return s
}

// errRollback ends an act with a rollback, as an application does when a user
// cancels.
var errRollback = errors.New("rolled back on purpose")

// Do plays one act in a transaction. The transaction is finished even when the
// context is cancelled meanwhile: a commit of unknown outcome could not be counted.
func (t *Traffic) Do(ctx context.Context, a Act) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), actTimeout)
	defer cancel()
	t.pending = Sum{Events: Counts{}}
	err := pgx.BeginFunc(ctx, t.conn, func(tx pgx.Tx) error {
		t.tx = tx
		return a.play(t, ctx)
	})
	switch {
	case errors.Is(err, pgx.ErrNoRows), errors.Is(err, errRollback):
		return nil // an act that finds no row to act on has not failed
	case err != nil:
		return fmt.Errorf("play %s: %w", a.Name, err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.sum.Events.Add(t.pending.Events)
	t.sum.Transactions++
	t.sum.Rows += t.pending.Rows
	return nil
}

// Play plays acts at a pace that people can follow, with a rush at the
// turnstiles every few seconds and the bulk updates of a night's jobs in
// between, until the duration is over or the context is done; zero means the
// latter. Ending is no error.
func (t *Traffic) Play(ctx context.Context, d time.Duration) error {
	day := cmp.Or(d, 40*time.Second) // a demo without end repeats its day
	if d > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, d)
		defer cancel()
	}
	plan := t.dayPlan(day)
	start := time.Now()
	for ; ; start = start.Add(day) {
		for _, event := range plan {
			if retry.Wait(ctx, time.Until(start.Add(event.at))) != nil {
				return nil
			}
			for range event.times {
				if ctx.Err() != nil {
					return nil
				}
				if err := t.Do(ctx, event.act); err != nil {
					return err
				}
			}
		}
	}
}

// planned is an act's place in the day.
type planned struct {
	at    time.Duration
	act   Act
	times int
}

// dayPlan spreads a day's acts: about eight a second one by one, a rush of
// entries every five seconds, and one of each bulk job.
func (t *Traffic) dayPlan(day time.Duration) []planned {
	const perSecond, rushEvery = 8, 5 * time.Second
	var plan []planned
	bulk := Bulk()
	rush, job := rushEvery/2, 0
	for at := time.Duration(0); at < day; {
		plan = append(plan, planned{at, t.choose(), 1})
		at += time.Duration((0.4 + 1.2*t.rng.Float64()) / perSecond * float64(time.Second))
		if at >= rush {
			plan = append(plan, planned{at, Entry(), 40 + t.rng.IntN(80)})
			rush += rushEvery
		}
		if job < len(bulk) && at >= day*time.Duration(job+1)/time.Duration(len(bulk)+1) {
			plan = append(plan, planned{at, bulk[job], 1})
			job++
		}
	}
	return plan
}

// choose picks an act by its weight.
func (t *Traffic) choose() Act {
	acts := Acts()
	total := 0
	for _, a := range acts {
		total += a.weight
	}
	n := t.rng.IntN(total)
	for _, a := range acts {
		if n -= a.weight; n < 0 {
			return a
		}
	}
	return acts[0]
}

// expect counts events that the present transaction must cause if it commits.
func (t *Traffic) expect(event string, tenant, n int) {
	if n > 0 {
		t.pending.Events[Kind{event, tenant}] += n
	}
}

// exec runs a statement in the present transaction.
func (t *Traffic) exec(ctx context.Context, sql string, args ...any) error {
	tag, err := t.tx.Exec(ctx, sql, args...)
	t.pending.Rows += tag.RowsAffected()
	return err
}

// create inserts one row and returns its id.
func (t *Traffic) create(ctx context.Context, sql string, args ...any) (id int, err error) {
	if err = t.tx.QueryRow(ctx, sql, args...).Scan(&id); err == nil {
		t.pending.Rows++
	}
	return id, err
}

// change runs a statement that changes one row, which causes the event, and
// returns the row's tenant.
func (t *Traffic) change(ctx context.Context, event, sql string, args ...any) error {
	var tenant int
	if err := t.tx.QueryRow(ctx, sql, args...).Scan(&tenant); err != nil {
		return err
	}
	t.pending.Rows++
	t.expect(event, tenant, 1)
	return nil
}

// client finds a client in the given situation, anyone of them.
func (t *Traffic) client(ctx context.Context, situation string) (id, tenant int, err error) {
	err = t.tx.QueryRow(ctx, `select id, empresa_id from clientes
		where situacao = $1 and excluido_em is null and id >= (select 1 + $2::float8 * max(id) from clientes) order by id limit 1`,
		situation, t.rng.Float64()).Scan(&id, &tenant)
	return id, tenant, err
}

// next is a number that this traffic has not used.
func (t *Traffic) next() int {
	t.serial++
	return t.serial
}

// pick returns one of the values.
func pick[T any](t *Traffic, values ...T) T { return values[t.rng.IntN(len(values))] }
