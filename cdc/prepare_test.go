package cdc_test

import (
	"context"
	"errors"
	"flag"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/testservers"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// golden compares with a file of testdata, in which the test's own names stand
// for what differs from run to run.
func golden(t *testing.T, name, got string, replace ...string) {
	t.Helper()
	got = strings.NewReplacer(replace...).Replace(got) + "\n"
	path := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}

var legacy = []string{
	"create table clientes (id serial primary key, nome text)",
	"create table parametros (chave varchar(60), valor text)",
	"create table estoque_movimentos (produto_id int, quantidade numeric)",
	"create table acessos (id int, dia date, primary key (id, dia)) partition by range (dia)",
	"create table acessos_11 partition of acessos for values from ('2026-11-01') to ('2026-12-01')",
	"create table eventos (id int, dia date) partition by range (dia)",
	"create table eventos_11 partition of eventos (primary key (id)) for values from ('2026-11-01') to ('2026-12-01')",
	"create unlogged table carrinhos (id uuid primary key)",
	"create view vw_clientes as select * from clientes",
	"create table adiada (id int primary key deferrable)",
	`create table "TB_FORNECEDOR" ("ID" int primary key)`,
	"create table pessoas (id int primary key)",
	"create table colaboradores () inherits (pessoas)",
}

// TestSetupErrors: what is missing is said in full, with the SQL that makes it.
func TestSetupErrors(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	update := func(table string) cdc.TableNeed { return allOps(table)[0] }
	insert := func(table string) cdc.TableNeed {
		return cdc.TableNeed{Name: allOps(table)[0].Name, Insert: true}
	}
	for _, test := range []struct {
		name  string
		setup []string
		needs []cdc.TableNeed
		edit  func(*cdc.Options)
	}{
		{name: "nothing_there", needs: []cdc.TableNeed{update("clientes"), update(`"TB_FORNECEDOR"`), update("acessos"), update("pessoas"), insert("estoque_movimentos"), update("clientes")}},
		{name: "table_missing", needs: []cdc.TableNeed{update("clientes"), update("outra.cliente")}},
		{name: "no_identity", needs: []cdc.TableNeed{update("clientes"), update("parametros"), update("adiada"), update("eventos")}},
		{name: "unpublishable", needs: []cdc.TableNeed{update("carrinhos"), update("vw_clientes"), {Schema: "pg_catalog", Name: "pg_class", Insert: true}}},
		{name: "table_not_in_publication", setup: []string{"create publication gancho for table clientes"}, needs: []cdc.TableNeed{update("clientes"), update(`"TB_FORNECEDOR"`), insert("parametros")}},
		{name: "operation_not_published", setup: []string{"create publication gancho for table clientes with (publish = 'insert')"}, needs: []cdc.TableNeed{update("clientes")}},
		{name: "members_without_identity", setup: []string{"create publication gancho for table parametros with (publish = 'insert')"},
			needs: []cdc.TableNeed{update("clientes"), insert("parametros"), insert("estoque_movimentos")}},
		{name: "not_via_root", setup: []string{"create publication gancho for table acessos"}, needs: []cdc.TableNeed{update("acessos")}},
		{name: "partition_under_root", needs: []cdc.TableNeed{update("acessos_11")},
			setup: []string{"create publication gancho for table acessos with (publish_via_partition_root = true)"}},
		{name: "insert_publication_unsafe", needs: []cdc.TableNeed{insert("parametros")}, setup: []string{"create publication gancho_insert", "create publication gancho"}},
		{name: "slot_of_another_plugin", needs: []cdc.TableNeed{update("clientes")}, setup: []string{"create publication gancho for table clientes",
			"select pg_create_logical_replication_slot('slot_' || current_database(), 'test_decoding')"}},
		{name: "bad_slot_name", edit: func(o *cdc.Options) { o.Slot = "Gancho" }},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "", append(append([]string{}, legacy...), test.setup...)...)
			o := optionsFor(dsn)
			o.Create = false
			if test.edit != nil {
				test.edit(&o)
			}
			_, err := cdc.Prepare(t.Context(), o, test.needs)
			if err == nil {
				t.Fatal("no error")
			}
			golden(t, test.name, err.Error(), ", failover => true", "", optionsFor(dsn).Slot, "SLOT", strings.TrimPrefix(optionsFor(dsn).Slot, "slot_"), "DATABASE")
			if slots := value[int](t, dial(t, dsn), "select count(*) from pg_replication_slots where database = current_database() and plugin = 'pgoutput'"); slots != 0 {
				t.Errorf("%d slots were made without being asked for", slots)
			}
		})
	}
}

