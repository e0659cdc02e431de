package main_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

// TestPlanLocks: the lock that a plan says is the strongest that the statement takes.
func TestPlanLocks(t *testing.T) {
	t.Parallel()
	w := newPlanWorld(t, pg, planRules, planTables...)
	text, _ := w.plan(3, "--json")
	var made struct {
		Changes []struct {
			SQL, Lock string
			Tables    []string
		}
	}
	if err := json.Unmarshal([]byte(text), &made); err != nil {
		t.Fatal(err)
	}
	for _, c := range made.Changes {
		if strings.HasPrefix(c.SQL, "SELECT ") {
			continue
		}
		if strings.Contains(c.SQL, "CONCURRENTLY") { // outside of a transaction
			w.exec(c.SQL)
			continue
		}
		if _, err := w.conn.Exec(t.Context(), "begin; "+c.SQL); err != nil {
			t.Fatal(err)
		}
		for _, table := range c.Tables {
			var lock string
			if err := w.conn.QueryRow(t.Context(), `
				select coalesce(max(case mode when 'AccessExclusiveLock' then '8 ACCESS EXCLUSIVE' when 'ExclusiveLock' then '7' when 'ShareRowExclusiveLock' then '6' when 'ShareLock' then '5'
					when 'ShareUpdateExclusiveLock' then '4 SHARE UPDATE EXCLUSIVE' else '1' end), '') from pg_locks where pid = pg_backend_pid() and relation = $1::regclass`, table).Scan(&lock); err != nil {
				t.Fatal(err)
			}
			if len(lock) < 3 || lock[2:] != c.Lock {
				t.Errorf("%s locks %s in mode %q, and the plan says %q", c.SQL, table, lock, c.Lock)
			}
		}
		if _, err := w.conn.Exec(t.Context(), "commit"); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPlanGivesWay: while a long transaction holds a lock, apply waits briefly and again, so
// that the application's statements go on; what was done and what was not is said, and the
// next run does the rest.
func TestPlanGivesWay(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, ownPostgres(t, nil), planRules, planTables...)
	w.exec("insert into cobrancas values (1, 'a'), (2, 'a')")
	long := w.connect()
	if _, err := long.Exec(t.Context(), "begin; update cobrancas set status = 'b' where id = 1"); err != nil {
		t.Fatal(err)
	}
	application, ctx := w.connect(), t.Context()
	ended, longest, statements := make(chan struct{}), time.Duration(0), 0
	written := make(chan error, 1)
	go func() {
		for {
			select {
			case <-ended:
				written <- nil
				return
			default:
			}
			began := time.Now()
			if _, err := application.Exec(ctx, "update cobrancas set status = 'c' where id = 2"); err != nil {
				written <- err
				return
			}
			statements, longest = statements+1, max(longest, time.Since(began))
			if _, err := application.Exec(ctx, "select pg_sleep(0.02)"); err != nil {
				written <- err
				return
			}
		}
	}()
	_, said := w.plan(1, "--apply", "--yes")
	close(ended)
	if err := <-written; err != nil {
		t.Fatal(err)
	}
	t.Logf("%d statements of the application meanwhile, the longest took %v", statements, longest)
	for _, want := range []string{"trying again", "stopped at ALTER TABLE public.cobrancas", "another session has locked public.cobrancas (pid ", "2 done, 10 not:", "CREATE PUBLICATION gancho FOR TABLE"} {
		if !strings.Contains(said, want) {
			t.Errorf("apply does not say %q:\n%s", want, said)
		}
	}
	// It waits for half a second at a time, and the machine may be slow.
	if longest > 5*time.Second || statements < 5 {
		t.Errorf("the application was blocked for %v, in %d statements", longest, statements)
	}
	if _, err := long.Exec(t.Context(), "commit"); err != nil {
		t.Fatal(err)
	}
	w.plan(0, "--apply", "--yes")
	w.plan(0)
}

// until waits until the server says so.
func (w *planWorld) until(what string, ok func() bool) {
	w.t.Helper()
	for deadline := time.Now().Add(time.Minute); !ok(); {
		if time.Now().After(deadline) {
			w.t.Fatalf("waited too long for %s", what)
		}
		w.exec("select pg_sleep(0.02)")
	}
}

// TestPlanKilled: apply is killed while it waits for a lock, and while it creates an index;
// the next run does the rest, removes what was left, and the way back takes back both.
func TestPlanKilled(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, ownPostgres(t, nil), planRules, planTables...)
	before := w.dump()
	hold := func(statement string) *pgx.Conn {
		conn := w.connect()
		if _, err := conn.Exec(t.Context(), "begin; "+statement); err != nil {
			t.Fatal(err)
		}
		return conn
	}
	// end ends the sessions that a killed process has left, which the server would notice later.
	end := func() {
		w.until("the killed process's session to end", func() bool {
			var left int
			err := w.conn.QueryRow(t.Context(), "select count(pg_terminate_backend(pid)) from pg_stat_activity where datname = current_database() and application_name = 'gancho'").Scan(&left)
			return err == nil && left == 0
		})
	}
	snapshot := hold("insert into itens values (1, 1)")
	b := w.start("plan", "--config", w.path, "--apply", "--yes")
	b.waitLog("creating index public.itens_gancho_identity")
	w.until("the index to be begun", func() bool {
		var begun bool
		err := w.conn.QueryRow(t.Context(), "select exists (select from pg_index where indexrelid = to_regclass('itens_gancho_identity') and not indisvalid)").Scan(&begun)
		return err == nil && begun
	})
	b.kill()
	end()
	if _, err := snapshot.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	lock := hold("lock table leituras in share mode")
	b = w.start("plan", "--config", w.path, "--apply", "--yes")
	b.waitLog("dropping the invalid index public.itens_gancho_identity")
	b.waitLog("has locked public.leituras")
	b.kill()
	end()
	if _, err := lock.Exec(t.Context(), "rollback"); err != nil {
		t.Fatal(err)
	}
	w.plan(0, "--apply", "--yes")
	if text, _ := w.plan(0); text != "No changes.\n" {
		t.Errorf("after the third run:\n%s", text)
	}
	w.plan(0, "--undo", "--yes")
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the way back (-before +after):\n%s", diff)
	}
}

