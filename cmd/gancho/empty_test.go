package main_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

var (
	subcommand = regexp.MustCompile(`(?m)^  ([a-z-]+) +\S`)
	valueFlag  = regexp.MustCompile(`(?m)^ +(?:-\w, )?--([a-z-]+) \S+ {2,}`)
	usageLine  = regexp.MustCompile(`(?m)^Usage:\n  gancho (.*)$`)
)

// TestEmptyIsWrongInput: in no command does an option that is given and empty,
// as a variable of the shell that is not set makes it, mean anything.
func TestEmptyIsWrongInput(t *testing.T) {
	t.Parallel()
	tried := 0
	var walk func(path []string)
	walk = func(path []string) {
		_, help, _ := command(t, append(path, "--help")...)
		if _, list, ok := strings.Cut(help, "Available Commands:\n"); ok {
			list, _, _ = strings.Cut(list, "\n\n")
			for _, m := range subcommand.FindAllStringSubmatch(list, -1) {
				if m[1] != "completion" && m[1] != "help" { // cobra's own
					walk(append(slices.Clone(path), m[1]))
				}
			}
			return
		}
		args := slices.Clone(path)
		for _, word := range strings.Fields(usageLine.FindStringSubmatch(help)[1]) {
			if strings.ToUpper(word) == word && !strings.HasPrefix(word, "[") {
				args = append(args, "1") // an argument that it needs
			}
		}
		for _, m := range valueFlag.FindAllStringSubmatch(help, -1) {
			for _, empty := range []string{"", " "} {
				tried++
				code, _, stderr := command(t, append(slices.Clone(args), "--"+m[1], empty)...)
				if code != 2 || !strings.Contains(stderr, "--"+m[1]) {
					t.Errorf("%s --%s %q: exit %d, %s", strings.Join(args, " "), m[1], empty, code, stderr)
				}
			}
		}
		for i := len(path); i < len(args); i++ {
			empty := slices.Clone(args)
			empty[i] = ""
			if code, _, stderr := command(t, empty...); code != 2 {
				t.Errorf("%q: exit %d, %s", empty, code, stderr)
			}
		}
	}
	walk(nil)
	if tried < 200 {
		t.Errorf("only %d options were tried", tried)
	}
	for _, args := range [][]string{
		{"dead", "drop", "", "--yes"},                 // a number among its arguments
		{"dead", "drop", "--event", "a,,b", "--yes"},  // an entry of a list
		{"dead", "list", "--tenant=", "--limit", "1"}, // --no-tenant says it
		{"endpoints", "add", "a", "--header", "Authorization: "},
		{"endpoints", "add", "a", "--extra", "chave="},
	} {
		if code, _, stderr := command(t, args...); code != 2 || !strings.Contains(stderr, "empty") {
			t.Errorf("%q: exit %d, %s", args, code, stderr)
		}
	}
	// A shell completes an empty word.
	if code, stdout, stderr := command(t, "__complete", "dead", ""); code != 0 || !strings.Contains(stdout, "redrive") {
		t.Errorf("completion: exit %d, %s%s", code, stdout, stderr)
	}
}
