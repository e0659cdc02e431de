#!/usr/bin/env bash
# Closing the body of http.ReadResponse reads all that is left of it, without a limit, unless the answer says Connection: close.
#
# Version   Go 1.26.8, net/http.
# Expected  Close gives the body up: whoever parses answers with ReadResponse closes the connection afterwards, as net/http's own client
#           does when a body is closed before its end.
# Behaviour Close reads the rest of the body and throws it away. The limit of 256 KiB that a server's request has does not apply. With
#           "Connection: close", or a body that the end of the connection ends, Close reads nothing. So 10 bytes of an answer cost what the
#           receiver chooses to send, at the speed it chooses.
# Output    of a body of 64 MiB 10 bytes were read, then it was closed
#           Content-Length: 67108864 bytes were taken
#           chunked: 67108864 bytes were taken
#           Content-Length, Connection: close: less than 64 KiB were taken
#           until the end of the connection: less than 64 KiB were taken
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
	"fmt"
	"io"
	"net/http"
	"strings"
)

const size = 64 << 20

// zeros counts what is taken of a body.
type zeros struct{ taken int }

func (z *zeros) Read(p []byte) (int, error) {
	n := min(len(p), size-z.taken)
	if n == 0 {
		return 0, io.EOF
	}
	z.taken += n
	return n, nil
}

func main() {
	fmt.Println("of a body of 64 MiB 10 bytes were read, then it was closed")
	try := func(name, head string) {
		body := &zeros{}
		head, last, _ := strings.Cut(head, "|")
		answer := io.MultiReader(strings.NewReader("HTTP/1.1 200 OK\r\n"+head), body, strings.NewReader(last))
		r, err := http.ReadResponse(bufio.NewReader(answer), nil)
		if err != nil {
			panic(err)
		}
		if _, err := io.ReadFull(r.Body, make([]byte, 10)); err != nil {
			panic(err)
		}
		if err := r.Body.Close(); err != nil {
			panic(err)
		}
		taken := fmt.Sprint(body.taken, " bytes")
		if body.taken < 64<<10 {
			taken = "less than 64 KiB"
		}
		fmt.Printf("%s: %s were taken\n", name, taken)
	}
	try("Content-Length", fmt.Sprintf("Content-Length: %d\r\n\r\n", size))
	try("chunked", fmt.Sprintf("Transfer-Encoding: chunked\r\n\r\n%x\r\n|\r\n0\r\n\r\n", size))
	try("Content-Length, Connection: close", fmt.Sprintf("Content-Length: %d\r\nConnection: close\r\n\r\n", size))
	try("until the end of the connection", "\r\n")
}
GO
go run . >out
cat out
diff - out <<'OUT'
of a body of 64 MiB 10 bytes were read, then it was closed
Content-Length: 67108864 bytes were taken
chunked: 67108864 bytes were taken
Content-Length, Connection: close: less than 64 KiB were taken
until the end of the connection: less than 64 KiB were taken
OUT
