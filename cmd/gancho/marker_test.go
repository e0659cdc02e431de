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
	"gancho/internal/testservers"
)

// hidden are what nobody may read, by what they are. Each stands in its place only.
var hidden = map[string]string{
	"path": "Xm1pathQ7w", "query": "Xm2queryQ7w", "header": "Xm3headerQ7w", "bearer": "Xm4bearerQ7w", "field": "Xm5fieldQ7w", "proxy": "Xm6proxyQ7w",
	"secret": "Xm7secret-of-at-least-24-bytes", "hmac": "Xm8hmac-of-sixteen", "dsn": "Xm9passwordQ7w", "wrong": "Xm0wrongQ7w", "row": "XmArowQ7w",
	"password": "XmBpasswordQ7w", "login": "XmCbearerQ7w", "client": "XmDclientQ7w", "access": "XmEaccessQ7w",
}

// TestSecretsAreNowhere puts a marker into every place that takes a secret, has deliveries
// succeed and fail in every way, reads everything that can be read, and then looks for the
// markers in what came and in what is stored.
func TestSecretsAreNowhere(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newStateful(t, pg, nil, loadTable)
	s.rules = strings.Replace(loadRules, "data: {id: id,", "tenant: cliente_id\n    data: {id: id, parte: 10 / seq, hash: \"hmac(id::text, 'chave')\",", 1)
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
	logins := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasSuffix(r.URL.Path, "/refused") {
			echo(http.StatusUnauthorized)(w, r)
			return
		}
		_ = json.NewEncoder(w).Encode(map[string]any{"access_token": hidden["access"], "token_type": "Bearer", "expires_in": 3600})
	}))
	t.Cleanup(logins.Close)
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
	// ask makes a request whose answer has the status, and returns the answer's body.
	ask := func(status int, method, path, who string, body any) string {
		t.Helper()
		token := tokens[who]
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
		got, err := io.ReadAll(answer.Body)
		if err != nil {
			t.Fatal(err)
		}
		if answers.Write(got); answer.StatusCode != status {
			t.Errorf("%s %s %s as %s: %d, not %d: %s", method, path, text, who, answer.StatusCode, status, got)
		}
		return string(got)
	}
	type document = map[string]any
	added := map[string]document{
		"stored": {"url": delivered.url() + path}, "refusing": {"url": refusing.URL + path, "format": "form", "extra": document{"token": hidden["field"]}},
		"unidade":     {"url": refusing.URL + path, "tenants": []string{"1"}, "extra": document{"token": hidden["field"]}, "format": "form"},
		"redirecting": {"url": redirecting.URL + path}, "closed": {"url": "http://" + closedPort(t) + path}, "forbidden": {"url": "http://localhost.:9" + path, "allow_private": nil},
		"proxied":   {"url": delivered.url() + path, "proxy": "http://user:" + hidden["proxy"] + "@" + closedPort(t)},
		"untrusted": {"url": untrusted.URL + path, "tls": document{"certificate": certificate, "key": key}},
		"basic":     {"url": refusing.URL + path, "headers": nil, "auth": document{"basic": document{"user": "ana", "password": hidden["password"]}}},
		"bearer":    {"url": refusing.URL + path, "headers": nil, "auth": document{"bearer": hidden["login"]}},
		"oauth":     {"url": refusing.URL + path, "headers": nil, "auth": document{"oauth2": document{"token_url": logins.URL + path, "client_id": "academia", "client_secret": hidden["client"]}}},
		"shut":      {"url": refusing.URL + path, "headers": nil, "auth": document{"oauth2": document{"token_url": logins.URL + "/refused", "client_id": "academia", "client_secret": hidden["client"]}}},
	}
	for name, more := range added {
		d := document{"name": name, "secret": signing, "headers": headers, "allow_http": true, "allow_private": []string{"127.0.0.0/8"}, "retry": []string{"10ms"}, "retry_refused": []string{"10ms"}}
		for k, v := range more {
			if d[k] = v; v == nil {
				delete(d, k)
			}
		}
		ask(http.StatusCreated, http.MethodPost, "/api/v1/endpoints", "root", d)
		s.stored++
		b.waitLog(fmt.Sprintf(`"stored":%d,`, s.stored))
	}
	s.events(1, 2)
	s.exec("insert into eventos (cliente_id, seq, texto) values (1, 0, '" + hidden["row"] + "')") // is parked
	s.until(len(added)+1, `select count(distinct endpoint) from gancho.attempts`)
	const died = `select count(distinct endpoint)::int from gancho.dead_letters where tenant = '1' and endpoint in ('refusing', 'unidade')`
	s.until(2, died)

	// Jobs of each kind, which have ended.
	ask(http.StatusAccepted, http.MethodPost, "/api/v1/dead-letters/redrive", "one", document{"filter": document{"endpoint": "unidade"}})
	ask(http.StatusAccepted, http.MethodPost, "/api/v1/resends", "root", document{"endpoint": "redirecting", "filter": document{"tenant": "1"}})
	ask(http.StatusAccepted, http.MethodPost, "/api/v1/parked/redrive", "root", document{"all": true})
	s.until(3, `select count(*) from gancho.jobs where finished is not null`)
	s.until(2, died+` and (replay or endpoint = 'refusing')`)
	number := func(sql string) string { return fmt.Sprint(s.count(sql)) }
	dead := number(`select min(id)::int from gancho.dead_letters where endpoint = 'refusing' and tenant = '1'`)
	ownDead := number(`select min(id)::int from gancho.dead_letters where endpoint = 'unidade'`)
	ownJob := number(`select min(id)::int from gancho.jobs where endpoint = 'unidade'`)
	var parked struct{ Items []struct{ ID string } }
	if err := json.Unmarshal([]byte(ask(http.StatusOK, http.MethodGet, "/api/v1/parked", "root", nil)), &parked); err != nil || len(parked.Items) != 1 {
		t.Fatal(parked, err)
	}

	// Everything that can be read and got wrong, over the API and the command line.
	wrong := hidden["wrong"]
	foreign := func(name string, status int) int {
		if name == "unidade" {
			return status
		}
		return http.StatusNotFound
	}
	for name := range added {
		at := "/api/v1/endpoints/" + name
		for _, edit := range []struct {
			status int
			patch  document
		}{
			{http.StatusOK, document{"rate": "9/s"}}, {http.StatusBadRequest, document{"headers": document{"X-Key": wrong + "\n"}}},
			{http.StatusBadRequest, document{"url": "https://u:" + wrong + "@x.com/a/" + wrong}}, {http.StatusBadRequest, document{"url": "https://elsewhere.example.com/a"}},
			{http.StatusBadRequest, document{"proxy": wrong}}, {http.StatusBadRequest, document{"tls": document{"key": wrong, "certificate": wrong}}},
			{http.StatusBadRequest, document{"secret": wrong}}, {http.StatusBadRequest, document{"extra": wrong}}, {http.StatusBadRequest, document{"success": document{"body": "("}}},
		} {
			ask(edit.status, http.MethodPatch, at, "root", edit.patch)
			ask(foreign(name, edit.status), http.MethodPatch, at, "one", edit.patch)
		}
		for who, of := range map[string]func(string, int) int{"root": func(_ string, status int) int { return status }, "one": foreign} {
			ask(http.StatusBadRequest, http.MethodPost, at+"/rotate", who, document{"secret": wrong})
			ask(of(name, http.StatusOK), http.MethodPost, at+"/test", who, nil)
			ask(of(name, http.StatusOK), http.MethodGet, at, who, nil)
		}
		ask(http.StatusOK, http.MethodGet, at, "eyes", nil)
		ask(foreign(name, http.StatusOK), http.MethodGet, at, "shown", nil)
	}
	tokens["nobody"], tokens["wrong"] = "gancho_"+strings.Repeat("0", 43), wrong
	ask(http.StatusUnauthorized, http.MethodGet, "/api/v1/endpoints", "wrong", nil)
	delete(tokens, "wrong")
	for list, statuses := range map[string][4]int{ // for administrators and viewers, then those of the tenant
		"/endpoints": {200, 200, 200, 200}, "/endpoints/arquivo": {200, 200, 404, 404}, "/endpoints/arquivo/keys": {200, 200, 404, 404}, "/endpoints/unidade/keys": {200, 200, 200, 200},
		"/deliveries": {200, 200, 200, 200}, "/dead-letters": {200, 200, 200, 200}, "/dead-letters/" + dead: {200, 200, 200, 200}, "/dead-letters/" + ownDead: {200, 200, 200, 200},
		"/parked": {200, 200, 404, 404}, "/parked/" + parked.Items[0].ID: {200, 200, 404, 404}, "/resends": {200, 200, 200, 200}, "/resends/" + ownJob: {200, 200, 200, 200},
		"/event-types": {200, 200, 200, 200}, "/status": {200, 200, 200, 200}, "/audit?limit=500": {200, 200, 200, 200}, "/tokens": {200, 403, 200, 403},
	} {
		for i, who := range []string{"root", "eyes", "one", "shown"} {
			got := ask(statuses[i], http.MethodGet, "/api/v1"+list, who, nil)
			// The control: the receiver's echo has come, and come masked.
			echoed := strings.Contains(got, "X-Key: ***") && strings.Contains(got, "Authorization: ***") && strings.Contains(got, "token=***")
			if echoes := list == "/dead-letters/"+ownDead || list == "/dead-letters/"+dead && i < 2; echoed != echoes {
				t.Errorf("GET %s as %s: the echo of the receiver is in it: %v, want %v: %s", list, who, echoed, echoes, got)
			}
		}
		ask(http.StatusUnauthorized, http.MethodGet, "/api/v1"+list, "nobody", nil)
	}
	ask(http.StatusOK, http.MethodGet, "/api/v1/openapi.json", "nobody", nil)
	for _, page := range []string{"/metrics", "/readyz", "/healthz"} {
		ask(http.StatusOK, http.MethodGet, page, "", nil)
	}
	config := filepath.Join(s.dir, "gancho.yaml")
	for _, line := range []string{
		"endpoints list", "endpoints list --json", "endpoints show refusing", "endpoints show oauth --json", "endpoints test oauth", "endpoints test shut --json", "endpoints test basic", "endpoints test bearer", "endpoints show proxied --json", "endpoints test arquivo", "endpoints test refusing", "endpoints test closed --json",
		"endpoints edit refusing --url https://elsewhere.example.com/" + wrong, "endpoints edit refusing --header X-Key:" + wrong + "\x01", "endpoints edit refusing --set proxy=" + wrong,
		"endpoints edit refusing --set tls.key=[" + wrong, "endpoints edit refusing --set headers.X-Key=*" + wrong, "endpoints add novo --url ftp://" + wrong, "endpoints rotate refusing --secret-env GANCHO_NOT_SET",
		"deliveries --json", "deliveries", "dead list", "dead list --json", "dead show " + dead, "dead show --json " + dead, "parked list --json", "parked show " + parked.Items[0].ID, "status", "status --json", "audit", "audit --json", "tokens list", "check", "events --json", "secrets rekey",
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
	forbidden["the basic login"] = base64.StdEncoding.EncodeToString([]byte("ana:" + hidden["password"]))
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
	looked("PostgreSQL", s.stateValues(), "unidade")
	looked("PostgreSQL's log", []byte(s.postgres.Log()), "ready to accept connections")
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

// stateValues are the values of Gancho's own tables, as the server has them uncompressed.
func (s *stateful) stateValues() []byte {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.stateDSN)
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	rows, _ := conn.Query(ctx, `select oid::regclass::text from pg_class where relnamespace = 'gancho'::regnamespace and relkind in ('r', 'p')`)
	tables, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		s.t.Fatal(err)
	}
	var all bytes.Buffer
	for _, table := range tables {
		rows, _ := conn.Query(ctx, "select * from "+table)
		for rows.Next() {
			for _, value := range rows.RawValues() { // of bytea, its bytes
				all.Write(value)
				all.WriteByte('\n')
			}
		}
		if err := rows.Err(); err != nil {
			s.t.Fatal(err)
		}
	}
	return all.Bytes()
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
