package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// health is what /readyz reports: the bridge is ready when every part is.
type health struct {
	streaming atomic.Bool            // capture had a replication connection when it was measured last
	queue     atomic.Bool            // Redis answered the last time it was asked
	gap       atomic.Pointer[string] // the table that the stream lacks, and why; nil: none
	delivers  bool                   // this process delivers
	captures  bool                   // this process captures
}

func (h *health) check() error {
	if h.captures && !h.streaming.Load() {
		return errors.New("capture is not connected to the source")
	}
	if gap := h.gap.Load(); gap != nil {
		return errors.New(*gap)
	}
	if !h.queue.Load() {
		return errors.New("redis does not answer")
	}
	return nil
}

// The limits of a connection. The API itself bounds bodies and answers.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
)

// serve answers health checks, metrics and, when there is one, the API on the
// listener until the context ends.
func (b *bridge) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok") // the client hung up: nobody to report it to
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		b.measure(r.Context())
		if err := b.health.check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	metrics := promhttp.HandlerFor(b.metrics.registry, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		b.measure(r.Context())
		metrics.ServeHTTP(w, r)
	})
	if api := b.api(); api != nil {
		mux.Handle("/api/v1/", api)
		mux.Handle("/api/v1", api)
	}
	server := &http.Server{Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader}
	stopped := make(chan error, 1)
	go func() { stopped <- server.Serve(l) }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serve health and metrics on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		err := server.Close() // answers here take milliseconds; slower ones are cut off
		if end := <-stopped; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}
}
