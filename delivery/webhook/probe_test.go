package webhook_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// TestProbeShowsTheExchange, and nothing that is secret.
func TestProbeShowsTheExchange(t *testing.T) {
	t.Parallel()
	own := newAuthority(t, "own")
	got := make(chan received, 4)
	port := tlsServer(t, own, certificateOptions{names: []string{"crm.example.com"}}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got <- received{r.Header, string(body), r.Proto}
		w.Header().Set("X-Request-Id", "abc")
		w.WriteHeader(http.StatusUnprocessableEntity)
		_, _ = io.WriteString(w, "unknown type ping")
	}), nil)
	certificate, key := own.issue(t, certificateOptions{client: true})
	p := newProxy(t)
	p.login = "Basic YW5hOnMzY3IzdA=="
	ep := local("https://bia:s3cr3t@crm.example.com:" + port + "/hook?s3cr3t&token=s3cr3t&a=&x=s3cr3t%20y")
	ep.TLS = endpoint.TLS{CA: own.pem, Certificate: certificate, Key: key}
	ep.Headers, ep.Extra = endpoint.HeadersOf(map[string]endpoint.Hidden{"X-Api-Key": "s3cr3t"}), map[string]endpoint.Hidden{"validationtoken": "s3cr3t"}
	ep.Secrets = secrets(t, newerSecret)
	sender := newSender(t, webhook.Options{Resolver: here(t)})
	defer func() {
		if n := sender.PreparedEndpoints() + sender.Pools(); n != 0 {
			t.Errorf("the sender keeps %d endpoints and pools that were only probed", n)
		}
	}()
	for _, proxied := range []bool{false, true} {
		if proxied {
			ep = new(*ep)
			ep.Proxy = endpoint.Hidden(strings.Replace(p.url, "http://", "http://ana:s3cr3t@", 1))
		}
		e := sender.Probe(t.Context(), ep, message())
		r := <-got
		checkExchange(t, &e, want{webhook.Refused, 422, webhook.ClassStatus, "422"})
		if e.Answer.Body != "unknown type ping" || e.Answer.Header.Get("X-Request-Id") != "abc" {
			t.Errorf("answer %+v", e.Answer)
		}
		header := e.Request.Header
		if e.Request.Method != http.MethodPost || e.Request.URL != "https://crm.example.com:"+port+"/hook?***&token=***&***&x=***" {
			t.Errorf("%s %s", e.Request.Method, e.Request.URL)
		}
		for _, name := range []string{"Webhook-Id", "Webhook-Timestamp", "Webhook-Signature", "Content-Type", "User-Agent", "Content-Length"} {
			if header.Get(name) != r.header.Get(name) || header.Get(name) == "" {
				t.Errorf("header %s: shown as %q, sent as %q", name, header.Get(name), r.header.Get(name))
			}
		}
		if header.Get("X-Api-Key") != "***" || header.Get("Authorization") != "***" || r.header.Get("X-Api-Key") != "s3cr3t" {
			t.Errorf("headers %v", header)
		}
		if strings.ReplaceAll(r.body, "s3cr3t", "***") != e.Request.Body {
			t.Errorf("body shown as %s, sent as %s", e.Request.Body, r.body)
		}
		if shown := fmt.Sprintf("%+v %+v", e, e.Answer); strings.Contains(shown, "s3cr3t") || strings.Contains(shown, "YW5h") {
			t.Errorf("a secret is shown: %s", shown)
		}
		address, name := "127.0.0.1:"+port, ""
		if proxied {
			address, name = p.address, p.address
		}
		if e.Address != address || e.Proxy != name || e.TLS != "TLS 1.3" || e.Protocol != "HTTP/2.0" {
			t.Errorf("connected to %s, proxy %q, %s, %s", e.Address, e.Proxy, e.TLS, e.Protocol)
		}
		steps := e.Timing
		if steps.DNS <= 0 || steps.Connect <= 0 || steps.TLS <= 0 || steps.FirstByte <= 0 ||
			steps.DNS+steps.Connect+steps.TLS+steps.FirstByte > steps.Total {
			t.Errorf("timing %+v", steps)
		}
	}
}

