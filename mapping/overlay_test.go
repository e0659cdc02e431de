package mapping_test

import (
	"errors"
	"fmt"
	"runtime"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/mapping"
)

// TestOverlay: rows that a query saw, with what transactions made of them that it did not see.
func TestOverlay(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table contas (id numeric primary key, nome text, foto text)")
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: a, table: contas, on: insert, columns: [id, nome, foto]}")
	tables, err := rs.Reads(func(string) bool { return true }, true)
	if err != nil || len(tables) != 1 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	rel := tables[0].Table.Relation
	m := mapping.NewMapper(rs, nil)
	val := func(s string) cdc.Datum { return cdc.Datum{State: cdc.Present, Text: []byte(s)} }
	null, same, missing := cdc.Datum{State: cdc.Null}, cdc.Datum{State: cdc.Unchanged}, cdc.Datum{}
	row := func(d ...cdc.Datum) []cdc.Datum { return d }
	o := mapping.NewOverlay()
	at := cdc.LSN(100)
	transaction := func(xid uint32, changes ...cdc.Change) {
		o.Begin(&cdc.Transaction{Commit: at + 1, XID: xid}, at)
		for i := range changes {
			changes[i].Relation = rel
			o.Add(&changes[i])
		}
		at += 10
		o.Commit(at)
	}
	transaction(10, cdc.Change{Op: cdc.Update, New: row(val("1"), val("velho"), val("velha"))}) // seen by the query
	transaction(12, cdc.Change{Op: cdc.Update, New: row(val("1.0"), val("novo"), same)})        // equal keys, as numeric has it
	transaction(13)
	transaction(14,
		cdc.Change{Op: cdc.Delete, Old: row(val("2"), missing, missing)},
		cdc.Change{Op: cdc.Delete, Old: row(val("3"), missing, missing)}, cdc.Change{Op: cdc.Insert, New: row(val("3"), null, val("outra"))},
		cdc.Change{Op: cdc.Update, Old: row(val("4"), missing, missing), New: row(val("9"), val("mudou"), same)})
	if err := o.Seen("12:16:12,14"); err != nil {
		t.Fatal(err)
	}
	if floor := o.Floor(); floor != 110 {
		t.Errorf("the oldest kept transaction follows %s, want 0/6E", floor)
	}
	view, err := o.View(m, rel.OID, []string{"id"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, id := range []string{"1.00", "2", "3", "4", "5"} {
		c := cdc.Change{Op: cdc.Read, Relation: rel, New: row(val(id), val("lido"), val("lida"))}
		there, err := view.Over(&c)
		if err != nil {
			t.Fatal(err)
		}
		got[id] = "gone"
		if there {
			got[id] = fmt.Sprintf("%s %s %s", c.New[0].Text, c.New[1].Text, c.New[2].Text)
		}
	}
	want := map[string]string{"1.00": "1.0 novo lida", "2": "gone", "3": "3  outra", "4": "9 mudou lida", "5": "5 lido lida"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
	// The stream starts again: what it repeats is dropped, what it does not is kept.
	o.Begin(&cdc.Transaction{XID: 17}, at)
	o.Reset(120)
	if err := o.Seen("12:16:12"); err != nil || o.Floor() != 110 {
		t.Errorf("after the reset the oldest follows %s, %v", o.Floor(), err)
	}
	o.Reset(110)
	if o.Floor() != 0 {
		t.Errorf("%s is kept of what the stream repeats", o.Floor())
	}
}

// TestOverlayTimers: a live change between the query that has read a row for a backfill and the place of the row in the stream wins: the timer is that of
// the row as the change has left it, and of one that it has ended or deleted there is none.
func TestOverlayTimers(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table contas (id int primary key, situacao text, vence timestamptz)", "alter table contas replica identity full")
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: a, table: contas, on: insert, when: situacao = '00', after: vence, columns: [id]}")
	tables, err := rs.Reads(func(string) bool { return true }, true)
	if err != nil || len(tables) != 1 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	rel, m, o := tables[0].Table.Relation, mapping.NewMapper(rs, nil), mapping.NewOverlay()
	val := func(s string) cdc.Datum { return cdc.Datum{State: cdc.Present, Text: []byte(s)} }
	row := func(id, status, due string) []cdc.Datum { return []cdc.Datum{val(id), val(status), val(due)} }
	o.Begin(&cdc.Transaction{Commit: 101, XID: 12}, 100)
	for _, c := range []cdc.Change{
		{Op: cdc.Update, New: row("1", "09", "2095-03-01 00:00:00+00")}, // canceled
		{Op: cdc.Delete, Old: row("2", "00", "2095-03-01 00:00:00+00")},
		{Op: cdc.Update, New: row("3", "00", "2096-03-01 00:00:00+00")}, // moved
		{Op: cdc.Update, New: row("4", "00", "2097-03-01 00:00:00+00")}, // is as when says by now
	} {
		c.Relation = rel
		o.Add(&c)
	}
	o.Commit(110)
	if err := o.Seen("12:13:12"); err != nil {
		t.Fatal(err)
	}
	view, err := o.View(m, rel.OID, []string{"id"})
	if err != nil {
		t.Fatal(err)
	}
	var got timerYears
	for _, c := range []cdc.Change{
		{New: row("1", "00", "2095-03-01 00:00:00+00")}, {New: row("2", "00", "2095-03-01 00:00:00+00")}, {New: row("3", "00", "2095-03-01 00:00:00+00")},
		{New: row("4", "09", "2095-03-01 00:00:00+00")}, {New: row("5", "00", "2095-03-01 00:00:00+00")},
	} {
		c.Op, c.Relation = cdc.Read, rel
		there, err := view.Over(&c)
		if err == nil && there {
			err = m.Read(&c, func(string) bool { return true }, &got)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(timerYears{"3 2096", "4 2097", "5 2095"}, got); diff != "" {
		t.Errorf("timers (-want +got):\n%s", diff)
	}
}

// timerYears takes timers, each as its row's key and the year in which it is due.
type timerYears []string

func (*timerYears) Event(*mapping.Event) error {
	return errors.New("a read with after has made an event")
}
func (*timerYears) Park(p *mapping.Parked) error { return errors.New(p.Reason) }
func (y *timerYears) Timer(c *mapping.TimerChange) error {
	*y = append(*y, fmt.Sprint(mapping.DecodeKey(c.Key)[0], " ", c.Due.Year()))
	return nil
}

// TestOverlayMoved: a row whose replica identity, which is not its primary key, was changed meanwhile is still there,
// as what has become of it: nothing reads it again.
func TestOverlayMoved(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table contas (id int primary key, codigo text not null, nome text)", "create unique index por_codigo on contas (codigo)",
		"alter table contas replica identity using index por_codigo")
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: a, table: contas, on: insert, columns: [id, codigo, nome]}")
	tables, err := rs.Reads(func(string) bool { return true }, true)
	if err != nil || len(tables) != 1 {
		t.Fatalf("%d tables, %v", len(tables), err)
	}
	rel := tables[0].Table.Relation
	row := func(texts ...string) []cdc.Datum {
		out := make([]cdc.Datum, 3)
		for i, text := range texts {
			if text != "" {
				out[i] = cdc.Datum{State: cdc.Present, Text: []byte(text)}
			}
		}
		return out
	}
	o := mapping.NewOverlay()
	for i, c := range []cdc.Change{
		{Op: cdc.Update, Old: row("", "a"), New: row("1", "b", "mudou")},
		{Op: cdc.Insert, New: row("7", "a", "outra")},
		{Op: cdc.Update, New: row("1", "b", "mudou de novo")},
		{Op: cdc.Update, Old: row("", "d"), New: row("4", "e", "mudou")},
		{Op: cdc.Delete, Old: row("", "e")},
		{Op: cdc.Update, Old: row("", "b"), New: row("1", "d", "por fim")}, // another one's, which has gone
	} {
		c.Relation = rel
		o.Begin(&cdc.Transaction{XID: uint32(i)}, cdc.LSN(i))
		o.Add(&c)
		o.Commit(cdc.LSN(i + 1))
	}
	view, err := o.View(mapping.NewMapper(rs, nil), rel.OID, []string{"id"})
	if err != nil {
		t.Fatal(err)
	}
	got := map[string]string{}
	for _, read := range [][]cdc.Datum{row("1", "a", "lido"), row("2", "c", "lido"), row("4", "d", "lido")} {
		c := cdc.Change{Op: cdc.Read, Relation: rel, New: read}
		id := string(read[0].Text)
		there, err := view.Over(&c)
		if err != nil {
			t.Fatal(err)
		}
		got[id] = "gone"
		if there {
			got[id] = fmt.Sprintf("%s %s %s", c.New[0].Text, c.New[1].Text, c.New[2].Text)
		}
	}
	if diff := cmp.Diff(map[string]string{"1": "1 d por fim", "2": "2 c lido", "4": "gone"}, got); diff != "" {
		t.Errorf("rows (-want +got):\n%s", diff)
	}
}

// TestOverlayFull: one transaction that changes more than there is room for is known as such until it is seen.
func TestOverlayFull(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table contas (id int primary key, nome text)")
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: a, table: contas, on: insert, columns: [id]}")
	tables, err := rs.Reads(func(string) bool { return true }, true)
	if err != nil {
		t.Fatal(err)
	}
	rel := tables[0].Table.Relation
	o := mapping.NewOverlay()
	big := make([]byte, 1<<20)
	o.Begin(&cdc.Transaction{XID: 20}, 1)
	for range 70 {
		o.Add(&cdc.Change{Op: cdc.Insert, Relation: rel, New: []cdc.Datum{{State: cdc.Present, Text: []byte("1")}, {State: cdc.Present, Text: big}}})
	}
	o.Commit(2)
	m := mapping.NewMapper(rs, nil)
	if _, err := o.View(m, rel.OID, []string{"id"}); !errors.Is(err, mapping.ErrOverlayFull) {
		t.Errorf("view: %v, want that it is full", err)
	}
	if err := o.Seen("21:21:"); err != nil {
		t.Fatal(err)
	}
	if _, err := o.View(m, rel.OID, []string{"id"}); err != nil {
		t.Errorf("view once it is seen: %v", err)
	}
}

