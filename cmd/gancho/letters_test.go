package main_test

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	main "gancho/cmd/gancho"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// store is the session's store, for what no command does.
func (s *session) store() *state.Store {
	s.t.Helper()
	keys, err := state.ParseKeys(stateKey)
	if err != nil {
		s.t.Fatal(err)
	}
	store, err := state.Open(context.Background(), state.Options{DSN: s.dsn, Keyring: keys})
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(store.Close)
	return store
}

// letter is a dead letter of a charge.
func letter(endpoint, tenant, key, id string, at time.Time) state.DeadLetter {
	return state.DeadLetter{Endpoint: endpoint, DeadEvent: queue.DeadEvent{
		Handle: id, Reason: "refused by the receiver: 422", Attempts: 4,
		Failures: queue.Failures{First: at, Last: at.Add(time.Minute), Status: 422, Class: webhook.ClassStatus,
			Error: "post to https://crm.example.com: answered 422 Unprocessable Entity", Answer: "CPF inv\u00e1lido\x1b[2J"},
		Message: webhook.Message{
			ID: id, Type: "cobranca.paga", Tenant: tenant, Key: key, Time: at, Sequence: "00000001", Data: []byte(`{"id":4711,"valor":"99.90"}`),
			Previous: []byte(`{"paga":false}`),
		},
	}}
}

