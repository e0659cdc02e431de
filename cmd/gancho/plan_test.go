package main_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

var updateGolden = flag.Bool("update-plan", false, "rewrite testdata/plan")

// planWorld is a configuration at a source, without Redis.
type planWorld struct {
	*world
	conn *pgx.Conn
	path string
}

func newPlanWorld(t *testing.T, server *testservers.Postgres, rules string, statements ...string) *planWorld {
	t.Helper()
	w := newWorldWithout(t, server, "", statements...)
	w.queue, w.rules = "redis: redis://nowhere.invalid", rules
	return &planWorld{w, w.connect(), w.write()}
}

// exec executes a statement on the world's connection.
func (w *planWorld) exec(sql string, args ...any) {
	w.t.Helper()
	if _, err := w.conn.Exec(context.Background(), sql, args...); err != nil {
		w.t.Fatalf("%s: %v", sql, err)
	}
}

// plan runs gancho plan, and expects its exit code.
func (w *planWorld) plan(code int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	got, stdout, stderr := command(w.t, append([]string{"plan", "--config", w.path}, args...)...)
	if got != code {
		w.t.Fatalf("gancho plan %v: exit %d, want %d:\n%s%s", args, got, code, stdout, stderr)
	}
	return stdout, stderr
}

// dump is the schema as pg_dump has it. The servers of other versions that tests run on come
// without pg_dump, and another one may refuse them: then it is what a plan can change.
func (w *planWorld) dump() string {
	w.t.Helper()
	var directory string
	if err := w.conn.QueryRow(context.Background(), "select setting from pg_config where name = 'BINDIR'").Scan(&directory); err != nil {
		w.t.Fatal(err)
	}
	catalogue := w.catalogue()
	program := filepath.Join(directory, "pg_dump")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) {
		return catalogue
	}
	out, err := exec.CommandContext(w.t.Context(), program, "--schema-only", w.dsn).Output()
	if err != nil {
		w.t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(string(out)) {
		if !strings.HasPrefix(line, `\restrict `) && !strings.HasPrefix(line, `\unrestrict `) { // a random key
			lines = append(lines, line)
		}
	}
	return strings.Join(lines, "") + catalogue
}

// catalogue is what a plan can change of the schema, as the catalogue has it.
func (w *planWorld) catalogue() (text string) {
	w.t.Helper()
	if err := w.conn.QueryRow(context.Background(), `
		select concat_ws(E'\n',
			(select string_agg(to_jsonb(p)::text, E'\n' order by pubname) from pg_publication p),
			(select string_agg(concat(prpubid, ' ', prrelid::regclass, to_jsonb(r) - 'oid' - 'prpubid' - 'prrelid'), E'\n' order by prpubid, prrelid) from pg_publication_rel r),
			(select string_agg(concat(oid::regclass, ' ', relkind, relreplident, relpersistence), E'\n' order by oid) from pg_class where relnamespace >= 16384 or relnamespace = 'public'::regnamespace),
			(select string_agg(concat(indexrelid::regclass, ' ', indisreplident, indisvalid), E'\n' order by indexrelid) from pg_index where indexrelid >= 16384))`).Scan(&text); err != nil {
		w.t.Fatal(err)
	}
	return text
}

const planRules = `rules:
  - {event: cobranca.mudou, table: cobrancas, on: update, when: old.status <> new.status, columns: [id, status]}
  - {event: item.saiu, table: itens, on: delete, tenant: old.empresa, columns: [id]}
  - {event: leitura, table: leituras, on: update, columns: [chave, valor], key: new.chave}
  - {event: acesso, table: acessos, on: update, watch: [sentido], columns: [id]}
  - {event: venda, table: vendas, on: [insert, update], columns: [id]}
  - {event: movimento, table: movimentos, on: insert, columns: [id], key: new.id}
  - {event: pedido, table: pedidos, on: [insert, update], columns: [id], children: [{table: pedido_itens, parent: [pedido]}]}
`

