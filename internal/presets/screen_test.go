package presets_test

import (
	"os"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"

	"gancho/internal/presets"
)

// The screens are the help pages': so many actions in that layout, all of which have titles in both languages, and events that a rule of the
// preset makes.
func TestScreens(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]struct {
		layout  presets.Layout
		actions int
		groups  string
	}{
		"pacto": {presets.Single, 5, ""}, "superlogica": {presets.Table, 26, ""}, "iset": {presets.Groups, 9, "Pedidos Produtos Categorias Clientes"},
	} {
		s, err := presets.OwnScreen(name)
		if err != nil {
			t.Fatal(err)
		}
		var titles []string
		for _, g := range s.Groups {
			titles = append(titles, g.Title.In("pt-BR"))
		}
		if s.Layout != want.layout || len(s.Actions()) != want.actions || strings.TrimSpace(strings.Join(titles, " ")) != want.groups {
			t.Errorf("%s: %s, %d actions, groups %q", name, s.Layout, len(s.Actions()), titles)
		}
		made := eventsOfPreset(t, name)
		for _, a := range s.Actions() {
			if a.Title.In("pt-BR") == "" || a.Title.In("en") == "" {
				t.Errorf("%s: the action %s has no title", name, a.Name)
			}
			for _, event := range a.Events {
				if !made[event] {
					t.Errorf("%s: no rule of the preset makes %s", name, event)
				}
			}
		}
	}
}

func eventsOfPreset(t *testing.T, name string) map[string]bool {
	t.Helper()
	files, err := presets.Files(name)
	if err != nil {
		t.Fatal(err)
	}
	made := map[string]bool{}
	for _, text := range files {
		var file struct{ Rules []struct{ Event string } }
		if err := yaml.Unmarshal(text, &file); err != nil {
			t.Fatal(err)
		}
		for _, r := range file.Rules {
			made[r.Event] = true
		}
	}
	return made
}

// A file's mistakes have their place and say what to write.
func TestScreenMistakes(t *testing.T) {
	t.Parallel()
	const whole = "layout: single\ntitle: Webhooks\nchoose: Unidade\nurl: URL\nactions: [{name: a, title: A}]\n"
	if _, err := presets.ParseScreen("dir/totvs.screen.yaml", []byte(whole)); err != nil {
		t.Fatal(err)
	}
	for src, want := range map[string]string{
		strings.Replace(whole, "single", "singel", 1):                                             `did you mean "single"`,
		whole + "colour: red\n":                                                                   `unknown key "colour"`,
		strings.Replace(whole, "title: W", "title: {pt-BR: W} #", 1):                              `the key "en" is missing`,
		whole + "endpoint: {url: https://a.example.com}\n":                                        "url is each endpoint's own",
		whole + "endpoint: {timeout: soon}\n":                                                     "is not a duration",
		strings.Replace(whole, "single", "table", 1) + "field: token\nendpoint: {format: bare}\n": "no place for the field token",
		strings.Replace(whole, "single", "groups", 1):                                             "the layout groups has no groups",
		strings.Replace(whole, "[{name: a, title: A}]", "[]", 1):                                  "there are no actions",
		strings.Replace(whole, "title: A}", "title: A, events: [a*]}", 1):                         "no patterns of events",
		strings.Replace(whole, "A}]", "A}, {name: a, title: B}]", 1):                              `two actions with the name "a"`,
		strings.Replace(whole, "name: a", "name: a b", 1):                                         "cannot be the name of an action",
	} {
		_, err := presets.ParseScreen("totvs.screen.yaml", []byte(src))
		if err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "totvs.screen.yaml:") {
			t.Errorf("%s\nthe error is %v, want %q", src, err, want)
		}
	}
	for _, name := range []string{"Totvs.screen.yaml", "totvs.yaml", strings.Repeat("x", 21) + ".screen.yaml"} {
		if _, err := presets.ParseScreen(name, []byte(whole)); err == nil {
			t.Errorf("a file %s is accepted", name)
		}
	}
	if _, err := presets.OwnScreen("totvs"); err == nil || !strings.Contains(err.Error(), "iset, pacto, superlogica") {
		t.Errorf("a screen that there is not: %v", err)
	}
}

// The example of docs/console.md is a screen as it stands there.
func TestDocumentedScreen(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/console.md")
	if err != nil {
		t.Fatal(err)
	}
	_, after, _ := strings.Cut(string(page), "### A screen of your own")
	_, after, _ = strings.Cut(after, "```yaml\n")
	example, _, found := strings.Cut(after, "```")
	s, err := presets.ParseScreen("totvs.screen.yaml", []byte(example))
	if !found || err != nil || s.Layout != presets.Groups || len(s.Actions()) != 1 || len(s.Actions()[0].Events) != 2 {
		t.Errorf("%+v, %v", s, err)
	}
}

// What a layout has no place for is a mistake: a unit would never see it.
func TestScreenKeysOfOtherLayouts(t *testing.T) {
	t.Parallel()
	const rest = "title: X\nchoose: Y\nurl: Z\n"
	for src, want := range map[string]string{
		"layout: groups\nfield: token\n" + rest + "groups: [{title: G, actions: [{name: a, title: T}]}]\n": "the layout groups has no place where the field token is created; remove field, or write layout: table",
		"layout: single\nrequires: API\n" + rest + "actions: [{name: a, title: T}]\n":                      "the layout single has no switch for what is required; remove requires, or write layout: groups",
		"layout: table\nrequires: API\n" + rest + "actions: [{name: a, title: T}]\n":                       "the layout table has no switch for what is required; remove requires, or write layout: groups",
	} {
		if _, err := presets.ParseScreen("x.screen.yaml", []byte(src)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s", src, err, want)
		}
	}
}
