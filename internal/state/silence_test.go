package state_test

import (
	"errors"
	"io"
	"net"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/state"
)

// TestSilentConnection: a connection on which nothing comes back any more, and
// which nobody closes, is given up, and another one is made.
func TestSilentConnection(t *testing.T) {
	t.Parallel()
	_, dsn := newStore(t)
	config := must[*pgx.ConnConfig](t)(pgx.ParseConfig(dsn))
	address := net.JoinHostPort(config.Host, strconv.Itoa(int(config.Port)))
	listener := must[net.Listener](t)(new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0"))
	t.Cleanup(func() { _ = listener.Close() })
	var silent atomic.Bool
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			server, err := net.Dial("tcp", address)
			if err != nil {
				_ = client.Close()
				return
			}
			dead := !silent.Load() // those of before are, once it is silent
			go func() { _, _ = io.Copy(server, client); _ = server.Close() }()
			go func() {
				_, _ = io.Copy(muted{client, func() bool { return dead && silent.Load() }}, server)
				_ = client.Close()
			}()
		}
	}()
	_, port, err := net.SplitHostPort(listener.Addr().String())
	check(t, err)
	s := open(t, dsn+"&host=127.0.0.1&port="+port, keys(t, "a"))
	must[[]state.Endpoint](t)(s.EndpointsOf(t.Context(), ""))
	silent.Store(true)
	if _, err := s.EndpointsOf(t.Context(), ""); !errors.Is(err, state.ErrUnreachable) {
		t.Errorf("a silent connection answers: %v", err)
	}
	must[[]state.Endpoint](t)(s.EndpointsOf(t.Context(), ""))
}

// muted drops what is written while it is silent.
type muted struct {
	io.Writer
	silent func() bool
}

func (m muted) Write(p []byte) (int, error) {
	if m.silent() {
		return len(p), nil
	}
	return m.Writer.Write(p)
}
