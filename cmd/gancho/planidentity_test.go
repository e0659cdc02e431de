package main_test

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/testservers"
)

// TestPlanWeakPartitions: partitions of a table with a primary key that do not use it as their replica identity. Without one,
// the application's UPDATE and DELETE would fail; with another index, deleted rows would come without the key. plan gives each
// the least that it needs, and leaves the others alone.
func TestPlanWeakPartitions(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, pg, "rules:\n  - {event: acesso, table: acessos, on: [update, delete], columns: [id, sentido]}\n",
		"create table acessos (id int primary key, sentido text, lote int not null) partition by range (id)",
		"create table acessos_1 partition of acessos for values from (0) to (10)", "alter table acessos_1 replica identity nothing",
		"create table acessos_2 partition of acessos for values from (10) to (20)", "create unique index acessos_2_lote on acessos_2 (lote)", "alter table acessos_2 replica identity using index acessos_2_lote",
		"create table acessos_3 partition of acessos for values from (20) to (40) partition by range (id)",
		"create table acessos_31 partition of acessos_3 for values from (20) to (30)", "alter table acessos_31 replica identity nothing",
		"create table acessos_32 partition of acessos_3 for values from (30) to (40)", "alter table acessos_32 replica identity full",
		"create table acessos_4 partition of acessos default")
	before := w.dump()
	if _, stderr := w.failedCheck(); !strings.Contains(stderr, "partitions of table public.acessos have no replica identity") || strings.Contains(stderr, "add a primary key") {
		t.Errorf("check says:\n%s", stderr)
	}
	text, _ := w.plan(3)
	for _, part := range []string{
		"~ ALTER TABLE public.acessos_1 REPLICA IDENTITY DEFAULT;", "~ ALTER TABLE public.acessos_31 REPLICA IDENTITY DEFAULT;",
		"+ CREATE UNIQUE INDEX CONCURRENTLY acessos_2_gancho_identity ON public.acessos_2 (id, lote);", "~ ALTER TABLE public.acessos_2 REPLICA IDENTITY USING INDEX acessos_2_gancho_identity;",
	} {
		if !strings.Contains(text, part) {
			t.Errorf("the plan does not have %q:\n%s", part, text)
		}
	}
	if n := strings.Count(text, "REPLICA IDENTITY "); n != 6 { // three with their undo
		t.Errorf("%d changes and undos of identities:\n%s", n, text)
	}
	w.plan(0, "--apply", "--yes")
	if text, _ := w.plan(0); !strings.Contains(text, "No changes.") {
		t.Errorf("planned again:\n%s", text)
	}
	w.exec("insert into acessos select i, 'e', i from generate_series(0, 45, 5) i")
	w.exec("update acessos set sentido = 's'")
	w.exec("delete from acessos")
	w.plan(0, "--undo", "--yes")
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the way back (-before +after):\n%s", diff)
	}

	// Of one that has another identity no statement fails: what is missing is told all the same.
	w.exec("alter table acessos_1 replica identity default")
	w.exec("alter table acessos_31 replica identity default")
	w.rules = "rules:\n  - {event: acesso, table: acessos, on: delete, when: old.id > 5, columns: [id]}\n"
	w.path = w.write()
	if _, stderr := w.failedCheck(); !strings.Contains(stderr, `needs the old value of column "id", which public.acessos_2 of table public.acessos does not send`) {
		t.Errorf("check says:\n%s", stderr)
	}
	w.plan(0, "--apply", "--yes")
	if text, _ := w.plan(0); !strings.Contains(text, "No changes.") {
		t.Errorf("planned again:\n%s", text)
	}
	w.plan(0, "--undo", "--yes")
}

// failedCheck runs gancho check, which fails.
func (w *planWorld) failedCheck() (stdout, stderr string) {
	w.t.Helper()
	code, stdout, stderr := command(w.t, "check", "--config", w.path)
	if code != 1 {
		w.t.Fatalf("gancho check: exit %d:\n%s%s", code, stdout, stderr)
	}
	return stdout, stderr
}

// TestPlanWarnsOfLargeRows: where a plan has REPLICA IDENTITY FULL, and rows may be too large for that, it says what would fail.
func TestPlanWarnsOfLargeRows(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, pg, "rules:\n  - {event: arquivo, table: arquivos, on: update, when: old.n <> new.n, columns: [id]}\n  - {event: nota, table: notas, on: update, when: old.n <> new.n, columns: [id]}\n",
		"create table arquivos (id int primary key, n int, corpo text, anexo text)", "alter table arquivos alter corpo set storage external, alter anexo set storage external",
		"insert into arquivos values (1, 1, repeat('x', 18000000), repeat('y', 18000000))", "create table notas (id int primary key, n int, corpo text, anexo text)", "insert into notas values (1, 1, 'a', 'b')", "analyze arquivos", "analyze notas")
	text, _ := w.plan(3)
	const warning = "warning: its rows have 36 MB of large values on average; with it the application's own UPDATE and DELETE of a row above 1 GB fail"
	before, behind, found := strings.Cut(text, warning)
	if !found || strings.Count(text, "warning:") != 1 || !strings.Contains(before, "ALTER TABLE public.arquivos REPLICA IDENTITY FULL;") || !strings.Contains(before+behind, "ALTER TABLE public.notas REPLICA IDENTITY FULL;") {
		t.Errorf("the plan:\n%s", text)
	}
	if code, stdout, _ := inPortuguese(t, "plan", "--config", w.path); code != 3 || !strings.Contains(stdout, "aviso: as linhas dela têm em média 36 MB de valores grandes") {
		t.Errorf("in Portuguese:\n%s", stdout)
	}
	if text, _ := w.plan(3, "--script"); !strings.Contains(text, "-- "+warning) {
		t.Errorf("the ticket:\n%s", text)
	}
	// While a table is rewritten, its rows cannot be seen, and the plan does not wait for that.
	rewriting := w.connect()
	tx, err := rewriting.Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = tx.Rollback(context.Background()) }()
	if _, err := tx.Exec(t.Context(), "truncate arquivos"); err != nil { // locks what VACUUM FULL does
		t.Fatal(err)
	}
	if text, _ := w.plan(3); strings.Count(text, "warning: it is not known whether rows are too large for it: a table is locked") != 2 {
		t.Errorf("the plan while a table is locked:\n%s", text)
	}
}
