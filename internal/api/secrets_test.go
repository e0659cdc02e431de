package api_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/testservers"
)

// mark is in every secret of this test.
const mark = "h8unter2"

// Whatever is asked for, rightly or wrongly, no secret and no token comes back
// or is logged, except where one is made.
func TestNoSecrets(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t)
	certificate, key := selfSigned(t)
	echo := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		// A receiver that sends back what it got, as many for testing do.
		for name, values := range r.Header {
			w.Header().Set("Echo-"+name, strings.Join(values, " "))
		}
		w.WriteHeader(http.StatusBadGateway)
		_ = r.Write(w)
	}))
	t.Cleanup(echo.Close)
	signing := endpoint.GenerateSecret()
	document := object{
		"name": "marked", "url": "https://crm.example.com/hooks?token=" + mark + "&" + mark, "secret": "whsec_" + base64.StdEncoding.EncodeToString([]byte(strings.Repeat(mark, 4))),
		"headers": object{"X-Api-Key": mark, "Authorization": "Basic " + mark}, "extra": object{"validationtoken": mark},
		"tls":   object{"certificate": certificate, "key": key},
		"proxy": "http://user:" + mark + "@proxy.example.com:3128",
	}
	must[object](w, http.StatusCreated, "POST", "/endpoints", "root", asJSON(document))
	must[object](w, http.StatusCreated, "POST", "/endpoints", "root", asJSON(object{
		"name": "echo", "url": echo.URL + "/?token=" + mark, "allow_http": true, "allow_private": []string{"127.0.0.1/32"},
		"headers": object{"X-Api-Key": mark}, "extra": object{"validationtoken": mark}, "secret": signing.Reveal(),
	}))
	tokens := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		_, _ = w.Write([]byte(`{"access_token":"` + mark + `-token","token_type":"Bearer"}`))
	}))
	t.Cleanup(tokens.Close)
	oauth2 := object{"token_url": tokens.URL + "/oauth2/" + mark + "?" + mark, "client_id": "academia", "client_secret": mark, "params": object{"audience": mark}}
	must[object](w, http.StatusCreated, "POST", "/endpoints", "root", asJSON(object{
		"name": "echo-login", "url": echo.URL, "allow_http": true, "allow_private": []string{"127.0.0.1/32"}, "auth": object{"oauth2": oauth2}, "secret": signing.Reveal(),
	}))
	must[object](w, http.StatusOK, "PATCH", "/endpoints/marked", "root", `{"headers":{"Authorization":null},"auth":{"oauth2":{"token_url":"https://login.example.com/oauth2/`+mark+`?x=`+mark+`","client_id":"a","client_secret":"`+mark+`"}}}`)
	must[object](w, http.StatusOK, "PATCH", "/endpoints/marked", "root", `{"auth":{"oauth2":null,"bearer":"`+mark+`"}}`)
	must[object](w, http.StatusOK, "PATCH", "/endpoints/marked", "root", `{"auth":{"bearer":null,"basic":{"user":"ana","password":"`+mark+`"}}}`)
	for _, auth := range []string{
		`{"basic":{"user":"ana","password":"` + mark + `"}}`, `{"basic":{"password":"***"}}`, `{"basic":{"user":"a:b"}}`, `{"basic":null,"bearer":"` + mark + `"}`, `{"bearer":"` + mark + `\n"}`, `{"bearer":["` + mark + `"]}`,
		`{"bearer":null,"oauth2":` + asJSON(oauth2) + `}`, `"` + mark + `"`, `["` + mark + `"]`, `{"basic":{"user":"a","password":{"x":"` + mark + `"}}}`, `{"basic":"` + mark + `"}`,
		`{"oauth2":{"token_url":"https://login.example.com/oauth2/` + mark + `?x=` + mark + `","client_id":"a","client_secret":"` + mark + `","params":{"audience":"` + mark + `"}}}`, `{"oauth2":{"client_secret":"***"}}`,
		`{"oauth2":{"token_url":"https://u:` + mark + `@login.example.com"}}`, `{"oauth2":{"token_url":"ftp://login.example.com/` + mark + `"}}`, `{"oauth2":{"token_url":"https://login.example.com/%zz` + mark + `"}}`,
		`{"oauth2":{"token_url":"https://other.example.com/"}}`, `{"oauth2":{"params":{"grant_type":"` + mark + `"}}}`, `{"oauth2":{"params":["` + mark + `"]}}`, `{"oauth2":null,"bearer":"` + mark + `"}`,
	} {
		w.do("PATCH", "/endpoints/marked", "root", `{"headers":{"Authorization":null},"auth":`+auth+`}`)
		for name := range w.tokens {
			w.do("PATCH", "/endpoints/marked", name, `{"auth":`+auth+`}`)
		}
	}
	must[object](w, http.StatusOK, "PATCH", "/endpoints/marked", "root", `{"auth":null,"headers":{"Authorization":"Basic `+mark+`"}}`)
	// Every change, and every way of getting one wrong.
	for _, patch := range []string{
		`{"rate":"1/s"}`, `{"headers":{"X-Api-Key":"***"}}`, `{"headers":{"X-Other":"` + mark + `"}}`, `{"url":"https://crm.example.com/hooks?token=***&x=` + mark + `"}`,
		`{"headers":{"X-Api-Key":["` + mark + `"]}}`, `{"headers":{"X-Api-Key":"` + mark + `\n"}}`, `{"headers":"` + mark + `"}`, `{"extra":["` + mark + `"]}`,
		`{"extra":{"type":"` + mark + `"}}`, `{"url":"ftp://crm.example.com/?` + mark + `"}`, `{"url":"https://user:` + mark + `@crm.example.com"}`, `{"url":"https://crm.example.com/%zz?` + mark + `"}`,
		`{"url":"https://crm.example.com/#` + mark + `"}`, `{"url":["` + mark + `"]}`, `{"proxy":"ftp://u:` + mark + `@proxy"}`, `{"proxy":"http://u:` + mark + `@%zz"}`, `{"proxy":["` + mark + `"]}`,
		`{"tls":{"key":"` + mark + `"}}`, `{"tls":{"key":["` + mark + `"]}}`, `{"secret":"` + mark + `"}`, `{"secrets":["` + mark + `"]}`, `{"headers":{"X-Api-Key":"` + mark + `"}`, `{"proxy":null,"tls":null}`,
	} {
		w.do("PATCH", "/endpoints/marked", "root", patch)
		for name := range w.tokens {
			w.do("PATCH", "/endpoints/marked", name, patch)
		}
	}
	for _, secret := range []string{`"` + mark + `"`, `"whsec_` + mark + `"`, `"whsk_` + mark + `"`, `["` + mark + `"]`, `{"` + mark + `":1}`} {
		w.do("POST", "/endpoints", "root", `{"name":"x","url":"https://a.example.com","secret":`+secret+`}`)
		w.do("POST", "/endpoints", "root", `{"name":"x","url":"https://a.example.com","secrets":`+secret+`}`)
		w.do("POST", "/endpoints/marked/rotate", "root", `{"secret":`+secret+`}`)
	}
	must[object](w, http.StatusOK, "POST", "/endpoints/marked/rotate", "root", `{"secret":"whsec_`+base64.StdEncoding.EncodeToString([]byte(strings.Repeat(mark, 5)))+`"}`)
	w.addDead("marked", "1", 1)
	w.addAttempts("marked", "1", 1)
	// Everything that can be read, done and refused.
	for _, r := range api.Routes() {
		for token := range w.tokens {
			for _, name := range []string{"marked", "echo", "echo-login"} {
				if token == "root" && r.Method == http.MethodDelete {
					continue // comes last
				}
				if r.Path != "/tail" || name == "marked" { // it lasts a second, and names nothing
					w.do(r.Method, strings.NewReplacer("{name}", name, "{id}", "1").Replace(r.Path), token, "")
				}
				w.do(r.Method, strings.NewReplacer("{name}", name, "{id}", "1").Replace(r.Path)+"?access_token="+mark, token, "")
			}
		}
	}
	if x := must[webhook.Exchange](w, http.StatusOK, "POST", "/endpoints/echo-login/test", "root", ""); x.Answer == nil || !strings.Contains(x.Answer.Body, "Authorization: Bearer ***") {
		t.Fatalf("the receiver has not echoed the token: %+v", x)
	}
	x := must[webhook.Exchange](w, http.StatusOK, "POST", "/endpoints/echo/test", "hands", "")
	if x.Answer == nil || !strings.Contains(x.Answer.Body, "webhook-id") && !strings.Contains(x.Answer.Body, "Webhook-Id") {
		t.Fatalf("the receiver has not echoed the request: %+v", x)
	}
	w.send(mistaken(w, "Bearer "+mark))
	w.send(mistaken(w, mark))
	must[object](w, http.StatusOK, "DELETE", "/endpoints/marked", "root", "")
	must[object](w, http.StatusOK, "GET", "/audit?limit=500", "root", "")

	forbidden := map[string]string{
		"a marked secret": mark, "its base64": base64.StdEncoding.EncodeToString([]byte(mark))[:10], "the TLS key": strings.Split(key, "\n")[1][:40],
		"the signing key": strings.TrimPrefix(signing.Reveal(), "whsec_"),
	}
	for name, text := range w.tokens {
		forbidden["the token "+name] = strings.TrimPrefix(text, "gancho_")
	}
	for where, text := range map[string]string{"an answer": w.answered(), "the log": w.log.String()} {
		for what, secret := range forbidden {
			if i := strings.Index(text, secret); i >= 0 {
				t.Errorf("%s holds %s: ...%s", where, what, text[max(0, i-300):min(len(text), i+60)])
			}
		}
	}
	if len(w.log.String()) == 0 {
		t.Error("nothing was logged: the log was not looked at")
	}
}

