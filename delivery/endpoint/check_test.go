package endpoint_test

import (
	"crypto/ed25519"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math"
	"os"
	"strings"
	"testing"
	"time"

	"gancho/delivery/endpoint"
)

// TestCheckSaysWhatIsWrong of everything that an endpoint can be told.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	certificate, key := pemFile(t, "certificate"), pemFile(t, "key")
	otherKey := newPEMKey(t)
	extra := func(f endpoint.Format, name string, value endpoint.Hidden) endpoint.Endpoint {
		return endpoint.Endpoint{Format: f, Extra: map[string]endpoint.Hidden{name: value}}
	}
	for i, c := range []struct {
		ep   endpoint.Endpoint
		want string // part of the error; none: no error
	}{
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 100, Wait: time.Second, PerTransaction: true}}, ""},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 1}, Format: endpoint.FormatForm}, ""},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: -1}}, "the max of batch is -1"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 1001}}, "use 1 to 1000"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 10, Wait: -1}}, "the wait of batch is negative"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 2}, Format: endpoint.FormatForm}, "a request of the format form holds one event"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 2}, Format: endpoint.FormatCloudEventsBinary}, "cloudevents-binary holds one event"},
		{endpoint.Endpoint{Format: endpoint.FormatChat}, "messages for a chat need its style"},
		{endpoint.Endpoint{Fields: []string{"valor"}}, "fields are those of a message for a chat"},

		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{200, 200}, {202, 299}}, Body: `"status":\s*200`}}, ""},
		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{299, 200}}}}, "the range 299-200 is empty; write 200-299"},
		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{100, 299}}}}, "100-299 has statuses that are no answer"},
		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{200, 600}}}}, `"200-600" is not a status`},
		{endpoint.Endpoint{Success: endpoint.Success{Body: `"status":(`}}, "missing closing )"},
		{endpoint.Endpoint{Success: endpoint.Success{Body: `(?!no)`}}, "not a regular expression (RE2)"},
		{endpoint.Endpoint{Success: endpoint.Success{Body: strings.Repeat("x", 900)}}, ""},
		{endpoint.Endpoint{Success: endpoint.Success{Body: strings.Repeat("x", 1001)}}, "the pattern has 1001 bytes: at most 1000"},
		{endpoint.Endpoint{Success: endpoint.Success{Body: strings.Repeat("x{1000}", 3000)}}, "the pattern has 21000 bytes"},
		{endpoint.Endpoint{Success: endpoint.Success{Body: strings.Repeat("x{1000}", 140)}}, "the pattern is too large"},
		{endpoint.Endpoint{Success: endpoint.Success{Body: `(?:(?:\w{10}){10}){10}`}}, "the pattern is too large"},

		{extra(endpoint.FormatStandard, "validationtoken", "s3cr3t"), ""},
		{extra(endpoint.FormatStandard, "Chave de acesso", "s3cr3t\n"), ""},
		{extra(endpoint.FormatStandard, "data", "s3cr3t"), "the field data is set by Gancho"},
		{extra(endpoint.FormatStandard, "", "s3cr3t"), "must have 1 to 200 bytes"},
		{extra(endpoint.FormatStandard, "a\nb", "s3cr3t"), "control characters"},
		{extra(endpoint.FormatBare, "token", "s3cr3t"), "the format bare has no place for extra fields"},
		{extra(endpoint.FormatForm, "auth[token]", "s3cr3t"), ""},
		{extra(endpoint.FormatForm, "datax[token]", "s3cr3t"), ""},
		{extra(endpoint.FormatForm, " data[token]", "s3cr3t"), "the field data is set by Gancho"},
		{extra(endpoint.FormatForm, "[token]", "s3cr3t"), "has no name before its bracket"},
		{extra(endpoint.FormatCloudEvents, "token1", "s3cr3t ção"), ""},
		{extra(endpoint.FormatCloudEvents, "Token", "s3cr3t"), "lower-case letters and digits"},
		{extra(endpoint.FormatCloudEvents, "validation_token", "s3cr3t"), "lower-case letters and digits"},
		{extra(endpoint.FormatCloudEvents, "abcdefghijklmnopqrstu", "s3cr3t"), "up to 20"},
		{extra(endpoint.FormatCloudEvents, "", "s3cr3t"), "1 to 200 bytes"},
		{extra(endpoint.FormatCloudEvents, "token", "s3cr3t\n"), "control character"},
		{extra(endpoint.FormatCloudEventsBinary, "subject", "s3cr3t"), "the field subject is set by Gancho"},
		{extra(endpoint.FormatCloudEventsBinary, "tenant", "s3cr3t"), "the field tenant is set by Gancho"},

		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"Ce-Token": "s3cr3t"})}, ""},
		{endpoint.Endpoint{Format: endpoint.FormatCloudEventsBinary, Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"ce-token": "s3cr3t"})}, "write it in extra, without ce-"},
		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"webhook-replay": "s3cr3t"})}, "is set by Gancho"},
		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"Proxy-Authorization": "s3cr3t"})}, "is set by Gancho"},

		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"X-A": "s3cr3t {s_cr_t}"})}, "the value of the header X-A has a name in braces that it cannot have; use {type}, {id}, {tenant}, {key}, {op}, {sequence} or {timestamp}"},
		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"X-A": "{type} {{secret}} {Secret}"})}, ""},
		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"X-A": "{type}"}), Batch: endpoint.Batching{Max: 2}}, "use {id} or {timestamp}, or remove batch"},
		{endpoint.Endpoint{URL: "https://{tenant}.example.com/?a={type}"}, "before its query"},
		{endpoint.Endpoint{URL: "https://crm.example.com/{outro}?a={type}"}, ""},
		{endpoint.Endpoint{ContentType: "s3cr3t\r\nx: y"}, "the content_type is not a media type"},
		{endpoint.Endpoint{Signatures: []endpoint.Signature{{Preset: "stripe"}}, Secrets: secrets(t, signingSeed, hmacSecret)}, ""},
		{endpoint.Endpoint{Signatures: []endpoint.Signature{{Preset: "gitlab"}}}, `"gitlab" is no preset of a signature`},
		{endpoint.Endpoint{Signatures: []endpoint.Signature{{Preset: "stripe"}}, Secrets: secrets(t, signingSeed)}, "signature 1 needs an HMAC secret"},
		{endpoint.Endpoint{Auth: endpoint.Auth{Bearer: "s3cr3t\n"}}, "a value of auth has control characters"},
		{endpoint.Endpoint{Auth: endpoint.Auth{Bearer: "s3cr3t", Basic: endpoint.BasicAuth{User: "a"}}}, "the login is both basic and bearer"},
		{endpoint.Endpoint{URL: "https://ana:s3cr3t@crm.example.com", Auth: endpoint.Auth{Bearer: "s3cr3t"}}, "the url holds a user, and there is auth"},
		{endpoint.Endpoint{Auth: endpoint.Auth{OAuth2: &endpoint.OAuth2{ClientSecret: "s3cr3t"}}}, "the login with oauth2 is not complete"},

		{endpoint.Endpoint{Secrets: secrets(t, signingSeed, hmacSecret)}, ""},
		{endpoint.Endpoint{Secrets: []endpoint.Secret{{}}}, "secret 1 is empty"},
		{endpoint.Endpoint{Secrets: append(secrets(t, hmacSecret), verifier(t, signingSeed))}, "secret 2 is empty or a public key"},

		{endpoint.Endpoint{TLS: endpoint.TLS{CA: certificate, Certificate: certificate, Key: endpoint.Hidden(key)}}, ""},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: certificate + certificate}}, ""},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: "s3cr3t"}}, "the ca holds no certificate"},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: key}}, "block 1 of the ca (\"PRIVATE KEY\") is not a certificate"},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: "-----BEGIN CERTIFICATE-----\nczNjcjN0\n-----END CERTIFICATE-----\n"}}, "is not a certificate"},
		{endpoint.Endpoint{TLS: endpoint.TLS{Certificate: certificate}}, "needs its key, and a key its certificate"},
		{endpoint.Endpoint{TLS: endpoint.TLS{Key: endpoint.Hidden(key)}}, "needs its key, and a key its certificate"},
		{endpoint.Endpoint{TLS: endpoint.TLS{Certificate: certificate, Key: endpoint.Hidden(otherKey)}}, "do not belong together"},
		{endpoint.Endpoint{URL: "http://crm.example.com", AllowHTTP: true, TLS: endpoint.TLS{CA: certificate}}, "tls has no effect"},

		{endpoint.Endpoint{Proxy: "http://proxy.example.com:3128"}, ""},
		{endpoint.Endpoint{Proxy: "http://ana:s3cr3t@10.0.0.1:3128/"}, ""},
		{endpoint.Endpoint{Proxy: "https://ana:s3cr3t@proxy:3128"}, "not the URL of an HTTP proxy"},
		{endpoint.Endpoint{Proxy: "socks5://ana:s3cr3t@proxy:1080"}, "not the URL of an HTTP proxy"},
		{endpoint.Endpoint{Proxy: "ana:s3cr3t@proxy:3128"}, "write such as http://proxy.example.com:3128"},
		{endpoint.Endpoint{Proxy: "http://ana:s3cr3t@proxy"}, "has no port"},
		{endpoint.Endpoint{Proxy: "http://ana:s3cr3t@proxy:99999999/%zz"}, "not the URL of an HTTP proxy"},
		{endpoint.Endpoint{Proxy: "http://proxy:3128/?s3cr3t"}, "ends with its port"},
		{endpoint.Endpoint{Proxy: "http://:3128"}, "not the URL of an HTTP proxy"},

		{endpoint.Endpoint{URL: "https://crm.example.com/hooks?token=s3cr3t"}, ""},
		{endpoint.Endpoint{URL: "http://crm.example.com/", AllowHTTP: true, Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"x-key": "ção"})}, ""},
		{endpoint.Endpoint{URL: "http://crm.example.com/s3cr3t"}, "the url is not https; write https, or allow_http: true"},
		{endpoint.Endpoint{URL: "https://crm.example.com:port/s3cr3t"}, "write such as https://crm.example.com/hooks"},
		{endpoint.Endpoint{URL: "ftp://s3cr3t@crm.example.com"}, "not an http or https address"},
		{endpoint.Endpoint{URL: "https:///s3cr3t"}, "not an http or https address"},
		{endpoint.Endpoint{URL: "crm.example.com/s3cr3t"}, "not an http or https address"},
		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"a b": "x"})}, `"a b" cannot be the name of a header`},
		{endpoint.Endpoint{Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"x-a": "s3cr3t\r\nx: y"})}, "the value of the header x-a has control characters"},

		{endpoint.Endpoint{MaxAge: -1}, "max_age is negative"},
		{endpoint.Endpoint{Timeout: -1}, "timeout or max_age"},
		{endpoint.Endpoint{PauseAfter: -1, Retry: []time.Duration{}, RetryRefused: []time.Duration{0}}, ""},
		{endpoint.Endpoint{RetryRefused: []time.Duration{1, -1}}, "negative wait"},
		{endpoint.Endpoint{Rate: math.NaN()}, "rate is negative"},
		{endpoint.Endpoint{Concurrency: -1}, "concurrency or rate"},
	} {
		c.ep.Name = "crm"
		if c.ep.URL == "" {
			c.ep.URL = "https://crm.example.com"
		}
		err := c.ep.Check()
		switch {
		case c.want == "" && err != nil:
			t.Errorf("case %d: %v", i, err)
		case c.want == "":
		case err == nil || !strings.Contains(err.Error(), c.want) || !strings.Contains(err.Error(), `endpoint "crm"`):
			t.Errorf("case %d: %v; want it to name the endpoint and say %q", i, err, c.want)
		case strings.Contains(fmt.Sprint(err), "s3cr3t") || strings.Contains(err.Error(), "czNj"):
			t.Errorf("case %d: %v shows a secret", i, err)
		}
	}
}

