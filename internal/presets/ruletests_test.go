package presets_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/presets"
	"gancho/mapping"
	"gancho/mapping/ruletest"
	"gancho/migrations"
)

var update = flag.Bool("update", false, "rewrite tests/catalogue.yaml and the expectations in tests")

// TestRuleTests: the cases that ship with the presets pass, each rule has an event in one,
// and each condition is decided both ways. The catalogue that they run with is that of the
// legacy schema.
func TestRuleTests(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	schema, _, identity := migrations.Legacy()
	conn, err := pgx.Connect(ctx, pg.Database(t, "", schema, identity))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(ctx) })
	location, err := time.LoadLocation(zone)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	var rules, cases []string
	for _, preset := range presets.Names() {
		files, err := presets.Files(preset)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			rules, cases = append(rules, path), append(cases, filepath.Join("tests", name))
		}
	}
	parsed, err := mapping.Parse(mapping.Options{Files: rules, Location: location})
	if err != nil {
		t.Fatal(err)
	}
	bound, err := parsed.Bind(ctx, conn)
	if err != nil {
		t.Fatal(err)
	}
	text, err := bound.Catalogue().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	const file = "tests/catalogue.yaml"
	if *update {
		if err := os.WriteFile(file, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	golden, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	saved, err := mapping.ParseCatalogue(file, golden)
	if err != nil {
		t.Fatal(err)
	}
	if drift, outdated := saved.Differences(bound.Catalogue()); drift != nil || outdated != nil {
		t.Errorf("tests/catalogue.yaml is not the legacy schema's: %v %v", drift, outdated)
	}
	rs, err := parsed.BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	again, err := rs.Catalogue().Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(text), string(again)); diff != "" {
		t.Errorf("the catalogue of rules that were bound to one differs:\n%s", diff)
	}
	for i, path := range rules {
		testPreset(t, saved, location, path, cases[i])
	}
}

// testPreset runs the cases of one preset, with its rules alone.
func testPreset(t *testing.T, saved *mapping.Catalogue, location *time.Location, rules, cases string) {
	t.Helper()
	parsed, err := mapping.Parse(mapping.Options{Files: []string{rules}, Location: location})
	if err != nil {
		t.Fatal(err)
	}
	rs, err := parsed.BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	suite, err := ruletest.Load(rs, ruletest.Options{Location: location}, cases)
	if err != nil {
		t.Fatal(err)
	}
	run, err := suite.Run(context.Background(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		updateCases(t, []string{cases}, run)
		return
	}
	for _, r := range run.Results {
		if r.Failure != nil {
			t.Errorf("%s: %s", r.Case.Name, r.Failure)
		}
	}
	for _, line := range run.Untested() {
		t.Errorf("untested: %s", line)
	}
}

// updateCases writes what came into the files.
func updateCases(t *testing.T, files []string, run *ruletest.Run) {
	for _, name := range files {
		src, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		var of []ruletest.Result
		for _, r := range run.Results {
			if r.Broken() {
				t.Errorf("%s: %s", r.Case.Name, r.Failure)
			}
			if r.Case.File == name {
				of = append(of, r)
			}
		}
		text, _, err := ruletest.Update(src, of)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
}