var planTables = []string{
	"create table cobrancas (id int primary key, status char(1))",
	"create table itens (id int primary key, empresa int not null, nome text)",
	"create table leituras (chave text not null, valor text)", "create unique index leituras_chave on leituras (chave)",
	"create table acessos (id int primary key, sentido text) partition by range (id)", "create table acessos_1 partition of acessos for values from (0) to (10)", "create table acessos_2 partition of acessos default",
	"create table vendas (id int primary key)", "create table vendas_1 (primary key (id)) inherits (vendas)",
	"create table movimentos (id int)",
	"create table pedidos (id int primary key)", "create table pedido_itens (id int primary key, pedido int not null)",
}

// traffic are statements of the application on each table of planTables.
var traffic = []string{
	"insert into cobrancas values (1, 'a'), (2, 'a')", "update cobrancas set status = 'b'", "delete from cobrancas where id = 2",
	"insert into itens values (1, 7, 'x'), (2, 7, 'y')", "update itens set nome = 'z'", "update itens set empresa = 8", "delete from itens where id = 1",
	"insert into leituras values ('k', 'v')", "update leituras set valor = 'w'", "update leituras set chave = 'l'", "delete from leituras",
	"insert into acessos values (1, 'e'), (20, 's')", "update acessos set sentido = 'x'", "delete from acessos where id = 1",
	"insert into vendas values (1)", "insert into vendas_1 values (2)", "update vendas set id = id + 10", "delete from vendas",
	"insert into movimentos values (1)", "update movimentos set id = 2", "delete from movimentos",
	"insert into pedidos values (1), (2)", "insert into pedido_itens values (1, 1), (2, 1)", "update pedido_itens set pedido = 2 where id = 2", "delete from pedido_itens where id = 1", "delete from pedido_itens",
}

// TestPlan: what a plan says, that it is all that is needed, and that the way back leads to
// the same schema.
func TestPlan(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, pg, planRules, planTables...)
	before := w.dump()
	names := []string{w.slot(), "SLOT", strings.TrimPrefix(w.slot(), "gancho_"), "DATABASE", w.dir, "DIR"}
	var version int
	if err := w.conn.QueryRow(context.Background(), "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	golden := func(file, got string) {
		t.Helper()
		if version < 170000 { // from then on the slot has another option
			planGolden(t, file, strings.NewReplacer(names...).Replace(got))
		}
	}
	text, _ := w.plan(3)
	golden("plan", text)
	if version < 170000 {
		portuguese := &portugueseSession{t: t}
		portuguese.run(3, "plan", "--config", w.path)
		portuguese.compare("plan", map[string]string{w.path: "gancho.yaml", w.slot(): "SLOT", "Banco " + strings.TrimPrefix(w.slot(), "gancho_"): "Banco DATABASE"})
	}
	ticket, _ := w.plan(3, "--script")
	golden("ticket", ticket)
	if again, _ := w.plan(3, "--script"); again != ticket {
		t.Errorf("two tickets of one plan differ:\n%s", cmp.Diff(ticket, again))
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("a plan that is only shown changed the schema:\n%s", diff)
	}
	w.plan(2, "--apply") // there is no terminal
	_, said := w.plan(0, "--apply", "--yes")
	golden("apply", said)
	if text, _ = w.plan(0); text != "No changes.\n" {
		t.Errorf("the second run:\n%s", text)
	}
	if code, stdout, stderr := command(t, "check", "--config", w.path); code != 0 {
		t.Errorf("check after it exits with %d:\n%s%s", code, stdout, stderr)
	}
	for _, statement := range traffic {
		w.exec(statement)
	}
	text, _ = w.plan(3, "--undo")
	golden("undo", text)
	_, said = w.plan(0, "--undo", "--yes")
	if strings.Contains(said, "passed over") {
		t.Errorf("a step back was passed over:\n%s", said)
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the way back (-before +after):\n%s", diff)
	}
	var slots int
	if err := w.conn.QueryRow(context.Background(), "select count(*) from pg_replication_slots where slot_name = $1", w.slot()).Scan(&slots); err != nil || slots != 0 {
		t.Errorf("%d slots are left: %v", slots, err)
	}
	if text, _ = w.plan(0, "--undo"); text != "No changes.\n" {
		t.Errorf("the second way back:\n%s", text)
	}
	// The ticket does the same, and without a record nothing is taken back.
	fix(t, w.dsn, "select")
	for _, statement := range statementsOf(ticket) {
		w.exec(statement)
	}
	if text, _ = w.plan(0); text != "No changes.\n" {
		t.Errorf("after the ticket:\n%s", text)
	}
	if text, _ = w.plan(0, "--undo"); text != "No changes.\n" {
		t.Errorf("the way back from a ticket that others ran:\n%s", text)
	}
	for statement := range strings.Lines(ticket[strings.Index(ticket, "-- The way back"):]) {
		if _, sql, ok := strings.Cut(statement, ": "); ok {
			w.exec(sql)
		}
	}
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the ticket's way back (-before +after):\n%s", diff)
	}
}

