package main_test

import (
	"bytes"
	"encoding/base64"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/testservers"
)

// parkedRules are rules whose expression fails on a row, for one placeholder each.
const parkedRules = `rules:
  - event: cliente.novo
    table: clientes
    on: insert
    when: nome <> '%s'
    data: {id: id, nome: nome, cpf: mask_cpf(cpf), idade: %s}
`

// TestRedriveParked: what was parked is sent once its rule is fixed, as it would have been,
// also when the bridge is killed over it; and Redis shows none of its row.
func TestRedriveParked(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, nome text, cpf text, idade text, foto text)")
	w.extra = "state: {key: '" + stateKey + "'}\nprivacy: {deny: [clientes.foto]}"
	w.rules = fmt.Sprintf(parkedRules, "", "idade::int")
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	s := &session{world: w, path: w.write()}
	b := w.run()
	const n = 60
	w.exec(`insert into clientes select g, 'Marcador da Silva ' || g, '12345678909', 'x' || g, 'foto-secreta' from generate_series(0, $1::int) g`, n)
	b.waitLogs("change parked", n+1)
	w.exec(`insert into clientes values (1000, 'Ana', '98765432100', '33', '')`)
	r.waitCount(1)

	list := func() map[string]queue.ParkedChange {
		t.Helper()
		all := map[string]queue.ParkedChange{}
		for _, p := range decoded[control.Page[queue.ParkedChange]](s, "parked", "list", "--limit", "500").Items {
			if !p.Redrivable {
				t.Errorf("%+v cannot be redriven", p)
			}
			all[p.WebhookID] = p
		}
		return all
	}
	parked := list()
	if len(parked) != n+1 {
		t.Fatalf("%d changes are parked, want %d", len(parked), n+1)
	}
	var last queue.ParkedChange
	for _, p := range parked {
		if p.ID.Compare(last.ID) > 0 {
			last = p
		}
	}
	if out := s.ok("parked", "show", last.ID.String()); !strings.Contains(out, "Marcador da Silva 60") || strings.Contains(out, "12345678909") || strings.Contains(out, "foto") {
		t.Errorf("parked show has the columns that the rule shows, and only these:\n%s", out)
	}

	// The rule as it is leaves them there; one that does not fire takes them away.
	if out := s.ok("parked", "redrive", "--all", "--dry-run"); !strings.Contains(out, "61 parked changes would be mapped again") {
		t.Errorf("dry run: %s", out)
	}
	if out := s.ok("parked", "redrive", "--all", "--wait"); !strings.Contains(out, "0 sent, 0 removed because their rule no longer fires, 61 still parked") {
		t.Errorf("redriven by the same rule: %s", out)
	}
	w.rules = fmt.Sprintf(parkedRules, "Marcador da Silva 60", "idade")
	w.write()
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.waitLog("configuration reloaded")
	if out := s.ok("parked", "redrive", last.ID.String(), "--wait"); !strings.Contains(out, "0 sent, 1 removed because their rule no longer fires, 0 still parked") {
		t.Errorf("redriven by a rule that does not fire: %s", out)
	}
	delete(parked, last.WebhookID)

	// Killed over it, the next process goes on.
	s.ok("parked", "redrive", "--all", "--rate", "20/s")
	r.waitCount(5)
	b.kill()
	w.exec("update gancho.jobs set leased = now() where state = 'running'")
	b = w.run()
	arrivals := map[string]bool{}
	for _, a := range r.waitCount(1 + n) {
		p, ok := parked[a.id]
		if !ok {
			if a.field("id") != "1000" || a.replay {
				t.Errorf("unexpected: %s %s", a.id, a.body)
			}
			continue
		}
		arrivals[a.id] = true
		id := p.ID.Position().Ordinal // the change's number in its transaction
		want := fmt.Sprintf(`"data":{"id":%d,"nome":"Marcador da Silva %[1]d","cpf":"***.456.789-**","idade":"x%[1]d"}`, id)
		if !a.replay || !bytes.Contains(a.body, []byte(want)) || !bytes.Contains(a.body, []byte(`"sequence":"`+p.ID.Sequence()+`"`)) {
			t.Errorf("replay %v: %s\nwant %s", a.replay, a.body, want)
		}
	}
	if len(arrivals) != n {
		t.Errorf("%d of %d changes arrived", len(arrivals), n)
	}
	b.waitLog("job ended")
	if left := list(); len(left) != 0 {
		t.Errorf("still parked: %v", left)
	}
	b.stop()

	// Redis's file has everything that was ever in Redis.
	searched := 0
	err := filepath.WalkDir(w.redis.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		searched += bytes.Count(content, []byte("$6\r\nchange\r\n"))
		for _, marker := range []string{"12345678909", "foto-secreta"} {
			for _, text := range []string{marker, base64.StdEncoding.EncodeToString([]byte(marker))} {
				if bytes.Contains(content, []byte(text)) {
					t.Errorf("%s has %q in clear", filepath.Base(path), text)
				}
			}
		}
		return err
	})
	if err != nil || searched != n+1 {
		t.Errorf("%d parked changes are in Redis's files, %v", searched, err)
	}
}
