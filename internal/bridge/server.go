package bridge

import (
	"context"
	"errors"
	"fmt"
	"log" //nolint:depguard // net/http prints to it
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"

	"gancho/internal/api"
)

// health is what /readyz reports: the bridge is ready when every part is.
type health struct {
	waiting   atomic.Pointer[string] // the server that the start waits for; nil: the bridge has started
	streaming atomic.Bool            // capture had a replication connection when it was measured last
	queue     atomic.Bool            // Redis answered the last time it was asked
	// unconfirmed is why positions cannot be confirmed to the source; nil: they are.
	unconfirmed atomic.Pointer[error]
	gap         atomic.Pointer[string] // the table that the stream lacks, and why; nil: none
	delivers    bool                   // this process delivers
	captures    bool                   // this process captures
}

func (h *health) waitsFor(server string) { h.waiting.Store(&server) }

// starting returns why the bridge cannot work yet, or nil: then what open makes is there.
func (h *health) starting() error {
	if server := h.waiting.Load(); server != nil {
		return fmt.Errorf("starting: waiting for %s", *server)
	}
	return nil
}

func (h *health) check() error {
	if h.captures && !h.streaming.Load() {
		return errors.New("capture is not connected to the source")
	}
	if !h.queue.Load() {
		return errors.New("redis does not answer")
	}
	if err := h.unconfirmed.Load(); err != nil {
		return fmt.Errorf("positions are not confirmed, and the source holds its WAL: %w", *err)
	}
	return nil
}

// ready returns why the bridge is not ready, nil when it is.
func (b *bridge) ready() error {
	if err := b.health.starting(); err != nil {
		return err // and b.capture may just be set
	}
	if b.capture != nil {
		if err := b.capture.waiting(); err != nil {
			return err
		}
	}
	if err := b.health.check(); err != nil || b.capture == nil {
		return err
	}
	return b.capture.trouble()
}

// serverLog takes what http.Server prints, which is never about one of our receivers.
type serverLog struct{ log zerolog.Logger }

// Write logs one message.
func (l serverLog) Write(text []byte) (int, error) {
	l.log.Error().Msg("http: " + strings.TrimPrefix(strings.TrimSpace(string(text)), "http: "))
	return len(text), nil
}

// The limits of a connection. The API itself bounds bodies and answers.
const (
	headerTimeout = 5 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
)

// serve answers health checks, metrics and, when there is one, the API on the
// listener until the context ends. While the bridge waits for its servers, it answers
// that.
func (b *bridge) serve(ctx context.Context, l net.Listener) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		_, _ = fmt.Fprintln(w, "ok") // the client hung up: nobody to report it to
	})
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, r *http.Request) {
		b.measure(r.Context())
		if err := b.ready(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
			return
		}
		_, _ = fmt.Fprintln(w, "ready")
	})
	metrics := promhttp.HandlerFor(b.metrics.registry, promhttp.HandlerOpts{})
	mux.HandleFunc("GET /metrics", func(w http.ResponseWriter, r *http.Request) {
		signal(b.hazards.wake)
		b.measure(r.Context())
		metrics.ServeHTTP(w, r)
	})
	if b.State != nil {
		control := sync.OnceValue(b.api)
		handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if err := b.health.starting(); err != nil {
				api.Unavailable(w, "Gancho is "+err.Error()+".")
				return
			}
			control().ServeHTTP(w, r)
		})
		mux.Handle("/api/v1/", handler)
		mux.Handle("/api/v1", handler)
	}
	server := &http.Server{
		Handler: mux, ReadHeaderTimeout: headerTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ErrorLog: log.New(serverLog{b.Log}, "", 0), // a panic, or no descriptor left: not what others of net/http print
	}
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
