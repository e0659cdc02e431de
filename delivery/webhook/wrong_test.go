package webhook_test

import (
	"crypto/rand"
	"io"
	"net/http"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// TestProbeWrong: what a receiver says to requests that it should not take, and how it can be told
// from what it says to the right one.
func TestProbeWrong(t *testing.T) {
	t.Parallel()
	type probes = []webhook.WrongProbe
	key := secrets(t, newerSecret)
	right := func(r *http.Request) (signed, there bool) {
		body, _ := io.ReadAll(r.Body)
		return webhook.Verify(key, r.Header, body, time.Now()) == nil, r.URL.Path == "/hooks/crm" && r.URL.RawQuery == "a=b"
	}
	for name, c := range map[string]struct {
		serve   http.HandlerFunc
		secrets []endpoint.Secret
		want    probes
	}{
		"careful": {func(w http.ResponseWriter, r *http.Request) {
			if signed, there := right(r); !there {
				w.WriteHeader(http.StatusNotFound)
			} else if !signed {
				w.WriteHeader(http.StatusUnauthorized)
			}
		}, key, probes{{Kind: "signature", Status: 401}, {Kind: "path", Status: 404}}},
		"takes everything": {func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) }, key,
			probes{{Kind: "signature", Status: 204, Accepted: true}, {Kind: "path", Status: 204, Accepted: true}}},
		"says so in the body": {func(w http.ResponseWriter, r *http.Request) {
			if signed, there := right(r); !signed || !there {
				_, _ = io.WriteString(w, "Hook rules were not satisfied.")
				return
			}
			_, _ = io.WriteString(w, "accepted (1)\n")
		}, key, probes{{Kind: "signature", Status: 200, Accepted: true, Success: `success: {body: 'accepted \(1\)'}`}, {Kind: "path", Status: 200, Accepted: true, Success: `success: {body: 'accepted \(1\)'}`}}},
		"says so in a body that is never the same": {func(w http.ResponseWriter, r *http.Request) {
			if signed, there := right(r); !signed || !there {
				_, _ = io.WriteString(w, "no")
				return
			}
			_, _ = io.WriteString(w, `{"received":"`+rand.Text()+`"}`)
		}, key, probes{{Kind: "signature", Status: 200, Accepted: true}, {Kind: "path", Status: 200, Accepted: true}}},
		"another 2xx": {func(w http.ResponseWriter, r *http.Request) {
			if _, there := right(r); !there {
				w.WriteHeader(http.StatusAccepted)
			}
		}, nil, probes{{Kind: "path", Status: 202, Accepted: true, Success: "success: {status: 200}"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ep := local(serve(t, c.serve) + "/hooks/crm?a=b")
			ep.Secrets = c.secrets
			sender := newSender(t, webhook.Options{})
			x := sender.Probe(t.Context(), ep, message())
			if x.Outcome != "delivered" {
				t.Fatalf("the right request: %s %s", x.Outcome, x.Error)
			}
			got := sender.ProbeWrong(t.Context(), ep, message(), &x)
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(want -, got +):\n%s", diff)
			}
			for _, p := range got {
				if p.Success == "" {
					continue
				}
				set, err := endpoint.Parse("", []byte("url: https://example.com\n"+p.Success+"\n"))
				if err != nil {
					t.Fatal(err)
				}
				ep.Success = set.Success
				if x := sender.Probe(t.Context(), ep, message()); x.Outcome != "delivered" {
					t.Errorf("with %s the right request is %s", p.Success, x.Outcome)
				}
			}
		})
	}
}
