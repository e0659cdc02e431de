package mapping_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/strictyaml"
	"gancho/mapping"
)

// TestSources: a rule is shown with the lines of its file that are its own, and one file may be replaced by an edited copy.
func TestSources(t *testing.T) {
	t.Parallel()
	file := filepath.Join(t.TempDir(), "a.yaml")
	text := `# rules
rules:
  # the first
  - event: a.b
    title: Um
    table: cobrancas
    on: [insert, delete]

    # of the data
    data:
      x: id

  # the second
  - {event: c.d, table: "public.Outra", on: update,
     columns: [id]}
  -
    event: e.f
    table: cobrancas
    on: insert
    columns: [id]
# the end
`
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	rules, err := mapping.Parse(mapping.Options{Files: []string{file}})
	if err != nil {
		t.Fatal(err)
	}
	var got []mapping.RuleSource
	for _, s := range rules.Sources() {
		if s.Version == "" {
			t.Errorf("%s has no version", s.Place)
		}
		s.Version, s.File, s.Place = "", filepath.Base(s.File), filepath.Base(s.Place)
		got = append(got, s)
	}
	want := []mapping.RuleSource{
		{Place: "a.yaml:4", File: "a.yaml", Line: 4, Event: "a.b", Title: "Um", Table: "cobrancas", On: "insert or delete",
			Text: "  - event: a.b\n    title: Um\n    table: cobrancas\n    on: [insert, delete]\n\n    # of the data\n    data:\n      x: id"},
		{Place: "a.yaml:14", File: "a.yaml", Line: 14, Event: "c.d", Table: "public.outra", On: "update", Text: "  - {event: c.d, table: \"public.Outra\", on: update,\n     columns: [id]}"},
		{Place: "a.yaml:17", File: "a.yaml", Line: 17, Event: "e.f", Table: "cobrancas", On: "insert", Text: "    event: e.f\n    table: cobrancas\n    on: insert\n    columns: [id]"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got\n%s", diff)
	}
	edited, err := rules.Edited(file, []byte("rules:\n  - {event: g.h, table: t, on: insert, columns: [id]}\n"))
	if err != nil || len(edited.Sources()) != 1 || edited.Sources()[0].Event != "g.h" || string(rules.Files()[file]) != text {
		t.Errorf("the edited copy is %+v: %v", edited, err)
	}
	for name, copied := range map[string]string{file: "rules: 3", "other.yaml": "rules: []"} {
		if _, err := rules.Edited(name, []byte(copied)); !errors.As(err, new(strictyaml.Errors)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