// TestStatementsWork: the SQL of the error, run as it stands, makes the source ready.
func TestStatementsWork(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", legacy...)
	o := optionsFor(dsn)
	o.Create = false
	needs := append(allOps("clientes", `"TB_FORNECEDOR"`, "acessos", "pessoas"), cdc.TableNeed{Name: "estoque_movimentos", Insert: true})
	_, err := cdc.Prepare(t.Context(), o, needs)
	var setup *cdc.SetupError
	if !errors.As(err, &setup) {
		t.Fatalf("error %v", err)
	}
	conn := dial(t, dsn)
	for _, s := range cdc.Gather(cdc.Statements(setup.Findings)) {
		do(t, conn, s.SQL)
	}
	source := prepare(t, o, needs)
	if source.SlotCreated || source.ConfirmedFlush == 0 {
		t.Errorf("source %+v", source)
	}
	if diff := cmp.Diff([]string{"gancho", "gancho_insert"}, source.Publications); diff != "" {
		t.Errorf("publications (-want +got):\n%s", diff)
	}
	// What could not be updated if it were published still can.
	do(t, conn, "insert into estoque_movimentos values (1, 1)", "update estoque_movimentos set quantidade = 2", "insert into colaboradores values (1)", "update colaboradores set id = 2")
}

// TestCreate: what is missing is made, what is there is added to, nothing is dropped.
func TestCreate(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", append(append([]string{}, legacy...), "create publication gancho for table clientes, pessoas")...)
	o := optionsFor(dsn)
	needs := append(allOps("clientes", `"TB_FORNECEDOR"`), cdc.TableNeed{Name: "parametros", Insert: true, Truncate: true})
	source := prepare(t, o, needs)
	if !source.SlotCreated || source.Identity.SystemID == "" || source.Identity.Timeline != 1 || source.Identity.Database == "" {
		t.Errorf("source %+v", source)
	}
	if again := prepare(t, o, needs); again.SlotCreated || again.Identity != source.Identity || again.ConfirmedFlush != source.ConfirmedFlush {
		t.Errorf("prepared again: %+v, before %+v", again, source)
	}
	conn := dial(t, dsn)
	members := value[string](t, conn, `select string_agg(pubname || ' ' || tablename, ', ' order by pubname, tablename) from pg_publication_tables`)
	if want := "gancho TB_FORNECEDOR, gancho clientes, gancho colaboradores, gancho pessoas, gancho_insert parametros"; members != want {
		t.Errorf("members %s, want %s", members, want)
	}
	if _, err := cdc.Prepare(t.Context(), o, allOps("parametros")); err == nil || !strings.Contains(err.Error(), "REPLICA IDENTITY FULL") {
		t.Errorf("updates of a table without identity: %v", err)
	}
	do(t, conn, "alter table parametros replica identity full")
	prepare(t, o, allOps("parametros"))
	if n := value[int](t, conn, "select count(*) from pg_publication_tables where pubname = 'gancho' and tablename = 'parametros'"); n != 1 {
		t.Error("a table that got an identity was not added")
	}
}

// TestPrivileges: a role that may not replicate, or does not own the tables.
func TestPrivileges(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", legacy...)
	database := strings.TrimPrefix(optionsFor(dsn).Slot, "slot_")
	conn := dial(t, dsn)
	do(t, conn, `create role "leitor_`+database+`" login`, `create role replica_`+database+` login replication`)
	t.Cleanup(func() {
		do(t, conn, `drop role "leitor_`+database+`"`, `drop role replica_`+database)
	})
	as := func(role string) cdc.Options {
		u, err := url.Parse(dsn)
		if err != nil {
			t.Fatal(err)
		}
		u.User = url.User(role)
		o := optionsFor(dsn)
		o.DSN = u.String()
		return o
	}
	_, err := cdc.Prepare(t.Context(), as("leitor_"+database), allOps("clientes"))
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "no_replication", err.Error(), database, "DATABASE", "must be superuser or replication role to start walsender", "REASON",
		"permission denied to start WAL sender (Only roles with the REPLICATION attribute may start a WAL sender process)", "REASON")
	_, err = cdc.Prepare(t.Context(), as("replica_"+database), allOps("clientes"))
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "not_owner", err.Error(), database, "DATABASE")
}

