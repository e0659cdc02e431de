package main_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	main "gancho/cmd/gancho"
	"gancho/internal/testservers"
)

// asGancho makes the test binary be the command: tests start real processes
// that can be killed, built with the same flags (the race detector) as the test.
const asGancho = "GANCHO_TEST_AS_COMMAND"

var pg *testservers.Postgres

func TestMain(m *testing.M) {
	if os.Getenv(asGancho) != "" {
		os.Exit(main.Main(context.Background(), os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
	}
	_ = os.Setenv("LC_ALL", "C")                      // whatever the developer's language, which the commands would speak
	logins, err := os.MkdirTemp("", "gancho-logins-") // not the developer's
	if err == nil {
		err = os.Setenv("XDG_CONFIG_HOME", logins)
	}
	if err != nil {
		panic(err)
	}
	code := testservers.Main(m, &pg)
	_ = os.RemoveAll(logins)
	os.Exit(code)
}

// commandEnv is the environment of this binary as the command. The race detector
// holds every process that ends for a second, in case a goroutine that is left
// races; a tenth of that is enough for one that is about to.
func commandEnv(more ...string) []string {
	env := append(os.Environ(), asGancho+"=1", "GORACE=atexit_sleep_ms=100 "+os.Getenv("GORACE"))
	return append(env, more...)
}

// secret signs in every test that does not look at signatures.
const secret = "whsec_dGVzdGUtc2VjcmV0by1kZS0zMi1ieXRlcy1nYW5jaG8="

// world is one legacy database with its Redis, its receivers and a directory
// of configuration: everything around the bridge.
type world struct {
	t        *testing.T
	postgres *testservers.Postgres
	dsn      string
	redis    *testservers.Redis // nil: queue says where it is
	queue    string             // the line of the queue section, when it is not redis
	dir      string
	binary   string // of the command; empty: the test's own
	source   string // additional lines of the source section
	rules    string
	http     string   // additional lines of the http section
	extra    string   // additional top-level sections
	env      []string // additional variables of the commands that are started
	// endpoints are the lines of the endpoints section.
	endpoints []string
	// sessions are those of exec that are kept.
	sessions chan *pgx.Conn
}

func newWorld(t *testing.T, redisOptions testservers.RedisOptions, statements ...string) *world {
	t.Helper()
	return newWorldOn(t, pg, "", redisOptions, statements...)
}

func newWorldOn(t *testing.T, postgres *testservers.Postgres, database string, redisOptions testservers.RedisOptions, statements ...string) *world {
	t.Helper()
	r, err := testservers.StartRedis(redisOptions)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(r.Close)
	w := newWorldWithout(t, postgres, database, statements...)
	w.redis = r
	return w
}

// newWorldWithout is a world without a Redis: the test sets queue.
func newWorldWithout(t *testing.T, postgres *testservers.Postgres, database string, statements ...string) *world {
	t.Helper()
	w := &world{t: t, postgres: postgres, dir: t.TempDir(), dsn: postgres.Database(t, database, statements...), sessions: make(chan *pgx.Conn, 1)}
	t.Cleanup(func() {
		select {
		case conn := <-w.sessions:
			_ = conn.Close(context.Background())
		default:
		}
	})
	return w
}

// inUTF8 is of a session's DSN: tests are written in it, whatever the database's encoding is.
const inUTF8 = "&client_encoding=UTF8&application_name=" + worldName

// worldName is how the world's own sessions call themselves, which may be there for longer than a test asks for something.
const worldName = "world"

// endpoint subscribes a URL; more are further YAML lines of the endpoint.
func (w *world) endpoint(name, url string, more ...string) {
	lines := append([]string{
		"  - name: " + name,
		"    url: " + url,
		"    secret: " + secret,
		"    allow_http: true",
		"    allow_private: [127.0.0.0/8]",
	}, prefix("    ", more)...)
	w.endpoints = append(w.endpoints, strings.Join(lines, "\n"))
}

func prefix(p string, lines []string) []string {
	out := make([]string, len(lines))
	for i, l := range lines {
		out[i] = p + l
	}
	return out
}

// slot is the world's own: slots are global to a server.
func (w *world) slot() string {
	return "gancho_" + w.dsn[strings.LastIndex(w.dsn, "/")+1:strings.LastIndex(w.dsn, "?")]
}

// write writes gancho.yaml and the rules and returns the configuration's path.
func (w *world) write() string {
	w.t.Helper()
	queue := w.queue
	if queue == "" {
		queue = "redis: " + w.redis.URL()
	}
	config := fmt.Sprintf(`source:
  dsn: %s
  slot: %s
%s
queue:
  %s
http:
  listen: 127.0.0.1:0
%s
rules: [rules.yaml]
%s
`, w.dsn, w.slot(), w.source, queue, w.http, w.extra)
	if len(w.endpoints) > 0 {
		config += "endpoints:\n" + strings.Join(w.endpoints, "\n") + "\n"
	}
	path := filepath.Join(w.dir, "gancho.yaml")
	for name, text := range map[string]string{path: config, filepath.Join(w.dir, "rules.yaml"): w.rules} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
	return path
}

// connect opens a connection to the legacy database that ends with the test.
func (w *world) connect() *pgx.Conn {
	w.t.Helper()
	conn, err := pgx.Connect(context.Background(), w.dsn+inUTF8)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// exec runs statements in a session as new. It is kept between the calls, until the server has ended it: a new one is ten times
// the work of what it is asked.
func (w *world) exec(sql string, args ...any) {
	w.t.Helper()
	// A statement that waits holds up every test that creates a slot in the server.
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	conn := w.connection(ctx)
	_, err := conn.Exec(ctx, sql, append([]any{pgx.QueryExecModeDescribeExec}, args...)...)
	if err != nil {
		_ = conn.Close(ctx)
		w.t.Fatalf("%s: %v", sql, err)
	}
	if conn.PgConn().TxStatus() == 'I' {
		_, err = conn.Exec(ctx, "discard all")
	}
	if err == nil && conn.PgConn().TxStatus() == 'I' {
		select {
		case w.sessions <- conn:
			return
		default: // another goroutine's is kept
		}
	}
	_ = conn.Close(ctx)
}

// connection is one that is kept, to the database that the DSN leads to, or a new one.
func (w *world) connection(ctx context.Context) *pgx.Conn {
	w.t.Helper()
	for {
		select {
		case conn := <-w.sessions:
			if conn.Config().ConnString() == w.dsn+inUTF8 && conn.Ping(ctx) == nil {
				return conn
			}
			_ = conn.Close(ctx)
			continue
		default:
		}
		conn, err := pgx.Connect(ctx, w.dsn+inUTF8)
		if err != nil {
			w.t.Fatal(err)
		}
		return conn
	}
}

func (w *world) redisClient() *redis.Client {
	c := redis.NewClient(&redis.Options{Addr: w.redis.Addr()})
	w.t.Cleanup(func() { _ = c.Close() })
	return c
}

// bridge is one gancho process.
type bridge struct {
	t    *testing.T
	cmd  *exec.Cmd
	mu   sync.Mutex
	log  []string
	line chan struct{} // capacity 1: the log grew
	done chan struct{} // closed when the process is gone and its log is whole
	err  error
}

// start runs gancho and returns immediately; use waitLog for what it must reach.
func (w *world) start(args ...string) *bridge {
	w.t.Helper()
	return w.startCommand(cmp.Or(w.binary, os.Args[0]), args...)
}

// startCommand is start with another build of the command.
func (w *world) startCommand(path string, args ...string) *bridge {
	w.t.Helper()
	b := &bridge{t: w.t, line: make(chan struct{}, 1), done: make(chan struct{})}
	b.cmd = exec.Command(path, args...)
	b.cmd.Env = commandEnv(w.env...)
	if path != os.Args[0] { // its memory is measured as users have it, whatever the tests run with
		b.cmd.Env = append(b.cmd.Env, "GOGC=100")
	}
	b.cmd.Dir = w.dir
	b.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stderr, stdin := io.Pipe()
	b.cmd.Stdout, b.cmd.Stderr = stdin, stdin
	if err := b.cmd.Start(); err != nil {
		w.t.Fatal(err)
	}
	read := make(chan struct{})
	go func() {
		defer close(read)
		scanner := bufio.NewScanner(stderr)
		scanner.Buffer(nil, 1<<20)
		for scanner.Scan() {
			b.mu.Lock()
			b.log = append(b.log, scanner.Text())
			b.mu.Unlock()
			select {
			case b.line <- struct{}{}:
			default:
			}
		}
	}()
	go func() {
		b.err = b.cmd.Wait()
		_ = stdin.Close()
		<-read
		close(b.done)
	}()
	w.t.Cleanup(func() {
		b.kill()
		if w.t.Failed() {
			w.t.Logf("log of gancho %s (%d):\n%s", strings.Join(args, " "), b.cmd.Process.Pid, tail(b.text(), 6000))
		}
	})
	return b
}

// run starts the bridge with --create and waits until it streams and delivers.
func (w *world) run(more ...string) *bridge {
	w.t.Helper()
	b := w.start(append([]string{"run", "--create", "--config", w.write()}, more...)...)
	b.waitLog("bridge is ready")
	return b
}

// firstEvent runs a bridge with the load's rules and one endpoint, "a", to which the first row, 1, has arrived.
func (w *world) firstEvent() (*receiver, *bridge) {
	w.t.Helper()
	r := newReceiver(w.t, nil)
	w.rules = loadRules
	w.endpoint("a", r.url())
	b := w.run()
	w.exec("insert into eventos (cliente_id, seq) values (1, 1)")
	r.waitCount(1)
	return r, b
}

func tail(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return "..." + s[len(s)-n:]
}

// notReady checks what /readyz answers.
func (b *bridge) notReady(reason string) {
	b.t.Helper()
	if status, text := fetch(b.t, "http://"+b.listening()+"/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, reason) {
		b.t.Errorf("/readyz answers %d %s", status, text)
	}
}

func (b *bridge) text() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.Join(b.log, "\n")
}

// waitLog waits until a line of the log contains the text, and returns it.
func (b *bridge) waitLog(text string) string {
	b.t.Helper()
	return b.waitLogs(text, 1)
}

// waitLogs waits for the n-th such line.
func (b *bridge) waitLogs(text string, n int) string {
	b.t.Helper()
	deadline := time.After(60 * time.Second)
	for seen := 0; ; {
		b.mu.Lock()
		lines := b.log[seen:]
		seen = len(b.log)
		b.mu.Unlock()
		for _, l := range lines {
			if strings.Contains(l, text) {
				if n--; n == 0 {
					return l
				}
			}
		}
		select {
		case <-b.line:
		case <-b.done:
			if b.mu.TryLock() {
				more := len(b.log) > seen
				b.mu.Unlock()
				if more {
					continue
				}
			}
			b.t.Fatalf("gancho ended (%v) before it logged %q:\n%s", b.err, text, tail(b.text(), 4000))
		case <-deadline:
			b.t.Fatalf("gancho did not log %q:\n%s", text, tail(b.text(), 4000))
		}
	}
}

// listening is the address of the bridge's health and metrics.
func (b *bridge) listening() string {
	b.t.Helper()
	var fields struct{ Listen string }
	if err := json.Unmarshal([]byte(b.waitLog("serving health and metrics")), &fields); err != nil {
		b.t.Fatal(err)
	}
	return fields.Listen
}

func (b *bridge) kill() {
	_ = b.cmd.Process.Kill() // an error means that it is gone already
	<-b.done
}

// stop ends the bridge in order and fails the test if it does not exit with 0.
func (b *bridge) stop() {
	b.t.Helper()
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		b.t.Fatal(err)
	}
	b.wait(0)
}

// wait waits for the process's end and checks its exit code.
func (b *bridge) wait(code int) {
	b.t.Helper()
	select {
	case <-b.done:
	case <-time.After(60 * time.Second):
		b.t.Fatalf("gancho does not end:\n%s", tail(b.text(), 4000))
	}
	if got := b.cmd.ProcessState.ExitCode(); got != code {
		b.t.Fatalf("gancho ended with %d, want %d:\n%s", got, code, tail(b.text(), 4000))
	}
}

// arrival is one webhook that reached a receiver.
type arrival struct {
	id, event string
	body      []byte
	data      map[string]json.RawMessage
	at        time.Time
	replay    bool // webhook-replay: true
	// stamp and signature are what the body is verified with.
	stamp, signature string
	traceparent      string
}

// field returns a field of data as its JSON text, without quotes for a string.
func (a arrival) field(name string) string { return strings.Trim(string(a.data[name]), `"`) }

// receiver collects webhooks. answer decides the response; nil: 204 immediately.
type receiver struct {
	t      *testing.T
	server *httptest.Server
	answer func(w http.ResponseWriter, a arrival)
	// keep, when false, counts arrivals without keeping them.
	mu       sync.Mutex
	arrivals []arrival
	grew     chan struct{} // closed and replaced at every arrival
}

func newReceiver(t *testing.T, answer func(http.ResponseWriter, arrival)) *receiver {
	r := &receiver{t: t, answer: answer, grew: make(chan struct{})}
	r.server = httptest.NewServer(r)
	t.Cleanup(func() {
		if t.Failed() { // an answer may wait for what the test no longer does, and would hold up all tests
			_ = r.server.Config.Close()
			return
		}
		r.server.Close()
	})
	return r
}

func (r *receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	body, err := io.ReadAll(req.Body)
	if err != nil {
		return // the sender was killed
	}
	var envelope struct {
		Type string
		Data map[string]json.RawMessage
	}
	if err := json.Unmarshal(body, &envelope); err != nil {
		r.t.Errorf("body is not JSON: %v\n%s", err, tail(string(body), 500))
	}
	a := arrival{
		id: req.Header.Get("webhook-id"), event: envelope.Type, body: body, data: envelope.Data, at: time.Now(),
		replay: req.Header.Get("webhook-replay") == "true", stamp: req.Header.Get("webhook-timestamp"), signature: req.Header.Get("webhook-signature"),
		traceparent: req.Header.Get("traceparent"),
	}
	r.mu.Lock()
	r.arrivals = append(r.arrivals, a)
	close(r.grew)
	r.grew = make(chan struct{})
	r.mu.Unlock()
	if r.answer != nil {
		r.answer(w, a)
		return
	}
	w.WriteHeader(http.StatusNoContent)
}

func (r *receiver) snapshot() ([]arrival, <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.arrivals[:len(r.arrivals):len(r.arrivals)], r.grew
}

// waitFor waits until the arrivals satisfy the condition and returns them.
func (r *receiver) waitFor(timeout time.Duration, what string, cond func([]arrival) bool) []arrival {
	r.t.Helper()
	deadline := time.After(timeout)
	for {
		all, grew := r.snapshot()
		if cond(all) {
			return all
		}
		select {
		case <-grew:
		case <-deadline:
			r.t.Fatalf("after %v still waiting for %s; %d webhooks arrived", timeout, what, len(all))
		}
	}
}

// waitCount waits for n distinct webhooks, as long as they keep coming.
func (r *receiver) waitCount(n int) []arrival {
	r.t.Helper()
	seen := map[string]bool{}
	for from := 0; ; {
		all, grew := r.snapshot()
		for ; from < len(all); from++ {
			seen[all[from].id] = true
		}
		if len(seen) >= n {
			return all
		}
		select {
		case <-grew:
		case <-time.After(60 * time.Second):
			r.t.Fatalf("no webhook for a minute: %d of %d distinct ones arrived", len(seen), n)
		}
	}
}

// url is the receiver's address.
func (r *receiver) url() string { return r.server.URL }

// closedPort is an address where nobody listens.
func closedPort(t *testing.T) string {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}
