package main_test

import (
	"bytes"
	"context"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	main "gancho/cmd/gancho"
	"gancho/delivery/endpoint"
	"gancho/internal/testservers"
)

// command runs the command line in this process.
func command(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return commandOn(strings.NewReader(""), args...)
}

// commandOn is command with a standard input.
func commandOn(stdin io.Reader, args ...string) (code int, stdout, stderr string) {
	var out, errs bytes.Buffer
	code = main.Main(context.Background(), args, stdin, &out, &errs)
	return code, out.String(), errs.String()
}

// command runs a command with the world's configuration, checks its exit code and that what it prints has the parts, and
// returns its standard output.
func (w *world) command(code int, args []string, parts ...string) string {
	w.t.Helper()
	got, stdout, stderr := command(w.t, append(args, "--config", w.write())...)
	out := stdout + stderr
	for _, part := range parts {
		if !strings.Contains(out, part) {
			w.t.Errorf("gancho %v: no %q in\n%s", args, part, out)
		}
	}
	if got != code {
		w.t.Fatalf("gancho %v: exit %d, want %d\n%s", args, got, code, out)
	}
	return stdout
}

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		args   string
		code   int
		stdout string
		stderr string
	}{
		{"version", 0, "gancho dev (", ""},
		{"version --json", 0, `{"version":"dev","revision":"`, ""},
		{"--help", 0, "Available Commands", ""},
		{"completion bash", 0, "bash completion", ""},
		{"runn", 2, "", `unknown command "runn"; did you mean "run"?`},
		{"run extra", 2, "", `unexpected argument "extra"`},
		{"run --crate", 2, "", "unknown flag: --crate"},
		{"run --only both", 2, "", `--only "both": write capture or deliver`},
		{"run --config nowhere.yaml", 2, "", "name the file with --config"},
		{"check --config nowhere.yaml", 1, "", "name the file with --config"},
	} {
		t.Run(c.args, func(t *testing.T) {
			t.Parallel()
			code, stdout, stderr := command(t, strings.Fields(c.args)...)
			if code != c.code || !strings.Contains(stdout, c.stdout) || !strings.Contains(stderr, c.stderr) {
				t.Errorf("exit %d, stdout %q, stderr %q; want %d, %q, %q", code, tail(stdout, 300), stderr, c.code, c.stdout, c.stderr)
			}
		})
	}
}

// TestEvents: one line for each event, whatever the number of its rules.
func TestEvents(t *testing.T) {
	t.Parallel()
	presets, err := filepath.Abs("../../internal/presets")
	if err != nil {
		t.Fatal(err)
	}
	rules := filepath.Join(presets, "iset.yaml") + "', '" + filepath.Join(presets, "pacto.yaml") + "', '" + filepath.Join(presets, "superlogica.yaml")
	file := filepath.Join(t.TempDir(), "gancho.yaml")
	text := "source: {dsn: 'postgres://127.0.0.1:1/legado'}\nqueue: {redis: 'redis://127.0.0.1:1'}\nrules: ['" + rules + "']\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command(t, "events", "--config", file)
	lines := strings.Split(strings.TrimSpace(stdout), "\n")
	if code != 0 || len(lines) != 1+44 {
		t.Fatalf("exit %d and %d lines, want 0 and the header with the 44 events of the presets\n%s%s", code, len(lines), stdout, stderr)
	}
	i := slices.IndexFunc(lines, func(line string) bool { return strings.HasPrefix(line, "pedido.removido ") })
	want := []string{"pedido.removido", "Pedidos", "pedidos", "delete or update", "id,numero,status,cliente_id,total", "iset.yaml:86,iset.yaml:95", "Pedido removido"}
	got := regexp.MustCompile(" {2,}").Split(strings.ReplaceAll(lines[max(i, 0)], presets+"/", ""), -1)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable, "create table sem_chave (a int)")
	w.endpoint("a", "http://127.0.0.1:9")
	w.rules = driftRules
	w.command(0, []string{"check"}, "2 rules and 1 endpoint are valid")
	// Every mistake of every rule in one run, each with its place.
	w.rules = `rules:
  - event: ficha.valor
    table: fichas
    on: insert
    when: valro > 10
    data: {id: id, valor: valor}
  - event: ficha.nome
    table: ficha
    on: insert
    data: {id: id}
  - event: sem.chave
    table: sem_chave
    on: update
    data: {a: a}
`
	w.command(1, []string{"check"}, "rules.yaml:5:11", "valor", "rules.yaml:8:12", "fichas", "rules.yaml:12", "add a primary key")
}

