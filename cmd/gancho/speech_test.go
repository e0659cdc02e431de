package main_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	main "gancho/cmd/gancho"
	"gancho/internal/language"
	"gancho/internal/testservers"
)

var updatePortuguese = flag.Bool("update-portuguese", false, "rewrite testdata/portuguese")

// inPortuguese runs the command line in this process, for somebody with LANG=pt_BR.
func inPortuguese(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	ctx := language.With(context.Background(), language.Of(language.Portuguese))
	code = main.Main(ctx, args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

// session are command lines with what they print.
type portugueseSession struct {
	t *testing.T
	strings.Builder
}

func (s *portugueseSession) run(code int, args ...string) {
	s.t.Helper()
	got, stdout, stderr := inPortuguese(s.t, args...)
	if got != code {
		s.t.Errorf("%v exits %d, not %d:\n%s%s", args, got, code, stdout, stderr)
	}
	_, _ = fmt.Fprintf(s, "$ gancho %s\n%s%s(exit %d)\n\n", strings.Join(args, " "), stdout, stderr, got)
}

// compare compares the session with testdata/portuguese; what differs from run to run is replaced first.
func (s *portugueseSession) compare(name string, replaced map[string]string) {
	s.t.Helper()
	text, file := s.String(), "testdata/portuguese/"+name+".golden"
	for pattern, with := range replaced {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
	}
	text = regexp.MustCompile(` {2,}`).ReplaceAllString(text, "  ") // columns are as wide as what was replaced
	if *updatePortuguese {
		if err := os.MkdirAll("testdata/portuguese", 0o755); err != nil {
			s.t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			s.t.Fatal(err)
		}
	}
	if diff := cmp.Diff(mustRead(s.t, file), text); diff != "" {
		s.t.Errorf("(-want +got; -update-portuguese rewrites it)\n%s", diff)
	}
}

// TestHelpSession: help and wrong use in Portuguese.
func TestHelpSession(t *testing.T) {
	t.Parallel()
	s := &portugueseSession{t: t}
	s.run(0, "--help")
	s.run(0, "help", "run")
	s.run(0, "dead", "drop", "--help")
	s.run(0, "endpoints", "--help")
	s.run(2, "chek")
	s.run(2, "run", "--crate")
	s.run(2, "run", "--only", "both")
	s.run(2, "endpoints", "show")
	s.run(2, "deliveries", "--limit", "0")
	s.run(2, "dead", "drop", "--all", "--endpoint", "crm")
	s.run(2, "resend", "--from", "amanhã")
	s.run(1, "check", "--config", "nowhere.yaml")
	s.compare("help", nil)
}

// helps are the helps of all commands, by command line, found in the lists of commands below a heading. The commands of
// completion explain shells, in the words of the library that they come from.
func helps(t *testing.T, heading string, run func(*testing.T, ...string) (int, string, string)) map[string]string {
	t.Helper()
	out := map[string]string{}
	var add func(path ...string)
	add = func(path ...string) {
		_, text, _ := run(t, append(slices.Clone(path), "--help")...)
		out[strings.Join(path, " ")] = text
		_, list, _ := strings.Cut(text, "\n"+heading+"\n")
		list, _, _ = strings.Cut(list, "\n\n")
		for _, m := range subcommand.FindAllStringSubmatch(list, -1) {
			if !slices.Contains(path, "completion") {
				add(append(slices.Clone(path), m[1])...)
			}
		}
	}
	add()
	return out
}

// TestTranslatedHelp: no text of any command's help is left in English, and no translation is of a text that is there no more.
func TestTranslatedHelp(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	english, portuguese := helps(t, "Available Commands:", command), helps(t, "Comandos:", inPortuguese)
	if len(english) < 60 || len(english) != len(portuguese) {
		t.Fatalf("%d commands in English, %d in Portuguese", len(english), len(portuguese))
	}
	example := regexp.MustCompile(`^ +(gancho |GANCHO_|[a-z-]+: |- \{|# yaml|snooze:|doctor:)`)
	for path, text := range english {
		said := map[string]bool{}
		for line := range strings.Lines(portuguese[path]) {
			said[strings.Join(strings.Fields(line), " ")] = true
		}
		for line := range strings.Lines(text) {
			if words := strings.Fields(line); len(words) > 1 && !example.MatchString(line) && said[strings.Join(words, " ")] {
				t.Errorf("gancho %s --help says in Portuguese: %s", path, line)
			}
		}
	}
	var all strings.Builder
	for _, text := range english {
		all.WriteString(text + "\n")
	}
	for key, text := range language.Of(language.English).Keys() {
		if !strings.HasPrefix(key, "cli.help.") && !strings.HasPrefix(key, "cli.flag.") || strings.HasPrefix(key, "cli.flag.chosen.") {
			continue
		}
		parts := regexp.MustCompile(`\{[a-z]+\}`).Split(strings.ReplaceAll(strings.TrimRight(text, "\n"), "`", ""), -1)
		for i, part := range parts {
			parts[i] = regexp.QuoteMeta(part)
		}
		if !regexp.MustCompile(strings.Join(parts, ".+?")).MatchString(all.String()) {
			t.Errorf("no help says what %s translates: %s", key, text)
		}
	}
}
