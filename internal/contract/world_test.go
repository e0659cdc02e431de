package contract_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"
	"github.com/santhosh-tekuri/jsonschema/v6"

	"gancho/cdc"
	"gancho/delivery/webhook"
	"gancho/internal/contract"
	own "gancho/internal/jsonschema"
	"gancho/internal/testservers"
	"gancho/mapping"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

func saoPaulo(t testing.TB) *time.Location {
	t.Helper()
	l, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// parse reads rules from a text.
func parse(t testing.TB, text string) *mapping.Rules {
	t.Helper()
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}, Location: saoPaulo(t), Secrets: map[string][]byte{"chave": []byte("0123456789abcdef")}})
	if err != nil {
		t.Fatal(err)
	}
	return rules
}

// source is a database whose stream is mapped by rules.
type source struct {
	t        *testing.T
	conn     *pgx.Conn
	mapper   *mapping.Mapper
	events   []contract.Event
	saved    []contract.Event // from the saved catalogue
	messages []*webhook.Message
	timer    *mapping.TimerChange // that the change at hand has set
	parked   []string
	marks    chan struct{}
	reads    atomic.Bool // each row that is inserted is also read as one that was there
}

func (s *source) Begin(tx *cdc.Transaction) error { s.mapper.Begin(tx); return nil }
func (s *source) Change(c *cdc.Change) error {
	if c.Relation.Name == "mark" {
		s.marks <- struct{}{}
		return nil
	}
	s.timer = nil
	err := s.mapper.Map(c, s)
	if err == nil && s.timer != nil { // as if it were due now
		err = s.mapper.FireAfter(s.t.Context(), s.timer, []*cdc.Change{c}, s)
	}
	if err != nil || c.Op != cdc.Insert || !s.reads.Load() {
		return err
	}
	read := *c // as a backfill finds the row
	read.Op = cdc.Read
	return s.mapper.Read(&read, func(string) bool { return true }, s)
}

func (s *source) Commit(tx *cdc.Transaction) error {
	if err := s.mapper.Commit(s.t.Context(), tx, s); err != nil {
		return err
	}
	return s.mapper.Resolve(s.t.Context(), s)
}
func (s *source) Keepalive(cdc.LSN) error { return nil }
func (s *source) Flush() error            { return nil }
func (s *source) Reset() error            { return nil }

func (s *source) Timer(t *mapping.TimerChange) error {
	if !t.Due.IsZero() {
		s.timer = t
	}
	return nil
}

func (s *source) Event(e *mapping.Event) error {
	s.messages = append(s.messages, &webhook.Message{
		ID: "id-1", Type: e.Type, Tenant: string(e.Tenant), Time: e.Time, Sequence: "1", Op: e.Op.String(),
		Data: bytes.Clone(e.Data), Previous: bytes.Clone(e.Previous), Unchanged: bytes.Clone(e.Unchanged), Errors: bytes.Clone(e.Errors),
	})
	return nil
}

func (s *source) Park(p *mapping.Parked) error {
	s.parked = append(s.parked, p.Reason)
	return nil
}

func open(t *testing.T, schema, rules string) *source {
	t.Helper()
	dsn := pg.Database(t, "", "create table mark (n int)", schema)
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	parsed := parse(t, rules)
	rs, err := parsed.Bind(t.Context(), conn)
	if err != nil {
		t.Fatal(err)
	}
	o := cdc.Options{DSN: dsn, Slot: "contract_" + conn.Config().Database, Publication: "gancho", Create: true}
	prepared, err := cdc.Prepare(t.Context(), o, append(rs.Tables(), cdc.TableNeed{Name: "mark", Insert: true}))
	if err != nil {
		t.Fatal(err)
	}
	lookups := mapping.NewSource(dsn, "", zerolog.Nop())
	s := &source{t: t, conn: conn, mapper: mapping.NewMapper(rs, nil, mapping.WithSource(lookups)), marks: make(chan struct{}, 1)}
	s.events = contract.Events(parsed.EventTypes(), rs.Payloads())
	text, err := rs.Catalogue().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := mapping.ParseCatalogue("catalogue.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	again, err := parsed.BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	s.saved = contract.Events(parsed.EventTypes(), again.Payloads())
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cdc.NewReader(o, prepared).Run(ctx, s) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		lookups.Close(context.Background())
	})
	return s
}

// do runs statements and returns the events of them.
func (s *source) do(statements ...string) []*webhook.Message {
	s.t.Helper()
	for _, sql := range append(statements, "insert into mark values (1)") {
		if _, err := s.conn.Exec(s.t.Context(), sql); err != nil {
			s.t.Fatalf("%s: %v", sql, err)
		}
	}
	select {
	case <-s.marks:
	case <-s.t.Context().Done():
	case <-time.After(time.Minute): // the limit of a wait for the mark
		s.t.Fatal("the mark did not come")
	}
	out := s.messages
	s.messages = nil
	return out
}

// compiled is a schema of an independent validator.
func compiled(t testing.TB, s *own.Schema, at string) *jsonschema.Schema {
	t.Helper()
	text, err := own.Encode(s)
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("mem:schema", doc); err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	out, err := c.Compile("mem:schema" + at)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	return out
}

// value reads JSON as the validator wants it.
func value(t testing.TB, text []byte) any {
	t.Helper()
	v, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	return v
}

func encoded(t testing.TB, v any) string {
	t.Helper()
	text, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func sortedTexts(list []string) []string {
	out := slices.Clone(list)
	slices.Sort(out)
	return append([]string{}, out...)
}
