package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/migrations"
)

// stateful is a world with a state database, driven as people do: over the API
// of a bridge, and looked at in its tables.
type stateful struct {
	*world
	stateDSN, key, token string
	stored               int       // endpoints that add has stored
	state                *pgx.Conn // of stateConn
}

// newStateful makes a world whose state, with its schema, is in a database of its own on the
// server; lines are more of the state section.
func newStateful(t *testing.T, server *testservers.Postgres, lines []string, statements ...string) *stateful {
	t.Helper()
	key, err := state.GenerateKey("teste")
	if err != nil {
		t.Fatal(err)
	}
	s := &stateful{world: newWorld(t, testservers.RedisOptions{}, statements...), stateDSN: server.Database(t, server.Template(t, "state", migrations.Apply)), key: key}
	s.extra = "state:\n" + strings.Join(prefix("  ", append([]string{"dsn: " + s.stateDSN, "key: " + key}, lines...)), "\n")
	return s
}

// store opens the state database, and ends with the test.
func (s *stateful) store() *state.Store {
	s.t.Helper()
	keys, err := state.ParseKeys(s.key)
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := state.Open(context.Background(), state.Options{DSN: s.stateDSN, Keyring: keys, Logger: zerolog.Nop()})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Close)
	return store
}

// call makes an API call of an administrator to a bridge, and decodes the
// answer into out unless that is nil.
func (s *stateful) call(b *bridge, method, path, body string, out any) {
	s.t.Helper()
	s.ask(b, method, path, body, out)
}

// ask is call where some refusals are expected: out is then as it was.
func (s *stateful) ask(b *bridge, method, path, body string, out any, refusals ...int) {
	s.t.Helper()
	if s.token == "" {
		_, text, err := s.store().CreateToken(context.Background(), "test", state.Token{Name: "test", Role: state.Admin})
		if err != nil {
			s.t.Fatal(err)
		}
		s.token = text
	}
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+b.listening()+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+s.token)
	if body != "" {
		req.Header.Set("Content-Type", "application/json")
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	text, err := io.ReadAll(res.Body)
	if slices.Contains(refusals, res.StatusCode) {
		return
	}
	if err != nil || res.StatusCode >= 300 {
		s.t.Fatalf("%s %s: %s %v\n%s", method, path, res.Status, err, text)
	}
	if out == nil {
		return
	}
	if err := json.NewDecoder(bytes.NewReader(text)).Decode(out); err != nil {
		s.t.Fatalf("%s %s: %v\n%s", method, path, err, text)
	}
}

// add stores an endpoint that posts to the URL, and waits until the bridge has
// applied it; more are further members of its JSON document.
func (s *stateful) add(b *bridge, name, url string, more ...string) {
	s.t.Helper()
	members := append([]string{
		`"name": "` + name + `"`, `"url": "` + url + `"`, `"secret": "` + secret + `"`, `"allow_http": true`, `"allow_private": ["127.0.0.0/8"]`,
	}, more...)
	s.call(b, http.MethodPost, "/endpoints", "{"+strings.Join(members, ", ")+"}", nil)
	s.stored++
	b.waitLog(fmt.Sprintf(`"stored":%d,`, s.stored))
}

// stateConn is a connection to the state database, kept until the server has ended it: a new one
// is ten times the work of what it is asked.
func (s *stateful) stateConn() *pgx.Conn {
	s.t.Helper()
	ctx := context.Background()
	if s.state != nil && s.state.Ping(ctx) == nil {
		return s.state
	}
	conn, err := pgx.Connect(ctx, s.stateDSN)
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { _ = conn.Close(ctx) })
	s.state = conn
	return conn
}

// count is the result of a query of one number in the state database.
func (s *stateful) count(sql string, args ...any) int {
	s.t.Helper()
	// A statement that is prepared once is planned for any value after five uses, and then locks every
	// partition: it would wait for one that a test has locked.
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	var n int
	if err := s.stateConn().QueryRow(ctx, sql, append([]any{pgx.QueryExecModeExec}, args...)...).Scan(&n); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// execState executes a statement in the state database.
func (s *stateful) execState(sql string) {
	s.t.Helper()
	if _, err := s.stateConn().Exec(context.Background(), sql); err != nil {
		s.t.Fatalf("%s: %v", sql, err)
	}
}

// until waits until the query's number is n.
func (s *stateful) until(n int, sql string, args ...any) {
	s.t.Helper()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	deadline := time.After(60 * time.Second)
	for got := s.count(sql, args...); got != n; got = s.count(sql, args...) {
		select {
		case <-tick.C:
		case <-deadline:
			s.t.Fatalf("%s is %d, want %d", sql, got, n)
		}
	}
}
