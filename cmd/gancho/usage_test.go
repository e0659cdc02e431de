package main_test

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

// TestWrongInput gives every command what it cannot take: it says what is
// wrong, ends with 2, and has changed nothing.
func TestWrongInput(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newSession(t)
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example.com")
	s.ok("tokens", "create", "painel")
	before := s.everything()
	const url = "--url=https://crm.example.com"
	for _, c := range []struct {
		args string // with | between them
		want string
	}{
		{"endpoints|lst", `did you mean "list"?`},
		{"endpoints|frobnicate", "there are activate, add,"},
		{"endpoints|list|extra", `unexpected argument "extra"`},
		{"endpoints|show", "name the endpoint"},
		{"endpoints|show|a|b", `unexpected argument "b"`},
		{"endpoints|show|nunca", "see gancho endpoints list"},
		{"endpoints|add", `the key "url" is missing`},
		{"endpoints|add|" + url, "the endpoint has no name"},
		{"endpoints|add|a|b", "it takes one name"},
		{"endpoints|add|novo", `the key "url" is missing`},
		{"endpoints|add|Novo Nome|" + url, "use lower-case letters"},
		{"endpoints|add|crm|" + url, `an endpoint "crm" exists already`},
		{"endpoints|add|do-arquivo|" + url, `an endpoint "do-arquivo" exists already`},
		{"endpoints|add|novo|--url=ftp://x", "not an http or https address"},
		{"endpoints|add|novo|--url=http://crm.example.com", "the url is not https"},
		{"endpoints|add|novo|--url=https://10.0.0.1/", "allow_private"},
		{"endpoints|add|novo|--url=", "has an empty value"},
		{"endpoints|add|novo|" + url + "|--format=xml", `unknown value "xml"`},
		{"endpoints|add|novo|" + url + "|--order=random", `unknown value "random"`},
		{"endpoints|add|novo|" + url + "|--style=pacto", `"pacto"`},
		{"endpoints|add|novo|" + url + "|--concurrency=many", "whole number"},
		{"endpoints|add|novo|" + url + "|--rate=fast", "is not a rate"},
		{"endpoints|add|novo|" + url + "|--timeout=soon", "is not a duration"},
		{"endpoints|add|novo|" + url + "|--allow-private=10.0.0.1/8", "bits set"},
		{"endpoints|add|novo|" + url + "|--events=a b", "not a pattern"},
		{"endpoints|add|novo|" + url + "|--header=X-Api-Key", "--header: write 'name:value'"},
		{"endpoints|add|novo|" + url + "|--header=Host: x", "is set by Gancho"},
		{"endpoints|add|novo|" + url + "|--header=X-A: ${GANCHO_NOT_SET}", "GANCHO_NOT_SET is not set"},
		{"endpoints|add|novo|" + url + "|--extra=token", "--extra: write 'name=value'"},
		{"endpoints|add|novo|" + url + "|--set=rate", "--set: write key=YAML"},
		{"endpoints|add|novo|" + url + "|--set=.a=1", "--set: write key=YAML"},
		{"endpoints|add|novo|" + url + "|--set=rat=1/s", `did you mean "rate"?`},
		{"endpoints|add|novo|" + url + "|--set=rate=", "the value is empty"},
		{"endpoints|add|novo|" + url + "|--set=retry=[5s", "read YAML"},
		{"endpoints|add|novo|" + url + "|--set=secret=x", "--secret-file"},
		{"endpoints|add|novo|" + url + "|--set=batch.max=0", "out of range"},
		{"endpoints|add|novo|" + url + "|--secret-env=GANCHO_NOT_SET", "is not set"},
		{"endpoints|add|novo|" + url + "|--secret-file=nowhere", "nowhere"},
		{"endpoints|add|novo|" + url + "|--secret-file=-", "at least 24"}, // the standard input is empty
		{"endpoints|add|novo|" + url + "|--ed25519|--secret-file=-", "exclude each other"},
		{"endpoints|add|novo|--file=nowhere.yaml", "nowhere.yaml"},
		{"endpoints|add|novo|--file=-", "the document is empty"},
		{"endpoints|add|novo|--file=-|--secret-file=-", "cannot both be the standard input"},
		{"endpoints|edit", "name the endpoint"},
		{"endpoints|edit|crm", "nothing to change"},
		{"endpoints|edit|nunca|--rate=1/s", `endpoint "nunca" does not exist`},
		{"endpoints|edit|do-arquivo|--rate=1/s", "is in gancho.yaml"},
		{"endpoints|edit|crm|--rate=-1/s", "is not a rate"},
		{"endpoints|edit|crm|--set=name=x", "cannot change name"},
		{"endpoints|edit|crm|--set=state=paused", "use activate, pause or deactivate"},
		{"endpoints|edit|crm|--set=headers={X-A: '***'}", "*** stands for the value that is there"},
		{"endpoints|edit|crm|--rate=1/s|--version=-1", "--version -1"},
		{"endpoints|edit|crm|--rate=1/s|--version=x", "invalid argument"},
		{"endpoints|activate", "name the endpoint"},
		{"endpoints|activate|nunca", `endpoint "nunca" does not exist`},
		{"endpoints|pause|nunca", `endpoint "nunca" does not exist`},
		{"endpoints|pause|do-arquivo", "is in gancho.yaml"},
		{"endpoints|deactivate|nunca", `endpoint "nunca" does not exist`},
		{"endpoints|rotate|nunca", `endpoint "nunca" does not exist`},
		{"endpoints|rotate|do-arquivo", "is in gancho.yaml"},
		{"endpoints|rotate|crm|--overlap=soon", "is not a duration"},
		{"endpoints|rotate|crm|--overlap=1000d", "out of range"},
		{"endpoints|rotate|crm|--secret-env=GANCHO_NOT_SET", "is not set"},
		{"endpoints|test|nunca", `endpoint "nunca" does not exist`},
		{"endpoints|test", "name the endpoint"},
		{"endpoints|remove", "name the endpoint"},
		{"endpoints|remove|nunca", `endpoint "nunca" does not exist`},
		{"events|extra", `unexpected argument "extra"`},
		{"deliveries|extra", `unknown command "extra"`},
		{"deliveries|--from=yesterday", "is not a time"},
		{"deliveries|--from=2026-02-01|--to=2026-01-01", "is not before"},
		{"deliveries|--limit=0", "from 1 to 500"},
		{"deliveries|--limit=5|--all", "leave out --limit"},
		{"deliveries|--cursor=x", "cursor"},
		{"deliveries|--key=", "--key has an empty value"},
		{"deliveries|--outcome=lost", "write one of delivered, retry, refused, gone, dead, superseded"},
		{"dead|drp", `did you mean "drop"?`},
		{"dead|list|--from=x", "is not a time"},
		{"dead|list|--cursor=x", "cursor"},
		{"dead|list|--parked|--key=1", "cannot be combined"},
		{"dead|list|--parked|--cursor=x", "cursor"},
		{"dead|list|--limit=501", "from 1 to 500"},
		{"dead|show", "name the dead letter"},
		{"dead|show|x", `"x" is not the number`},
		{"dead|show|4711", "dead letter 4711 does not exist"},
		{"dead|redrive", "say which dead letters"},
		{"dead|redrive|x", `"x" is not the number`},
		{"dead|redrive|1|--all", "leave out --all"},
		{"dead|redrive|--endpoint=nunca", `endpoint "nunca" does not exist`},
		{"dead|redrive|--all|--rate=fast", "is not a rate"},
		{"dead|redrive|--all|--dry-run|--wait", "leave one out"},
		{"dead|drop|--yes", "say which dead letters"},
		{"dead|drop|--all", "add --yes"},
		{"dead|drop|-1", "unknown shorthand flag"},
		{"dead|drop|0|--yes", `"0" is not the number`},
		{"parked|drp", `did you mean "drop"?`},
		{"parked|list|--from=x", "is not a time"},
		{"parked|list|--cursor=x", "cursor"},
		{"parked|list|--id=x", "webhook-id"},
		{"parked|list|--key=1", "unknown flag"},
		{"parked|show", "name the parked change"},
		{"parked|show|4711", "is not the position of a parked change"},
		{"parked|show|1-1", "parked change 1-1 does not exist"},
		{"parked|redrive", "say which parked changes"},
		{"parked|redrive|x", "is not the position of a parked change"},
		{"parked|redrive|1-1|--all", "leave out --all"},
		{"parked|redrive|--event=", "--event has an empty value"},
		{"parked|redrive|--all|--rate=fast", "is not a rate"},
		{"parked|redrive|--all|--dry-run|--wait", "leave one out"},
		{"parked|redrive|--from=2026-02-01|--to=2026-01-01", "is not before"},
		{"parked|drop|--yes", "say which parked changes"},
		{"parked|drop|--all", "add --yes"},
		{"parked|drop|0|--yes", "is not the position of a parked change"},
		{"resend", "--endpoint is missing"},
		{"resend|--endpoint=crm", "say which events"},
		{"resend|--endpoint=nunca|--key=1", `endpoint "nunca" does not exist`},
		{"resend|--endpoint=crm|--from=x", "is not a time"},
		{"resend|--endpoint=crm|--key=1|--rate=0/s", "is not a rate"},
		{"resend|--endpoint=crm|--id=a,,b", "--id has an empty value"},
		{"resend|lst", `did you mean "list"?`},
		{"resend|show|x", `"x" is not the number`},
		{"resend|show|4711", "job 4711 does not exist"},
		{"resend|cancel|4711", "job 4711 does not exist"},
		{"resend|list|--cursor=0", "cursor"},
		{"tokens|create", "name the token"},
		{"tokens|create|Painel da Unidade", "cannot be the name of a token"},
		{"tokens|create|painel", `a token "painel" exists already`},
		{"tokens|create|novo|--role=root", "write viewer, operator or admin"},
		{"tokens|create|novo|--expires=soon", "is not a duration"},
		{"tokens|revoke|nunca", `token "nunca" does not exist`},
		{"tokens|list|x", `unexpected argument "x"`},
		{"audit|--from=x", "is not a time"},
		{"audit|--cursor=x", "cursor"},
		{"audit|--limit=x", "invalid argument"},
		{"status|x", `unexpected argument "x"`},
		{"status|--frobnicate", "unknown flag: --frobnicate\nRun 'gancho status --help'"},
		{"status|--jsn", "unknown flag: --jsn; did you mean --json?"},
		{"endpoints|add|novo|--evens=a.b", "did you mean --events?"},
	} {
		t.Run(c.args, func(t *testing.T) {
			code, stdout, stderr := s.gancho(strings.Split(c.args, "|")...)
			if code != 2 || !strings.Contains(stderr, c.want) || stdout != "" {
				t.Errorf("exit %d, want 2 and %q\n%s%s", code, c.want, tail(stdout, 300), stderr)
			}
		})
	}
	if after := s.everything(); after != before {
		t.Errorf("something has changed:\n%s\n%s", before, after)
	}
}

