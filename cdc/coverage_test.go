package cdc_test

import (
	"strings"
	"testing"

	"gancho/cdc"
)

// TestCoverage: what the publications carry, by which entries, and what is lacking.
func TestCoverage(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create type ponto as (x int, y int)", "create type cor as enum ('azul')",
		`create table a (id int primary key, p ponto)`, `create table "B c" (id int primary key)`)
	conn := dial(t, dsn)
	o := optionsFor(dsn)
	read := func(statements ...string) cdc.Coverages {
		t.Helper()
		do(t, conn, statements...)
		all, err := cdc.ReadCoverage(t.Context(), conn, o, []cdc.TableNeed{
			{Schema: "public", Name: "a", Insert: true, Update: true}, {Schema: "public", Name: "B c", Insert: true},
		}, []uint32{value[uint32](t, conn, "select 'ponto'::regtype::oid")})
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	check := func(what string, all cdc.Coverages, a, b string) {
		t.Helper()
		if all.Tables[0].Missing != a || all.Tables[1].Missing != b {
			t.Errorf("%s: missing %q and %q, want %q and %q", what, all.Tables[0].Missing, all.Tables[1].Missing, a, b)
		}
	}
	check("no publication", read(), "it is not in publication gancho or gancho_insert", "it is not in publication gancho or gancho_insert")
	first := read("create publication gancho for table a", `create publication gancho_insert for table "B c", a with (publish = 'insert')`)
	check("two publications", first, "", "")
	again := read()
	if len(first.Tables[0].Places) != 2 || first.Tables[0].Places[0] != again.Tables[0].Places[0] || again.Current < first.Current || again.Types != first.Types {
		t.Errorf("what has not changed differs: %+v and %+v", first, again)
	}
	narrowed := read("alter publication gancho set (publish = 'delete')")
	for _, c := range append(narrowed.Tables[:1:1], read("alter publication gancho_insert drop table \"B c\"").Tables[1], read("alter publication gancho_insert add table \"B c\"", "alter publication gancho_insert set (publish = 'truncate')").Tables[1]) {
		// ALTER PUBLICATION of the wrong one would make the application's own UPDATE fail.
		if !strings.Contains(c.Fix, "run gancho check") || strings.Contains(c.Fix, "ALTER") {
			t.Errorf("%s: the fix of %q is %q", c.Table, c.Missing, c.Fix)
		}
	}
	read("alter publication gancho_insert set (publish = 'insert')")
	check("narrowed", narrowed, "publication gancho and gancho_insert does not publish its update", "")
	renamed := read("alter publication gancho set (publish = 'insert, update')", `alter table "B c" rename to c`, "drop table a", "create table a (id int primary key)")
	check("renamed and created again", renamed, "it is not in publication gancho or gancho_insert", "it does not exist any more")
	for _, s := range []string{"alter type ponto rename attribute x to z", "alter type cor rename value 'azul' to 'verde'", "alter type ponto add attribute w text"} {
		before := read().Types
		if read(s).Types == before {
			t.Errorf("%s is not noticed", s)
		}
	}
	everything := read("drop publication gancho", "create publication gancho for all tables", `create table "B c" (id int primary key)`)
	check("all tables", everything, "", "")
	recreated := read("drop table a", "create table a (id int primary key)")
	if recreated.Tables[0].OID == everything.Tables[0].OID || recreated.Tables[0].Places[0] != everything.Tables[0].Places[0] {
		t.Errorf("a table that was created again is in the publication of all tables at another place: %+v and %+v", everything, recreated)
	}
}

// TestCoverageLocksNothing: while the application has a partition to itself, the others
// are not held, for which it may wait next, and the check sees what changes.
func TestCoverageLocksNothing(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", `
		create table t (id int primary key) partition by range (id);
		create table t1 partition of t for values from (0) to (9);
		create table t2 partition of t for values from (9) to (99) partition by range (id);
		create table t21 partition of t2 for values from (9) to (50);
		create publication gancho for table t with (publish_via_partition_root)`)
	conn, application := dial(t, dsn), dial(t, dsn)
	do(t, application, "set lock_timeout = '10s'")
	do(t, conn, "set lock_timeout = '1ms'", "begin")
	read := func() string {
		t.Helper()
		all, err := cdc.ReadCoverage(t.Context(), conn, optionsFor(dsn), []cdc.TableNeed{{Schema: "public", Name: "t", Insert: true}}, nil)
		if err != nil || all.Tables[0].Missing != "" {
			t.Fatalf("coverage %+v: %v", all, err)
		}
		return all.Identities
	}
	before := read()
	do(t, application, "begin", "alter table t21 replica identity full", "lock table t1")
	if again := read(); again != before {
		t.Error("what nobody has committed is seen")
	}
	do(t, application, "commit")
	if read() == before {
		t.Error("the partition of a partition is altered, and the check does not see it")
	}
	if held := value[int](t, conn, "select count(*) from pg_locks where pid = pg_backend_pid() and relation in (select oid from pg_class where relname ~ '^t[12]')"); held != 0 {
		t.Errorf("the check holds %d locks on partitions", held)
	}
}

// TestCatalogNames: names and row filters of a database whose encoding the server
// does not know.
func TestCatalogNames(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "template template0 encoding 'SQL_ASCII' locale 'C'", "do $$ begin execute format('create table t (id int primary key, %I text)', E'descri\\xe7\\xe3o'); end $$",
		"do $$ begin execute format('create table %I (%I int)', E'cobran\\xe7a', E'situa\\xe7\\xe3o'); end $$",
		"do $$ begin execute format('create publication %I for all tables', E'r\\xe9plica'); end $$")
	conn := dial(t, dsn+"&client_encoding=UTF8")
	filter := ""
	if value[int](t, conn, "select current_setting('server_version_num')::int") >= 150000 {
		filter = " where (descri\\xe7\\xe3o <> ''x'')"
	}
	do(t, conn, "do $$ begin execute E'create publication gancho for table t"+filter+" with (publish = ''insert'')'; end $$")
	o := optionsFor(dsn)
	o.Encoding = cdc.Latin1
	all, err := cdc.ReadCoverage(t.Context(), conn, o, []cdc.TableNeed{{Schema: "public", Name: "t", Insert: true}}, nil)
	if err != nil || filter != "" && !strings.Contains(all.Tables[0].Filter, "descrição") {
		t.Errorf("coverage %+v: %v", all, err)
	}
	names, err := cdc.ListTables(t.Context(), conn, cdc.Latin1)
	if err != nil || names[0].Name != "cobrança" {
		t.Errorf("tables %v: %v", names, err)
	}
	oid := value[uint32](t, conn, "select oid from pg_class where relkind = 'r' and relname like 'cobran%'")
	found, err := cdc.Hazards(t.Context(), conn, cdc.Latin1, "gancho", cdc.Ruled{OID: oid})
	if err != nil || len(found) != 1 || found[0].Table.Name != "cobrança" || found[0].Publication != "réplica" {
		t.Errorf("hazards %+v: %v", found, err)
	}
	// Without the encoding the error says what to do.
	if _, err := cdc.Hazards(t.Context(), conn, "", "gancho", cdc.Ruled{OID: oid}); err == nil || !strings.Contains(err.Error(), "source.encoding") {
		t.Errorf("hazards without the encoding: %v", err)
	}
}
