package bench_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"
	"golang.org/x/sync/errgroup"
)

// repeats is how often the two sides of a ratio are measured in turn.
const repeats = 3

func (l *lab) captureSingle(ctx context.Context) (row, error) {
	const n = 150_000
	r, err := l.capture(ctx, fmt.Sprintf(insertLoop, n), n)
	r.what, r.reach = "capture + map + append, single-row transactions", ">= 0.6 (goal 0.8)"
	return r, err
}

func (l *lab) captureBatch(ctx context.Context) (row, error) {
	const n, per = 500_000, 1000
	r, err := l.capture(ctx, strings.Repeat(fmt.Sprintf(insert, per)+";", n/per), n)
	r.what, r.reach = "the same, 1,000-row transactions", ">= 0.6 or 150,000/s"
	return r, err
}

// collapse compares a rule that is decided at the commit with the same rule
// that streams.
func (l *lab) collapse(ctx context.Context) (row, error) {
	figures, limits, err := l.compareRules(ctx, collapsedRules)
	if err != nil {
		return row{}, err
	}
	r := ratioRow(figures, limits, "the same rule without collapse")
	r.what, r.reach = "collapse: id, 1,000-row transactions", ">= 0.5"
	return r, nil
}

// lookup compares a rule with a lookup by primary key with the same rule
// without it.
func (l *lab) lookup(ctx context.Context) (row, error) {
	figures, limits, err := l.compareRules(ctx, lookupRules)
	if err != nil {
		return row{}, err
	}
	r := ratioRow(figures, limits, "the same rule without lookup")
	r.what, r.reach = "a lookup by primary key, 1,000-row transactions", ">= 20,000/s"
	return r, nil
}

// delegated compares a rule of which PostgreSQL evaluates an expression with the same rule
// in the language of the rules.
func (l *lab) delegated(ctx context.Context) (row, error) {
	figures, limits, err := l.compareRules(ctx, delegatedRules())
	if err != nil {
		return row{}, err
	}
	r := ratioRow(figures, limits, "the same rule, evaluated here")
	r.what, r.reach = "an expression that PostgreSQL evaluates, 1,000-row transactions", ">= 0.6"
	return r, nil
}

// compareRules times the bridge with these rules and with the plain ones, on
// copies of one slot, in changes per second.
func (l *lab) compareRules(ctx context.Context, rules string) (figures, limits []float64, err error) {
	const n, per = 200_000, 1000
	defer func() { l.rules = plainRules }()
	if _, err := l.recordAll(ctx, slices.Repeat([]string{fmt.Sprintf(insert, per)}, n/per)); err != nil {
		return nil, nil, err
	}
	for range repeats {
		for _, side := range []struct {
			rules string
			rates *[]float64
		}{{plainRules, &limits}, {rules, &figures}} {
			l.rules = side.rules
			took, err := l.appendAll(ctx, n)
			if err != nil {
				return nil, nil, err
			}
			*side.rates = append(*side.rates, n/took.Seconds())
		}
	}
	return figures, limits, l.forget(ctx)
}

// capture compares the bridge, appending to a queue without a reader, with
// pg_recvlogical on copies of one slot.
func (l *lab) capture(ctx context.Context, sql string, n int) (r row, err error) {
	// A statement list would be one transaction: run each on its own.
	statements := strings.Split(sql, ";")
	if strings.HasPrefix(sql, "do ") {
		statements = []string{sql}
	}
	end, err := l.recordAll(ctx, statements)
	if err != nil {
		return r, err
	}
	var limits, figures []float64
	for range repeats {
		took, err := l.recvlogical(ctx, end)
		if err != nil {
			return r, err
		}
		limits = append(limits, float64(n)/took.Seconds())
		if took, err = l.appendAll(ctx, n); err != nil {
			return r, err
		}
		figures = append(figures, float64(n)/took.Seconds())
	}
	r = ratioRow(figures, limits, "pg_recvlogical to a file")
	return r, l.forget(ctx)
}

func (l *lab) recordAll(ctx context.Context, statements []string) (end string, err error) {
	if end, err = l.record(ctx, "select 1"); err != nil {
		return "", err
	}
	for _, s := range statements {
		if strings.TrimSpace(s) == "" {
			continue
		}
		if _, err := l.conn.Exec(ctx, s); err != nil {
			return "", err
		}
	}
	return end, l.conn.QueryRow(ctx, "select pg_current_wal_lsn()::text").Scan(&end)
}