// everything is the contents of Gancho's tables, except what their own tests
// look at, and the keys of its Redis.
func (s *session) everything() string {
	s.t.Helper()
	conn, err := pgx.Connect(context.Background(), s.dsn)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	var all strings.Builder
	for _, table := range []string{"endpoints", "secrets", "tokens", "audit", "dead_letters", "events", "jobs", "drops", "revision"} {
		var text string
		if err := conn.QueryRow(context.Background(), "select coalesce(string_agg(t::text, chr(10) order by t::text), '') from gancho."+table+" t").Scan(&text); err != nil {
			s.t.Fatal(err)
		}
		all.WriteString(table + ":\n" + text + "\n")
	}
	keys, err := s.redisClient().Keys(context.Background(), "*").Result()
	if err != nil {
		s.t.Fatal(err)
	}
	return all.String() + strings.Join(keys, " ")
}

// stateCommands are the commands that need the state, each in a form that would work.
func stateCommands() []string {
	return []string{
		"endpoints add x --url https://x.example.com", "endpoints edit do-arquivo2 --rate 1/s", "endpoints rotate x", "endpoints remove x",
		"deliveries", "dead list", "dead show 1", "dead redrive --all", "dead drop --all --yes", "resend --endpoint do-arquivo --key 1", "resend list",
		"resend show 1", "resend cancel 1", "parked redrive --all", "tokens create x", "tokens list", "tokens revoke x", "audit",
	}
}

