package main_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	main "gancho/cmd/gancho"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestForget erases a person everywhere, and nobody else, and the receipt has nothing of the person.
func TestForget(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, empresa text, nome text, idade text)")
	w.extra = "state: {key: '" + stateKey + "', keep_events: 1d}"
	w.rules = `rules:
  - {event: cliente.salvo, table: clientes, on: [insert, update], tenant: empresa, data: {nome: nome, idade: "idade::int"}}
  - {event: cliente.recusado, table: clientes, on: update, when: "idade::int > 0", tenant: empresa, data: {nome: nome}}
`
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	s := &session{world: w, path: w.write()}
	b := w.run()
	w.exec(`insert into clientes values (4711, '1', 'Maria Marcador', '33'), (4712, '1', 'João Marcador', '34')`)
	r.waitCount(2)
	w.exec(`update clientes set idade = 'x'`) // both rules fail on both
	b.waitLogs("change parked", 4)
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(s.store().WriteDead(context.Background(), []state.DeadLetter{letter("crm", "1", "4711", "e1", at), letter("crm", "1", "4712", "e2", at)}))
	found := func(key string) control.Erased {
		t.Helper()
		return decoded[control.Receipt](s, "forget", "--tenant", "1", "--key", key, "--dry-run").Erased
	}
	queuetest.Eventually(t, "the bridge's log", func() bool {
		e := found("4711")
		return e.Database.KeptEvents == 1 && e.Database.Attempts == 1
	})
	other := found("4712")

	for _, c := range []struct{ args, why string }{
		{"--tenant 1", "--key is missing"}, {"--key 4711", "--tenant is missing"}, {"--tenant 1 --no-tenant --key 4711", "exclude each other"},
		{"--tenant 1 --key 4711", "add --yes"}, {"--tenant 1 --key 4711 --dry-run --yes", "leave out --yes"},
		{"--tenant 1 --key 4711 --tag vip --yes", "unknown flag: --tag"}, {"4711", "unexpected argument"},
	} {
		s.fails(2, c.why, append([]string{"forget"}, strings.Fields(c.args)...)...)
	}
	s.fails(2, "empty value", "forget", "--tenant", "1", "--key", "", "--yes")
	if out := s.ok("forget", "--tenant", "1", "--key", "4711", "--dry-run"); !strings.Contains(out, "found: parked changes") || strings.Contains(out, "4711") {
		t.Errorf("dry run:\n%s", out)
	}
	if e := found("4711"); e.Total() != 5 {
		t.Errorf("after a dry run there is %+v", e)
	}

	out := s.ok("forget", "--tenant", "1", "--key", "4711", "--event", "cliente.*", "--yes", "--json")
	for _, secret := range []string{"4711", "Maria"} {
		if strings.Contains(out, secret) {
			t.Errorf("the receipt has %q:\n%s", secret, out)
		}
	}
	receipt := decoded[control.Receipt](s, "forget", "--tenant", "1", "--key", "4711", "--yes")
	for _, part := range []string{`"kept_events": 1`, `"attempts": 1`, `"parked": 2`, `"crm"`, "receivers have what they were sent", "BGREWRITEAOF"} {
		if !strings.Contains(out, part) {
			t.Errorf("the receipt lacks %s:\n%s", part, out)
		}
	}
	if d := receipt.Erased.Database; receipt.Erased.Total() != 1 || d.DeadLetters != 1 || receipt.UndeterminedParked != 0 { // cobranca.paga
		t.Errorf("the rest: %+v", receipt)
	}
	if e := found("4711"); e.Total() != 0 {
		t.Errorf("left is %+v", e)
	}
	if e := found("4712"); e != other || e.Total() != 5 {
		t.Errorf("the other has %+v, had %+v", e, other)
	}

	// Who has read and erased is in the audit log, and not whom.
	parked := decoded[control.Page[queue.ParkedChange]](s, "parked", "list").Items
	if len(parked) != 2 {
		t.Fatalf("%d changes are parked", len(parked))
	}
	if out := s.ok("parked", "show", parked[0].ID.String()); !strings.Contains(out, "João Marcador") {
		t.Errorf("parked show:\n%s", out)
	}
	s.ok("dead", "show", "2")
	audit := s.ok("audit", "--json")
	for _, part := range []string{`"action": "forget"`, `"action": "parked.read"`, `"object": "parked/` + parked[0].ID.String(), `"action": "dead.read"`, `"object": "dead/2"`, "subject/" + receipt.Subject} {
		if !strings.Contains(audit, part) {
			t.Errorf("the audit log lacks %s:\n%s", part, audit)
		}
	}
	for _, secret := range []string{`"4711"`, "Marcador"} {
		if strings.Contains(audit, secret) {
			t.Errorf("the audit log has %s:\n%s", secret, audit)
		}
	}
	b.stop()
}

