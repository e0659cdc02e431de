package webhook_test

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
)

// TestVendorsVectors are the examples of the vendors' own documentation, and of those that
// have none, the same by the means of this language.
func TestVendorsVectors(t *testing.T) {
	t.Parallel()
	mac := func(key, text string) []byte {
		h := hmac.New(sha256.New, []byte(key))
		_, _ = io.WriteString(h, text)
		return h.Sum(nil)
	}
	const key = "It's a Secret to Everybody"
	for _, c := range []struct {
		preset, secret, id, stamp, body, want string
	}{
		// https://docs.github.com/en/webhooks/using-webhooks/validating-webhook-deliveries#testing-the-webhook-payload-validation
		{"github", key, "", "", "Hello, World!", "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17"},
		// https://docs.svix.com/receiving/verifying-payloads/how
		{"svix", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "msg_p5jXN8AQM9LWM0D4loKWxJek", "1614265330", `{"test": 2432232314}`,
			"v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="},
		{"shopify", key, "", "", "{}", base64.StdEncoding.EncodeToString(mac(key, "{}"))},
		{"woocommerce", key, "", "", "{}", base64.StdEncoding.EncodeToString(mac(key, "{}"))},
		{"stripe", "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "", "1614265330", "{}",
			"t=1614265330,v1=" + hex.EncodeToString(mac("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "1614265330.{}"))},
	} {
		ep := &endpoint.Endpoint{Signatures: []endpoint.Signature{{Preset: c.preset}}, Secrets: secrets(t, c.secret)}
		if diff := cmp.Diff(c.want, webhook.VendorSignature(ep, c.id, c.stamp, c.body)); diff != "" {
			t.Errorf("%s (want -, got +):\n%s", c.preset, diff)
		}
	}
}

// TestSpeltOutSignatures are those that no preset has.
func TestSpeltOutSignatures(t *testing.T) {
	t.Parallel()
	const text, encoded = "um segredo de vinte e quatro", "c2VncmVkbyBkZSB2aW50ZSBlIHF1YXRybyBieXRlcw=="
	sha1MAC, sha512MAC := hmac.New(sha1.New, []byte(text)), hmac.New(sha512.New, []byte("segredo de vinte e quatro bytes"))
	_, _ = io.WriteString(sha1MAC, "corpo")
	_, _ = io.WriteString(sha512MAC, "v0:123:corpo:id-1")
	for _, c := range []struct {
		signature endpoint.Signature
		secret    string
		want      string
	}{
		{endpoint.Signature{Header: "X-Hub-Signature", Of: "body", Algorithm: endpoint.HMACSHA1, Prefix: "sha1="}, text, "sha1=" + hex.EncodeToString(sha1MAC.Sum(nil))},
		{endpoint.Signature{Header: "X-Sig", Of: "v0:{timestamp}:{body}:{id}", Algorithm: endpoint.HMACSHA512, Encoding: endpoint.Base64, Key: endpoint.KeyBase64, Value: "{id};{signature};{{id}}"},
			encoded, "id-1;" + base64.StdEncoding.EncodeToString(sha512MAC.Sum(nil)) + ";{id}"},
		{endpoint.Signature{Header: "X-Sig", Of: "v0:{timestamp}:{body}:{id}", Algorithm: endpoint.HMACSHA512, Encoding: endpoint.Base64, Key: endpoint.KeyBase64},
			"whsec_" + encoded, base64.StdEncoding.EncodeToString(sha512MAC.Sum(nil))},
	} {
		ep := &endpoint.Endpoint{URL: "https://example.com", Signatures: []endpoint.Signature{c.signature}, Secrets: secrets(t, c.secret)}
		if err := ep.Check(); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff(c.want, webhook.VendorSignature(ep, "id-1", "123", "corpo")); diff != "" {
			t.Errorf("%+v (want -, got +):\n%s", c.signature, diff)
		}
	}
}

// TestStandardFalse leaves out the headers of Standard Webhooks, and nothing else.
func TestStandardFalse(t *testing.T) {
	t.Parallel()
	r := sentBy(t, func(ep *endpoint.Endpoint) {
		ep.Signatures, ep.NoStandard, ep.Secrets = []endpoint.Signature{{Preset: "github"}}, true, secrets(t, rawSecret)
		ep.Headers = endpoint.HeadersOf(map[string]endpoint.Hidden{"Webhook-Id": "x-{id}", "X-GitHub-Event": "push"})
	}, message())
	for name := range r.header {
		if strings.HasPrefix(name, "Webhook-") && name != "Webhook-Id" {
			t.Errorf("the header %s is there", name)
		}
	}
	if got := []string{r.header.Get("Webhook-Id"), r.header.Get("X-GitHub-Event"), r.header.Get("X-GitHub-Delivery")}; !cmp.Equal(got, []string{"x-" + message().ID, "push", message().ID}) {
		t.Errorf("headers %q: an endpoint's own take the place of the preset's", got)
	}
}

// TestVendorsLibrariesVerify: the vendor's own library takes what is sent, with either key
// while one is being rotated out, and refuses it with a byte changed.
func TestVendorsLibrariesVerify(t *testing.T) {
	t.Parallel()
	type request struct {
		Vendor  string            `json:"vendor"`
		Secret  string            `json:"secret"`
		Headers map[string]string `json:"headers"`
		Body    string            `json:"body"`
		Good    bool              `json:"good"`
	}
	var requests []request
	older, newer := "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw", "whsec_5WbX5kEWLlfzsGNjH64I8lOOqUB6e8FH"
	for _, vendor := range []string{"github", "shopify", "stripe", "svix"} {
		change := func(keys ...string) func(*endpoint.Endpoint) {
			return func(ep *endpoint.Endpoint) {
				ep.Signatures, ep.Secrets = []endpoint.Signature{{Preset: vendor}}, secrets(t, keys...)
				if vendor == "shopify" { // its library wants them, see the preset
					ep.Headers = endpoint.HeadersOf(map[string]endpoint.Hidden{"X-Shopify-Shop-Domain": "loja.myshopify.com", "X-Shopify-API-Version": "2025-07"})
				}
			}
		}
		m := fullMessage()
		m.Data = []byte(`{"id":42,"separadores":"` + "\u2028\u2029" + `","valor":129.90}`)
		add := func(secret string, r received, good bool) {
			headers := map[string]string{}
			for name := range r.header {
				headers[strings.ToLower(name)] = r.header.Get(name)
			}
			requests = append(requests, request{vendor, secret, headers, r.body, good})
		}
		r := sentBy(t, change(newer, older), m)
		add(newer, r, true)
		// The receiver still has the older key: it gets either both signatures, or its own.
		add(older, rotating(t, change(newer, older), m, func(r received) bool { return vendor == "stripe" || vendor == "svix" || signedBy(t, vendor, older, r) }), true)
		add("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", r, false)
		r.body = strings.Replace(r.body, "42", "43", 1)
		add(newer, r, false)
	}
	input, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	var got []bool
	if err := json.Unmarshal(runNode(t, "testdata/vendors.mjs", input), &got); err != nil || len(got) != len(requests) {
		t.Fatalf("%v: %v", err, got)
	}
	for i, r := range requests {
		if got[i] != r.Good {
			t.Errorf("%s's library says %t of request %d with the secret %.12s, want %t", r.Vendor, got[i], i, r.Secret, r.Good)
		}
	}
}

// runNode runs a script with the packages of .ci/npm and returns what it prints.
func runNode(t *testing.T, script string, input []byte) []byte {
	t.Helper()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed; run make deps")
	}
	packages := npmPackages(t)
	run := exec.CommandContext(t.Context(), node, script)
	run.Stdin, run.Env = bytes.NewReader(input), append(os.Environ(), "NODE_MODULES="+packages)
	var complaints strings.Builder
	run.Stderr = &complaints
	out, err := run.Output()
	if err != nil || complaints.Len() > 0 {
		t.Fatalf("node %s: %v\n%s\n%s", script, err, complaints.String(), out)
	}
	return out
}

func npmPackages(t *testing.T) string {
	t.Helper()
	packages, err := filepath.Abs("../../.ci/npm/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(packages, "@octokit/webhooks")); err != nil {
		t.Fatalf("the npm packages are not installed (%v); run make deps", err)
	}
	return packages
}

// signedBy reports whether a vendor's header is the secret's.
func signedBy(t *testing.T, vendor, secret string, r received) bool {
	ep := &endpoint.Endpoint{Signatures: []endpoint.Signature{{Preset: vendor}}, Secrets: secrets(t, secret)}
	name := ep.Signatures[0].Resolve().Header
	return r.header.Get(name) == webhook.VendorSignature(ep, r.header.Get("Webhook-Id"), r.header.Get("Webhook-Timestamp"), r.body)
}

// rotating sends to a receiver that answers 401 to what it does not take, and returns what
// it took.
func rotating(t *testing.T, change func(*endpoint.Endpoint), m *webhook.Message, takes func(received) bool) received {
	t.Helper()
	got := make(chan received, 1)
	ep := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if seen := (received{header: r.Header, body: string(body)}); takes(seen) {
			got <- seen
			return
		}
		w.WriteHeader(http.StatusUnauthorized)
	})))
	change(ep)
	mustDeliver(t, newSender(t, webhook.Options{}).Send(t.Context(), ep, m))
	return <-got
}