// statementsOf are the lines of a ticket that are no comment.
func statementsOf(ticket string) []string {
	var out []string
	for line := range strings.Lines(ticket) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "--") {
			out = append(out, line)
		}
	}
	return out
}

// planGolden compares a text with testdata/plan/NAME.golden.
func planGolden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", "plan", name+".golden")
	if *updateGolden {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", name, diff)
	}
}

// TestPlanJSON: the plan for scripts.
func TestPlanJSON(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, pg, "rules:\n  - {event: a, table: clientes, on: update, columns: [id]}\n", "create table clientes (id int primary key)")
	text, _ := w.plan(3, "--json")
	var made struct {
		Add, Change, Destroy int
		Changes              []struct{ SQL, Action, Lock, Undo, Cost string }
	}
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatalf("%v:\n%s", err, text)
	}
	if made.Add != 3 || len(made.Changes) != 3 || made.Changes[0].Lock != "SHARE UPDATE EXCLUSIVE" || made.Changes[2].Undo == "" {
		t.Errorf("plan %+v", made)
	}
	w.plan(2, "--apply", "--undo")
	w.plan(2, "--yes")
}

// TestPlanEndpoints: an endpoint that is in the file and stored is named.
func TestPlanEndpoints(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example/ganchos")
	s.endpoint("crm", "http://127.0.0.1:9")
	s.path = s.write()
	s.fails(3, `endpoint "crm" is in `+s.path+` and stored, and the stored one is not used`, "plan")
}

// TestPlanLeftovers: what was done for tables that no rule is about any more is taken back, the
// rest stays, as does what others have done; the way back from all leads to the same schema.
func TestPlanLeftovers(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, pg, planRules, append(planTables, "create table alheia (id int primary key)")...)
	before := w.dump()
	w.plan(0, "--apply", "--yes")
	w.exec("alter publication gancho add table alheia")
	w.exec("alter table pedido_itens replica identity full") // somebody else's from now on
	w.rules = "rules:\n  - {event: cobranca.mudou, table: cobrancas, on: update, when: old.status <> new.status, columns: [id, status]}\n" +
		"  - {event: venda, table: vendas, on: [insert, update], columns: [id]}\n"
	w.path = w.write()
	text, _ := w.plan(3)
	planGolden(t, "leftovers", strings.ReplaceAll(text, strings.TrimPrefix(w.slot(), "gancho_"), "DATABASE"))
	w.plan(0, "--apply", "--yes")
	if text, _ = w.plan(0); text != "No changes.\n" {
		t.Errorf("the second run:\n%s", text)
	}
	for _, statement := range traffic {
		w.exec(statement)
	}
	w.exec("alter publication gancho drop table alheia")
	w.exec("alter table pedido_itens replica identity default")
	w.plan(0, "--undo", "--yes")
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the way back (-before +after):\n%s", diff)
	}
}