// TestForgetWhileRecording: what the bridge has read of Redis before somebody is forgotten,
// and stores while that is done, does not come back.
func TestForgetWhileRecording(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, nome text)")
	w.extra = "state: {key: '" + stateKey + "', keep_events: 1d}"
	w.rules = "rules:\n  - {event: cliente.salvo, table: clientes, on: insert, data: {nome: nome}}\n"
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	s := &session{world: w, path: w.write()}
	b := w.run()
	const held = 20261128
	conn, observer := w.connect(), w.connect()
	do := func(sql string, args ...any) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql, args...); err != nil {
			t.Fatal(err)
		}
	}
	waiting := func(kind string) bool {
		t.Helper()
		var n int
		err := observer.QueryRow(t.Context(), `select count(*) from pg_locks l join pg_database d on d.oid = l.database and d.datname = current_database()
			where not l.granted and l.locktype = $1 and (l.locktype = 'advisory' or l.relation = 'gancho.forgets'::regclass)`, kind).Scan(&n)
		if err != nil {
			t.Fatal(err)
		}
		return n > 0
	}
	// The writer of the log has read Redis, and waits inside its transaction.
	do("select pg_advisory_lock($1)", held)
	do(fmt.Sprintf(`create function public.wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(%d); return new; end $$;
		create trigger wait before insert on gancho.attempts for each row execute function public.wait()`, held))
	do("insert into clientes values (4711, 'Maria')")
	queuetest.Eventually(t, "the bridge to record", func() bool {
		select {
		case <-b.done:
			t.Fatal("the bridge has ended")
		default:
		}
		return waiting("advisory")
	})
	forget := s.start("forget", "--no-tenant", "--key", "4711", "--yes", "--config", s.path)
	queuetest.Eventually(t, "the command to wait for the writer", func() bool {
		select {
		case <-forget.done: // without waiting for it
			return true
		default:
			return waiting("relation")
		}
	})
	do("select pg_advisory_unlock($1)", held)
	forget.wait(0)
	do("insert into clientes values (4712, 'João')") // what follows is recorded
	queuetest.Eventually(t, "more to be recorded", func() bool {
		return decoded[control.Receipt](s, "forget", "--no-tenant", "--key", "4712", "--dry-run").Erased.Database.Attempts == 1
	})
	if left := decoded[control.Receipt](s, "forget", "--no-tenant", "--key", "4711", "--dry-run"); left.Erased.Total() != 0 || len(left.Receivers) != 1 {
		t.Errorf("left is %+v", left)
	}
	b.stop()
}

// TestForgetNothing: on a terminal nobody is asked where there is nothing, and there is a receipt.
func TestForgetNothing(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	_, program := terminal(t)
	var out, errs strings.Builder
	code := main.Main(context.Background(), []string{"forget", "--tenant", "1", "--key", "4711", "--json", "--config", s.path}, program, &out, &errs)
	if code != 0 || !strings.Contains(out.String(), `"audit": `) || strings.Contains(errs.String(), "confirm") {
		t.Errorf("exit %d\n%s%s", code, out.String(), errs.String())
	}
}

