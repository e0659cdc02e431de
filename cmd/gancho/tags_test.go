package main_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"net/http"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"gancho/internal/control"
	"gancho/internal/state"
)

const tagRules = `rules:
  - event: pedido.criado
    table: pedidos
    on: insert
    data: {id: id}
    tags: {pedido: numero, cpf: "hmac(cpf, 'cpf')"}
`

// An attempt that failed is found by what people know of the event, a hashed value by the one
// before, and shows what the receiver has answered; the value itself is stored nowhere.
func TestTagsAndAnswers(t *testing.T) {
	t.Parallel()
	const cpf, secretOfCPF = "529.982.247-25", "0123456789abcdef0123"
	s := newStateful(t, pg, []string{"keep_events: 7d"}, "create table pedidos (id int primary key, numero int, cpf text)")
	s.rules = tagRules
	s.extra += "\nprivacy:\n  secrets: {cpf: " + secretOfCPF + "}"
	var refused atomic.Bool
	r := newReceiver(t, func(w http.ResponseWriter, _ arrival) {
		if refused.Swap(true) {
			return
		}
		w.Header().Set("Set-Cookie", "sessao=aberta")
		w.Header().Set("X-Chave", "segredo-do-crm")
		w.WriteHeader(http.StatusServiceUnavailable)
		_, _ = w.Write([]byte("em manutenção segredo-do-crm " + strings.Repeat("x", 5000)))
	})
	s.endpoint("crm", r.url(), "headers: {X-Chave: segredo-do-crm}", "retry: [100ms]", "order: endpoint")
	b := s.run()
	s.exec("insert into pedidos values (1, 4711, $1), (2, 4712, null)", cpf)
	r.waitCount(2)
	s.until(3, "select count(*) from gancho.attempts")

	var page control.Page[state.Attempt]
	s.call(b, http.MethodGet, "/deliveries?tag="+url.QueryEscape("cpf="+cpf)+"&tag=pedido%3D4711&event=pedido.*&event=x", "", &page)
	mac := hmac.New(sha256.New, []byte(secretOfCPF))
	_, _ = mac.Write([]byte(cpf))
	tags := "pedido=4711 cpf=" + hex.EncodeToString(mac.Sum(nil))
	if len(page.Items) != 2 || strings.Join(page.Items[1].Tags, " ") != tags || page.Items[1].Outcome != "retry" {
		t.Fatalf("attempts of the tag: %+v, not two with the tags %s", page.Items, tags)
	}
	var shown control.DeliveryDetail
	s.call(b, http.MethodGet, "/deliveries/"+page.Items[1].ID, "", &shown)
	d := shown.Detail
	switch {
	case d == nil:
		t.Fatal("the attempt that failed has no detail")
	case len(d.Answer) > 4<<10 || !d.Cut || !strings.HasPrefix(d.Answer, "em manutenção *** xxx"):
		t.Errorf("the answer has %d bytes, cut %v: %.40s", len(d.Answer), d.Cut, d.Answer)
	case d.Headers.Get("Set-Cookie") != "***" || d.Headers.Get("X-Chave") != "***" || d.Headers.Get("Content-Type") == "":
		t.Errorf("headers of the answer: %v", d.Headers)
	case d.Request.Get("X-Chave") != "***" || d.Request.Get("Webhook-Id") != shown.WebhookID || d.Request.Get("Webhook-Signature") == "":
		t.Errorf("headers of the request: %v", d.Request)
	case d.Timing.Connect <= 0 || d.Timing.FirstByte <= 0 || d.Timing.Total < d.Timing.Connect:
		t.Errorf("timing: %+v", d.Timing)
	}
	shown = control.DeliveryDetail{}
	s.call(b, http.MethodGet, "/deliveries/"+page.Items[0].ID, "", &shown)
	if shown.Detail != nil || shown.Outcome != "delivered" {
		t.Errorf("the attempt that delivered: %+v", shown)
	}

	config := s.write()
	code, out, errs := command(t, "deliveries", "--config", config, "--tag", "cpf="+cpf, "--json")
	if page = (control.Page[state.Attempt]{}); code != 0 || json.Unmarshal([]byte(out), &page) != nil || len(page.Items) != 2 {
		t.Errorf("deliveries --tag ended with %d: %s%s", code, out, errs)
	}
	if code, out, errs := command(t, "resend", "--config", config, "-e", "crm", "--tag", "cpf="+cpf, "--wait"); code != 0 || !strings.Contains(out, "1 of 1 event") {
		t.Errorf("resend --tag ended with %d: %s%s", code, out, errs)
	}
	again := r.waitFor(30*time.Second, "the event again", func(all []arrival) bool { return len(all) == 4 })
	if !again[3].replay || again[3].field("id") != "1" {
		t.Errorf("sent again: %+v", again[3])
	}
	if code, _, errs := command(t, "deliveries", "--config", config, "--tag", "pedidos=1"); code == 0 || !strings.Contains(errs, "the rules have cpf, pedido") {
		t.Errorf("a tag that does not exist ended with %d: %s", code, errs)
	}
	b.stop()
	for _, table := range []string{"attempts", "events", "jobs", "audit"} {
		if n := s.count("select count(*) from gancho."+table+" t where t::text like $1", "%"+cpf+"%"); n > 0 {
			t.Errorf("%d rows of %s have the value before it was hashed", n, table)
		}
	}
	if strings.Contains(b.text(), cpf) {
		t.Error("the log has the value before it was hashed")
	}
}
