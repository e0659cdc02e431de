package main_test

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// TestDeliveryPage runs every command of docs/delivery.md in its order, beside
// a running bridge: each has to do what it is there for, which is to end with 0.
func TestDeliveryPage(t *testing.T) {
	testservers.Whole(t)
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
	s.rules = loadRules + "    tags: {pedido: id}\n" // the page searches by it
	s.path = s.write()
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

// TestOperationsMessages: what a bridge logs as a warning or an error is in the page for DBAs, up
// to its first comma, colon or semicolon.
func TestOperationsMessages(t *testing.T) {
	t.Parallel()
	page := mustRead(t, "../../docs/operations.md")
	logged := regexp.MustCompile(`(?s)\.(?:Error|Warn)\(\)(?:[^;{}]{0,400}?)\.Msgf?\(\s*"((?:[^"\\]|\\.)*)"`)
	messages := 0
	for _, root := range []string{"../../cdc", "../../mapping", "../../delivery", "../../internal/api", "../../internal/bridge", "../../internal/control", "../../internal/state"} {
		err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
			if err != nil || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
				return err
			}
			for _, m := range logged.FindAllStringSubmatch(mustRead(t, path), -1) {
				messages++
				begin, _, _ := strings.Cut(m[1], ";")
				begin = strings.TrimSpace(regexp.MustCompile(`[,:].*`).ReplaceAllString(begin, ""))
				if !strings.Contains(page, "`"+begin) {
					t.Errorf("%s: write a row about %q in docs/operations.md, under Messages, and what to do", path, begin)
				}
			}
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if messages < 40 {
		t.Errorf("only %d messages were found", messages)
	}
}

// TestOperationsCommands: the commands of the page for DBAs exist, with these options.
func TestOperationsCommands(t *testing.T) {
	t.Parallel()
	page := mustRead(t, "../../docs/operations.md")
	commands := 0
	for _, m := range regexp.MustCompile("(?m)(?:`|^)(gancho [a-z][^`#\n;|]*)").FindAllStringSubmatch(page, -1) {
		commands++
		var path, options []string
		for i, word := range strings.Fields(m[1])[1:] {
			switch {
			case strings.HasPrefix(word, "--"):
				name, _, _ := strings.Cut(word, "=")
				options = append(options, name)
			case len(options) == 0 && len(path) == i && regexp.MustCompile(`^[a-z-]+$`).MatchString(word):
				path = append(path, word)
			}
		}
		code, help, stderr := command(t, append(path, "--help")...)
		if code != 0 {
			t.Errorf("%s: exit %d: %s", m[1], code, stderr)
		}
		for _, option := range options {
			if !regexp.MustCompile(regexp.QuoteMeta(option) + `\b`).MatchString(help) {
				t.Errorf("%s: there is no %s", m[1], option)
			}
		}
	}
	if commands < 40 {
		t.Errorf("only %d commands were found", commands)
	}
}
