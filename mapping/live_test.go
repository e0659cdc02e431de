package mapping_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/mapping"
)

// live is a stream that is mapped while its database changes.
type live struct {
	recorder
	t      *testing.T
	conn   *pgx.Conn
	mapper *mapping.Mapper
	next   atomic.Pointer[mapping.Ruleset]
	marks  chan []got // what came before each mark
	due    time.Time  // of the newest timer; to be read after do
}

func (l *live) Begin(*cdc.Transaction) error {
	if rs := l.next.Swap(nil); rs != nil {
		l.mapper.Swap(rs)
	}
	return nil
}

func (l *live) Change(c *cdc.Change) error {
	if c.Relation.Name == "mark" {
		l.marks <- l.all
		l.all = nil
		return nil
	}
	return l.mapper.Map(c, l)
}

// Timer notes what a change means for a timer, in microseconds of how long it is after the commit.
func (l *live) Timer(c *mapping.TimerChange) error {
	text := fmt.Sprintf("%q", c.Key)
	if c.Former != nil {
		text += fmt.Sprintf(" was %q", c.Former)
	}
	switch {
	case c.All:
		text = "all canceled"
	case c.Due.IsZero():
		text += " canceled"
	case c.Pending:
		text += " moved"
	default:
		text += " set"
	}
	l.all = append(l.all, got{N: c.N, Type: "timer", Row: text})
	l.due = c.Due
	return nil
}

func (l *live) Commit(*cdc.Transaction) error { return nil }
func (l *live) Keepalive(cdc.LSN) error       { return nil }
func (l *live) Flush() error                  { return nil }
func (l *live) Reset() error                  { return nil }

// startLive makes a database and maps its stream until the test ends.
func startLive(t *testing.T, schema, rules string) *live {
	t.Helper()
	dsn := pg.Database(t, "", "create table mark (n int)", schema)
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	rs := bind(t, conn, mapping.Options{OnSchemaChange: mapping.Park}, rules)
	needs := append(rs.Tables(), cdc.TableNeed{Name: "mark", Insert: true})
	o := cdc.Options{DSN: dsn, Slot: "live_" + conn.Config().Database, Publication: "gancho", Create: true}
	source, err := cdc.Prepare(t.Context(), o, needs)
	if err != nil {
		t.Fatal(err)
	}
	l := &live{t: t, conn: conn, mapper: mapping.NewMapper(rs, nil), marks: make(chan []got, 100)}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- cdc.NewReader(o, source).Run(ctx, l) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
		_ = conn.Close(context.Background())
	})
	return l
}

// do runs statements and returns what came of them.
func (l *live) do(statements ...string) []got {
	l.t.Helper()
	for _, s := range append(statements, "insert into mark values (1)") {
		if _, err := l.conn.Exec(context.Background(), s); err != nil {
			l.t.Fatalf("%s: %v", s, err)
		}
	}
	select {
	case all := <-l.marks:
		return all
	case <-time.After(30 * time.Second):
		l.t.Fatal("the mark did not come")
		return nil
	}
}

