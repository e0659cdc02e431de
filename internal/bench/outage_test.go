package bench_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// outageEvents is how many events wait when the receivers are back: a minute's worth by default, 5,000,000 for what is promised.
var outageEvents = flag.Int("outage-events", 120_000, "events of the backlog of -only outage")

// outageDelay: receivers that take their time must not get less because the process is careful with its own.
var outageDelay = flag.Duration("outage-delay", 0, "what the receiver of the backlog of -only outage takes for each request")

const (
	outageEndpoints = 200
	outageDead      = 20     // the first ones
	outageRate      = 50     // new events a second, of an endpoint that was never away
	outageTenant    = 1      // the first of the backlog's
	outageLive      = 10_000 // that one's in the first run; in each run it is another, so that it gets nothing of the runs before
)

// outageRules are plainRules for all tenants.
func outageRules() string { return strings.Replace(plainRules, " and empresa_id = 1", "", 1) }

// outageEnds are how a backlog was worked through, each time.
type outageEnds struct {
	perSecond []float64 // deliveries of the healthy endpoints' backlog
	cpu       []float64 // µs of the bridge and Redis for each of them
	p99       []float64 // ms from the commit of new events to their arrival
	peak      []float64 // MB of the bridge
}

// outage works through a backlog for 200 endpoints, with 20 of them dead and with these paused, in turns, while new
// events come for another endpoint.
func (l *lab) outage(ctx context.Context) (r row, err error) {
	n := *outageEvents
	defer func() { l.rules = plainRules }()
	l.rules = outageRules()
	const per = 1000
	var statements []string
	for from := 0; from < n; from += per {
		statements = append(statements, fmt.Sprintf(`insert into pedidos (empresa_id, cliente_id, status, numero, total, desconto, observacao)
			select %d + i %% %d, i %% 1000, '10', 'P' || i, 1 + i * 1.01, 0.5, 'entregar na portaria' from generate_series(%d, %d) i`,
			outageTenant, outageEndpoints, from, min(from+per, n)-1))
	}
	if _, err := l.recordAll(ctx, statements); err != nil {
		return r, err
	}
	var rates, costs []float64
	var dead, without outageEnds
	for range repeats {
		for _, side := range []struct {
			state string
			ends  *outageEnds
		}{{"paused", &without}, {"active", &dead}} {
			if err = l.catchUp(ctx, n, side.state, side.ends); err != nil {
				return r, err
			}
		}
		rates = append(rates, dead.perSecond[len(rates)]/without.perSecond[len(rates)])
		costs = append(costs, dead.cpu[len(costs)]/without.cpu[len(costs)])
	}
	return row{
		what: fmt.Sprintf("catching up with %d events for %d endpoints, %d of them dead", n, outageEndpoints, outageDead),
		figure: fmt.Sprintf("%.0f/s, %.1f µs, new events p99 %.0f ms, peak %.0f MB",
			median(dead.perSecond), median(dead.cpu), median(dead.p99), slices.Max(dead.peak)),
		limit: fmt.Sprintf("%.0f/s, %.1f µs, p99 %.0f ms (without the dead ones)", median(without.perSecond), median(without.cpu), median(without.p99)),
		ratio: fmt.Sprintf("%.2f; processor time %.2f", median(rates), median(costs)), reach: ">= 0.9, p99 <= 50 ms, peak <= 200 MB",
	}, l.forget(ctx)
}

