package config_test

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"gancho/config"
	"gancho/internal/testservers"
)

// marker stands for key material.
const marker = "Xm4rkerX7q2w9e5r1t3y"

// withMarker is a configuration whose one place is filled with the text.
const (
	wholeMarked = "source: {dsn: %s, lookup_dsn: %s, slot: gancho, publication: gancho}\nstate: {dsn: %s, key: %s}\n" +
		"queue: {redis: %s}\nrules: [rules.yaml]\nprivacy: {secrets: {cpf: %s}}\nendpoints:\n  - name: crm\n    url: %s\n    secret: %s\n    headers: {X-Key: %s}\n" +
		"    extra: {token: %s}\n    proxy: %s\n    tls: {key: %s, certificate: %s, ca: %s}\n"
	sentinelMarked = "source: {dsn: 'postgres://a@b/c'}\nqueue: {sentinel: {master: m, addresses: ['a:1'], password: %s, sentinel_password: %s}}\nrules: [rules.yaml]\n"
	clusterMarked  = "source: {dsn: 'postgres://a@b/c'}\nqueue: {cluster: {addresses: ['a:1'], password: %s}}\nrules: [rules.yaml]\n"
)

// TestWrongKeyMaterialIsNotRepeated: however a secret is mistaken, and wherever it
// stands, no message holds it.
func TestWrongKeyMaterialIsNotRepeated(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "rules.yaml"), []byte("rules: []\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	var forms []string
	for _, text := range []string{
		"M", "M:M", "M,M", "M=M", "whsec_M", "whsk_M", "whpk_M", "M ", "/M/M", "./M.pem", "M@M", "#M", "?M", "%zzM", "$M", "${M", "$${M}", "***M", "***",
		"postgres://u:M@", "postgres://u:M@h:port/d", "postgres://u:M@%zz/d", "postgres://u:M/x@h/d", "postgres://u@h/d?password=M&sslmode=M", "host=h password=M port=x",
		"host=h password='M", "password=M =", "postgres://M", "redis://:M@", "redis://:M@h:x/0", "redis://:M@h/z", "redis://:M@h/0?M=1", "redis-sentinel://:M@h", "rediss://u:M@%zz",
		"http://u:M@", "http://u:M@h", "http://u:M@h:1/M", "ftp://u:M@h:1", "https://u:M@h/", "https://h/M#M", "https://h/M/M%zz", "https://h:M/", "://M",
		"-----BEGIN PRIVATE KEY-----\nMMMM\n-----END PRIVATE KEY-----\n", "-----BEGIN CERTIFICATE-----\nMMMM\n-----END CERTIFICATE-----\n",
	} {
		text = strings.ReplaceAll(text, "M", marker)
		forms = append(forms, text, "'"+strings.ReplaceAll(text, "'", "''")+"'", fmt.Sprintf("%q", text))
	}
	for _, raw := range []string{
		"[M]", "{M: 1}", "{M: M, M: M}", "[M", "{M", "'M", `"M`, `"\M"`, "*M", "&M x", "&M", "!M x", "!!M x", "!!binary M", "!!int M", "@M", "`M", "%M", "|M", ">M", "? M", "- M", "M: M", "<<: M", "{<<: M}", "M\tM: \tM",
	} {
		forms = append(forms, strings.ReplaceAll(raw, "M", marker))
	}
	forms = testservers.Sample(forms)
	parse := func(document string, values []any) error {
		_, err := config.Parse(filepath.Join(dir, "gancho.yaml"), fmt.Appendf(nil, document, values...), func(string) (string, bool) { return "", false })
		return err
	}
	server := httptest.NewTLSServer(nil)
	t.Cleanup(server.Close)
	pair := &server.TLS.Certificates[0]
	private, err := x509.MarshalPKCS8PrivateKey(pair.PrivateKey)
	if err != nil {
		t.Fatal(err)
	}
	asText := func(kind string, der []byte) string {
		return fmt.Sprintf("%q", pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	key, certificate := asText("PRIVATE KEY", private), asText("CERTIFICATE", pair.Certificate[0])
	tried, refused := 0, map[string]bool{}
	for _, marked := range []struct {
		document string
		right    []any
	}{
		{wholeMarked, []any{
			"postgres://a@b/c", "postgres://a@b/c", "postgres://a@b/c", "k1:MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "redis://h", "sixteen-bytes-and-more",
			"https://h/a", "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "v", "v", "http://h:1", key, certificate, certificate,
		}},
		{sentinelMarked, []any{"v", "v"}},
		{clusterMarked, []any{"v"}},
	} {
		if err := parse(marked.document, marked.right); err != nil {
			t.Fatalf("the right values are refused: %v", err)
		}
		for hole := range marked.right {
			wrong := 0
			for _, form := range forms {
				// A secret ends its own line here: what follows it is not the test's subject.
				alone, among := slices.Clone(marked.right), slices.Repeat([]any{"''"}, len(marked.right))
				alone[hole], among[hole] = form, form
				for _, values := range [][]any{alone, among} { // among more mistakes, which have messages of their own
					err := parse(marked.document, values)
					if err != nil && strings.Contains(err.Error(), marker) {
						t.Errorf("place %d, %q: %v", hole, form, oneOf(err.Error()))
					}
					if tried++; err != nil && &values[0] == &alone[0] {
						refused[form] = true
						wrong++
					}
				}
			}
			if wrong == 0 {
				t.Errorf("no form is refused at place %d of %.30q, so it shows nothing", hole, marked.document)
			}
		}
	}
	for _, form := range forms {
		if !refused[form] {
			t.Errorf("%q is refused nowhere, so it shows nothing", form)
		}
	}
	t.Logf("%d forms in their places", tried)
}

// oneOf is the line that holds the marker.
func oneOf(text string) string {
	for line := range strings.Lines(text) {
		if strings.Contains(line, marker) {
			return line
		}
	}
	return ""
}