// TestPlanKeeps: the way back keeps what somebody else has changed since.
func TestPlanKeeps(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, pg, "rules:\n  - {event: a, table: clientes, on: update, when: old.nome <> new.nome, columns: [id]}\n  - {event: b, table: contas, on: update, watch: [nome], columns: [id]}\n",
		"create table clientes (id int primary key, nome text)", "create table contas (id int primary key, nome text)", "create table alheia (id int primary key)", "create table sem (id int, nome text)")
	w.plan(0, "--apply", "--yes")
	w.exec("alter table clientes replica identity default")
	w.exec("alter publication gancho add table alheia")
	_, said := w.plan(0, "--undo", "--yes")
	for _, want := range []string{"passed over: ALTER TABLE public.clientes REPLICA IDENTITY DEFAULT;: kept, because the table's replica identity is not the one that was set",
		"passed over: DROP PUBLICATION gancho;: kept, because the publication has tables that the plan did not add: public.alheia"} {
		if !strings.Contains(said, want) {
			t.Errorf("undo does not say %q:\n%s", want, said)
		}
	}
	w.exec("alter publication gancho drop table alheia")
	w.plan(0, "--undo", "--yes")
	// Another tool relies on the identity since: the way back would let statements fail.
	w.exec("alter table contas drop constraint contas_pkey")
	w.exec("alter table contas replica identity nothing")
	if err := os.WriteFile(filepath.Join(w.dir, "rules.yaml"), []byte("rules:\n  - {event: b, table: contas, on: update, watch: [nome], key: new.id, columns: [id]}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.plan(0, "--apply", "--yes")
	w.exec("create publication outra for table contas")
	_, said = w.plan(1, "--undo", "--yes")
	if !strings.Contains(said, "rolled back, because after it PostgreSQL refuses the application's UPDATE and DELETE of public.contas, because publication outra publishes the table") {
		t.Errorf("undo says:\n%s", said)
	}
	w.exec("update contas set nome = 'x'; delete from contas")
	w.exec("drop publication outra")
	w.plan(0, "--undo", "--yes")
}

// TestPlanRoles: tables of several roles, a role that does not exist yet, and one that may
// run only a part.
func TestPlanRoles(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, pg, `rules:
  - {event: a, table: clientes, on: update, when: old.nome <> new.nome, columns: [id], data: {c: c.nome}, lookup: {c: select nome from cidades where id = new.cidade}}
  - {event: b, table: contas, on: update, watch: [nome], columns: [id]}
`, "create table clientes (id int primary key, nome text, cidade int)", "create table contas (id int primary key, nome text)", "create table cidades (id int primary key, nome text, hino text)")
	database := strings.TrimPrefix(w.slot(), "gancho_")
	for _, role := range []string{"vendas_" + database, "caixa_" + database} {
		w.exec("create role " + role + " login")
	}
	reader := "leitor_" + database
	t.Cleanup(func() {
		w.exec("drop owned by vendas_" + database + ", caixa_" + database + " cascade")
		w.exec("drop role vendas_" + database + ", caixa_" + database)
	})
	w.exec("alter table clientes owner to vendas_" + database)
	w.exec("alter table contas owner to caixa_" + database)
	admin := w.dsn
	w.dsn = strings.Replace(w.dsn, "postgres@", reader+"@", 1)
	w.path = w.write()
	w.dsn = admin
	before := w.dump()
	text, _ := w.plan(3, "--as", admin)
	for _, want := range []string{"+ CREATE ROLE " + reader + " LOGIN REPLICATION;\n    who: a superuser\n", "    undo: DROP ROLE " + reader + ";\n", "GRANT SELECT (id, nome) ON public.cidades TO " + reader + ";",
		"~ ALTER TABLE public.clientes REPLICA IDENTITY FULL;\n    who: vendas_" + database + ", the owner of public.clientes\n", "    who: caixa_" + database + ", the owner of public.contas\n"} {
		if !strings.Contains(text, want) {
			t.Errorf("the plan lacks %q:\n%s", want, text)
		}
	}
	// One owner does a part of it, and is told who does the rest.
	owner := strings.Replace(admin, "postgres@", "caixa_"+database+"@", 1)
	_, said := w.plan(3, "--apply", "--yes", "--as", owner)
	if !strings.Contains(said, "gancho does not run it: caixa_"+database+" may not run it, a superuser does; 0 done") {
		t.Errorf("apply as an owner says:\n%s", said)
	}
	w.plan(0, "--apply", "--yes", "--as", admin)
	for _, args := range [][]string{{"--as", admin}, nil} { // the new role itself finds nothing to do
		if text, _ = w.plan(0, args...); text != "No changes.\n" {
			t.Errorf("after it, plan %v:\n%s", args, text)
		}
	}
	w.plan(0, "--undo", "--yes", "--as", admin)
	if diff := cmp.Diff(before, w.dump()); diff != "" {
		t.Errorf("schema after the way back (-before +after):\n%s", diff)
	}
	var exists bool
	if err := w.conn.QueryRow(t.Context(), "select exists (select from pg_roles where rolname = $1)", reader).Scan(&exists); err != nil || exists {
		t.Errorf("the role exists: %v, %v", exists, err)
	}
}

