package console_test

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/browser"
	"gancho/internal/console"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// webhookID is the n-th event's.
func webhookID(n int) string {
	id, err := queue.NewID(1, cdc.Position{Commit: cdc.LSN(0x1000 + n), Ordinal: 1}, 0)
	if err != nil {
		panic(err)
	}
	return id.WebhookID("00c0ffee")
}

// sent writes an event of the tenant with the key to the log, which the endpoint got at last with the outcome; earlier attempts failed.
func (w *world) sent(n int, endpoint, tenant, key, outcome string, attempts int) {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond).Add(time.Duration(n-1000) * time.Millisecond)
	event := webhook.Message{
		ID: webhookID(n), Type: "cobranca.paga", Tenant: tenant, Key: key, Time: now, Sequence: fmt.Sprint(n), Version: "1", Op: "update",
		Data: []byte(`{"numero":4711,"situacao":"paga"}`), Previous: []byte(`{"situacao":"aberta"}`), Tags: []string{"pedido=" + key},
	}
	if err := w.store.WriteEvents(context.Background(), []webhook.Message{event}); err != nil {
		w.t.Fatal(err)
	}
	var rows []state.Attempt
	for i := 1; i <= attempts; i++ {
		a := state.Attempt{
			Time: now.Add(time.Duration(i) * time.Millisecond), Endpoint: endpoint, Entry: fmt.Sprintf("0-%d", n), Number: i, WebhookID: event.ID, Event: event.Type, Tenant: tenant, Key: key,
			Committed: now, Outcome: "retry", Class: "status", Status: 503, Error: "the receiver answered 503", Duration: webhook.Milliseconds(12 * time.Millisecond), Tags: event.Tags,
			Detail: []byte(`{"request_headers":{"Webhook-Signature":["***"]},"answer_headers":{"Server":["nginx"]},"answer":"em manutenção","timing":{"dns_ms":1,"connect_ms":2,"tls_ms":3,"first_byte_ms":4,"total_ms":12}}`),
		}
		if i == attempts {
			if a.Outcome = outcome; outcome == "delivered" {
				a.Class, a.Status, a.Error = "ok", 204, ""
			}
		}
		rows = append(rows, a)
	}
	if err := w.store.WriteAttempts(context.Background(), rows); err != nil {
		w.t.Fatal(err)
	}
}

// The search box understands what people paste; there is one row for each event and endpoint, and what is done applies to all that it finds.
func TestDeliveries(t *testing.T) {
	t.Parallel()
	w := newConsole(t, func(o *console.Options) {
		o.Tenants = func(context.Context) ([]console.Tenant, error) {
			return []console.Tenant{{ID: "1", Name: "Centro Norte"}, {ID: "2", Name: "Sul"}}, nil
		}
	})
	w.endpoint("crm", "")
	w.endpoint("sul", "2")
	w.sent(1, "crm", "1", "a-1", "delivered", 3)
	w.sent(2, "crm", "2", "a-2", "retry", 1)
	w.sent(3, "sul", "2", "a-3", "dead", 2)
	b := w.as(state.Admin, "")
	rows := func(query string, want int) *visitor {
		t.Helper()
		b.open("/console/deliveries?" + query)
		if got := strings.Count(b.body, `<th scope="row">`); got != want {
			t.Errorf("%s finds %d, want %d: %s", query, got, want, b.text())
		}
		return b
	}
	rows("", 3).shows(http.StatusOK, "ENTREGUE", "FALHOU 503", "MORTA 503", "Centro Norte")
	rows("outcome=retry", 1)
	rows("q="+webhookID(1), 1).shows(http.StatusOK, "Procurando por: webhook-id")
	rows("q=a-2", 1).shows(http.StatusOK, "chave a-2")
	rows("q=Sul", 2).shows(http.StatusOK, "unidade Sul")
	rows("q=unidade:%22centro+norte%22", 1)
	rows("q=endpoint:crm+cobranca.*", 2)
	rows("q=endpoint:crm+cobranca.paga&outcome=delivered", 1)
	rows("q=nada", 0).shows(http.StatusOK, "Nenhuma entrega combina com a busca")
	b.open("/console/deliveries?q=pedido=1").shows(http.StatusUnprocessableEntity, "✕")
	b.open("/console/deliveries?q=a+b").shows(http.StatusUnprocessableEntity, "Há dois valores para chave")

	// Count, then do it: to each one's endpoint, at a rate.
	b.open("/console/deliveries?q=cobranca.*").open(b.href("Reenviar tudo o que a busca encontra…"))
	b.shows(http.StatusOK, "3 eventos seriam reenviados", "crm: 2", "sul: 1")
	b.submit("Contar", "Ritmo, em eventos por segundo", "muito").shows(http.StatusUnprocessableEntity, "Isto não é um número.")
	b.submit("Contar", "Ritmo, em eventos por segundo", "50", "Para outro endpoint", "nenhum").shows(http.StatusUnprocessableEntity, "Não existe um endpoint com este nome")
	b.submit("Contar", "Para outro endpoint", "").shows(http.StatusOK, "3 eventos seriam reenviados")
	if jobs := w.jobs(); len(jobs) != 0 {
		t.Fatalf("counting has created %d jobs", len(jobs))
	}
	b.submit("Reenviar 3 eventos").shows(http.StatusOK, "O reenvio começou")
	if jobs := w.jobs(); len(jobs) != 2 || jobs[0].Rate != 50 || jobs[0].Total+jobs[1].Total != 3 {
		t.Errorf("the jobs are %+v", jobs)
	}

	// A tenant finds its own, and cannot send again what is not for its endpoints.
	sul := w.as(state.Operator, "2")
	sul.open("/console/deliveries")
	if got := strings.Count(sul.body, `<th scope="row">`); got != 2 || strings.Contains(sul.text(), "a-1") {
		t.Errorf("a tenant sees %d deliveries: %s", got, sul.text())
	}
	sul.open("/console/deliveries/resend?span=all&q=cobranca.*").shows(http.StatusOK, "1 evento seria reenviado", "1 fica de fora")
	w.as(state.Viewer, "").open("/console/deliveries/resend?q=a-1").shows(http.StatusForbidden)
}

