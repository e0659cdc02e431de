package cdc_test

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// partitioned is a table under REPLICA IDENTITY FULL with one partition that has it too.
var partitioned = []string{
	"create table cob (id int, dia date, status text, obs text, primary key (id, dia)) partition by range (dia)",
	"create table cob_1 partition of cob for values from ('2026-01-01') to ('2026-02-01')",
	"alter table cob replica identity full", "alter table cob_1 replica identity full",
}

// TestWeakerPartition: a partition that is made later does not inherit FULL.
// What it does not send is missing, never null, until it is altered.
func TestWeakerPartition(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", partitioned...)
	o := optionsFor(dsn)
	s := start(t, o, allOps("cob"))
	conn := dial(t, dsn)
	check := func(want []string, statements ...string) *cdc.Relation {
		t.Helper()
		do(t, conn, statements...)
		var got []string
		var rel *cdc.Relation
		for len(got) < len(want) {
			tx := s.next()
			got = append(got, tx.Changes...)
			rel = tx.Relations[len(tx.Relations)-1]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		return rel
	}
	first := check([]string{
		"insert public.cob new(id=1 dia=2026-01-05 status=<null> obs=x)",
		"update public.cob new(id=1 dia=2026-01-05 status=A obs=x) old(id=1 dia=2026-01-05 status=<null> obs=x)",
	}, "insert into cob values (1, '2026-01-05', null, 'x')", "update cob set status = 'A'")
	if first.Weaker != nil {
		t.Errorf("weaker partitions: %v", first.Weaker)
	}
	// Made, filled and changed within one transaction.
	weak := check([]string{
		"insert public.cob new(id=2 dia=2026-02-05 status=A obs=x)",
		"update public.cob new(id=2 dia=2026-02-05 status=L obs=x)",
		"update public.cob new(id=3 dia=2026-02-05 status=L obs=x) old(id=2 dia=2026-02-05 status=<missing> obs=<missing>)",
		"delete public.cob old(id=3 dia=2026-02-05 status=<missing> obs=<missing>)",
		"update public.cob new(id=1 dia=2026-01-05 status=<null> obs=y) old(id=1 dia=2026-01-05 status=A obs=x)",
		"update public.cob new(id=1 dia=2026-01-05 status=B obs=y) old(id=1 dia=2026-01-05 status=<missing> obs=y)",
	}, `begin; create table cob_2 partition of cob for values from ('2026-02-01') to ('2026-03-01');
		insert into cob values (2, '2026-02-05', 'A', 'x'); update cob set status = 'L' where id = 2; update cob set id = 3 where id = 2;
		delete from cob where id = 3; commit`,
		"update cob set status = null, obs = 'y'", "update cob set status = 'B'")
	if diff := cmp.Diff([]cdc.Name{{Schema: "public", Name: "cob_2"}}, weak.Weaker); diff != "" {
		t.Errorf("weaker partitions (-want +got):\n%s", diff)
	}
	var keys []bool
	for i, c := range weak.Columns {
		if c.Key != weak.KeepsKey(i) {
			t.Errorf("column %s: key %v, kept %v", c.Name, c.Key, weak.KeepsKey(i))
		}
		keys = append(keys, c.Key)
	}
	if diff := cmp.Diff([]bool{true, true, false, false}, keys); diff != "" {
		t.Errorf("keys (-want +got):\n%s", diff)
	}
	fixed := check([]string{
		"insert public.cob new(id=4 dia=2026-02-05 status=<null> obs=x)",
		"update public.cob new(id=4 dia=2026-02-05 status=L obs=x) old(id=4 dia=2026-02-05 status=<null> obs=x)",
		"delete public.cob old(id=4 dia=2026-02-05 status=L obs=x)",
	}, "alter table cob_2 replica identity full", "insert into cob values (4, '2026-02-05', null, 'x')", "update cob set status = 'L' where id = 4", "delete from cob where id = 4")
	if fixed.Weaker != nil || !fixed.Columns[3].Key {
		t.Errorf("after it was altered: %+v", fixed)
	}
	log := s.log.String()
	if n := strings.Count(log, `"fix":"ALTER TABLE public.cob_2 REPLICA IDENTITY FULL"`); n != 1 || !strings.Contains(log, "partition now covers the replica identity of its table") {
		t.Errorf("the fix was logged %d times:\n%s", n, log)
	}
}

// TestWeakerPartitions: what a root's old rows are sure to have is what all of
// its partitions send, after a restart and for partitions that are gone too.
func TestWeakerPartitions(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", append(partitioned, "create table cob_2 partition of cob for values from ('2026-02-01') to ('2026-03-01')",
		"create table cob_3 partition of cob for values from ('2026-03-01') to ('2026-04-01')",
		"alter table cob_3 alter status set not null", "create unique index cob_3_status on cob_3 (status, dia)", "alter table cob_3 replica identity using index cob_3_status")...)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("cob"))
	conn := dial(t, dsn)
	do(t, conn, "insert into cob values (1, '2026-01-05', 'A'), (2, '2026-02-05', 'A'), (3, '2026-03-05', 'A')",
		"update cob set id = 30 where id = 3", "update cob set status = 'B'", "delete from cob", "drop table cob_2")
	want := []string{
		"insert public.cob new(id=1 dia=2026-01-05 status=A obs=<null>)",
		"insert public.cob new(id=2 dia=2026-02-05 status=A obs=<null>)",
		"insert public.cob new(id=3 dia=2026-03-05 status=A obs=<null>)",
		"update public.cob new(id=30 dia=2026-03-05 status=A obs=<null>)",
		"update public.cob new(id=1 dia=2026-01-05 status=B obs=<null>) old(id=1 dia=2026-01-05 status=A obs=<missing>)",
		"update public.cob new(id=2 dia=2026-02-05 status=B obs=<null>)",
		"update public.cob new(id=30 dia=2026-03-05 status=B obs=<null>) old(id=<missing> dia=2026-03-05 status=A obs=<missing>)",
		"delete public.cob old(id=1 dia=2026-01-05 status=B obs=<missing>)",
		"delete public.cob old(id=2 dia=2026-02-05 status=<missing> obs=<missing>)",
		"delete public.cob old(id=<missing> dia=2026-03-05 status=B obs=<missing>)",
	}
	for range 2 {
		s := run(t, o, source, onlooker())
		var got []string
		var rel *cdc.Relation
		for len(got) < len(want) {
			tx := s.next()
			got, rel = append(got, tx.Changes...), tx.Relations[0]
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("changes (-want +got):\n%s", diff)
		}
		if diff := cmp.Diff([]cdc.Name{{Schema: "public", Name: "cob_2"}, {Schema: "public", Name: "cob_3"}}, rel.Weaker); diff != "" {
			t.Errorf("weaker partitions (-want +got):\n%s", diff)
		}
		if rel.KeepsKey(0) || !rel.KeepsKey(1) {
			t.Error("of the columns id and dia, only dia is in all identities")
		}
		if n := strings.Count(s.log.String(), "partition has a weaker replica identity"); n != 2 {
			t.Errorf("logged %d times", n)
		}
		if err := s.end(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestWeakerInserts: without updates and deletes the identity is nobody's concern.
func TestWeakerInserts(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", append(partitioned, "create table cob_2 partition of cob for values from ('2026-02-01') to ('2026-03-01')")...)
	s := start(t, optionsFor(dsn), []cdc.TableNeed{{Name: "cob", Insert: true}})
	do(t, dial(t, dsn), "insert into cob values (2, '2026-02-05', 'A')", "truncate cob", "insert into cob values (2, '2026-02-05', 'A')")
	s.changes(3)
	if strings.Contains(s.log.String(), "weaker") {
		t.Errorf("logged:\n%s", s.log)
	}
}

// TestRootAlteredAlone: REPLICA IDENTITY FULL, or its end, on the root of
// partitions that the stream has described. The root is not described again, and
// what a partition with the default identity does not send stays missing.
func TestRootAlteredAlone(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table cob (id int, dia date, v text, primary key (id, dia)) partition by range (dia)",
		"create table cob_1 partition of cob for values from ('2026-01-01') to ('2026-02-01')",
		"create table cob_2 partition of cob for values from ('2026-02-01') to ('2026-03-01')",
		"alter table cob_2 replica identity full")
	s := start(t, optionsFor(dsn), allOps("cob"))
	do(t, dial(t, dsn), "insert into cob select i, d::date, 'x' from generate_series(1, 4) i, (values ('2026-01-05'), ('2026-02-05')) v(d)",
		"alter table cob replica identity full", "delete from cob where id = 1", "update cob set v = 'y' where id = 2",
		"alter table cob_1 replica identity full", "update cob set v = null where id = 2", "update cob set v = 'z' where id = 2",
		"alter table cob replica identity default", "delete from cob where id = 2",
		"alter table cob_2 replica identity default", "delete from cob where id = 3",
		"alter table cob replica identity full", "delete from cob where id = 4")
	s.changes(8)
	if diff := cmp.Diff([]string{
		"delete public.cob old(id=1 dia=2026-01-05 v=<missing>)",
		"delete public.cob old(id=1 dia=2026-02-05 v=x)",
		"update public.cob new(id=2 dia=2026-01-05 v=y)",
		"update public.cob new(id=2 dia=2026-02-05 v=y) old(id=2 dia=2026-02-05 v=x)",
		"update public.cob new(id=2 dia=2026-01-05 v=<null>) old(id=2 dia=2026-01-05 v=y)",
		"update public.cob new(id=2 dia=2026-02-05 v=<null>) old(id=2 dia=2026-02-05 v=y)",
		"update public.cob new(id=2 dia=2026-01-05 v=z) old(id=2 dia=2026-01-05 v=<null>)",
		"update public.cob new(id=2 dia=2026-02-05 v=z) old(id=2 dia=2026-02-05 v=<null>)",
		"delete public.cob old(id=2 dia=2026-01-05 v=z)",
		"delete public.cob old(id=2 dia=2026-02-05 v=z)",
		"delete public.cob old(id=3 dia=2026-01-05 v=x)",
		"delete public.cob old(id=3 dia=2026-02-05 v=<missing>)",
		"delete public.cob old(id=4 dia=2026-01-05 v=x)",
		"delete public.cob old(id=4 dia=2026-02-05 v=<missing>)",
	}, s.changes(14)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	for part, want := range map[string]int{"cob_1": 1, "cob_2": 1} {
		if n := strings.Count(s.log.String(), "ALTER TABLE public."+part+" REPLICA IDENTITY FULL"); n != want {
			t.Errorf("the fix of %s was logged %d times:\n%s", part, n, s.log)
		}
	}
}

// TestStaleTypes: a handler that finds its types out of date gets the change
// again, with what the catalogue says now.
func TestStaleTypes(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create type st as enum ('A')", "create domain dst as st", "create table t (id int primary key, e dst, a st[])")
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("t"))
	rec := newRecorder()
	var seen []*cdc.Relation
	rec.change = func(c *cdc.Change) error {
		seen = append(seen, c.Relation)
		if len(seen) == 2 || len(seen) == 4 {
			return cdc.ErrStaleTypes
		}
		return nil
	}
	s := run(t, o, source, rec)
	conn := dial(t, dsn)
	do(t, conn, "insert into t values (1, 'A')")
	first := s.next()
	do(t, conn, "alter type st add value 'B'", "insert into t values (2, 'B')")
	second := s.next()
	do(t, conn, "insert into t values (3, 'B')")
	third := s.next()
	labels := func(r *cdc.Relation) []string { return r.Columns[1].Type.Base().Labels }
	if diff := cmp.Diff([]string{"A"}, labels(first.Relations[0])); diff != "" {
		t.Errorf("before (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"A", "B"}, labels(second.Relations[0])); diff != "" || second.Relations[0].Columns[2].Type.Elem.Labels[1] != "B" {
		t.Errorf("after (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff([]string{"insert public.t new(id=2 e=B a=<null>)", "insert public.t new(id=3 e=B a=<null>)"}, append(second.Changes, third.Changes...)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
	if second.Positions[0].Ordinal != 0 || third.Relations[0] != second.Relations[0] {
		t.Error("a change that comes twice has another number, or types that have not changed are new")
	}
}

// TestRowsThatMove: what the stream has of rows that move between partitions,
// come and go with a partition, or leave a row filter. docs/rules.md tells this.
func TestRowsThatMove(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table cob (id int, dia date, status text, primary key (id, dia)) partition by range (dia)",
		"create table cob_1 partition of cob for values from ('2026-01-01') to ('2026-02-01')", "create table cob_resto partition of cob default",
		"create table cob_3 (like cob including all)", "insert into cob_3 values (9, '2026-03-05', 'A')", "create table marca (id int primary key)")
	s := start(t, optionsFor(dsn), allOps("cob", "marca"))
	conn := dial(t, dsn)
	for _, c := range []struct {
		what, statement string
		want            []string
	}{
		{"an update of the partition key", "insert into cob values (1, '2026-01-05', 'A'); update cob set dia = '2026-05-05' where id = 1", []string{
			"insert public.cob new(id=1 dia=2026-01-05 status=A)", "delete public.cob old(id=1 dia=2026-01-05 status=<missing>)", "insert public.cob new(id=1 dia=2026-05-05 status=A)"}},
		{"rows moved to a new partition", `begin; create table cob_5 (like cob including all); with moved as (delete from cob_resto returning *) insert into cob_5 select * from moved;
			alter table cob attach partition cob_5 for values from ('2026-05-01') to ('2026-06-01'); commit`, []string{"delete public.cob old(id=1 dia=2026-05-05 status=<missing>)"}},
		{"rows moved through the table", `insert into cob values (2, '2026-06-05', 'A'); begin; create temp table guarda on commit drop as select * from cob_resto; delete from cob_resto;
			create table cob_6 partition of cob for values from ('2026-06-01') to ('2026-07-01'); insert into cob select * from guarda; commit`, []string{
			"insert public.cob new(id=2 dia=2026-06-05 status=A)", "delete public.cob old(id=2 dia=2026-06-05 status=<missing>)", "insert public.cob new(id=2 dia=2026-06-05 status=A)"}},
		{"a partition that is attached, and one detached", "alter table cob attach partition cob_3 for values from ('2026-03-01') to ('2026-04-01'); alter table cob detach partition cob_1", nil},
		{"a truncated partition", "truncate cob_3; drop table cob_5", nil},
		{"the truncated table", "truncate cob", []string{"truncate public.cob"}},
		{"a rewrite", "insert into cob values (3, '2026-06-05', 'A'); alter table cob alter status type varchar(10); vacuum full cob; cluster cob_6 using cob_6_pkey", []string{"insert public.cob new(id=3 dia=2026-06-05 status=A)"}},
	} {
		for statement := range strings.SplitSeq(c.statement, ";") {
			do(t, conn, statement)
		}
		do(t, conn, "insert into marca values (1)", "delete from marca")
		var got []string
		for {
			tx := s.next()
			if strings.HasPrefix(tx.Changes[0], "delete public.marca") {
				break
			} else if !strings.HasPrefix(tx.Changes[0], "insert public.marca") {
				got = append(got, tx.Changes...)
			}
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", c.what, diff)
		}
	}
}

// TestRowFilter: a row that an update takes out of a row filter is deleted as
// far as the stream goes, and one that it brings in is inserted.
func TestRowFilter(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int primary key, q int)", "alter table t replica identity full")
	conn := dial(t, dsn)
	if value[int](t, conn, "select current_setting('server_version_num')::int") < 150000 {
		t.Skip("row filters came with PostgreSQL 15")
	}
	do(t, conn, "create publication gancho for table t where (q > 5)")
	s := start(t, optionsFor(dsn), allOps("t"))
	do(t, conn, "insert into t values (1, 1)", "update t set q = 6", "update t set q = 7", "update t set q = 2")
	if diff := cmp.Diff([]string{"insert public.t new(id=1 q=6)", "update public.t new(id=1 q=7) old(id=1 q=6)", "delete public.t old(id=1 q=7)"}, s.changes(3)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestIdlePartitions: an idle partition is described as it was. What makes its root
// another (FULL, with or without a description of it; a column) has the stream start
// again, once, and what is altered of it alone does when the reader is told.
func TestIdlePartitions(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table cob (id int, dia date, pago timestamp, primary key (id, dia)) partition by range (dia)",
		"create table cob_1 partition of cob for values from ('2026-01-01') to ('2026-02-01')",
		"create table cob_2 partition of cob for values from ('2026-02-01') to ('2026-03-01')")
	s := start(t, optionsFor(dsn), allOps("cob"))
	conn := dial(t, dsn)
	for i, c := range []struct {
		what  string
		alter []string
		old   string
		again int // how often the stream has started again
	}{
		{"before", nil, "", 0},
		{"advice is followed", []string{"alter table cob replica identity full", "alter table cob_1 replica identity full", "alter table cob_2 replica identity full"}, "id=1 dia=2026-02-05 pago=<null>", 1},
		{"a column is added", []string{"alter table cob add obs text"}, "id=1 dia=2026-02-05 pago=<null> obs=<null>", 2},
		{"the idle one becomes weaker", []string{"alter table cob_1 replica identity default", "insert into cob values (2, '2026-01-05')", "delete from cob where id = 2"}, "id=1 dia=2026-02-05 pago=<missing> obs=<missing>", 2},
		{"the idle one is as strong again", []string{"alter table cob_1 replica identity full"}, "id=1 dia=2026-02-05 pago=<null> obs=<null>", 3},
		{"the root alone", []string{"alter table cob replica identity default", "alter table cob_1 replica identity default", "insert into cob values (2, '2026-01-05')", "delete from cob where id = 2",
			"alter table cob_1 replica identity full", "alter table cob replica identity full"}, "id=1 dia=2026-02-05 pago=<null> obs=<null>", 4},
	} {
		do(t, conn, c.alter...)
		if i == 4 {
			s.reader.Redescribe(value[cdc.LSN](t, conn, "select pg_current_wal_lsn()"))
		}
		// The current partition is written before the idle one.
		do(t, conn, "begin; insert into cob values (1, '2026-02-05'); update cob set pago = '2026-02-06' where dia > '2026-02-01'; delete from cob where dia > '2026-02-01'; insert into cob values (2, '2026-01-05'); delete from cob where id = 2; commit")
		tx := s.next()
		for len(tx.Changes) < 5 {
			tx = s.next()
		}
		if _, old, _ := strings.Cut(tx.Changes[1], " old("); strings.TrimSuffix(old, ")") != c.old {
			t.Errorf("%s: the old row is %q, want %q", c.what, old, c.old)
		}
		if n := len(s.resets); n != c.again {
			t.Errorf("%s: the stream has started again %d times, want %d", c.what, n, c.again)
		}
	}
}
