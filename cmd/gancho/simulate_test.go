package main_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/demo"
	"gancho/internal/presets"
	"gancho/internal/simulate"
	"gancho/internal/testservers"
	"gancho/migrations"
)

// gymSchema is a database that nobody here wrote rules for, with what must not be shown.
const gymSchema = `revoke create on schema public from public;
create table unidades (id int primary key, sigla text);
create table alunos (id int primary key, unidade_id int, nome text, cpf text, senha text, email text, celular text, situacao char(1), saldo numeric(10,2), ficha jsonb, segredo text);
alter table alunos replica identity full;
create table visitas (id int primary key, aluno_id int, minutos int);
create sequence contador;
insert into unidades values (1, 'CENTRO'), (2, 'SUL');
create publication gancho for table alunos, visitas, unidades`

// personalValues stand in columns of gymSchema whose names say that they are personal.
var personalValues = []string{"12345678909", "hunter2", "ana@example.com", "11987654321", "98765432100", "ultra-secreto"}

const gymRules = `rules:
  - event: aluno.alterado
    table: alunos
    on: update
    when: old.situacao <> 'B' and new.situacao = 'A' and unidade.sigla = 'CENTRO'
    tenant: unidade_id
    lookup: {unidade: "select sigla, id from unidades where id = new.unidade_id"}
    data: {id: id, nome: nome, unidade: unidade.sigla, doc: cpf, documento: mask_cpf(cpf), contato: {email: email}, ficha: ficha, saldo: saldo}
  - event: aluno.novo
    table: alunos
    on: insert
    key: id
    columns: [id, nome, celular, saldo]
  - event: visita.longa
    table: visitas
    on: [insert, update]
    when: (select minutos * 2) > 100
    columns: [id, aluno_id, minutos]
  - event: visita.media
    table: visitas
    on: insert
    when: 600 / minutos > 0
    columns: [id]
  - event: aluno.removido
    table: alunos
    on: delete
    columns: [id]
`

func newGym(t *testing.T, server *testservers.Postgres) *world {
	t.Helper()
	w := newWorldWithout(t, server, "", gymSchema)
	w.queue = "redis: redis://127.0.0.1:1" // which nobody asks
	w.rules = gymRules
	w.extra = "privacy: {deny: [alunos.segredo]}"
	w.endpoint("crm", "http://127.0.0.1:1/", "tenants: [1]", "events: [aluno.*]", "format: form", "extra: {validationtoken: muito-secreto}")
	w.endpoint("bi", "http://127.0.0.1:1/", "events: [visita.*]", "format: cloudevents-binary")
	w.endpoints[1] = strings.Replace(w.endpoints[1], secret, "whsec_b3V0cm8tc2VjcmV0by1kZS0zMi1ieXRlcy1nYW5jaG8=", 1)
	w.write()
	return w
}

const gymChanges = `
	insert into alunos values (1, 1, 'Ana', '12345678909', 'hunter2', 'ana@example.com', '11987654321', 'P', 10.50, '{"cpf": "98765432100", "peso": 61.50}', 'ultra-secreto'),
		(2, 2, 'Bia', '12345678909', 'hunter2', 'ana@example.com', '11987654321', 'P', 0, null, 'ultra-secreto');
	update alunos set situacao = 'A';
	insert into visitas values (1, 1, 90), (2, 1, 10), (3, 2, 0);
	update unidades set sigla = sigla || '!' where id = 9;
	delete from alunos where id = 2`

// simulation runs gancho simulate to its end.
func (w *world) simulation(code int, args ...string) (stdout, stderr string) {
	w.t.Helper()
	cmd := exec.CommandContext(w.t.Context(), os.Args[0], append([]string{"simulate"}, args...)...)
	cmd.Env, cmd.Dir = commandEnv(), w.dir
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	_ = cmd.Run() // the code says how it went
	if got := cmd.ProcessState.ExitCode(); got != code {
		w.t.Fatalf("simulate %s ended with %d, want %d:\n%s%s", strings.Join(args, " "), got, code, out.String(), errs.String())
	}
	return out.String(), errs.String()
}

func (w *world) simulated(code int, args ...string) simulate.Report {
	w.t.Helper()
	out, _ := w.simulation(code, append(args, "--json")...)
	var r simulate.Report
	if err := json.Unmarshal([]byte(out), &r); err != nil {
		w.t.Fatalf("%v:\n%s", err, out)
	}
	return r
}

// live starts a simulation of live changes and waits until the stream has begun.
func (w *world) live(args ...string) *bridge {
	w.t.Helper()
	b := w.start(append([]string{"simulate"}, args...)...)
	b.waitLog("the stream has begun")
	return b
}

