package cdc_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// published is a table with one row, whose publications are another tool's.
type published struct {
	Since      int      // server_version_num
	Statements []string // they are in testdata for the tests of gancho plan, too
	Tables     []string // those that hold rows; none: t
	// Also are other statements of the application, and whether they are refused while those
	// on the tables are.
	Also map[string]bool
}

func publishedTables(t *testing.T) (cases map[string]published) {
	t.Helper()
	text, err := os.ReadFile("testdata/published.json")
	if err == nil {
		err = json.Unmarshal(text, &cases)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// TestHazards: what is said to fail is what fails when the application does it,
// and no longer after what Fix says.
func TestHazards(t *testing.T) {
	t.Parallel()
	conn := dial(t, pg.Database(t, ""))
	version := value[int](t, conn, "select current_setting('server_version_num')::int")
	for name, c := range publishedTables(t) {
		t.Run(name, func(t *testing.T) {
			if version < c.Since {
				t.Skipf("needs PostgreSQL %d", c.Since/10000)
			}
			do(t, conn, "begin")
			defer do(t, conn, "rollback")
			do(t, conn, c.Statements...)
			tables := c.Tables
			if tables == nil {
				tables = []string{"t"}
			}
			for _, table := range tables {
				do(t, conn, "insert into "+table+" (id, q) values (case '"+table+"' when 'b' then 20 else 1 end, 1)")
			}
			// They count because they are in a publication of ours, which adds nothing.
			do(t, conn, "create publication gancho_insert for all tables with (publish = 'insert')")
			manual := true // the fixes are not all statements, which were run
			for range 2 {
				got, fixes := refusals(t, conn)
				for statement, refused := range c.Also {
					if code := codeOf(t, conn, statement); refusal(code) != (refused && len(got) > 0) {
						t.Errorf("%s: SQLSTATE %q, while %v are refused", statement, code, got)
					}
				}
				if diff := cmp.Diff(refusedNow(t, conn, tables), got); diff != "" {
					t.Fatalf("refused (-want +got):\n%s", diff)
				}
				if len(got) > 0 && !manual {
					t.Errorf("after the fix %v", got)
				}
				manual = slices.ContainsFunc(fixes, func(f string) bool { return statementOf(f) == "" })
				for _, fix := range fixes {
					if statement := statementOf(fix); statement != "" {
						do(t, conn, statement)
					}
				}
			}
		})
	}
}

// statementOf is the statement of a fix that begins with one.
func statementOf(fix string) string {
	if statement, ok := strings.CutPrefix(fix, "run "); ok {
		return statement
	}
	if statement, _, ok := strings.Cut(fix, " ends it"); ok {
		return statement
	}
	return ""
}

// refusals are the statements that Hazards says would fail, and the fixes.
func refusals(t *testing.T, conn *pgx.Conn) (map[string]bool, []string) {
	t.Helper()
	found, err := cdc.Hazards(t.Context(), conn, "", "gancho")
	if err != nil {
		t.Fatal(err)
	}
	refused, fixes := map[string]bool{}, map[string]bool{}
	for _, h := range found {
		if !h.RefusesStatements() {
			continue
		}
		if h.Update {
			refused["UPDATE "+h.Table.Name] = true
		}
		if h.Delete {
			refused["DELETE "+h.Table.Name] = true
		}
		fixes[h.Fix()] = true
		t.Logf("%s; %s", &h, h.Fix())
	}
	return refused, slices.Sorted(maps.Keys(fixes))
}

// refusedNow tries the statements, in an open transaction, which they leave as it was.
func refusedNow(t *testing.T, conn *pgx.Conn, tables []string) map[string]bool {
	t.Helper()
	refused := map[string]bool{}
	for _, table := range tables {
		for verb, statement := range map[string]string{"UPDATE ": "update only " + table + " set q = q + 1", "DELETE ": "delete from only " + table} {
			switch code := codeOf(t, conn, statement); {
			case refusal(code):
				refused[verb+table] = true
			case code != "":
				t.Fatalf("%s: SQLSTATE %s", statement, code)
			}
		}
	}
	return refused
}

// codeOf is the SQLSTATE of a statement, which is tried and taken back; "": it works.
func codeOf(t *testing.T, conn *pgx.Conn, statement string) string {
	t.Helper()
	do(t, conn, "savepoint before")
	_, err := conn.Exec(context.Background(), statement)
	code := cdc.SQLState(err)
	if err != nil && code == "" {
		t.Fatalf("%s: %v", statement, err)
	}
	do(t, conn, "rollback to before")
	return code
}

// refusal reports whether PostgreSQL refuses a statement so because of a publication.
func refusal(code string) bool { return code == "42P10" || code == "55000" }

// TestCreateHarmsNothing: after what --create creates, or the SQL of the error,
// every UPDATE and DELETE of the application works as before, and the stream has
// the changes; what would break one is refused before anything is created.
func TestCreateHarmsNothing(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	generated := []string{
		"create table itens (id int primary key, qtd int, total int generated always as (qtd * 2) stored)", "alter table itens replica identity full",
		"create table indexada (id int primary key, qtd int, total int generated always as (id * 2) stored not null)", "create unique index indexada_total on indexada (total)",
		"alter table indexada replica identity using index indexada_total",
		"create table simples (id int primary key, qtd int, total int generated always as (qtd * 2) stored)",
	}
	virtual := []string{"create table virtual (id int primary key, qtd int, total int generated always as (qtd * 2) virtual)", "alter table virtual replica identity full"}
	inserts := func(tables ...string) []cdc.TableNeed {
		needs := allOps(tables...)
		for i := range needs {
			needs[i].Update, needs[i].Delete = false, false
		}
		return needs
	}
	for name, c := range map[string]struct {
		since int
		setup []string
		needs []cdc.TableNeed
		// refused is in the error of Prepare, fix in it and run then; from is the
		// version from which on that is so.
		refused, fix string
		from         int
	}{
		"generated":                              {0, generated, allOps("itens", "indexada", "simples"), "", "", 0},
		"generated, inserts":                     {0, generated, inserts("itens", "indexada", "simples"), "", "", 0},
		"publication without generated":          {0, append(slices.Clone(generated), "create publication gancho"), allOps("simples", "itens"), "its replica identity covers generated columns, which the publication leaves out (total)", "ALTER PUBLICATION gancho SET (publish_generated_columns = stored)", 180000},
		"publication without generated, inserts": {0, append(slices.Clone(generated), "create publication gancho for table simples"), inserts("itens", "simples"), "", "", 0},
		"virtual":                                {180000, virtual, allOps("virtual"), "virtual generated columns, which cannot be published (total)", "ALTER TABLE public.virtual REPLICA IDENTITY DEFAULT", 0},
		"virtual, inserts":                       {180000, virtual, inserts("virtual"), "", "", 0},
		"another tool's column list":             {150000, []string{"create table t (id int primary key, qtd int)", "create publication outra for table t (id, qtd)"}, allOps("t"), "", "", 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "")
			conn := dial(t, dsn)
			version := value[int](t, conn, "select current_setting('server_version_num')::int")
			if version < c.since {
				t.Skipf("needs PostgreSQL %d", c.since/10000)
			}
			do(t, conn, c.setup...)
			o := optionsFor(dsn)
			if c.refused != "" && version >= c.from {
				_, err := cdc.Prepare(t.Context(), o, c.needs)
				if err == nil || !strings.Contains(err.Error(), c.refused) || !strings.Contains(err.Error(), c.fix) {
					t.Fatalf("error %v, want %q and %q", err, c.refused, c.fix)
				}
				if n := value[int](t, conn, "select count(*) from pg_publication_rel"); n != 0 {
					t.Errorf("%d tables were added to publications all the same", n)
				}
				do(t, conn, c.fix)
			}
			s := start(t, o, c.needs)
			changes := 0
			for _, need := range c.needs {
				do(t, conn, "insert into "+need.Name+" (id, qtd) values (1, 1)", "update "+need.Name+" set qtd = 2", "update "+need.Name+" set id = 2", "delete from "+need.Name)
				changes++
				if need.Update {
					changes += 3
				}
			}
			for _, line := range s.changes(changes) {
				t.Log(line)
			}
		})
	}
}