// TestForgetIsKilled: a forget that was killed has an entry without an end in the audit log,
// and is finished by the next one.
func TestForgetIsKilled(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	store := s.store()
	const n = 20_000 // several transactions
	dead := []state.DeadLetter{letter("do-arquivo", "1", "4712", "outro", at)}
	for i := range n {
		dead = append(dead, letter("do-arquivo", "1", "4711", fmt.Sprint("e", i), at))
	}
	if err := store.WriteDead(t.Context(), dead); err != nil {
		t.Fatal(err)
	}
	entries := func() (of []state.Change) {
		t.Helper()
		all, err := store.Audit(t.Context(), state.AuditFilter{Action: "forget"}, 0, 10)
		if err != nil {
			t.Fatal(err)
		}
		return all
	}
	killed := s.start("forget", "--tenant", "1", "--key", "4711", "--yes", "--config", s.path)
	for end := time.Now().Add(time.Minute); len(entries()) == 0; {
		if time.Now().After(end) {
			t.Fatalf("the command has not begun:\n%s", killed.text())
		}
	}
	killed.kill()
	receipt := decoded[control.Receipt](s, "forget", "--tenant", "1", "--key", "4711", "--yes")
	if left, err := store.CountDead(t.Context(), state.Filter{}); err != nil || left != 1 {
		t.Errorf("%d dead letters are left, %v", left, err)
	}
	if first := entries()[1]; len(first.After) > 0 && receipt.Erased.Total() > 0 { // where the machine is slow, it may have ended before it was killed
		t.Errorf("the killed one has the end %s", first.After)
	}
	if !strings.Contains(string(entries()[0].After), fmt.Sprintf(`"dead_letters":%d`, receipt.Erased.Database.DeadLetters)) {
		t.Errorf("the audit log has another receipt than %+v", receipt)
	}
}

// TestRetention: old dead letters are deleted, after that was announced, and nothing else is.
func TestRetention(t *testing.T) {
	t.Parallel()
	s := newSession(t, "keep_dead: 1d")
	now := time.Now()
	store := s.store()
	err := store.WriteDead(t.Context(), []state.DeadLetter{letter("do-arquivo", "1", "1", "velho", now.AddDate(0, 0, -8)), letter("do-arquivo", "1", "1", "novo", now)})
	if err != nil {
		t.Fatal(err)
	}
	count := func() int64 {
		t.Helper()
		n, err := store.CountDead(t.Context(), state.Filter{})
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	b := s.run()
	b.waitLog("2 dead letters will be deleted after")
	if _, out, _ := s.gancho("status"); !strings.Contains(out, "2 dead letters will be deleted after") || !strings.Contains(out, "state.keep_dead") {
		t.Errorf("status:\n%s", out)
	}
	b.stop()
	if n := count(); n != 2 {
		t.Fatalf("%d dead letters are left before their time", n)
	}
	// A week later.
	redis := s.redisClient()
	announced := redis.HGet(t.Context(), "gancho:expiry", queue.ExpiringDead).Val()
	year := fmt.Sprintf(`"due":"%d`, now.AddDate(0, 0, 7).UTC().Year())
	past := strings.Replace(announced, year, `"due":"2020`, 1)
	if past == announced {
		t.Fatalf("announced is %s", announced)
	}
	if err := redis.HSet(t.Context(), "gancho:expiry", queue.ExpiringDead, past).Err(); err != nil {
		t.Fatal(err)
	}
	b = s.run()
	b.waitLog("deleted, as was announced")
	b.waitLog("1 dead letters will be deleted after") // the other one, in its turn
	if n := count(); n != 1 {
		t.Errorf("%d dead letters are left", n)
	}
	if _, text := fetch(t, "http://"+b.listening()+"/metrics"); !strings.Contains(text, `gancho_expired_total{kind="dead_letters"} 1`) {
		t.Error("the metric does not count what was deleted")
	}
	if out := s.ok("audit", "--json"); !strings.Contains(out, "dead.expire") {
		t.Errorf("the audit log:\n%s", out)
	}
	b.stop()
}
