package cdc_test

import (
	"context"
	"errors"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// TestTypesWaitForNobody: a load that waits for another one, whose connection is
// dead, ends with its context.
func TestTypesWaitForNobody(t *testing.T) {
	t.Parallel()
	types, dead := cdc.NewTypes(""), deadConn{asked: make(chan struct{}), end: make(chan struct{})}
	first := make(chan error)
	go func() { first <- types.Load(context.Background(), dead, 1) }()
	<-dead.asked
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	for name, load := range map[string]func() error{
		"Load":    func() error { return types.Load(ctx, nil, 1) },
		"Preload": func() error { return types.Preload(ctx, nil) },
	} {
		if err := load(); !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
	}
	close(dead.end)
	if err := <-first; !errors.Is(err, errDead) {
		t.Error(err)
	}
}

var errDead = errors.New("the connection is dead")

// deadConn answers nothing until the end.
type deadConn struct{ asked, end chan struct{} }

func (c deadConn) Query(context.Context, string, ...any) (pgx.Rows, error) {
	close(c.asked)
	<-c.end
	return deadRows{}, errDead
}

type deadRows struct{ pgx.Rows }

func (deadRows) Close()     {}
func (deadRows) Next() bool { return false }
func (deadRows) Err() error { return errDead }
