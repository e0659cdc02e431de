package webhook_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// TestTemplates: headers and the URL's query have what each event has, escaped for where it
// stands, and nothing of an event can make a header or a parameter of its own.
func TestTemplates(t *testing.T) {
	t.Parallel()
	type seen struct {
		header http.Header
		query  string
	}
	got := make(chan seen, 1)
	ep := local(serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- seen{r.Header, r.URL.RawQuery} })) +
		"/hook?event={type}&tenant={tenant}&key={key}&op={op}&token=a%2Bb&as={{type}}&{id}")
	ep.Headers = endpoint.HeadersOf(map[string]endpoint.Hidden{
		"x-event": "{type}", "X-All": "{id}/{tenant}/{key}/{op}/{sequence}", "X-Fixed": "{{type}} {} {Type} {a b} 100%", "Idempotency-Key": "{id}", "X-Empty": "{op}",
	})
	ep.ContentType = "application/vnd.academia+json; charset=utf-8"
	m := message()
	m.Type, m.Tenant, m.Key = "a&b=c\r\nX-Evil: 1", "São Paulo", `"100%"`
	sender := newSender(t, webhook.Options{})
	mustDeliver(t, sender.Send(t.Context(), ep, m))
	r := <-got
	for name, want := range map[string]string{
		"X-Event": "a&b=c%0D%0AX-Evil:%201", "X-All": m.ID + "/S%C3%A3o%20Paulo/%22100%25%22//" + m.Sequence, "X-Evil": "",
		"X-Fixed": "{type} {} {Type} {a b} 100%", "Idempotency-Key": m.ID, "X-Empty": "", "Content-Type": ep.ContentType,
	} {
		if got := r.header.Get(name); got != want {
			t.Errorf("header %s: %q, want %q", name, got, want)
		}
	}
	query, err := url.ParseQuery(r.query)
	if err != nil {
		t.Fatal(err)
	}
	want := url.Values{"event": {m.Type}, "tenant": {m.Tenant}, "key": {m.Key}, "op": {""}, "token": {"a+b"}, "as": {"{type}"}, m.ID: {""}}
	if diff := cmp.Diff(want, query); diff != "" {
		t.Errorf("query %s (want -, got +):\n%s", r.query, diff)
	}

	// The next request has its own, and a list its own id.
	mustDeliver(t, sender.Send(t.Context(), ep, message()))
	if r := <-got; r.header.Get("X-Event") != "cobranca.liquidada" {
		t.Errorf("the second event's header is %q", r.header.Get("X-Event"))
	}
	ep = local(ep.URL[:strings.Index(ep.URL, "?")] + "?id={id}&at={timestamp}")
	ep.Batch.Max = 5
	mustDeliver(t, sender.SendList(t.Context(), ep, []*webhook.Message{message(), fullMessage()}))
	r = <-got
	if want := "id=" + r.header.Get("Webhook-Id") + "&at=" + r.header.Get("Webhook-Timestamp"); r.query != want {
		t.Errorf("query of a list %s, want %s", r.query, want)
	}
}

// TestTemplatesAreMasked: what stands in a template beside its names is a secret as any
// header's value.
func TestTemplatesAreMasked(t *testing.T) {
	t.Parallel()
	ep := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = w.Write([]byte(r.Header.Get("X-Api-Key") + " " + r.URL.RawQuery))
	})) + "/hook?token=segredo-da-url&event={type}&sig=outro+segredo-{id}-terceiro")
	ep.Headers = endpoint.HeadersOf(map[string]endpoint.Hidden{"X-Api-Key": "chave-secreta-{tenant}aa{{b}}cc"})
	shown := newSender(t, webhook.Options{}).Probe(t.Context(), ep, message())
	if diff := cmp.Diff("***7*** token=***&event=cobranca.liquidada&sig=***"+message().ID+"***", shown.Answer.Body); diff != "" {
		t.Errorf("answer (want -, got +):\n%s", diff)
	}
	if strings.Contains(shown.Request.URL, "segredo") || strings.Contains(shown.Request.URL, "terceiro") || shown.Request.Header.Get("X-Api-Key") != endpoint.Masked {
		t.Errorf("shown: %s %v", shown.Request.URL, shown.Request.Header)
	}
}