// TestWithoutState: what needs the state says how to have one; what does not, works.
func TestWithoutState(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	w.endpoint("do-arquivo", "http://127.0.0.1:9")
	s := &session{world: w, path: w.write()}
	for _, c := range stateCommands() {
		s.fails(1, "state.key", strings.Fields(c)...)
	}
	for _, c := range []string{"endpoints list", "endpoints show do-arquivo", "endpoints activate do-arquivo", "dead list --parked", "parked list", "parked drop --all --yes", "events"} {
		s.ok(strings.Fields(c)...)
	}
	s.leave("sumido")
	if _, stdout, _ := s.gancho("status"); !strings.Contains(stdout, "sumido, which no longer exists; add it again") || strings.Contains(stdout, "endpoints remove") {
		t.Errorf("status advises what needs the state:\n%s", stdout)
	}
	s.fails(2, `endpoint "nunca" does not exist`, "endpoints", "show", "nunca")
	s.fails(2, "is in gancho.yaml", "endpoints", "pause", "do-arquivo")
}

// TestServersAway: each command says in one line which server does not answer,
// and what to look at.
func TestServersAway(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	nobody := closedPort(t)
	whole := s.world
	oneLine := func(want string, args ...string) {
		t.Helper()
		code, _, stderr := s.gancho(args...)
		if code != 1 || !strings.Contains(stderr, want) || strings.Count(strings.TrimSpace(stderr), "\n") > 0 || strings.Contains(stderr, "hunter2") {
			t.Errorf("gancho %s: exit %d, want 1 and one line with %q\n%s", strings.Join(args, " "), code, want, stderr)
		}
	}
	// The state database.
	away := *whole
	away.dir = t.TempDir()
	away.extra = "state: {key: '" + stateKey + "', dsn: 'postgres://eu:hunter2@" + nobody + "/x'}"
	s = &session{world: &away, path: away.write()}
	for _, c := range stateCommands() {
		oneLine("check state.dsn", strings.Fields(c)...)
	}
	oneLine("check state.dsn", "endpoints", "list")
	// What is queued for an endpoint that is only unknown is not left behind.
	s.leave("guardado")
	code, stdout, _ := s.gancho("status")
	if code != 3 || !strings.Contains(stdout, "check state.dsn") || strings.Contains(stdout, "guardado") || !strings.Contains(stdout, "do-arquivo") {
		t.Errorf("status: exit %d\n%s", code, stdout)
	}
	// Its schema.
	empty := *whole
	empty.dir = t.TempDir()
	empty.extra = "state: {key: '" + stateKey + "', dsn: '" + pg.Database(t, "") + "'}"
	s = &session{world: &empty, path: empty.write()}
	for _, c := range stateCommands() {
		oneLine("gancho migrate", strings.Fields(c)...)
	}
	// Its key.
	wrong := *whole
	wrong.dir = t.TempDir()
	wrong.extra = "state: {key: nonsense}"
	s = &session{world: &wrong, path: wrong.write()}
	for _, c := range stateCommands() {
		oneLine(filepath.Base(s.path)+":", strings.Fields(c)...)
	}
	// Redis.
	s = &session{world: whole, path: filepath.Join(whole.dir, "gancho.yaml")}
	whole.redis.Stop()
	// Nothing is claimed about what only Redis knows.
	if _, stdout, _ := s.gancho("status"); !strings.Contains(stdout, "do-arquivo  active?") {
		t.Errorf("status without Redis:\n%s", stdout)
	}
	for _, c := range []string{"endpoints list", "endpoints show do-arquivo", "endpoints activate do-arquivo", "endpoints remove x", "parked list", "parked redrive --all", "parked drop --all --yes"} {
		oneLine("check queue", strings.Fields(c)...)
	}
	for _, c := range []string{"tokens list", "audit", "dead list", "endpoints add y --url https://y.example.com", "endpoints pause y", "resend list"} {
		s.ok(strings.Fields(c)...)
	}
	code, stdout, _ = s.gancho("status")
	if code != 3 || !strings.Contains(stdout, "do-arquivo") || !strings.Contains(stdout, "check queue") {
		t.Errorf("status: exit %d\n%s", code, stdout)
	}
}
