package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"gancho/config"
	"gancho/internal/testservers"
)

// TestListenerTLS: names of files, relative to the configuration's, of a certificate and its own key.
func TestListenerTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testservers.WriteCertificate(t, dir, "a", time.Hour)
	testservers.WriteCertificate(t, dir, "b", time.Hour)
	for name, text := range map[string]string{"rules.yaml": "rules: []\n", "empty.pem": ""} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	load := func(rest string) (*config.Config, error) {
		file := filepath.Join(dir, "gancho.yaml")
		text := "source: {dsn: 'host=db dbname=a'}\nqueue: {redis: 'redis://r:6379/0'}\nrules: [rules.yaml]\n" + rest
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return config.Load(file, env)
	}
	c, err := load("state: {key: segredo}\nhttp: {listen: '0.0.0.0:8620', tls: {certificate: a.pem, key: a.key}, metrics_token: 0123456789abcdef0123456789abcdef}\n" +
		"console: {tls: {certificate: " + dir + "/b.pem, key: b.key}}\n")
	if err != nil {
		t.Fatal(err)
	}
	if c.HTTP.TLS.Certificate != filepath.Join(dir, "a.pem") || c.HTTP.TLS.Key != filepath.Join(dir, "a.key") || !c.Console.TLS.On() {
		t.Errorf("%+v, %+v", c.HTTP.TLS, c.Console.TLS)
	}
	if w := c.Warnings(); len(w) != 0 {
		t.Errorf("warnings: %q", w)
	}
	c, err = load("state: {key: segredo}\nconsole: {listen: '0.0.0.0:8630', public_url: 'https://a.example.com'}\n")
	if err != nil {
		t.Fatal(err)
	}
	if w := c.Warnings(); len(w) != 1 || !strings.HasPrefix(w[0], "console.listen is 0.0.0.0:8630, beyond this machine") || !strings.Contains(w[0], "add console.tls") {
		t.Errorf("warnings of a console without TLS: %q", w)
	}
	for rest, want := range map[string]string{
		"http: {tls: {certificate: a.pem}}":                                                     "key",
		"http: {tls: {key: a.key}}":                                                             "certificate",
		"http: {tls: {cert: a.pem, key: a.key}}":                                                "certificate",
		"http: {tls: true}":                                                                     "gancho.yaml:4",
		"http: {tls: {certificate: a.pem, key: b.key}}":                                         "do not belong together",
		"http: {tls: {certificate: empty.pem, key: a.key}}":                                     "write both as PEM files",
		"http: {tls: {certificate: c.pem, key: a.key}}":                                         "no such file",
		"console: {tls: {certificate: a.pem, key: a.key}, public_url: 'http://localhost:8630'}": "the listener speaks TLS",
		"console: {listen: '0.0.0.0:8630', tls: {certificate: a.pem, key: a.key}}":              "add public_url:",
	} {
		if _, err := load(rest + "\n"); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "PRIVATE") {
			t.Errorf("%s: %v; want %q", rest, err, want)
		}
	}
}

// TestLoadHTTP: a health check asks the bridge that runs, whatever else the file has by now.
func TestLoadHTTP(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	testservers.WriteCertificate(t, dir, "a", time.Hour)
	testservers.WriteCertificate(t, dir, "b", time.Hour)
	file := filepath.Join(dir, "gancho.yaml")
	for text, want := range map[string]string{
		"http: {listen: '127.0.0.1:8999', tls: {certificate: a.pem, key: a.key}}":  "127.0.0.1:8999",
		"http: {listen: '127.0.0.1:8999', tls: {certificate: a.pem, key: b.key}}":  "127.0.0.1:8999", // half renewed
		"http: {listen: '127.0.0.1:8999', tls: {certificate: c.pem, key: b.key}}":  "127.0.0.1:8999",
		"source: {dsn: '${UNSET}'}\nhttp: {tls: {certificate: a.pem, key: b.key}}": "127.0.0.1:8620",
		"http: {listen: '8999', tls: {certificate: a.pem, key: a.key}}":            "",
		"http: {listen: '127.0.0.1:8999', tls: {certificate: a.pem}}":              "",
		"http: {listen: ": "",
	} {
		if err := os.WriteFile(file, []byte(text+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		h, err := config.LoadHTTP(file, env)
		if (want == "") != (err != nil) {
			t.Errorf("%s: %v", text, err)
		}
		if err == nil && (h.Listen != want || !h.TLS.On()) {
			t.Errorf("%s: %+v", text, h)
		}
	}
	if _, err := config.LoadHTTP(filepath.Join(dir, "none.yaml"), env); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("no file: %v", err)
	}
}
