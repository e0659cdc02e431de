package bench_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// cost compares the processor time of everything that an event takes, from the slot to its
// answer, with that of a plain POST by net/http's client. Processor time is less of the machine's
// other load than time is.
func (l *lab) cost(ctx context.Context) (row, error) {
	return l.costRow(ctx, "processor time per event (bridge, Redis, PostgreSQL), no log", "", "<= 1.2")
}

// costLogged is cost with the log of attempts, in the source's own cluster.
func (l *lab) costLogged(ctx context.Context) (row, error) {
	state, err := l.stateSection(ctx)
	if err != nil {
		return row{}, err
	}
	return l.costRow(ctx, "the same with the log of attempts", state, "<= 1.6")
}

// stateSection is the configuration of a state database in the source's own.
func (l *lab) stateSection(ctx context.Context) (string, error) {
	key, err := exec.CommandContext(ctx, l.gancho, "secrets", "generate-key").Output()
	if err != nil {
		return "", fmt.Errorf("make a key for the state: %w", err)
	}
	return fmt.Sprintf("state:\n  key: %s\n", strings.TrimSpace(string(key))), nil
}

func (l *lab) costRow(ctx context.Context, what, extra, reach string) (r row, err error) {
	const n, concurrency = 40_000, 32
	defer func() { l.extra = "" }()
	receiver, url, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	if _, err := l.recordAll(ctx, []string{fmt.Sprintf(insertLoop, n)}); err != nil {
		return r, err
	}
	var ratios, posts []float64
	var shares [3][]float64 // of the bridge, Redis, PostgreSQL
	for range repeats {
		l.extra = extra
		used, err := l.spent(ctx, url, n, concurrency)
		if err != nil {
			return r, err
		}
		before := ownTime()
		if _, err := plainPosts(ctx, url, n, concurrency); err != nil {
			return r, err
		}
		plain := micros(ownTime()-before, n)
		all := 0.0
		for i, u := range used {
			shares[i] = append(shares[i], micros(u, n))
			all += micros(u, n)
		}
		ratios, posts = append(ratios, all/plain), append(posts, plain)
	}
	if err := receiver.stop(); err != nil {
		return r, err
	}
	return row{
		what: what, figure: fmt.Sprintf("%.1f + %.1f + %.1f µs", median(shares[0]), median(shares[1]), median(shares[2])),
		limit: fmt.Sprintf("%.1f µs (a plain POST)", median(posts)), ratio: fmt.Sprintf("%.2f", median(ratios)), reach: reach,
	}, l.forget(ctx)
}

// keptChanges compares the processor time of an event that is kept with its change (state.keep_changes) with that of one that is
// kept without, by turns.
func (l *lab) keptChanges(ctx context.Context) (r row, err error) {
	const n, concurrency = 40_000, 32
	key, err := exec.CommandContext(ctx, l.gancho, "secrets", "generate-key").Output()
	if err != nil {
		return r, fmt.Errorf("make a key for the state: %w", err)
	}
	defer func() { l.extra = "" }()
	receiver, url, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	if _, err := l.recordAll(ctx, []string{fmt.Sprintf(insertLoop, n)}); err != nil {
		return r, err
	}
	var ratios []float64
	var shares [2][3][]float64 // without and with them, of the bridge, Redis, PostgreSQL
	for range repeats {
		var all [2]float64
		for with, line := range []string{"", "  keep_changes: true\n"} {
			l.extra = fmt.Sprintf("state:\n  key: %s\n  keep_events: 7d\n%s", strings.TrimSpace(string(key)), line)
			used, err := l.spent(ctx, url, n, concurrency)
			if err != nil {
				return r, err
			}
			for i, u := range used {
				shares[with][i] = append(shares[with][i], micros(u, n))
				all[with] += micros(u, n)
			}
		}
		ratios = append(ratios, all[1]/all[0])
	}
	if err := receiver.stop(); err != nil {
		return r, err
	}
	figure := func(of [3][]float64) string {
		return fmt.Sprintf("%.1f + %.1f + %.1f µs", median(of[0]), median(of[1]), median(of[2]))
	}
	return row{
		what: "processor time per event (bridge, Redis, PostgreSQL), kept with its change", figure: figure(shares[1]),
		limit: figure(shares[0]) + " (kept without it)", ratio: fmt.Sprintf("%.2f", median(ratios)), reach: "-",
	}, l.forget(ctx)
}

