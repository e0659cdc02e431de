package bench_test

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"text/tabwriter"
)

var (
	only    = flag.String("only", "", "run only the measurement of this name: single, batch, collapse, lookup, delegated, delegated-latency, end, slow, latency (with latency-500, latency-1000 and latency-3000), cost, cost-logged, floor, changes, backfill, backfill-latency, timers, timers-due, tails, outage, scale (with scale-file and scale-stored)")
	gancho  = flag.String("gancho", "../../bin/gancho", "the command to measure")
	profile = flag.String("profiles", "", "directory for CPU profiles of the command")
)

// asReceiver makes the binary be the receiver, which answers after this duration.
const asReceiver = "GANCHO_BENCH_RECEIVER"

func TestMain(m *testing.M) {
	delay := os.Getenv(asReceiver)
	if delay == "" {
		os.Exit(m.Run())
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := beReceiver(ctx, delay); err != nil {
		_, _ = fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// BenchmarkBridge prints a table: what is measured, the figure, the limit, their
// ratio, and what is to be reached.
func BenchmarkBridge(b *testing.B) {
	if err := measure(b.Context(), *gancho, *only, *profile); err != nil {
		b.Fatal(err)
	}
}

// row is one line of the table.
type row struct {
	what, figure, limit, ratio, reach string
}

func measure(ctx context.Context, gancho, only, profile string) error {
	l, err := newLab(gancho, profile)
	if err != nil {
		return err
	}
	defer l.close()
	var rows []row
	for _, m := range []struct {
		name string
		run  func(context.Context) (row, error)
	}{
		{"single", l.captureSingle},
		{"batch", l.captureBatch},
		{"collapse", l.collapse},
		{"lookup", l.lookup},
		{"delegated", l.delegated},
		{"delegated-latency", l.delegatedLatency},
		{"end", l.endToEnd},
		{"slow", l.slowReceiver},
		{"latency", l.latency},
		{"latency-500", func(ctx context.Context) (row, error) { return l.loggedLatency(ctx, 500) }},
		{"latency-1000", func(ctx context.Context) (row, error) { return l.loggedLatency(ctx, 1000) }},
		{"latency-3000", func(ctx context.Context) (row, error) { return l.loggedLatency(ctx, 3000) }},
		{"cost", l.cost},
		{"cost-logged", l.costLogged},
		{"floor", l.floor},
		{"changes", l.keptChanges},
		{"backfill", l.backfill},
		{"backfill-latency", l.backfillLatency},
		{"timers", l.timersSet},
		{"timers-due", l.timersDue},
		{"tails", l.tails},
		{"outage", l.outage},
		{"scale-file", l.scaleFile},
		{"scale-stored", l.scaleStored},
	} {
		if several := only == "latency" || only == "scale"; only != "" && only != m.name && !(several && strings.HasPrefix(m.name, only+"-")) {
			continue
		}
		_, _ = fmt.Fprintf(os.Stderr, "measuring %s ...\n", m.name)
		r, err := m.run(ctx)
		if err != nil {
			return fmt.Errorf("measure %s: %w", m.name, err)
		}
		rows = append(rows, r)
	}
	return l.print(os.Stdout, rows)
}

// print writes the table.
func (l *lab) print(out io.Writer, rows []row) error {
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	text := fmt.Sprintf("%d cores, %s, PostgreSQL %s, Redis %s (appendfsync everysec)\n\nwhat\tfigure\tlimit in the same run\tratio\tto reach\n",
		runtime.NumCPU(), runtime.Version(), l.postgresVersion, l.redisVersion)
	for _, r := range rows {
		text += fmt.Sprintf("%s\t%s\t%s\t%s\t%s\n", r.what, r.figure, r.limit, r.ratio, r.reach)
	}
	if _, err := io.WriteString(w, text); err != nil {
		return err
	}
	return w.Flush()
}
