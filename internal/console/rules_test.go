package console_test

import (
	"context"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/browser"
	"gancho/internal/control"
	"gancho/internal/draft"
	"gancho/internal/simulate"
	"gancho/internal/state"
	"gancho/internal/testservers"
	"gancho/mapping"
	"gancho/mapping/ruletest"
)

// useRules gives a console rules over a real source; what is remembered of changes is made up.
func (w *world) useRules(t testing.TB) (file string) {
	t.Helper()
	parsed, bound, dsn := ruled(t)
	bound.Number([]int{1, 2})
	options := simulate.Options{Source: cdc.Options{DSN: dsn, Slot: "trial", Log: zerolog.Nop()}, LookupDSN: dsn, TransactionMemory: 1 << 20}
	since := time.Date(2026, 11, 29, 3, 0, 0, 0, time.UTC)
	w.control.Catalogue = parsed.EventTypes
	w.control.RulesInUse = func() control.RulesInUse {
		return control.RulesInUse{
			Sources: parsed.Sources(), Files: parsed.Files(), Texts: bound.Texts(), Since: since,
			Seen: map[int]control.RuleTally{1: {Changes: 1234, Events: 1000, False: 200, Null: 34}},
			Try: func(ctx context.Context, trial simulate.Trial) (*simulate.Report, error) {
				return simulate.Try(ctx, parsed, trial, options)
			},
		}
	}
	place := parsed.Sources()[0].Place
	w.control.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
		return control.WhyView{
			Table: "public.cobrancas", Key: q.Key, KeyColumns: []string{"id"}, Capturing: true, Since: since,
			Changes: []control.WhyChange{{Time: since.Add(time.Hour), Position: "0/1A2B3C4", Op: "update", Rules: []control.WhyRule{
				{Rule: place, Event: "cobranca.paga", Outcome: control.WhyFalse, Number: 1, Of: 3, Conjunct: "status = 'L'"},
			}}},
		}, nil
	}
	w.control.Recent = func(string, int) (control.RecentChanges, error) {
		view, err := w.control.Verdicts(control.WhyQuestion{})
		return control.RecentChanges{Capturing: true, Since: since, Changes: []control.RecentChange{{Table: view.Table, WhyChange: view.Changes[0]}}}, err
	}
	w.control.JudgeRow = func(ctx context.Context, q control.WhyQuestion) (*mapping.RowJudgement, error) {
		source := mapping.NewSource(dsn, "", zerolog.Nop())
		defer source.Close(ctx)
		return bound.Judge(ctx, source, cdc.Name{Schema: "public", Name: "cobrancas"}, q.Key, draft.Personal)
	}
	w.control.DraftTestOf = func(ctx context.Context, q control.WhyQuestion) ([]byte, error) {
		source, table := mapping.NewSource(dsn, "", zerolog.Nop()), cdc.Name{Schema: "public", Name: "cobrancas"}
		defer source.Close(ctx)
		row, err := bound.RowValues(ctx, source, table, q.Key, draft.Personal)
		if err != nil || row == nil {
			return nil, err
		}
		return ruletest.Draft(ctx, bound, ruletest.Options{Location: time.UTC}, table, row)
	}
	return parsed.Sources()[0].File
}

// A row is downloaded as a test that gancho test passes as it is. It has nobody's data, and that the row was read is in the audit log.
func TestDownloadTest(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.useRules(t)
	_, bound, _ := ruled(t)
	b := w.as(state.Operator, "")
	b.open("/console/rules").submit("Baixar como caso de teste", "Chave primária", "2")
	if got := b.header.Get("Content-Disposition"); b.status != http.StatusOK || got != "attachment; filename=cobrancas.test.yaml" {
		t.Fatalf("status %d, %q: %s", b.status, got, b.body)
	}
	file := filepath.Join(t.TempDir(), "cobrancas.test.yaml")
	if err := os.WriteFile(file, []byte(b.body), 0o600); err != nil {
		t.Fatal(err)
	}
	suite, err := ruletest.Load(bound, ruletest.Options{Location: time.UTC}, file)
	if err != nil {
		t.Fatal(err)
	}
	run, err := suite.Run(t.Context(), nil, nil)
	if err != nil || run.Failed() > 0 || len(run.Results) != 2 {
		t.Errorf("%d of %d cases fail, %v:\n%s", run.Failed(), len(run.Results), err, b.body)
	}
	for _, want := range []string{"insert: 'public.cobrancas'", "'id': '2'", "event: cobranca.criada", "'cpf': '***'", "masked, or left out: cpf"} {
		if !strings.Contains(b.body, want) {
			t.Errorf("the test has no %q:\n%s", want, b.body)
		}
	}
	if strings.Contains(b.body, "12345678901") {
		t.Errorf("the test has somebody's data:\n%s", b.body)
	}
	b.open("/console/audit?action=row.read").shows(http.StatusOK, "row/cobrancas/")
	b.open("/console/rules").submit("Baixar como caso de teste", "Chave primária", "4711").shows(http.StatusUnprocessableEntity)
	w.as(state.Admin, "1").post("/console/rules/test-case", url.Values{"table": {"cobrancas"}, "key": {"2"}}).shows(http.StatusNotFound)
}

