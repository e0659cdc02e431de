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
	done   chan struct{} // closed when the bridge has returned
	err    error         // what it returned; to be read when done is closed
}

// startBridge runs the bridge until stop. The context that it returns is done
// when the bridge has ended.
func startBridge(ctx context.Context, run func(context.Context, string) error, configFile string) (*bridge, context.Context) {
	ended, end := context.WithCancelCause(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	b := &bridge{cancel: cancel, done: make(chan struct{})}
	go func() {
		b.err = run(ctx, configFile)
		close(b.done)
		end(errEnded)
	}()
	return b, ended
}

// either returns the first context, done as well when the second one is.
func either(ctx, other context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(other, func() { cancel(context.Cause(other)) })
	return ctx
}

// hasEnded reports whether the bridge has returned. What stop then returns is
// never nil, unless stop was called before.
func (b *bridge) hasEnded() bool {
	select {
	case <-b.done:
		return true
	default:
		return false
	}
}

// stop ends the bridge, waits for it, and returns its error. A bridge that had
// ended before is an error in any case.
func (b *bridge) stop() error {
	early := b.hasEnded()
	b.cancel()
	<-b.done
	switch {
	case b.err != nil:
		return fmt.Errorf("run the bridge: %w", b.err)
	case early:
		return errEnded
	}
	return nil
}
