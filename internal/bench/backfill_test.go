package bench_test

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// backfillKey is a state.key; who backfills needs one.
const backfillKey = "\nstate: {key: 'k1:YmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmVuY2gtYmU='}\n"

// backfill compares reading rows until their events are queued, for an endpoint without a receiver, with COPY of what
// the rule needs of them.
func (l *lab) backfill(ctx context.Context) (r row, err error) {
	const n = 500_000
	if _, err := l.record(ctx, fmt.Sprintf(insert, n)); err != nil {
		return r, err
	}
	if _, err := l.conn.Exec(ctx, "vacuum analyze pedidos"); err != nil {
		return r, err
	}
	l.extra = backfillKey
	defer func() { l.extra = "" }()
	var limits, figures []float64
	cost := ""
	for range repeats {
		start := time.Now()
		if _, err := l.conn.PgConn().CopyTo(ctx, io.Discard, "copy (select id, empresa_id, cliente_id, status, numero, total, desconto, criado_em, observacao from pedidos) to stdout"); err != nil {
			return r, err
		}
		limits = append(limits, n/time.Since(start).Seconds())
		took, spent, err := l.backfillAll(ctx, n)
		if err != nil {
			return r, err
		}
		figures, cost = append(figures, n/took.Seconds()), spent
	}
	r = ratioRow(figures, limits, "COPY")
	r.what, r.reach = "backfill until queued ("+cost+")", ">= 0.5"
	return r, l.forget(ctx)
}

// backfillAll times a backfill of all rows from its start to its last event; cost says which processor times that took.
func (l *lab) backfillAll(ctx context.Context, n int) (took time.Duration, cost string, err error) {
	if err := l.freshRedis(ctx); err != nil {
		return 0, "", err
	}
	l.slots++ // the state remembers to which Redis those before have written
	slot := fmt.Sprintf("bench_%d", l.slots)
	c := l.client()
	defer func() { _ = c.Close() }()
	bridge, err := l.bridge(slot, endpoint("http://127.0.0.1:9", 1, "paused"))
	if err != nil {
		return 0, "", err
	}
	if _, err := bridge.waitLine("replication started"); err != nil {
		return 0, "", err
	}
	before, serverBefore := cpu(bridge.cmd.Process.Pid), l.postgresCPU()
	out, err := exec.CommandContext(ctx, l.gancho, "backfill", "--all", "--config", filepath.Join(l.dir, "gancho.yaml")).CombinedOutput()
	if err != nil {
		return 0, "", fmt.Errorf("gancho backfill: %w\n%s", err, out)
	}
	if _, err := bridge.waitLine("job started"); err != nil {
		return 0, "", err
	}
	start := time.Now()
	if err := l.waitQueued(ctx, c, n); err != nil {
		return 0, "", err
	}
	took = time.Since(start)
	spent, server := cpu(bridge.cmd.Process.Pid)-before, l.postgresCPU()-serverBefore
	info, err := c.InfoMap(ctx, "cpu").Result()
	if err != nil {
		return 0, "", err
	}
	cost = fmt.Sprintf("processor: bridge %.1f s, postgresql %.1f s, redis %s + %s s, of %.1f s; memory of the bridge: %s", spent.Seconds(), server.Seconds(),
		info["CPU"]["used_cpu_user"], info["CPU"]["used_cpu_sys"], took.Seconds(), peak(bridge.cmd.Process.Pid))
	_, _ = bridge.waitLine("job ended") // an error: it has ended, and stop says so
	if err := bridge.stop(); err != nil {
		return 0, "", err
	}
	return took, cost, l.dropSlot(ctx, slot)
}