// appendAll times the bridge from its first append to its last.
func (l *lab) appendAll(ctx context.Context, n int) (time.Duration, error) {
	if err := l.freshRedis(ctx); err != nil {
		return 0, err
	}
	slot, err := l.slot(ctx)
	if err != nil {
		return 0, err
	}
	c := l.client()
	defer func() { _ = c.Close() }()
	bridge, err := l.bridge(slot, endpoint("http://127.0.0.1:9", 1, "paused"))
	if err != nil {
		return 0, err
	}
	if _, err := bridge.waitLine("replication started"); err != nil {
		return 0, err
	}
	start := time.Now()
	if err := l.waitQueued(ctx, c, n); err != nil {
		return 0, err
	}
	took := time.Since(start)
	if err := bridge.stop(); err != nil {
		return 0, err
	}
	return took, l.dropSlot(ctx, slot)
}

// waitQueued waits until the one stream in Redis has n entries.
func (l *lab) waitQueued(ctx context.Context, c *redis.Client, n int) error {
	for {
		if have, err := c.XLen(ctx, "gancho:{bench}:q").Result(); err != nil || have >= int64(n) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func median(v []float64) float64 {
	s := slices.Sorted(slices.Values(v))
	return s[len(s)/2]
}

func ratioRow(figures, limits []float64, limit string) row {
	ratios := make([]float64, len(figures))
	for i := range ratios {
		ratios[i] = figures[i] / limits[i]
	}
	return row{
		figure: fmt.Sprintf("%.0f/s", median(figures)),
		limit:  fmt.Sprintf("%.0f/s (%s)", median(limits), limit),
		ratio:  fmt.Sprintf("%.2f", median(ratios)),
	}
}

func (l *lab) endToEnd(ctx context.Context) (r row, err error) {
	const n, concurrency = 60_000, 64
	receiver, url, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	if _, err := l.recordAll(ctx, []string{fmt.Sprintf(insertLoop, n)}); err != nil {
		return r, err
	}
	var limits, figures []float64
	for range repeats {
		rate, err := l.deliverAll(ctx, url, n, concurrency)
		if err != nil {
			return r, err
		}
		figures = append(figures, rate)
		if rate, err = plainPosts(ctx, url, n, concurrency); err != nil {
			return r, err
		}
		limits = append(limits, rate)
	}
	r = ratioRow(figures, limits, fmt.Sprintf("plain POSTs, concurrency %d", concurrency))
	r.what, r.reach = "end to end into a zero-delay receiver", ">= 0.3 (goal 0.5)"
	if err := receiver.stop(); err != nil {
		return r, err
	}
	return r, l.forget(ctx)
}

// deliverAll returns the rate at which the receiver got the recorded events.
func (l *lab) deliverAll(ctx context.Context, url string, n, concurrency int) (perSecond float64, err error) {
	if err := l.freshRedis(ctx); err != nil {
		return 0, err
	}
	if err := reset(ctx, url); err != nil {
		return 0, err
	}
	slot, err := l.slot(ctx)
	if err != nil {
		return 0, err
	}
	bridge, err := l.bridge(slot, endpoint(url+"/hook", concurrency, "active"))
	if err != nil {
		return 0, err
	}
	if _, err := bridge.waitLine("replication started"); err != nil {
		return 0, err
	}
	start := time.Now()
	t, err := received(ctx, url, n)
	if err != nil {
		return 0, err
	}
	if err := bridge.stop(); err != nil {
		return 0, err
	}
	return float64(n) / t.Last.Sub(start).Seconds(), l.dropSlot(ctx, slot)
}

func reset(ctx context.Context, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url+"/reset", nil)
	if err != nil {
		return err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// plainBody is as long as the body of an event of the measured rule.
const plainBody = `{"type":"pedido.criado","timestamp":"2026-11-21T17:30:11.123456Z","id":"0f3a9c21-001-000000000016b3748-000000000000-0000","tenant":"1","sequence":"001-000000000016b3748-000000000000-0000","data":{"id":12345,"empresa":1,"cliente":345,"status":"10","numero":"P12345","total":12468.45,"desconto":0.50,"criado_em":"2026-11-21T14:30:11.123456-03:00","observacao":"entregar na portaria","liquido":12467.95}}`

// plainPosts returns the rate of keep-alive POSTs by Go's client.
func plainPosts(ctx context.Context, url string, n, concurrency int) (perSecond float64, err error) {
	if err := reset(ctx, url); err != nil {
		return 0, err
	}
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency, MaxConnsPerHost: concurrency}}
	defer client.CloseIdleConnections()
	var workers sync.WaitGroup
	errs := make(chan error, concurrency)
	start := time.Now()
	for range concurrency {
		workers.Go(func() {
			for range n / concurrency {
				if err := post(ctx, client, url+"/hook"); err != nil {
					errs <- err
					return
				}
			}
		})
	}
	workers.Wait()
	took := time.Since(start)
	select {
	case err := <-errs:
		return 0, err
	default:
		return float64(n/concurrency*concurrency) / took.Seconds(), nil
	}
}

func post(ctx context.Context, client *http.Client, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, url, strings.NewReader(plainBody))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	resp, err := client.Do(req)
	if err != nil {
		return err
	}
	if err := resp.Body.Close(); err != nil {
		return err
	}
	if resp.StatusCode != http.StatusNoContent {
		return fmt.Errorf("post: status %d", resp.StatusCode)
	}
	return nil
}