// TestDeadSession lists, shows, redrives and drops dead letters.
func TestDeadSession(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newSession(t)
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example.com")
	at := time.Date(2026, 11, 20, 12, 0, 0, 0, time.UTC)
	err := s.store().WriteDead(context.Background(), []state.DeadLetter{
		letter("crm", "1", "4711", "e1", at), letter("crm", "2", "4712", "e2", at.Add(time.Hour)),
		letter("do-arquivo", "1", "4711", "e1", at), letter("sumido", "1", "4713", "e3", at),
	})
	if err != nil {
		t.Fatal(err)
	}
	list := func(args ...string) string {
		t.Helper()
		page := decoded[control.Page[state.DeadLetter]](s, append([]string{"dead", "list"}, args...)...)
		var got []string
		for _, d := range page.Items {
			got = append(got, d.Endpoint+"/"+d.Message.ID)
		}
		return strings.Join(got, " ")
	}
	for _, c := range []struct{ args, want string }{
		{"", "crm/e1 crm/e2 do-arquivo/e1 sumido/e3"},
		{"--endpoint crm", "crm/e1 crm/e2"},
		{"--tenant 2", "crm/e2"},
		{"--key 4711", "crm/e1 do-arquivo/e1"},
		{"--id e1,e3 --endpoint sumido", "sumido/e3"},
		{"--event pedido.*", ""},
		{"--event cobranca.* --tenant 1 --endpoint crm", "crm/e1"},
		// The times are of the source's zone, three hours behind.
		{"--from 2026-11-20 --to 2026-11-21", "crm/e1 crm/e2 do-arquivo/e1 sumido/e3"},
		{"--from 2026-11-20T10:00", "crm/e2"},
		{"--to 2026-11-20T12:30:00Z --endpoint crm", "crm/e1"},
	} {
		if got := list(strings.Fields(c.args)...); got != c.want {
			t.Errorf("dead list %s: %q, want %q", c.args, got, c.want)
		}
	}
	table := s.ok("dead", "list")
	if !strings.Contains(table, "NUMBER") || strings.Contains(table, "99.90") {
		t.Errorf("the list lacks its heading, or has bodies:\n%s", table)
	}
	out := s.ok("dead", "show", "1")
	for _, part := range []string{"refused by the receiver: 422", `"valor": "99.90"`, `"paga": false`, "CPF inválido"} {
		if !strings.Contains(out, part) {
			t.Errorf("dead show lacks %q:\n%s", part, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("what a receiver sent speaks to the terminal:\n%q", out)
	}
	if d := decoded[control.DeadDetail](s, "dead", "show", "1"); string(d.Data) == "" || d.Answer == "" {
		t.Errorf("%+v", d)
	}

	// A dry run counts; a redrive makes a job for each endpoint that exists.
	dry := decoded[control.Page[state.Job]](s, "dead", "redrive", "--all", "--dry-run")
	if len(dry.Items) != 2 || !dry.Items[0].DryRun || dry.Items[0].Total+dry.Items[1].Total != 3 {
		t.Errorf("dry run %+v", dry.Items)
	}
	if jobs := decoded[control.Page[state.Job]](s, "resend", "list"); len(jobs.Items) != 0 {
		t.Errorf("a dry run made jobs: %+v", jobs.Items)
	}
	made := decoded[control.Page[state.Job]](s, "dead", "redrive", "1", "2", "--rate", "50/s")
	if len(made.Items) != 1 || made.Items[0].Total != 2 || made.Items[0].Endpoint != "crm" || made.Items[0].Rate != 50 {
		t.Fatalf("redrive %+v", made.Items)
	}
	job := fmt.Sprint(made.Items[0].ID)
	if out := s.ok("resend", "show", job); !strings.Contains(out, "2 events to endpoint crm, queued") {
		t.Errorf("resend show:\n%s", out)
	}
	s.ok("resend", "cancel", job)
	s.fails(1, "has ended already", "resend", "cancel", job)

	// Dropping.
	if out := s.ok("dead", "drop", "--endpoint", "sumido", "--yes"); !strings.Contains(out, "1 dead letter dropped") {
		t.Errorf("drop printed\n%s", out)
	}
	if out := s.ok("dead", "drop", "3", "4", "--yes", "--json"); !strings.Contains(out, `"dropped": 1`) {
		t.Errorf("drop printed\n%s", out)
	}
	if got := list(); got != "crm/e1 crm/e2" {
		t.Errorf("left are %q", got)
	}
}

// TestDeadDropAsks: on a terminal the number of dead letters has to be typed.
func TestDeadDropAsks(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	at := time.Now()
	err := s.store().WriteDead(context.Background(), []state.DeadLetter{letter("crm", "1", "1", "e1", at), letter("crm", "1", "2", "e2", at)})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		typed, said string
		code, left  int
	}{
		{"\n", "that is not the number", 1, 2},
		{"y\n", "that is not the number", 1, 2},
		{"2\n", "Type the number to confirm", 0, 0},
	} {
		person, program := terminal(t)
		if _, err := person.WriteString(c.typed); err != nil {
			t.Fatal(err)
		}
		var out, errs strings.Builder
		code := main.Main(context.Background(), []string{"dead", "drop", "--endpoint", "crm", "--config", s.path}, program, &out, &errs)
		if code != c.code || !strings.Contains(errs.String(), c.said) {
			t.Errorf("%q: exit %d, want %d and %q\n%s%s", c.typed, code, c.code, c.said, out.String(), errs.String())
		}
		if left := decoded[control.Page[state.DeadLetter]](s, "dead", "list"); len(left.Items) != c.left {
			t.Errorf("%q: %d are left, want %d", c.typed, len(left.Items), c.left)
		}
	}
}

// terminal opens a pseudo-terminal: what the person writes, the program reads.
func terminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	program, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = program.Close() })
	return person, program
}

