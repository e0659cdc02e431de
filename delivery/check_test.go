package delivery_test

import (
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"gancho/config"
	"gancho/delivery"
)

// TestCheckSaysWhatIsWrong of everything that an endpoint can be told.
func TestCheckSaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	own := newAuthority(t, "own")
	certificate, key := own.issue(t, certificateOptions{client: true})
	_, otherKey := own.issue(t, certificateOptions{client: true})
	extra := func(f delivery.Format, name, value string) delivery.Endpoint {
		return delivery.Endpoint{Format: f, Extra: map[string]string{name: value}}
	}
	for i, c := range []struct {
		ep   delivery.Endpoint
		want string // part of the error; none: no error
	}{
		{delivery.Endpoint{Batch: delivery.Batching{Max: 100, Wait: time.Second, PerTransaction: true}}, ""},
		{delivery.Endpoint{Batch: delivery.Batching{Max: 1}, Format: delivery.FormatForm}, ""},
		{delivery.Endpoint{Batch: delivery.Batching{Max: -1}}, "batch: max is -1"},
		{delivery.Endpoint{Batch: delivery.Batching{Max: 10_001}}, "use 1 to 10000"},
		{delivery.Endpoint{Batch: delivery.Batching{Max: 10, Wait: -1}}, "wait is negative"},
		{delivery.Endpoint{Batch: delivery.Batching{Max: 2}, Format: delivery.FormatForm}, "the format form has no lists; remove batch"},
		{delivery.Endpoint{Batch: delivery.Batching{Max: 2}, Format: delivery.FormatCloudEventsBinary}, "cloudevents-binary has no lists"},

		{delivery.Endpoint{Success: delivery.Success{Status: [][2]int{{200, 200}, {202, 299}}, Body: `"status":\s*200`}}, ""},
		{delivery.Endpoint{Success: delivery.Success{Status: [][2]int{{299, 200}}}}, "299-200 is not a range"},
		{delivery.Endpoint{Success: delivery.Success{Status: [][2]int{{100, 299}}}}, "within 200-599"},
		{delivery.Endpoint{Success: delivery.Success{Status: [][2]int{{200, 600}}}}, "200-600 is not a range"},
		{delivery.Endpoint{Success: delivery.Success{Body: `"status":(`}}, "missing closing )"},
		{delivery.Endpoint{Success: delivery.Success{Body: `(?!no)`}}, "no regular expression of RE2"},

		{extra(delivery.FormatStandard, "validationtoken", "s3cr3t"), ""},
		{extra(delivery.FormatStandard, "Chave de acesso", "s3cr3t\n"), ""},
		{extra(delivery.FormatStandard, "data", "s3cr3t"), `extra "data": the format standard has a field of this name`},
		{extra(delivery.FormatStandard, "", "s3cr3t"), "it has no name"},
		{extra(delivery.FormatStandard, "a\nb", "s3cr3t"), "control characters"},
		{extra(delivery.FormatBare, "token", "s3cr3t"), "the format bare is data alone"},
		{extra(delivery.FormatForm, "auth[token]", "s3cr3t"), ""},
		{extra(delivery.FormatForm, "datax[token]", "s3cr3t"), ""},
		{extra(delivery.FormatForm, " data[token]", "s3cr3t"), "the format form has a field of this name"},
		{extra(delivery.FormatForm, "[token]", "s3cr3t"), "it has no name"},
		{extra(delivery.FormatCloudEvents, "token1", "s3cr3t ção"), ""},
		{extra(delivery.FormatCloudEvents, "Token", "s3cr3t"), "lower-case letters and digits"},
		{extra(delivery.FormatCloudEvents, "validation_token", "s3cr3t"), "lower-case letters and digits"},
		{extra(delivery.FormatCloudEvents, "abcdefghijklmnopqrstu", "s3cr3t"), "up to 20"},
		{extra(delivery.FormatCloudEvents, "", "s3cr3t"), "lower-case"},
		{extra(delivery.FormatCloudEvents, "token", "s3cr3t\n"), "control character"},
		{extra(delivery.FormatCloudEventsBinary, "subject", "s3cr3t"), "has a field of this name"},
		{extra(delivery.FormatCloudEventsBinary, "tenant", "s3cr3t"), "has a field of this name"},

		{delivery.Endpoint{Headers: map[string]string{"Ce-Token": "s3cr3t"}}, ""},
		{delivery.Endpoint{Format: delivery.FormatCloudEventsBinary, Headers: map[string]string{"ce-token": "s3cr3t"}}, "write it in extra, without ce-"},
		{delivery.Endpoint{Headers: map[string]string{"webhook-replay": "s3cr3t"}}, "Gancho sets it itself"},
		{delivery.Endpoint{Headers: map[string]string{"Proxy-Authorization": "s3cr3t"}}, "Gancho sets it itself"},

		{delivery.Endpoint{Secrets: secrets(t, signingSeed, newerSecret)}, ""},
		{delivery.Endpoint{Secrets: []delivery.Secret{{}}}, "secret 1 is empty"},
		{delivery.Endpoint{Secrets: append(secrets(t, newerSecret), verifier(t, signingSeed))}, "secret 2 is empty or a public key"},

		{delivery.Endpoint{TLS: delivery.TLS{CA: own.pem, Certificate: certificate, Key: key}}, ""},
		{delivery.Endpoint{TLS: delivery.TLS{CA: append(own.pem, newAuthority(t, "other").pem...)}}, ""},
		{delivery.Endpoint{TLS: delivery.TLS{CA: []byte("s3cr3t")}}, "there is no certificate in it"},
		{delivery.Endpoint{TLS: delivery.TLS{CA: key}}, "block 1 (\"PRIVATE KEY\") is not a certificate"},
		{delivery.Endpoint{TLS: delivery.TLS{CA: []byte("-----BEGIN CERTIFICATE-----\nczNjcjN0\n-----END CERTIFICATE-----\n")}}, "is not a certificate"},
		{delivery.Endpoint{TLS: delivery.TLS{Certificate: certificate}}, "read certificate and key"},
		{delivery.Endpoint{TLS: delivery.TLS{Key: key}}, "read certificate and key"},
		{delivery.Endpoint{TLS: delivery.TLS{Certificate: certificate, Key: otherKey}}, "does not match"},
		{delivery.Endpoint{URL: "http://crm.example.com", AllowHTTP: true, TLS: delivery.TLS{CA: own.pem}}, "tls has no effect"},

		{delivery.Endpoint{Proxy: "http://proxy.example.com:3128"}, ""},
		{delivery.Endpoint{Proxy: "http://ana:s3cr3t@10.0.0.1:3128/"}, ""},
		{delivery.Endpoint{Proxy: "https://ana:s3cr3t@proxy:3128"}, `scheme "https"`},
		{delivery.Endpoint{Proxy: "socks5://ana:s3cr3t@proxy:1080"}, "only HTTP proxies"},
		{delivery.Endpoint{Proxy: "ana:s3cr3t@proxy:3128"}, "write http://host:port"},
		{delivery.Endpoint{Proxy: "http://ana:s3cr3t@proxy"}, "has no port"},
		{delivery.Endpoint{Proxy: "http://ana:s3cr3t@proxy:99999999/%zz"}, "malformed"},
		{delivery.Endpoint{Proxy: "http://proxy:3128/?s3cr3t"}, "more than host and port"},
		{delivery.Endpoint{Proxy: "http://:3128"}, "malformed"},

		{delivery.Endpoint{MaxAge: -1}, "max_age is negative"},
		{delivery.Endpoint{Timeout: -1}, "timeout or max_age"},
		{delivery.Endpoint{PauseAfter: -1, Retry: []time.Duration{}, RetryRefused: []time.Duration{0}}, ""},
		{delivery.Endpoint{RetryRefused: []time.Duration{1, -1}}, "negative wait"},
		{delivery.Endpoint{Rate: math.NaN()}, "rate is negative"},
		{delivery.Endpoint{Concurrency: -1}, "concurrency or rate"},
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

func verifier(t *testing.T, text string) delivery.Secret {
	t.Helper()
	s, err := delivery.ParseVerifier(secrets(t, text)[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// The configuration refuses what is refused here, with its place.
func TestReservedHeadersAreTheConfigurations(t *testing.T) {
	t.Parallel()
	for _, name := range delivery.Reserved() {
		if _, err := config.ParseEndpoint("body", []byte(`{"url": "https://crm.example.com", "headers": {"`+name+`": "x"}}`)); err == nil {
			t.Errorf("the configuration takes the header %s", name)
		}
	}
}
