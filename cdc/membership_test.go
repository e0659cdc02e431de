package cdc_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// TestMembershipsAreTheServers: over publications of all kinds, what is read from the
// catalogue alone is what pg_publication_tables says.
func TestMembershipsAreTheServers(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	dsn := pg.Database(t, "", `
		create schema a; create schema b;
		create table a.root (id int primary key, q int) partition by list (id);
		create table b.middle partition of a.root for values in (1, 2) partition by list (id);
		create table a.leaf partition of b.middle for values in (1);
		create table b.leaf partition of b.middle for values in (2);
		create table b.other partition of a.root default;
		create table a.plain (id int primary key, q int, gone int, made int generated always as (q + 1) stored);
		alter table a.plain drop column gone;
		create table b.child () inherits (a.plain);
		create unlogged table b.unlogged (id int primary key, q int);
		create view a.view as select 1 as id`)
	conn := dial(t, dsn)
	version := value[int](t, conn, "select current_setting('server_version_num')::int")
	r := rand.New(rand.NewPCG(7, 1))
	tables := []string{"a.root", "b.middle", "a.leaf", "b.leaf", "b.other", "only a.plain", "b.child"}
	made := 0
	for i := range 150 {
		var parts []string
		for _, table := range tables {
			if r.IntN(3) > 0 {
				continue
			}
			if version >= 150000 {
				table += []string{"", "", " (id)", " (q, id)"}[r.IntN(4)] + []string{"", "", " where (id > 1)", " where (id > 1 and q < 5)"}[r.IntN(4)]
			}
			parts = append(parts, "table "+table)
		}
		if version >= 150000 && r.IntN(3) == 0 {
			parts = append(parts, "tables in schema "+[]string{"a", "b", "a, b"}[r.IntN(3)])
		}
		if version < 150000 && len(parts) > 0 {
			parts = []string{"table " + strings.ReplaceAll(strings.Join(parts, ", "), "table ", "")}
		}
		what := " for " + strings.Join(parts, ", ")
		switch {
		case r.IntN(10) == 0:
			what = " for all tables"
		case len(parts) == 0:
			what = ""
		}
		with := fmt.Sprintf(" with (publish_via_partition_root = %t", r.IntN(2) == 0)
		if version >= 180000 && r.IntN(2) == 0 {
			with += ", publish_generated_columns = stored"
		}
		// Some are refused: a column list beside a schema, a filter of a root that is not published as one.
		if _, err := conn.Exec(t.Context(), fmt.Sprintf("create publication p%d%s%s)", i, what, with)); err == nil {
			made++
		}
	}
	if made < 60 {
		t.Fatalf("only %d publications could be created", made)
	}
	read := func(sql string) []string {
		t.Helper()
		rows, err := conn.Query(t.Context(), sql)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		return lines
	}
	lists := "'{id,q}', false"
	if version >= 150000 { // which has generated columns among them although they are not sent
		lists = "array_remove(attnames::text[], 'made'), rowfilter is not null"
	}
	// PostgreSQL 14 lists partitions beside their root, and some twice; the stream has the root alone.
	want := read(`with listed as (
			select t.*, c.oid, p.pubviaroot from pg_publication_tables t join pg_publication p using (pubname)
			join pg_class c on c.oid = format('%I.%I', t.schemaname, t.tablename)::regclass)
		select distinct format('%s %I.%I %s %s', pubname, schemaname, tablename, ` + lists + `) as line from listed l
		where not pubviaroot or not exists (select from pg_partition_ancestors(l.oid) a join listed r on r.oid = a.relid and r.pubname = l.pubname where a.relid <> l.oid)
		order by line`)
	got := read(`select format('%s %I.%I %s %s', m.name, n.nspname, c.relname, coalesce(m.columns, '{id,q}'), m.filter <> '') as line
		from ` + cdc.MembershipsSQL(conn) + ` m join pg_class c on c.oid = m.relid join pg_namespace n on n.oid = c.relnamespace order by line`)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("memberships (-pg_publication_tables +catalogue):\n%s", diff)
	}
}

