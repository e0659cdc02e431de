package main_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"testing"

	main "gancho/cmd/gancho-demo"
	"gancho/internal/demo"
	"gancho/internal/testservers"
)

// buildGancho builds the command as this test was built: nothing is compiled a second time. Of several -gcflags, which make
// test has, Go tells a test the last one only.
func buildGancho(t *testing.T) string {
	t.Helper()
	args := []string{"build", "-buildvcs=false"}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, s := range info.Settings {
			if slices.Contains([]string{"-race", "-trimpath", "-gcflags"}, s.Key) {
				args = append(args, s.Key+"="+s.Value)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "gancho")
	if out, err := exec.CommandContext(t.Context(), "go", append(args, "-o", path, "gancho/cmd/gancho")...).CombinedOutput(); err != nil {
		t.Fatalf("build gancho: %v\n%s", err, out)
	}
	return path
}

// The tour shows each event of the presets with its SQL and its webhook, from
// a bridge that is a process of its own.
func TestTour(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	scenes, err := demo.Scenes()
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	var errs testservers.Transcript
	bridge := demo.Command(buildGancho(t), &errs)
	if code := main.Main(context.Background(), []string{"--tour"}, &out, &errs, bridge); code != 0 {
		t.Fatalf("gancho-demo --tour ends with %d:\n%s\n%s", code, out.String(), errs.String())
	}
	lines := strings.Split(out.String(), "\n")
	events := 0
	for _, s := range scenes {
		events += len(s.Events)
		for _, event := range s.Events {
			i := slices.IndexFunc(lines, func(line string) bool { return slices.Contains(strings.Fields(line), event) })
			if i < 0 {
				t.Errorf("event %s is not shown", event)
				continue
			}
			sql, webhook := strings.TrimSpace(lines[i+1]), lines[i+2]
			verb, _, _ := strings.Cut(sql, " ")
			if !slices.Contains([]string{"insert", "update", "delete"}, verb) || !strings.Contains(webhook, "→") ||
				!strings.Contains(webhook, "empresa 1") || !strings.Contains(webhook, `{"`) {
				t.Errorf("event %s is shown as:\n%s", event, strings.Join(lines[i:i+3], "\n"))
			}
		}
	}
	if want := fmt.Sprintf("all %d events arrived, each signed", events); !strings.Contains(out.String(), want) {
		t.Errorf("the tour does not end with %q:\n%s", want, out.String())
	}
}

// A bridge that does not start is the demo's error, and its own words are shown.
func TestBridgeThatFails(t *testing.T) {
	t.Parallel()
	var out bytes.Buffer
	var errs testservers.Transcript
	code := main.Main(context.Background(), []string{"--for=1s"}, &out, &errs, demo.Command("/bin/false", &errs))
	if code != 1 || !strings.Contains(errs.String(), "gancho-demo: run the bridge: exit status 1") {
		t.Errorf("it ends with %d:\n%s", code, errs.String())
	}
}

// Wrong usage starts no server: the tour has its own end and its own traffic.
func TestWrongUsage(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"--tour --for=1s": "leave out --for and --seed",
		"--tour --seed=1": "leave out --for and --seed",
		"--for=-1s":       "--for is negative",
		"--fro=1s":        "unknown flag",
		"tour":            `unexpected argument "tour"`,
	} {
		var errs bytes.Buffer
		if code := main.Main(context.Background(), strings.Fields(line), io.Discard, &errs, nil); code != 2 || !strings.Contains(errs.String(), want) {
			t.Errorf("gancho-demo %s ends with %d: %s", line, code, errs.String())
		}
	}
}
