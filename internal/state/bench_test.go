package state_test

import (
	"testing"
	"time"

	"gancho/internal/state"
)

// BenchmarkWriteAttempts writes batches as the bridge does.
func BenchmarkWriteAttempts(b *testing.B) {
	s, _ := newStore(b)
	const batch = 1000
	rows := make([]state.Attempt, batch)
	n := 0
	for b.Loop() {
		for i := range rows {
			rows[i] = attempt("crm", n)
			rows[i].Time = noon.Add(time.Duration(n) * time.Microsecond)
			n++
		}
		if err := s.WriteAttempts(b.Context(), rows); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(n)/b.Elapsed().Seconds(), "rows/s")
}
