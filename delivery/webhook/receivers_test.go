package webhook_test

import (
	"bytes"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"

	"github.com/google/go-cmp/cmp"
	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"
)

// documented returns the first block of code under a heading of
// docs/receivers.md.
func documented(t *testing.T, heading string) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/receivers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, ok := strings.Cut(string(text), "\n### "+heading+"\n")
	_, block, fenced := strings.Cut(section, "\n```")
	_, block, line := strings.Cut(block, "\n")
	block, _, closed := strings.Cut(block, "\n```\n")
	if !ok || !fenced || !line || !closed {
		t.Fatalf("docs/receivers.md has no code under %q", heading)
	}
	return block
}

// documentedMessage is the event of the document's examples.
func documentedMessage() *webhook.Message {
	m := fullMessage()
	m.Data = []byte(`{"id":42,"valor":129.90,"cliente":{"nome":"Ana"},"itens":["anuidade","taxa"],"nascimento":null}`)
	m.Previous, m.Unchanged = []byte(`{"valor":119.90}`), []byte(`["contrato"]`)
	m.Errors = []byte(`["nascimento"]`)
	return m
}

// TestDocumentedFormats: what the document shows is what is sent.
func TestDocumentedFormats(t *testing.T) {
	t.Parallel()
	for _, format := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatBare, endpoint.FormatCloudEvents, endpoint.FormatCloudEventsBinary, endpoint.FormatForm} {
		example := documented(t, format.String())
		r := sentBy(t, func(ep *endpoint.Endpoint) { ep.Format = format }, documentedMessage())
		switch format {
		case endpoint.FormatForm:
			var lines []string
			for field := range strings.SplitSeq(r.body, "&") {
				line, err := url.QueryUnescape(field)
				if err != nil {
					t.Fatal(err)
				}
				lines = append(lines, line)
			}
			if diff := cmp.Diff(example, strings.Join(lines, "\n")); diff != "" {
				t.Errorf("form (document -, sent +):\n%s", diff)
			}
			continue
		case endpoint.FormatCloudEventsBinary:
			headers, body, _ := strings.Cut(example, "\n\n")
			shown := 0
			for line := range strings.SplitSeq(headers, "\n") {
				name, value, _ := strings.Cut(line, ": ")
				if got := r.header.Get(name); got != value {
					t.Errorf("header %s: %q in the document, %q sent", name, value, got)
				}
				shown++
			}
			for name := range r.header {
				if strings.HasPrefix(name, "Ce-") {
					shown--
				}
			}
			if shown != 1 { // Content-Type
				t.Errorf("the document shows %d headers too many", shown-1)
			}
			example = body
		}
		if diff := cmp.Diff(decoded(t, []byte(example)), decoded(t, []byte(r.body))); diff != "" {
			t.Errorf("%s (document -, sent +):\n%s", format, diff)
		}
	}
}

// TestDocumentedSchedules are the defaults.
func TestDocumentedSchedules(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile("../../docs/receivers.md")
	if err != nil {
		t.Fatal(err)
	}
	inWords := func(waits []time.Duration) string {
		var words []string
		for _, w := range waits {
			switch {
			case w%time.Hour == 0:
				words = append(words, fmt.Sprintf("%d h", w/time.Hour))
			case w%time.Minute == 0:
				words = append(words, fmt.Sprintf("%d m", w/time.Minute))
			default:
				words = append(words, fmt.Sprintf("%d s", w/time.Second))
			}
		}
		last := len(words) - 1
		return strings.Join(words[:last], ", ") + " and " + words[last]
	}
	for _, phrase := range []string{
		"after " + inWords(endpoint.DefaultRetry()) + " |",
		"after " + inWords(endpoint.DefaultRetryRefused()) + " only |",
		fmt.Sprintf("(%d s unless set)", endpoint.DefaultTimeout/time.Second),
	} {
		if !strings.Contains(string(text), phrase) {
			t.Errorf("docs/receivers.md does not say %q", phrase)
		}
	}
	if endpoint.DefaultMaxAge != 3*24*time.Hour || endpoint.DefaultPauseAfter != 24*time.Hour {
		t.Error("docs/receivers.md says three days for max_age and a day for pause_after")
	}
}

