package webhook_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
)

// TestAdnanhWebhook: the receiver of shell scripts takes the preset github, and says 200 to
// what it refuses, unless a rule of success looks at what it says.
func TestAdnanhWebhook(t *testing.T) {
	t.Parallel()
	program, err := exec.LookPath("webhook")
	if err != nil {
		t.Fatal("webhook (github.com/adnanh/webhook) is not installed; run make deps")
	}
	const secret = "um segredo de vinte e quatro"
	hooks, err := json.Marshal([]map[string]any{{
		"id": "gancho", "execute-command": "/bin/true", "response-message": "evento aceito",
		"trigger-rule": map[string]any{"match": map[string]any{
			"type": "payload-hmac-sha256", "secret": secret, "parameter": map[string]string{"source": "header", "name": "X-Hub-Signature-256"},
		}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "hooks.json")
	if err := os.WriteFile(file, hooks, 0o600); err != nil {
		t.Fatal(err)
	}
	url := startAdnanh(t, program, file)
	sender := newSender(t, webhook.Options{})
	send := func(change func(*endpoint.Endpoint)) webhook.Outcome {
		ep := local(url + "/hooks/gancho")
		ep.Signatures, ep.Secrets = []endpoint.Signature{{Preset: "github"}}, secrets(t, secret)
		change(ep)
		return sender.Send(t.Context(), ep, fullMessage())
	}
	if o := send(func(*endpoint.Endpoint) {}); o.Kind != webhook.Delivered || string(o.Answer) != "evento aceito" {
		t.Errorf("outcome %s, answer %s: %v", o.Kind, o.Answer, o.Err)
	}
	if o := send(func(ep *endpoint.Endpoint) { ep.Secrets = secrets(t, newerSecret) }); o.Status != 500 || string(o.Answer) != "Error occurred while evaluating hook rules." {
		t.Errorf("the receiver has changed: outcome %s, answer %q: %v", o.Kind, o.Answer, o.Err)
	}
	unsigned := func(ep *endpoint.Endpoint) { ep.Signatures = nil }
	if o := send(unsigned); o.Kind != webhook.Delivered || string(o.Answer) != "Hook rules were not satisfied." {
		t.Errorf("the receiver has changed: outcome %s, answer %q: %v", o.Kind, o.Answer, o.Err)
	}
	success := endpoint.Success{Body: "^evento aceito$"}
	if o := send(func(ep *endpoint.Endpoint) { ep.Signatures, ep.Success = nil, success }); o.Kind == webhook.Delivered {
		t.Error("with the documented success it is delivered")
	}
	if o := send(func(ep *endpoint.Endpoint) { ep.Secrets, ep.Success = secrets(t, newerSecret, secret), success }); o.Kind != webhook.Delivered {
		t.Errorf("while two keys are valid: %s %v", o.Kind, o.Err)
	}
}

// startAdnanh starts webhook on a free port, which is its own only when it has said so: another
// process may have been faster.
func startAdnanh(t *testing.T, program, hooks string) (url string) {
	t.Helper()
	for range 10 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := l.Addr().String()
		_ = l.Close()
		host, port, _ := strings.Cut(address, ":")
		run := exec.CommandContext(context.WithoutCancel(t.Context()), program, "-hooks", hooks, "-ip", host, "-port", port, "-verbose")
		run.SysProcAttr = testservers.ChildAttr(syscall.SIGKILL, nil)
		said := &watched{serving: make(chan struct{}), ended: make(chan struct{})}
		run.Stdout, run.Stderr = said, said
		if err := run.Start(); err != nil {
			t.Fatal(err)
		}
		go func() {
			_ = run.Wait()
			close(said.ended)
		}()
		select {
		case <-said.serving:
			t.Cleanup(func() {
				_ = run.Process.Kill()
				<-said.ended
			})
			return "http://" + address
		case <-said.ended:
		}
	}
	t.Fatal("webhook has not started on any of ten ports")
	return ""
}

// watched notices when the program serves.
type watched struct {
	text           bytes.Buffer
	serving, ended chan struct{}
	noticed        bool
}

func (w *watched) Write(p []byte) (int, error) {
	w.text.Write(p)
	if !w.noticed && strings.Contains(w.text.String(), "serving hooks on") {
		w.noticed = true
		close(w.serving)
	}
	return len(p), nil
}