// readAll waits until the temporary slot has been confirmed to the end of the WAL.
func (w *world) readAll() {
	w.t.Helper()
	w.exec(`do $$ declare upto pg_lsn := pg_current_wal_insert_lsn(); begin
		for i in 1..1200 loop
			perform pg_stat_clear_snapshot();
			if (select confirmed_flush_lsn >= upto from pg_replication_slots where slot_name like 'gancho_simulate_%' and database = current_database()) then return; end if;
			perform pg_sleep(0.05);
		end loop;
		raise 'the temporary slot is not read'; end $$`)
}

// interrupted ends a live simulation as Ctrl-C does, and returns its report.
func (b *bridge) interrupted(code int) simulate.Report {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGINT); err != nil {
		b.t.Fatal(err)
	}
	b.wait(code)
	return b.report()
}

// report is the one that the process has printed.
func (b *bridge) report() simulate.Report {
	b.t.Helper()
	_, text, _ := strings.Cut("\n"+b.text(), "\n{\n")
	var r simulate.Report
	if err := json.NewDecoder(strings.NewReader("{" + text)).Decode(&r); err != nil {
		b.t.Fatalf("%v:\n%s", err, b.text())
	}
	return r
}

// counts are a report in short.
func counts(r *simulate.Report) map[string]string {
	out := map[string]string{}
	for i := range r.Rules {
		of := &r.Rules[i]
		out[of.Event] += fmt.Sprintf("events %d, parked %d, endpoints %v, none %d, looked %d;", of.Events, of.Parked, of.Endpoints, of.NoEndpoint, of.Looked)
	}
	return out
}

// slots are the slots of simulations of the world's database.
func (w *world) slots() (n int) {
	w.t.Helper()
	err := w.connect().QueryRow(context.Background(), "select count(*) from pg_replication_slots where database = current_database()").Scan(&n)
	if err != nil {
		w.t.Fatal(err)
	}
	return n
}

// TestSimulateLive: live changes, their recording and its replay make the same report;
// nothing personal is in it, and no slot is left, after kill -9 neither.
func TestSimulateLive(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newGym(t, pg)
	b := w.live("--json", "--record", "changes.rec")
	w.exec(gymChanges)
	w.readAll()
	if n := w.slots(); n != 1 {
		t.Errorf("there are %d slots while it runs, want 1", n)
	}
	live := b.interrupted(3)
	if n := w.slots(); n != 0 {
		t.Errorf("there are %d slots after it, want none", n)
	}
	want := map[string]string{
		"aluno.alterado": "events 1, parked 0, endpoints map[crm:1], none 0, looked 2;",
		"aluno.novo":     "events 2, parked 0, endpoints map[], none 2, looked 2;",
		"visita.longa":   "events 1, parked 0, endpoints map[bi:1], none 0, looked 3;",
		"visita.media":   "events 2, parked 1, endpoints map[bi:2], none 0, looked 3;",
		"aluno.removido": "events 1, parked 0, endpoints map[], none 1, looked 1;",
	}
	if diff := cmp.Diff(want, counts(&live)); diff != "" {
		t.Errorf("live, -want +got:\n%s", diff)
	}
	if live.Changes != 8 || live.Transactions == 0 || live.Seconds <= 0 || live.Tables[0].Table != "public.alunos" || live.Tables[0].Changes != 5 {
		t.Errorf("the report has %d changes, %d transactions, %v seconds, and the noisiest table %+v", live.Changes, live.Transactions, live.Seconds, live.Tables[0])
	}
	if r := live.Rules[0]; r.When[0].Number != 3 || r.When[0].False != 1 || r.Size.Largest < 100 || (r.PerHour > 0) != (live.Seconds >= 1) {
		t.Errorf("the rule with a lookup: %+v", r)
	}
	if reasons := live.Rules[3].ParkedFor; len(reasons) != 1 || !strings.Contains(reasons[0].Reason, "22012") {
		t.Errorf("parked for %+v", reasons)
	}
	replayed := w.simulated(3, "--from", "changes.rec")
	if diff := cmp.Diff(counts(&live), counts(&replayed)); diff != "" {
		t.Errorf("-live +replayed:\n%s", diff)
	}
	if replayed.Changes != live.Changes || replayed.Seconds < live.Seconds-1 {
		t.Errorf("replayed: %d changes in %v s, live %d in %v", replayed.Changes, replayed.Seconds, live.Changes, live.Seconds)
	}
	info, err := os.Stat(filepath.Join(w.dir, "changes.rec"))
	if err != nil || info.Mode() != fs.FileMode(0o600) {
		t.Errorf("the recording is %v, %v", info.Mode(), err)
	}
	checkPersonal(t, w)
	if r := w.simulated(0, "--for", "200ms"); r.Changes != 0 || r.Seconds < 0.2 {
		t.Errorf("200 ms: %d changes in %v seconds", r.Changes, r.Seconds)
	}

	killed := w.live()
	if n := w.slots(); n != 1 {
		t.Errorf("there are %d slots, want 1", n)
	}
	killed.kill()
	w.exec(`do $$ begin
		for i in 1..1200 loop
			perform pg_stat_clear_snapshot();
			if not exists (select from pg_replication_slots where database = current_database()) then return; end if;
			perform pg_sleep(0.05);
		end loop;
		raise 'kill -9 has left a slot'; end $$`)
}