// backfillLatency is that of single rows while a backfill sends other rows to the same endpoint, beside that without one.
func (l *lab) backfillLatency(ctx context.Context) (r row, err error) {
	const n, perSecond, seconds = 200_000, 200, 10
	receiver, url, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	for _, sql := range []string{"truncate pedidos", fmt.Sprintf(insert, n), "vacuum analyze pedidos"} {
		if _, err := l.conn.Exec(ctx, sql); err != nil {
			return r, err
		}
	}
	if err := l.freshRedis(ctx); err != nil {
		return r, err
	}
	l.extra = backfillKey
	defer func() { l.extra = "" }()
	l.slots++
	slot := fmt.Sprintf("bench_%d", l.slots)
	bridge, err := l.bridge(slot, endpoint(url+"/hook", 16, "active"))
	if err != nil {
		return r, err
	}
	if _, err := bridge.waitLine("bridge is ready"); err != nil {
		return r, err
	}
	live := func(n int) (tally, error) { return l.live(ctx, url, n, perSecond) }
	if _, err := live(perSecond); err != nil { // it warms connections up and is not counted
		return r, err
	}
	without, err := live(perSecond * seconds)
	if err != nil {
		return r, err
	}
	out, err := exec.CommandContext(ctx, l.gancho, "backfill", "--all", "--config", filepath.Join(l.dir, "gancho.yaml")).CombinedOutput()
	if err != nil {
		return r, fmt.Errorf("gancho backfill: %w\n%s", err, out)
	}
	if _, err := bridge.waitLine("job started"); err != nil {
		return r, err
	}
	during, err := live(perSecond * seconds)
	if err != nil {
		return r, err
	}
	if during.Read == 0 || during.Read >= n {
		return r, fmt.Errorf("%d of %d rows were sent meanwhile: the backfill did not run all the time", during.Read, n)
	}
	for _, p := range []*process{bridge, receiver} {
		if err := p.stop(); err != nil {
			return r, err
		}
	}
	took := during.Last.Sub(during.First).Seconds()
	return row{
		what:   fmt.Sprintf("commit to arrival at %d rows/s while a backfill sends %.0f/s to the same endpoint", perSecond, float64(during.Read)/took),
		figure: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms", ms(during.P50), ms(during.P99)),
		limit:  fmt.Sprintf("p50 %.2f ms, p99 %.2f ms, without", ms(without.P50), ms(without.P99)),
		ratio:  fmt.Sprintf("%.2f", ms(during.P99)/ms(without.P99)), reach: "<= 2",
	}, l.dropSlot(ctx, slot)
}

// cpu is the processor time of a process; 0: it is not known.
func cpu(pid int) time.Duration {
	fields := procStat(strconv.Itoa(pid))
	return ticks(fields, 11, 13)
}

// postgresCPU is the processor time of the server's processes, those that have ended included.
func (l *lab) postgresCPU() (sum time.Duration) {
	postmaster := strconv.Itoa(l.postgres.PID())
	sum = ticks(procStat(postmaster), 11, 15) // and of its children that have ended
	all, _ := os.ReadDir("/proc")             // where there is none, nothing is known
	for _, p := range all {
		if fields := procStat(p.Name()); len(fields) > 1 && fields[1] == postmaster {
			sum += ticks(fields, 11, 13)
		}
	}
	return sum
}

// procStat are the fields of a process's stat behind its name, from its state on; nil: it is not known.
func procStat(pid string) []string {
	text, err := os.ReadFile("/proc/" + pid + "/stat")
	_, rest, ok := strings.Cut(string(text), ") ")
	if err != nil || !ok {
		return nil
	}
	return strings.Fields(rest)
}

// ticks adds up fields that are in hundredths of a second.
func ticks(fields []string, from, to int) (sum time.Duration) {
	for i := from; i < min(to, len(fields)); i++ {
		n, _ := strconv.ParseInt(fields[i], 10, 64)
		sum += time.Duration(n) * 10 * time.Millisecond
	}
	return sum
}

// peak is the most memory that a process has had.
func peak(pid int) string {
	text, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/status")
	_, rest, ok := strings.Cut(string(text), "VmHWM:")
	if err != nil || !ok {
		return "unknown"
	}
	line, _, _ := strings.Cut(rest, "\n")
	return strings.TrimSpace(line)
}
