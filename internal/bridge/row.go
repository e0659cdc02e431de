package bridge

import (
	"context"
	"errors"
	"time"

	"gancho/internal/control"
	"gancho/internal/draft"
	"gancho/mapping"
)

// rowTimeout bounds the reading of one row, with all that its rules look up.
const rowTimeout = 20 * time.Second

// judgeRow reads a row as it is now, as lookups read, and evaluates the conditions of the
// rules that are in use on it.
func (b *bridge) judgeRow(ctx context.Context, q control.WhyQuestion) (*mapping.RowJudgement, error) {
	if b.capture == nil {
		return nil, &control.ElsewhereError{Slot: b.Source.Slot}
	}
	rules := b.capture.bound.Load()
	table, _, err := tableOf(rules.Texts(), q.Table)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, rowTimeout)
	defer cancel()
	source := b.capture.newLookup()
	defer source.Close(ctx)
	row, err := rules.Judge(ctx, source, table, q.Key, draft.Personal)
	if errors.Is(err, mapping.ErrKey) {
		err = &control.InvalidError{Problems: []control.Problem{{Pointer: "/key", Message: err.Error(), Hint: "write the row's primary key, several columns joined by commas"}}}
	}
	return row, err
}