// checkPersonal: the texts and the JSON of all simulations have no personal value, and
// samples say where one was.
func checkPersonal(t *testing.T, w *world) {
	t.Helper()
	replay, errs := w.simulation(3, "--from", "changes.rec")
	rows, rowErrs := w.simulation(0, "--table", "alunos", "--rows", "where true")
	document, _ := w.simulation(3, "--from", "changes.rec", "--json")
	if err := os.Mkdir(filepath.Join(w.dir, "outras"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := strings.NewReplacer("doc: cpf", "doc: upper(cpf)", "{email: email}", "{email: lower(email) || '.br'}", "celular, saldo]", "saldo]").Replace(gymRules)
	if err := os.WriteFile(filepath.Join(w.dir, "outras", "regras.yaml"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	compared, _ := w.simulation(3, "--from", "changes.rec", "--diff", "outras")
	for name, text := range map[string]string{"the replay": replay + errs, "rows": rows + rowErrs, "JSON": document, "the comparison": compared} {
		for _, value := range append(personalValues, "muito-secreto", strings.TrimPrefix(secret, "whsec_")) {
			if strings.Contains(text, value) {
				t.Errorf("%s shows %q:\n%s", name, value, text)
			}
		}
	}
	for _, want := range []string{"data%5Bdoc%5D=%2A%2A%2A", "data%5Bdocumento%5D=%2A%2A%2A.456.789-%2A%2A", "data%5Bficha%5D%5Bpeso%5D=61.50", "validationtoken=%2A%2A%2A", "Ce-Type: visita.longa", `"celular":"***"`} {
		if !strings.Contains(replay, want) {
			t.Errorf("the samples lack %q:\n%s", want, replay)
		}
	}
	for _, want := range []string{"aluno.alterado: changed", "contato.email: \"***\", now \"***\"", "aluno.novo: celular differs in 2 events"} {
		if !strings.Contains(compared, want) {
			t.Errorf("the comparison lacks %q:\n%s", want, compared)
		}
	}
	if open, _ := w.simulation(3, "--from", "changes.rec", "--unmasked"); !strings.Contains(open, "data%5Bdoc%5D=12345678909") || strings.Contains(open, "muito-secreto") {
		t.Errorf("unmasked:\n%s", open)
	}
}

// TestSimulateDiff compares two directories of rules, event by event.
func TestSimulateDiff(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newGym(t, pg)
	b := w.live("--json", "--record", "changes.rec")
	w.exec(gymChanges)
	w.exec("insert into visitas select g, 1, g from generate_series(100, 1500) g") // a transaction of many events
	w.readAll()
	b.interrupted(3)
	same := strings.NewReplacer("(select minutos * 2) > 100", "minutos > 50").Replace(gymRules)
	other := strings.NewReplacer("(select minutos * 2) > 100", "minutos > 50 and minutos <> 1500", "600 / minutos > 0", "minutos >= 0",
		"columns: [id, nome, celular, saldo]", "collapse: id\n    data: {id: id, saldo: saldo::text}").Replace(gymRules) + `
  - event: visita.curta
    table: visitas
    on: insert
    when: minutos = 10
    columns: [id]
`
	for name, text := range map[string]string{"same": same, "other": other} {
		if err := os.Mkdir(filepath.Join(w.dir, name), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(w.dir, name, "rules.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	short := func(r *simulate.Report) map[string]string {
		out := map[string]string{}
		for _, d := range r.Diff {
			out[d.Event] = fmt.Sprintf("same %d changed %d new %d gone %d parked %d fixed %d %v", d.Same, d.Changed, d.Added, d.Gone, d.Parked, d.Fixed, d.Fields)
		}
		return out
	}
	equal := w.simulated(3, "--from", "changes.rec", "--diff", "same") // 3: a change is parked by both
	if equal.Worse() {
		t.Errorf("rules that mean the same differ:\n%v", short(&equal))
	}
	got := w.simulated(3, "--from", "changes.rec", "--diff", "other")
	want := map[string]string{
		"aluno.alterado": "same 1 changed 0 new 0 gone 0 parked 0 fixed 0 map[]",
		"aluno.novo":     "same 0 changed 0 new 1 gone 2 parked 0 fixed 0 map[]", // one was deleted in the transaction; collapse gives the other another position
		"aluno.removido": "same 1 changed 0 new 0 gone 0 parked 0 fixed 0 map[]",
		"visita.curta":   "same 0 changed 0 new 1 gone 0 parked 0 fixed 0 map[]",
		"visita.longa":   "same 1401 changed 0 new 0 gone 1 parked 0 fixed 0 map[]",
		"visita.media":   "same 503 changed 0 new 900 gone 0 parked 0 fixed 1 map[]",
	}
	if diff := cmp.Diff(want, short(&got)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	back := w.simulated(3, "--table", "visitas", "--rows", "where id in (1, 3)", "--diff", "other")
	wantRows := map[string]string{
		"visita.longa": "same 1 changed 0 new 0 gone 0 parked 0 fixed 0 map[]", "visita.media": "same 1 changed 0 new 0 gone 0 parked 0 fixed 1 map[]",
	}
	if diff := cmp.Diff(wantRows, short(&back)); diff != "" {
		t.Errorf("rows, -want +got:\n%s", diff)
	}
}

// TestSimulateRefusals: wrong use ends with 2, and creates nothing.
func TestSimulateRefusals(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newGym(t, ownPostgres(t, nil))
	b := w.live("--record", "changes.rec", "--for", "1h")
	w.exec(gymChanges)
	w.readAll()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	b.wait(3)
	whole, err := os.ReadFile(filepath.Join(w.dir, "changes.rec"))
	if err != nil {
		t.Fatal(err)
	}
	line, _, _ := bytes.Cut(whole, []byte("\n"))
	if !bytes.Contains(line, []byte("personal data")) {
		t.Errorf("the recording begins with %q", line)
	}
	damaged := bytes.Clone(whole)
	damaged[len(damaged)/2] ^= 0x55
	for name, content := range map[string][]byte{
		"cut.rec": whole[:len(whole)-20], "head.rec": whole[:len(line)+1], "damaged.rec": damaged, "foreign.rec": []byte("PGCOPY\n\xff\r\n\x00"), "empty.rec": nil,
		"newer.rec": bytes.Replace(whole, []byte("recording 1:"), []byte("recording 2:"), 1),
	} {
		if err := os.WriteFile(filepath.Join(w.dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct{ args, want string }{
		{"--from cut.rec", "ends too early"},
		{"--from head.rec", "ends too early, after 0 whole transactions"},
		{"--from damaged.rec", "damaged"},
		{"--from foreign.rec", "is no recording"},
		{"--from empty.rec", "is no recording"},
		{"--from newer.rec", `version "2"`},
		{"--from nowhere.rec", "no such file"},
		{"--from changes.rec --rows true --table alunos", "do not go together"},
		{"--from changes.rec --for 1m", "do not go together"},
		{"--record changes.rec", "exists"},
		{"--rows true", "--table is missing"},
		{"--table alunos", "--rows is missing"},
		{"--table unidades --rows true", "no rule takes rows of the table unidades"},
		{"--table alunos --rows id='abc'", "--rows: read rows of public.alunos: PostgreSQL does not take the condition"},
		{"--table alunos --rows true --limit 0", "write 1 or more"},
		{"--limit 5", "--limit is for --rows"},
		{"--for -1s", "write a time such as 10m"},
		{"--diff nowhere", "no directory with rule files"},
		{"--from= ", "empty value"},
	} {
		args := strings.Fields(c.args)
		if _, errs := w.simulation(2, args...); !strings.Contains(errs, c.want) {
			t.Errorf("%s: %s", c.args, errs)
		}
	}
	// The slot waits for transactions that are running, and Ctrl-C ends the wait.
	open := w.connect()
	if _, err := open.Exec(context.Background(), "begin; select txid_current()"); err != nil {
		t.Fatal(err)
	}
	waits := w.start("simulate", "--record", "never.rec")
	waits.waitLog("creating a temporary slot")
	if err := waits.cmd.Process.Signal(syscall.SIGINT); err != nil {
		t.Fatal(err)
	}
	waits.wait(1)
	if text := waits.text(); !strings.Contains(text, "before the stream began") {
		t.Errorf("interrupted while it waits: %s", text)
	}
	if _, err := os.Stat(filepath.Join(w.dir, "never.rec")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a recording of nothing stays: %v", err)
	}
	if _, err := open.Exec(context.Background(), "rollback"); err != nil {
		t.Fatal(err)
	}
	w.exec("drop publication gancho")
	if _, errs := w.simulation(1); !strings.Contains(errs, "CREATE PUBLICATION") || !strings.Contains(errs, "creates none") {
		t.Errorf("without the publication: %s", errs)
	}
	w.exec("do $$ begin assert not exists (select from pg_publication where pubname like 'gancho%'); end $$")
	if n := w.slots(); n != 0 {
		t.Errorf("%d slots are left", n)
	}
}

// TestSimulatePresets: over the scenes of the demo every rule of all presets fires, live
// and in the replay.
func TestSimulatePresets(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	schema, seed, identity := migrations.Legacy()
	w := newWorldWithout(t, pg, "", schema, seed, identity, "create publication gancho for all tables with (publish_via_partition_root = true)")
	w.queue, w.source = "redis: redis://127.0.0.1:1", "  timezone: America/Sao_Paulo"
	w.rules = "rules: []"
	path := w.write()
	var files []string
	for _, name := range presets.Names() {
		texts, err := presets.Files(name)
		if err != nil {
			t.Fatal(err)
		}
		for file, text := range texts {
			files = append(files, file)
			if err := os.WriteFile(filepath.Join(w.dir, file), text, 0o600); err != nil {
				t.Fatal(err)
			}
		}
	}
	config, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	config = bytes.Replace(config, []byte("[rules.yaml]"), []byte("["+strings.Join(files, ", ")+"]"), 1)
	if err := os.WriteFile(path, config, 0o600); err != nil {
		t.Fatal(err)
	}
	b := w.live("--json", "--record", "scenes.rec")
	scenes, err := demo.Scenes()
	if err != nil {
		t.Fatal(err)
	}
	conn := w.connect()
	for _, scene := range scenes {
		for _, step := range scene.Steps {
			for _, sql := range step.SQL {
				if _, err := conn.Exec(context.Background(), sql); err != nil {
					t.Fatalf("scene %d: %v", scene.Number, err)
				}
			}
		}
	}
	w.readAll()
	live := b.interrupted(0)
	for _, r := range live.Rules {
		if r.Events == 0 || r.Parked > 0 {
			t.Errorf("%s (%s) has %d events and %d parked changes", r.Event, r.Rule, r.Events, r.Parked)
		}
	}
	replayed := w.simulated(0, "--from", "scenes.rec")
	// The parent of a child's row is read as it is then. The scenes delete an order whose item they have
	// inserted alone: live may still have seen the order, the replay does not.
	of := func(r *simulate.Report) *simulate.RuleReport {
		return &r.Rules[slices.IndexFunc(r.Rules, func(r simulate.RuleReport) bool { return r.Event == "pedido.alterado" })]
	}
	seen, gone := of(&live), of(&replayed)
	if more := seen.Events - gone.Events; more < 0 || more > 1 || seen.Looked-gone.Looked != more || seen.NoEndpoint-gone.NoEndpoint != more {
		t.Errorf("pedido.alterado has %d events of %d changes live, %d of %d in the replay", seen.Events, seen.Looked, gone.Events, gone.Looked)
	}
	seen.Events, seen.Looked, seen.NoEndpoint = gone.Events, gone.Looked, gone.NoEndpoint
	if diff := cmp.Diff(counts(&live), counts(&replayed)); diff != "" {
		t.Errorf("-live +replayed:\n%s", diff)
	}
}

// TestSimulateLagging: a lookup that waits keeps WAL in the source, which is said.
func TestSimulateLagging(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newGym(t, ownPostgres(t, nil))
	w.source = "  lag_warning: 1MiB"
	w.write()
	b := w.live("--json")
	lock := w.connect()
	if _, err := lock.Exec(context.Background(), "begin; lock unidades"); err != nil {
		t.Fatal(err)
	}
	w.exec("insert into alunos (id, unidade_id, situacao) values (1, 1, 'P'); update alunos set situacao = 'A'") // nothing that waits for the lock
	for range 4 {
		w.exec("select pg_logical_emit_message(false, 'carga', repeat('x', 1000000))")
	}
	b.waitLog("of WAL for the slot")
	if _, err := lock.Exec(context.Background(), "rollback"); err != nil {
		t.Fatal(err)
	}
	w.readAll()
	if r := b.interrupted(0); counts(&r)["aluno.alterado"] == "" {
		t.Errorf("no report after the wait: %+v", r)
	}
}