// TestParkedList shows the capture's parked changes, without any state.
func TestParkedList(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	if out := s.ok("parked", "list"); !strings.Contains(out, "no change is parked") {
		t.Errorf("printed\n%s", out)
	}
	err := s.redisClient().Do(context.Background(), "XADD", "gancho:parked", "281474976710656-1", "t", "cobranca.paga", "r", "rules.yaml:3",
		"table", "public.cobrancas", "op", "update", "reason", "division by zero", "c", "1795200000000000", "row", `{"id":7}`).Err()
	if err != nil {
		t.Fatal(err)
	}
	page := decoded[control.Page[queue.ParkedChange]](s, "dead", "list", "--parked")
	if len(page.Items) != 1 || page.Items[0].Reason != "division by zero" || page.Items[0].Redrivable || page.Items[0].Rule != "rules.yaml:3" {
		t.Errorf("%+v", page.Items)
	}
	if out := s.ok("parked", "list"); !strings.Contains(out, "division by zero") || !strings.Contains(out, "no: it was parked by a version of Gancho that kept no rows") {
		t.Errorf("printed\n%s", out)
	}
	if out := s.ok("parked", "show", "281474976710656-1"); !strings.Contains(out, `"id": 7`) {
		t.Errorf("printed\n%s", out)
	}
	if out := s.ok("parked", "drop", "--event", "cobranca.*", "--yes"); !strings.Contains(out, "1 parked change dropped") {
		t.Errorf("printed\n%s", out)
	}
}

// letters is many more than a page holds.
const letters = 40_000

// TestManyDeadLetters: a page reads no more of very many than of a few, and
// nothing grows with their number but the time that deleting them takes.
func TestManyDeadLetters(t *testing.T) {
	testservers.Whole(t)
	s := newSession(t)
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example.com")
	const few = 1000
	fill := func(from, to int) {
		s.exec(`insert into gancho.dead_letters (endpoint, handle, webhook_id, event, tenant, key, committed, sequence, version, replay, data, reason, attempts,
				first, last, status, class, error, answer)
			select 'crm', n::text, 'w' || n, case n % 10 when 0 then 'cliente.novo' else 'cobranca.paga' end, (n % 3)::text, (n % 1000)::text, now() - n * interval '1 second',
				n::text, 'v', false, convert_to(repeat('x', 500), 'UTF8'), 'refused', 4, now(), now(), 422, 'status', 'answered 422', ''
			from generate_series(` + fmt.Sprint(from) + `, ` + fmt.Sprint(to) + `) n`)
		s.exec("vacuum analyze gancho.dead_letters")
	}
	conn := s.connect()
	number := func(sql string) (n int) {
		t.Helper()
		if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	// rowsRead is how many rows and index entries of dead letters were read so far.
	rowsRead := func() int {
		t.Helper()
		// A session writes down what it read before it is gone.
		queuetest.Eventually(t, "the other sessions to end", func() bool {
			return number("select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid() and application_name <> '"+worldName+"'") == 0
		})
		return number(`select (select sum(seq_tup_read) from pg_stat_user_tables where relname = 'dead_letters')
			+ (select sum(idx_tup_read) from pg_stat_user_indexes where relname = 'dead_letters')`)
	}
	pages := []string{"dead list", "dead list --endpoint crm --tenant 2", "dead list --event cliente.*", "dead list --key 77",
		"dead list --cursor " + fmt.Sprint(few*3/4) + " --limit 500"}
	reads := func(page string) int {
		before := rowsRead()
		s.ok(strings.Fields(page)...)
		return rowsRead() - before
	}
	fill(1, few)
	of := map[string]int{}
	for _, page := range pages {
		of[page] = reads(page)
	}
	fill(few+1, letters)
	for _, page := range pages {
		n := reads(page)
		t.Logf("gancho %s reads %d rows of %d dead letters, %d of %d", page, of[page], few, n, letters)
		// Of a few, the server may read all. A page holds up to 500.
		if limit := 2 * max(of[page], few); n == 0 || n > limit {
			t.Errorf("gancho %s reads %d rows of %d dead letters, more than %d", page, n, letters, limit)
		}
	}
	peak := peakMemory(func() {
		if out := s.ok("dead", "redrive", "--endpoint", "crm"); !strings.Contains(out, fmt.Sprintf("%d events", letters)) {
			t.Errorf("redrive printed\n%s", out)
		}
		if out := s.ok("dead", "drop", "--event", "cliente.*", "--yes"); !strings.Contains(out, fmt.Sprintf("%d dead letters dropped", letters/10)) {
			t.Errorf("drop printed\n%s", out)
		}
		lines := 0
		out := &lineCounter{lines: &lines}
		if code := s.stream(out, "dead", "list", "--all", "--json"); code != 0 || lines != letters*9/10 {
			t.Errorf("exit %d, %d lines", code, lines)
		}
	})
	const bound = 10 << 20 // the data alone are 20 MB
	if peak > bound {
		t.Errorf("redrive, drop and a whole list take %d MB, more than %d", peak>>20, bound>>20)
	}
	t.Logf("at most %d MB more", peak>>20)
}

// peakMemory is how much more heap is in use at most while f runs. The garbage collector
// runs often: how much it would leave lie depends on what other tests have left in the heap.
func peakMemory(f func()) uint64 {
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	base, peak := m.HeapAlloc, uint64(0)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc-min(m.HeapAlloc, base))
			select {
			case <-stop:
				return
			case <-tick.C:
			}
		}
	}()
	f()
	close(stop)
	<-done
	return peak
}

