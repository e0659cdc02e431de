package main_test

import (
	"cmp"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

var updateHelp = flag.Bool("update-help", false, "rewrite testdata/help")

// TestHelpOfEveryCommand holds the help of each command, and what it says to an option that it does not have, against
// testdata/help: a file for each command of gancho --help, with those below it.
func TestHelpOfEveryCommand(t *testing.T) {
	t.Parallel()
	files := map[string]bool{}
	for _, name := range append([]string{""}, commandsBelow(t)...) {
		var session strings.Builder
		record(t, &session, strings.Fields(name), name != "")
		file := filepath.Join("testdata", "help", cmp.Or(name, "gancho")+".golden")
		files[filepath.Base(file)] = true
		if *updateHelp {
			if err := os.WriteFile(file, []byte(session.String()), 0o600); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if diff := gocmp.Diff(mustRead(t, file), session.String()); diff != "" {
			t.Errorf("%s (-want +got); -update-help rewrites it:\n%s", file, diff)
		}
	}
	stored, err := os.ReadDir(filepath.Join("testdata", "help"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range stored {
		if !files[f.Name()] {
			t.Errorf("testdata/help/%s is of no command", f.Name())
		}
	}
}

// record writes the sessions of a command, and, if below, of those below it.
func record(t *testing.T, out *strings.Builder, path []string, below bool) {
	t.Helper()
	for _, option := range []string{"--help", "--no-such-option"} {
		args := append(append([]string{}, path...), option)
		code, stdout, stderr := command(t, args...)
		if wrong := option != "--help"; code != 0 && !wrong || code != 2 && wrong {
			t.Errorf("gancho %s: exit %d", strings.Join(args, " "), code)
		}
		fmt.Fprintf(out, "$ gancho %s\n%s%s", strings.Join(args, " "), stdout, stderr)
		if code != 0 {
			fmt.Fprintf(out, "exit %d\n", code)
		}
		out.WriteString("\n")
	}
	if below {
		for _, name := range commandsBelow(t, path...) {
			record(t, out, append(append([]string{}, path...), name), true)
		}
	}
}

// commandsBelow are the names of the commands that a command's help lists; those of cobra are not ours.
func commandsBelow(t *testing.T, path ...string) (names []string) {
	t.Helper()
	_, help, _ := command(t, append(append([]string{}, path...), "--help")...)
	_, list, found := strings.Cut(help, "Available Commands:\n")
	if !found {
		return nil
	}
	list, _, _ = strings.Cut(list, "\n\n")
	for line := range strings.Lines(list) {
		if name := strings.Fields(line)[0]; name != "help" && name != "completion" {
			names = append(names, name)
		}
	}
	return names
}
