package bridge

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"errors"
	"fmt"
	"log" //nolint:depguard // net/http prints to it
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/delivery/queue"
	"gancho/internal/api"
	"gancho/internal/servercert"
)

// health is what /readyz reports: the bridge is ready when every part is.
type health struct {
	waiting   atomic.Pointer[string] // the server that the start waits for; nil: the bridge has started
	streaming atomic.Bool            // capture had a replication connection when it was measured last
	queue     atomic.Bool            // Redis answered the last time it was asked
	// unconfirmed is why positions cannot be confirmed to the source; nil: they are.
	unconfirmed atomic.Pointer[error]
	budget      atomic.Pointer[string] // how much of the WAL budget is spent; nil: less than is alerted
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
	if b.refused != nil {
		return b.refused
	}
	if b.capture != nil {
		if err := b.capture.waiting(); err != nil {
			return b.whoBlocks(err)
		}
	}
	if err := b.health.check(); err != nil {
		return err
	}
	if b.dispatcher != nil {
		if left := b.dispatcher.Left(); len(left) > 0 {
			return fmt.Errorf("no process delivers to %s: %w", strings.Join(left, ", "), queue.ErrNoOverflow)
		}
	}
	if b.fleet != nil {
		if err := b.fleet.ready(); err != nil || !b.fleet.captures {
			return err
		}
		return b.excesses.stuck.err()
	}
	if b.capture == nil {
		return nil
	}
	if text := b.health.budget.Load(); text != nil {
		return errors.New(*text)
	}
	if err := b.capture.trouble(); err != nil {
		return err
	}
	return b.excesses.stuck.err()
}

// serverLog takes what http.Server prints, which is never about one of our receivers.
type serverLog struct{ log zerolog.Logger }

// Write logs one message.
func (l serverLog) Write(text []byte) (int, error) {
	line := strings.TrimPrefix(strings.TrimSpace(string(text)), "http: ")
	level := zerolog.ErrorLevel
	if strings.HasPrefix(line, "TLS handshake error") {
		level = zerolog.DebugLevel // of whoever connects: a scan of ports, a client that does not trust us
	}
	l.log.WithLevel(level).Msg("http: " + line)
	return len(text), nil
}

// The limits of a connection. readTimeout is for a whole request with its body,
// writeTimeout for an answer; the API, some of whose requests take minutes, sets both
// anew where it needs to.
const (
	headerTimeout = 5 * time.Second
	readTimeout   = 30 * time.Second
	writeTimeout  = 30 * time.Second
	idleTimeout   = 2 * time.Minute
	maxHeader     = 32 << 10
	// metricsAtOnce is how many answers with metrics are made at once.
	metricsAtOnce = 4
)

// listeners are what the bridge serves on.
type listeners struct {
	main    net.Listener
	metrics net.Listener // nil: the metrics are on main
	console net.Listener // nil: there is no console
}

// close ends the listening.
func (l listeners) close() {
	for _, listener := range []net.Listener{l.main, l.metrics, l.console} {
		if kept, ok := listener.(keptListener); ok {
			_ = kept.TCPListener.Close()
		}
	}
}

// keptListener goes on listening when its server is closed, for the next one: who connects in
// between waits.
type keptListener struct{ *net.TCPListener }

// Close ends a call of Accept.
func (l keptListener) Close() error { return l.SetDeadline(time.Unix(1, 0)) }

// keep listens on an address.
func keep(ctx context.Context, address string) (net.Listener, error) {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", address)
	if tcp, ok := l.(*net.TCPListener); ok {
		return keptListener{tcp}, err
	}
	return l, err
}

// listen listens on the addresses of the options.
func (o *Options) listen(ctx context.Context) (l listeners, err error) {
	if l.main, err = keep(ctx, o.Listen); err != nil {
		return l, fmt.Errorf("listen for health and metrics: %w; change http.listen, of which each process on a machine needs its own", err)
	}
	if o.Console != nil {
		if l.console, err = keep(ctx, o.Console.Listen); err != nil {
			l.close()
			return l, fmt.Errorf("listen for the console: %w; change console.listen, of which each process on a machine needs its own", err)
		}
	}
	if o.MetricsListen == "" {
		return l, nil
	}
	if l.metrics, err = keep(ctx, o.MetricsListen); err != nil {
		l.close()
		return l, fmt.Errorf("listen for metrics: %w; change http.metrics, of which each process on a machine needs its own", err)
	}
	return l, nil
}

