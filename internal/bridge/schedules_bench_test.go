package bridge_test

import (
	"context"
	"runtime"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// A run over a million rows takes at most 64 MB more, and leaves no transaction open in the source while its events are
// queued. It fails otherwise, and reports the peak and how long the source had a transaction of it.
func BenchmarkScheduleMillion(b *testing.B) {
	const rows, limit = 1_000_000, 64 << 20
	w := newScheduleWorld(b, `
    schedule: daily 08:00
    query: select id, empresa, repeat('x', 100) as texto, now() - interval '7 days' as desde from linhas
    once: [id]
    tenant: empresa
    data: {id: id, texto: texto, desde: desde}
`)
	w.exec("insert into linhas select i, i % 5 from generate_series(1, $1::int) i", rows)
	w.exec("vacuum analyze linhas")
	watch, err := pgx.Connect(b.Context(), w.Source)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = watch.Close(context.Background()) }()
	b.ResetTimer()
	for i := range b.N {
		due := eight.Add(time.Duration(i) * dayLong)
		w.exec("update linhas set id = id + $1::int", rows)
		if err := w.Store.AddSchedule(b.Context(), w.Slot, "e", due.Add(-time.Hour)); err != nil {
			b.Fatal(err)
		}
		var peak, before uint64
		var open float64
		var failure string
		measure := func() uint64 {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			return m.Sys - m.HeapReleased
		}
		runtime.GC()
		before = measure()
		w.Now = func() time.Time { return due }
		stop := w.start()
		for of := w.known(); !of.Due.IsZero() || of.Since.Before(due); of = w.known() {
			peak = max(peak, measure())
			var age float64
			if err := watch.QueryRow(b.Context(), `select coalesce(max(extract(epoch from clock_timestamp() - xact_start)), 0)::float8 from pg_stat_activity
				where datname = current_database() and pid <> pg_backend_pid()`).Scan(&age); err != nil {
				b.Fatal(err)
			}
			open = max(open, age)
			if of.Failure != "" && of.Failure != failure { // it goes on where it was: a machine that is busy answers late
				b.Log(of.Failure)
			}
			failure = of.Failure
		}
		stop()
		if n := w.queued(); n != rows*int64(i+1) {
			b.Errorf("%d events were queued", n)
		}
		b.ReportMetric(float64(peak-before)/(1<<20), "peak-MB")
		b.ReportMetric(open, "transaction-s")
		if peak-before > limit {
			b.Errorf("a run over %d rows takes %d MB", rows, (peak-before)>>20)
		}
	}
}