// catchUp queues the recorded events while all of their endpoints are paused, and measures how they are delivered
// once the healthy ones are not.
func (l *lab) catchUp(ctx context.Context, n int, dead string, ends *outageEnds) error {
	if err := l.freshRedis(ctx); err != nil {
		return err
	}
	slot, err := l.slot(ctx)
	if err != nil {
		return err
	}
	tenant := outageLive + l.slots
	backlog, url, err := l.receiver(*outageDelay)
	if err != nil {
		return err
	}
	live, liveURL, err := l.receiver(0)
	if err != nil {
		return err
	}
	bridge, err := l.bridge(slot, outageList(url, liveURL, tenant, "paused", "paused"))
	if err != nil {
		return err
	}
	if _, err := bridge.waitLine("bridge is ready"); err != nil {
		return err
	}
	if err := l.waitBacklog(ctx, n); err != nil {
		return err
	}
	before, err := l.processorTimes(ctx, bridge)
	if err != nil {
		return err
	}
	if _, err := l.configure(slot, outageList(url, liveURL, tenant, "active", dead)); err != nil {
		return err
	}
	start := time.Now()
	if err := bridge.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		return err
	}
	healthy := n / outageEndpoints * (outageEndpoints - outageDead)
	inserting, stop := context.WithCancel(ctx)
	defer stop()
	inserted := make(chan error, 1)
	go func() { inserted <- l.insertLive(inserting, tenant) }()
	t, err := received(ctx, url, healthy)
	stop()
	if err := errors.Join(err, <-inserted); err != nil {
		return err
	}
	after, err := l.processorTimes(ctx, bridge)
	if err != nil {
		return err
	}
	lived, err := ask(ctx, liveURL)
	if err != nil {
		return err
	}
	ends.perSecond = append(ends.perSecond, float64(healthy)/t.Last.Sub(start).Seconds())
	ends.cpu = append(ends.cpu, micros(after[0]-before[0]+after[1]-before[1], healthy))
	ends.p99 = append(ends.p99, ms(lived.P99))
	ends.peak = append(ends.peak, float64(peakMemory(bridge.cmd.Process.Pid))/1024)
	for _, p := range []*process{bridge, backlog, live} {
		if err := p.stop(); err != nil {
			return err
		}
	}
	return l.dropSlot(ctx, slot)
}

// insertLive commits new events of a tenant until the context ends.
func (l *lab) insertLive(ctx context.Context, tenant int) error {
	conn, err := pgx.Connect(ctx, l.postgres.DSN(database))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	tick := time.NewTicker(time.Second / outageRate)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		_, err := conn.Exec(context.WithoutCancel(ctx), `insert into pedidos (empresa_id, cliente_id, status, numero, total, desconto, observacao)
			values ($1, 7, '10', 'P1', 10.5, 0.5, 'entregar na portaria')`, tenant)
		if err != nil {
			return err
		}
	}
}

// outageList is the endpoints' YAML. Nobody listens where the dead ones are.
func outageList(url, liveURL string, tenant int, healthy, dead string) string {
	var all strings.Builder
	one := func(name, url, state string, tenant int) {
		_, _ = fmt.Fprintf(&all, "  - {name: %s, url: %q, secret: whsec_YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2g=, allow_http: true, allow_private: [127.0.0.0/8], tenants: [%d], state: %s}\n",
			name, url, tenant, state)
	}
	one("live", liveURL+"/hook", "active", tenant)
	for i := range outageEndpoints {
		where, state := url+"/hook", healthy
		if i < outageDead {
			where, state = "http://127.0.0.1:9", dead
		}
		one(outageName(i), where, state, outageTenant+i)
	}
	return all.String()
}

func outageName(i int) string { return fmt.Sprintf("e%03d", i) }

// waitBacklog waits until the endpoints' streams have n events.
func (l *lab) waitBacklog(ctx context.Context, n int) error {
	c := l.client()
	defer func() { _ = c.Close() }()
	for {
		have := int64(0)
		for i := range outageEndpoints {
			events, err := c.XLen(ctx, "gancho:{"+outageName(i)+"}:q").Result()
			if err != nil {
				return err
			}
			have += events
		}
		if have >= int64(n) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(100 * time.Millisecond):
		}
	}
}

// peakMemory is the most resident memory that a process has had, in KB; 0: it is not known.
func peakMemory(pid int) int {
	text, _ := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, rest, _ := strings.Cut(string(text), "VmHWM:")
	line, _, _ := strings.Cut(rest, "\n")
	kb, _ := strconv.Atoi(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(line), "kB")))
	return kb
}
