package cdc_test

import (
	"context"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
)

// TestChanges: every operation under every replica identity.
func TestChanges(t *testing.T) {
	t.Parallel()
	for _, test := range []struct {
		name       string
		setup      []string
		tables     []string
		statements []string
		want       []string
	}{
		{
			name: "default identity",
			setup: []string{
				"create table t (id int primary key, nome varchar(20), obs text)",
			},
			tables: []string{"t"},
			statements: []string{
				"insert into t values (1, 'Ana', null)",
				"update t set nome = 'Bia' where id = 1",
				"update t set id = 2 where id = 1",
				"delete from t",
			},
			want: []string{
				"insert public.t new(id=1 nome=Ana obs=<null>)",
				"update public.t new(id=1 nome=Bia obs=<null>)",
				"update public.t new(id=2 nome=Bia obs=<null>) old(id=1 nome=<missing> obs=<missing>)",
				"delete public.t old(id=2 nome=<missing> obs=<missing>)",
			},
		},
		{
			name: "full identity",
			setup: []string{
				"create table t (id int primary key, nome varchar(20), obs text)",
				"alter table t replica identity full",
			},
			tables: []string{"t"},
			statements: []string{
				"insert into t values (1, 'Ana', null)",
				"update t set nome = 'Bia' where id = 1",
				"delete from t",
			},
			want: []string{
				"insert public.t new(id=1 nome=Ana obs=<null>)",
				"update public.t new(id=1 nome=Bia obs=<null>) old(id=1 nome=Ana obs=<null>)",
				"delete public.t old(id=1 nome=Bia obs=<null>)",
			},
		},
		{
			name: "identity by an index",
			setup: []string{
				"create table t (empresa_id int not null, id int primary key, nome text)",
				"create unique index t_identity on t (empresa_id, id)",
				"alter table t replica identity using index t_identity",
			},
			tables: []string{"t"},
			statements: []string{
				"insert into t values (7, 1, 'Ana')",
				"update t set nome = 'Bia'",
				"update t set empresa_id = 8",
				"delete from t",
			},
			want: []string{
				"insert public.t new(empresa_id=7 id=1 nome=Ana)",
				"update public.t new(empresa_id=7 id=1 nome=Bia)",
				"update public.t new(empresa_id=8 id=1 nome=Bia) old(empresa_id=7 id=1 nome=<missing>)",
				"delete public.t old(empresa_id=8 id=1 nome=<missing>)",
			},
		},
		{
			name: "unchanged out-of-line values",
			setup: []string{
				"create table d (id int primary key, n int, obs text)",
				"alter table d alter obs set storage external",
				"create table f (id int primary key, n int, obs text)",
				"alter table f alter obs set storage external",
				"alter table f replica identity full",
			},
			tables: []string{"d", "f"},
			statements: []string{
				"insert into d values (1, 1, repeat('x', 5000))",
				"update d set n = 2",
				"update d set obs = repeat('y', 6000)",
				"insert into f values (1, 1, repeat('x', 5000))",
				"update f set n = 2",
				"update f set obs = null",
			},
			want: []string{
				"insert public.d new(id=1 n=1 obs=<5000 bytes>)",
				"update public.d new(id=1 n=2 obs=<unchanged>)",
				"update public.d new(id=1 n=2 obs=<6000 bytes>)",
				"insert public.f new(id=1 n=1 obs=<5000 bytes>)",
				"update public.f new(id=1 n=2 obs=<5000 bytes>) old(id=1 n=1 obs=<5000 bytes>)",
				"update public.f new(id=1 n=2 obs=<null>) old(id=1 n=2 obs=<5000 bytes>)",
			},
		},
		{
			name: "partitions under their root",
			setup: []string{
				"create table acessos (id int, dia date, primary key (id, dia)) partition by range (dia)",
				"create table acessos_11 partition of acessos for values from ('2026-11-01') to ('2026-12-01')",
				"create table acessos_12 partition of acessos for values from ('2026-12-01') to ('2027-01-01')",
			},
			tables: []string{"acessos"},
			statements: []string{
				"insert into acessos values (1, '2026-11-30')",
				"update acessos set dia = '2026-12-01'",
				"truncate acessos",
			},
			want: []string{
				"insert public.acessos new(id=1 dia=2026-11-30)",
				"delete public.acessos old(id=1 dia=2026-11-30)",
				"insert public.acessos new(id=1 dia=2026-12-01)",
				"truncate public.acessos",
			},
		},
		{
			name: "inheritance children under their own name",
			setup: []string{
				"create table pessoas (codigo serial primary key, nome text)",
				"create table colaboradores (cargo text, primary key (codigo)) inherits (pessoas)",
				"create table avulsos () inherits (pessoas)", // no primary key: must not be published by the way
			},
			tables: []string{"pessoas", "colaboradores"},
			statements: []string{
				"insert into pessoas values (1, 'Ana')",
				"insert into colaboradores values (2, 'Bia', 'caixa')",
				"insert into avulsos values (3, 'Caio')",
				"update pessoas set nome = upper(nome) where codigo <> 1",
			},
			want: []string{
				"insert public.pessoas new(codigo=1 nome=Ana)",
				"insert public.colaboradores new(codigo=2 nome=Bia cargo=caixa)",
				"update public.colaboradores new(codigo=2 nome=BIA cargo=caixa)",
			},
		},
		{
			name: "truncate of several tables",
			setup: []string{
				"create table a (id int primary key)",
				"create table b (id int primary key references a)",
				"create table c (id int primary key)",
			},
			tables:     []string{"a", "b"},
			statements: []string{"insert into c values (1)", "truncate a, c cascade"},
			want:       []string{"truncate public.a", "truncate public.b"},
		},
		{
			name: "quoted names and another schema",
			setup: []string{
				`create schema "Loja Nº 1"`,
				`create table "Loja Nº 1"."TB_FORNECEDOR" ("ID ""X""" int primary key, "VL_ÚLTIMA_COMPRA" numeric)`,
			},
			tables:     []string{`"Loja Nº 1"."TB_FORNECEDOR"`},
			statements: []string{`insert into "Loja Nº 1"."TB_FORNECEDOR" values (1, 10.50)`},
			want:       []string{`insert "Loja Nº 1"."TB_FORNECEDOR" new(ID "X"=1 VL_ÚLTIMA_COMPRA=10.50)`},
		},
		{
			name: "a table without identity beside one with",
			setup: []string{
				"create table livro (produto int, quantidade int)",
				"create table produtos (id int primary key)",
			},
			tables: []string{"produtos"},
			statements: []string{
				"insert into livro values (1, 10)",
				"update livro set quantidade = 11", // the application's own UPDATE goes on working
				"insert into produtos values (1)",
				"update produtos set id = 2",
			},
			want: []string{
				"insert public.livro new(produto=1 quantidade=10)",
				"insert public.produtos new(id=1)",
				"update public.produtos new(id=2) old(id=1)",
			},
		},
		{
			name:   "stored generated columns are not sent, dropped ones neither",
			setup:  []string{"create table t (id int primary key, gone int, v int, dobro int generated always as (v * 2) stored, fim int)", "alter table t drop gone"},
			tables: []string{"t"},
			statements: []string{
				"insert into t (id, v, fim) values (1, 2, 3)",
			},
			want: []string{"insert public.t new(id=1 v=2 fim=3)"},
		},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "", test.setup...)
			needs := allOps(test.tables...)
			if test.name == "a table without identity beside one with" {
				needs = append(needs, cdc.TableNeed{Name: "livro", Insert: true})
			}
			s := start(t, optionsFor(dsn), needs)
			do(t, dial(t, dsn), test.statements...)
			if diff := cmp.Diff(test.want, s.changes(len(test.want))); diff != "" {
				t.Errorf("changes (-want +got):\n%s", diff)
			}
		})
	}
}