// TestOverlayMemory: what is kept of many small transactions takes the memory that is counted. It does not run beside
// others, because it measures the heap.
func TestOverlayMemory(t *testing.T) { //nolint:paralleltest // see above
	heap := func() int {
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return int(m.HeapAlloc)
	}
	rel := &cdc.Relation{}
	for _, c := range []struct{ transactions, most int }{{10_000, 8 << 20}, {300_000, 96 << 20}} {
		before := heap()
		o := mapping.NewOverlay()
		for i := range c.transactions {
			o.Begin(&cdc.Transaction{XID: uint32(i)}, cdc.LSN(i))
			o.Add(&cdc.Change{Op: cdc.Insert, Relation: rel, New: []cdc.Datum{{State: cdc.Present, Text: []byte("1")}, {State: cdc.Null}}})
			o.Commit(cdc.LSN(i + 1))
		}
		took := heap() - before
		runtime.KeepAlive(o)
		t.Logf("%d transactions of one row take %d bytes", c.transactions, took)
		if took > c.most {
			t.Errorf("%d transactions of one row take %d bytes, want at most %d", c.transactions, took, c.most)
		}
	}
}

// TestOverlayLost: transactions for whose rows there is no room take no memory without end, and are known until all of
// them are seen; those that the stream repeats come again.
func TestOverlayLost(t *testing.T) {
	t.Parallel()
	rel := &cdc.Relation{}
	o := mapping.NewOverlay()
	big := []cdc.Datum{{State: cdc.Present, Text: make([]byte, 65<<20)}}
	const transactions, first = 100_000, 1<<32 - 50_000 // the ids wrap around
	for i := range transactions {
		o.Begin(&cdc.Transaction{XID: uint32(first + i)}, cdc.LSN(i+1))
		o.Add(&cdc.Change{Op: cdc.Insert, Relation: rel, New: big})
		o.Commit(cdc.LSN(i + 2))
	}
	if n := o.Len(); n > 11_000 {
		t.Errorf("%d lost transactions are kept", n)
	}
	full := func(snapshot string) bool {
		t.Helper()
		if err := o.Seen(snapshot); err != nil {
			t.Fatal(err)
		}
		_, err := o.View(nil, 0, nil)
		return errors.Is(err, mapping.ErrOverlayFull)
	}
	for _, snapshot := range []string{
		fmt.Sprintf("%d:%d:", first+transactions-1, first+transactions-1), // not the last one
		fmt.Sprintf("%d:%d:%[1]d", first+60_000, first+transactions+5),    // not one of the middle
	} {
		if !full(snapshot) {
			t.Errorf("%s sees all", snapshot)
		}
	}
	if o.Reset(transactions / 2); !full("1:1:") { // what ended before is not repeated
		t.Error("after the reset nothing is known of what came before")
	}
	if full(fmt.Sprintf("%d:%d:%[1]d", first-7, first+transactions+5)) {
		t.Error("what all see is still kept")
	}
}

