package monitoring_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/monitoring"
)

var (
	update   = flag.Bool("update", false, "write packaging/monitoring again")
	runbooks = flag.String("runbooks", "", "where the pages are served, such as https://git.example.com.br/gancho/blob/main/")
)

const directory = "../../packaging/monitoring"

// TestFiles: what is committed is what the list says.
func TestFiles(t *testing.T) {
	t.Parallel()
	files, err := monitoring.Files(*runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		path := filepath.Join(directory, name)
		if *update {
			if err := os.WriteFile(path, want, 0o600); err != nil {
				t.Fatal(err)
			}
			// They are mounted into containers of other users.
			if err := os.Chmod(path, 0o644); err != nil {
				t.Fatal(err)
			}
		}
		got, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(want), string(got)); diff != "" {
			t.Errorf("%s is not what the list says; run make monitoring (-list +file):\n%s", path, diff)
		}
	}
}

// TestList: names and texts are there, and each runbook is a heading.
func TestList(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	headings := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(string(page), -1) {
		headings[m[1]] = true
	}
	names := map[string]bool{}
	alerting := map[string]bool{}
	complete := func(what string, text monitoring.Text) {
		if text.EN == "" || text.PT == "" {
			t.Errorf("%s: a text is missing in %+v", what, text)
		}
	}
	for _, w := range monitoring.List() {
		complete(w.Metric, w.Title)
		for _, a := range w.Alerts {
			alerting[w.Metric], alerting[a.Condition.Share], alerting[a.Condition.Without] = true, true, true
			complete(a.Name, a.Title)
			complete(a.Name, a.Text)
			if names[a.Name] || !strings.HasPrefix(a.Name, "Gancho") {
				t.Errorf("the name of alert %s is taken, or does not begin with Gancho", a.Name)
			}
			names[a.Name] = true
			if !headings[a.Runbook] {
				t.Errorf("%s: docs/operations.md has no heading %q", a.Name, a.Runbook)
			}
		}
	}
	// What the page says to alert on has an alert.
	_, table, found := strings.Cut(string(page), "Alert on these; ")
	table, _, _ = strings.Cut(table, "One query asks the source itself")
	metrics := regexp.MustCompile(`gancho_[a-z_]+`).FindAllString(table, -1)
	if !found || len(metrics) < 10 {
		t.Fatalf("the table of alerts in docs/operations.md has %d metrics", len(metrics))
	}
	for _, m := range metrics {
		if !alerting[m] {
			t.Errorf("docs/operations.md says to alert on %s, and no alert is about it", m)
		}
	}
}
