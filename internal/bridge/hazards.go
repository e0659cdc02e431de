package bridge

import (
	"context"
	"time"

	"gancho/cdc"
	"gancho/internal/retry"
)

const (
	// hazardsEvery is the time between two looks at the hazards, and hazardsAsked the
	// least, when somebody reads the metrics.
	hazardsEvery = 30 * time.Second
	hazardsAsked = 10 * time.Second
	// hazardsRest is how many times as long as a look took the next one waits: it reads
	// much of the catalogue, and may take long on a large one, or never succeed.
	hazardsRest = 20
)

// hazardWatch remembers what was logged of the hazards of the source: an index
// that is dropped, a column that is added, or a publication of another tool may
// make statements of the application fail at any time.
type hazardWatch struct {
	wake      chan struct{} // capacity 1: somebody reads the metrics
	complaint complaint
	logged    map[string]bool // the goroutine's of watchHazards
}

// watchHazards looks at the hazards until the context ends. Nobody waits for a look.
func (b *bridge) watchHazards(ctx context.Context) error {
	for {
		began := time.Now()
		b.lookAtHazards(ctx)
		rest := max(hazardsAsked, hazardsRest*time.Since(began))
		if retry.Wait(ctx, rest) != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
		select {
		case <-ctx.Done():
			return nil
		case <-b.hazards.wake:
		case <-time.After(hazardsEvery - rest): // immediately after a longer rest
		}
	}
}

// lookAtHazards logs what is new and sets the metrics. That the source is unreachable,
// the reader says.
func (b *bridge) lookAtHazards(ctx context.Context) {
	w := &b.hazards
	found, err := b.catalog.Hazards(ctx, *b.capture.ruled.Load()...)
	if err != nil {
		if cdc.FaultOf(err) != cdc.FaultUnreachable && ctx.Err() == nil {
			w.complaint.about(err)
		}
		return
	}
	w.complaint.over()
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
