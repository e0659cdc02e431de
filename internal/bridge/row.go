package bridge

import (
	"cmp"
	"context"
	"errors"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/draft"
	"gancho/mapping"
	"gancho/mapping/ruletest"
)

// rowTimeout bounds the reading of one row, with all that its rules look up.
const rowTimeout = 20 * time.Second

// judgeRow reads a row as it is now, as lookups read, and evaluates the conditions of the
// rules that are in use on it.
func (b *bridge) judgeRow(ctx context.Context, q control.WhyQuestion) (row *mapping.RowJudgement, err error) {
	err = b.withRow(ctx, q, func(ctx context.Context, rules *mapping.Ruleset, source *mapping.Source, table cdc.Name) error {
		row, err = rules.Judge(ctx, source, table, q.Key, draft.Personal)
		return err
	})
	return row, err
}

// draftTest reads a row as it is now, and writes it as a test of the rules that are in use.
func (b *bridge) draftTest(ctx context.Context, q control.WhyQuestion) (file []byte, err error) {
	err = b.withRow(ctx, q, func(ctx context.Context, rules *mapping.Ruleset, source *mapping.Source, table cdc.Name) error {
		row, err := rules.RowValues(ctx, source, table, q.Key, draft.Personal)
		if err != nil || row == nil {
			return err
		}
		file, err = ruletest.Draft(ctx, rules, ruletest.Options{Location: b.Location}, table, row)
		return err
	})
	return file, err
}

// withRow calls read with the rules that are in use, and a connection to the source for one row of the table. A key that is none is a mistake of
// the question.
func (b *bridge) withRow(ctx context.Context, q control.WhyQuestion, read func(context.Context, *mapping.Ruleset, *mapping.Source, cdc.Name) error) error {
	u := b.inUse()
	if u == nil {
		return &control.ElsewhereError{Slot: b.Source.Slot}
	}
	table, _, err := tableOf(u.rules.Texts(), q.Table)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, rowTimeout)
	defer cancel()
	source := b.newLookup(u.identity)
	defer source.Close(ctx)
	err = read(ctx, u.rules, source, table)
	if errors.Is(err, mapping.ErrKey) {
		err = &control.InvalidError{Problems: []control.Problem{{Pointer: "/key", Message: err.Error(), Hint: "write the row's primary key, several columns joined by commas"}}}
	}
	return err
}

// rowTimers are the timers that a row has.
func (b *bridge) rowTimers(ctx context.Context, q control.WhyQuestion) ([]queue.PendingTimer, error) {
	u := b.inUse()
	if u == nil {
		return nil, nil
	}
	table, _, err := tableOf(u.rules.Texts(), q.Table)
	if err = cmp.Or(err, b.queueDown); err != nil {
		return nil, err
	}
	rules, key := u.rules.TimersOf(table, q.Key)
	return b.queue.RowTimers(ctx, rules, key)
}
