package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/control"
	"gancho/internal/testservers"
)

// manyWorld are databases of one server in one configuration: the first two fit the rules, the third has no column nome.
type manyWorld struct {
	*world
	names []string // of the databases, which are the sources'
	more  string   // lines of the cluster section
}

func newManyWorld(t *testing.T, statements ...string) *manyWorld {
	t.Helper()
	const fits = "create table clientes (id int primary key, empresa_id int, nome text, valor numeric(10,2))"
	w := &manyWorld{world: newWorld(t, testservers.RedisOptions{}, append([]string{fits}, statements...)...)}
	w.rules = "rules:\n  - {event: cliente.novo, table: clientes, on: insert, tenant: empresa_id, columns: [id, nome]}\n"
	w.extra = "state:\n  key: " + stateKey + "\n  dsn: " + pg.Database(t, "")
	for _, dsn := range []string{w.dsn, pg.Database(t, "", append([]string{fits}, statements...)...), pg.Database(t, "", "create table clientes (id int primary key, empresa_id int)")} {
		w.names = append(w.names, dsn[strings.LastIndex(dsn, "/")+1:strings.LastIndex(dsn, "?")])
	}
	return w
}

// write writes gancho.yaml with the databases as a cluster.
func (w *manyWorld) write() string {
	w.t.Helper()
	path := w.world.write()
	text := mustRead(w.t, path)
	_, rest, _ := strings.Cut(text, "\nqueue:")
	text = fmt.Sprintf("cluster:\n  dsn: %s\n  databases: [%s]\n%s\nqueue:%s", w.dsn, strings.Join(w.names, ", "), w.more, rest)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		w.t.Fatal(err)
	}
	return path
}

// says runs a command with the configuration, and expects its exit code and what it prints.
func (w *manyWorld) says(code int, args []string, parts ...string) string {
	w.t.Helper()
	got, stdout, stderr := command(w.t, append(args, "--config", w.write())...)
	out := stdout + stderr
	if got != code {
		w.t.Errorf("gancho %v: exit %d, want %d\n%s", args, got, code, out)
	}
	for _, part := range parts {
		if !strings.Contains(out, part) {
			w.t.Errorf("gancho %v: no %q in\n%s", args, part, out)
		}
	}
	return out
}

// TestWhichSource: each command that works on one source asks which, names some, and says what is meant by a name that is none.
// Where there is one source, there is nothing to choose.
func TestWhichSource(t *testing.T) {
	t.Parallel()
	w := newManyWorld(t)
	one := newPlanWorld(t, pg, w.rules, "create table clientes (id int primary key, empresa_id int, nome text)")
	for _, args := range [][]string{
		{"simulate", "--table", "clientes", "--rows", "where true"}, {"catalogue", "save"}, {"parked", "show", "1-1"}, {"parked", "redrive", "--all"},
		{"backfill", "--all", "--dry-run"}, {"recover", "--dry-run"}, {"why", "--table", "clientes", "--key", "1", "--source", "x"},
	} {
		if args[0] != "why" {
			w.says(2, args, "which source: add --source NAME; there are 3, such as "+w.sorted()[0]+", ")
		}
		w.says(2, append(args, "--source", w.names[0]+"x"), "--source: there is no source", "did you mean")
		got, stdout, stderr := command(t, append(args, "--source", "centro", "--config", one.path)...)
		if got != 2 || !strings.Contains(stderr, "has one source only; leave it out") {
			t.Errorf("gancho %v: exit %d\n%s%s", args, got, stdout, stderr)
		}
	}
}

func (w *manyWorld) sorted() []string { return slices.Sorted(slices.Values(w.names)) }