func micros(d time.Duration, n int) float64 { return float64(d.Nanoseconds()) / 1e3 / float64(n) }

// spent delivers the recorded events and returns the processor time that the bridge, Redis and
// PostgreSQL have taken for it, from the stream's start to the end of what follows the last event.
func (l *lab) spent(ctx context.Context, url string, n, concurrency int) (used [3]time.Duration, err error) {
	if err := l.freshRedis(ctx); err != nil {
		return used, err
	}
	if err := reset(ctx, url); err != nil {
		return used, err
	}
	slot, err := l.slot(ctx)
	if err != nil {
		return used, err
	}
	release, err := l.occupy(ctx, slot)
	if err != nil {
		return used, err
	}
	bridge, err := l.bridge(slot, endpoint(url+"/hook", concurrency, "active"))
	if err != nil {
		return used, err
	}
	if _, err := bridge.waitLine("slot is in use"); err != nil {
		return used, err
	}
	if err := release(); err != nil {
		return used, err
	}
	before, err := l.processorTimes(ctx, bridge)
	if err != nil {
		return used, err
	}
	if _, err := received(ctx, url, n); err != nil {
		return used, err
	}
	if err := l.waitLogged(ctx); err != nil {
		return used, err
	}
	after, err := l.processorTimes(ctx, bridge)
	if err != nil {
		return used, err
	}
	for i := range used {
		used[i] = after[i] - before[i]
	}
	if err := bridge.stop(); err != nil {
		return used, err
	}
	return used, l.dropSlot(ctx, slot)
}

// waitLogged waits until Redis has no results left that go into the state database.
func (l *lab) waitLogged(ctx context.Context) error {
	c := l.client()
	defer func() { _ = c.Close() }()
	for {
		left, err := c.XLen(ctx, "gancho:{bench}:q").Result()
		if err != nil {
			return err
		}
		records, err := c.XLen(ctx, "gancho:{bench}:log").Result()
		if err != nil || left+records == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// processorTimes are those of the bridge, Redis and PostgreSQL.
func (l *lab) processorTimes(ctx context.Context, bridge *process) (used [3]time.Duration, err error) {
	if used[0], err = processTime(bridge.cmd.Process.Pid, false); err != nil {
		return used, err
	}
	c := l.client()
	defer func() { _ = c.Close() }()
	info, err := c.InfoMap(ctx, "server").Result()
	if err != nil {
		return used, err
	}
	pid, err := strconv.Atoi(info["Server"]["process_id"])
	if err != nil {
		return used, err
	}
	if used[1], err = processTime(pid, false); err != nil {
		return used, err
	}
	var backend int
	if err := l.conn.QueryRow(ctx, "select pg_backend_pid()").Scan(&backend); err != nil {
		return used, err
	}
	stat, err := processStat(backend)
	if err != nil {
		return used, err
	}
	postmaster, err := strconv.Atoi(stat[1])
	if err != nil {
		return used, err
	}
	used[2], err = processTime(postmaster, true)
	return used, err
}

// processStat are the fields of /proc/PID/stat from the state on (the third).
func processStat(pid int) ([]string, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return nil, err
	}
	_, rest, _ := strings.Cut(string(text), ") ")
	fields := strings.Fields(rest)
	if len(fields) < 15 {
		return nil, fmt.Errorf("read /proc/%d/stat: %d fields", pid, len(fields))
	}
	return fields, nil
}

// processTime is what a process has taken of the processors; family: its children, living and
// dead, too.
func processTime(pid int, family bool) (time.Duration, error) {
	const tick = 10 * time.Millisecond // USER_HZ, which is 100 on every Linux
	sum := func(fields []string) (d time.Duration) {
		for _, f := range fields {
			n, _ := strconv.Atoi(f) // the kernel writes numbers
			d += time.Duration(n) * tick
		}
		return d
	}
	own, err := processStat(pid)
	if err != nil {
		return 0, err
	}
	if !family {
		return sum(own[11:13]), nil
	}
	total := sum(own[11:15])
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return 0, err
	}
	for _, p := range processes {
		id, err := strconv.Atoi(filepath.Base(p))
		if err != nil {
			continue
		}
		child, err := processStat(id)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			continue // it has ended since
		}
		if err != nil {
			return 0, err
		}
		if child[1] == strconv.Itoa(pid) {
			total += sum(child[11:13])
		}
	}
	return total, nil
}

// ownTime is what this process has taken of the processors.
func ownTime() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // of the process itself: it cannot fail
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