// A partition that is made while the bridge runs does not send its old rows:
// what depends on them is parked until it is altered.
func TestMapNewPartition(t *testing.T) {
	t.Parallel()
	l := startLive(t, `
create table cob (id int, dia date, status text, valor numeric, primary key (id, dia)) partition by range (dia);
create table cob1 partition of cob for values from ('2026-01-01') to ('2026-02-01');
alter table cob replica identity full; alter table cob1 replica identity full;`, `
rules:
  - {event: liquidada, table: cob, on: update, when: "old.status <> 'L' and new.status = 'L'", columns: [id]}
  - {event: mudou, table: cob, on: update, when: changed(valor), columns: [id]}
  - {event: chave, table: cob, on: update, when: changed(id), columns: [id]}
  - {event: antes, table: cob, on: update, previous: true, columns: [id, valor]}
  - {event: vista, table: cob, on: update, watch: [valor], columns: [id]}
  - {event: dia, table: cob, on: update, watch: [dia], columns: [id]}
  - {event: removida, table: cob, on: delete, when: "status is null or status = 'L'", columns: [id]}
`)
	l.do("create table cob2 partition of cob for values from ('2026-02-01') to ('2026-03-01')", "insert into cob values (2, '2026-02-05', 'A', 10), (1, '2026-01-05', null, null)")
	parked := func(n int, event, needs, row string) got {
		return got{N: n, Type: event, Row: row, Parked: needs + ", which is outside of the replica identity and was not sent; the table has a partition with less replica identity than its own " +
			"(a new one has the default); run ALTER TABLE public.cob2 REPLICA IDENTITY FULL;"}
	}
	diff(t, "an update", l.do("update cob set status = 'L', valor = 11 where id = 2"), []got{
		parked(0, "liquidada", "when needs old.status", `{"new":{"id":"2","dia":"2026-02-05","status":"L"}}`),
		parked(1, "mudou", "when needs old.valor", `{"new":{"id":"2","dia":"2026-02-05","valor":"11"}}`),
		parked(3, "antes", "previous needs old.id", `{"new":{"id":"2","dia":"2026-02-05","valor":"11"}}`),
		parked(4, "vista", "watch needs old.valor", `{"new":{"id":"2","dia":"2026-02-05","valor":"11"}}`),
	})
	const old = `,"old":{"id":"2","dia":"2026-02-05"}}`
	diff(t, "an update of the key", l.do("update cob set id = 3, valor = 12 where id = 2"), []got{
		parked(0, "liquidada", "when needs old.status", `{"new":{"id":"3","dia":"2026-02-05","status":"L"}`+old),
		parked(1, "mudou", "when needs old.valor", `{"new":{"id":"3","dia":"2026-02-05","valor":"12"}`+old),
		{N: 2, Type: "chave", Key: "3,2026-02-05", Data: `{"id":3}`},
		parked(3, "antes", "columns.valor needs old.valor", `{"new":{"id":"3","dia":"2026-02-05","valor":"12"}`+old),
		parked(4, "vista", "watch needs old.valor", `{"new":{"id":"3","dia":"2026-02-05","valor":"12"}`+old),
	})
	diff(t, "a delete", l.do("delete from cob where id = 3"), []got{
		parked(0, "removida", "when needs old.status", `{"old":{"id":"3","dia":"2026-02-05"}}`),
	})
	// A null of the other partition might be one that was not sent.
	diff(t, "the other partition", l.do("update cob set status = 'L' where id = 1", "delete from cob"), []got{
		parked(0, "liquidada", "when needs old.status", `{"new":{"id":"1","dia":"2026-01-05","status":"L"},"old":{"id":"1","dia":"2026-01-05"}}`),
		parked(1, "mudou", "when needs old.valor", `{"new":{"id":"1","dia":"2026-01-05","valor":null},"old":{"id":"1","dia":"2026-01-05"}}`),
		parked(3, "antes", "columns.valor needs old.valor", `{"new":{"id":"1","dia":"2026-01-05","valor":null},"old":{"id":"1","dia":"2026-01-05"}}`),
		parked(4, "vista", "watch needs old.valor", `{"new":{"id":"1","dia":"2026-01-05","valor":null},"old":{"id":"1","dia":"2026-01-05"}}`),
		{N: 0, Type: "removida", Key: "1,2026-01-05", Data: `{"id":1}`},
	})
	diff(t, "altered", l.do("alter table cob2 replica identity full", "insert into cob values (5, '2026-02-05', 'A', null)", "update cob set status = 'L', valor = 9", "delete from cob"), []got{
		{N: 0, Type: "liquidada", Key: "5,2026-02-05", Data: `{"id":5}`},
		{N: 1, Type: "mudou", Key: "5,2026-02-05", Data: `{"id":5}`},
		{N: 3, Type: "antes", Key: "5,2026-02-05", Data: `{"id":5,"valor":9}`, Previous: `{"valor":null}`},
		{N: 4, Type: "vista", Key: "5,2026-02-05", Data: `{"id":5}`},
		{N: 0, Type: "removida", Key: "5,2026-02-05", Data: `{"id":5}`},
	})
}

const labelRules = `
rules:
  - {event: outro, table: cob, on: insert, when: "e <> 'A'", columns: [id, e]}
  - {event: ordem, table: cob, on: insert, when: "e > 'A'", columns: [id]}
  - {event: lista, table: cob, on: insert, when: "a[1] > 'A'", columns: [id]}
`

