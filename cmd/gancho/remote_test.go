package main_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/remote"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// changing are parts of outputs that are others each time, and what stands for them.
var changing = []struct {
	part *regexp.Regexp
	as   string
}{
	{regexp.MustCompile(`\d{4}-\d\d-\d\d[T ][0-9:.]+(Z| ?[+-]\d\d:\d\d)`), "TIME"},
	{regexp.MustCompile(`(gancho|whsec|whpk|whsk)_[A-Za-z0-9+/=_-]{20,}`), "SECRET"},
	{regexp.MustCompile(`/console/enter/\S+?(["\n])`), "/console/enter/LINK$1"},
	{regexp.MustCompile(`\d+(\.\d+)? ms\b`), "MS"},
	{regexp.MustCompile(`"(dns|connect|tls|first_byte|total)_ms": [0-9.]+`), `"$1_ms": MS`},
	{regexp.MustCompile(`\b\d+(\.\d+)?(s|m\d+s) (ago|old)\b`), "AGE"},
	{regexp.MustCompile(`(?m)\b(\d+m)?\d+s\b`), "AGE"},
	{regexp.MustCompile(`msg_\w+`), "ID"},
	{regexp.MustCompile(`v1,\S+?(["\n])`), "v1,SIGNATURE$1"},
	{regexp.MustCompile(`"id": "[0-9a-f-]{20,}"`), `"id": "ID"`},
	{regexp.MustCompile(`webhook-(id|timestamp): \S+`), "webhook-$1: X"},
	{regexp.MustCompile(`(?i)("webhook-(id|timestamp)": \[\s*)"[^"]+"`), `$1"X"`},
	{regexp.MustCompile(`\\"(id|timestamp)\\":\\"[^"]+\\"`), `\"$1\":\"X\"`},
	{regexp.MustCompile(`"(id|timestamp)":"[^"]+"`), `"$1":"X"`},
	{regexp.MustCompile(`\b(cli:\w+|token:mesa)\b`), "WHO"},
	{regexp.MustCompile(`127\.0\.0\.1:\d+`), "ADDRESS"},
	{regexp.MustCompile(`(unconfirmed_bytes|held_bytes|used|queued_bytes)": \d+`), `$1": N`},
	{regexp.MustCompile(`\d+(\.\d+)? [kMGT]?B\b`), "N BYTES"},
	{regexp.MustCompile(`\b\d+ bytes\b`), "N BYTES"},
	{regexp.MustCompile(`\(\d+ %\)`), "(N %)"},
	{regexp.MustCompile(`sequence(\\?":\\?")\d+`), "sequence${1}N"},
	{regexp.MustCompile(`\w{3}, \d\d \w{3} \d{4} [0-9:]+ GMT`), "TIME"},
	{regexp.MustCompile(`'\d+GB'`), "'N GB'"}, // of other tests' WAL, too, as are senders
	{regexp.MustCompile(`\d+ of \d+ (WAL senders|replication slots)`), "N of N $1"},
	{regexp.MustCompile(`(?m)^.*resends or redrives that have not ended.*\n`), ""}, // while one has ended a moment before
	{regexp.MustCompile(`\d+ (seconds|transactions)`), "N $1"},
	{regexp.MustCompile(`matched_per_minute": [0-9.]+`), `matched_per_minute": N`},
	{regexp.MustCompile(`(?m)\d+\.\d +\d+$`), "N"},
	{regexp.MustCompile(`"id": \d+`), `"id": N`},
	{regexp.MustCompile(`k1:[0-9a-f]{32}`), "k1:SUBJECT"},
	{regexp.MustCompile(` +`), " "},
	{regexp.MustCompile(`(\bjob|\bshow|audit entry|"audit":) \d+`), "$1 N"},
	{regexp.MustCompile(`(?m)^\d+ TIME WHO`), "N TIME WHO"},
}

func steady(text string) string {
	for _, c := range changing {
		text = c.part.ReplaceAllString(text, c.as)
	}
	return text
}

// desk is a session with a bridge that runs, and a login at its API.
type desk struct {
	*session
	address string
	tried   map[string]bool // command lines without their arguments
}