// TestDocumentedReceivers runs the document's programs and sends to them. Those to copy are tested in examples.
func TestDocumentedReceivers(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		heading, file string
		runtime       string
		command       func(dir, port string) []string // run in dir
		forms         bool
	}{
		{"PHP with the official library", "receiver.php", "php", runPHP, false},
		{"fastify", "receiver.js", "node", func(string, string) []string {
			return []string{"env", "NODE_PATH=" + npmPackages(t), "node", "receiver.js"}
		}, true},
	} {
		t.Run(c.heading, func(t *testing.T) {
			t.Parallel()
			if _, err := exec.LookPath(c.runtime); err != nil {
				t.Fatal(c.runtime + " is not installed; run make deps")
			}
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, c.file), []byte(documented(t, c.heading)), 0o600); err != nil {
				t.Fatal(err)
			}
			if c.heading == "PHP with the official library" {
				installPHPLibrary(t, dir)
			}
			exerciseReceiver(t, dir, c.command, secrets(t, newerSecret)[0], c.forms)
		})
	}
}

func runPHP(_, port string) []string {
	return []string{"php", "-d", "display_errors=0", "-S", "127.0.0.1:" + port, "receiver.php"}
}

// installPHPLibrary puts Standard Webhooks' own library where composer would: it comes with the one for Go.
func installPHPLibrary(t *testing.T, dir string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-m", "-f", "{{.Dir}}", "github.com/standard-webhooks/standard-webhooks/libraries").Output()
	if err != nil {
		t.Fatal(err)
	}
	source := filepath.Join(strings.TrimSpace(string(out)), "php", "src")
	if err := os.Mkdir(filepath.Join(dir, "vendor"), 0o700); err != nil {
		t.Fatal(err)
	}
	load := "<?php foreach ([...glob('" + source + "/Exception/*.php'), '" + source + "/Webhook.php'] as $file) { require_once $file; }\n"
	if err := os.WriteFile(filepath.Join(dir, "vendor", "autoload.php"), []byte(load), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestPHPLibraryHeaderCase: the reason for array_change_key_case in the document.
func TestPHPLibraryHeaderCase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	installPHPLibrary(t, dir)
	const lowered = "array_change_key_case(getallheaders(), CASE_LOWER)"
	program := documented(t, "PHP with the official library")
	if !strings.Contains(program, lowered) {
		t.Fatalf("the document has no %s", lowered)
	}
	program = strings.Replace(program, lowered, "getallheaders()", 1)
	if err := os.WriteFile(filepath.Join(dir, "receiver.php"), []byte(program), 0o600); err != nil {
		t.Fatal(err)
	}
	key := secrets(t, newerSecret)[0]
	url, _ := startReceiver(t, dir, runPHP, key.Reveal())
	ep := local(url)
	ep.Secrets = []endpoint.Secret{key}
	if o := newSender(t, webhook.Options{}).Send(t.Context(), ep, documentedMessage()); o.Status != http.StatusUnauthorized {
		t.Errorf("the library has changed: the headers' names as PHP has them are answered %d", o.Status)
	}
}

// TestFastifyFormats: the program takes what fastify alone would answer 415 or 413.
func TestFastifyFormats(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "receiver.js"), []byte(documented(t, "fastify")), 0o600); err != nil {
		t.Fatal(err)
	}
	key := secrets(t, newerSecret)[0]
	url, output := startReceiver(t, dir, func(string, string) []string {
		return []string{"env", "NODE_PATH=" + npmPackages(t), "node", "receiver.js"}
	}, key.Reveal())
	sender := newSender(t, webhook.Options{})
	for _, format := range []endpoint.Format{endpoint.FormatStandard, endpoint.FormatCloudEvents, endpoint.FormatForm} {
		ep := local(url)
		ep.Secrets, ep.Format = []endpoint.Secret{key}, format
		m := documentedMessage()
		m.ID, m.Data = "large-"+format.String(), []byte(`{"texto":"`+strings.Repeat("ç\u2028", 1<<20)+`"}`)
		if o := sender.Send(t.Context(), ep, m); o.Status != http.StatusNoContent {
			t.Errorf("%s is answered %d, %v\n%s", format, o.Status, o.Err, output())
		}
		eventually(t, "the event", func() bool { return strings.Contains(output(), m.ID) })
	}
}

