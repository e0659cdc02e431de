package endpoint_test

import (
	"encoding/json"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gancho/delivery/endpoint"
	"gancho/internal/strictyaml"
)

// same compares endpoints as documents do: name, state and signing secrets are
// not in them.
var same = cmp.Options{
	cmpopts.IgnoreFields(endpoint.Endpoint{}, "Name", "State", "Secrets"), cmpopts.EquateEmpty(), cmpopts.EquateComparable(netip.Prefix{}),
	cmp.Comparer(func(a, b endpoint.Hidden) bool { return a.Reveal() == b.Reveal() }),
}

func TestDocument(t *testing.T) {
	t.Parallel()
	for _, test := range []struct{ name, src, document, public string }{
		{"defaults are left out", `{url: https://crm.example.com/hooks, order: key, timeout: 15s, retry_refused: [10s, 1m, 10m]}`,
			`{"url":"https://crm.example.com/hooks"}`, ""},
		{"without name, state and secrets", `{name: crm, state: paused, secret: 12345678901234567890123456789012, url: "https://crm.example.com"}`,
			`{"url":"https://crm.example.com"}`, ""},
		{"secrets", "url: https://x.com/a?token=segredo&segredo&b=\nheaders: {x-key: segredo}\nextra: {token: segredo}\nproxy: http://ana:segredo@p:1",
			`{"extra":{"token":"segredo"},"headers":{"X-Key":"segredo"},"proxy":"http://ana:segredo@p:1","url":"https://x.com/a?token=segredo&segredo&b="}`,
			`{"extra":{"token":"***"},"headers":{"X-Key":"***"},"proxy":"http://ana:***@p:1","url":"https://x.com/a?token=***&***&***"}`},
		{"signatures", `{url: "https://x.com?a={type}", signatures: [github, {preset: svix}, {header: x-a, of: body, encoding: base64, key: base64}], standard: false, content_type: a/b}`,
			`{"content_type":"a/b","signatures":[{"preset":"github"},{"preset":"svix"},{"encoding":"base64","header":"X-A","key":"base64","of":"body"}],"standard":false,"url":"https://x.com?a={type}"}`,
			`{"content_type":"a/b","signatures":[{"preset":"github"},{"preset":"svix"},{"encoding":"base64","header":"X-A","key":"base64","of":"body"}],"standard":false,"url":"https://x.com?a=***"}`},
		{"basic", `{url: https://x.com, auth: {basic: {user: ana, password: segredo}}}`, `{"auth":{"basic":{"password":"segredo","user":"ana"}},"url":"https://x.com"}`,
			`{"auth":{"basic":{"password":"***","user":"ana"}},"url":"https://x.com"}`},
		{"bearer", `{url: https://x.com, auth: {bearer: segredo}}`, `{"auth":{"bearer":"segredo"},"url":"https://x.com"}`, `{"auth":{"bearer":"***"},"url":"https://x.com"}`},
		{"oauth2", `{url: https://x.com, auth: {oauth2: {token_url: "https://l.com/a/b?c=d", client_id: i, client_secret: segredo, scopes: [r, w], params: {audience: segredo}, method: post}}}`,
			`{"auth":{"oauth2":{"client_id":"i","client_secret":"segredo","method":"post","params":{"audience":"segredo"},"scopes":["r","w"],"token_url":"https://l.com/a/b?c=d"}},"url":"https://x.com"}`,
			`{"auth":{"oauth2":{"client_id":"i","client_secret":"***","method":"post","params":{"audience":"***"},"scopes":["r","w"],"token_url":"https://l.com/a/***?c=***"}},"url":"https://x.com"}`},
		{"an implied order", `{url: https://x.com, order: endpoint, batch: {max: 10, wait: 90s, per: transaction}}`,
			`{"batch":{"max":10,"per":"transaction","wait":"1m30s"},"url":"https://x.com"}`, ""},
		{"a style", `{url: https://x.com, style: superlogica, format: standard, extra: {validationtoken: abc}}`,
			`{"extra":{"validationtoken":"abc"},"format":"standard","style":"superlogica","url":"https://x.com"}`,
			`{"extra":{"validationtoken":"***"},"format":"standard","style":"superlogica","url":"https://x.com"}`},
		{"a chat", `{url: https://x.com/services/T0/B0, style: slack, rate: 1/s, standard: false, fields: [valor, cliente.nome]}`,
			`{"fields":["valor","cliente.nome"],"style":"slack","url":"https://x.com/services/T0/B0"}`, `{"fields":["valor","cliente.nome"],"style":"slack","url":"https://x.com/services/***"}`},
		{"a chat of its own kind", `{url: https://x.com/a, style: telegram, rate: 1/s, standard: true, success: {status: 200}, extra: {chat_id: "@sala"}}`,
			`{"extra":{"chat_id":"@sala"},"rate":"1/s","standard":true,"style":"telegram","success":{"status":["200"]},"url":"https://x.com/a"}`,
			`{"extra":{"chat_id":"***"},"rate":"1/s","standard":true,"style":"telegram","success":{"status":["200"]},"url":"https://x.com/a"}`},
		{"waits", `{url: https://x.com, retry: [], retry_refused: [1d, 36h, 500ms], max_age: 2d, pause_after: never, rate: 600/m}`,
			`{"max_age":"2d","pause_after":"never","rate":"10/s","retry":[],"retry_refused":["1d","36h","500ms"],"url":"https://x.com"}`, ""},
		{"a closing", `{url: https://x.com, closing: daily 00:10}`, `{"closing":"daily 00:10","url":"https://x.com"}`, ""},
		{"HTTP/1.1", `{url: https://x.com, http: 1.1}`, `{"http":"1.1","url":"https://x.com"}`, ""},
		{"HTTP/1.1 in JSON", `{"url": "https://x.com", "http": "1.1"}`, `{"http":"1.1","url":"https://x.com"}`, ""},
		{"any HTTP", `{url: https://x.com, http: auto}`, `{"url":"https://x.com"}`, ""},
		{"what YAML would break", "{\"url\": \"https://x.com\", \"extra\": {\"a\u00a0\": \"x\u0085\u007f\"}}",
			"{\"extra\":{\"a\u00a0\":\"x\\u0085\\u007f\"},\"url\":\"https://x.com\"}", "{\"extra\":{\"a\u00a0\":\"***\"},\"url\":\"https://x.com\"}"},
		{"halves of characters", `{"url": "https://x.com", "extra": {"loja": "\ud83d\ude00 \\ud83d \u0085\u2028\ufeff\u007f"}}`,
			`{"extra":{"loja":"😀 \\ud83d \u0085\u2028\ufeff\u007f"},"url":"https://x.com"}`, `{"extra":{"loja":"***"},"url":"https://x.com"}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			e, err := endpoint.Parse("body", []byte(test.src))
			if err != nil {
				t.Fatal(err)
			}
			if test.public == "" {
				test.public = test.document
			}
			if diff := cmp.Diff(test.document, string(e.Document())); diff != "" {
				t.Errorf("document -want +got:\n%s", diff)
			}
			if diff := cmp.Diff(test.public, string(e.Public())); diff != "" {
				t.Errorf("public -want +got:\n%s", diff)
			}
		})
	}
}

// The endpoints of a file read again from their documents are the same, with
// the files' contents in them.
func TestDocumentOfFile(t *testing.T) {
	t.Parallel()
	for _, file := range []string{"../../config/testdata/valid_full.yaml", "testdata/valid_endpoints.yaml"} {
		list, err := listOf(t, file)
		if err != nil || len(list) == 0 {
			t.Fatal(list, err)
		}
		for _, e := range list {
			again, err := endpoint.Parse(e.Name, e.Document())
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(*e, again, same); diff != "" {
				t.Errorf("%s -file +document:\n%s", e.Name, diff)
			}
			if public := string(e.Public()); strings.Contains(public, "segredo") || strings.Contains(public, "PRIVATE") {
				t.Errorf("public shows a secret: %s", public)
			}
		}
	}
}

// One file with certificate and key, as many servers want it, shows no key.
func TestDocumentShowsNoKeyOfACertificate(t *testing.T) {
	t.Parallel()
	both := pemFile(t, "key") + pemFile(t, "certificate")
	src, err := json.Marshal(map[string]any{"url": "https://x.com", "tls": map[string]any{"certificate": both, "key": both}})
	if err != nil {
		t.Fatal(err)
	}
	e, err := endpoint.Parse("body", src)
	if err != nil {
		t.Fatal(err)
	}
	if public := string(e.Public()); strings.Contains(public, "PRIVATE") || !strings.Contains(public, "BEGIN CERTIFICATE") {
		t.Errorf("public: %s", public)
	}
}

// A document's mistakes have their places, and it reads neither files nor
// environment variables.
func TestParseErrors(t *testing.T) {
	t.Parallel()
	for src, want := range map[string]string{
		"":   "body: the document is empty; it needs at least the url",
		"[]": "body:1:1: expected a mapping, found a list",
		"{}": `body:1:1: the key "url" is missing`,
		"{\n\t\"url\": \"https://x.com\",\n\t\"ordr\": \"key\"\n}": `body:3:2: unknown key "ordr"; did you mean "order"?`,
		`{"url": "https://x.com", "tls": {"ca": "/etc/passwd"}}`:   `body:1:40: it is not PEM; write the text itself, -----BEGIN ...`,
		`{"url": "https://x.com", "headers": {"A": "***"}}`:        `body:1:43: *** only stands for a value that is not shown; write the value itself`,
		`{"url": "https://x.com", "url": "https://y.com"}`:         `body:1:26: the key "url" is given twice, first on line 1`,
		`{"url": "https://x.com", "http": 2}`:                      `body:1:34: unknown value "2"; write one of auto, 1.1`,
		`{"url": "https://x.com", "rate": null}`:                   `body:1:26: "rate" is empty; give it a value or remove the key`,
		`{"url": "http://x.com"}`:                                  `body:1:9: the url is not https; write https, or allow_http: true if everyone on the way may read and change the events`,
	} {
		_, err := endpoint.Parse("body", []byte(src))
		if err == nil {
			t.Errorf("%s is accepted", src)
			continue
		}
		if diff := cmp.Diff(want, err.Error()); diff != "" {
			t.Errorf("%s -want +got:\n%s", src, diff)
		}
	}
	e, err := endpoint.Parse("body", []byte(`{"url": "https://x.com", "headers": {"A": "${HOME}"}}`))
	if err != nil || e.Headers[0].Value.Reveal() != "${HOME}" {
		t.Errorf("a variable became %v, %v", e.Headers, err)
	}
}

func FuzzParse(f *testing.F) {
	pair := map[string]any{"certificate": pemFile(f, "certificate"), "key": pemFile(f, "key")}
	tls, err := json.Marshal(map[string]any{"url": "https://x.com", "tls": pair})
	if err != nil {
		f.Fatal(err)
	}
	for _, src := range []string{
		string(tls),
		`{url: https://x.com/a?b=c, tenants: [1, 002], events: ["a.*"], secret: 12345678901234567890123456789012, format: form, numbers: string}`,
		`{"url": "http://10.0.0.1", "allow_http": true, "allow_private": ["10.0.0.0/8", "::ffff:1.2.3.4"], "rate": "1/h", "concurrency": 3}`,
		`{url: https://x.com, style: superlogica, extra: {validationtoken: "\ud83d\ude00\u0085\u2028\x7f"}, success: {status: [200, 400-599], body: a|b}}`,
		`{url: https://x.com, batch: {max: 10, wait: 1.5s, per: transaction}, retry: [10ms, 1h0m1s], retry_refused: [], max_age: 1d, pause_after: never, proxy: "http://a:b@c:1"}`,
		`{url: https://x.com, http: 1.1}`,
		"url: >-\n  https://x.com\nheaders: {a: |\n  b\n}\ntimeout: 1500us",
	} {
		f.Add([]byte(src))
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		e, err := endpoint.Parse("fuzz", src)
		if err != nil {
			if _, ok := err.(strictyaml.Errors); !ok { //nolint:errorlint // it must be the type itself
				t.Errorf("an error without its place: %v", err)
			}
			return
		}
		document := e.Document()
		again, err := endpoint.Parse("document", document)
		if err != nil {
			t.Fatalf("its document %q is refused: %v", document, err)
		}
		if diff := cmp.Diff(e, again, same); diff != "" {
			t.Errorf("document %q -want +got:\n%s", document, diff)
		}
		if !json.Valid(document) || !json.Valid(e.Public()) {
			t.Errorf("not JSON: %q %q", document, e.Public())
		}
	})
}
