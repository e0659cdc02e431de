package main_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/testservers"
)

const lookupRules = `
rules:
  - event: cobranca.criada
    table: cobrancas
    on: insert
    key: id
    data: {id: id, nome: cliente.nome}
    lookup:
      cliente: select nome from clientes where id = new.cliente_id
  - event: aviso
    table: avisos
    on: insert
    columns: [id]
`

// TestLookupHoldsThePipeline locks the table that a lookup reads: nothing is
// sent without it, nothing after it overtakes it, and nothing is confirmed that
// was not sent, over kills of the bridge and of Redis.
func TestLookupHoldsThePipeline(t *testing.T) {
	t.Parallel()
	w := newWorldOn(t, ownPostgres(t, nil), "", testservers.RedisOptions{}, `
create table clientes (id int primary key, nome text not null);
create table cobrancas (id int primary key, cliente_id int);
create table avisos (id int primary key);
insert into clientes select i, 'Cliente ' || i from generate_series(1, 100) i`)
	r := newReceiver(t, nil)
	w.rules = lookupRules
	w.source = "  lookup_dsn: " + w.dsn + "&statement_timeout=200ms\n"
	w.endpoint("a", r.url(), "order: endpoint")
	b := w.run()
	w.exec("insert into cobrancas values (1, 1)")
	r.waitCount(1)

	ctx := context.Background()
	conn := w.connect()
	tx, err := conn.Begin(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "lock table clientes"); err != nil {
		t.Fatal(err)
	}
	w.exec("insert into cobrancas select i, i from generate_series(2, 50) i")
	w.exec("insert into avisos values (1)")
	b.waitLog("reading the source failed; capture waits and retries")
	if code, text := fetch(t, "http://"+b.listening()+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "capture waits: lookup.cliente") {
		t.Errorf("/readyz answers %d %s", code, text)
	}
	b.kill()
	// Binding the rules needs the table, too: what is tested is a cut in the middle.
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	b = w.run()
	r.waitCount(51)

	if tx, err = conn.Begin(ctx); err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(ctx, "lock table clientes"); err != nil {
		t.Fatal(err)
	}
	w.exec("insert into cobrancas select i, i from generate_series(51, 100) i")
	w.exec("insert into avisos values (2)")
	b.waitLog("reading the source failed; capture waits and retries")
	w.redis.Kill()
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	b.waitLog("redis was restarted")
	if _, err := tx.Exec(ctx, "update clientes set nome = nome || '!'"); err != nil {
		t.Fatal(err)
	}
	if err := tx.Commit(ctx); err != nil {
		t.Fatal(err)
	}
	all := r.waitCount(102)
	seen := map[string]bool{}
	var order []string
	for _, a := range all {
		name := fmt.Sprintf("%s %s %s", a.event, a.field("id"), a.field("nome"))
		if !seen[name] {
			seen[name] = true
			order = append(order, name)
		}
	}
	var want []string
	for i := 1; i <= 100; i++ {
		mark := ""
		if i > 50 {
			mark = "!"
		}
		want = append(want, fmt.Sprintf("cobranca.criada %d Cliente %d%s", i, i, mark))
		switch i {
		case 50:
			want = append(want, "aviso 1 ")
		case 100:
			want = append(want, "aviso 2 ")
		}
	}
	if d := cmp.Diff(want, order); d != "" {
		t.Errorf("-want +got:\n%s", d)
	}
	b.stop()
}

// TestLookupsElsewhere: a lookup_dsn that leads to another database is refused
// before anything is created, by check and by run.
func TestLookupsElsewhere(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, `
create table clientes (id int primary key, nome text not null);
create table cobrancas (id int primary key, cliente_id int);
create table avisos (id int primary key)`)
	w.rules = lookupRules
	w.endpoint("a", "http://127.0.0.1:9")
	w.source = "  lookup_dsn: " + pg.Database(t, "", "create table clientes (id int primary key, nome text not null)") + "\n"
	for _, args := range [][]string{{"check"}, {"run", "--create"}} {
		code, _, stderr := command(t, append(args, "--config", w.write())...)
		if code != 1 || !strings.Contains(stderr, "source.lookup_dsn leads to database") {
			t.Errorf("%s: exit %d: %s", args[0], code, stderr)
		}
	}
	var slots int
	if err := w.connect().QueryRow(t.Context(), "select count(*) from pg_replication_slots where slot_name = $1", w.slot()).Scan(&slots); err != nil || slots != 0 {
		t.Errorf("%d slots are left behind, %v", slots, err)
	}
}