// TestTransactionsAndPositions: changes of one transaction share its commit
// LSN and are counted from 0; a TRUNCATE counts once per table.
func TestTransactionsAndPositions(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table a (id int primary key)", "create table b (id int primary key)", "create table outside (id int primary key)")
	s := start(t, optionsFor(dsn), allOps("a", "b"))
	conn := dial(t, dsn)
	before := time.Now().Add(-time.Minute)
	do(t, conn, "begin; insert into a values (1), (2); insert into outside values (1); savepoint s; insert into b values (1); rollback to s; truncate a, b; insert into b values (2); commit")
	do(t, conn, "begin; insert into a values (9); rollback", "insert into a values (3)")

	first, second := s.next(), s.next()
	want := []string{"insert public.a new(id=1)", "insert public.a new(id=2)", "truncate public.a", "truncate public.b", "insert public.b new(id=2)"}
	if diff := cmp.Diff(want, first.Changes); diff != "" {
		t.Errorf("first transaction (-want +got):\n%s", diff)
	}
	for i, p := range first.Positions {
		if want := (cdc.Position{Commit: first.Commit, Ordinal: uint64(i)}); p != want {
			t.Errorf("change %d is at %v, want %v", i, p, want)
		}
	}
	if diff := cmp.Diff([]string{"insert public.a new(id=3)"}, second.Changes); diff != "" {
		t.Errorf("second transaction (-want +got):\n%s", diff)
	}
	if first.Commit >= first.End || first.End > second.Commit {
		t.Errorf("positions do not rise: %s..%s, %s..%s", first.Commit, first.End, second.Commit, second.End)
	}
	if first.Time.Before(before) || first.Time.After(time.Now().Add(time.Minute)) || first.Time.Location() != time.UTC {
		t.Errorf("commit time %v", first.Time)
	}
	if first.XID == 0 || first.XID == second.XID {
		t.Errorf("xids %d, %d", first.XID, second.XID)
	}
}