// answered are the answers without the requests' own lines.
func (w *world) answered() string {
	var b strings.Builder
	for line := range strings.Lines(w.answers.String()) {
		_, answer, _ := strings.Cut(line, ": ")
		b.WriteString(answer)
	}
	return b.String()
}

// mistaken is a request whose Authorization is wrong.
func mistaken(w *world, authorization string) *http.Request {
	r, err := http.NewRequestWithContext(w.t.Context(), http.MethodGet, w.url+"/api/v1/endpoints", http.NoBody)
	if err != nil {
		w.t.Fatal(err)
	}
	r.Header.Set("Authorization", authorization)
	return r
}

func selfSigned(t *testing.T) (certificate, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "gancho"}, NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("PRIVATE KEY", pkcs8)
}

// A secret that is made is shown by the answer that makes it, and by no other.
func TestSecretsAreShownOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var made []string
	created := w.addEndpoint("crm", "")
	made = append(made, created.Secret)
	for _, body := range []string{`{}`, `{"ed25519":true}`, ``} {
		made = append(made, must[control.CreatedView](w, http.StatusOK, "POST", "/endpoints/crm/rotate", "root", body).Secret)
	}
	token := must[control.CreatedToken](w, http.StatusCreated, "POST", "/tokens", "root", `{"name":"x","role":"viewer"}`)
	made = append(made, token.Text)
	given := endpoint.GenerateSecret()
	if a := w.do("POST", "/endpoints/crm/rotate", "root", fmt.Sprintf(`{"secret":%q}`, given.Reveal())); strings.Contains(string(a.body), given.Reveal()) {
		t.Error("a secret that was given is shown")
	}
	w.answers.Reset()
	for _, path := range []string{"/endpoints", "/endpoints/crm", "/endpoints/crm/keys", "/audit", "/tokens", "/status"} {
		must[object](w, http.StatusOK, "GET", path, "root", "")
	}
	for i, secret := range made {
		if len(secret) < 20 {
			t.Errorf("secret %d was not shown when it was made: %q", i, secret)
		} else if strings.Contains(w.answers.String(), secret) || strings.Contains(w.log.String(), secret) {
			t.Errorf("secret %d is shown again", i)
		}
	}
}