// TestRevokedPrivilege: what a rule may no longer read parks its changes alone, under
// on_schema_change: stop as well; readiness says so until it is granted again.
func TestRevokedPrivilege(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, `
create table clientes (id int primary key, nome text not null);
create table cobrancas (id int primary key, cliente_id int);
create table avisos (id int primary key);
insert into clientes values (1, 'Ana')`)
	role := w.slot() // roles are global to a server
	w.exec("create role " + role + " login")
	t.Cleanup(func() { w.exec("drop owned by " + role + "; drop role " + role) })
	w.exec("grant select on clientes to " + role)
	r := newReceiver(t, nil)
	w.rules = lookupRules
	w.source = "  lookup_dsn: " + strings.Replace(w.dsn, "postgres://postgres@", "postgres://"+role+"@", 1) + "\n"
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("insert into cobrancas values (1, 1)")
	r.waitCount(1)
	w.exec("revoke select on clientes from " + role)
	w.exec("insert into cobrancas values (2, 1)")
	w.exec("insert into avisos values (3)")
	b.waitLog("a privilege is missing")
	b.waitLog("change parked")
	r.waitCount(2)
	if code, text := fetch(t, "http://"+b.listening()+"/readyz"); code != http.StatusServiceUnavailable || !strings.Contains(text, "lookup.cliente") || !strings.Contains(text, "run GRANT SELECT ON public.clientes TO "+role+"; then gancho parked redrive") {
		t.Errorf("/readyz answers %d %s", code, text)
	}
	w.exec("grant select on clientes to " + role)
	b.waitLog("the rules may read all that they need again")
	if code, text := fetch(t, "http://"+b.listening()+"/readyz"); code != http.StatusOK {
		t.Errorf("/readyz answers %d %s", code, text)
	}
	b.stop()
}

const revokedRules = `
rules:
  - event: cobranca.criada
    table: cobrancas
    on: insert
    key: cliente_id
    data: {id: id, nome: cliente.nome, selo: selo(id)}
    lookup:
      cliente: select nome from clientes where id = new.cliente_id
  - event: pedido.mudou
    table: pedidos
    on: update
    children: {table: itens, parent: pedido_id}
    columns: [id]
  - event: aviso
    table: avisos
    on: insert
    columns: [id]
`

