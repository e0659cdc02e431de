package webhook_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// TestCheckSaysWhatIsWrong of everything that an endpoint can be told.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	own := newAuthority(t, "own")
	certificate, key := own.issue(t, certificateOptions{client: true})
	_, otherKey := own.issue(t, certificateOptions{client: true})
	extra := func(f endpoint.Format, name, value string) endpoint.Endpoint {
		return endpoint.Endpoint{Format: f, Extra: map[string]string{name: value}}
	}
	for i, c := range []struct {
		ep   endpoint.Endpoint
		want string // part of the error; none: no error
	}{
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 100, Wait: time.Second, PerTransaction: true}}, ""},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 1}, Format: endpoint.FormatForm}, ""},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: -1}}, "batch: max is -1"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 10_001}}, "use 1 to 10000"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 10, Wait: -1}}, "wait is negative"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 2}, Format: endpoint.FormatForm}, "the format form has no lists; remove batch"},
		{endpoint.Endpoint{Batch: endpoint.Batching{Max: 2}, Format: endpoint.FormatCloudEventsBinary}, "cloudevents-binary has no lists"},

		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{200, 200}, {202, 299}}, Body: `"status":\s*200`}}, ""},
		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{299, 200}}}}, "299-200 is not a range"},
		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{100, 299}}}}, "within 200-599"},
		{endpoint.Endpoint{Success: endpoint.Success{Status: [][2]int{{200, 600}}}}, "200-600 is not a range"},
		{endpoint.Endpoint{Success: endpoint.Success{Body: `"status":(`}}, "missing closing )"},
		{endpoint.Endpoint{Success: endpoint.Success{Body: `(?!no)`}}, "no regular expression of RE2"},

		{extra(endpoint.FormatStandard, "validationtoken", "s3cr3t"), ""},
		{extra(endpoint.FormatStandard, "Chave de acesso", "s3cr3t\n"), ""},
		{extra(endpoint.FormatStandard, "data", "s3cr3t"), `extra "data": the format standard has a field of this name`},
		{extra(endpoint.FormatStandard, "", "s3cr3t"), "it has no name"},
		{extra(endpoint.FormatStandard, "a\nb", "s3cr3t"), "control characters"},
		{extra(endpoint.FormatBare, "token", "s3cr3t"), "the format bare is data alone"},
		{extra(endpoint.FormatForm, "auth[token]", "s3cr3t"), ""},
		{extra(endpoint.FormatForm, "datax[token]", "s3cr3t"), ""},
		{extra(endpoint.FormatForm, " data[token]", "s3cr3t"), "the format form has a field of this name"},
		{extra(endpoint.FormatForm, "[token]", "s3cr3t"), "it has no name"},
		{extra(endpoint.FormatCloudEvents, "token1", "s3cr3t ção"), ""},
		{extra(endpoint.FormatCloudEvents, "Token", "s3cr3t"), "lower-case letters and digits"},
		{extra(endpoint.FormatCloudEvents, "validation_token", "s3cr3t"), "lower-case letters and digits"},
		{extra(endpoint.FormatCloudEvents, "abcdefghijklmnopqrstu", "s3cr3t"), "up to 20"},
		{extra(endpoint.FormatCloudEvents, "", "s3cr3t"), "lower-case"},
		{extra(endpoint.FormatCloudEvents, "token", "s3cr3t\n"), "control character"},
		{extra(endpoint.FormatCloudEventsBinary, "subject", "s3cr3t"), "has a field of this name"},
		{extra(endpoint.FormatCloudEventsBinary, "tenant", "s3cr3t"), "has a field of this name"},

		{endpoint.Endpoint{Headers: map[string]string{"Ce-Token": "s3cr3t"}}, ""},
		{endpoint.Endpoint{Format: endpoint.FormatCloudEventsBinary, Headers: map[string]string{"ce-token": "s3cr3t"}}, "write it in extra, without ce-"},
		{endpoint.Endpoint{Headers: map[string]string{"webhook-replay": "s3cr3t"}}, "Gancho sets it itself"},
		{endpoint.Endpoint{Headers: map[string]string{"Proxy-Authorization": "s3cr3t"}}, "Gancho sets it itself"},

		{endpoint.Endpoint{Secrets: secrets(t, signingSeed, newerSecret)}, ""},
		{endpoint.Endpoint{Secrets: []endpoint.Secret{{}}}, "secret 1 is empty"},
		{endpoint.Endpoint{Secrets: append(secrets(t, newerSecret), verifier(t, signingSeed))}, "secret 2 is empty or a public key"},

		{endpoint.Endpoint{TLS: endpoint.TLS{CA: own.pem, Certificate: certificate, Key: key}}, ""},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: append(own.pem, newAuthority(t, "other").pem...)}}, ""},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: []byte("s3cr3t")}}, "there is no certificate in it"},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: key}}, "block 1 (\"PRIVATE KEY\") is not a certificate"},
		{endpoint.Endpoint{TLS: endpoint.TLS{CA: []byte("-----BEGIN CERTIFICATE-----\nczNjcjN0\n-----END CERTIFICATE-----\n")}}, "is not a certificate"},
		{endpoint.Endpoint{TLS: endpoint.TLS{Certificate: certificate}}, "read certificate and key"},
		{endpoint.Endpoint{TLS: endpoint.TLS{Key: key}}, "read certificate and key"},
		{endpoint.Endpoint{TLS: endpoint.TLS{Certificate: certificate, Key: otherKey}}, "does not match"},
		{endpoint.Endpoint{URL: "http://crm.example.com", AllowHTTP: true, TLS: endpoint.TLS{CA: own.pem}}, "tls has no effect"},

		{endpoint.Endpoint{Proxy: "http://proxy.example.com:3128"}, ""},
		{endpoint.Endpoint{Proxy: "http://ana:s3cr3t@10.0.0.1:3128/"}, ""},
		{endpoint.Endpoint{Proxy: "https://ana:s3cr3t@proxy:3128"}, `scheme "https"`},
		{endpoint.Endpoint{Proxy: "socks5://ana:s3cr3t@proxy:1080"}, "only HTTP proxies"},
		{endpoint.Endpoint{Proxy: "ana:s3cr3t@proxy:3128"}, "write http://host:port"},
		{endpoint.Endpoint{Proxy: "http://ana:s3cr3t@proxy"}, "has no port"},
		{endpoint.Endpoint{Proxy: "http://ana:s3cr3t@proxy:99999999/%zz"}, "malformed"},
		{endpoint.Endpoint{Proxy: "http://proxy:3128/?s3cr3t"}, "more than host and port"},
		{endpoint.Endpoint{Proxy: "http://:3128"}, "malformed"},

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

// The configuration refuses what is refused here, with its place.
func TestReservedHeadersAreTheConfigurations(t *testing.T) {
	t.Parallel()
	for _, name := range webhook.Reserved() {
		if _, err := config.ParseEndpoint("body", []byte(`{"url": "https://crm.example.com", "headers": {"`+name+`": "x"}}`)); err == nil {
			t.Errorf("the configuration takes the header %s", name)
		}
	}
}
