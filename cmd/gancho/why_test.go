package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestWhyTexts: the story of each outcome, as in the golden file.
func TestWhyTexts(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	at := time.Date(2026, 11, 28, 14, 2, 3, 0, time.UTC)
	rule := func(outcome string, more ...func(*control.WhyRule)) control.WhyRule {
		r := control.WhyRule{Rule: "rules/cobrancas.yaml:3", Event: "cobranca.liquidada", Outcome: outcome}
		for _, f := range more {
			f(&r)
		}
		return r
	}
	change := func(n uint64, op string, net bool, rules ...control.WhyRule) control.WhyChange {
		return control.WhyChange{Time: at.Add(time.Duration(n) * time.Second), Position: "0/16B3748", Ordinal: n, Op: op, Net: net, Rules: rules}
	}
	part := func(n, of int, text string) func(*control.WhyRule) {
		return func(r *control.WhyRule) { r.Number, r.Of, r.Conjunct = n, of, text }
	}
	view := control.WhyView{
		Table: "public.cobrancas", Key: "4711", KeyColumns: []string{"id"}, Capturing: true, Since: at.Add(-time.Hour), Overwritten: true,
		Rules: []control.WhyTableRule{{Rule: "rules/cobrancas.yaml:3", Event: "cobranca.liquidada", On: "update"}},
		Changes: []control.WhyChange{
			change(0, "delete", false),
			change(1, "update", false, rule(control.WhyUnwatched)),
			change(2, "update", false, rule(control.WhyFalse, part(2, 3, "new.status = 'L'")), rule(control.WhyNull, part(1, 1, "valor > 10")), rule(control.WhyFalse, part(2, 3, "")), rule(control.WhyFalse)),
			change(3, "update", false, rule(control.WhyParked, func(r *control.WhyRule) { r.Parked = "rules/cobrancas.yaml:9:12: division by zero (SQLSTATE 22012)" }),
				rule(control.WhyParked), rule(control.WhyParked, func(r *control.WhyRule) { r.Unparked = true }), rule(control.WhyParked, func(r *control.WhyRule) {
					r.Unparked, r.WebhookID = true, "01234567-001-00000000016b3748-000000000003-0000"
					r.Endpoints = []control.WhyEndpoint{{Endpoint: "crm", Attempts: []state.Attempt{{Time: at.Add(time.Minute), Number: 1, Outcome: "delivered", Status: 200, Replay: true}}}}
				})),
			change(4, "insert", false, rule(control.WhyAwaits), rule(control.WhyCommit), rule(control.WhyChild)),
			change(5, "update", false, rule(control.WhyNothing), rule(control.WhyGrouped), rule(control.WhyRoot), rule(control.WhyOtherTenant), control.WhyRule{Outcome: control.WhyUnwatched}),
			change(6, "update", true, rule(control.WhyEvent, func(r *control.WhyRule) {
				r.WebhookID = "01234567-001-00000000016b3748-000000000006-0000"
				r.Endpoints = []control.WhyEndpoint{
					{Endpoint: "crm", Attempts: []state.Attempt{
						{Time: at.Add(7 * time.Second), Number: 1, Outcome: "retry", Status: 500, Error: "status 500"}, {Time: at.Add(12 * time.Second), Number: 2, Outcome: "delivered", Status: 200},
						{Time: at.Add(time.Minute), Number: 1, Outcome: "delivered", Status: 200, Replay: true},
					}},
					{Endpoint: "fila"}, {Endpoint: "outro", Refused: "event"}, {Endpoint: "centro", Refused: "tenant"}, {Endpoint: "velho", Refused: "inactive"},
				}
			})),
			change(7, "update", false, rule(control.WhyEvent, func(r *control.WhyRule) { r.WebhookID = "01234567-001-00000000016b3749-000000000007-0000" })),
			change(8, "update", false, rule(control.WhyEvent, func(r *control.WhyRule) {
				r.WebhookID, r.EndpointsUnknown = "01234567-001-00000000016b3749-000000000008-0000", true
				r.Endpoints = []control.WhyEndpoint{{Endpoint: "crm", Attempts: []state.Attempt{{Time: at.Add(time.Minute), Number: 1, Outcome: "delivered", Status: 200}}}}
			})),
		},
	}
	waits := func(f func(*control.WhyRule)) control.WhyRule {
		return rule(control.WhyTimerSet, func(r *control.WhyRule) { r.WebhookID = "01234567-001-00000000016b3749-000000000009-0000" }, f)
	}
	view.Changes = append(view.Changes, change(9, "update", false, rule(control.WhyTimerCanceled), rule(control.WhyTimerWaits), waits(func(*control.WhyRule) {}),
		waits(func(r *control.WhyRule) { r.Due = at.Add(time.Hour) }), waits(func(r *control.WhyRule) { r.CanceledBy = at.Add(time.Minute) }),
		waits(func(r *control.WhyRule) { r.TimerParked, r.Parked = true, "division by zero" }), waits(func(r *control.WhyRule) { r.TimerParked = true }),
		waits(func(r *control.WhyRule) { r.SetAgainBy = at.Add(time.Minute) }), waits(func(r *control.WhyRule) {
			r.Endpoints = []control.WhyEndpoint{{Endpoint: "crm", Attempts: []state.Attempt{{Time: at.Add(time.Minute), Number: 1, Outcome: "delivered", Status: 200}}}}
		})))
	view.Changes = append(view.Changes, control.WhyChange{Time: at.Add(time.Minute), Position: "0/16B3750", Op: "read", Job: 7, Rules: []control.WhyRule{rule(control.WhyEvent, func(r *control.WhyRule) {
		r.WebhookID, r.Endpoints = "01234567-001-00000000016b3750-000000000000-0000", []control.WhyEndpoint{{Endpoint: "crm"}, {Endpoint: "fila", Refused: control.RefusedBackfill}}
	})}})
	schedule := control.ScheduleView{Rule: "rules/agenda.yaml:2", Event: "cliente.ausente", Schedule: "daily 08:00", Next: at.Add(time.Hour), Last: &control.RunView{Scheduled: at, Rows: 1234, Events: 3}}
	failing := schedule
	failing.Failure, failing.Last = "division by zero", nil
	view.Schedules = []control.WhySchedule{
		{ScheduleView: schedule, Sent: &state.Attempt{Time: at.Add(time.Second), Committed: at, Endpoint: "crm", WebhookID: "01234567-s01-1", Number: 1, Outcome: "delivered", Status: 200}}, {ScheduleView: failing},
	}
	none := control.WhyView{Table: "loja.itens", Key: "1,2", KeyColumns: []string{"pedido", "item"}, Since: at, ReadsSince: at, More: true}
	keyless := control.WhyView{Table: "public.log", Key: "1", Since: at, Capturing: true}
	queried := control.WhyView{Table: "public.acessos", Key: "4711", Since: at, Capturing: true, Schedules: []control.WhySchedule{{ScheduleView: schedule}}, RowUnread: control.NoCondition}
	var got strings.Builder
	portuguese := &portugueseSession{t: t}
	unknown := control.WhyView{WebhookID: "evt-1"}
	unasked := control.WhyView{WebhookID: "evt-1", Since: at, QueueUnread: true}
	for _, v := range []control.WhyView{view, none, keyless, queried, unknown, unasked} {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path != "/api/v1/why" || r.URL.Query().Get("table") != "t" || r.URL.Query().Get("key") != "1&2" || r.Header.Get("Authorization") != "Bearer gancho_x" {
				w.WriteHeader(http.StatusTeapot)
				return
			}
			_ = json.NewEncoder(w).Encode(v)
		}))
		t.Cleanup(server.Close)
		cmd := exec.CommandContext(t.Context(), os.Args[0], "why", "--table", "t", "--key", "1&2", "--url", server.URL)
		cmd.Env = commandEnv("TZ=UTC", "GANCHO_TOKEN=gancho_x")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		got.Write(out)
		got.WriteString("\n")
		cmd = exec.CommandContext(t.Context(), os.Args[0], "why", "--table", "t", "--key", "1&2", "--url", server.URL)
		cmd.Env = commandEnv("TZ=UTC", "GANCHO_TOKEN=gancho_x", "LC_ALL=pt_BR.UTF-8")
		if out, err = cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		portuguese.Write(out)
		portuguese.WriteString("\n")
	}
	portuguese.compare("why", nil)
	const file = "testdata/why.txt"
	if os.Getenv("UPDATE_WHY") != "" {
		if err := os.WriteFile(file, []byte(got.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got.String()); diff != "" {
		t.Errorf("-want +got; UPDATE_WHY=1 writes the file:\n%s", diff)
	}
}

// TestWhy asks a running bridge what became of rows, and one that does not capture.
func TestWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table cobrancas (id int primary key, empresa_id int, status text, valor int, obs text)", "alter table cobrancas replica identity full",
		"create table pagamentos (id int primary key, empresa_id int, valor int)", "insert into pagamentos values (1, 1, 10), (2, 1, 3)", "create table turmas (id int primary key, vagas int)")
	w.extra = "state: {key: '" + stateKey + "'}"
	w.rules = `rules:
  - event: cobranca.liquidada
    table: cobrancas
    on: update
    when: old.status <> 'L' and new.status = 'L'
    tenant: empresa_id
    columns: [id, valor]
  - event: cobranca.paga
    table: cobrancas
    on: update
    watch: valor
    tenant: empresa_id
    columns: [id, valor]
  - event: cobranca.rateada
    table: cobrancas
    on: update
    when: 10 / valor >= 0
    tenant: empresa_id
    columns: [id]
  - {event: pagamento.feito, table: pagamentos, on: insert, when: valor > 0 and valor > 5, tenant: empresa_id, columns: [id]}
  - {event: turma.cheia, schedule: monthly 1 03:00, query: select count(*) as cheias from turmas where vagas = 0, columns: [cheias]}
`
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url(), "tenants: [1]")
	w.endpoint("outro", r.url(), "events: [cliente.*]")
	w.endpoint("velho", r.url(), "state: inactive")
	w.endpoint("centro", r.url(), "tenants: [2]")
	s := &session{world: w, path: w.write()}
	b := w.run()
	w.exec("insert into cobrancas values (1, 1, 'P', 1, ''), (2, 1, 'L', 1, ''), (3, 1, 'P', 1, ''), (4, 2, 'P', 5, '')")
	w.exec("update cobrancas set status = 'L' where id = 1")
	w.exec("update cobrancas set obs = 'x' where id = 2")
	w.exec("update cobrancas set obs = 'x', valor = 0 where id = 3")
	w.exec("update cobrancas set valor = 6 where id = 4")
	r.waitCount(6) // all but the one that is parked
	b.waitLog("change parked")
	at := "http://" + b.listening()
	view := func(key string) control.WhyView {
		t.Helper()
		return decoded[control.WhyView](s, "why", "--table", "cobrancas", "--key", key, "--url", at)
	}
	outcomes := func(c control.WhyChange) (out []string) {
		for _, r := range c.Rules {
			text := r.Event + " " + r.Outcome
			if r.Conjunct != "" {
				text += " " + r.Conjunct
			}
			out = append(out, text)
		}
		return out
	}
	for key, want := range map[string][]string{
		"1": {"cobranca.liquidada event", "cobranca.paga unwatched", "cobranca.rateada event"},
		"2": {"cobranca.liquidada when_false old.status <> 'L'", "cobranca.paga unwatched", "cobranca.rateada event"},
		"3": {"cobranca.liquidada when_false new.status = 'L'", "cobranca.paga event", "cobranca.rateada parked"},
		"4": {"cobranca.liquidada when_false new.status = 'L'", "cobranca.paga event", "cobranca.rateada event"},
	} {
		v := view(key)
		if len(v.Changes) != 2 || v.Changes[0].Op != "insert" || len(v.Changes[0].Rules) != 0 || !v.Capturing || v.Overwritten || v.Table != "public.cobrancas" {
			t.Fatalf("%s: %+v", key, v)
		}
		if diff := cmp.Diff(want, outcomes(v.Changes[1])); diff != "" {
			t.Errorf("%s: -want +got\n%s", key, diff)
		}
	}
	v := view("3").Changes[1]
	if !strings.Contains(v.Rules[2].Parked, "division by zero") || v.Rules[2].WebhookID == "" {
		t.Errorf("parked: %+v", v.Rules[2])
	}
	refused := map[string]string{}
	for _, e := range v.Rules[1].Endpoints {
		refused[e.Endpoint] = e.Refused
	}
	if diff := cmp.Diff(map[string]string{"crm": "", "outro": "event", "velho": "inactive", "centro": "tenant"}, refused); diff != "" {
		t.Errorf("endpoints: -want +got\n%s", diff)
	}
	// The delivery log follows.
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if a := view("1").Changes[1].Rules[0].Endpoints[0].Attempts; len(a) > 0 {
			if a[0].Outcome != "delivered" {
				t.Errorf("attempt: %+v", a[0])
			}
			break
		}
		<-tick.C
	}
	if text := s.ok("why", "--table", "cobrancas", "--key", "2", "--url", at); !regexp.MustCompile(`(?m)^  cobranca.liquidada \(\S+rules.yaml:2\): no event: when was false, because of its part 1 of 2: old.status <> 'L'$`).MatchString(text) {
		t.Errorf("the story is\n%s", text)
	}
	whyRow(s, at)
	whyRead(s, at)
	if n := len(decoded[control.Page[state.Token]](s, "tokens", "list").Items); n != 0 {
		t.Errorf("%d tokens are left", n)
	}
	whyQueried(s, at, b)
	s.fails(2, "did you mean cobrancas?", "why", "--table", "cobranca", "--key", "2", "--url", at)
	s.fails(2, "--key is missing", "why", "--table", "cobrancas", "--url", at)
	s.fails(2, "--since", "why", "--table", "cobrancas", "--key", "1", "--since", "ontem", "--url", at)
	s.fails(1, "give its address with --url", "why", "--table", "cobrancas", "--key", "1", "--url", "http://127.0.0.1:1")
	if text := s.ok("why", "--table", "cobrancas", "--key", "1", "--since", "2100-01-01", "--url", at); !strings.Contains(text, "0 changes known") {
		t.Errorf("since: %s", text)
	}
	worker := w.start("run", "--only", "deliver", "--config", s.path)
	worker.waitLog("bridge is ready")
	s.fails(1, "his process does not capture changes", "why", "--table", "cobrancas", "--key", "1", "--url", "http://"+worker.listening())
}

