package demo

import (
	"context"
	"errors"
	"fmt"
)

// errEnded is why what needs the bridge stops when the bridge does.
var errEnded = errors.New("the bridge ended by itself")

// bridge is the bridge that runs in this process.
type bridge struct {
	cancel context.CancelFunc
	ended  context.Context // done when the bridge has returned
	err    error           // what it returned; to be read when ended is done
}

func startBridge(ctx context.Context, run func(context.Context, string) error, configFile string) *bridge {
	ctx, cancel := context.WithCancel(ctx)
	ended, end := context.WithCancelCause(context.WithoutCancel(ctx))
	b := &bridge{cancel: cancel, ended: ended}
	go func() {
		b.err = run(ctx, configFile)
		end(errors.Join(errEnded, b.err))
	}()
	return b
}

// running returns the context, done as well when the bridge has ended.
func (b *bridge) running(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(b.ended, func() { cancel(context.Cause(b.ended)) })
	return ctx
}

// hasEnded reports whether the bridge has returned. What stop then returns is
// never nil, unless stop was called before.
func (b *bridge) hasEnded() bool { return b.ended.Err() != nil }

// stop ends the bridge, waits for it, and returns its error. A bridge that had
// ended before is an error in any case.
func (b *bridge) stop() error {
	early := b.hasEnded()
	b.cancel()
	<-b.ended.Done()
	switch {
	case b.err != nil:
		return fmt.Errorf("run the bridge: %w", b.err)
	case early:
		return errEnded
	}
	return nil
}