// TestPublicationReplaced does what Remarks advises while a bridge runs: no
// change is missed.
func TestPublicationReplaced(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int primary key)", "create table outra (id int)", "create publication gancho for all tables")
	conn := dial(t, dsn)
	remarks, err := cdc.Remarks(t.Context(), conn, "", "gancho")
	if err != nil || len(remarks) != 1 || !strings.Contains(remarks[0].Title, "publication gancho has all tables of the database") {
		t.Errorf("remarks %+v, %v", remarks, err)
	}
	s := start(t, optionsFor(dsn), allOps("t"))
	do(t, conn, "insert into t values (1)")
	got := s.changes(1)
	do(t, conn, "begin", "insert into t values (2)", "drop publication gancho", "create publication gancho for table t", "insert into t values (3)", "commit", "insert into t values (4)", "update outra set id = 1")
	if diff := cmp.Diff([]string{"insert public.t new(id=1)", "insert public.t new(id=2)", "insert public.t new(id=3)", "insert public.t new(id=4)"}, append(got, s.changes(3)...)); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestUnseenRows: partitions and children whose rows are not in the stream.
func TestUnseenRows(t *testing.T) {
	t.Parallel()
	conn := dial(t, pg.Database(t, "", "create table acessos (id int primary key) partition by range (id)", "create table acessos_0 partition of acessos for values from (0) to (10)",
		"create unlogged table acessos_1 partition of acessos for values from (10) to (20)",
		"create table outros (id int not null) partition by range (id)", "create foreign data wrapper f", "create server s foreign data wrapper f", "create foreign table outros_0 partition of outros default server s",
		"create table vendas (id int primary key)", "create table vendas_0 () inherits (vendas)", "create table vendas_00 () inherits (vendas_0)", "create unlogged table vendas_1 () inherits (vendas)",
		"create publication gancho for table acessos, only vendas with (publish_via_partition_root)", "create publication gancho_insert for table outros, only vendas_0 with (publish = 'insert')"))
	unseen := func(known ...cdc.Ruled) (all []string) {
		t.Helper()
		found, err := cdc.Hazards(t.Context(), conn, "", "gancho", known...)
		if err != nil {
			t.Fatal(err)
		}
		for _, h := range found {
			if h.RefusesStatements() {
				t.Errorf("%s", &h)
			}
			all = append(all, string(h.Reason)+" "+h.Table.Name)
		}
		return all
	}
	want := []string{"unlogged acessos_1", "foreign outros_0", "child vendas_00", "unlogged vendas_1"}
	if diff := cmp.Diff(want, unseen()); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	// With the tables that rules know, which need not be published yet.
	ruled := func(table string) cdc.Ruled {
		return cdc.Ruled{OID: value[uint32](t, conn, "select $1::regclass::oid", table)}
	}
	known := []cdc.Ruled{ruled("acessos"), ruled("vendas"), ruled("vendas_0"), ruled("vendas_00")}
	if diff := cmp.Diff([]string{"unlogged acessos_1", "unlogged vendas_1"}, unseen(known...)); diff != "" {
		t.Errorf("of the rules (-want +got):\n%s", diff)
	}
	do(t, conn, "drop publication gancho", "create publication gancho for all tables", "create table vendas_2 (primary key (id)) inherits (vendas)", "alter table vendas_0 add primary key (id)", "alter table vendas_00 add primary key (id)",
		"drop foreign table outros_0", "alter table outros add primary key (id)")
	if diff := cmp.Diff([]string{"unlogged acessos_1", "unlogged vendas_1", "child vendas_2"}, unseen(known...)); diff != "" {
		t.Errorf("of the rules, later (-want +got):\n%s", diff)
	}
	known = []cdc.Ruled{known[0], {OID: known[1].OID, Alone: true}, known[2]}
	if diff := cmp.Diff([]string{"unlogged acessos_1", "alone vendas_00", "child vendas_00", "unlogged vendas_1", "alone vendas_2"}, unseen(known...)); diff != "" {
		t.Errorf("of rules that are of one table (-want +got):\n%s", diff)
	}
}