func newDesk(t *testing.T) *desk {
	t.Helper()
	w := newWorld(t, testservers.RedisOptions{}, "create table cobrancas (id int primary key, empresa_id int, status text, valor int)", "alter table cobrancas replica identity full")
	w.extra = "state: {key: '" + stateKey + "', keep_events: 7d, keep_answers: all}\nconsole: {listen: " + closedPort(t) + "}"
	w.rules = `rules:
  - {event: cobranca.nova, table: cobrancas, on: insert, when: 10 / valor > 0, key: id, tenant: empresa_id, tags: {pedido: id}, columns: [id, valor]}
`
	r := newReceiver(t, nil)
	w.endpoint("do-arquivo", r.url())
	s := &session{world: w, path: w.write()}
	b := w.run()
	d := &desk{session: s, address: "http://" + b.listening(), tried: map[string]bool{}}
	w.exec("insert into cobrancas values (1, 1, 'P', 1), (2, 1, 'P', 2), (3, 1, 'P', 0)")
	r.waitCount(2)
	b.waitLog("change parked")
	s.ok("endpoints", "add", "crm", "--url", r.url(), "--allow-http", "--allow-private", "127.0.0.0/8", "--events", "nunca.*")
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	letters := []state.DeadLetter{letter("crm", "1", "4711", "e1", at), letter("crm", "2", "4712", "e2", at.Add(time.Hour)), letter("do-arquivo", "1", "4713", "e3", at)}
	letters[1].Status, letters[1].Class = 0, "timeout"
	if err := s.store().WriteDead(context.Background(), letters); err != nil {
		t.Fatal(err)
	}
	d.login(d.address, "mesa", "admin")
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for !strings.Contains(s.ok("status"), "EVENTS/MIN") { // what rules have seen is written now and then
		<-tick.C
	}
	return d
}

// login creates a token and logs in with it.
func (d *desk) login(address, name, role string) {
	d.t.Helper()
	token := decoded[struct{ Token string }](d.session, "tokens", "create", name, "--role", role).Token
	code, stdout, stderr := commandOn(strings.NewReader(token+"\n"), "login", "--api", address)
	if code != 0 || !strings.HasPrefix(stdout, "logged in at "+address) {
		d.t.Fatalf("login: exit %d\n%s%s", code, stdout, stderr)
	}
}

// far runs a command over the API.
func (d *desk) far(args ...string) (code int, stdout, stderr string) {
	return commandOn(strings.NewReader(""), append([]string{"--api", d.address}, args...)...)
}

// same runs a command here and over the API, as a text and as JSON, and compares. WHERE in an argument is local or remote.
func (d *desk) same(want int, args ...string) {
	d.t.Helper()
	for _, more := range [][]string{nil, {"--json"}} {
		line := slices.Concat(args, more)
		diff := d.compare(want, line)
		for again := 0; diff != "" && again < 3 && !strings.Contains(strings.Join(line, " "), "WHERE"); again++ {
			diff = d.compare(want, line) // something may have moved between the two: a minute has passed, a server has worked
		}
		if diff != "" {
			d.t.Errorf("gancho %s: (-local +remote)\n%s", strings.Join(line, " "), diff)
		}
	}
	var path []string
	for _, a := range args {
		if !regexp.MustCompile(`^[a-z]+$`).MatchString(a) || len(path) == 2 {
			break
		}
		path = append(path, a)
	}
	for i := range path {
		d.tried[strings.Join(path[:i+1], " ")] = true
	}
}

// compare is what differs between a command here and over the API, exit codes included.
func (d *desk) compare(want int, args []string) string {
	d.t.Helper()
	outputs := map[string]string{}
	for _, where := range []string{"local", "remote"} {
		name := where + strconv.FormatBool(slices.Contains(args, "--json"))
		var line []string
		for _, a := range args {
			line = append(line, strings.ReplaceAll(a, "WHERE", name))
		}
		run := d.gancho
		switch {
		case where == "remote":
			run = d.far
		case args[0] == "why": // the configuration's port is chosen anew by each process
			line = append(line, "--url", d.address)
		}
		code, stdout, stderr := run(line...)
		if code != want {
			d.t.Errorf("%s: gancho %s: exit %d, want %d\n%s%s", where, strings.Join(line, " "), code, want, stdout, stderr)
		}
		outputs[where] = steady(strings.ReplaceAll(stdout+"---\n"+stderr, name, "WHERE"))
	}
	return cmp.Diff(outputs["local"], outputs["remote"])
}

