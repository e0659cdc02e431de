package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery"
	"gancho/mapping"
)

// Definitions are what may change while the bridge runs.
type Definitions struct {
	Rules     *mapping.Rules
	Endpoints []delivery.Endpoint
}

// Options are everything the bridge needs to know.
type Options struct {
	Source            cdc.Options
	LookupDSN         string         // of what rules look up
	TransactionMemory int64          // bytes of one transaction that wait in memory for its commit
	Location          *time.Location // of the source's timestamps without time zone
	AcceptSource      bool           // start a new epoch when the source is another one
	// Queue says where Redis is and how far to trust it; its endpoints and its
	// log are the bridge's business.
	Queue    delivery.QueueOptions
	Capture  bool // read the source and fill the queues
	Deliver  bool // empty the queues
	Listen   string
	Shutdown time.Duration // how long requests in flight may take at the end
	Version  string
	Log      zerolog.Logger
	// Load reads the definitions: once at the start, and at every Reload.
	Load   func() (*Definitions, error)
	Reload <-chan os.Signal
}

// Run runs the bridge until the context ends, then drains it and returns nil.
// Any other return is an error that somebody must look at; nothing is lost by
// it, and the same command goes on where it stopped.
func Run(ctx context.Context, o Options) error {
	d, err := o.Load()
	if err != nil {
		return err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.Listen)
	if err != nil {
		return fmt.Errorf("listen for health and metrics: %w; change http.listen", err)
	}
	defer func() { _ = listener.Close() }() // serve has closed it, unless it was never reached
	b := &bridge{Options: o, definitions: d, metrics: newMetrics(), health: &health{delivers: o.Deliver, captures: o.Capture}}
	if err := b.open(ctx); err != nil {
		if ctx.Err() != nil {
			return nil // told to stop before it had begun
		}
		return err
	}
	defer b.close()
	o.Log.Info().Str("listen", listener.Addr().String()).Msg("serving health and metrics")
	return b.run(ctx, listener)
}

// bridge is the running whole.
type bridge struct {
	Options
	metrics *metrics
	health  *health

	mu          sync.Mutex
	definitions *Definitions // guarded by mu

	queue      *delivery.Queue
	sender     *delivery.Sender
	dispatcher *delivery.Dispatcher
	capture    *capture
}

// open connects to everything and checks it, so that a bridge that starts is
// one that can work.
func (b *bridge) open(ctx context.Context) error {
	var err error
	if b.queue, err = b.openQueue(ctx); err != nil {
		return err
	}
	if b.Deliver {
		b.sender = delivery.NewSender(delivery.SenderOptions{Version: b.Version, Logger: b.Log})
		b.dispatcher = delivery.NewDispatcher(b.queue, b.sender, b.definitions.Endpoints, delivery.DispatcherOptions{
			Logger: b.Log, DrainTimeout: b.Shutdown, Observe: b.metrics.attempt,
		})
	}
	if b.Capture {
		if b.capture, err = b.openCapture(ctx); err != nil {
			return err
		}
	}
	return nil
}

func (b *bridge) close() {
	if b.sender != nil {
		b.sender.Close()
	}
	_ = b.queue.Close() // everything that matters has been acknowledged by Redis
}

// run runs the parts until the context ends or one fails.
func (b *bridge) run(ctx context.Context, listener net.Listener) error {
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return serve(ctx, listener, b.health, b.metrics) })
	group.Go(func() error { return b.monitor(ctx) })
	group.Go(func() error { return b.reload(ctx) })
	if b.Deliver {
		group.Go(func() error { return b.dispatcher.Run(ctx) })
	}
	if b.Capture {
		group.Go(func() error { return b.capture.run(ctx) })
	} else {
		b.Log.Info().Msg("bridge is ready")
	}
	group.Go(func() error {
		<-ctx.Done()
		b.Log.Info().Msg("stopping: requests in flight may finish, a second signal kills")
		return nil
	})
	err := group.Wait()
	if err == nil {
		b.Log.Info().Msg("bridge stopped")
		return nil
	}
	return err
}

// openQueue waits for Redis as long as it does not answer at all; what it
// answers and cannot be worked with is an error.
func (b *bridge) openQueue(ctx context.Context) (*delivery.Queue, error) {
	queue, err := retry(ctx, b.Log, "redis", func() (*delivery.Queue, error) {
		o := b.Queue
		o.Endpoints, o.Logger = b.definitions.Endpoints, b.Log
		return delivery.OpenQueue(ctx, o)
	})
	if err != nil {
		return nil, fmt.Errorf("open the queue: %w", err)
	}
	return queue, nil
}

const (
	retryOpenMin = 200 * time.Millisecond
	retryOpenMax = 5 * time.Second
)

// retry calls open until it succeeds or fails for another reason than that
// the server cannot be reached, as while a machine starts.
func retry[T any](ctx context.Context, log zerolog.Logger, what string, open func() (T, error)) (T, error) {
	var complained time.Time
	for wait := retryOpenMin; ; wait = min(2*wait, retryOpenMax) {
		v, err := open()
		if err == nil || ctx.Err() != nil || !unreachable(err) {
			return v, err
		}
		if time.Since(complained) >= complainEvery {
			complained = time.Now()
			log.Warn().Err(err).Str("server", what).Msg("server cannot be reached; waiting for it")
		}
		select {
		case <-ctx.Done():
			return v, ctx.Err()
		case <-time.After(wait):
		}
	}
}

// unreachable: nobody listens there, or not yet, or not to us: a server that
// starts, stops or is out of connections will be there later.
func unreachable(err error) bool {
	var op *net.OpError
	var server *pgconn.PgError
	switch {
	case errors.Is(err, delivery.ErrUnreachable), errors.As(err, &op) && op.Op == "dial":
		return true
	case errors.As(err, &server) && len(server.Code) == 5:
		return slices.Contains([]string{"08", "53", "57"}, server.Code[:2])
	}
	return false
}
