#!/usr/bin/env bash
# Go's HTTP/2 client keeps a connection on which every request times out, as long as its peer answers PINGs.
#
# Version   Go 1.26.8, net/http; ReadIdleTimeout (HTTP2Config.SendPingTimeout) is set and does not help.
# Expected  After a request timed out without an answer, a later request goes over a new connection, as with HTTP/1.1, where
#           the connection is closed.
# Behaviour The timeout resets the stream only, and the connection stays the pool's one connection. A proxy whose upstream
#           hangs answers PINGs itself, so that pings find nothing: each later request to the host goes over the same connection
#           and times out, while a new connection would have been answered. Transport.CloseIdleConnections, called when Post has
#           returned the timeout, does not close it.
# Output    HTTP/1.1: request 1 timeout on connection 1, request 2 answered on connection 2, request 3 answered on connection 2
#           HTTP/2.0: request 1 timeout on connection 1, request 2 timeout on connection 1, request 3 timeout on connection 1
#           HTTP/2.0, CloseIdleConnections after a timeout: the same
#
# Needs: go. Fails if the behaviour changes.
set -euo pipefail
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
printf 'module try\n\ngo 1.26\n' >go.mod
cat >main.go <<'GO'
package main

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"time"
)

type number struct{}

// try sends three requests to a server whose first connection never answers a request, but does answer pings.
func try(name string, http2, closes bool) {
	var connections, last atomic.Int64
	release := make(chan struct{})
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n := r.Context().Value(number{}).(int64)
		last.Store(n)
		if n == 1 {
			<-release
		}
	}))
	server.EnableHTTP2 = http2
	server.Config.ConnContext = func(ctx context.Context, _ net.Conn) context.Context {
		return context.WithValue(ctx, number{}, connections.Add(1))
	}
	server.StartTLS()
	client := server.Client()
	transport := client.Transport.(*http.Transport)
	transport.HTTP2 = &http.HTTP2Config{SendPingTimeout: 100 * time.Millisecond, PingTimeout: 100 * time.Millisecond}
	client.Timeout = time.Second
	var results []string
	for i := 1; i <= 3; i++ {
		result := "answered"
		answer, err := client.Post(server.URL, "application/json", strings.NewReader("{}"))
		switch {
		case err == nil:
			answer.Body.Close()
		case err.(interface{ Timeout() bool }).Timeout():
			result = "timeout"
			if closes {
				transport.CloseIdleConnections()
			}
		default:
			result = err.Error()
		}
		results = append(results, fmt.Sprintf("request %d %s on connection %d", i, result, last.Load()))
	}
	fmt.Printf("%s: %s\n", name, strings.Join(results, ", "))
	close(release)
	server.Close()
}

func main() {
	try("HTTP/1.1", false, false)
	try("HTTP/2.0", true, false)
	try("HTTP/2.0, CloseIdleConnections after a timeout", true, true)
}
GO
go run . >out
cat out
diff - out <<'OUT'
HTTP/1.1: request 1 timeout on connection 1, request 2 answered on connection 2, request 3 answered on connection 2
HTTP/2.0: request 1 timeout on connection 1, request 2 timeout on connection 1, request 3 timeout on connection 1
HTTP/2.0, CloseIdleConnections after a timeout: request 1 timeout on connection 1, request 2 timeout on connection 1, request 3 timeout on connection 1
OUT