// What was parked and is no longer has what was sent of it since, and of an event of which nothing is known the page says what was looked at.
func TestWhyRedriven(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.useRules(t)
	w.control.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
		if q.WebhookID != "" {
			return control.WhyView{WebhookID: q.WebhookID}, nil
		}
		parked := func(n int) control.WhyRule {
			return control.WhyRule{Event: "cobranca.paga", Outcome: control.WhyParked, WebhookID: fmt.Sprintf("01234567-001-0000000000001000-000000000000-%04d", n)}
		}
		return control.WhyView{Table: "public.cobrancas", Key: q.Key, Changes: []control.WhyChange{{Op: "update", Rules: []control.WhyRule{parked(0), parked(1)}}}}, nil
	}
	sent := state.Attempt{Time: time.Now(), Endpoint: "crm", Entry: "1-1", WebhookID: "01234567-001-0000000000001000-000000000000-0001", Event: "cobranca.paga", Committed: time.Now(), Number: 1, Outcome: "delivered", Status: http.StatusNoContent}
	if err := w.store.WriteAttempts(t.Context(), []state.Attempt{sent}); err != nil {
		t.Fatal(err)
	}
	b := w.as(state.Operator, "")
	w.control.Queue, w.control.QueueDown = nil, queue.ErrUnreachable
	queues := "Ele não espera em nenhuma das filas consultadas"
	unknown := func() {
		b.post("/console/rules/why", url.Values{"webhook_id": {"evt-1"}}).shows(http.StatusOK, "Nada se sabe deste evento")
	}
	if unknown(); strings.Contains(b.text(), queues) {
		t.Error("queues were looked at without Redis")
	}
	w.control.Queue, w.control.QueueDown = w.queue, nil
	unknown()
	b.shows(http.StatusOK, queues)
	b.open("/console/rules")
	b.submit("Explicar as mudanças", "Chave primária", "1").shows(http.StatusOK, "Não está mais pendente; foi reprocessada ou apagada. 01234567-001-0000000000001000-000000000000-0000",
		"Foi reprocessada. 01234567-001-0000000000001000-000000000000-0001 crm: ✓ ENTREGUE")
}

