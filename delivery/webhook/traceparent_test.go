package webhook_test

import (
	"net/http"
	"net/http/httptest"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// TestTraceparent: the header goes with each request, over HTTP/1.1 and with headers of every kind; an endpoint's own is kept.
func TestTraceparent(t *testing.T) {
	t.Parallel()
	const value = "00-b04f002b6dbff4d1587d0cdcb95c1bc9-b04f002b6dbff4d1-01"
	got := make(chan http.Header, 1)
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got <- r.Header }))
	t.Cleanup(server.Close)
	traced := value
	sender := webhook.NewSender(webhook.Options{Version: "test", Traceparent: func(ms []*webhook.Message) string {
		if ms[0].ID != "id" {
			t.Errorf("asked for %q", ms[0].ID)
		}
		return traced
	}})
	t.Cleanup(sender.Close)
	for _, c := range []struct {
		headers map[string]endpoint.Hidden
		traced  string
		want    string
		sent    string
	}{
		{nil, value, value, value},
		{map[string]endpoint.Hidden{"X-Type": "{type}"}, value, value, value},
		{map[string]endpoint.Hidden{"Traceparent": "fixed"}, value, "fixed", ""},
		{map[string]endpoint.Hidden{"Traceparent": "00-{id}"}, value, "00-id", ""},
		{nil, "", "", ""},
	} {
		traced = c.traced
		ep := endpoint.Endpoint{Name: "e", URL: server.URL, AllowHTTP: true, AllowPrivate: loopback, Headers: endpoint.HeadersOf(c.headers)}.WithDefaults()
		o := sender.Send(t.Context(), &ep, &webhook.Message{ID: "id", Type: "t", Data: []byte("{}")})
		if o.Kind != webhook.Delivered {
			t.Fatal(o.Err)
		}
		h := <-got
		if values := h.Values("traceparent"); len(values) > 1 || h.Get("traceparent") != c.want || o.Traceparent != c.sent {
			t.Errorf("%v: got %v, outcome %q", c.headers, values, o.Traceparent)
		}
	}
}