// TestWatchesWaitForNobody: what reads the catalogue again and again does not wait for
// tables that the application has to itself: none of its statements waits for even a millisecond.
func TestWatchesWaitForNobody(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", `
		create table r (id int primary key, q int) partition by range (id);
		create table r1 partition of r default;
		create table t (id int primary key, q int default 7);
		create table heir () inherits (t);`)
	conn, application := dial(t, dsn), dial(t, dsn)
	filter := ""
	if value[int](t, conn, "select current_setting('server_version_num')::int") >= 150000 {
		filter = " where (q > 0 and id <> 7)"
	}
	do(t, application, "create publication gancho for table only t"+filter+", r with (publish = 'insert', publish_via_partition_root)")
	o := optionsFor(dsn)
	needs := []cdc.TableNeed{{Schema: "public", Name: "t", Insert: true}, {Schema: "public", Name: "r", Insert: true}, {Schema: "public", Name: "r1", Insert: true}}
	coverage := func() string {
		t.Helper()
		all, err := cdc.ReadCoverage(t.Context(), conn, o, needs, nil)
		if err != nil {
			t.Fatal(err)
		}
		all.Current = 0
		return fmt.Sprintf("%+v", all)
	}
	free := coverage()
	if filter != "" && !strings.Contains(free, "publication gancho has a row filter on id, q") {
		t.Errorf("coverage %s", free)
	}
	do(t, application, "begin", "lock table t, r in access exclusive mode")
	do(t, conn, "set lock_timeout = '1ms'")
	if locked := coverage(); locked != free {
		t.Errorf("coverage of locked tables\n%s\ndiffers from\n%s", locked, free)
	}
	if _, err := cdc.Hazards(t.Context(), conn, "", o.Publication); err != nil {
		t.Errorf("hazards: %v", err)
	}
	if _, err := cdc.Remarks(t.Context(), conn, "", o.Publication); err != nil {
		t.Errorf("remarks: %v", err)
	}
	for _, name := range []string{"t", "r", "r1"} {
		if table, err := cdc.LoadTable(t.Context(), conn, "", "public", name); err != nil || name != "r1" && len(table.Memberships) != 1 {
			t.Errorf("table %s: %v", name, err)
		}
	}
	do(t, application, "rollback")

	// Another filter is another one, and the same one, written again, is not.
	if filter == "" {
		return
	}
	one := func(where string) string {
		t.Helper()
		do(t, application, "alter publication gancho set table only t where ("+where+")")
		all, err := cdc.ReadCoverage(t.Context(), conn, o, needs[:1], nil)
		if err != nil {
			t.Fatal(err)
		}
		return all.Tables[0].FilterID
	}
	first := one("q > 0")
	if same, other := one("    q    >    0"), one("q > 1"); same != first || other == first || first == "" {
		t.Errorf("filters %q, the same %q, another %q", first, same, other)
	}
}

// TestCreateDoesNotHoldUp: while the application has locked a table that Gancho publishes,
// what else the application wants of the table does not queue behind Gancho for long.
func TestCreateDoesNotHoldUp(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int primary key)")
	application, observer := dial(t, dsn), dial(t, dsn)
	do(t, application, "begin", "lock table t in share row exclusive mode")
	o := optionsFor(dsn)
	gaveWay := make(chan struct{})
	var once sync.Once
	o.Log = zerolog.New(writerFunc(func(line []byte) {
		if strings.Contains(string(line), "another session has locked") {
			once.Do(func() { close(gaveWay) })
		}
	}))
	done := make(chan error, 1)
	go func() {
		source, err := cdc.Prepare(t.Context(), o, []cdc.TableNeed{{Schema: "public", Name: "t", Insert: true}})
		if err == nil && !source.SlotCreated {
			err = fmt.Errorf("no slot was created: %+v", source)
		}
		done <- err
	}()
	select {
	case <-gaveWay:
	case err := <-done:
		t.Fatalf("prepared although the table is locked: %v", err)
	case <-time.After(patience):
		t.Fatalf("it waits for the table; %d requests of locks are not granted", value[int](t, observer, "select count(*) from pg_locks where not granted"))
	}
	do(t, application, "alter table t add column nome text", "commit")
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-time.After(patience):
		t.Fatal("it does not go on when the table is free")
	}
	if n := value[int](t, observer, "select count(*) from pg_publication_rel"); n != 1 {
		t.Errorf("%d tables are published", n)
	}
}

// writerFunc is a log's.
type writerFunc func(line []byte)

func (w writerFunc) Write(line []byte) (int, error) {
	w(line)
	return len(line), nil
}

// TestLockedTables: what needs to open a table that another session has locked says who that
// is, and does not wait until it ends.
func TestLockedTables(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int primary key, twice int generated always as (id * 2) stored)")
	conn, application := dial(t, dsn), dial(t, dsn)
	do(t, application, "set application_name = 'erp'", "begin", "lock table t in access exclusive mode")
	_, err := cdc.LoadTable(t.Context(), conn, "", "public", "t")
	locked, ok := errors.AsType[*cdc.LockedError](err)
	if !ok || !cdc.FaultOf(err).Passing() {
		t.Fatalf("a locked table: %v", err)
	}
	if locked.Table != (cdc.Name{Schema: "public", Name: "t"}) || locked.PID != int(application.PgConn().PID()) || locked.Application != "erp" || locked.Since.IsZero() {
		t.Errorf("it is locked by %+v", locked)
	}
	if text := err.Error(); !strings.Contains(text, fmt.Sprintf("read table public.t: session %d of role", locked.PID)) || !strings.Contains(text, "(erp) has locked table public.t, in a transaction that began at") {
		t.Error(text)
	}
	do(t, application, "rollback")
	table, err := cdc.LoadTable(t.Context(), conn, "", "public", "t")
	if err != nil || table.Generated["twice"] != "(id * 2)" {
		t.Errorf("the table, not locked: %v, %v", table, err)
	}
	// Whoever waits for such a lock is told, too: nobody gets past it.
	reader, second := dial(t, dsn), dial(t, dsn)
	do(t, reader, "begin", "lock table t in access share mode")
	do(t, second, "begin")
	waits := make(chan error, 1)
	go func() {
		_, err := second.Exec(t.Context(), "lock table t in access exclusive mode")
		waits <- err
	}()
	for value[int](t, conn, "select count(*) from pg_locks where relation = 't'::regclass and not granted") == 0 {
		if t.Context().Err() != nil {
			t.Fatal("it does not wait")
		}
	}
	_, err = cdc.LoadTable(t.Context(), conn, "", "public", "t")
	if locked, ok := errors.AsType[*cdc.LockedError](err); !ok || locked.PID != int(second.PgConn().PID()) {
		t.Errorf("behind one that waits for the table: %v", err)
	}
	do(t, reader, "rollback")
	if err := <-waits; err != nil {
		t.Error(err)
	}
}