// slowReceiver compares with what the delay alone would let through, of which even plain POSTs reach only a part: the receiver waits a
// little longer than it is asked to, and all of a request comes on top.
func (l *lab) slowReceiver(ctx context.Context) (r row, err error) {
	const n, concurrency, delay = 30_000, 64, 20 * time.Millisecond
	receiver, url, err := l.receiver(delay)
	if err != nil {
		return r, err
	}
	if _, err := l.recordAll(ctx, []string{fmt.Sprintf(insertLoop, n)}); err != nil {
		return r, err
	}
	rate, err := l.deliverAll(ctx, url, n, concurrency)
	if err != nil {
		return r, err
	}
	plain, err := plainPosts(ctx, url, n/2, concurrency)
	if err != nil {
		return r, err
	}
	if err := receiver.stop(); err != nil {
		return r, err
	}
	limit := concurrency / delay.Seconds()
	return row{
		what: "end to end into a receiver that takes 20 ms, concurrency 64", figure: fmt.Sprintf("%.0f/s", rate),
		limit: fmt.Sprintf("%.0f/s (64 / 20 ms), %.0f/s of plain POSTs", limit, plain), ratio: fmt.Sprintf("%.2f, %.2f", rate/limit, rate/plain), reach: ">= 0.97",
	}, l.forget(ctx)
}

// latency commits 1,000 rows a second, each in its own transaction, for ten seconds.
func (l *lab) latency(ctx context.Context) (row, error) {
	t, err := l.arrive(ctx, 1000)
	return row{
		what: "commit to arrival at 1,000 events/s", figure: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(t.P50), ms(t.P99)),
		limit: "-", ratio: "-", reach: "p50 <= 2 ms, p99 <= 15 ms (goal 1.2 and 5)",
	}, err
}

// loggedLatency commits 20,000 rows at a rate, with the log of attempts and PostgreSQL with fsync: what the bench's other servers have
// is switched on for it. The longest is of these 20,000, 60,000 with the three rates.
func (l *lab) loggedLatency(ctx context.Context, perSecond int) (r row, err error) {
	if _, err := l.conn.Exec(ctx, "alter system set fsync = on"); err != nil {
		return r, err
	}
	defer func() {
		_, failed := l.conn.Exec(context.WithoutCancel(ctx), "alter system reset fsync")
		err = errors.Join(err, failed, l.reload(context.WithoutCancel(ctx)))
	}()
	if err := l.reload(ctx); err != nil {
		return r, err
	}
	if l.extra, err = l.stateSection(ctx); err != nil {
		return r, err
	}
	defer func() { l.extra = "" }()
	const n = 20_000
	defer func(former int) { l.sessions = former }(l.sessions)
	l.sessions = 8
	t, err := l.arriveOf(ctx, n, perSecond)
	return row{
		what:   fmt.Sprintf("commit to arrival at %d commits/s, with the log, fsync on", perSecond),
		figure: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, longest of %d: %.1f ms", ms(t.P50), ms(t.P99), n, ms(t.Longest)),
		limit:  fmt.Sprintf("%.0f committed/s", float64(n-1)/t.Last.Sub(t.First).Seconds()), ratio: "-", reach: "p50 <= 0.8 ms, p99 <= 3 ms at 1,000/s; longest < 50 ms",
	}, err
}

