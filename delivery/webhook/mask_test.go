package webhook_test

import (
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// A receiver that sends back what it got does not make the endpoint's secrets
// readable for those who read answers.
func TestEchoedSecretsAreHidden(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		w.Header().Set("X-Echo", r.Header.Get("X-Api-Key"))
		w.WriteHeader(http.StatusBadGateway)
		_, _ = io.WriteString(w, r.URL.RequestURI()+"\n"+r.Header.Get("Authorization")+"\n"+r.Header.Get("X-Api-Key")+"\n"+string(body)+"\nsorry, try later")
	}))
	t.Cleanup(server.Close)
	ep := &endpoint.Endpoint{
		Name: "crm", URL: server.URL + "/hooks/the-path/of%20it?token=in+the+query&only-a-token&padded-token==", AllowHTTP: true, AllowPrivate: loopback,
		Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"X-Api-Key": "in the header", "Authorization": "Bearer in-the-authorization", "X-Short": "sorry"}),
		Extra:   map[string]endpoint.Hidden{"validationtoken": `in "the" body`},
	}
	sender := webhook.NewSender(webhook.Options{Version: "test"})
	t.Cleanup(sender.Close)
	m := &webhook.Message{ID: "1", Type: "a.b", Data: []byte(`{}`)}
	probe := sender.Probe(t.Context(), ep, m)
	answers := probe.Answer.Body + probe.Answer.Header.Get("X-Echo") + string(sender.Send(t.Context(), ep, m).Answer)
	for _, secret := range []string{"the-path", "of%20it", "in the query", "in+the+query", "only-a-token", "padded-token", "in the header", "in-the-authorization", `in "the" body`, `in \"the\" body`} {
		if strings.Contains(answers, secret) {
			t.Errorf("the answers hold %q:\n%s", secret, answers)
		}
	}
	if !strings.Contains(answers, "/hooks/***?token=***&***&***") || strings.Count(answers, "sorry, try later") != 2 {
		t.Errorf("the answers lost more than secrets:\n%s", answers)
	}
}

// Receivers escape what they send back in ways of their own.
func TestEchoesAreHiddenHoweverEscaped(t *testing.T) {
	t.Parallel()
	const token, accented = `a+b/c=d<e&"f g%`, "segredo/não"
	echoes := []string{
		"a+b/c=d<e&\"f g%", `a+b\/c=d<e&\"f g%`, `a+b/c=d<e&\"f g%`, `a+b/c=d\u003ce\u0026\"f g%`, // JSON: raw, PHP's, JavaScript's, Go's
		"a%2Bb%2Fc%3Dd%3Ce%26%22f+g%25", "a%2Bb%2Fc%3Dd%3Ce%26%22f%20g%25", "a+b/c=d<e&%22f%20g%25", // forms, JavaScript's, ce- headers
		"a+b/c=d&lt;e&amp;&quot;f g%", "a+b/c=d&lt;e&amp;&#34;f g%", // HTML: most, Go's
		"segredo/não", `segredo\/n\u00e3o`, `segredo/n\u00e3o`, `segredo\/não`, // JSON: raw, PHP's, Python's, PHP's told not to escape Unicode
		"%zz-token",
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = io.WriteString(w, strings.Join(echoes, "\n"))
	}))
	t.Cleanup(server.Close)
	ep := &endpoint.Endpoint{
		Name: "crm", URL: server.URL + "/hooks?%zz-token", AllowHTTP: true, AllowPrivate: loopback,
		Extra: map[string]endpoint.Hidden{"token": token}, Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"X-Key": accented}),
	}
	sender := webhook.NewSender(webhook.Options{Version: "test"})
	t.Cleanup(sender.Close)
	o := sender.Send(t.Context(), ep, &webhook.Message{ID: "1", Type: "a.b", Data: []byte(`{}`)})
	mustDeliver(t, o)
	for i, shown := range strings.Split(string(o.Answer), "\n") {
		if shown != "***" {
			t.Errorf("%s is shown as %s", echoes[i], shown)
		}
	}
}