// lineCounter counts JSON lines, and keeps none.
type lineCounter struct {
	lines *int
	err   error
}

func (c *lineCounter) Write(p []byte) (int, error) {
	if c.err == nil && !json.Valid(p) {
		c.err = fmt.Errorf("not a document: %s", tail(string(p), 100))
	}
	*c.lines += strings.Count(string(p), "\n")
	return len(p), c.err
}

// TestDeliveries asks what privacy law asks: everything sent to an endpoint
// between two times, and everything sent about a key.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	at := time.Date(2026, 11, 20, 15, 0, 0, 0, time.UTC)
	const n = 1203
	rows := make([]state.Attempt, n)
	for i := range rows {
		rows[i] = state.Attempt{
			Time: at.Add(time.Duration(i) * time.Minute), Endpoint: []string{"crm", "erp"}[i%2], Entry: fmt.Sprint(i), WebhookID: fmt.Sprintf("w%d", i), Event: "cobranca.paga",
			Tenant: "1", Key: fmt.Sprint(i % 10), Committed: at, Number: 1, Outcome: "delivered", Class: webhook.ClassOK, Status: 200, Duration: webhook.Milliseconds(12 * time.Millisecond),
		}
	}
	rows[7].Outcome, rows[7].Status, rows[7].Class, rows[7].Error = "retry", 503, webhook.ClassStatus, "post to https://crm.example.com: answered 503\nService Unavailable"
	if err := s.store().WriteAttempts(context.Background(), rows); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int{
		"--all":                    n,
		"--all --endpoint crm":     602,
		"--all --key 7":            120,
		"--all --id w5":            1,
		"--all --outcome retry":    1,
		"--all --event pedido.*":   0,
		"--all --tenant 1 --key 7": 120,
		"--all --tenant 2":         0,
		"--all --endpoint crm --from 2026-11-20T16:00:00Z --to 2026-11-20T17:00:00Z": 30,
	} {
		out := s.ok(append([]string{"deliveries", "--json"}, strings.Fields(args)...)...)
		if got := strings.Count(out, "\n"); got != want {
			t.Errorf("deliveries %s: %d lines, want %d", args, got, want)
		}
	}
	// Page by page it is the same, without gaps and repetitions.
	seen := map[string]bool{}
	for cursor := ""; ; {
		args := []string{"deliveries", "--limit", "500"}
		if cursor != "" {
			args = append(args, "--cursor", cursor)
		}
		page := decoded[control.Page[state.Attempt]](s, args...)
		for i, d := range page.Items {
			if seen[d.WebhookID] || i > 0 && d.Time.After(page.Items[i-1].Time) {
				t.Errorf("%s comes twice, or out of order", d.WebhookID)
			}
			seen[d.WebhookID] = true
		}
		if cursor = page.Next; cursor == "" {
			break
		}
	}
	if len(seen) != n {
		t.Errorf("the pages have %d deliveries, want %d", len(seen), n)
	}
	_, table, more := s.gancho("deliveries", "--id", "w7")
	if strings.Count(table, "\n") != 2 || !strings.Contains(table, "503") || more != "" {
		t.Errorf("the table is not one line for each attempt:\n%s%s", table, more)
	}
	if _, _, more := s.gancho("deliveries"); !strings.Contains(more, "--cursor") {
		t.Errorf("a page does not say how to see the next:\n%s", more)
	}
}

