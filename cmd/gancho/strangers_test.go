package main_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"testing"
)

// TestStrangersDoNotStopDeliveries: a process with few descriptors delivers, and answers
// others, while strangers open connections and never end their requests.
func TestStrangersDoNotStopDeliveries(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = loadRules
	r := newReceiver(t, nil)
	s.endpoint("crm", r.url())
	b := s.startCommand("/bin/sh", "-c", `ulimit -n 80 && exec "$0" "$@"`, os.Args[0], "run", "--create", "--config", s.write())
	b.waitLog("bridge is ready")
	s.exec("insert into eventos (cliente_id, seq) values (1, 1)")
	r.waitCount(1) // the control
	address := b.listening()
	for i := range 200 {
		conn, err := new(net.Dialer).DialContext(t.Context(), "tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close() })
		beginning := []string{
			"", "GET /healthz HT", "POST /api/v1/endpoints HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
			"POST /healthz HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{",
		}[i%4]
		_, _ = io.WriteString(conn, beginning) // one that was closed already is fine
	}
	s.exec("insert into eventos (cliente_id, seq) select n, 1 from generate_series(2, 21) n")
	r.waitCount(21)
	if status, text := fetch(t, "http://"+address+"/healthz"); status != http.StatusOK {
		t.Errorf("/healthz answers %d: %s", status, text)
	}
	s.call(b, http.MethodGet, "/endpoints", "", nil)
	b.stop()
}