// TestRotationOfOneSignature: where a header has one signature, the receiver that refuses
// that of one secret gets that of the other in the same attempt, and later requests begin
// with the one that it took. What it refuses with each is refused.
func TestRotationOfOneSignature(t *testing.T) {
	t.Parallel()
	for _, refusal := range []struct {
		status int
		text   string
	}{{401, ""}, {403, ""}, {400, ""}, {500, ""}, {200, "Hook rules were not satisfied."}} {
		t.Run(fmt.Sprint(refusal.status), func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			has := atomic.Pointer[string]{}
			older, newer, third := olderSecret, newerSecret, "whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"
			ep := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				body, _ := io.ReadAll(r.Body)
				if signedBy(t, "github", *has.Load(), received{header: r.Header, body: string(body)}) {
					_, _ = io.WriteString(w, "taken")
					return
				}
				w.WriteHeader(refusal.status)
				_, _ = io.WriteString(w, refusal.text)
			})))
			ep.Signatures, ep.Secrets = []endpoint.Signature{{Preset: "github"}}, secrets(t, newer, signingSeed, older)
			ep.Success.Body = "taken"
			sender := newSender(t, webhook.Options{})
			for _, step := range []struct {
				has   *string
				took  int32
				taken bool
			}{{&newer, 1, true}, {&older, 2, true}, {&older, 1, true}, {&newer, 2, true}, {&newer, 1, true}, {&third, 2, false}, {&newer, 1, true}} {
				has.Store(step.has)
				before := requests.Load()
				o := sender.Send(t.Context(), ep, message())
				if n := requests.Load() - before; n != step.took || (o.Kind == webhook.Delivered) != step.taken {
					t.Errorf("%d requests with the outcome %s, want %d and delivered: %t", n, o.Kind, step.took, step.taken)
				}
			}
		})
	}
}

// TestFailuresAreNotRotation: a receiver that has taken a secret, and fails, gets an event once, but
// for one that asks whether it has changed the secret.
func TestFailuresAreNotRotation(t *testing.T) {
	t.Parallel()
	for status, most := range map[int]int32{500: 11, 422: 11, 200: 11, 503: 10, 401: 20} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			var requests atomic.Int32
			ep := local(serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				if requests.Add(1) == 1 {
					_, _ = io.WriteString(w, "taken")
					return
				}
				w.WriteHeader(status)
			})))
			ep.Signatures, ep.Secrets = []endpoint.Signature{{Preset: "github"}}, secrets(t, newerSecret, olderSecret)
			ep.Success.Body = "taken"
			sender := newSender(t, webhook.Options{})
			mustDeliver(t, sender.Send(t.Context(), ep, message()))
			for range 10 {
				if o := sender.Send(t.Context(), ep, message()); o.Kind == webhook.Delivered {
					t.Error("delivered")
				}
			}
			if n := requests.Load() - 1; n != most {
				t.Errorf("%d requests for ten attempts, want %d", n, most)
			}
		})
	}
}
