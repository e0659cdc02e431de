package testservers

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// Pooler behaves to its clients as pgbouncer does in transaction mode, with one
// connection to the server for all of them: each transaction has it for itself,
// what a session sets stays on it, notifications do not pass, process ids are
// its own, and of a session's start only the parameters are accepted that it
// keeps for each client. It
// does not keep prepared statements apart: clients need the query parameter
// default_query_exec_mode=cache_describe.
type Pooler struct {
	dsn     string
	server  *pgconn.HijackedConn
	turn    sync.Mutex // held by the client whose transaction it is
	clients atomic.Uint32
	// Ignore are parameters of a session's start that are accepted and dropped,
	// as by pgbouncer's ignore_startup_parameters.
	Ignore []string
}

// StartPooler starts a pooler in front of a database, until the test ends.
func StartPooler(t testing.TB, dsn string) *Pooler {
	t.Helper()
	conn, err := pgconn.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	server, err := conn.Hijack()
	if err != nil {
		t.Fatal(err)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = listener.Close()
		_ = server.Conn.Close()
	})
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	p := &Pooler{server: server, dsn: dsn + "&default_query_exec_mode=cache_describe&host=127.0.0.1&port=" + port}
	go func() {
		for {
			client, err := listener.Accept()
			if err != nil {
				return
			}
			go func() {
				_ = p.serve(client) // the client sees it
				_ = client.Close()
			}()
		}
	}()
	return p
}

// DSN is the database's, through the pooler.
func (p *Pooler) DSN() string { return p.dsn }

func (p *Pooler) serve(client net.Conn) error {
	tracked, err := p.greet(client)
	if err != nil {
		return err
	}
	for mine := false; ; {
		kind, message, err := readMessage(client)
		if err != nil || kind == 'X' {
			if mine { // it hung up within a transaction
				_ = p.run("rollback")
				p.turn.Unlock()
			}
			return err
		}
		if !mine {
			p.turn.Lock()
			mine = true
			if err := p.run(tracked); err != nil {
				p.turn.Unlock()
				return err
			}
		}
		if _, err := p.server.Conn.Write(message); err != nil {
			p.turn.Unlock()
			return err
		}
		if !slices.Contains([]byte{'Q', 'S', 'c', 'f'}, kind) {
			continue
		}
		idle, err := p.answers(client)
		if idle || err != nil {
			p.turn.Unlock()
			mine = false
		}
		if err != nil {
			return err
		}
	}
}

// run runs statements whose answers nobody gets.
func (p *Pooler) run(sql string) error {
	query, err := (&pgproto3.Query{String: sql}).Encode(nil)
	if err == nil {
		_, err = p.server.Conn.Write(query)
	}
	if err == nil {
		_, err = p.answers(io.Discard)
	}
	return err
}

// trackedParameters are those that pgbouncer keeps for each client.
var trackedParameters = []string{"application_name", "client_encoding", "DateStyle", "TimeZone", "standard_conforming_strings"}

// greet answers the start of a session, and returns the statements that make the
// client's parameters.
func (p *Pooler) greet(client net.Conn) (tracked string, err error) {
	backend := pgproto3.NewBackend(client, client)
	parameters := map[string]string{}
	for _, name := range trackedParameters {
		parameters[strings.ToLower(name)] = p.server.ParameterStatuses[name]
	}
	for {
		message, err := backend.ReceiveStartupMessage()
		if err != nil {
			return "", err
		}
		start, ok := message.(*pgproto3.StartupMessage)
		if !ok { // a wish for TLS
			if _, err := client.Write([]byte("N")); err != nil {
				return "", err
			}
			continue
		}
		for name, value := range start.Parameters {
			_, keep := parameters[strings.ToLower(name)]
			switch {
			case keep:
				parameters[strings.ToLower(name)] = value
			case name != "user" && name != "database" && !slices.Contains(p.Ignore, name):
				backend.Send(&pgproto3.ErrorResponse{Severity: "FATAL", Code: "08P01", Message: "unsupported startup parameter: " + name})
				return "", errors.Join(backend.Flush(), fmt.Errorf("parameter %s", name))
			}
		}
		break
	}
	backend.Send(&pgproto3.AuthenticationOk{})
	for name, value := range p.server.ParameterStatuses {
		backend.Send(&pgproto3.ParameterStatus{Name: name, Value: value})
	}
	backend.Send(&pgproto3.BackendKeyData{ProcessID: 1<<30 + p.clients.Add(1), SecretKey: []byte{1, 2, 3, 4}})
	backend.Send(&pgproto3.ReadyForQuery{TxStatus: 'I'})
	for _, name := range slices.Sorted(maps.Keys(parameters)) {
		tracked += fmt.Sprintf("set %s to '%s'; ", name, parameters[name])
	}
	return tracked, backend.Flush()
}

// answers passes on what the server answers until it waits for the client, and
// reports whether no transaction is open then.
func (p *Pooler) answers(client io.Writer) (idle bool, err error) {
	for {
		kind, message, err := readMessage(p.server.Conn)
		if err != nil {
			return false, err
		}
		if kind == 'A' {
			continue
		}
		if _, err := client.Write(message); err != nil && client != io.Discard {
			client = io.Discard // it hung up; the server's answer still has an end
		}
		switch kind {
		case 'Z':
			return message[5] == 'I', nil
		case 'G': // the client sends rows
			return false, nil
		}
	}
}

// readMessage reads a message of the protocol: its kind and all its bytes.
func readMessage(r io.Reader) (kind byte, message []byte, err error) {
	header := make([]byte, 5)
	if _, err := io.ReadFull(r, header); err != nil {
		return 0, nil, err
	}
	size := int(binary.BigEndian.Uint32(header[1:]))
	if size < 4 {
		return 0, nil, errors.New("a message of " + strconv.Itoa(size) + " bytes")
	}
	message = make([]byte, 1+size)
	copy(message, header)
	_, err = io.ReadFull(r, message[len(header):])
	return header[0], message, err
}
