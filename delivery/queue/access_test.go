package queue_test

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/queue"
)

// What Redis answers to whom it does not let in is what is reported.
func TestRefusalsOfAccess(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	set(t, r, "requirepass", "segredo")
	for url, want := range map[string]string{
		r.URL(): "NOAUTH", "redis://:errada@" + r.Addr(): "WRONGPASS", "redis://ana:errada@" + r.Addr(): "WRONGPASS",
	} {
		_, err := queue.Open(t.Context(), queue.Options{URL: url, Logger: queuetest.Logger(t)})
		if err == nil || !strings.Contains(err.Error(), want) || errors.Is(err, queue.ErrUnreachable) {
			t.Errorf("got %v, want %s", err, want)
		}
	}
}

func TestNoRoomForAClient(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "maxclients", "1")
	if err := queuetest.Client(t, r).Ping(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	_, err := queue.Open(t.Context(), queue.Options{URL: r.URL(), Logger: queuetest.Logger(t)})
	if !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "max number of clients reached") {
		t.Errorf("got %v, want ErrUnreachable that says why", err)
	}
}

// Who is hung up on asks why, and does not wait for a server that does not answer.
func TestAskingWhyIsBounded(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	first := true
	conn, err := queue.DialFresh(func(ctx context.Context, network, addr string) (net.Conn, error) {
		if first {
			first = false
			return new(net.Dialer).DialContext(ctx, network, addr)
		}
		<-ctx.Done()
		return nil, ctx.Err()
	})(t.Context(), "tcp", server.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	accepted, err := server.Accept()
	if err == nil {
		err = accepted.Close()
	}
	if err := errors.Join(err, server.Close()); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("got %v, want the end of the connection", err)
	}
}

// A server without room for another client hangs up in the TLS handshake, and says nothing.
func TestMaxclientsWithTLS(t *testing.T) {
	t.Parallel()
	server, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	t.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	go func() {
		defer close(ended)
		for {
			conn, err := server.Accept()
			if err != nil {
				return
			}
			_ = conn.Close()
		}
	}()
	_, err = queue.Open(t.Context(), queue.Options{URL: "rediss://" + server.Addr().String(), Logger: queuetest.Logger(t)})
	if !errors.Is(err, queue.ErrUnreachable) || !strings.Contains(err.Error(), "maxclients") {
		t.Errorf("got %v, want ErrUnreachable that names maxclients", err)
	}
}
