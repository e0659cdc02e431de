package bridge

import (
	"context"
	"sync"
	"time"

	"gancho/cdc"
)

// The least time between two looks at the hazards, unasked and for somebody who asks.
const (
	hazardsEvery = 30 * time.Second
	hazardsAsked = 5 * time.Second
)

// hazardWatch remembers what was logged of the hazards of the source: an index
// that is dropped, a column that is added, or a publication of another tool may
// make statements of the application fail at any time.
type hazardWatch struct {
	mu     sync.Mutex
	looked time.Time       // guarded by mu
	logged map[string]bool // guarded by mu
}

// watchHazards looks again if the last look is as old as that, logs what is new
// and sets the metrics. An error is not logged: the reader says that the source
// is unreachable.
func (b *bridge) watchHazards(ctx context.Context, every time.Duration) {
	w := &b.hazards
	w.mu.Lock()
	defer w.mu.Unlock()
	if time.Since(w.looked) < every {
		return
	}
	found, err := b.gauge.Hazards(ctx, b.Source.Publication, *b.capture.oids.Load()...)
	if err != nil {
		return
	}
	w.looked = time.Now()
	now := make(map[string]bool, len(found))
	refused, unseen := map[cdc.Name]bool{}, map[cdc.Name]bool{}
	for _, h := range found {
		tables, message := unseen, "rows of a table make no events"
		if h.RefusesStatements() {
			tables, message = refused, "statements of the application fail"
		}
		tables[h.Table] = true
		if now[h.String()] = true; !w.logged[h.String()] {
			b.Log.Error().Stringer("table", h.Table).Str("reason", h.String()).Str("fix", h.Fix()).Msg(message)
		}
	}
	for reason := range w.logged {
		if !now[reason] {
			b.Log.Info().Str("reason", reason).Msg("this is over")
		}
	}
	w.logged = now
	b.metrics.refusedTables.Set(float64(len(refused)))
	b.metrics.unseenTables.Set(float64(len(unseen)))
}
