#!/usr/bin/env bash
# Go's net/http sends a POST with an Idempotency-Key once over every idle connection to a server that hangs up.
#
# Version   Go 1.26.8, net/http (HTTP/1.1).
# Expected  A request whose reused connection is closed without an answer is an error, or is sent once more over a new connection.
# Behaviour The header Idempotency-Key (or X-Idempotency-Key, even with an empty list of values, which sends no header) makes a
#           POST replayable, and each replay takes the next idle connection of the pool: a server that reads every request and
#           closes the connection gets the same POST over all idle connections and then over a new one, before Client.Do returns an
#           error. No option of Transport limits it.
# Output    16 idle connections, a server that reads the request and hangs up
#           without Idempotency-Key: 1 POST, error EOF
#           with Idempotency-Key: 17 POSTs, error EOF
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
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
)

const connections = 16

func main() {
	var hangsUp atomic.Bool
	var posts atomic.Int64
	var all sync.WaitGroup // the requests that open the connections are served side by side
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		panic(err)
	}
	go http.Serve(listener, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		io.Copy(io.Discard, r.Body)
		if !hangsUp.Load() {
			all.Done()
			all.Wait()
			return
		}
		posts.Add(1)
		connection, _, _ := w.(http.Hijacker).Hijack()
		connection.Close()
	}))
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: connections}}
	post := func(header http.Header) error {
		r, err := http.NewRequest(http.MethodPost, "http://"+listener.Addr().String(), strings.NewReader("{}"))
		if err != nil {
			return err
		}
		r.Header = header
		answer, err := client.Do(r)
		if err != nil {
			return err
		}
		defer answer.Body.Close()
		_, err = io.Copy(io.Discard, answer.Body)
		return err
	}
	try := func(name string, header http.Header) {
		hangsUp.Store(false)
		all.Add(connections)
		var opened sync.WaitGroup
		for range connections {
			opened.Go(func() { post(http.Header{}) })
		}
		opened.Wait()
		hangsUp.Store(true)
		err := post(header)
		for errors.Unwrap(err) != nil {
			err = errors.Unwrap(err)
		}
		n := posts.Swap(0)
		plural := "s"
		if n == 1 {
			plural = ""
		}
		fmt.Printf("%s: %d POST%s, error %v\n", name, n, plural, err)
	}
	fmt.Println(connections, "idle connections, a server that reads the request and hangs up")
	try("without Idempotency-Key", http.Header{})
	try("with Idempotency-Key", http.Header{"Idempotency-Key": {"1"}})
}
GO
go run . >out
cat out
diff - out <<'OUT'
16 idle connections, a server that reads the request and hangs up
without Idempotency-Key: 1 POST, error EOF
with Idempotency-Key: 17 POSTs, error EOF
OUT