// TestPlanPartitions: partitions of a table, each with an identity of its own, have them again
// after the way back.
func TestPlanPartitions(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, pg, "rules:\n  - {event: acesso, table: acessos, on: update, when: old.sentido <> new.sentido, columns: [id]}\n",
		"create table acessos (id int primary key, sentido text, lote int not null) partition by range (id)", "alter table acessos replica identity full",
		"create table acessos_1 partition of acessos for values from (0) to (10)", "create unique index acessos_1_lote on acessos_1 (lote)", "alter table acessos_1 replica identity using index acessos_1_lote",
		"create table acessos_2 partition of acessos for values from (10) to (20)",
		"create table acessos_3 partition of acessos for values from (20) to (40) partition by range (id)", "create table acessos_31 partition of acessos_3 for values from (20) to (30)",
		"create table acessos_32 partition of acessos_3 for values from (30) to (40)", "alter table acessos_32 replica identity full",
		"create table acessos_4 partition of acessos default")
	before := w.dump()
	w.plan(0, "--apply", "--yes")
	w.exec("insert into acessos select i, 'e', i from generate_series(0, 45, 5) i")
	w.exec("update acessos set sentido = 's'")
	w.exec("update acessos set id = id + 100")
	w.exec("delete from acessos")
	// A record of another server is not silently nothing.
	record := mustRead(t, filepath.Join(w.dir, "gancho.plan.jsonl"))
	other := filepath.Join(w.dir, "outro.jsonl")
	if err := os.WriteFile(other, []byte(regexp.MustCompile(`"system":"\d+"`).ReplaceAllString(record, `"system":"1"`)), 0o600); err != nil {
		t.Fatal(err)
	}
	if text, _ := w.plan(0, "--undo", "--record", other); !strings.Contains(text, "No changes.\n7 statements of the record were run on another server") {
		t.Error(text)
	}
	w.plan(0, "--undo", "--yes")
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the way back (-before +after):\n%s", diff)
	}
}

// TestPlanOfAMissingRole: the error does not print the role's name, and says so, and how to plan without it.
func TestPlanOfAMissingRole(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, pg, "rules:\n  - {event: t, table: t, on: insert, columns: [id]}\n", "create table t (id int primary key)")
	w.dsn = strings.Replace(w.dsn, "postgres://postgres@", "postgres://ainda_nao@", 1)
	w.path = w.write()
	_, stderr := w.plan(1)
	if !strings.Contains(stderr, "[user] stands for the role of the DSN") || !strings.Contains(stderr, "--as") || strings.Contains(stderr, "ainda_nao") {
		t.Error(stderr)
	}
	if text, _ := w.plan(3, "--as", strings.Replace(w.dsn, "ainda_nao", "postgres", 1)); !strings.Contains(text, "ainda_nao") {
		t.Errorf("the plan does not make the role:\n%s", text)
	}
}

// TestPlanSchema: where Gancho's own tables are in the source, a new role gets a schema for them,
// which migrate fills, and which the way back keeps until somebody has dropped it.
func TestPlanSchema(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, pg, "rules:\n  - {event: a, table: clientes, on: insert, columns: [id]}\n", "create table clientes (id int primary key)")
	admin, role := w.dsn, "estado_"+strings.TrimPrefix(w.slot(), "gancho_")
	w.extra = "state:\n  key: " + stateKey
	w.dsn = strings.Replace(admin, "postgres@", role+"@", 1)
	w.path = w.write()
	w.dsn = admin
	before := w.dump()
	text, _ := w.plan(3, "--as", admin)
	if want := "+ CREATE SCHEMA gancho AUTHORIZATION " + role + ";\n    who: a superuser\n"; !strings.Contains(text, want) {
		t.Errorf("the plan lacks %q:\n%s", want, text)
	}
	w.plan(0, "--apply", "--yes", "--as", admin)
	if code, stdout, stderr := command(t, "migrate", "--config", w.path); code != 0 {
		t.Fatalf("migrate: exit %d:\n%s%s", code, stdout, stderr)
	}
	for _, args := range [][]string{{"--as", admin}, nil} {
		if text, _ = w.plan(0, args...); text != "No changes.\n" {
			t.Errorf("plan %v:\n%s", args, text)
		}
	}
	_, said := w.plan(1, "--undo", "--yes", "--as", admin)
	for _, want := range []string{"passed over: DROP SCHEMA gancho;: kept, because it has gancho's endpoints, dead letters and logs", "DROP ROLE " + role, "DROP SCHEMA gancho CASCADE; deletes"} {
		if !strings.Contains(said, want) {
			t.Errorf("undo does not say %q:\n%s", want, said)
		}
	}
	w.exec("drop schema gancho cascade")
	w.plan(0, "--undo", "--yes", "--as", admin)
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the way back (-before +after):\n%s", diff)
	}
}
