package monitoring_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// TestComposeProvision: what the profile monitoring of the compose file mounts is there, and where Prometheus and Grafana look.
func TestComposeProvision(t *testing.T) {
	t.Parallel()
	const root = "../.."
	var compose struct {
		Services map[string]struct {
			Profiles []string
			Volumes  []string
		}
	}
	decode(t, filepath.Join(root, "docker-compose.yml"), &compose)
	inContainer := func(service, path string) string {
		s := compose.Services[service]
		if len(s.Profiles) != 1 || s.Profiles[0] != "monitoring" {
			t.Fatalf("%s has profiles %v", service, s.Profiles)
		}
		for _, v := range s.Volumes {
			parts := strings.Split(v, ":")
			if rest, ok := strings.CutPrefix(path, parts[1]); ok && (rest == "" || rest[0] == '/') {
				return filepath.Join(root, parts[0], rest)
			}
		}
		t.Fatalf("%s: %s is not mounted", service, path)
		return ""
	}
	var prometheus struct {
		Rules   []string `yaml:"rule_files"`
		Scrapes []struct {
			Job string `yaml:"job_name"`
		} `yaml:"scrape_configs"`
	}
	decode(t, inContainer("prometheus", "/etc/prometheus/prometheus.yml"), &prometheus)
	if len(prometheus.Rules) != 1 || len(prometheus.Scrapes) != 1 || !strings.Contains(prometheus.Scrapes[0].Job, "gancho") {
		t.Fatalf("Prometheus reads %+v", prometheus)
	}
	rules, err := filepath.Glob(inContainer("prometheus", prometheus.Rules[0]))
	if err != nil || len(rules) != 1 || filepath.Base(rules[0]) != "gancho.rules.yml" {
		t.Errorf("Prometheus reads the rules %v, %v", rules, err)
	}
	var sources struct {
		Datasources []struct{ Type string }
	}
	decode(t, inContainer("grafana", "/etc/grafana/provisioning/datasources/prometheus.yml"), &sources)
	if len(sources.Datasources) != 1 || sources.Datasources[0].Type != "prometheus" {
		t.Errorf("Grafana's sources are %+v", sources)
	}
	var providers struct {
		Providers []struct{ Options struct{ Path string } }
	}
	decode(t, inContainer("grafana", "/etc/grafana/provisioning/dashboards/gancho.yml"), &providers)
	dashboards, err := filepath.Glob(inContainer("grafana", providers.Providers[0].Options.Path) + "/*.json")
	if err != nil || len(dashboards) != 1 {
		t.Fatalf("Grafana reads the dashboards %v, %v", dashboards, err)
	}
	text, err := os.ReadFile(dashboards[0])
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		UID    string
		Panels []struct {
			ID      int
			Type    string
			GridPos struct{ X, Y, W, H int }
			Targets []struct{ Datasource struct{ UID string } }
		}
	}
	if err := json.Unmarshal(text, &dashboard); err != nil || dashboard.UID != "gancho" {
		t.Errorf("dashboard %q: %v", dashboard.UID, err)
	}
	taken := map[[2]int]int{}
	for _, p := range dashboard.Panels {
		for _, target := range p.Targets {
			if target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %d asks %q and not what the variable chooses", p.ID, target.Datasource.UID)
			}
		}
		for x := range p.GridPos.W {
			for y := range p.GridPos.H {
				at := [2]int{p.GridPos.X + x, p.GridPos.Y + y}
				if other, ok := taken[at]; ok || at[0] >= 24 {
					t.Fatalf("panel %d lies over panel %d, or beyond the edge", p.ID, other)
				}
				taken[at] = p.ID
			}
		}
	}
}

func decode(t *testing.T, path string, to any) {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(text, to); err != nil {
		t.Fatalf("%s: %v", path, err)
	}
}
