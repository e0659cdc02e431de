package simulate

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// Trial is an edited copy of a rule file, and the existing rows that it is tried on.
type Trial struct {
	File  string
	Text  []byte
	Table cdc.Name
	Where string // as after WHERE, in the language of rules; empty: all rows
	Limit int64
}

// Try compares what the rules make of existing rows with what they would with the trial's text. It sends nothing and
// writes nothing. Its errors are those of mapping.Parse and Bind, ErrNoRule, mapping.ErrCondition, and those of the source.
func Try(ctx context.Context, rules *mapping.Rules, t Trial, o Options) (*Report, error) {
	edited, err := rules.Edited(t.File, t.Text)
	if err != nil {
		return nil, err
	}
	conn, err := cdc.Connect(ctx, o.Source.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	// The rules are bound once more, because a simulation numbers its own.
	now, err := bindChecked(ctx, conn, rules, &o)
	if err != nil {
		return nil, err
	}
	then, err := bindChecked(ctx, conn, edited, &o)
	if err != nil {
		return nil, err
	}
	for _, side := range []*mapping.Ruleset{now, then} {
		if table := side.Table(t.Table); table != nil && t.Where != "" {
			if err := side.CheckWhere(table, t.Where); err != nil {
				return nil, fmt.Errorf("%w: %w", mapping.ErrCondition, err)
			}
		}
	}
	s := New(now, then, o)
	defer s.Close(context.WithoutCancel(ctx))
	return s.Rows(ctx, t.Table, t.Where, t.Limit)
}

// Bind binds rules to the source, and checks that they may read what they look up.
func Bind(ctx context.Context, rules *mapping.Rules, o Options) (*mapping.Ruleset, error) {
	conn, err := cdc.Connect(ctx, o.Source.DSN)
	if err != nil {
		return nil, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	return bindChecked(ctx, conn, rules, &o)
}

// bindChecked binds rules, and checks that they may read what they look up.
func bindChecked(ctx context.Context, conn *pgx.Conn, rules *mapping.Rules, o *Options) (*mapping.Ruleset, error) {
	bound, err := rules.Bind(ctx, conn)
	if err != nil {
		return nil, err
	}
	bound.Of(o.Name)
	lookup := mapping.NewSource(o.LookupDSN, o.Source.Encoding, o.Source.Log)
	defer lookup.Close(context.WithoutCancel(ctx))
	return bound, lookup.Check(ctx, bound)
}
