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
	streaming atomic.Bool // capture has a replication connection, when last looked
	queue     atomic.Bool // Redis answered the last time it was asked
	delivers  bool        // this process delivers
	captures  bool        // this process captures
}

func (h *health) check() error {
	if h.captures && !h.streaming.Load() {
		return errors.New("capture is not connected to the source")
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
func serve(ctx context.Context, l net.Listener, h *health, m *metrics, api http.Handler) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok") // the client went away: nobody to tell
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if err := h.check(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	if api != nil {
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
		err := server.Close() // answers here take milliseconds; whoever is slower is cut off
		if end := <-stopped; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}
}