// TestPlanServes: with the identities of a plan, where an index does for whole old rows, a
// bridge sends the events that it sends with REPLICA IDENTITY FULL everywhere.
func TestPlanServes(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	events := func(full bool) []string {
		w := newWorld(t, testservers.RedisOptions{}, planTables...)
		w.rules = planRules
		r := newReceiver(t, nil)
		w.endpoint("crm", r.url())
		path := w.write()
		if full {
			for _, table := range []string{"cobrancas", "itens", "leituras", "acessos", "acessos_1", "acessos_2", "vendas", "vendas_1", "pedidos", "pedido_itens"} {
				w.exec("alter table " + table + " replica identity full")
			}
		}
		if code, _, stderr := command(t, "plan", "--config", path, "--apply", "--yes"); code != 0 {
			t.Fatalf("exit %d:\n%s", code, stderr)
		}
		b := w.start("run", "--config", path)
		b.waitLog("bridge is ready")
		for _, statement := range traffic {
			w.exec(statement)
		}
		w.exec("insert into movimentos values (99)")
		var sent []string
		for _, a := range r.waitCount(20) {
			var body map[string]any
			if err := json.Unmarshal(a.body, &body); err != nil {
				t.Fatal(err)
			}
			data, err := json.Marshal(map[string]any{"type": body["type"], "op": body["op"], "tenant": body["tenant"], "data": body["data"], "key": body["key"]})
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, string(data))
		}
		b.stop()
		slices.Sort(sent)
		return sent
	}
	want, got := events(true), events(false)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("events under FULL, and (+) under the plan's identities:\n%s", diff)
	}
}
