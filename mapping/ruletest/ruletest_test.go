package ruletest_test

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/mapping"
	"gancho/mapping/ruletest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func rules(t *testing.T) *mapping.Ruleset {
	t.Helper()
	text, err := os.ReadFile("testdata/catalogue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := mapping.ParseCatalogue("testdata/catalogue.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{"testdata/rules.yaml"}, Location: saoPaulo(t)})
	if err != nil {
		t.Fatal(err)
	}
	rs, err := parsed.BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	return rs
}

func saoPaulo(t *testing.T) *time.Location {
	t.Helper()
	location, err := time.LoadLocation("America/Sao_Paulo")
	if err != nil {
		t.Fatal(err)
	}
	return location
}

func load(t *testing.T, rs *mapping.Ruleset, file string) (*ruletest.Suite, error) {
	t.Helper()
	return ruletest.Load(rs, ruletest.Options{Location: saoPaulo(t)}, file)
}

func run(t *testing.T, file string, match *regexp.Regexp) *ruletest.Run {
	t.Helper()
	suite, err := load(t, rules(t), file)
	if err != nil {
		t.Fatal(err)
	}
	out, err := suite.Run(context.Background(), match, nil)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// golden compares a text with a file of testdata.
func golden(t *testing.T, file, got string) {
	t.Helper()
	path := filepath.Join("testdata", file)
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s differs:\n%s", path, diff)
	}
}

// failures are those of a run, as people read them.
func failures(r *ruletest.Run) string {
	var b strings.Builder
	for _, result := range r.Results {
		if result.Failure != nil {
			fmt.Fprintf(&b, "%s\n%s\n", result.Case.Name, result.Failure)
		}
	}
	return b.String()
}

// TestPasses: values mean what they mean to PostgreSQL, and each condition is counted.
func TestPasses(t *testing.T) {
	t.Parallel()
	r := run(t, "testdata/passes.yaml", nil)
	if got := failures(r); got != "" {
		t.Error(got)
	}
	if untested := r.Untested(); untested != nil {
		t.Errorf("all conjuncts are decided both ways, and these are reported: %v", untested)
	}
	if r := run(t, "testdata/passes.yaml", regexp.MustCompile("passes.yaml/not")); len(r.Results) != 4 {
		t.Errorf("%d cases match, want 4", len(r.Results))
	}
}

// TestFailures: the first difference is shown with its place.
func TestFailures(t *testing.T) {
	t.Parallel()
	r := run(t, "testdata/fails.yaml", nil)
	golden(t, "fails.txt", failures(r)+strings.Join(r.Untested(), "\n")+"\n")
}

// TestWrongInput: all mistakes are reported together, with what to write.
func TestWrongInput(t *testing.T) {
	t.Parallel()
	_, err := load(t, rules(t), "testdata/wrong.yaml")
	if err == nil {
		t.Fatal("no mistake is reported")
	}
	golden(t, "wrong.txt", err.Error()+"\n")
}

// TestUpdate: the expectations are what came, and comments and other lines are as before.
func TestUpdate(t *testing.T) {
	t.Parallel()
	r := run(t, "testdata/fails.yaml", nil)
	src, err := os.ReadFile("testdata/fails.yaml")
	if err != nil {
		t.Fatal(err)
	}
	text, written, err := ruletest.Update(src, r.Results)
	if err != nil {
		t.Fatal(err)
	}
	if written != 6 {
		t.Errorf("%d expectations were written, want 6", written)
	}
	golden(t, "fails.updated.yaml", string(text))
	path := filepath.Join(t.TempDir(), "again.yaml")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, result := range run(t, path, nil).Results {
		if result.Failure != nil && !result.Broken() {
			t.Errorf("after the update, %s: %s", result.Case.Name, result.Failure)
		}
	}
}

// TestJUnit: the results are readable by what reads JUnit's XML.
func TestJUnit(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	if err := run(t, "testdata/fails.yaml", regexp.MustCompile("text|more")).WriteJUnit(&b); err != nil {
		t.Fatal(err)
	}
	golden(t, "junit.xml", b.String())
}

// TestThousandCases runs a thousand cases; -v says how long that took.
func TestThousandCases(t *testing.T) {
	t.Parallel()
	src, err := os.ReadFile("testdata/passes.yaml")
	if err != nil {
		t.Fatal(err)
	}
	cases := strings.TrimPrefix(string(src), "tests:\n")
	path := filepath.Join(t.TempDir(), "many.yaml")
	if err := os.WriteFile(path, []byte("tests:\n"+strings.Repeat(cases, 170)), 0o600); err != nil {
		t.Fatal(err)
	}
	began := time.Now()
	r := run(t, path, nil)
	if len(r.Results) < 1000 || r.Failed() > 0 {
		t.Errorf("%d cases, %d failed", len(r.Results), r.Failed())
	}
	t.Logf("%d cases in %s", len(r.Results), time.Since(began))
}

// TestWrongCatalogue: a file that is none says what to do.
func TestWrongCatalogue(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"tabelas: []": "field tabelas not found",
		"tables: [{name: a, replica_identity: f, columns: [{name: id, type: inteiro}]}]": `table a: type "inteiro" is not among its types`,
		"tables: [{name: a, columns: []}]":                                               `table "a" is not one`,
		"types: [{name: a, kind: b}]":                                                    `type "a" is not one`,
		"":                                                                               "read c.yaml: EOF",
	} {
		_, err := mapping.ParseCatalogue("c.yaml", []byte(text))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "write it again with: gancho catalogue save") {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
	}
}