// TestRefusals starts the bridge where it cannot work: each is refused with a
// way out, and leaves nothing behind.
func TestRefusals(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		change func(w *world)
		args   []string
		want   []string
		code   int
	}{
		"nothing created without --create": {
			func(*world) {}, []string{"run"},
			[]string{"CREATE PUBLICATION", "pg_create_logical_replication_slot", "--create"}, 1,
		},
		"eviction": {
			func(w *world) {
				if err := w.redisClient().ConfigSet(context.Background(), "maxmemory-policy", "allkeys-lru").Err(); err != nil {
					w.t.Fatal(err)
				}
			},
			[]string{"run", "--create"}, []string{"maxmemory-policy", "noeviction"}, 1,
		},
		"no persistence": {
			func(w *world) {
				if err := w.redisClient().ConfigSet(context.Background(), "appendonly", "no").Err(); err != nil {
					w.t.Fatal(err)
				}
			},
			[]string{"run", "--create"}, []string{"appendonly", "allow_volatile"}, 1,
		},
		"missing variable": {
			func(w *world) { w.extra = "log: {level: \"${GANCHO_NOT_SET}\"}" },
			[]string{"run"}, []string{"GANCHO_NOT_SET", "gancho.yaml:"}, 2,
		},
		"bad password": {
			func(w *world) { w.dsn = strings.Replace(w.dsn, "postgres@", "nobody:hunter2@", 1) },
			[]string{"run"}, []string{"connect to the source"}, 1,
		},
		"table without key": {
			func(w *world) {
				w.rules = "rules:\n  - {event: x, table: sem_chave, on: delete, data: {a: a}}\n"
			},
			[]string{"run", "--create"}, []string{"sem_chave", "add a primary key"}, 1,
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, testservers.RedisOptions{}, driftTable, "create table sem_chave (a int)")
			w.rules = driftRules
			w.endpoint("a", "http://127.0.0.1:9")
			slot := w.slot()
			c.change(w)
			code, _, stderr := command(t, append(c.args, "--config", w.write())...)
			if code != c.code {
				t.Errorf("exit %d, want %d", code, c.code)
			}
			for _, part := range c.want {
				if !strings.Contains(stderr, part) {
					t.Errorf("the refusal does not have %q:\n%s", part, stderr)
				}
			}
			if strings.Contains(stderr, "hunter2") {
				t.Error("the refusal shows the password")
			}
			var slots int
			conn, err := pgx.Connect(context.Background(), pg.DSN("postgres"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = conn.Close(context.Background()) }()
			if err := conn.QueryRow(context.Background(), "select count(*) from pg_replication_slots where slot_name = $1", slot).Scan(&slots); err != nil {
				t.Fatal(err)
			}
			if slots != 0 {
				t.Error("a slot was left behind")
			}
		})
	}
}

// TestSourceChanged recreates the slot behind the bridge's back: it says so
// and continues only when told to, with everything delivered under a new epoch.
func TestSourceChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r, b := w.firstEvent()
	b.stop()
	w.exec("select pg_drop_replication_slot('" + w.slot() + "')")
	b = w.start("run", "--create", "--config", w.write())
	if line := b.waitLog("capture is refused"); !strings.Contains(line, "gancho recover") || !strings.Contains(line, "it does not exist") {
		t.Errorf("the refusal does not say what goes on: %s", line)
	}
	b.stop()
	b = w.start("run", "--only", "capture", "--create", "--config", w.write())
	b.wait(1) // there is nothing else to do
	b = w.run("--accept-source")
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	checkDelivery(t, r.waitCount(2), 2)
	b.stop()
}

