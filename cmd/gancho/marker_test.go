package main_test

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/internal/state"
)

// hidden are what nobody may read, by what they are. Each stands in its place only.
var hidden = map[string]string{
	"path": "Xm1pathQ7w", "query": "Xm2queryQ7w", "header": "Xm3headerQ7w", "bearer": "Xm4bearerQ7w", "field": "Xm5fieldQ7w", "proxy": "Xm6proxyQ7w",
	"secret": "Xm7secret-of-at-least-24-bytes", "hmac": "Xm8hmac-of-sixteen", "dsn": "Xm9passwordQ7w", "wrong": "Xm0wrongQ7w",
}

// TestSecretsAreNowhere puts a marker into every place that takes a secret, has deliveries
// succeed and fail in every way, reads everything that can be read, and then looks for the
// markers in what came and in what is stored.
func TestSecretsAreNowhere(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = strings.Replace(loadRules, "data: {id: id,", "data: {id: id, hash: \"hmac(id::text, 'chave')\",", 1)
	s.dsn += "&password=" + hidden["dsn"]
	s.stateDSN += "&password=" + hidden["dsn"]
	s.extra = fmt.Sprintf("state: {dsn: '%s', key: '%s', keep_events: 1d}\nlog: {level: trace}\nprivacy: {secrets: {chave: %s}}", s.stateDSN, s.key, hidden["hmac"])
	delivered := newReceiver(t, nil)
	echo := func(status int) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Location", r.URL.String())
			w.Header().Set("X-Echo", r.Header.Get("X-Key"))
			w.WriteHeader(status)
			_, _ = fmt.Fprintf(w, "%s %q\n", r.URL, r.URL.Path)
			_ = r.Write(w)
		}
	}
	refusing, redirecting := httptest.NewServer(echo(http.StatusBadRequest)), httptest.NewServer(echo(http.StatusFound))
	t.Cleanup(refusing.Close)
	t.Cleanup(redirecting.Close)
	untrusted := httptest.NewTLSServer(echo(http.StatusOK))
	untrusted.Config.ErrorLog = nil
	t.Cleanup(untrusted.Close)
	certificate, key := keyPair(t)
	path := "/hooks/" + hidden["path"] + "/more?token=" + hidden["query"]
	headers := map[string]string{"X-Key": hidden["header"], "Authorization": "Bearer " + hidden["bearer"]}
	signing := "whsec_" + base64.StdEncoding.EncodeToString([]byte(hidden["secret"]))
	s.endpoints = append(s.endpoints, fmt.Sprintf("  - name: arquivo\n    url: %s\n    secret: %s\n    allow_http: true\n    allow_private: [127.0.0.0/8]\n    headers: {X-Key: %s}",
		delivered.url()+path, signing, hidden["header"]))
	b := s.run()

	var answers bytes.Buffer
	tokens := map[string]string{}
	for name, token := range map[string]state.Token{"root": {Role: state.Admin}, "eyes": {Role: state.Viewer}, "one": {Role: state.Admin, Tenant: "1"}, "shown": {Role: state.Viewer, Tenant: "1"}} {
		token.Name = name
		_, text, err := s.store().CreateToken(t.Context(), "cli:test", token)
		if err != nil {
			t.Fatal(err)
		}
		tokens[name] = text
	}
	ask := func(method, path, token string, body any) int {
		t.Helper()
		text, err := json.Marshal(body)
		if err != nil {
			t.Fatal(err)
		}
		request, err := http.NewRequestWithContext(t.Context(), method, "http://"+b.listening()+path, bytes.NewReader(text))
		if err != nil {
			t.Fatal(err)
		}
		request.Header.Set("Authorization", "Bearer "+token)
		request.Header.Set("Content-Type", "application/json")
		if body == nil {
			request.Body, request.ContentLength = http.NoBody, 0
		}
		answer, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = answer.Body.Close() }()
		_, _ = fmt.Fprintf(&answers, "%v\n", answer.Header)
		if _, err := io.Copy(&answers, answer.Body); err != nil {
			t.Fatal(err)
		}
		return answer.StatusCode
	}
	type document = map[string]any
	added := map[string]document{
		"stored": {"url": delivered.url() + path}, "refusing": {"url": refusing.URL + path, "format": "form", "extra": document{"token": hidden["field"]}},
		"redirecting": {"url": redirecting.URL + path}, "closed": {"url": "http://" + closedPort(t) + path}, "forbidden": {"url": "http://localhost.:9" + path, "allow_private": nil},
		"proxied":   {"url": delivered.url() + path, "proxy": "http://user:" + hidden["proxy"] + "@" + closedPort(t)},
		"untrusted": {"url": untrusted.URL + path, "tls": document{"certificate": certificate, "key": key}},
	}
	for name, more := range added {
		d := document{"name": name, "secret": signing, "headers": headers, "allow_http": true, "allow_private": []string{"127.0.0.0/8"}, "retry": []string{"10ms"}, "retry_refused": []string{"10ms"}}
		for k, v := range more {
			if d[k] = v; v == nil {
				delete(d, k)
			}
		}
		if status := ask(http.MethodPost, "/api/v1/endpoints", tokens["root"], d); status != http.StatusCreated {
			t.Fatalf("%s: %d\n%s", name, status, tail(answers.String(), 500))
		}
		s.stored++
		b.waitLog(fmt.Sprintf(`"stored":%d,`, s.stored))
	}
	s.events(1, 2)
	s.until(len(added)+1, `select count(distinct endpoint) from gancho.attempts`)
	b.waitLog("event moved to the dead letters")
	s.until(1, `select least(count(*), 1) from gancho.dead_letters where endpoint = 'refusing'`)

	dead := fmt.Sprint("/dead-letters/", s.count(`select min(id)::int from gancho.dead_letters where endpoint = 'refusing'`))

	// Everything that can be read and got wrong, over the API and the command line.
	wrong := hidden["wrong"]
	for name := range added {
		for _, patch := range []document{
			{"rate": "9/s"}, {"headers": document{"X-Key": wrong + "\n"}}, {"url": "https://u:" + wrong + "@x.com/a/" + wrong}, {"url": "https://elsewhere.example.com/a"}, {"proxy": wrong},
			{"tls": document{"key": wrong, "certificate": wrong}}, {"secret": wrong}, {"extra": wrong}, {"success": document{"body": "("}},
		} {
			ask(http.MethodPatch, "/api/v1/endpoints/"+name, tokens["root"], patch)
			ask(http.MethodPatch, "/api/v1/endpoints/"+name, tokens["one"], patch)
		}
		ask(http.MethodPost, "/api/v1/endpoints/"+name+"/rotate", tokens["root"], document{"secret": wrong})
		ask(http.MethodPost, "/api/v1/endpoints/"+name+"/test", tokens["root"], nil)
		for _, token := range tokens {
			ask(http.MethodGet, "/api/v1/endpoints/"+name, token, nil)
		}
	}
	ask(http.MethodGet, "/api/v1/endpoints", wrong, nil)
	tokens["nobody"] = "gancho_" + strings.Repeat("0", 43)
	for _, token := range tokens {
		for _, list := range []string{
			"/openapi.json", "/endpoints", "/endpoints/arquivo", "/endpoints/arquivo/keys", "/deliveries", "/dead-letters", dead, "/parked", "/resends", "/event-types",
			"/status", "/audit?limit=500", "/tokens",
		} {
			ask(http.MethodGet, "/api/v1"+list, token, nil)
		}
	}
	for _, page := range []string{"/metrics", "/readyz", "/healthz"} {
		ask(http.MethodGet, page, "", nil)
	}
	config := filepath.Join(s.dir, "gancho.yaml")
	for _, line := range []string{
		"endpoints list", "endpoints list --json", "endpoints show refusing", "endpoints show proxied --json", "endpoints test arquivo", "endpoints test refusing", "endpoints test closed --json",
		"endpoints edit refusing --url https://elsewhere.example.com/" + wrong, "endpoints edit refusing --header X-Key:" + wrong + "\x01", "endpoints edit refusing --set proxy=" + wrong,
		"endpoints edit refusing --set tls.key=[" + wrong, "endpoints edit refusing --set headers.X-Key=*" + wrong, "endpoints add novo --url ftp://" + wrong, "endpoints rotate refusing --secret-env GANCHO_NOT_SET",
		"deliveries --json", "deliveries", "dead list", "dead list --json", "dead show " + filepath.Base(dead), "dead show --json " + filepath.Base(dead), "status", "status --json", "audit", "audit --json", "tokens list", "check", "events --json", "secrets rekey",
	} {
		_, stdout, stderr := command(t, append(strings.Fields(line), "--config", config)...)
		answers.WriteString("$ " + strings.Fields(line)[0] + "\n" + stdout + stderr)
	}
	good, err := os.ReadFile(config)
	if err != nil {
		t.Fatal(err)
	}
	broken := strings.NewReplacer("secret: "+signing, "secret: whsk_"+wrong, "X-Key: "+hidden["header"], "X-Key: *"+wrong, "key: '"+s.key, "key: '"+wrong).Replace(string(good))
	if err := os.WriteFile(config, []byte(broken), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	b.waitLog("reload")
	_, stdout, stderr := command(t, "check", "--config", config)
	answers.WriteString(stdout + stderr)
	b.stop()

	// What must be in none of it.
	forbidden := map[string]string{
		"the signing secret": strings.TrimPrefix(signing, "whsec_"), "the TLS key": strings.Split(key, "\n")[1], "state.key": s.key[strings.Index(s.key, ":")+1:],
	}
	for what, text := range hidden {
		forbidden["the marker of "+what] = text
		forbidden["the base64 of "+what] = base64.StdEncoding.EncodeToString([]byte(text))[:len(text)/3*4]
	}
	for name, text := range tokens {
		if name != "nobody" {
			forbidden["the token "+name] = strings.TrimPrefix(text, "gancho_")
		}
	}
	looked := func(where string, content []byte, proof string) {
		t.Helper()
		if !bytes.Contains(content, []byte(proof)) {
			t.Errorf("%s was not looked at: it lacks %q", where, proof)
		}
		for what, text := range forbidden {
			if i := bytes.Index(content, []byte(text)); i >= 0 {
				t.Errorf("%s holds %s: ...%q", where, what, content[max(0, i-300):min(len(content), i+60)])
			}
		}
	}
	looked("an answer", answers.Bytes(), "/hooks/***?token=***")
	looked("an answer", answers.Bytes(), "# HELP gancho_")
	looked("the log", []byte(b.text()), `"endpoint":"refusing"`)
	var redis bytes.Buffer
	err = filepath.WalkDir(s.redis.Dir(), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		content, err := os.ReadFile(path)
		redis.Write(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	looked("Redis", redis.Bytes(), "{refusing}")
	looked("PostgreSQL", s.stateFiles(), "refusing")
	looked("PostgreSQL's log", []byte(s.postgres.Log()), "")
}

// stateFiles are the files of Gancho's own tables, with what has been deleted in them.
func (s *stateful) stateFiles() []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.stateDSN)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "checkpoint"); err != nil {
		s.t.Fatal(err)
	}
	rows, _ := conn.Query(ctx, `select pg_read_binary_file(pg_relation_filepath(oid)) from pg_class
		where (relnamespace = 'gancho'::regnamespace or oid in (select reltoastrelid from pg_class where relnamespace = 'gancho'::regnamespace)) and relkind in ('r', 't', 'i', 'S')`)
	files, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		s.t.Fatal(err)
	}
	return slices.Concat(files...)
}

// keyPair is a certificate of its own with its key.
func keyPair(t *testing.T) (certificate, key string) {
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