// whyRow asks for rows as they are now, whose conditions are evaluated part by part.
func whyRow(s *session, at string) {
	s.t.Helper()
	text := s.ok("why", "--table", "cobrancas", "--key", "3", "--row", "--url", at)
	_, text, found := strings.Cut(text, "The row as it was at ")
	_, text, _ = strings.Cut(text, "\n")
	text = regexp.MustCompile(`[^\s(]+/rules\.yaml`).ReplaceAllString(text, "rules.yaml")
	want := `  cobranca.liquidada (rules.yaml:2), on update:
    needs the row before: old.status <> 'L'
    false: new.status = 'L'   (status = 'P')
  cobranca.paga (rules.yaml:8), on update:
    watch needs the row before: an update that changes none of its columns makes no event
    it has no when
  cobranca.rateada (rules.yaml:14), on update:
    fails: 10 / valor >= 0: rules.yaml:17:11: evaluate when: division by zero (SQLSTATE 22012)   (valor = '0')
`
	if diff := cmp.Diff(want, text); !found || diff != "" {
		s.t.Errorf("the row: -want +got\n%s", diff)
	}
	v := decoded[control.WhyView](s, "why", "--table", "cobrancas", "--key", "1", "--row", "--url", at)
	if v.Row == nil || v.Row.Rules[0].Conjuncts[1].Result != "true" || v.Row.Rules[2].Conjuncts[0].Result != "true" || v.RowUnread != "" {
		s.t.Errorf("row 1: %+v", v.Row)
	}
	if text := s.ok("why", "--table", "cobrancas", "--key", "99", "--row", "--url", at); !strings.Contains(text, "There is no row with this key") {
		s.t.Errorf("no row: %s", text)
	}
	s.fails(2, "no primary key of the table", "why", "--table", "cobrancas", "--key", "x", "--row", "--url", at)
}

