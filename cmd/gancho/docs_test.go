package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// TestDeliveryPage runs every command of docs/delivery.md in its order, beside
// a running bridge: each has to do what it is there for, which is to end with 0.
func TestDeliveryPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/delivery.md")
	if err != nil {
		t.Fatal(err)
	}
	var commands []string
	for _, block := range regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		commands = append(commands, strings.Split(strings.TrimSpace(block[1]), "\n")...)
	}
	if len(commands) < 40 {
		t.Fatalf("the page has %d commands", len(commands))
	}
	s := newSession(t, "keep_events: 30d")
	r := newReceiver(t, nil)
	s.file("erp.yaml", "url: "+r.url()+"\nallow_http: true\nallow_private: 127.0.0.0/8\nformat: bare\n")
	s.fill()
	b := s.run()
	shell := s.shell()
	used := map[string]bool{}
	for _, line := range commands {
		if !strings.HasPrefix(line, "gancho ") {
			t.Errorf("%q is not a command of gancho", line)
			continue
		}
		used[strings.Fields(line)[1]] = true
		// The page's receiver is the test's.
		line = strings.Replace(line, "https://crm.example.com/hooks", r.url()+" --allow-http --allow-private 127.0.0.0/8", 1)
		if out, err := shell(line); err != nil {
			t.Errorf("%s: %v\n%s", line, err, tail(string(out), 1000))
		}
	}
	for _, command := range []string{"migrate", "secrets", "endpoints", "events", "dead", "resend", "deliveries", "audit", "tokens", "status"} {
		if !used[command] {
			t.Errorf("the page does not show gancho %s", command)
		}
	}
	b.stop()
}

// fill writes down a past for the page's examples: dead letters and events.
func (s *session) fill() {
	s.t.Helper()
	ctx := context.Background()
	at := time.Now().Add(-time.Hour)
	var dead []state.DeadLetter
	var events []webhook.Message
	for i := range 6 {
		id := fmt.Sprintf("pagina-%d", i)
		dead = append(dead, letter("crm-centro", "1", "4711", id, at))
		events = append(events, webhook.Message{
			ID: id, Type: "cobranca.paga", Tenant: "1", Key: "4711", Time: at, Sequence: fmt.Sprint(i), Data: []byte(`{"id":1}`),
		})
	}
	store := s.store()
	if err := store.WriteDead(ctx, dead); err != nil {
		s.t.Fatal(err)
	}
	if err := store.WriteEvents(ctx, events); err != nil {
		s.t.Fatal(err)
	}
}

// shell returns what runs a line as a person's shell does, with gancho on its
// path and the session's directory as the current one.
func (s *session) shell() func(line string) ([]byte, error) {
	s.t.Helper()
	self, err := filepath.Abs(os.Args[0])
	if err != nil {
		s.t.Fatal(err)
	}
	bin := s.t.TempDir()
	if err := os.Symlink(self, filepath.Join(bin, "gancho")); err != nil {
		s.t.Fatal(err)
	}
	return func(line string) ([]byte, error) {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "sh", "-c", line)
		cmd.Dir = s.dir
		cmd.Env = commandEnv("PATH="+bin+":"+os.Getenv("PATH"), "ERP_KEY=chave-do-erp")
		return cmd.CombinedOutput()
	}
}