// jobs are all there are.
func (w *world) jobs() []state.Job {
	w.t.Helper()
	found, err := w.control.Jobs(context.Background(), root, "", 0)
	if err != nil {
		w.t.Fatal(err)
	}
	return found.Items
}

// A delivery's page says all that is known, without secrets, and sends it again.
func TestDelivery(t *testing.T) {
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "")
	w.endpoint("erp", "")
	w.sent(1, "crm", "1", "a-1", "delivered", 2)
	b := w.as(state.Operator, "")
	b.open("/console/deliveries")
	link := ""
	for n := range b.page.Descendants() {
		if href := attribute(n, "href"); strings.HasPrefix(href, "/console/deliveries/") && !strings.Contains(href, "resend") {
			link = href
		}
	}
	b.open(link).shows(http.StatusOK, "Commit na origem", "1ª tentativa", "2ª tentativa", "ENTREGUE", "em manutenção", "DNS", "nginx", "webhook-signature: ***", "curl -X POST", `"aberta" → "paga"`, "situacao")
	explain := "Explicar o evento" // is for who may ask
	b.submit(explain).shows(http.StatusOK, "Evento "+webhookID(1), "crm: ! FALHOU 503 ✓ ENTREGUE 204")
	for _, viewer := range []*visitor{w.as(state.Viewer, ""), w.as(state.Admin, "1")} {
		if viewer.open(link).shows(http.StatusOK, webhookID(1)); strings.Contains(viewer.text(), explain) {
			t.Error("an event can be explained by who may not ask")
		}
	}
	b.open(link)
	b.submit("Reenviar", "Para o endpoint", "nenhum").shows(http.StatusUnprocessableEntity, "Não existe um endpoint com este nome")
	b.submit("Reenviar", "Para o endpoint", "erp").shows(http.StatusOK, "O reenvio começou")
	if jobs := w.jobs(); len(jobs) != 1 || jobs[0].Endpoint != "erp" || jobs[0].Total != 1 {
		t.Errorf("the jobs are %+v", jobs)
	}
	w.as(state.Admin, "2").open(link).shows(http.StatusNotFound)
}

// The screens can be used by everybody, in both languages, light and dark, wide and narrow, with and without JavaScript.
func TestDeliveriesInChromium(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newConsole(t)
	w.endpoint("crm", "")
	for n := range 30 {
		w.sent(n, "crm", "1", fmt.Sprint("a-", n), []string{"delivered", "retry", "dead"}[n%3], 1+n%3)
	}
	for _, o := range testservers.Sample([]browser.Options{{Width: 1280, Height: 900}, {Dark: true, Language: "en", Width: 360, Height: 640}, {NoScript: true, Width: 320, Height: 640}}) {
		p := chromium.Page(t, o)
		english := o.Language == "en"
		say := func(pt, en string) string { return map[bool]string{false: pt, true: en}[english] }
		p.Open(w.link(state.Admin, ""))
		p.Follow(say("Entrar", "Enter"))
		check := func(name string) {
			t.Helper()
			w.picture(p, fmt.Sprintf("%s-%d-%s", name, o.Width, say("pt", "en")))
			if !o.NoScript {
				for _, v := range p.Violations() {
					t.Errorf("%s %+v: %s", name, o, v)
				}
			}
			if p.ScrollsSideways() {
				t.Errorf("%s scrolls sideways at %d px", name, o.Width)
			}
		}
		check("dashboard")
		p.Open(w.url + "/console/deliveries")
		p.Fill(say("O que procurar", "What to look for"), "a-29")
		p.Follow(say("Buscar", "Search"))
		p.WaitText("a-29")
		check("deliveries")
		p.Follow(say("Reenviar tudo o que a busca encontra…", "Resend everything that the search finds…"))
		p.WaitText(say("1 evento seria reenviado", "1 event would be sent again"))
		check("resend")
		p.Follow(say("Reenviar 1 evento", "Resend 1 event"))
		p.WaitText(say("O reenvio começou", "The resend has begun"))
		p.Open(w.url + "/console/deliveries")
		b := w.as(state.Admin, "")
		b.open("/console/deliveries?q=a-28")
		for n := range b.page.Descendants() {
			if href := attribute(n, "href"); strings.HasPrefix(href, "/console/deliveries/") && !strings.Contains(href, "resend") {
				p.Open(w.url + href)
			}
		}
		check("delivery")
		p.Open(w.url + "/console/live")
		check("live")
		for _, refused := range p.Refused() {
			t.Errorf("%+v: the policy has refused %s", o, refused)
		}
	}
}

// picture keeps what the page looks like, where GANCHO_TEST_PICTURES says.
func (w *world) picture(p *browser.Page, name string) {
	w.t.Helper()
	if dir := os.Getenv("GANCHO_TEST_PICTURES"); dir != "" {
		if err := os.WriteFile(filepath.Join(dir, name+".png"), p.Screenshot(), 0o600); err != nil {
			w.t.Fatal(err)
		}
	}
}