// TestReads: which rules take rows that are there already, and what they make of them.
func TestReads(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table contas (id int primary key, situacao text, itens int, foto bytea)", "alter table contas replica identity full", "create table mae (id int primary key, nome text)", "create table filha (primary key (id)) inherits (mae)",
		"create table sem_chave (n int)")
	rs := bind(t, conn, mapping.Options{}, `rules:
  - {event: conta.nova, table: contas, on: [insert, update], when: "became(situacao, 'A')", data: {id: id, op: op, tg: tg_op}}
  - {event: conta.paga, table: contas, on: insert, when: situacao = 'P', data: {id: id}}
  - {event: conta.grupo, table: contas, on: insert, collapse: id, data: {id: id, itens: itens}}
  - {event: conta.fora, table: contas, on: insert, backfill: never, columns: [foto]}
  - {event: conta.vai, table: contas, on: delete, columns: [id]}
  - {event: mae, table: mae, on: insert, columns: [id]}
`)
	names := func(chosen func(string) bool) map[string]string {
		tables, err := rs.Reads(chosen, true)
		if err != nil {
			t.Fatal(err)
		}
		got := map[string]string{}
		for _, r := range tables {
			got[r.Table.Relation.Name] = fmt.Sprint(r.Columns, r.Events)
		}
		return got
	}
	want := map[string]string{"contas": "[id itens situacao] [conta.nova conta.paga conta.grupo]", "mae": "[id] [mae]", "filha": "[id] [mae]"}
	if diff := cmp.Diff(want, names(func(string) bool { return true })); diff != "" {
		t.Errorf("tables (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(map[string]string{"contas": "[id situacao] [conta.paga]"}, names(func(e string) bool { return e == "conta.paga" })); diff != "" {
		t.Errorf("tables of one event (-want +got):\n%s", diff)
	}
	tables, err := rs.Reads(func(string) bool { return true }, true)
	if err != nil {
		t.Fatal(err)
	}
	c := cdc.Change{Op: cdc.Read, Tx: &cdc.Transaction{}, Relation: tables[0].Table.Relation, New: make([]cdc.Datum, 4)}
	c.New[0], c.New[1], c.New[2] = cdc.Datum{State: cdc.Present, Text: []byte("7")}, cdc.Datum{State: cdc.Present, Text: []byte("A")}, cdc.Datum{State: cdc.Null}
	r := &recorder{}
	if err := mapping.NewMapper(rs, nil).Read(&c, func(string) bool { return true }, r); err != nil {
		t.Fatal(err)
	}
	events := []string{}
	for _, g := range r.all {
		events = append(events, g.Type+" "+g.Key+" "+g.Data)
	}
	if diff := cmp.Diff([]string{`conta.nova 7 {"id":7,"op":"insert","tg":"INSERT"}`, `conta.grupo 7 {"id":7,"itens":null}`}, events); diff != "" {
		t.Errorf("events (-want +got):\n%s", diff)
	}
}