// TestCheckSources: check goes over all, says what is wrong with one under its name, and how many are in order; --source is that one alone.
func TestCheckSources(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newManyWorld(t)
	w.endpoint("crm", "http://127.0.0.1:1")
	wrong := w.names[2]
	out := w.says(1, []string{"check"}, wrong+":\n", `column "nome" is not in table clientes`, "1 of 3 sources are not in order: "+wrong+"; nothing was changed")
	if strings.Contains(out, w.names[0]+":\n  "+filepath.Join(w.dir, "rules.yaml")) {
		t.Errorf("a source that fits has a mistake:\n%s", out)
	}
	w.says(0, []string{"check", "--source", w.names[1]}, "1 rule and 1 endpoint are valid")
	w.says(1, []string{"check", "--source", wrong}, `column "nome" is not in table clientes`, "found, see above")
	w.says(0, []string{"check", "--offline"}, "rules for 1 table and 1 endpoint read")
	w.names = w.names[:2]
	w.says(0, []string{"check"}, "1 rule and 1 endpoint are valid for 2 sources", "gancho_"+w.names[0])
	w.more = "  except: ['*']"
	w.says(1, []string{"check"}, "no database is chosen by cluster.databases or cluster.sql")
	w.more = "  walsender: 3"
	w.says(1, []string{"check"}, `did you mean "walsenders"?`)
}

// TestOneOfSources: with --source a command does at a database of many what it does where that is the only one.
func TestOneOfSources(t *testing.T) {
	t.Parallel()
	w := newManyWorld(t, "insert into clientes values (1, 7, 'Ana', 1), (2, null, 'Rui', 2)")
	of := func(args ...string) []string { return append(args, "--source", w.names[1]) }
	out := w.says(0, of("simulate", "--table", "clientes", "--rows", "where true"), "cliente.novo")
	if !strings.Contains(out, w.names[1]+"/7") && strings.Contains(out, "tenant") {
		t.Errorf("the tenant does not begin with the source:\n%s", out)
	}
	w.says(0, []string{"migrate"})
	w.says(0, of("parked", "list"), "no change is parked")
	w.says(0, of("prove"), "nothing is counted yet")
	w.says(0, of("backfill", "--all", "--dry-run"), "2 rows")
	w.says(1, []string{"backfill", "--all", "--dry-run", "--source", w.names[2]}, `column "nome" is not in table clientes`)
	w.says(0, of("catalogue", "save"), "1 table and no query of them")
	w.says(1, of("recover", "--dry-run"))
	w.says(0, []string{"endpoints", "list"})
	w.says(0, []string{"secrets", "rekey"}, "0 values encrypted again")
	w.says(2, of("replay", "--from", "1h"), "--source is for --rules")
}

// TestPlanSources: plan goes over all, applies what is pending everywhere after one question, and takes it back; what fails at one
// database does not keep the others from it.
func TestPlanSources(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newManyWorld(t)
	wrong := w.names[2]
	fits := slices.DeleteFunc(w.sorted(), func(name string) bool { return name == wrong })
	out := w.says(1, []string{"plan"}, fits[0]+":\n", fits[1]+":\n", wrong+":\n", "CREATE PUBLICATION gancho FOR TABLE public.clientes", "gancho_"+fits[0],
		"of 3 sources, 2 have changes pending: "+strings.Join(fits, ", ")+"; and 1 failed: "+wrong)
	if strings.Contains(out, "gancho_"+wrong) {
		t.Errorf("there is a plan for a database that does not fit:\n%s", out)
	}
	w.says(1, []string{"plan", "--script"}, `\connect "`+fits[0]+`"`, `\connect "`+fits[1]+`"`)
	w.says(2, []string{"plan", "--json"}, "--json is of one source")
	w.says(3, []string{"plan", "--source", fits[1]}, "pending")
	w.says(1, []string{"plan", "--apply", "--yes", "--as", w.dsn}, "of 3 sources, 1 failed: "+wrong)
	w.says(0, []string{"plan", "--source", fits[1]})
	for _, name := range fits {
		w.says(0, []string{"check", "--source", name})
	}
	w.says(1, []string{"plan"}, "of 3 sources, 1 failed: "+wrong)
	w.says(0, []string{"plan", "--undo", "--yes"})
	w.says(3, []string{"plan", "--source", fits[1]}, "pending")
}