func checkExchange(t *testing.T, e *webhook.Exchange, w want) {
	t.Helper()
	status := 0
	if e.Answer != nil {
		status = e.Answer.Status
	}
	if e.Outcome != w.kind.String() || status != w.status || e.Class != w.class || e.Timing.Total <= 0 || !strings.Contains(e.Error, w.text) {
		t.Errorf("%s, status %d, class %s: %q; want %+v", e.Outcome, status, e.Class, e.Error, w)
	}
}

// TestProbeFailures shows as much as there is.
func TestProbeFailures(t *testing.T) {
	t.Parallel()
	own := newAuthority(t, "own")
	port := tlsServer(t, own, certificateOptions{names: []string{"crm.example.com"}}, http.NotFoundHandler(), nil)
	sender := newSender(t, webhook.Options{Resolver: here(t)})
	untrusted := sender.Probe(t.Context(), local("https://crm.example.com:"+port), message())
	checkExchange(t, &untrusted, want{webhook.Retry, 0, webhook.ClassTLS, "unknown authority"})
	if untrusted.Address != "127.0.0.1:"+port || untrusted.Answer != nil || untrusted.Protocol != "" || untrusted.Timing.TLS <= 0 || untrusted.Timing.FirstByte != 0 {
		t.Errorf("an untrusted receiver: %+v", untrusted)
	}
	private := local("https://10.0.0.1")
	private.AllowPrivate = nil
	refused := sender.Probe(t.Context(), private, message())
	checkExchange(t, &refused, want{webhook.Retry, 0, webhook.ClassRefused, "10.0.0.0/8"})
	if refused.Address != "" || refused.Request.Body == "" {
		t.Errorf("a refused address: %+v", refused)
	}
	wrong := sender.Probe(t.Context(), &endpoint.Endpoint{Name: "crm", URL: "ftp://s3cr3t"}, message())
	checkExchange(t, &wrong, want{webhook.Retry, 0, webhook.ClassConfig, "not an http or https address"})
	if len(wrong.Request.Header) != 0 || wrong.Request.Body != "" {
		t.Errorf("something was sent: %+v", wrong)
	}
}

// TestProbeFormats: what hides extra fields works in every format, and a list
// is what an endpoint with batches gets.
func TestProbeFormats(t *testing.T) {
	t.Parallel()
	got := make(chan received, 1)
	url := serve(t, collect(got))
	sender := newSender(t, webhook.Options{})
	for _, format := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatForm, endpoint.FormatCloudEvents, endpoint.FormatCloudEventsBinary} {
		ep := local(url)
		ep.Format, ep.Extra = format, map[string]endpoint.Hidden{"validationtoken": "s3cr3t"}
		if format == endpoint.FormatCloudEvents {
			ep.Batch.Max = 10
		}
		e := sender.Probe(t.Context(), ep, message())
		if e.Outcome != "delivered" {
			t.Errorf("%s: %s: %s", format, e.Outcome, e.Error)
		}
		r := <-got
		if sent := r.body + r.header.Get("Ce-Validationtoken"); !strings.Contains(sent, "s3cr3t") {
			t.Errorf("%s: %s", format, sent)
		}
		if shown := fmt.Sprint(e.Request); strings.Contains(shown, "s3cr3t") || !strings.Contains(shown, "***") && !strings.Contains(shown, "%2A%2A%2A") {
			t.Errorf("%s: shown as %s", format, shown)
		}
		if format == endpoint.FormatCloudEvents && (!strings.HasPrefix(r.body, "[") || !strings.HasPrefix(e.Request.Body, "[")) {
			t.Errorf("an endpoint with batches gets %s", r.body)
		}
	}
}