// Regras shows an operator each rule with its lines, what it needs of old rows and what became of changes, and explains a row
// with each part of when: true, false or null, and the values that it names.
func TestRules(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	b := w.as(state.Operator, "")
	b.open("/console/rules").shows(http.StatusOK, "Não há regras.")
	w.useRules(t)
	b.open("/console/rules").shows(http.StatusOK, "cobranca.paga", "cobranca.criada", "1.234", "1.000", "29/11/2026 03:00:00")
	b.open(b.href("cobranca.paga")).shows(http.StatusOK, "REPLICA IDENTITY ✓ SUFICIENTE", "registro antigo inteiro", "registro inteiro (FULL)", "when é falso 200", "when é nulo 34")
	if !strings.Contains(b.body, `<li value="9"><code>    when: status = &#39;L&#39;`) || strings.Contains(b.body, "cobranca.criada") {
		t.Errorf("the rule's lines are not shown: %s", b.body)
	}
	if strings.Contains(b.body, "<textarea") {
		t.Error("an operator may try a change")
	}
	b.open("/console/rules")
	b.submit("Explicar as mudanças", "Chave primária", "1").shows(http.StatusOK, "public.cobrancas, chave 1", "cobranca.paga : – when é falso status = 'L'")
	if strings.Contains(b.text(), "O registro como estava") {
		t.Error("a row is read that nobody has asked for")
	}
	b.submit("Explicar e ler o registro", "Chave primária", "1").shows(http.StatusOK, "O registro como estava em", "status = 'L' ✕ FALSO status = 'A'", "valor > 0 ✓ VERDADEIRO valor = '1.00'", "PRECISA DO REGISTRO ANTIGO")
	b.submit("Explicar e ler o registro", "Chave primária", "4711").shows(http.StatusOK, "Não há registro com esta chave.")
	b.submit("Explicar as mudanças", "Chave primária", " ").shows(http.StatusUnprocessableEntity, "falta a chave; escreva a chave primária")
	b.open("/console/audit?action=row.read").shows(http.StatusOK, "row/public.cobrancas/")
	if b.open("/console/rules").submit("Explicar as mudanças", "Chave primária", "77"); !strings.Contains(b.body, `value="77"`) {
		t.Error("the question is not kept")
	}
	b.open("/console/rules/rule?at=nowhere").shows(http.StatusNotFound)
	tenant := w.as(state.Admin, "1")
	for _, path := range []string{"/console/rules", "/console/rules/rule?at=x"} {
		tenant.open(path).shows(http.StatusNotFound)
	}
	for _, path := range []string{"/console/rules/why", "/console/rules/simulate"} {
		tenant.post(path, url.Values{"table": {"cobrancas"}, "key": {"1"}}).shows(http.StatusNotFound)
	}
	b.post("/console/rules/simulate", nil).shows(http.StatusForbidden)
}

// An administrator compares an edited copy with the rules in use, with and without JavaScript; mistakes stand beside the text.
func TestSimulateRules(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newConsole(t)
	file := w.useRules(t)
	b := w.as(state.Admin, "")
	for field, value := range map[string]string{"where": "pg_sleep(9) is null", "limit": "100000", "table": "clientes"} {
		values := url.Values{"at": {file + ":3"}, "text": {ruleText}, "table": {"cobrancas"}, "limit": {"10"}}
		values.Set(field, value)
		if b.post("/console/rules/simulate", values).shows(http.StatusUnprocessableEntity); !strings.Contains(b.body, `id="f-`+field+`-problem"`) {
			t.Errorf("%s %s: the mistake is not at its field: %s", field, value, b.text())
		}
	}
	for _, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900}, {Dark: true, Language: "en", NoScript: true, Width: 320, Height: 640}}) {
		english := o.Language == "en"
		say := func(portuguese, text string) string {
			if english {
				return text
			}
			return portuguese
		}
		p := chromium.Page(t, o)
		p.Open(w.link(state.Admin, ""))
		p.Follow(say("Entrar", "Enter"))
		p.Open(w.url + "/console/rules")
		inspect(t, p, &o, "rules")
		p.Follow("cobranca.criada")
		inspect(t, p, &o, "rule")
		copied := say("Cópia de ", "Copy of ") + file
		p.Fill(copied, "rules:\n  - event: x\n    tabel: y\n")
		p.Follow(say("Simular", "Simulate"))
		p.WaitText(say("linha 3:", "line 3:"))
		inspect(t, p, &o, "rule-mistake")
		p.Fill(copied, strings.Replace(ruleText, "on: insert\n    data:\n      numero: numero", "on: insert\n    when: id > 4\n    data:\n      numero: lower(numero)", 1))
		p.Follow(say("Simular", "Simulate"))
		p.WaitText(say("10 registros lidos. Nada foi enviado.", "10 rows read. Nothing was sent."))
		p.WaitText(`"n5"`)
		inspect(t, p, &o, "simulation")
		p.Fill(say("Máximo de registros", "The most rows"), "3") // the text has stayed
		p.Follow(say("Simular", "Simulate"))
		p.WaitText(say("3 registros lidos. Nada foi enviado.", "3 rows read. Nothing was sent."))
		p.Open(w.url + "/console/rules")
		p.Fill(say("Chave primária", "Primary key"), "1")
		p.Follow(say("Explicar e ler o registro", "Explain, and read the row"))
		inspect(t, p, &o, "why")
	}
}