// reload has PostgreSQL read its settings, and returns when this session has them.
func (l *lab) reload(ctx context.Context) error {
	if _, err := l.conn.Exec(ctx, "select pg_reload_conf()"); err != nil {
		return err
	}
	var want, have string
	for {
		err := l.conn.QueryRow(ctx, `select setting, current_setting('fsync') from pg_file_settings where name = 'fsync' order by seqno desc limit 1`).Scan(&want, &have)
		if err != nil || want == have {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// delegatedLatency is that of single rows whose rule PostgreSQL evaluates in part, beside the same
// rule in the language of the rules.
func (l *lab) delegatedLatency(ctx context.Context) (r row, err error) {
	const perSecond = 200 // a row has left before the next one comes
	here, err := l.arrive(ctx, perSecond)
	if err != nil {
		return r, err
	}
	defer func() { l.rules = plainRules }()
	l.rules = delegatedRules()
	there, err := l.arrive(ctx, perSecond)
	return row{
		what: "commit to arrival of single rows, an expression that PostgreSQL evaluates", figure: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(there.P50), ms(there.P99)),
		limit: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, the same rule, evaluated here", ms(here.P50), ms(here.P99)), ratio: "-", reach: "p50 <= 3 ms",
	}, err
}

// arrive is arriveOf for ten seconds.
func (l *lab) arrive(ctx context.Context, perSecond int) (tally, error) {
	return l.arriveOf(ctx, 10*perSecond, perSecond)
}

// arriveOf commits n rows at a rate, each in its own transaction, and measures how long each took to arrive.
func (l *lab) arriveOf(ctx context.Context, n, perSecond int) (r tally, err error) {
	receiver, url, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	if err := l.freshRedis(ctx); err != nil {
		return r, err
	}
	if _, err := l.record(ctx, "select 1"); err != nil {
		return r, err
	}
	slot, err := l.slot(ctx)
	if err != nil {
		return r, err
	}
	bridge, err := l.bridge(slot, endpoint(url+"/hook", 16, "active"))
	if err != nil {
		return r, err
	}
	if _, err := bridge.waitLine("bridge is ready"); err != nil {
		return r, err
	}
	// The first second warms connections up and is not counted.
	if err := l.insertPaced(ctx, perSecond, perSecond); err != nil {
		return r, err
	}
	if _, err := received(ctx, url, perSecond); err != nil {
		return r, err
	}
	if err := reset(ctx, url); err != nil {
		return r, err
	}
	if err := l.insertPaced(ctx, n, perSecond); err != nil {
		return r, err
	}
	t, err := received(ctx, url, n)
	if err != nil {
		return r, err
	}
	for _, p := range []*process{bridge, receiver} {
		if err := p.stop(); err != nil {
			return r, err
		}
	}
	if err := l.dropSlot(ctx, slot); err != nil {
		return r, err
	}
	return t, l.forget(ctx)
}

func ms(d time.Duration) float64 { return float64(d) / float64(time.Millisecond) }

// live inserts n rows at the given rate, and returns what has come of them to the receiver at url.
func (l *lab) live(ctx context.Context, url string, n, perSecond int) (t tally, err error) {
	if err := reset(ctx, url); err != nil {
		return t, err
	}
	if err := l.insertPaced(ctx, n, perSecond); err != nil {
		return t, err
	}
	return received(ctx, url, n)
}

// insertPaced inserts n rows one by one at the given rate: in turns on some sessions, because a commit waits for the disk.
func (l *lab) insertPaced(ctx context.Context, n, perSecond int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	group, ctx := errgroup.WithContext(ctx)
	due := make(chan struct{})
	for range l.sessions {
		group.Go(func() error {
			conn, err := pgx.Connect(ctx, l.postgres.DSN(database))
			if err != nil {
				return err
			}
			defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
			for range due {
				if _, err := conn.Exec(ctx, `insert into pedidos (empresa_id, cliente_id, status, numero, total, desconto, observacao)
					values (1, 7, '10', 'P1', 10.5, 0.5, 'entregar na portaria')`); err != nil {
					return err
				}
			}
			return nil
		})
	}
	tick := time.NewTicker(time.Second / time.Duration(perSecond))
	defer tick.Stop()
	for range n {
		select {
		case <-ctx.Done():
			close(due)
			return cmp.Or(group.Wait(), ctx.Err())
		case <-tick.C:
		}
		select {
		case <-ctx.Done():
		case due <- struct{}{}:
		}
	}
	close(due)
	return group.Wait()
}