// whyQueried asks about a table that a query alone reads, which is no table of the rules for who asks as a tenant.
func whyQueried(s *session, at string, b *bridge) {
	s.t.Helper()
	text := s.ok("why", "--table", "turmas", "--key", "1", "--row", "--url", at)
	for _, want := range []string{
		"public.turmas: no rule is for its changes; queries of rules with schedule read it\n", "makes its events of a query, monthly 1 03:00, and not of changes\n", "The row could not be read: " + control.NoCondition,
	} {
		if !strings.Contains(text, want) {
			s.t.Errorf("why says of a table that a query reads %s, without %q", text, want)
		}
	}
	token := decoded[struct{ Token string }](s, "tokens", "create", "centro", "--tenant", "2", "--role", "viewer").Token
	request, err := http.NewRequestWithContext(s.t.Context(), http.MethodGet, "http://"+b.listening()+"/api/v1/why?table=turmas&key=1", nil)
	if err != nil {
		s.t.Fatal(err)
	}
	request.Header.Set("Authorization", "Bearer "+token)
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = response.Body.Close() }()
	if body, err := io.ReadAll(response.Body); err != nil || response.StatusCode != http.StatusBadRequest || !strings.Contains(string(body), "no rule is for the table turmas") {
		s.t.Errorf("a tenant is answered %d %s, %v", response.StatusCode, body, err)
	}
}