// exerciseReceiver starts the program with the key that a receiver has, and
// checks what it takes and what it refuses.
func exerciseReceiver(t *testing.T, dir string, command func(dir, port string) []string, key endpoint.Secret, forms bool) {
	t.Helper()
	url, output := startReceiver(t, dir, command, key.Reveal())
	sender := newSender(t, webhook.Options{})
	ep := local(url)
	ep.Secrets = []endpoint.Secret{endpoint.GenerateSecret(), endpoint.GenerateSigningKey(), key} // rotating
	send := func(ep *endpoint.Endpoint, id string) webhook.Outcome {
		m := documentedMessage()
		m.ID = "webhook-" + id
		return sender.Send(t.Context(), ep, m)
	}
	for _, id := range []string{"1", "2", "1"} { // a repeat at the end
		if o := send(ep, id); o.Status != http.StatusNoContent {
			t.Fatalf("a signed event is answered %d, %v\n%s", o.Status, o.Err, output())
		}
	}
	stranger := local(url)
	stranger.Secrets = []endpoint.Secret{endpoint.GenerateSecret(), endpoint.GenerateSigningKey()}
	unsigned := local(url)
	for name, ep := range map[string]*endpoint.Endpoint{"another's": stranger, "no": unsigned} {
		if o := send(ep, "3"); o.Status != http.StatusUnauthorized {
			t.Errorf("%s signature is answered %d, %v\n%s", name, o.Status, o.Err, output())
		}
	}
	if status := postOld(t, url, key); status != http.StatusUnauthorized {
		t.Errorf("an old request, well signed, is answered %d", status)
	}
	wanted := []string{"cobranca.liquidada webhook-1", "cobranca.liquidada webhook-2"}
	form := local(url)
	form.Format, form.Secrets = endpoint.FormatForm, ep.Secrets
	for range 2 { // a program that cannot read it must not take the repeat for one that it has taken
		status := http.StatusBadRequest
		if forms {
			status = http.StatusNoContent
		}
		if o := send(form, "4"); o.Status != status {
			t.Errorf("a form is answered %d, %v", o.Status, o.Err)
		}
	}
	if forms {
		wanted = append(wanted, "cobranca.liquidada webhook-4")
	}
	eventually(t, "the receiver's output", func() bool { return strings.Contains(output(), wanted[len(wanted)-1]) })
	for _, line := range wanted {
		if n := strings.Count(output(), line); n != 1 {
			t.Errorf("%q was taken %d times:\n%s", line, n, output())
		}
	}
	for _, line := range []string{"webhook-3", "old"} {
		if strings.Contains(output(), line) {
			t.Errorf("%q was taken:\n%s", line, output())
		}
	}
}

// startReceiver runs the program until the test ends.
func startReceiver(t *testing.T, dir string, command func(dir, port string) []string, key string) (url string, output func() string) {
	t.Helper()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	address := free.Addr().String()
	_, port, err := net.SplitHostPort(address)
	if err != nil {
		t.Fatal(err)
	}
	if err := free.Close(); err != nil {
		t.Fatal(err)
	}
	words := command(dir, port)
	run := exec.CommandContext(t.Context(), words[0], words[1:]...)
	said := &testservers.Transcript{}
	run.Dir, run.Stdout, run.Stderr = dir, said, said
	run.Env = append(os.Environ(), "PORT="+port, "WEBHOOK_KEY="+key, "TMPDIR="+dir)
	run.SysProcAttr = testservers.ChildAttr(syscall.SIGKILL, nil)
	if err := run.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = run.Wait() }) // killed: the test's context ends before
	eventually(t, "the receiver to listen", func() bool {
		c, err := net.Dial("tcp", address)
		if err == nil {
			_ = c.Close()
		}
		return err == nil
	})
	return "http://" + address, said.String
}

// eventually waits for what another program does.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	deadline := time.After(30 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited for %s", what)
		}
	}
}

// postOld sends what was signed ten minutes ago.
func postOld(t *testing.T, url string, key endpoint.Secret) (status int) {
	t.Helper()
	hook, err := standardwebhooks.NewWebhook(key.Reveal())
	if err != nil {
		t.Fatal(err)
	}
	at, body := time.Now().Add(-10*time.Minute), []byte(`{"type":"old","id":"old"}`)
	signature, err := hook.Sign("old", at, body)
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("webhook-id", "old")
	req.Header.Set("webhook-timestamp", strconv.FormatInt(at.Unix(), 10))
	req.Header.Set("webhook-signature", signature)
	transport := &http.Transport{DisableKeepAlives: true}
	answer, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.Copy(io.Discard, answer.Body)
	_ = answer.Body.Close()
	return answer.StatusCode
}
