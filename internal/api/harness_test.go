package api_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/presets"
	"gancho/internal/simulate"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/migrations"
)

// world is an API over real servers, with a token of each kind.
type world struct {
	t      *testing.T
	url    string
	dsn    string
	store  *state.Store
	queue  *queue.Queue
	redis  *testservers.Redis
	log    *testservers.Transcript
	tokens map[string]string
	about  description
	client *http.Client
	// files are the endpoints of gancho.yaml.
	files []*endpoint.Endpoint
	// answers are all that came, for what must be in none of them.
	answers *testservers.Transcript
}

// reply is an answer.
type reply struct {
	status int
	header http.Header
	body   []byte
}

func newWorld(t *testing.T) *world {
	t.Helper()
	return newWorldOn(t, stateDatabase(t))
}

// stateDatabase returns a database with the state's schema.
func stateDatabase(t *testing.T) string {
	t.Helper()
	return pg.Database(t, pg.Template(t, "state", migrations.Apply))
}

// newWorldOn is newWorld with its state in a database that has the schema.
func newWorldOn(t *testing.T, dsn string) *world {
	t.Helper()
	ctx := t.Context()
	w := &world{t: t, dsn: dsn, log: &testservers.Transcript{}, answers: &testservers.Transcript{}, tokens: map[string]string{}, about: describe(t)}
	key, err := state.GenerateKey("1")
	if err != nil {
		t.Fatal(err)
	}
	keyring, err := state.ParseKeys(key)
	if err != nil {
		t.Fatal(err)
	}
	log := zerolog.New(w.log)
	if w.store, err = state.Open(ctx, state.Options{DSN: w.dsn, Keyring: keyring, Logger: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.store.Close)
	if w.redis, err = testservers.StartRedis(testservers.RedisOptions{}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(w.redis.Close)
	if w.queue, err = queue.Open(ctx, queue.Options{URL: w.redis.URL(), Logger: log}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.queue.Close() })
	sender := webhook.NewSender(webhook.Options{Version: "test"})
	t.Cleanup(sender.Close)
	w.serve(log, control.Options{
		Store: w.store, Queue: w.queue, Sender: sender, Version: "test", Screens: []presets.Screen{testScreen(t)},
		Resolve: func(context.Context, string) ([]netip.Addr, error) {
			return []netip.Addr{netip.MustParseAddr("203.0.114.7")}, nil
		},
		File: func() []*endpoint.Endpoint { return w.files }, Verdicts: w.verdicts,
		Recent: func(string, int) (control.RecentChanges, error) {
			view, err := w.verdicts(control.WhyQuestion{Table: "cobrancas", Key: "markop-key"})
			view.Changes[0].Rules = view.Changes[0].Rules[:1]
			view.Changes[0].Rules[0].Endpoints = nil
			return control.RecentChanges{Capturing: true, Since: view.Since, Changes: []control.RecentChange{{Table: view.Table, WhyChange: view.Changes[0]}}}, err
		},
		DraftTestOf: func(context.Context, control.WhyQuestion) ([]byte, error) { return []byte("tests: []\n"), nil },
		Backfill: func(context.Context, state.Filter, bool) (control.BackfillPlan, error) {
			return control.BackfillPlan{Tables: []control.BackfillTable{{Table: "cobrancas", Rows: 7, Rules: []string{"rules/a.yaml:3"}, Events: []string{"cobranca.paga"}}}, Rows: 7}, nil
		},
		Examine: func(ctx context.Context) (doctor.Report, error) {
			return doctor.Run(ctx, doctor.Options{
				Source: cdc.Options{DSN: w.dsn, Slot: "gancho", Publication: "gancho"}, Queue: &queue.Options{URL: w.redis.URL()}, Version: "test",
				Snooze: []doctor.Snooze{{ID: "redis.memory", Until: time.Date(2999, 1, 1, 0, 0, 0, 0, time.UTC), Reason: "it can wait"}},
			}), nil
		},
		RulesInUse: func() control.RulesInUse {
			return control.RulesInUse{
				Sources: []mapping.RuleSource{{Place: "rules/a.yaml:3", File: "rules/a.yaml", Line: 3, Text: "- event: cobranca.paga", Event: "cobranca.paga", Table: "cobrancas", On: "update"}},
				Texts:   []mapping.RuleText{{Number: 4, Place: "rules/a.yaml:3", Identity: mapping.Identity{Needs: mapping.IdentityKey, Has: "default"}}},
				Seen:    map[int]control.RuleTally{4: {Changes: 7, Events: 7}}, Since: time.Unix(1e9, 0).UTC(),
				With: func(ctx context.Context, texts map[string][]byte, do func(context.Context, *mapping.Ruleset, simulate.Options) error) error {
					for file := range texts {
						if !strings.HasSuffix(file, ".yaml") {
							return strictyaml.Errors{{File: file, Line: 2, Col: 5, Message: "it is wrong", Hint: "write it right"}}
						}
					}
					return do(ctx, &mapping.Ruleset{}, simulate.Options{})
				},
				Try: func(context.Context, simulate.Trial) (*simulate.Report, error) {
					return &simulate.Report{Over: simulate.OverRows, Rows: 7, Rules: []simulate.RuleReport{}, Tables: []simulate.TableReport{}, Diff: []simulate.EventDiff{{Event: "cobranca.paga", Gone: 7}}}, nil
				},
			}
		},
		Catalogue: func() []mapping.EventType {
			return []mapping.EventType{{Name: "cobranca.paga", Rules: []mapping.EventRule{{Place: "rules/a.yaml:3", Table: "public.cobrancas", On: "update", Version: "1"}}}}
		},
	})
	for _, token := range []state.Token{
		{Name: "root", Role: state.Admin}, {Name: "hands", Role: state.Operator}, {Name: "eyes", Role: state.Viewer},
		{Name: "admin-1", Role: state.Admin, Tenant: "1"}, {Name: "admin-2", Role: state.Admin, Tenant: "2"}, {Name: "eyes-1", Role: state.Viewer, Tenant: "1"},
	} {
		_, text, err := w.store.CreateToken(ctx, "cli:test", token)
		if err != nil {
			t.Fatal(err)
		}
		w.tokens[token.Name] = text
	}
	return w
}

// verdicts answers as a capture would that remembers one change of every row: of a tenant's
// where the key is mark<tenant>-key, and of nobody's elsewhere.
func (w *world) verdicts(q control.WhyQuestion) (control.WhyView, error) {
	v := control.WhyView{
		Table: "public.cobrancas", Key: q.Key, KeyColumns: []string{"id"}, Capturing: true, Since: time.Unix(1e9, 0).UTC(),
		Rules: []control.WhyTableRule{{Rule: "rules/a.yaml:3", Event: "cobranca.paga", On: "update"}}, Changes: []control.WhyChange{},
	}
	switch {
	case q.WebhookID != "": // it remembers none, and the delivery log has some
		return control.WhyView{WebhookID: q.WebhookID, KeyColumns: []string{}, Rules: []control.WhyTableRule{}, Changes: []control.WhyChange{}, Since: v.Since}, nil
	case !strings.HasSuffix(q.Table, "cobrancas"):
		return v, &control.InvalidError{Problems: []control.Problem{{Pointer: "/table", Message: "no rule is for the table"}}}
	}
	if q.Tenant != nil && q.Key != "mark"+*q.Tenant+"-key" {
		return v, nil
	}
	mark := strings.TrimSuffix(q.Key, "-key")
	if q.Tenant == nil {
		v.Schedules = []control.WhySchedule{{ScheduleView: control.ScheduleView{Rule: "rules/a.yaml:30", Event: "cobranca.paga", Schedule: "daily 08:00"}}}
	}
	v.Changes = append(v.Changes, control.WhyChange{Time: time.Unix(1e9, 0).UTC(), Position: "0/16B3748", Op: "update", Rules: []control.WhyRule{
		{Rule: "rules/a.yaml:3", Event: "cobranca.paga", Outcome: control.WhyEvent, WebhookID: mark + "-event-1", Endpoints: []control.WhyEndpoint{
			{Endpoint: "shared"}, {Endpoint: "mark1-own", Tenants: []string{"1"}}, {Endpoint: "mark2-own", Tenants: []string{"2"}, Refused: "tenant"},
		}},
		{Rule: "rules/a.yaml:9", Event: "cobranca.aberta", Outcome: control.WhyFalse, Number: 1, Of: 2, Conjunct: "empresa_id <> 'markop'"},
		{Rule: "rules/a.yaml:15", Event: "cobranca.nova", Outcome: control.WhyParked, WebhookID: "01234567-001-0000000000001000-000000000000-0000"},
	}})
	return v, nil
}

func (w *world) serve(log zerolog.Logger, o control.Options) {
	o.Console = "https://console.example"
	server := httptest.NewServer(api.New(api.Options{Control: control.New(o), Authenticate: w.store.Authenticate, Logger: log, Version: "1.2.3"}))
	w.t.Cleanup(server.Close)
	w.url, w.client = server.URL, server.Client()
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
}

// header is a header of a request.
type header struct{ name, value string }

// do makes a request and holds the answer against the description.
func (w *world) do(method, path, token, body string, headers ...header) *reply {
	w.t.Helper()
	if strings.HasPrefix(path, "/tail") && !strings.Contains(path, "seconds=") { // it would last for minutes
		path += map[bool]string{true: "&", false: "?"}[strings.Contains(path, "?")] + "seconds=1"
	}
	request, err := http.NewRequestWithContext(w.t.Context(), method, w.url+"/api/v1"+path, strings.NewReader(body))
	if err != nil {
		w.t.Fatal(err)
	}
	if token != "" {
		text, ok := w.tokens[token]
		if !ok {
			w.t.Fatalf("there is no token %q", token)
		}
		request.Header.Set("Authorization", "Bearer "+text)
	}
	if body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for _, h := range headers {
		request.Header.Set(h.name, h.value)
		if h.value == "" {
			request.Header.Del(h.name)
		}
	}
	return w.send(request)
}

func (w *world) send(request *http.Request) *reply {
	w.t.Helper()
	response, err := w.client.Do(request)
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	a := &reply{status: response.StatusCode, header: response.Header}
	if a.body, err = io.ReadAll(response.Body); err != nil {
		w.t.Fatal(err)
	}
	_, _ = fmt.Fprintf(w.answers, "%s %s: %d %v %s\n", request.Method, request.URL, a.status, a.header, a.body)
	w.hold(request, a)
	return a
}

// hold is what is true of every answer.
func (w *world) hold(request *http.Request, a *reply) {
	w.t.Helper()
	at := request.Method + " " + request.URL.RequestURI()
	for name, want := range map[string]string{"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"} {
		if got := a.header.Get(name); got != want {
			w.t.Errorf("%s: the header %s is %q, not %q", at, name, got, want)
		}
	}
	if a.status >= 400 && request.Method != http.MethodHead {
		w.holdProblem(at, a)
	}
	if request.Method == http.MethodHead {
		return // the answer of a GET without its body
	}
	path, known := routeOf(request.Method, strings.TrimPrefix(request.URL.Path, "/api/v1"))
	if !known {
		if a.status != http.StatusUnauthorized && a.status != http.StatusNotFound && a.status != http.StatusMethodNotAllowed && a.status != http.StatusTooManyRequests {
			w.t.Errorf("%s: there is no such route, and the answer is %d", at, a.status)
		}
		return
	}
	for _, wrong := range w.about.checkAnswer(request.Method, path, a) {
		w.t.Errorf("%s: the answer %d is not as described: %s\n%s", at, a.status, wrong, a.body)
	}
}

func (w *world) holdProblem(at string, a *reply) {
	w.t.Helper()
	if got := a.header.Get("Content-Type"); got != "application/problem+json" {
		w.t.Errorf("%s: the %d has the type %q", at, a.status, got)
	}
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil || p.Status != a.status {
		w.t.Errorf("%s: the %d is no problem: %s", at, a.status, a.body)
	}
}

// problem is an answer of RFC 9457.
type problem struct {
	Type, Title, Detail string
	Status              int
	Errors              []struct {
		Pointer, Parameter, Message, Hint string
		Line, Column                      int
	}
}

func (a *reply) problem(t testing.TB) problem {
	t.Helper()
	var p problem
	if err := json.Unmarshal(a.body, &p); err != nil {
		t.Fatalf("read problem: %v\n%s", err, a.body)
	}
	return p
}

// routeOf finds the route that a path belongs to.
func routeOf(method, path string) (string, bool) {
	best := ""
	for _, r := range api.Routes() {
		if r.Method == method && matches(r.Path, path) && (best == "" || !strings.Contains(r.Path, "{")) {
			best = r.Path
		}
	}
	return best, best != ""
}

func matches(pattern, path string) bool {
	want, got := strings.Split(pattern, "/"), strings.Split(path, "/")
	return len(want) == len(got) && !slices.ContainsFunc(indexes(want), func(i int) bool {
		return !strings.HasPrefix(want[i], "{") && want[i] != got[i] || got[i] == "" && i > 0
	})
}

func indexes(s []string) []int {
	all := make([]int, len(s))
	for i := range all {
		all[i] = i
	}
	return all
}

// must is do where the status is known; it decodes the answer.
func must[T any](w *world, status int, method, path, token, body string, headers ...header) T {
	w.t.Helper()
	var v T
	a := w.do(method, path, token, body, headers...)
	if a.status != status {
		w.t.Fatalf("%s %s as %s: the answer is %d, not %d: %s", method, path, token, a.status, status, a.body)
	}
	if len(a.body) == 0 {
		return v
	}
	if err := json.Unmarshal(a.body, &v); err != nil {
		w.t.Fatalf("%s %s: %v: %s", method, path, err, a.body)
	}
	return v
}

// items is a page.
type items[T any] struct {
	Items []T
	Next  string
}

// addEndpoint adds an endpoint of a tenant; "": of all.
func (w *world) addEndpoint(name, tenant string) control.CreatedView {
	w.t.Helper()
	document := object{"name": name, "url": "https://crm.example.com/" + name}
	if tenant != "" {
		document["tenants"] = []string{tenant}
	}
	return must[control.CreatedView](w, http.StatusCreated, "POST", "/endpoints", "root", asJSON(document))
}

// addDead stores dead letters of an endpoint.
func (w *world) addDead(endpoint, tenant string, n int) []state.DeadLetter {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	dead := make([]state.DeadLetter, n)
	for i := range dead {
		dead[i] = state.DeadLetter{Endpoint: endpoint, DeadEvent: queue.DeadEvent{
			Handle: fmt.Sprintf("%d-%d", now.UnixMilli(), i), Reason: "attempts", Attempts: 3, Message: message(endpoint, tenant, i, now),
			Failures: queue.Failures{First: now, Last: now, Status: 500, Class: webhook.ClassStatus, Error: "status 500", Answer: "oops"},
		}}
	}
	if err := w.store.WriteDead(w.t.Context(), dead); err != nil {
		w.t.Fatal(err)
	}
	return must[items[state.DeadLetter]](w, http.StatusOK, "GET", "/dead-letters?limit=500&endpoint="+endpoint, "root", "").Items
}

// addAttempts stores attempts of an endpoint, a second apart.
func (w *world) addAttempts(endpoint, tenant string, n int) {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	rows := make([]state.Attempt, n)
	for i := range rows {
		m := message(endpoint, tenant, i, now)
		rows[i] = state.Attempt{
			Time: now.Add(-time.Duration(i) * time.Second), Endpoint: endpoint, Entry: fmt.Sprint(i), WebhookID: m.ID, Event: m.Type, Tenant: tenant,
			Key: m.Key, Committed: now, Number: 1, Outcome: "delivered", Class: webhook.ClassOK, Status: 200, Duration: webhook.Milliseconds(3 * time.Millisecond),
		}
	}
	if err := w.store.WriteAttempts(w.t.Context(), rows); err != nil {
		w.t.Fatal(err)
	}
}

// addKept stores events for resends.
func (w *world) addKept(tenant string, n int) {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	rows := make([]webhook.Message, n)
	for i := range rows {
		rows[i] = message("kept"+tenant, tenant, i, now)
	}
	if err := w.store.WriteEvents(w.t.Context(), rows); err != nil {
		w.t.Fatal(err)
	}
}

func message(about, tenant string, i int, at time.Time) webhook.Message {
	return webhook.Message{
		ID: fmt.Sprintf("%s-%d", about, i), Type: "cobranca.paga", Tenant: tenant, Key: fmt.Sprint("key-", i), Time: at,
		Sequence: fmt.Sprintf("%020d", i), Data: []byte(`{"valor": 10.50, "id": 12345678901234567890}`), Version: "1",
	}
}

func asJSON(v any) string {
	src, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return string(src)
}

// fixed returns an Authenticate that knows some tokens, for what is tested
// without a database.
func fixed(tokens map[string]state.Token) func(context.Context, string) (state.Token, error) {
	return func(_ context.Context, text string) (state.Token, error) {
		if t, ok := tokens[text]; ok {
			return t, nil
		}
		return state.Token{}, state.ErrNotFound
	}
}

// tableLock keeps a table of the state database to itself.
type tableLock struct {
	t     *testing.T
	tx    pgx.Tx
	table string
}

func (w *world) lock(table string) *tableLock {
	w.t.Helper()
	conn, err := pgx.Connect(w.t.Context(), w.dsn)
	if err != nil {
		w.t.Fatal(err)
	}
	w.t.Cleanup(func() { _ = conn.Close(context.Background()) })
	tx, err := conn.Begin(w.t.Context())
	if err == nil {
		_, err = tx.Exec(w.t.Context(), "lock table "+table)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	return &tableLock{w.t, tx, table}
}

// waiting is how many statements wait for it.
func (l *tableLock) waiting() (n int) {
	l.t.Helper()
	if err := l.tx.QueryRow(l.t.Context(), "select count(*) from pg_locks where not granted and relation = $1::regclass", l.table).Scan(&n); err != nil {
		l.t.Fatal(err)
	}
	return n
}

func (l *tableLock) release() {
	l.t.Helper()
	if err := l.tx.Rollback(l.t.Context()); err != nil {
		l.t.Fatal(err)
	}
}

// testScreen has the name that examples of the description are tried with.
func testScreen(t *testing.T) presets.Screen {
	t.Helper()
	p, err := presets.ParseScreen("crm-centro.screen.yaml", []byte(`{layout: groups, title: Webhooks, choose: Unidade, url: URL, groups: [
		{title: Financeiro, actions: [{name: cobranca, title: Cobranças, events: [cobranca.paga]}, {name: aberta, title: Abertas, events: [cobranca.aberta]}]}]}`))
	if err != nil {
		t.Fatal(err)
	}
	return p
}
