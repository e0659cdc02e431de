package console_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// bulkDays is over how many days, and so partitions, the attempts of a benchmark are spread.
const bulkDays = 10

// multiply adds endpoints of as many units, and attempts of the last days to them, in the database. They are like those of a vendor with many
// customers: the largest has many, most have few; one in 25 fails; one in two has a tag. A third of a percent is the centro's, whose pages
// a tenant looks at.
func (w *world) multiply(endpoints, attempts int) {
	w.t.Helper()
	ctx := context.Background()
	db, err := pgx.Connect(ctx, w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close(ctx) }()
	run := func(sql string, args ...any) {
		w.t.Helper()
		if _, err := db.Exec(ctx, sql, args...); err != nil {
			w.t.Fatalf("%s: %v", sql, err)
		}
	}
	w.addEndpoints(endpoints)
	// The store makes the partition of each day that it writes to.
	now := time.Now().UTC()
	days := make([]state.Attempt, bulkDays)
	for i := range days {
		at := now.AddDate(0, 0, -i)
		days[i] = state.Attempt{Time: at, Endpoint: "erp-fiscal", Entry: "0", Number: 1, WebhookID: "bulk-" + strconv.Itoa(i), Event: "cobranca.paga", Tenant: centro.id, Committed: at, Outcome: "delivered", Class: "ok"}
	}
	if err := w.store.WriteAttempts(ctx, days); err != nil {
		w.t.Fatal(err)
	}
	// Rows into indexes, one by one, take five times as long as indexes of rows.
	rows, _ := db.Query(ctx, `select indexrelid::regclass::text, pg_get_indexdef(indexrelid) from pg_index where indrelid = 'gancho.attempts'::regclass and not indisprimary`)
	type index struct{ Name, Definition string }
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[index])
	if err != nil {
		w.t.Fatal(err)
	}
	for _, i := range indexes {
		run(`drop index ` + i.Name)
	}
	run(`set maintenance_work_mem = '256MB'`)
	run(`set work_mem = '64MB'`)
	run(`select setseed(0.5)`)
	for day := range bulkDays {
		run(`insert into gancho.attempts
			select at, case when centro then (array['centro-crm', 'erp-fiscal'])[1 + n % 2] else 'unidade-' || lpad(u::text, 6, '0') end, n || '-0', 1, 'bulk-' || $3 || '-' || n,
				(array['cobranca.paga', 'aluno.matriculado', 'pedido.faturado', 'cliente.atualizado', 'agenda.alterada'])[1 + floor(5 * power(event, 2))::int],
				case when centro then '1' else u::text end, 'k' || n % 100000, at - interval '1 second',
				case when failed > 0.04 then 'delivered' when failed > 0.004 then 'retry' else 'dead' end, case when failed > 0.04 then 'ok' else 'status' end,
				case when failed > 0.04 then 200 else 503 end, case when failed > 0.04 then '' else 'status 503' end, 20000 + n % 180000, false, null,
				case when n % 2 = 0 then array['pedido=' || $3 || n] end
			from (select n, random() < 0.003 centro, floor($2 * power(random(), 3))::int u, random() event, random() failed,
				greatest($4::timestamptz, $5::timestamptz - n * ($5::timestamptz - $4::timestamptz) / $1) at from generate_series(1, $1::int) n) made`,
			attempts/bulkDays, endpoints, strconv.Itoa(day), now.Truncate(24*time.Hour).AddDate(0, 0, -day), dayEnd(now, day))
	}
	for _, i := range indexes {
		run(strings.Replace(i.Definition, " ON ONLY ", " ON ", 1)) // a partitioned index is shown as that of no partition
	}
	run(`analyze`)
	run(`checkpoint`)
}

// dayEnd is when the attempts of a day end: today's do now.
func dayEnd(now time.Time, daysAgo int) time.Time {
	if daysAgo == 0 {
		return now
	}
	return now.Truncate(24*time.Hour).AddDate(0, 0, 1-daysAgo).Add(-time.Microsecond)
}

// addEndpoints adds endpoints that have the settings of one, each of a unit of its own. What is encrypted is bound to its row, so that the store writes them.
func (w *world) addEndpoints(n int) {
	w.t.Helper()
	ctx := context.Background()
	of, err := w.store.Endpoint(ctx, "erp-fiscal")
	if err != nil {
		w.t.Fatal(err)
	}
	var adding errgroup.Group
	adding.SetLimit(8)
	for i := range n {
		adding.Go(func() error {
			e := state.Endpoint{Name: fmt.Sprintf("unidade-%06d", i), Tenants: []string{strconv.Itoa(i)}, State: of.State, Document: of.Document, Public: of.Public}
			_, err := w.store.AddEndpoint(ctx, "cli:teste", e, []endpoint.Secret{of.Secrets[0].Secret})
			return err
		})
	}
	if err := adding.Wait(); err != nil {
		w.t.Fatal(err)
	}
}

// servedTime is the processor time that this process (the console and its visitors), PostgreSQL and the processes that it has now have used.
func servedTime(tb testing.TB) time.Duration {
	tb.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		tb.Fatal(err)
	}
	sum := time.Duration(u.Utime.Nano() + u.Stime.Nano())
	children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", pg.PID()))
	if err != nil {
		tb.Fatal(err)
	}
	for _, pid := range append(strings.Fields(string(children)), strconv.Itoa(pg.PID())) {
		text, err := os.ReadFile(filepath.Join("/proc", pid, "schedstat")) // nanoseconds, where stat has hundredths of a second
		if err != nil {
			continue // it has ended since
		}
		if fields := strings.Fields(string(text)); len(fields) > 0 {
			ns, _ := strconv.ParseInt(fields[0], 10, 64) // the kernel writes numbers
			sum += time.Duration(ns)
		}
	}
	return sum
}

// percentile is the value below which so many percent of the durations are; it sorts them.
func percentile(of []time.Duration, percent int) time.Duration {
	slices.Sort(of)
	return of[min(len(of)-1, len(of)*percent/100)]
}
