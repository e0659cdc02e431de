package webhook_test

import (
	"bytes"
	"crypto/ed25519"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// signingSeed is the secret key of RFC 8032, section 7.1, test 1.
const signingSeed = "whsk_nWGxne/9WmC6hEr0kuwsxERJxWl7MmkZcDusAxyuf2A="

// TestRotationSignsWithAll: both kinds of keys sign one request, and either
// verifies it.
func TestRotationSignsWithAll(t *testing.T) {
	t.Parallel()
	r := sentBy(t, func(ep *endpoint.Endpoint) { ep.Secrets = secrets(t, signingSeed, newerSecret, olderSecret) }, message())
	parts := strings.Split(r.header.Get("webhook-signature"), " ")
	if len(parts) != 3 || !strings.HasPrefix(parts[0], "v1a,") || !strings.HasPrefix(parts[1], "v1,") || !strings.HasPrefix(parts[2], "v1,") {
		t.Fatalf("signatures %v", parts)
	}
	raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(parts[0], "v1a,"))
	if err != nil {
		t.Fatal(err)
	}
	key, err := base64.StdEncoding.DecodeString("11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	if err != nil {
		t.Fatal(err)
	}
	signed := r.header.Get("webhook-id") + "." + r.header.Get("webhook-timestamp") + "." + r.body
	if !ed25519.Verify(key, []byte(signed), raw) {
		t.Error("crypto/ed25519 does not verify the signature")
	}
	public, err := endpoint.ParseVerifier("whpk_11qYAYKxCrfVS/7TyWQHOg7hcvPapiMlrwIaaPcHURo=")
	if err != nil {
		t.Fatal(err)
	}
	other, err := endpoint.ParseVerifier(endpoint.GenerateSigningKey().Public())
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		keys []endpoint.Secret
		body string
		want error
	}{
		"public key":          {[]endpoint.Secret{public}, r.body, nil},
		"private key":         {secrets(t, signingSeed), r.body, nil},
		"HMAC":                {secrets(t, olderSecret), r.body, nil},
		"the second of two":   {[]endpoint.Secret{other, public}, r.body, nil},
		"another public key":  {[]endpoint.Secret{other}, r.body, webhook.ErrSignature},
		"another body":        {[]endpoint.Secret{public}, r.body + " ", webhook.ErrSignature},
		"no key":              {[]endpoint.Secret{{}}, r.body, webhook.ErrSignature},
		"no keys":             {nil, r.body, webhook.ErrSignature},
		"another HMAC secret": {secrets(t, rawSecret), r.body, webhook.ErrSignature},
	} {
		if err := webhook.Verify(c.keys, r.header, []byte(c.body), time.Now()); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
	for _, garbage := range []string{"v1a,", "v1a,????", "v1a,AAAA", "v1a", "v1,", ",", " "} {
		h := r.header.Clone()
		h.Set("webhook-signature", garbage)
		if webhook.Verify([]endpoint.Secret{public}, h, []byte(r.body), time.Now()) == nil {
			t.Errorf("signature %q is accepted", garbage)
		}
	}
	hook, err := standardwebhooks.NewWebhook(olderSecret)
	if err != nil {
		t.Fatal(err)
	}
	if err := hook.Verify([]byte(r.body), r.header); err != nil {
		t.Errorf("the Standard Webhooks library, with a v1a signature beside its own: %v", err)
	}
}

// TestEmptySecretVerifiesNothing: an empty key is one that everybody knows.
func TestEmptySecretVerifiesNothing(t *testing.T) {
	t.Parallel()
	hook, err := standardwebhooks.NewWebhookRaw(nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	signature, err := hook.Sign("x", now, nil)
	if err != nil {
		t.Fatal(err)
	}
	h := http.Header{"Webhook-Id": {"x"}, "Webhook-Timestamp": {fmt.Sprint(now.Unix())}, "Webhook-Signature": {signature}}
	if err := webhook.Verify([]endpoint.Secret{{}}, h, nil, now); !errors.Is(err, webhook.ErrSignature) {
		t.Errorf("error %v, want %v", err, webhook.ErrSignature)
	}
}

// TestSignaturesVerifyWithTheNpmPackage verifies with standardwebhooks, which
// `make deps` installs from npm.
func TestSignaturesVerifyWithTheNpmPackage(t *testing.T) {
	t.Parallel()
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatal("node is not installed; run make deps")
	}
	packages, err := filepath.Abs("../../.ci/npm/node_modules")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(packages, "standardwebhooks")); err != nil {
		t.Fatalf("the npm package standardwebhooks is not installed (%v); run make deps", err)
	}
	dir := t.TempDir()
	type request struct {
		Secret, Body string
		Headers      map[string]string
		Good, Form   bool
	}
	var requests []request
	add := func(secret string, r received, good bool) {
		h := map[string]string{}
		for name := range r.header {
			h[strings.ToLower(name)] = r.header.Get(name)
		}
		requests = append(requests, request{secret, r.body, h, good, strings.HasPrefix(h["content-type"], "application/x-www-form-urlencoded")})
	}
	for _, format := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatBare, endpoint.FormatCloudEvents, endpoint.FormatCloudEventsBinary, endpoint.FormatForm} {
		r := sentBy(t, func(ep *endpoint.Endpoint) {
			ep.Format, ep.Secrets = format, secrets(t, signingSeed, newerSecret, olderSecret, rawSecret)
		}, fullMessage())
		for _, secret := range []string{newerSecret, olderSecret, secrets(t, rawSecret)[0].Reveal()} { // of a text, as people are shown it
			add(secret, r, true)
		}
		add("whsec_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA", r, false)
		r.body += " "
		add(newerSecret, r, false)
	}
	list := listBy(t, func(ep *endpoint.Endpoint) { ep.Batch.Max, ep.Secrets = 5, secrets(t, newerSecret) }, fullMessage(), message())
	add(newerSecret, list, true)
	input, err := json.Marshal(requests)
	if err != nil {
		t.Fatal(err)
	}
	const script = `
const { Webhook } = require("standardwebhooks");
const requests = JSON.parse(require("fs").readFileSync(0, "utf8"));
const parse = JSON.parse;
function verify(r) {
  try { new Webhook(r.Secret).verify(r.Body, r.Headers); return ""; } catch (e) { return e.name; }
}
for (const r of requests) {
  // verify parses what it has verified, which a form is not fit for: docs/receivers.md says so.
  const want = !r.Good ? "WebhookVerificationError" : r.Form ? "SyntaxError" : "";
  const got = verify(r);
  JSON.parse = (s) => s;
  const signed = verify(r) === "";
  JSON.parse = parse;
  if (got !== want || signed !== r.Good) { console.log(r.Secret.slice(0, 8), r.Headers["content-type"], "got", got, "want", want, "signed", signed); process.exitCode = 1; }
}
console.log(requests.length, "requests");
`
	path := filepath.Join(dir, "verify.js")
	if err := os.WriteFile(path, []byte(script), 0o600); err != nil {
		t.Fatal(err)
	}
	run := exec.CommandContext(t.Context(), node, path)
	run.Dir, run.Stdin = dir, bytes.NewReader(input)
	run.Env = append(os.Environ(), "NODE_PATH="+packages)
	out, err := run.CombinedOutput()
	if err != nil || strings.TrimSpace(string(out)) != fmt.Sprintf("%d requests", len(requests)) {
		t.Errorf("node: %v\n%s", err, out)
	}
}
