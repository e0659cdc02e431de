package mapping_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/mapping"
)

// TestParentsThatCannotBeRead: a child whose parent's key is out of the
// column's range has no parent and ends nothing; parents that no longer fit the
// rule are a schema error, not a wait for ever; and what one change parks comes
// in the order of the rules, as the queue needs it.
func TestParentsThatCannotBeRead(t *testing.T) {
	t.Parallel()
	conn := connect(t,
		"create table pai (id int primary key, v int)",
		"create table filho (id int primary key, pai_id bigint, x int)", "alter table filho replica identity full",
		"insert into pai values (3, 30)")
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	const rules = `
rules:
  - {event: filho, table: filho, on: update, columns: [id, pai_id]}
  - {event: pai, table: pai, on: update, children: {table: filho, parent: pai_id}, columns: [id, v]}
`
	rs, stopping := bind(t, conn, mapping.Options{OnSchemaChange: mapping.Park}, rules), bind(t, conn, mapping.Options{}, rules)
	rel := relation(t, conn, "", "filho")
	source := mapping.NewSource(conn.Config().ConnString(), "", zerolog.Nop())
	t.Cleanup(func() { source.Close(context.Background()) })
	m := mapping.NewMapper(rs, nil, mapping.WithSource(source))
	var xid uint32
	if err := conn.QueryRow(ctx, "select pg_current_xact_id()::xid::text::bigint").Scan(&xid); err != nil {
		t.Fatal(err)
	}
	apply := func(rel *cdc.Relation, r *recorder, parent string) error {
		t.Helper()
		c := change(rel, cdc.Update, values{"id": "1", "pai_id": parent, "x": "1"}, values{"id": "1", "pai_id": parent, "x": "2"})
		c.Tx.XID = xid
		m.Begin(c.Tx)
		if err := m.Map(c, r); err != nil {
			t.Fatal(err)
		}
		return m.Commit(ctx, c.Tx, r)
	}
	var r recorder
	if err := apply(rel, &r, "3000000000"); err != nil || len(r.all) != 1 {
		t.Errorf("a parent that cannot be: %v, %d events; want the child's own", err, len(r.all))
	}
	r = recorder{}
	if err := apply(rel, &r, "3"); err != nil || len(r.all) != 2 {
		t.Errorf("a parent that is: %v, %d events; want two", err, len(r.all))
	}

	renamed := *rel
	renamed.Columns = append([]cdc.Column(nil), rel.Columns...)
	renamed.Columns[1].Name = "outra"
	r = recorder{}
	m.Begin(&cdc.Transaction{})
	if err := m.Map(change(&renamed, cdc.Update, values{"id": "1"}, values{"id": "1", "x": "2"}), &r); err != nil {
		t.Fatal(err)
	}
	for i := 1; i < len(r.all); i++ {
		if r.all[i-1].N >= r.all[i].N {
			t.Errorf("number %d comes before %d", r.all[i-1].N, r.all[i].N)
		}
	}
	if len(r.all) != 2 {
		t.Errorf("%d changes are parked, want two", len(r.all))
	}

	if _, err := conn.Exec(ctx, "alter table pai rename column v to w"); err != nil {
		t.Fatal(err)
	}
	r = recorder{}
	if err := apply(rel, &r, "3"); err != nil || len(r.all) != 2 || !strings.Contains(r.all[1].Parked, "can no longer be read") {
		t.Errorf("parents that no longer fit, under park: %v, %+v", err, r.all)
	}
	var drift *mapping.SchemaError
	m = mapping.NewMapper(stopping, nil, mapping.WithSource(source))
	if err := apply(rel, &r, "3"); !errors.As(err, &drift) {
		t.Errorf("parents that no longer fit, under stop: %v, want a schema error", err)
	}
}

// TestStoppedCommit: a commit with much to give does not hold a shutdown.
func TestStoppedCommit(t *testing.T) {
	t.Parallel()
	conn := connect(t, "create table pai (id int primary key, v int)")
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: pai, table: pai, on: insert, collapse: id, columns: [id, v]}\n")
	rel := relation(t, conn, "", "pai")
	m := mapping.NewMapper(rs, nil)
	c := change(rel, cdc.Insert, nil, values{"id": "1", "v": "2"})
	m.Begin(c.Tx)
	var r recorder
	if err := m.Map(c, &r); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	if err := m.Commit(ctx, c.Tx, &r); !errors.Is(err, context.Canceled) || len(r.all) != 0 {
		t.Errorf("%v with %d events, want context.Canceled and none", err, len(r.all))
	}
}
