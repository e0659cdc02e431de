package main_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"net/textproto"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// post is an SMTP server of the test's own.
type post struct {
	mu    sync.Mutex
	mails []string
	grew  chan struct{}
}

func newPost(t *testing.T) (*post, string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &post{grew: make(chan struct{}, 100)}
	var all sync.WaitGroup
	all.Go(func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			all.Go(func() { p.converse(conn) })
		}
	})
	t.Cleanup(func() { _ = l.Close(); all.Wait() })
	return p, l.Addr().String()
}

func (p *post) converse(conn net.Conn) {
	defer func() { _ = conn.Close() }()
	r, to := textproto.NewReader(bufio.NewReader(conn)), ""
	answer := "220 teste\r\n"
	for {
		if _, err := io.WriteString(conn, answer); err != nil {
			return
		}
		line, err := r.ReadLine()
		if err != nil {
			return
		}
		answer = "250 ok\r\n"
		switch {
		case strings.HasPrefix(line, "RCPT"):
			to += line + "\n"
		case line == "DATA":
			_, _ = io.WriteString(conn, "354 ok\r\n")
			text, err := r.ReadDotBytes()
			if err != nil {
				return
			}
			p.mu.Lock()
			p.mails = append(p.mails, to+string(text))
			p.mu.Unlock()
			p.grew <- struct{}{}
		}
	}
}

// until waits for a mail with all of these in it.
func (p *post) until(t *testing.T, parts ...string) string {
	t.Helper()
	late := time.NewTimer(time.Minute)
	defer late.Stop()
	for {
		p.mu.Lock()
		mails := append([]string(nil), p.mails...)
		p.mu.Unlock()
		for _, m := range mails {
			has := true
			for _, part := range parts {
				has = has && strings.Contains(m, part)
			}
			if has {
				return m
			}
		}
		select {
		case <-p.grew:
		case <-late.C:
			t.Fatalf("no mail with %q; there are\n%s", parts, strings.Join(mails, "\n---\n"))
		}
	}
}

// People are told of an endpoint that fails and of changes that are parked before anything is
// lost: subscribers of gancho.* and, by e-mail, operators and the tenant whose endpoint it is.
func TestEarlyWarnings(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newStateful(t, pg, nil, "create table pedidos (id int primary key, divisor int)")
	w.rules = `rules:
  - event: pedido.criado
    table: pedidos
    on: insert
    tenant: "1"
    data: {id: id, parte: 10 / divisor}
`
	mails, at := newPost(t)
	w.extra += "\nnotify:\n  smtp: smtp://" + at + "\n  from: gancho@example.com\n  to: [ops@example.com]\n  tenants: {1: [gerente@example.com], 2: [outro@example.com]}\n"
	broken := newReceiver(t, func(rw http.ResponseWriter, _ arrival) {
		rw.WriteHeader(http.StatusInternalServerError)
		_, _ = io.WriteString(rw, "banco de dados fora: "+strings.Repeat("x", 1000))
	})
	ops := newReceiver(t, nil)
	w.endpoint("crm", broken.url(), "tenants: [1]", "events: [pedido.*, gancho.*]", "retry: [10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 10ms, 1h]")
	w.endpoint("ops", ops.url(), "events: [gancho.*]")
	b := w.run()
	w.exec("insert into pedidos values (1, 1)")
	w.exec("insert into pedidos values (2, 0)")
	told := map[string]arrival{}
	ops.waitFor(time.Minute, "both warnings", func(all []arrival) bool {
		for _, a := range all {
			told[a.event] = a
		}
		return len(told) >= 2
	})
	failing, parked := told["gancho.endpoint.failing"], told["gancho.parked"]
	if failing.field("endpoint") != "crm" || failing.field("attempts") != "10" || failing.field("status") != "500" || len(failing.field("answer")) != 500 ||
		!strings.HasPrefix(failing.field("answer"), "banco de dados fora") || failing.field("event") != "pedido.criado" || failing.field("queued") != "1" || failing.field("pauses") == "" {
		t.Errorf("the endpoint that fails is announced as %s", failing.body)
	}
	if parked.field("count") != "1" || !strings.Contains(parked.field("reason"), "division by zero") || parked.field("table") == "" {
		t.Errorf("the parked change is announced as %s", parked.body)
	}
	m := mails.until(t, "endpoint crm fails", "status: 500")
	if !strings.Contains(m, "<ops@example.com>") || !strings.Contains(m, "<gerente@example.com>") || strings.Contains(m, "outro@example.com") {
		t.Errorf("who was told of the endpoint:\n%s", m)
	}
	if m = mails.until(t, "changes are parked"); !strings.Contains(m, "<ops@example.com>") || strings.Contains(m, "gerente") {
		t.Errorf("who was told of the parked change:\n%s", m)
	}
	sent, _ := broken.snapshot()
	for _, a := range sent {
		if strings.HasPrefix(a.event, "gancho.endpoint") {
			t.Errorf("an endpoint that fails is sent %s about itself", a.event)
		}
	}
	b.stop()
}
