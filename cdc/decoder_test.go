package cdc_test

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// recording is a stream of every kind of message, as a server sent it.
const recording = "testdata/stream.hex"

// TestRecording records the stream again under -update, and decodes it.
func TestRecording(t *testing.T) {
	t.Parallel()
	if *update {
		record(t)
	}
	var got []string
	d, h := cdc.NewDecoder(), newRecorder()
	h.confirm = false
	for _, message := range recorded(t) {
		if err := d.Message(message, h); err != nil {
			t.Fatal(err)
		}
	}
	for len(h.transactions) > 0 {
		got = append(got, (<-h.transactions).Changes...)
	}
	golden(t, "stream", fmt.Sprint(joinLines(got)))
}

func joinLines(lines []string) string {
	var b bytes.Buffer
	for _, line := range lines {
		b.WriteString(line + "\n")
	}
	return b.String()
}

// record writes every kind of message to the recording.
func record(t *testing.T) {
	t.Helper()
	dsn := pg.Database(t, "", "create type cor as enum ('azul')", `create table "Tabela" (id int primary key, c cor, v text)`, `alter table "Tabela" alter v set storage external`,
		`create table f (id int, v text)`, `alter table f alter v set storage external`, `alter table f replica identity full`, `create publication gancho for table "Tabela", f`)
	conn := dial(t, dsn)
	slot := optionsFor(dsn).Slot
	do(t, conn, "select pg_create_logical_replication_slot('"+slot+"', 'pgoutput')",
		`insert into "Tabela" values (1, 'azul', repeat('x', 3000)), (2, null, null)`, `update "Tabela" set c = null where id = 1`, `update "Tabela" set id = 3 where id = 2`, `delete from "Tabela" where id = 1`,
		`insert into f values (1, repeat('y', 3000))`, `update f set id = 2`, `delete from f`, `truncate "Tabela", f`,
		`select pg_logical_emit_message(true, 'p', 'x')`, `select pg_logical_emit_message(false, 'p', '')`,
		"select pg_replication_origin_create('o_"+slot+"')", "select pg_replication_origin_session_setup('o_"+slot+"')", `insert into f values (3, 'o')`, "select pg_replication_origin_session_reset()",
		"select pg_replication_origin_drop('o_"+slot+"')")
	rows, err := conn.Query(t.Context(), "select data from pg_logical_slot_get_binary_changes($1, null, null, 'proto_version', '1', 'publication_names', 'gancho', 'messages', 'true')", slot)
	if err != nil {
		t.Fatal(err)
	}
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		t.Fatal(err)
	}
	kinds := make(map[byte]bool)
	var b bytes.Buffer
	for _, m := range messages {
		kinds[m[0]] = true
		b.WriteString(hex.EncodeToString(m) + "\n")
	}
	for _, kind := range []byte("BCORYIUDTM") {
		if !kinds[kind] {
			t.Errorf("no message %c was recorded", kind)
		}
	}
	if err := os.WriteFile(recording, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func recorded(t testing.TB) (messages [][]byte) {
	t.Helper()
	data, err := os.ReadFile(recording)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(bytes.NewReader(data))
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		message, err := hex.DecodeString(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		messages = append(messages, message)
	}
	return messages
}

// TestTruncatedMessages: a message that is cut short, or too long, anywhere, is an error.
func TestTruncatedMessages(t *testing.T) {
	t.Parallel()
	messages := recorded(t)
	for i, message := range messages {
		for _, garbled := range append(cuts(message), append(bytes.Clone(message), 0)) {
			d, h := cdc.NewDecoder(), onlooker()
			for _, before := range messages[:i] {
				if err := d.Message(before, h); err != nil {
					t.Fatal(err)
				}
			}
			err := d.Message(garbled, h)
			var decode *cdc.DecodeError
			if !errors.As(err, &decode) {
				t.Fatalf("message %d (%c), %d of %d bytes: %v", i, message[0], len(garbled), len(message), err)
			}
		}
	}
}

// cuts returns the message cut at up to 16 places.
func cuts(message []byte) (cuts [][]byte) {
	for n := 0; n < len(message); n += 1 + len(message)/16 {
		cuts = append(cuts, message[:n])
	}
	return cuts
}

// TestOutOfOrder: messages in an order that the protocol does not allow.
func TestOutOfOrder(t *testing.T) {
	t.Parallel()
	first := make(map[byte][]byte)
	for _, m := range recorded(t) {
		if first[m[0]] == nil {
			first[m[0]] = m
		}
	}
	other := bytes.Clone(first['C'])
	other[5]++ // another commit LSN
	for name, messages := range map[string][][]byte{
		"commit without begin":    {first['C']},
		"begin twice":             {first['B'], first['B']},
		"row without begin":       {first['R'], first['I']},
		"row without relation":    {first['B'], first['I']},
		"truncate without begin":  {first['T']},
		"truncate of the unknown": {first['B'], first['T']},
		"another commit":          {first['B'], other},
		"unknown":                 {{'S'}},
		"empty":                   {{}},
	} {
		d, h := cdc.NewDecoder(), onlooker()
		var err error
		for i, m := range messages {
			if err = d.Message(m, h); err != nil && i < len(messages)-1 {
				t.Errorf("%s: message %d: %v", name, i, err)
			}
		}
		var decode *cdc.DecodeError
		if !errors.As(err, &decode) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestNoAllocation: changes cost no memory once the tables are known.
func TestNoAllocation(t *testing.T) {
	d, h := cdc.NewDecoder(), &counter{until: 1 << 60}
	messages := recorded(t)
	decode := func() {
		for _, m := range messages {
			if m[0] == 'R' {
				continue
			}
			if err := d.Message(m, h); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, m := range messages {
		if err := d.Message(m, h); err != nil {
			t.Fatal(err)
		}
	}
	// Origin, type and message names are read as strings; rows are not.
	var rows [][]byte
	for _, m := range messages {
		if bytes.IndexByte([]byte("BCIUDT"), m[0]) >= 0 {
			rows = append(rows, m)
		}
	}
	messages = rows
	if n := testing.AllocsPerRun(100, decode); n > 0 {
		t.Errorf("%v allocations for %d messages", n, len(messages))
	}
}

// FuzzDecode: no sequence of messages makes the decoder panic or hand over a
// row that does not fit its table.
func FuzzDecode(f *testing.F) {
	var all []byte
	for _, m := range recorded(f) {
		f.Add(frame(nil, m))
		all = frame(all, m)
	}
	f.Add(all)
	f.Fuzz(func(t *testing.T, data []byte) {
		d, h := cdc.NewDecoder(), &checker{t: t}
		for len(data) >= 2 {
			n := min(int(binary.BigEndian.Uint16(data)), len(data)-2)
			err := d.Message(data[2:2+n], h)
			var decode *cdc.DecodeError
			if err != nil && !errors.As(err, &decode) && !errors.Is(err, cdc.ErrRedescribe) {
				t.Fatalf("an error of another type: %v", err)
			}
			if err != nil {
				return
			}
			data = data[2+n:]
		}
	})
}

// frame appends the message with its length.
func frame(b, message []byte) []byte {
	return append(binary.BigEndian.AppendUint16(b, uint16(len(message))), message...)
}

// checker is a handler that checks what it gets.
type checker struct {
	t    *testing.T
	open *cdc.Transaction
	next uint64
}

func (c *checker) Begin(tx *cdc.Transaction) error {
	c.open, c.next = tx, 0
	return nil
}

func (c *checker) Change(change *cdc.Change) error {
	n := len(change.Relation.Columns)
	switch {
	case change.Tx != c.open || change.Commit != c.open.Commit || change.Ordinal != c.next:
		c.t.Fatalf("change at %v in %v, ordinal %d expected", change.Position, c.open, c.next)
	case (change.Op == cdc.Insert || change.Op == cdc.Update) != (change.New != nil) && n > 0:
		c.t.Fatalf("%s with new row %v", change.Op, change.New)
	case change.New != nil && len(change.New) != n, change.Old != nil && len(change.Old) != n:
		c.t.Fatalf("rows of %d and %d columns for a table of %d", len(change.New), len(change.Old), n)
	}
	c.next++
	return nil
}

func (c *checker) Commit(tx *cdc.Transaction) error {
	if tx != c.open {
		c.t.Fatal("commit of another transaction")
	}
	c.open = nil
	return nil
}
func (c *checker) Keepalive(cdc.LSN) error { return nil }
func (c *checker) Flush() error            { return nil }
func (c *checker) Reset() error            { return nil }

// FuzzScan: whatever the socket says, frames are found within it, in whole
// steps that do not depend on where the reads end.
func FuzzScan(f *testing.F) {
	f.Add([]byte("d\x00\x00\x00\x16k\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00\x01N\x00\x00\x00\x04c\x00\x00\x00\x04"))
	f.Add([]byte("d\x00\x00\x00\x1ew\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\x00Cd\x00\x00"))
	f.Add([]byte("E\x00\x00\x00\x10SFATAL\x00C57P01\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		whole, need, err := cdc.Scan(data)
		if whole > len(data) || err == nil && whole+need <= len(data) {
			t.Fatalf("%d whole, %d needed, of %d bytes", whole, need, len(data))
		}
		// A second look at what was whole finds the same.
		again, _, errAgain := cdc.Scan(data[:whole])
		if diff := cmp.Diff(whole, again); diff != "" || errAgain != nil {
			t.Fatalf("looked at again (-first +again): %s, %v", diff, errAgain)
		}
	})
}
