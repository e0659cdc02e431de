//go:build fronts

package webhook_test

import (
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// TestDocumentedFronts runs what docs/receivers.md has for proxies. make deps installs none of them: go test -tags fronts, on a
// machine that has nginx, caddy, haproxy, apache2 and openssl.
func TestDocumentedFronts(t *testing.T) {
	t.Parallel()
	const password = "uma senha longa"
	key := secrets(t, newerSecret)
	digest := func(words ...string) string {
		out, err := exec.CommandContext(t.Context(), words[0], append(words[1:], password)...).Output()
		if err != nil {
			t.Fatal(words, err)
		}
		return strings.TrimSpace(string(out))
	}
	caddyHash := func() string {
		out, err := exec.CommandContext(t.Context(), "caddy", "hash-password", "--plaintext", password).Output()
		if err != nil {
			t.Fatal(err)
		}
		return strings.TrimSpace(string(out))
	}
	for heading, run := range map[string]func(dir, config string) []string{
		"nginx": func(dir, config string) []string {
			htpasswd := "gancho:" + digest("openssl", "passwd", "-apr1") + "\n"
			write(t, dir, "gancho.htpasswd", htpasswd)
			config = strings.Replace(config, "/etc/nginx", dir, 1)
			write(t, dir, "nginx.conf", "daemon off; user root; pid "+dir+"/pid; error_log "+dir+"/error.log; events {}\nhttp { access_log off; client_body_temp_path "+dir+"/body; proxy_temp_path "+dir+"/proxy; fastcgi_temp_path "+dir+"/f; uwsgi_temp_path "+dir+"/u; scgi_temp_path "+dir+"/s;\n"+config+"}\n")
			return []string{"nginx", "-c", filepath.Join(dir, "nginx.conf"), "-e", filepath.Join(dir, "error.log")}
		},
		"Caddy": func(dir, config string) []string {
			write(t, dir, "Caddyfile", "{\n\tadmin off\n\tauto_https off\n}\n"+strings.Replace(config, "$2a$14$HASH", caddyHash(), 1))
			return []string{"caddy", "run", "--config", filepath.Join(dir, "Caddyfile"), "--adapter", "caddyfile"}
		},
		"HAProxy": func(dir, config string) []string {
			write(t, dir, "haproxy.cfg", strings.Replace(config, "$6$HASH", digest("openssl", "passwd", "-6"), 1)+"\n")
			return []string{"haproxy", "-db", "-f", filepath.Join(dir, "haproxy.cfg")}
		},
		"Apache": func(dir, config string) []string {
			write(t, dir, "gancho.htpasswd", "gancho:"+digest("openssl", "passwd", "-apr1")+"\n")
			var modules strings.Builder
			for _, m := range []string{"mpm_event", "authn_core", "authn_file", "authz_core", "authz_user", "auth_basic", "proxy", "proxy_http"} {
				modules.WriteString("LoadModule " + m + "_module /usr/lib/apache2/modules/mod_" + m + ".so\n")
			}
			config = strings.Replace(config, "/etc/apache2", dir, 1)
			_, port, _ := strings.Cut(config, "*:")
			port, _, _ = strings.Cut(port, ">")
			write(t, dir, "apache.conf", modules.String()+"ServerRoot "+dir+"\nServerName localhost\nPidFile "+dir+"/pid\nErrorLog "+dir+"/error.log\nUser www-data\nGroup www-data\nListen 127.0.0.1:"+port+"\n"+config+"\n")
			return []string{"apache2", "-DFOREGROUND", "-f", filepath.Join(dir, "apache.conf")}
		},
	} {
		t.Run(heading, func(t *testing.T) {
			t.Parallel()
			receiver := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if webhook.Verify(key, r.Header, body, time.Now()) != nil {
					w.WriteHeader(http.StatusUnauthorized)
					return
				}
				w.WriteHeader(http.StatusNoContent)
			}))
			dir, err := os.MkdirTemp("", "front") // readable for the programs' own users
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			if err := os.Chmod(dir, 0o755); err != nil {
				t.Fatal(err)
			}
			address := freeAddress(t)
			_, port, _ := net.SplitHostPort(address)
			config := strings.NewReplacer("8081", port, "127.0.0.1:8080", strings.TrimPrefix(receiver, "http://")).Replace(documented(t, heading))
			startFront(t, address, run(dir, config))
			send := func(change func(*endpoint.Endpoint, *webhook.Message)) webhook.Outcome {
				ep, m := local("http://"+address+"/hooks"), documentedMessage()
				ep.Secrets, ep.Auth.Basic = key, endpoint.BasicAuth{User: "gancho", Password: password}
				change(ep, m)
				return newSender(t, webhook.Options{}).Send(t.Context(), ep, m)
			}
			for name, c := range map[string]struct {
				status int
				change func(*endpoint.Endpoint, *webhook.Message)
			}{
				"right":       {204, func(*endpoint.Endpoint, *webhook.Message) {}},
				"form":        {204, func(ep *endpoint.Endpoint, _ *webhook.Message) { ep.Format = endpoint.FormatForm }},
				"cloudevents": {204, func(ep *endpoint.Endpoint, _ *webhook.Message) { ep.Format = endpoint.FormatCloudEventsBinary }},
				"large": {204, func(_ *endpoint.Endpoint, m *webhook.Message) {
					m.Data = []byte(`"` + strings.Repeat("x", 20<<20) + `"`)
				}},
				"another key":  {401, func(ep *endpoint.Endpoint, _ *webhook.Message) { ep.Secrets = secrets(t, rawSecret) }},
				"no password":  {401, func(ep *endpoint.Endpoint, _ *webhook.Message) { ep.Auth = endpoint.Auth{} }},
				"wrong":        {401, func(ep *endpoint.Endpoint, _ *webhook.Message) { ep.Auth.Basic.Password = "errada" }},
				"unknown path": {404, func(ep *endpoint.Endpoint, _ *webhook.Message) { ep.URL = "http://" + address + "/outro" }},
				"deeper path":  {404, func(ep *endpoint.Endpoint, _ *webhook.Message) { ep.URL = "http://" + address + "/" }},
			} {
				if o := send(c.change); o.Status != c.status {
					t.Errorf("%s: answered %d (%v), want %d", name, o.Status, o.Err, c.status)
				}
			}
			ep := local("http://" + address + "/hooks")
			ep.Secrets, ep.Auth.Basic = key, endpoint.BasicAuth{User: "gancho", Password: password}
			sender := newSender(t, webhook.Options{})
			for range 50 { // over kept connections
				if o := sender.Send(t.Context(), ep, documentedMessage()); o.Kind != webhook.Delivered {
					t.Fatal(o.Err)
				}
			}
			x := sender.Probe(t.Context(), ep, message())
			for _, p := range sender.ProbeWrong(t.Context(), ep, message(), &x) {
				if p.Accepted {
					t.Errorf("a wrong %s is answered %d", p.Kind, p.Status)
				}
			}
		})
	}
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // for the programs' own users
		t.Fatal(err)
	}
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

// startFront runs the program until the test ends.
func startFront(t *testing.T, address string, words []string) {
	t.Helper()
	run := exec.CommandContext(t.Context(), words[0], words[1:]...)
	said := &testservers.Transcript{}
	run.Stdout, run.Stderr = said, said
	run.SysProcAttr = testservers.ChildAttr(syscall.SIGTERM, nil)
	run.Cancel = func() error { return run.Process.Signal(syscall.SIGTERM) }
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Wait() })
	eventually(t, words[0]+" to listen: "+said.String(), func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
}