// TestServerSettings: a server that cannot decode, or has no slot left.
func TestServerSettings(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	server, err := testservers.StartPostgres(testservers.PostgresOptions{Settings: map[string]string{"max_replication_slots": "1", "max_slot_wal_keep_size": "'1MB'", "min_wal_size": "'32MB'", "max_wal_size": "'32MB'", "wal_keep_size": "0"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(server.Close)
	dsn := server.Database(t, "", legacy...)
	conn := dial(t, dsn)
	o := optionsFor(dsn)
	source := prepare(t, o, allOps("clientes"))
	other := o
	other.Slot += "_2"
	_, err = cdc.Prepare(t.Context(), other, allOps("clientes"))
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "no_slot_left", err.Error())
	other.Temporary = true
	temporary := prepare(t, other, allOps("clientes"))
	if err := cdc.NewReader(other, temporary).Run(t.Context(), onlooker()); err == nil || !strings.Contains(err.Error(), "raise max_replication_slots") {
		t.Errorf("a temporary slot where all are in use: %v", err)
	}

	// The slot loses its WAL: found by Prepare, and by a reader that is told nothing.
	for range 4 {
		do(t, conn, "select pg_logical_emit_message(false, 'x', repeat('x', 1000000))", "select pg_switch_wal()", "checkpoint")
	}
	eventually(t, "the slot to be lost", func() bool {
		do(t, conn, "select pg_switch_wal()", "checkpoint")
		stats, err := cdc.ReadSlot(context.Background(), conn, o.Slot)
		return err == nil && stats.WALStatus == "lost"
	})
	_, err = cdc.Prepare(t.Context(), o, allOps("clientes"))
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "slot_lost", err.Error(), o.Slot, "SLOT")
	err = cdc.NewReader(o, source).Run(t.Context(), onlooker())
	if err == nil || !strings.Contains(err.Error(), "gancho recover") {
		t.Errorf("read a lost slot: %v", err)
	}

	eventually(t, "the slot to be released", func() bool {
		_, err := conn.Exec(context.Background(), "select pg_drop_replication_slot($1)", o.Slot)
		return err == nil
	})
	do(t, conn, "alter system set wal_level = 'replica'")
	_ = conn.Close(context.Background())
	server.Stop("fast")
	if err := server.Start(); err != nil {
		t.Fatal(err)
	}
	_, err = cdc.Prepare(t.Context(), o, allOps("clientes"))
	if err == nil {
		t.Fatal("no error")
	}
	golden(t, "wal_level", err.Error(), ", failover => true", "", o.Slot, "SLOT")
}

// TestLoadTable: what the catalogue says about a table.
func TestLoadTable(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", append(append([]string{}, legacy...), "create schema outra", "create table outra.clientes (a int, b int, c int generated always as (a + 1) stored, primary key (b, a))",
		"create publication p for table outra.clientes with (publish = 'insert, update')", "create publication tudo for all tables")...)
	conn := dial(t, dsn)
	load := func(schema, name string) *cdc.Table {
		t.Helper()
		table, err := cdc.LoadTable(t.Context(), conn, "", schema, name)
		if err != nil {
			t.Fatal(err)
		}
		return table
	}
	table := load("outra", "clientes")
	if diff := cmp.Diff(&cdc.Table{Kind: 'r', Persistence: 'p', PrimaryKey: []string{"b", "a"}, Generated: map[string]string{"c": "(a + 1)"}, NotNull: map[string]bool{"a": true, "b": true}, Relation: &cdc.Relation{Schema: "outra", Name: "clientes", ReplicaIdentity: 'd',
		Columns: []cdc.Column{{Name: "a", Key: true, TypeMod: -1}, {Name: "b", Key: true, TypeMod: -1}}},
		Memberships: []cdc.Membership{{Publication: "p", Insert: true, Update: true, Columns: []string{"a", "b"}}, {Publication: "tudo", Insert: true, Update: true, Delete: true, Truncate: true, Columns: []string{"a", "b"}}}},
		table, cmpopts.IgnoreFields(cdc.Relation{}, "OID"), cmpopts.IgnoreFields(cdc.Column{}, "Type"), cmpopts.IgnoreFields(cdc.Membership{}, "Columns"), cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
	if got := load("", "clientes").Relation.Schema; got != "public" {
		t.Errorf("clientes without a schema is in %s", got)
	}
	do(t, conn, "set search_path = outra, public")
	if got := load("", "clientes").Relation.Schema; got != "outra" {
		t.Errorf("clientes without a schema is in %s", got)
	}
	if got := load("", "acessos_11").PartitionRoot; got != (cdc.Name{Schema: "public", Name: "acessos"}) {
		t.Errorf("root of acessos_11: %v", got)
	}
	if refused := load("", "eventos").Refused; len(refused) != 1 || refused[0].Table != (cdc.Name{Schema: "public", Name: "eventos"}) || refused[0].Reason != cdc.HazardIdentity {
		t.Errorf("refused: %+v", refused)
	}
	if got := load("", "vw_clientes"); got.Kind != 'v' || len(got.Relation.Columns) != 2 {
		t.Errorf("view %+v", got)
	}
	if !load("", "pessoas").Inherited || load("", "acessos").Inherited {
		t.Error("inheritance is wrong")
	}
	for _, name := range []cdc.Name{{Name: "TB_fornecedor"}, {Schema: "nada", Name: "clientes"}, {Name: "clientes_pkey"}} {
		if _, err := cdc.LoadTable(t.Context(), conn, "", name.Schema, name.Name); !errors.Is(err, cdc.ErrNoTable) {
			t.Errorf("%s: %v", name, err)
		}
	}
	names, err := cdc.ListTables(t.Context(), conn, "")
	if err != nil {
		t.Fatal(err)
	}
	if len(names) != len(legacy)+1 || names[0] != (cdc.Name{Schema: "outra", Name: "clientes"}) {
		t.Errorf("tables %v", names)
	}
}