// TestResendSession counts, makes and follows jobs of kept events.
func TestResendSession(t *testing.T) {
	t.Parallel()
	s := newSession(t, "keep_events: 7d")
	s.ok("endpoints", "add", "crm", "--url", "https://crm.example.com", "--tenants", "1", "--events", "cobranca.*")
	at := time.Now().Add(-time.Hour)
	var events []webhook.Message
	for i := range 60 {
		events = append(events, webhook.Message{
			ID: fmt.Sprintf("w%d", i), Type: []string{"cobranca.paga", "cobranca.nova", "cliente.novo"}[i%3], Tenant: fmt.Sprint(1 + i%2), Key: fmt.Sprint(i % 5), Time: at.Add(time.Duration(i) * time.Minute),
			Sequence: fmt.Sprint(i), Data: []byte("1"),
		})
	}
	if err := s.store().WriteEvents(context.Background(), events); err != nil {
		t.Fatal(err)
	}
	for args, want := range map[string]int64{
		"--from 2h":                      20, // its tenant's, of its patterns
		"--from 2h --event cliente.novo": 10, // said explicitly; still of its tenant
		"--id w0,w1,w2":                  1,  // w1 is tenant 2's, w2 not of its patterns
		"--key 0 --from 2h":              4,
		"--tenant 2":                     0,
		"--to 2h":                        0,
	} {
		out := s.ok(append([]string{"resend", "--endpoint", "crm", "--dry-run", "--json"}, strings.Fields(args)...)...)
		var page control.Page[state.Job]
		if err := json.Unmarshal([]byte(out), &page); err != nil || len(page.Items) != 1 || page.Items[0].Total != want || !page.Items[0].DryRun {
			t.Errorf("resend %s: %v, want %d\n%s", args, err, want, out)
		}
	}
	if out := s.ok("resend", "--endpoint", "crm", "--to", "2h"); !strings.Contains(out, "kept for 7d") {
		t.Errorf("printed\n%s", out)
	}
	if out := s.ok("resend", "list"); !strings.Contains(out, "there are no jobs") {
		t.Errorf("a resend of nothing has made a job:\n%s", out)
	}
	if out := s.ok("resend", "--endpoint", "do-arquivo", "--from", "2h", "--rate", "100/s"); !strings.Contains(out, "job 1: 60 events to endpoint do-arquivo") {
		t.Errorf("printed\n%s", out)
	}
	// Somebody works it off while --wait follows.
	worked := make(chan error, 1)
	go func() { worked <- workOff(s.store()) }()
	out := s.ok("resend", "show", "1", "--wait")
	if err := <-worked; err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(out, "job 1: done, 60 of 60 events queued for endpoint do-arquivo") {
		t.Errorf("printed\n%s", out)
	}
}

// workOff does what a bridge does with the one job, without sending.
func workOff(store *state.Store) error {
	ctx := context.Background()
	j, err := store.ClaimJob(ctx, "teste", time.Minute)
	if err != nil {
		return err
	}
	for {
		page, err := store.JobPage(ctx, j, 25)
		if err != nil {
			return err
		}
		if err := store.AdvanceJob(ctx, j, page); err != nil {
			return err
		}
		if page.Last {
			return store.FinishJob(ctx, j, state.Done, "")
		}
	}
}