// TestRemoteCommands: over the API each command prints what it prints beside the bridge, and ends with the same code.
func TestRemoteCommands(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	d := newDesk(t)
	delivery := decoded[struct {
		Items []struct{ ID string }
	}](d.session, "deliveries", "--limit", "1", "--from", "1h").Items[0].ID
	position := decoded[struct{ Items []struct{ ID string } }](d.session, "parked", "list").Items[0].ID
	d.reads(delivery, position)
	d.changes()
	d.mistakes(delivery)
	for _, path := range remoteCommands(t) {
		if !d.tried[path] {
			t.Errorf("gancho %s takes --api, and was not compared", path)
		}
	}
}

func (d *desk) reads(delivery, position string) {
	d.t.Helper()
	d.same(0, "status")
	d.same(0, "why", "--table", "cobrancas", "--key", "1")
	d.same(0, "why", "--table", "cobrancas", "--key", "3", "--row", "--since", "1h")
	d.same(0, "prove")
	d.same(0, "prove", "--from", "1h")
	d.same(0, "events")
	d.same(0, "doctor")
	d.same(0, "doctor", "--only", "redis.*")
	d.same(0, "endpoints", "list")
	d.same(0, "endpoints", "show", "crm")
	d.same(0, "endpoints", "show", "do-arquivo")
	d.same(0, "deliveries", "--limit", "1")
	d.same(0, "deliveries", "--tag", "pedido=1", "--key", "1", "--event", "cobranca.*", "--outcome", "delivered", "--from", "1h")
	d.same(0, "deliveries", "--no-tenant")
	d.same(0, "deliveries", "show", delivery)
	d.same(0, "dead", "list")
	d.same(0, "dead", "list", "--limit", "1")
	d.same(0, "dead", "list", "--limit", "1", "--cursor", "1")
	d.same(0, "dead", "list", "--status", "0")
	d.same(0, "dead", "list", "--class", "timeout", "--tenant", "2")
	d.same(0, "dead", "list", "--key", "nada")
	d.same(0, "dead", "list", "--parked")
	d.same(0, "dead", "groups")
	d.same(0, "dead", "groups", "--status", "422")
	d.same(0, "dead", "show", "1")
	d.same(0, "parked", "list")
	d.same(0, "parked", "list", "--reason", "nada")
	d.same(0, "parked", "groups")
	d.same(0, "parked", "show", position)
	d.same(0, "tokens", "list")
	d.same(0, "audit", "--action", "dead.read")
	d.same(0, "resend", "list")
	d.same(0, "backfill", "list")
}

func (d *desk) changes() {
	d.t.Helper()
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	var letters []state.DeadLetter
	for i, where := range []string{"localfalse", "localtrue", "remotefalse", "remotetrue"} { // what each of the four deletes, sends again, erases
		n := strconv.Itoa(4 + i)
		letters = append(letters, letter("crm", "9", "largada-"+where, "e"+n, at), letter("crm", "9", "repetida-"+where, "e1"+n, at), letter("crm", "9", "esquecida-"+where, "e2"+n, at))
	}
	if err := d.store().WriteDead(context.Background(), letters); err != nil {
		d.t.Fatal(err)
	}
	d.same(0, "endpoints", "add", "novo-WHERE", "--url", "https://crm.example.com", "--rate", "5/s", "--header", "X-Chave: segredo")
	d.same(0, "endpoints", "edit", "novo-WHERE", "--rate", "20/s", "--set", "headers=null")
	d.same(0, "endpoints", "pause", "novo-WHERE")
	d.same(0, "endpoints", "deactivate", "novo-WHERE")
	d.same(0, "endpoints", "activate", "novo-WHERE")
	d.same(0, "endpoints", "rotate", "novo-WHERE", "--overlap", "2d")
	d.same(0, "endpoints", "rotate", "novo-WHERE", "--overlap", "0", "--ed25519")
	d.same(0, "endpoints", "remove", "novo-WHERE")
	d.same(0, "endpoints", "test", "crm")
	d.same(0, "dead", "redrive", "--all", "--dry-run")
	d.same(0, "dead", "redrive", "--endpoint", "crm", "--class", "timeout", "--dry-run", "--rate", "5/s")
	d.same(0, "dead", "drop", "--key", "nada", "--yes")
	d.same(0, "dead", "drop", "--key", "largada-WHERE", "--yes")
	d.same(0, "dead", "redrive", "--key", "repetida-WHERE")
	d.same(0, "parked", "redrive", "--all", "--dry-run")
	d.same(0, "parked", "drop", "--event", "nada.*", "--yes")
	d.same(0, "resend", "--endpoint", "do-arquivo", "--from", "1h", "--dry-run")
	d.same(0, "resend", "--endpoint", "crm", "--key", "nada", "--event", "nada")
	d.same(0, "backfill", "--all", "--dry-run")
	d.same(0, "forget", "--tenant", "1", "--key", "4711", "--dry-run")
	d.same(0, "forget", "--tenant", "9", "--key", "esquecida-WHERE", "--yes")
	d.same(0, "tokens", "list")
	d.same(0, "audit", "--object", "endpoint/novo-WHERE", "--from", "1h")
	d.same(0, "tokens", "create", "chave-WHERE", "--role", "viewer", "--expires", "30d")
	d.same(0, "tokens", "create", "chave-WHERE-2", "--role", "operator", "--tenant", "1", "--expires", "never")
	d.same(0, "tokens", "revoke", "chave-WHERE")
	d.same(0, "console", "link", "--tenant", "1", "--role", "viewer", "--for", "5m")
	id := decoded[struct{ Items []struct{ ID json.Number } }](d.session, "backfill", "--all").Items[0].ID
	d.ok("backfill", "show", string(id), "--wait")
	d.same(0, "backfill", "show", string(id))
	d.same(0, "resend", "show", string(id), "--wait")
}