func TestCheckOffline(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for name, text := range map[string]string{
		"gancho.yaml": "source: {dsn: postgres://nowhere.invalid/x}\nqueue: {redis: redis://nowhere.invalid}\nrules: [r.yaml]\n",
		"r.yaml":      driftRules,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, stdout, stderr := command(t, "check", "--offline", "--config", filepath.Join(dir, "gancho.yaml"))
	if code != 0 || !strings.Contains(stdout, "not checked against the source") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
}

// TestCheckNamesTextSecrets: a secret that receivers need in another form is named, with
// the command that prints that form, and not shown.
func TestCheckNamesTextSecrets(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	const text = "combinado por telefone, $5 e `mais`"
	for name, content := range map[string]string{
		"gancho.yaml": "source: {dsn: postgres://nowhere.invalid/x}\nqueue: {redis: redis://nowhere.invalid}\nrules: [r.yaml]\nendpoints:\n" +
			"  - {name: texto, url: https://crm.example.com, secret: '" + text + "'}\n  - {name: outro, url: https://crm.example.com, secret: " + secret + "}\n",
		"r.yaml": driftRules,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	code, _, stderr := command(t, "check", "--offline", "--config", filepath.Join(dir, "gancho.yaml"))
	_, advice, found := strings.Cut(stderr, "base64 of it: ")
	advice, _, _ = strings.Cut(advice, ". If")
	if code != 0 || !found || !strings.Contains(stderr, `endpoint "texto"`) || strings.Contains(stderr, "outro") || strings.Contains(stderr, "combinado") {
		t.Fatalf("exit %d\n%s", code, stderr)
	}
	shell := exec.CommandContext(t.Context(), "sh", "-c", advice)
	shell.Env = append(os.Environ(), "SECRET="+text)
	out, err := shell.CombinedOutput()
	key, parseErr := endpoint.ParseSecret(text)
	if err != nil || parseErr != nil || strings.TrimSpace(string(out)) != key.Reveal() {
		t.Errorf("%s prints %q, %v, %v", advice, out, err, parseErr)
	}
}

// TestSourceTakenBack: a server whose WAL ends before what was read of it was
// restored; its next changes would be taken for ones that are there already.
func TestSourceTakenBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	r, b := w.firstEvent()
	b.stop()
	// As if the server had been far ahead before it was restored.
	if err := w.redisClient().HSet(context.Background(), "gancho:source", "confirmed", uint64(1)<<44).Err(); err != nil {
		t.Fatal(err)
	}
	b = w.start("run", "--config", w.write())
	b.waitLog("capture is refused")
	b.stop()
	for _, part := range []string{"restored to an earlier state", "gancho recover", "--accept-source"} {
		if !strings.Contains(b.text(), part) {
			t.Errorf("the refusal does not have %q:\n%s", part, b.text())
		}
	}
	b = w.run("--accept-source")
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	checkDelivery(t, r.waitCount(2), 2)
	b.stop()
}

// TestRedisComesBackVolatile: on the word of a Redis that was durable and restarts
// without its append-only file nothing is confirmed, until it has one again.
func TestRedisComesBackVolatile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	r := newReceiver(t, nil)
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("insert into eventos (cliente_id, seq) values (1, 1)")
	w.redis.Kill()
	w.redis.Set("appendonly", "no")
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	w.exec("insert into eventos (cliente_id, seq) values (1, 2)")
	b.waitLog("positions cannot be confirmed")
	if !strings.Contains(b.text(), "run CONFIG SET appendonly yes") {
		t.Errorf("the error does not name the setting:\n%s", b.text())
	}
	if _, text := fetch(t, "http://"+b.listening()+"/readyz"); !strings.Contains(text, "appendonly") {
		t.Errorf("/readyz answers %s", text)
	}
	if err := w.redisClient().ConfigSet(t.Context(), "appendonly", "yes").Err(); err != nil {
		t.Fatal(err)
	}
	b.waitLog("positions are confirmed again")
	r.waitFor(time.Minute, "both events", func(all []arrival) bool {
		return slices.ContainsFunc(all, func(a arrival) bool { return a.field("seq") == "1" }) &&
			slices.ContainsFunc(all, func(a arrival) bool { return a.field("seq") == "2" })
	})
	b.stop()
}