// TestSchemaChange: a changed table makes a new relation, an unchanged one
// that is described again keeps its pointer.
func TestSchemaChange(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create type sentido as enum ('ENTRADA')", "create table t (id int primary key, s sentido)")
	s := start(t, optionsFor(dsn), allOps("t"))
	conn := dial(t, dsn)
	relationAfter := func(statements ...string) *cdc.Relation {
		t.Helper()
		do(t, conn, statements...)
		return s.next().Relations[0]
	}
	first := relationAfter("insert into t values (1, 'ENTRADA')")
	if again := relationAfter("insert into t values (2, 'ENTRADA')"); again != first {
		t.Error("a table without change has another relation")
	}
	if again := relationAfter("alter publication gancho set (publish_via_partition_root = true)", "analyze t", "insert into t values (3, 'ENTRADA')"); again != first {
		t.Error("a table that was described again without change has another relation")
	}
	label := relationAfter("alter type sentido add value 'SAIDA'", "alter table t add n int", "insert into t values (4, 'SAIDA', 1)")
	if label == first || label.Column("n") != 2 {
		t.Errorf("after a column was added: %+v", label)
	}
	if diff := cmp.Diff([]string{"ENTRADA", "SAIDA"}, label.Columns[1].Type.Labels); diff != "" {
		t.Errorf("labels (-want +got):\n%s", diff)
	}
	// A type made while streaming is looked up when it first appears.
	added := relationAfter("create domain valor as numeric(12,2)", "alter table t add v valor[]", "insert into t values (5, null, null, '{1.5,null}')")
	v := added.Columns[3].Type
	if v.Kind != cdc.KindArray || v.Elem.Kind != cdc.KindDomain || v.Elem.Name != "valor" || v.Elem.Base().Name != "numeric" || v.Elem.TypeMod < 0 {
		t.Errorf("type of the new column: %+v of %+v", v, v.Elem)
	}
	// A type that is gone by the time its change is read is unknown; the value stays.
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	do(t, conn, "create type nota as (n int, obs text)", "alter table t add c nota", "insert into t values (6, null, null, null, '(1,\"a b\")')",
		"alter table t drop c", "drop type nota")
	s = run(t, optionsFor(dsn), s.source, newRecorder())
	gone := s.next()
	if kind := gone.Relations[0].Columns[4].Type.Kind; kind != cdc.KindUnknown {
		t.Errorf("kind of a type that is gone: %d", kind)
	}
	if diff := cmp.Diff([]string{`insert public.t new(id=6 s=<null> n=<null> v=<null> c=(1,"a b"))`}, gone.Changes); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

// TestLargeRow: a row far larger than a chunk passes, with small ones around it.
func TestLargeRow(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int primary key, v text)")
	s := start(t, optionsFor(dsn), allOps("t"))
	do(t, dial(t, dsn), "insert into t select i, repeat('x', i * 1000) from generate_series(1, 300) i", "insert into t values (1000, repeat('y', 5000000))",
		"insert into t select 2000 + i, repeat(chr(64 + i), 262144 + i) from generate_series(1, 20) i", "insert into t values (3000, 'z')")
	got := s.changes(322)
	if got[299] != "insert public.t new(id=300 v=<300000 bytes>)" || got[300] != "insert public.t new(id=1000 v=<5000000 bytes>)" ||
		got[320] != "insert public.t new(id=2020 v=<262164 bytes>)" || got[321] != "insert public.t new(id=3000 v=z)" {
		t.Errorf("got %s, %s, %s, %s", got[299], got[300], got[320], got[321])
	}
}

// TestMessages: a logical message is passed over, and its transaction moves the position.
func TestMessages(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table t (id int primary key)")
	s := start(t, optionsFor(dsn), allOps("t"))
	conn := dial(t, dsn)
	do(t, conn, "select pg_logical_emit_message(true, 'gancho', 'x')", "select pg_logical_emit_message(false, 'gancho', '')")
	lsn := value[cdc.LSN](t, conn, "select pg_current_wal_lsn()")
	eventually(t, "the message's transaction to be confirmed", func() bool { return s.reader.Confirmed() >= lsn })
	if err := s.end(); err != nil {
		t.Fatal(err)
	}
	stats, err := cdc.ReadSlot(context.Background(), conn, optionsFor(dsn).Slot)
	if err != nil {
		t.Fatal(err)
	}
	if stats.ConfirmedFlush < lsn || stats.Active || stats.WALStatus != "reserved" || stats.HeldBytes < stats.UnconfirmedBytes {
		t.Errorf("after the end: %+v, want confirmed at least %s", stats, lsn)
	}
}
