#!/usr/bin/env bash
# A chunked answer that is cut off within its trailer is no io.ErrUnexpectedEOF for Go's client, and may be called "suspiciously long".
#
# Version   Go 1.26.8, net/http.
# Expected  Wherever the connection ends before the last CRLF of a chunked body, reading it gives io.ErrUnexpectedEOF, by which callers tell a
#           connection that broke (try again) from an answer that is wrong (do not).
# Behaviour True up to the last chunk's size. Behind it the error is an unexported one without a wrapped cause, "http: unexpected EOF reading
#           trailer"; and once two bytes of a field have arrived it is "http: suspiciously long trailer after chunked body", for a trailer
#           of 5 bytes: the buffer is searched for the end of the trailer, and the search gives up at the end of the connection as it does at
#           the end of the buffer. errors.Is is false for both, although all of the body has arrived.
# Output    within a chunk: unexpected EOF (io.ErrUnexpectedEOF: true)
#           behind the last chunk: http: unexpected EOF reading trailer (io.ErrUnexpectedEOF: false)
#           within a field: http: suspiciously long trailer after chunked body (io.ErrUnexpectedEOF: false)
#           behind a field: http: suspiciously long trailer after chunked body (io.ErrUnexpectedEOF: false)
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
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
)

// cut is what a server has sent of its answer's body when it ends the connection.
var cuts = []struct{ where, cut string }{
	{"within a chunk", "2\r\no"},
	{"behind the last chunk", "2\r\nok\r\n0\r\n"},
	{"within a field", "2\r\nok\r\n0\r\nX-Sum"},
	{"behind a field", "2\r\nok\r\n0\r\nX-Sum: 1\r\n"},
}

func main() {
	for _, c := range cuts {
		listener, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			panic(err)
		}
		go func() {
			conn, err := listener.Accept()
			if err != nil {
				panic(err)
			}
			if _, err := http.ReadRequest(bufio.NewReader(conn)); err != nil {
				panic(err)
			}
			fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: X-Sum\r\n\r\n"+c.cut)
			conn.Close()
		}()
		answer, err := http.Get("http://" + listener.Addr().String())
		if err != nil {
			panic(err)
		}
		_, err = io.ReadAll(answer.Body)
		fmt.Printf("%s: %v (io.ErrUnexpectedEOF: %t)\n", c.where, err, errors.Is(err, io.ErrUnexpectedEOF))
		listener.Close()
	}
}
GO
out=$(GOTOOLCHAIN=go1.26.8 GOFLAGS= go run .)
echo "$out"
diff <(echo "$out") - <<'OUT'
within a chunk: unexpected EOF (io.ErrUnexpectedEOF: true)
behind the last chunk: http: unexpected EOF reading trailer (io.ErrUnexpectedEOF: false)
within a field: http: suspiciously long trailer after chunked body (io.ErrUnexpectedEOF: false)
behind a field: http: suspiciously long trailer after chunked body (io.ErrUnexpectedEOF: false)
OUT
