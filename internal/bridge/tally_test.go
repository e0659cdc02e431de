package bridge_test

import (
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/mapping"
)

// intoBatch adds events to a batch, as the stage does.
type intoBatch struct{ *queue.Batch }

func (s intoBatch) Event(e *mapping.Event) error {
	_, err := s.Add(e)
	return err
}

// BenchmarkTally compares, per change, mapping it into a batch without and with counting, in transactions of one
// change, and of a thousand; the two run alternately. What reads and decodes the change, and what writes to Redis, is on top of both.
func BenchmarkTally(b *testing.B) {
	rules, rel := verdictLab(b)
	q := queuetest.Open(b, queuetest.StartRedis(b), endpoint.Endpoint{Name: "a"}, endpoint.Endpoint{Name: "b"})
	if err := q.Take(b.Context()); err != nil {
		b.Fatal(err)
	}
	if err := q.BeginTally(b.Context()); err != nil {
		b.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		change *cdc.Change
		rows   int
	}{
		{"event", update(rel, 1, "5", "1", "P", "L"), 1}, {"none", update(rel, 1, "5", "1", "P", "P"), 1},
		{"event-1000", update(rel, 1, "5", "1", "P", "L"), 1000}, {"none-1000", update(rel, 1, "5", "1", "P", "P"), 1000},
	} {
		b.Run(c.name, func(b *testing.B) {
			plain, counted := q.NewBatch(), q.NewBatch()
			counted.CountIn(q.Tally())
			commit := c.change.Commit
			measure := func(m *mapping.Mapper, into *queue.Batch, reached func()) time.Duration {
				const n = 1000
				change := *c.change
				began := time.Now()
				for i := range n {
					if into.Bytes() > 64<<10 {
						into.Reset()
					}
					if change.Ordinal++; i%c.rows == 0 {
						commit++
						change.Ordinal = 0
					}
					change.Commit = commit
					if err := m.Map(&change, intoBatch{into}); err != nil {
						b.Fatal(err)
					}
					if (i+1)%c.rows == 0 {
						reached()
					}
				}
				return time.Since(began) / n
			}
			without := mapping.NewMapper(rules, nil)
			with := mapping.NewMapper(rules, nil, mapping.WithObserver(q.Tally()))
			var plainly, counting time.Duration
			for b.Loop() {
				plainly += measure(without, plain, func() {})
				counting += measure(with, counted, q.Tally().Reached)
			}
			b.ReportMetric(float64(plainly.Nanoseconds())/float64(b.N), "ns/change")
			b.ReportMetric(float64((counting-plainly).Nanoseconds())/float64(b.N), "more-ns/change")
		})
	}
}