// mistakes: wrong input is refused with the same words and code.
func (d *desk) mistakes(delivery string) {
	d.t.Helper()
	wrong := d.file("wrong.yaml", "url: https://crm.example.com\nrate: many\nevnts: [a]\n")
	for _, args := range [][]string{
		{"why", "--table", "cobranca", "--key", "1"},
		{"prove", "--from", "2026-11-21", "--to", "2026-11-20"},
		{"endpoints", "show", "nada"},
		{"endpoints", "add", "crm", "--url", "https://crm.example.com"},
		{"endpoints", "add", "outro", "--file", wrong},
		{"endpoints", "add", "outro", "--url", "https://crm.example.com", "--set", "order=never"},
		{"endpoints", "edit", "crm", "--rate", "many"},
		{"endpoints", "edit", "do-arquivo", "--rate", "5/s"},
		{"endpoints", "pause", "do-arquivo"},
		{"deliveries", "--from", "2026-11-21", "--to", "2026-11-20"},
		{"deliveries", "--cursor", "x"},
		{"deliveries", "show", "nada"},
		{"dead", "show", "99"},
		{"dead", "redrive", "--endpoint", "nada", "--dry-run"},
		{"resend", "--endpoint", "nada", "--key", "1", "--dry-run"},
		{"resend", "show", "99"},
		{"resend", "cancel", "99"},
		{"backfill", "pause", "99"},
		{"backfill", "resume", "99"},
		{"backfill", "cancel", "99"},
		{"backfill", "--table", "nada", "--dry-run"},
		{"parked", "show", "1-1"},
		{"tokens", "revoke", "nada"},
		{"tokens", "create", "Chave"},
	} {
		d.same(2, args...)
	}
	d.same(1, "endpoints", "edit", "crm", "--rate", "5/s", "--version", "99")
	d.tried["console"], d.tried["resend cancel"] = true, true // gancho console opens a browser
}

// remoteCommands are the commands that take --api.
func remoteCommands(t *testing.T) (paths []string) {
	t.Helper()
	for path, text := range helps(t, "Available Commands:", command) {
		if strings.Contains(text, "ask the bridge at this address") && !strings.Contains(text, "Available Commands:") {
			paths = append(paths, path)
		}
	}
	if len(paths) < 40 {
		t.Errorf("only %d commands take --api", len(paths))
	}
	return paths
}

