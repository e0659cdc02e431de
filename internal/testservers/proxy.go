package testservers

import (
	"bytes"
	"io"
	"net"
	"sync"
	"testing"
)

// Proxy passes connections on to a server, and loses answers: the server has done what it was
// asked, and who has asked learns only that the connection is broken.
type Proxy struct {
	server, addr string

	mu       sync.Mutex
	text     []byte        // LoseAnswer's, until it is sent; guarded by mu
	lost     chan struct{} // guarded by mu
	sessions sync.WaitGroup
}

// StartProxy starts a proxy in front of a server (host:port), until the test ends.
func StartProxy(t testing.TB, server string) *Proxy {
	t.Helper()
	listener, err := net.ListenTCP("tcp", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{server: server, addr: listener.Addr().String()}
	p.sessions.Go(func() {
		for {
			client, err := listener.AcceptTCP()
			if err != nil {
				return
			}
			p.sessions.Go(func() { p.serve(client) })
		}
	})
	t.Cleanup(func() { // after that of the clients, which the test has opened later
		_ = listener.Close()
		p.sessions.Wait()
	})
	return p
}

// Addr is host:port.
func (p *Proxy) Addr() string { return p.addr }

// URL is the server, if it is a Redis, as a redis:// URL.
func (p *Proxy) URL() string { return "redis://" + p.addr + "/0" }

// LoseAnswer loses the answer to what is sent next with the text, which has to be in one packet with
// the end of a request: the server gets and does all of it, its answers are dropped, and the
// connection is closed. lost is closed when the server has done it.
func (p *Proxy) LoseAnswer(text string) (lost <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.text, p.lost = []byte(text), make(chan struct{})
	return p.lost
}

// loses returns whom to tell when the answer to a packet was lost; nil: it is passed on.
func (p *Proxy) loses(packet []byte) (lost chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.text == nil || !bytes.Contains(packet, p.text) {
		return nil
	}
	p.text = nil
	return p.lost
}

// serve passes a connection's bytes on, until either side hangs up.
func (p *Proxy) serve(client *net.TCPConn) {
	defer func() { _ = client.Close() }()
	addr, err := net.ResolveTCPAddr("tcp", p.server)
	if err != nil {
		return // the client sees it
	}
	server, err := net.DialTCP("tcp", nil, addr)
	if err != nil {
		return
	}
	defer func() { _ = server.Close() }()
	answers := &answers{to: client}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(answers, server)
		_ = client.CloseRead() // ends the loop, if it is the server that has hung up
	}()
	packet := make([]byte, 64<<10)
	for {
		n, err := client.Read(packet)
		lost := p.loses(packet[:n])
		if lost != nil {
			answers.drop()
		}
		if _, e := server.Write(packet[:n]); err != nil || e != nil || lost != nil {
			// The server does what it has got before it sees the end.
			_ = server.CloseWrite()
			<-done
			if lost != nil {
				close(lost)
			}
			return
		}
	}
}

// answers are those of one connection.
type answers struct {
	mu sync.Mutex
	to io.Writer // io.Discard: they are lost; guarded by mu
}

func (a *answers) drop() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.to = io.Discard
}

// Write implements io.Writer.
func (a *answers) Write(b []byte) (int, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.to.Write(b)
}