// TestSourcesAtAGlance: status and doctor go over all, the most WAL held first; what is the same of all is told once.
func TestSourcesAtAGlance(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newManyWorld(t)
	wrong := w.names[2]
	fits := slices.DeleteFunc(w.sorted(), func(name string) bool { return name == wrong })
	w.says(1, []string{"plan", "--apply", "--yes"})
	out := w.says(3, []string{"status"}, "SOURCE", "WAL HELD", "visited", "slot gancho_"+wrong+" is missing", "1 of 3 sources are not in order: "+wrong)
	if strings.Index(out, fits[0]) > strings.Index(out, wrong) {
		t.Errorf("a source without a slot is not the last:\n%s", out)
	}
	w.says(3, []string{"status", "--json"}, `"name": "`+fits[0]+`"`, `"held_bytes": `, `"state": "refused"`)
	out = w.says(3, []string{"doctor"}, "slot.missing: "+wrong+": ", `column "nome" is not in table clientes`, "redis.reachable: queue: ")
	if n := strings.Count(out, "max_slot_wal_keep_size is -1"); n != 1 {
		t.Errorf("what is the same of all sources is told %d times:\n%s", n, out)
	}
	if strings.Contains(out, "slot.reader") {
		t.Errorf("a slot that is read from time to time is a finding:\n%s", out)
	}
	w.says(3, []string{"doctor", "--json"}, `"sources": [`, "is read from time to time")
	w.says(3, []string{"doctor", "--source", wrong}, `column "nome" is not in table clientes`)
}

// TestManyDatabases: one process with the databases of a cluster delivers a change of each with the tenant of its source, an endpoint
// gets those of the sources that it chooses, a database that does not fit is left out and told, and one that is created while the
// bridge runs is taken up.
func TestManyDatabases(t *testing.T) {
	t.Parallel()
	w := newManyWorld(t)
	const fits = "create table clientes (id int primary key, empresa_id int, nome text)"
	all, some := newReceiver(t, nil), newReceiver(t, nil)
	first, second, wrong := w.names[0], w.names[1], w.names[2]
	w.endpoint("all", all.url())
	w.endpoint("some", some.url(), "sources: ['"+first+"']")
	w.endpoint("held", all.url(), "state: paused")
	w.names = append(w.names, first+"_x*")
	b := w.start("run", "--create", "--config", w.write())
	b.waitLog("sources taken up")
	insert := func(database, values string) {
		t.Helper()
		if err := pg.Exec(t.Context(), database, "insert into clientes (id, empresa_id, nome) values "+values); err != nil {
			t.Fatal(err)
		}
	}
	b.waitLog(`column \"nome\" is not in table clientes`)
	w.waitSlots("gancho_"+first, "gancho_"+second)
	insert(first, "(1, 7, 'Ana')")
	insert(second, "(1, 7, 'Rui'), (2, null, 'Bia')")
	tenants(t, all.waitCount(3), first+"/7 Ana", second+"/7 Rui", second+" Bia")
	tenants(t, some.waitCount(1), first+"/7 Ana")

	appeared := first + "_x1"
	if err := pg.Exec(t.Context(), "postgres", "create database "+appeared); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { w.dropDatabase(appeared) })
	if err := pg.Exec(t.Context(), appeared, fits); err != nil {
		t.Fatal(err)
	}
	b.signal(syscall.SIGHUP) // else it is seen within a minute
	w.waitSlots("gancho_" + appeared)
	insert(appeared, "(1, 3, 'Eva')")
	tenants(t, all.waitCount(4), first+"/7 Ana", second+"/7 Rui", second+" Bia", appeared+"/3 Eva")
	out := w.says(3, []string{"status"}, appeared, wrong)
	if strings.Index(out, appeared) > strings.Index(out, wrong) {
		t.Errorf("the source without a slot is not the last:\n%s", out)
	}
	out = w.says(0, []string{"endpoints", "list", "--json"})
	if strings.Count(out, `"queued": 0`) != 2 || !strings.Contains(out, `"queued": 4`) {
		t.Errorf("the queues of all sources are not counted:\n%s", out)
	}
	w.says(0, []string{"endpoints", "activate", "some"}, "is active")
	w.erases(b, first, second)
	b.stop()
	w.erased(second+"/7", 1, "--yes")
	w.erased(second+"/7", 0, "--dry-run")
	w.says(0, []string{"prove", "--source", second}, "all sums agree")
	tenants(t, some.waitCount(1), first+"/7 Ana")
}

