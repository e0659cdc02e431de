package control

import (
	"context"

	"gancho/internal/state"
)

// scanKey is the key of the turn in a context.
type scanKey struct{}

// WithScans returns a context in which whatever reads all queues waits for a turn of its own.
// In other contexts nothing waits.
func WithScans(ctx context.Context, turn state.Turn) context.Context {
	return context.WithValue(ctx, scanKey{}, turn)
}

// scan reads all queues, when it may.
func scan(ctx context.Context, read func() error) error {
	turn, ok := ctx.Value(scanKey{}).(state.Turn)
	if !ok {
		return read()
	}
	end, err := turn(ctx)
	if err != nil {
		return err
	}
	defer end()
	return read()
}