// TestRemoteRefusals: what cannot be done over the API, or by this token, says so.
func TestRemoteRefusals(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	d := newDesk(t)
	refused := func(code int, part string, args ...string) {
		t.Helper()
		got, stdout, stderr := commandOn(strings.NewReader("gancho_wrong\n"), args...)
		if got != code || !strings.Contains(stderr, part) || stdout != "" {
			t.Errorf("gancho %s: exit %d, want %d with %q\n%s%s", strings.Join(args, " "), got, code, part, stdout, stderr)
		}
	}
	const here = "run it on the bridge's machine, without --api"
	for _, args := range [][]string{
		{"run"}, {"check"}, {"plan"}, {"init"}, {"migrate"}, {"test"}, {"simulate"}, {"version"},
		{"recover"}, {"replay", "--from", "1h", "--dry-run"}, {"events", "--format", "markdown"}, {"backfill", "--all", "--diff"},
		{"resend", "--endpoint", "crm", "--key", "1", "--missing-from", "-"},
	} {
		refused(2, here, append([]string{"--api", d.address}, args...)...)
	}
	refused(2, "--api is for --forward", "--api", d.address, "listen")
	refused(2, "has no TLS", "why", "--table", "cobrancas", "--key", "1", "--url", "http://192.0.2.1:8620", "--config", d.path)
	refused(2, "has no TLS", "status", "--api", "http://192.0.2.1:8620")
	refused(2, "has no TLS", "login", "--api", "http://webhooks.example.com")
	refused(2, "not the address", "status", "--api", "webhooks.example.com")
	refused(2, "stand alone", "status", "--api", d.address+"/console")
	refused(2, "exclude each other", "status", "--api", d.address, "--config", d.path)
	refused(2, "there is no token for", "status", "--api", "https://webhooks.example.com")
	refused(1, "The token is not valid", "login", "--api", strings.Replace(d.address, "127.0.0.1", "localhost", 1))
	if logins, err := remote.OpenLogins(); err != nil || logins.Keep("http://127.0.0.1:1", "gancho_any") != nil {
		t.Fatal(err)
	}
	refused(1, "check the address", "status", "--api", "http://127.0.0.1:1", "--json")

	// A viewer reads, and changes nothing.
	viewer := strings.Replace(d.address, "127.0.0.1", "localhost", 1)
	d.login(viewer, "olhos", "viewer")
	if code, _, stderr := commandOn(strings.NewReader(""), "dead", "list", "--api", viewer); code != 0 {
		t.Errorf("a viewer's list: exit %d: %s", code, stderr)
	}
	refused(1, "needs a token with the role admin", "dead", "drop", "--all", "--yes", "--api", viewer)
	refused(1, "needs a token with the role operator", "endpoints", "pause", "crm", "--api", viewer)

	// A token that was revoked is named as such, and logout forgets it.
	d.ok("tokens", "revoke", "olhos")
	refused(1, "show it with: gancho login --api "+viewer, "dead", "list", "--api", viewer)
	if code, stdout, stderr := commandOn(strings.NewReader(""), "logout", "--api", viewer); code != 0 || stdout != "logged out at "+viewer+"\n" {
		t.Errorf("logout: exit %d\n%s%s", code, stdout, stderr)
	}
	refused(2, "there is no login", "logout", "--api", viewer)
	refused(2, "there is no token for", "dead", "list", "--api", viewer)

	kept, err := os.Stat(filepath.Join(os.Getenv("XDG_CONFIG_HOME"), "gancho", "logins", url.QueryEscape(d.address)))
	if err != nil || kept.Mode().Perm() != 0o600 {
		t.Errorf("the login: %v, %v", kept, err)
	}
}

// TestRemoteOlder asks a bridge whose API lacks what the command needs.
func TestRemoteOlder(t *testing.T) {
	t.Parallel()
	old := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.URL.Path {
		case "/api/v1/openapi.json":
			_, _ = w.Write([]byte(`{"info":{"version":"v0.9.0"},"paths":{"/installation":{"get":{}},"/dead-letters":{"get":{}}}}`))
		case "/api/v1/installation":
			_, _ = w.Write([]byte(`{"version":"v0.9.0","timezone":"UTC","file":"gancho.yaml","keep_events_seconds":0}`))
		default:
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusNotFound)
			_, _ = w.Write([]byte(`{"type":"urn:gancho:problem:not-found","title":"It does not exist","status":404,"detail":"Nothing."}`))
		}
	}))
	defer old.Close()
	if code, _, stderr := commandOn(strings.NewReader("gancho_any\n"), "login", "--api", old.URL); code != 0 {
		t.Fatal(stderr)
	}
	code, _, stderr := commandOn(strings.NewReader(""), "dead", "groups", "--api", old.URL)
	if code != 1 || !strings.Contains(stderr, "it is gancho v0.9.0, whose API has no GET /api/v1/dead-letters/groups; update it, or use the command of its version") {
		t.Errorf("an older bridge: exit %d: %s", code, stderr)
	}
	if code, _, stderr := commandOn(strings.NewReader(""), "dead", "show", "1", "--api", old.URL); code != 1 || !strings.Contains(stderr, "/dead-letters/{id}") {
		t.Errorf("an older bridge's path: exit %d: %s", code, stderr)
	}
}