func verifier(t *testing.T, text string) endpoint.Secret {
	t.Helper()
	s, err := endpoint.ParseVerifier(secrets(t, text)[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestReservedHeaders(t *testing.T) {
	t.Parallel()
	for _, name := range endpoint.ReservedHeaders {
		built := endpoint.Endpoint{Name: "crm", URL: "https://crm.example.com", Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{name: "x"})}
		if built.Check() == nil {
			t.Errorf("Check takes the header %s", name)
		}
		if _, err := endpoint.Parse("body", []byte(`{"url": "https://crm.example.com", "headers": {"`+name+`": "x"}}`)); err == nil {
			t.Errorf("a document may set the header %s", name)
		}
	}
}

func pemFile(t testing.TB, name string) string {
	t.Helper()
	text, err := os.ReadFile("testdata/tls/" + name + ".pem")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func newPEMKey(t *testing.T) string {
	t.Helper()
	_, private, err := ed25519.GenerateKey(nil)
	if err != nil {
		t.Fatal(err)
	}
	encoded, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encoded}))
}

// TestReach: however large a pattern is, its steps times the bytes that it is matched against
// are bounded; patterns as people write them see all that is kept of an answer.
func TestReach(t *testing.T) {
	t.Parallel()
	style, problems := endpoint.Parse("", []byte("url: https://a.example.com\nstyle: superlogica\nextra: {validationtoken: s3cr3t-s3cr3t}\n"))
	if problems != nil {
		t.Fatal(problems)
	}
	for body, want := range map[string]int{
		"": 16 << 10, "ok": 16 << 10, style.Success.Body: 16 << 10, `(?i)"(status|resultado)"\s*:\s*"?(ok|success|sucesso|20[0-4])"?\b`: 16 << 10,
		strings.Repeat("x", 398): 4 << 10, strings.Repeat("x", 998): 1638,
	} {
		s := endpoint.Success{Body: body}
		if got := s.Reach(); got != want {
			t.Errorf("the pattern %.50q looks at %d bytes, not %d", body, got, want)
		}
	}
}