func TestParseName(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("x", 64)
	conn := dial(t, pg.DSN("postgres"))
	for in, want := range map[string]string{
		"clientes": "clientes", " Public.Clientes ": "public.clientes", `"TB_FORNECEDOR"`: `"TB_FORNECEDOR"`, `"a""b".c$1`: `"a""b".c$1`,
		"_x": "_x", "Ação": `"ação"`, `"order"`: `"order"`, `"a.b"`: `"a.b"`, `"select".x`: `"select".x`, long[:63]: long[:63],
		"": "", "a.": "", ".a": "", "a.b.c": "", `"a`: "", `""`: "", "1a": "", "a b": "", "a-b": "", long: "", `"` + long + `"`: "", "a;drop": "", "\"a\x00\"": "",
	} {
		name, err := cdc.ParseName(in)
		switch {
		case want == "" && err == nil:
			t.Errorf("%q: got %v, want an error", in, name)
		case want != "" && (err != nil || name.String() != want):
			t.Errorf("%q: got %v, %v; want %s", in, name, err, want)
		case want != "":
			// PostgreSQL reads what we print as we read it.
			if parts := value[[]string](t, conn, "select parse_ident($1)", name.String()); parts[len(parts)-1] != name.Name {
				t.Errorf("%q: PostgreSQL reads %s as %q, not %q", in, name, parts, name.Name)
			}
		}
	}
	// All reserved words are quoted, whatever the server's version reserves.
	rows, err := conn.Query(t.Context(), "select word from pg_get_keywords() where catcode <> 'U'")
	if err != nil {
		t.Fatal(err)
	}
	words, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	for _, word := range words {
		if got := cdc.QuoteIdentifier(word); got != `"`+word+`"` {
			t.Errorf("reserved word %s is not quoted", got)
		}
	}
}