// TestRevokedOverKills: whatever a role loses while the bridge runs, or is killed, parks the
// changes of the rules that need it; others go on, /readyz and gancho status say why, and
// what was parked is sent once it is granted and redriven. Nothing is lost. A rule that never
// ran is refused at the start.
func TestRevokedOverKills(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, `
create table clientes (id int primary key, nome text not null);
create table cobrancas (id int primary key, cliente_id int);
create table pedidos (id int primary key);
create table itens (id int primary key, pedido_id int);
create table avisos (id int primary key);
create function selo(int) returns text language plpgsql stable as $$ begin return 'S' || $1; end $$;
revoke execute on function selo(int) from public;
alter table itens replica identity full;
insert into clientes values (1, 'Ana');
insert into pedidos values (1)`)
	role := w.slot() // roles are global to a server
	w.exec("create role " + role + " login")
	t.Cleanup(func() { w.exec("drop owned by " + role + "; drop role " + role) })
	w.extra = "state: {key: '" + stateKey + "'}"
	r := newReceiver(t, nil)
	w.rules = revokedRules
	w.source = "  lookup_dsn: " + strings.Replace(w.dsn, "postgres://postgres@", "postgres://"+role+"@", 1) + "\n"
	w.endpoint("a", r.url())

	// Before the first start each lack is a mistake, and its statement is what is lacking.
	if code, _, stderr := command(t, "run", "--create", "--config", w.write()); code != 1 || !strings.Contains(stderr, "children: the role of source.lookup_dsn") || !strings.Contains(stderr, "lookup cliente: ") ||
		!strings.Contains(stderr, "\nGRANT SELECT ON public.pedidos TO "+role+";\n") {
		t.Fatalf("without privileges, run exits %d:\n%s", code, stderr)
	}
	_, _, said := command(t, "check", "--config", w.write())
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "GRANT") {
			w.exec(line)
		}
	}
	b := w.run()
	w.exec("insert into cobrancas values (1, 1); insert into itens values (1, 1)")
	r.waitCount(2)
	ready := func(wants ...string) {
		t.Helper()
		code, text := fetch(t, "http://"+b.listening()+"/readyz")
		if (code == http.StatusOK) != (len(wants) == 0) {
			t.Errorf("/readyz answers %d %s", code, text)
		}
		config := filepath.Join(t.TempDir(), "status.yaml") // with the address that the bridge has chosen
		written := strings.Replace(mustRead(t, w.write()), "127.0.0.1:0", b.listening(), 1)
		if err := os.WriteFile(config, []byte(strings.Replace(written, "rules.yaml", filepath.Join(filepath.Dir(w.write()), "rules.yaml"), 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		_, stdout, _ := command(t, "status", "--config", config)
		for _, want := range wants {
			if !strings.Contains(text, want) || !strings.Contains(strings.Join(strings.Fields(stdout), " "), want) {
				t.Errorf("want %q in /readyz:\n%s\nand in status:\n%s", want, text, stdout)
			}
		}
	}
	next, sent := 2, 2
	for _, lost := range []struct {
		object, grant string
		parks         int // of the two changes that need privileges
	}{
		{"SELECT on clientes", "GRANT SELECT ON public.clientes TO " + role + ";", 1},
		{"SELECT on pedidos", "GRANT SELECT ON public.pedidos TO " + role + ";", 1},
		{"EXECUTE on function selo(int)", "GRANT EXECUTE ON FUNCTION public.selo(integer) TO " + role + ";", 1},
	} {
		w.exec("revoke " + lost.object + " from " + role)
		change := func() {
			w.exec(fmt.Sprintf("insert into cobrancas values (%d, 1); insert into itens values (%[1]d, 1); insert into avisos values (%[1]d)", next))
			next++
			sent += 3 - lost.parks
			r.waitCount(sent)
		}
		change()
		ready(lost.grant)
		b.kill()
		w.exec(fmt.Sprintf("insert into avisos values (%d)", 1000+next)) // while nobody reads
		sent++
		b = w.run()
		change()
		ready(lost.grant)
		w.exec(lost.grant)
		b.waitLog("the rules may read all that they need again")
		ready()
		change = func() {
			w.exec(fmt.Sprintf("insert into cobrancas values (%d, 1); insert into itens values (%[1]d, 1)", next))
			next++
			sent += 2
			r.waitCount(sent)
		}
		change()
		w.command(0, []string{"parked", "redrive", "--all", "--wait"}, "2 sent")
		sent += 2
		r.waitCount(sent)
	}
	all, _ := r.snapshot()
	seen := map[string]int{}
	last := 0
	for _, a := range all {
		seen[a.event+" "+a.field("id")]++
		if a.event == "cobranca.criada" && !a.replay {
			id, err := strconv.Atoi(a.field("id"))
			if err != nil || id < last {
				t.Errorf("%s after %d, %v", a.body, last, err)
			}
			last = id
		}
	}
	for i := 1; i < next; i++ {
		if seen[fmt.Sprintf("cobranca.criada %d", i)] == 0 {
			t.Errorf("cobranca %d was lost", i)
		}
	}
	b.stop()

	// A rule that is new needs its privileges at the start, and so does one that is edited.
	w.exec("revoke select on clientes from " + role)
	ran := w.rules
	w.rules = strings.Replace(ran, "    columns: [id]\n", "    data: {n: c.nome}\n    lookup: {c: select nome from clientes limit 1}\n", 1)
	w.command(1, []string{"run"}, "lookup c: ")
	w.rules = ran
	w.rules += "  - {event: novo, table: avisos, on: insert, data: {n: c.nome}, lookup: {c: select nome from clientes limit 1}}\n"
	w.command(1, []string{"run"}, "lookup c: ")
}