// ALTER TYPE is not in the stream: a label that is new makes the types be read
// again, before any rule is applied.
func TestMapNewLabel(t *testing.T) {
	t.Parallel()
	l := startLive(t, `create type st as enum ('A','L'); create domain dst as st; create table cob (id int primary key, e dst, a st[])`, labelRules)
	event := func(n int, name, key, data string) got { return got{N: n, Type: name, Key: key, Data: data} }
	diff(t, "before", l.do("insert into cob values (1, 'L', '{L}')"), []got{
		event(0, "outro", "1", `{"id":1,"e":"L"}`), event(1, "ordem", "1", `{"id":1}`), event(2, "lista", "1", `{"id":1}`),
	})
	diff(t, "new labels", l.do("alter type st add value 'N' before 'A'", "insert into cob values (2, 'N', '{N}')", `alter type st add value 'c,"\ '`, "insert into cob values (3, null, '{NULL,N}')",
		"alter type st add value 'O P'", `insert into cob values (4, 'O P', '[0:1]={A,"O P"}')`), []got{
		event(0, "outro", "2", `{"id":2,"e":"N"}`),
		event(0, "outro", "4", `{"id":4,"e":"O P"}`), event(1, "ordem", "4", `{"id":4}`), event(2, "lista", "4", `{"id":4}`),
	})
	diff(t, "a new name", l.do("alter type st rename value 'L' to 'LL'", "insert into cob values (5, 'LL', null)"), []got{
		event(0, "outro", "5", `{"id":5,"e":"LL"}`), event(1, "ordem", "5", `{"id":5}`),
	})
	// The label that a rule names is gone: the rule no longer fits.
	broken := l.do("alter type st rename value 'A' to 'AA'", "insert into cob values (6, 'AA', null)")
	if len(broken) != 3 || !strings.Contains(broken[0].Parked, `does not fit the rule any more: "A" is not a label of enum st`) {
		t.Errorf("a rule with a label that is gone: %+v", broken)
	}
	// What a reload brings is known by the relation too, before a row has it.
	l.do("alter type st add value 'Z'")
	l.next.Store(bind(t, l.conn, mapping.Options{OnSchemaChange: mapping.Park}, strings.NewReplacer("'A'", "'AA'", "e <> 'AA'", "e <> 'Z'").Replace(
		strings.Replace(labelRules, "e <> 'A'", "e <> 'Z'", 1))))
	diff(t, "after a reload", l.do("insert into cob values (7, 'AA', '{LL}')"), []got{
		event(0, "outro", "7", `{"id":7,"e":"AA"}`), event(2, "lista", "7", `{"id":7}`),
	})
	// A label that had another name when its row was made: nobody knows which.
	lost := l.do("alter type st add value 'Q'", "begin; insert into cob values (8, 'Q', null); alter type st rename value 'Q' to 'QQ'; commit")
	if len(lost) != 2 || !strings.Contains(lost[0].Parked, "the catalogue did not have the enum's label") {
		t.Errorf("a label that is gone: %+v", lost)
	}
	diff(t, "after that", l.do("insert into cob values (9, 'QQ', '{AA}')"), []got{
		event(0, "outro", "9", `{"id":9,"e":"QQ"}`), event(1, "ordem", "9", `{"id":9}`),
	})
}

// Knowing all labels costs no allocation.
func TestMapLabelsAllocateNothing(t *testing.T) {
	conn := connect(t, `create type st as enum ('A','L'); create table cob (id int primary key, e st, a st[])`)
	m := mapping.NewMapper(bind(t, conn, mapping.Options{}, labelRules), nil)
	c := change(relation(t, conn, "", "cob"), cdc.Insert, nil, values{"id": "1", "e": "L", "a": nil})
	var sink discard
	if n := testing.AllocsPerRun(200, func() {
		if err := m.Map(c, &sink); err != nil {
			t.Fatal(err)
		}
	}); n != 0 || sink.events == 0 {
		t.Errorf("%v allocations per change, %d events", n, sink.events)
	}
}

// TestWatchAll: any column counts, also one that is added later, and none is missed that
// is dropped. Values equal in another form, touches of a large value and generated columns
// are no changes.
func TestWatchAll(t *testing.T) {
	t.Parallel()
	l := startLive(t, `
create table notas (id int primary key, valor numeric, texto text, doc json, dobro numeric generated always as (valor * 2) stored);
alter table notas alter texto set storage external; alter table notas replica identity full;`, `
rules:
  - {event: mudou, table: notas, on: [insert, update], watch: all, columns: [id]}
  - {event: linha, table: notas, on: update, when: "row(old.id, old.valor, old.texto) is distinct from row(new.id, new.valor, new.texto)", columns: [id]}
`)
	mudou, linha := got{Type: "mudou", Key: "1", Data: `{"id":1}`}, got{N: 1, Type: "linha", Key: "1", Data: `{"id":1}`}
	for _, c := range []struct {
		sql  string
		want []got
	}{
		{"insert into notas (id, valor, texto, doc) values (1, 1.5, repeat('x', 9000), '{}')", []got{mudou}},
		{"update notas set id = id", nil},
		{"update notas set valor = 1.50", nil},
		{"update notas set valor = 2", []got{mudou, linha}},
		{"update notas set texto = texto || ''", nil},
		{"update notas set texto = texto || 'y'", []got{mudou, linha}},
		{`update notas set doc = '{ }'`, []got{mudou}},
		{"alter table notas add extra text", nil},
		{"update notas set extra = 'x'", []got{mudou}},
		{"alter table notas drop doc", nil},
		{"update notas set extra = 'x'", nil},
		{"update notas set extra = null", []got{mudou}},
	} {
		diff(t, c.sql, l.do(c.sql), c.want)
	}
}