// TestTokensAndAudit makes, lists and revokes tokens, and finds it all in the log.
func TestTokensAndAudit(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	made := decoded[control.CreatedToken](s, "tokens", "create", "unidade-1", "--role", "operator", "--tenant", "1", "--expires", "90d")
	if !strings.HasPrefix(made.Text, "gancho_") || made.Tenant != "1" || time.Until(made.Expires) < 89*24*time.Hour {
		t.Errorf("%+v", made)
	}
	if token, err := s.store().Authenticate(context.Background(), made.Text); err != nil || token.Name != "unidade-1" {
		t.Errorf("%+v, %v", token, err)
	}
	for _, c := range []struct {
		name   string
		flags  []string
		within func(time.Time) bool
	}{
		{"sem-prazo", []string{"--expires", "never"}, time.Time.IsZero},
		{"normal", nil, func(at time.Time) bool { return time.Until(at).Round(24*time.Hour) == 90*24*time.Hour }},
	} {
		made := decoded[control.CreatedToken](s, append([]string{"tokens", "create", c.name}, c.flags...)...)
		if !c.within(made.Expires) {
			t.Errorf("%s expires %s", c.name, made.Expires)
		}
	}
	list := s.ok("tokens", "list") + s.ok("tokens", "list", "--json")
	if !strings.Contains(list, "unidade-1") || strings.Contains(list, made.Text) {
		t.Errorf("the list:\n%s", list)
	}
	s.ok("tokens", "revoke", "unidade-1")
	if _, err := s.store().Authenticate(context.Background(), made.Text); err == nil {
		t.Error("a revoked token is still good")
	}
	log := s.ok("audit", "--all", "--json")
	for _, part := range []string{`"action":"token.create"`, `"action":"token.revoke"`, `"actor":"cli:`, `"object":"token/unidade-1"`} {
		if !strings.Contains(log, part) {
			t.Errorf("the audit log lacks %s:\n%s", part, log)
		}
	}
	if strings.Contains(log, made.Text) {
		t.Error("the audit log shows a token")
	}
	if out := s.ok("audit", "--action", "token.revoke", "--from", "1h"); strings.Count(out, "\n") != 2 {
		t.Errorf("audit --action:\n%s", out)
	}
}

// leave queues an event for an endpoint, as a capture has left it.
func (s *session) leave(endpoint string) {
	s.t.Helper()
	err := s.redisClient().Do(context.Background(), "XADD", "gancho:{"+endpoint+"}:q", "281474976710656-1", "t", "a.b", "c", "1795200000000000", "d", "1").Err()
	if err != nil {
		s.t.Fatal(err)
	}
}

// TestStatus shows the slot, backlogs, what was left behind, and jobs.
func TestStatus(t *testing.T) {
	t.Parallel()
	s := newSession(t)
	conn, err := pgx.Connect(context.Background(), s.dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(context.Background(), "select pg_create_logical_replication_slot('"+s.slot()+"', 'pgoutput')"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.exec("select pg_drop_replication_slot('" + s.slot() + "')") })
	s.ok("endpoints", "add", "crm-com-um-nome-muito-comprido-de-uma-unidade-do-interior", "--url", "https://crm.example.com/"+strings.Repeat("caminho/", 20))
	s.leave("sumido")
	code, out, told := s.gancho("status")
	if code != 3 || !strings.Contains(told, "not in order: the slot is read by no process") {
		t.Errorf("status exits %d and says %s", code, told)
	}
	for _, part := range []string{"1 event of endpoint sumido, which no longer exists; add it again", "endpoints remove sumido --drop-queue", s.slot() + ", not read by any process", "queue           answers", "state           answers", "do-arquivo", "active"} {
		if !strings.Contains(out, part) {
			t.Errorf("the status lacks %q:\n%s", part, out)
		}
	}
	var v control.StatusView
	if _, out, _ := s.gancho("status", "--json"); json.Unmarshal([]byte(out), &v) != nil {
		t.Errorf("status --json prints\n%s", out)
	}
	if v.Slot == nil || v.Slot.Active || len(v.Endpoints) != 2 || len(v.Errors) != 0 || v.Endpoints[0].Live == nil {
		t.Errorf("%+v", v)
	}
}
