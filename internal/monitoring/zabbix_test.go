package monitoring_test

import (
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

type template struct {
	Template  string
	Items     []item
	Discovery []struct {
		UUID   string
		Key    string
		Items  []item               `yaml:"item_prototypes"`
		Master struct{ Key string } `yaml:"master_item"`
	} `yaml:"discovery_rules"`
	Macros []struct{ Macro string }
}

type item struct {
	UUID, Name, Type, Key, URL, History string
	Master                              struct{ Key string } `yaml:"master_item"`
	Preprocessing                       []struct {
		Type       string
		Parameters []string
	}
	Triggers   []trigger
	Prototypes []trigger `yaml:"trigger_prototypes"`
}

type trigger struct{ UUID, Name, Expression, Priority, Description string }

// TestZabbixTemplate: what Zabbix refuses at the import, or accepts and never fires.
func TestZabbixTemplate(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join(directory, "gancho.zabbix.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var file struct {
		Export struct {
			Version   string
			Templates []template
		} `yaml:"zabbix_export"`
	}
	if err := yaml.Unmarshal(text, &file); err != nil {
		t.Fatal(err)
	}
	if file.Export.Version != "7.0" || len(file.Export.Templates) != 1 {
		t.Fatalf("version %q, %d templates", file.Export.Version, len(file.Export.Templates))
	}
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`uuid: (.*)`).FindAllStringSubmatch(string(text), -1) {
		if !regexp.MustCompile(`^[0-9a-f]{12}4[0-9a-f]{3}[89ab][0-9a-f]{15}$`).MatchString(m[1]) || seen[m[1]] {
			t.Errorf("uuid %s is not of version 4, or there twice", m[1])
		}
		seen[m[1]] = true
	}
	template := file.Export.Templates[0]
	macros := map[string]bool{}
	for _, m := range template.Macros {
		macros[m.Macro] = true
	}
	for _, m := range regexp.MustCompile(`\{\$[A-Z.]+\}`).FindAllString(string(text), -1) {
		if !macros[m] {
			t.Errorf("macro %s has no value", m)
		}
	}
	keys := map[string]bool{}
	var master string
	add := func(all []item, macro string) {
		discovered := macro != ""
		for _, i := range all {
			if keys[i.Key] || discovered != (macro != "" && strings.Contains(i.Key, macro)) || !discovered && strings.Contains(i.Key, "{#") {
				t.Errorf("key %s is there twice, or not of its kind", i.Key)
			}
			keys[i.Key] = true
			switch {
			case i.Type == "HTTP_AGENT" && strings.HasSuffix(i.URL, "/metrics"):
				master = i.Key
			case i.Type != "DEPENDENT" || i.Master.Key != master || len(i.Preprocessing) == 0:
				t.Errorf("item %s is neither the page nor read from it", i.Key)
			}
		}
	}
	add(template.Items, "")
	if len(template.Discovery) != 2 {
		t.Fatalf("discovery %+v", template.Discovery)
	}
	for i, macro := range []string{"{#ENDPOINT}", "{#SOURCE}"} {
		if d := &template.Discovery[i]; d.Master.Key != master || len(d.Items) < 4 {
			t.Errorf("discovery %+v", d)
		}
		add(template.Discovery[i].Items, macro)
	}
	used := regexp.MustCompile(`/` + regexp.QuoteMeta(template.Template) + `/([a-z_.]+(?:\["\{#ENDPOINT\}"\])?)[,)]`)
	check := func(all []trigger, discovered bool) {
		for _, tr := range all {
			items := used.FindAllStringSubmatch(tr.Expression, -1)
			if len(items) == 0 || len(items) != strings.Count(tr.Expression, "/"+template.Template+"/") {
				t.Errorf("trigger %q: items of %s", tr.Name, tr.Expression)
			}
			for _, m := range items {
				if !keys[m[1]] {
					t.Errorf("trigger %q names item %s, which there is not", tr.Name, m[1])
				}
			}
			if tr.Priority != "HIGH" && tr.Priority != "WARNING" || discovered != strings.Contains(tr.Name, "{#ENDPOINT}") || strings.Contains(tr.Name+tr.Description, "{endpoint}") {
				t.Errorf("trigger %+v", tr)
			}
		}
	}
	for _, i := range template.Items {
		check(i.Triggers, false)
		if len(i.Prototypes) > 0 {
			t.Errorf("item %s has prototypes of triggers", i.Key)
		}
	}
	for _, i := range slices.Concat(template.Discovery[0].Items, template.Discovery[1].Items) {
		check(i.Prototypes, true)
		if len(i.Triggers) > 0 {
			t.Errorf("prototype %s has triggers", i.Key)
		}
	}
}
