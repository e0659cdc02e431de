package ruletest_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gancho/mapping"
)

// TestDocumentedCases: the cases of docs/rules.md pass with the rules of the same page, on
// the legacy schema.
func TestDocumentedCases(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/rules.md")
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile("../../internal/presets/tests/catalogue.yaml")
	if err != nil {
		t.Fatal(err)
	}
	saved, err := mapping.ParseCatalogue("catalogue.yaml", text)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	rules, cases := filepath.Join(dir, "rules.yaml"), filepath.Join(dir, "cases.yaml")
	for _, block := range regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(string(page), -1) {
		var file string
		switch {
		case strings.HasPrefix(block[1], "rules:\n  - event: cobranca.liquidada"):
			file = rules
		case strings.HasPrefix(block[1], "tests:"):
			file = cases
		default:
			continue
		}
		if _, err := os.Stat(file); err == nil {
			continue // the first
		}
		if err := os.WriteFile(file, []byte(block[1]), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	parsed, err := mapping.Parse(mapping.Options{Files: []string{rules}, Location: saoPaulo(t)})
	if err != nil {
		t.Fatal(err)
	}
	rs, err := parsed.BindTo(saved)
	if err != nil {
		t.Fatal(err)
	}
	suite, err := load(t, rs, cases)
	if err != nil {
		t.Fatal(err)
	}
	r, err := suite.Run(t.Context(), nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got := failures(r); got != "" || len(r.Results) != 2 {
		t.Errorf("%d cases:\n%s", len(r.Results), got)
	}
}