// erases erases a person of one source over the API, and counts one of another.
func (w *manyWorld) erases(b *bridge, first, second string) {
	w.t.Helper()
	token := decoded[control.CreatedToken](&session{world: w.world, path: w.write()}, "tokens", "create", "root", "--role", "admin").Text
	ask := func(want int, method, path, body, part string) {
		w.t.Helper()
		request, err := http.NewRequestWithContext(w.t.Context(), method, "http://"+b.listening()+"/api/v1"+path, strings.NewReader(body))
		if err != nil {
			w.t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			w.t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }() // it is read only
		text, err := io.ReadAll(answer.Body)
		if err != nil || answer.StatusCode != want || !strings.Contains(string(text), part) {
			w.t.Errorf("%s %s: %d, %v, no %q in\n%s", method, path, answer.StatusCode, err, part, text)
		}
	}
	ask(http.StatusOK, http.MethodPost, "/forget", `{"tenant": "`+first+`/7", "key": "1"}`, `"queued":1`)
	ask(http.StatusOK, http.MethodPost, "/forget", `{"tenant": "`+first+`/7", "key": "1"}`, `"queued":0`)
	ask(http.StatusOK, http.MethodPost, "/forget", `{"tenant": "7", "key": "1"}`, "no source has this tenant")
	w.erased(first+"/7", 0, "--dry-run")
	w.erased(second+"/7", 1, "--dry-run")
}

// erased is how many queued events of the person the command erases, or finds.
func (w *manyWorld) erased(tenant string, want int64, flag string) {
	w.t.Helper()
	receipt := decoded[control.Receipt](&session{world: w.world, path: w.write()}, "forget", "--tenant", tenant, "--key", "1", flag)
	if got := receipt.Erased.Queue.Queued; got != want {
		w.t.Errorf("gancho forget %s of %s: %d queued events, want %d", flag, tenant, got, want)
	}
}

// waitSlots waits until the slots are there, and what is written is sent: one that is being made does not have it.
func (w *manyWorld) waitSlots(names ...string) {
	w.t.Helper()
	conn := w.connect()
	for end := time.Now().Add(time.Minute); ; {
		var n int
		if err := conn.QueryRow(w.t.Context(), "select count(*) from pg_replication_slots where slot_name = any($1) and confirmed_flush_lsn is not null", names).Scan(&n); err != nil {
			w.t.Fatal(err)
		}
		if n == len(names) {
			return
		}
		if time.Now().After(end) {
			w.t.Fatalf("%d of the slots %v are there", n, names)
		}
	}
}

// dropDatabase drops a database with its slots.
func (w *manyWorld) dropDatabase(name string) {
	ctx := context.Background()
	_ = pg.Exec(ctx, "postgres", "select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = '"+name+"' and not active")
	_ = pg.Exec(ctx, "postgres", "drop database "+name+" with (force)")
}

// tenants compares the tenants and names of what has arrived, in any order.
func tenants(t *testing.T, arrived []arrival, want ...string) {
	t.Helper()
	var got []string
	for _, a := range arrived {
		var body struct{ Tenant string }
		if err := json.Unmarshal(a.body, &body); err != nil {
			t.Fatal(err)
		}
		got = append(got, body.Tenant+" "+a.field("nome"))
	}
	slices.Sort(got)
	slices.Sort(want)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}