// serve answers health checks, metrics and, when there is one, the API on the
// listeners until the context ends. While the bridge waits for its servers, it answers
// that.
func (b *bridge) serve(ctx context.Context, l listeners) error {
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
	edge, err := b.edge(l.console)
	if err != nil {
		return err
	}
	if b.State != nil {
		mux.Handle("/api/v1/", edge.api)
		mux.Handle("/api/v1", edge.api)
	}
	group, ctx := errgroup.WithContext(ctx)
	if l.metrics == nil {
		mux.Handle("GET /metrics", b.metricsHandler())
	} else {
		apart := http.NewServeMux()
		apart.Handle("GET /metrics", b.metricsHandler())
		group.Go(func() error { return b.serveOn(ctx, l.metrics, b.Certificate, apart, metricsConnections) })
	}
	if l.console != nil {
		group.Go(func() error {
			return b.serveOn(ctx, l.console, b.Console.Certificate, edge.consoleMux(), maxConnections)
		})
	}
	group.Go(func() error { return b.serveOn(ctx, l.main, b.Certificate, mux, maxConnections) })
	return group.Wait()
}

// metricsHandler answers with the metrics, and needs the token of the options if that
// is set.
func (b *bridge) metricsHandler() http.Handler {
	metrics := promhttp.HandlerFor(b.metrics.registry, promhttp.HandlerOpts{})
	slots := make(chan struct{}, metricsAtOnce)
	want := sha256.Sum256([]byte("Bearer " + b.MetricsToken))
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		given := sha256.Sum256([]byte(r.Header.Get("Authorization")))
		if b.MetricsToken != "" && subtle.ConstantTimeCompare(given[:], want[:]) != 1 {
			b.metrics.loginFailures.WithLabelValues("metrics").Inc()
			w.Header().Set("WWW-Authenticate", `Bearer realm="gancho metrics"`)
			http.Error(w, "the metrics need the header Authorization: Bearer with the token of http.metrics_token", http.StatusUnauthorized)
			return
		}
		signal(b.hazards.wake)
		b.measure(r.Context())
		select { // rendering takes milliseconds: whoever comes meanwhile waits instead of being refused
		case slots <- struct{}{}:
		case <-r.Context().Done():
			return
		}
		rendered := &buffered{header: w.Header(), status: http.StatusOK}
		func() {
			defer func() { <-slots }()
			defer holdConnection(r)()
			metrics.ServeHTTP(rendered, r)
		}()
		w.WriteHeader(rendered.status)
		_, _ = w.Write(rendered.Bytes()) // an error means that the client has gone
	})
}

// buffered keeps an answer, so that a client that reads it slowly does not keep what it
// took to make it.
type buffered struct {
	bytes.Buffer
	header http.Header
	status int
}

// Header is the answer's.
func (b *buffered) Header() http.Header { return b.header }

// WriteHeader sets the answer's status.
func (b *buffered) WriteHeader(status int) { b.status = status }

// newServer returns the server of a handler, with the limits of a connection.
func newServer(handler http.Handler, logger zerolog.Logger) *http.Server {
	// Not HTTP/2, with TLS either: the limits of a listener count connections, of one request at a time.
	one := new(http.Protocols)
	one.SetHTTP1(true)
	return &http.Server{
		Protocols:         one,
		Handler:           http.MaxBytesHandler(handler, api.MaxBody),
		ReadHeaderTimeout: headerTimeout, ReadTimeout: readTimeout, WriteTimeout: writeTimeout, IdleTimeout: idleTimeout, MaxHeaderBytes: maxHeader,
		ConnContext: withConn, ConnState: connState,
		ErrorLog: log.New(serverLog{logger}, "", 0), // a panic, or no descriptor left: not what others of net/http print
	}
}

// serveOn serves a handler on a listener, of which it keeps so many connections, until
// the context ends. Nil is the certificate of one that speaks plain HTTP.
func (b *bridge) serveOn(ctx context.Context, l net.Listener, certificate *servercert.Certificate, handler http.Handler, connections int) error {
	if kept, ok := l.(keptListener); ok { // its last server has ended it
		if err := kept.SetDeadline(time.Time{}); err != nil {
			return fmt.Errorf("serve on %s: %w", l.Addr(), err)
		}
	}
	limit, server := connectionLimit(connections), newServer(handler, b.Log)
	crowded := complaint{log: b.Log.With().Stringer("listen", l.Addr()).Int("limit", limit).Logger(), failed: "the listener has no room for more connections; those that wait longest are closed"}
	limited := limitListener(l, limit, func() {
		b.metrics.turnedAway.Inc()
		crowded.about(nil)
	})
	serve := func() error { return server.Serve(limited) }
	if certificate != nil {
		server.TLSConfig = certificate.Config()
		serve = func() error { return server.ServeTLS(limited, "", "") }
	}
	stopped := make(chan error, 1)
	go func() { stopped <- serve() }()
	select {
	case err := <-stopped:
		return fmt.Errorf("serve on %s: %w", l.Addr(), err)
	case <-ctx.Done():
		err := server.Close() // answers here take milliseconds; slower ones are cut off
		if end := <-stopped; !errors.Is(end, http.ErrServerClosed) {
			err = errors.Join(err, end)
		}
		return err
	}
}