// whyRead asks what became of rows that a backfill has read.
func whyRead(s *session, at string) {
	s.t.Helper()
	id := decoded[struct{ Items []state.Job }](s, "backfill", "--table", "pagamentos", "--endpoint", "crm").Items[0].ID
	s.jobIn(id, state.Done)
	story := func(key string) string {
		s.t.Helper()
		_, text, _ := strings.Cut(s.ok("why", "--table", "pagamentos", "--key", key, "--url", at), "\n\n")
		return regexp.MustCompile(`(?m)^\S+  \S+  |[^\s(]+/rules\.yaml|: delivered.*`).ReplaceAllString(text, "")
	}
	fired := regexp.MustCompile(fmt.Sprintf(`^read, as it was then, by backfill %d
  pagamento.feito \(:20\): event \S+
    crm.*
    outro: not queued: the backfill is for another endpoint
    velho: not queued: the backfill is for another endpoint
    centro: not queued: the backfill is for another endpoint
$`, id))
	if got := story("1"); !fired.MatchString(got) {
		s.t.Errorf("a row that was read: %s", got)
	}
	if got, want := story("2"), fmt.Sprintf("read, as it was then, by backfill %d\n  pagamento.feito (:20): no event: when was false, because of its part 2 of 2: valor > 5\n", id); got != want {
		s.t.Errorf("-want +got\n%s", cmp.Diff(want, got))
	}
}
