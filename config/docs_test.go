package config_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"gancho/config"
	"gancho/delivery/endpoint"
)

// The file in docs/configuration.md loads, and the keys of an endpoint that
// the page explains are those that there are.
func TestConfigurationPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(page), "```yaml\n")
	file, _, ok := strings.Cut(rest, "```\n")
	if !ok {
		t.Fatal("the page has no configuration")
	}
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "rules"), 0o700); err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{"gancho.yaml": file, "rules/a.yaml": "rules: []\n"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	_, err = config.Load(filepath.Join(dir, "gancho.yaml"), func(name string) (string, bool) {
		switch {
		case strings.HasSuffix(name, "_DSN"):
			return "postgres://db/academia", true
		case strings.HasSuffix(name, "REDIS_URL"):
			return "redis://redis", true
		}
		return "um-segredo-de-32-bytes-para-gancho", true
	})
	if err != nil {
		t.Error(err)
	}

	_, table, _ := strings.Cut(string(page), "## Keys of an endpoint")
	table, _, _ = strings.Cut(table, "\n## ")
	explained := map[string]bool{}
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|").FindAllStringSubmatch(table, -1) {
		explained[m[1]] = true
	}
	_, err = endpoint.Parse("e", []byte(`{"no such key at all": 1}`))
	_, list, found := strings.Cut(err.Error(), "the keys here are ")
	if !found {
		t.Fatalf("the keys are not listed: %v", err)
	}
	list, _, _ = strings.Cut(list, "\n")
	for _, key := range strings.Split(list, ", ") {
		if !explained[key] {
			t.Errorf("the key %s is not explained", key)
		}
		delete(explained, key)
	}
	for key := range explained {
		t.Errorf("the key %s is explained, and there is none", key)
	}
}

// The example of many databases loads, as do those of its page.
func TestManyDatabasesPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../docs/many-databases.md")
	if err != nil {
		t.Fatal(err)
	}
	example, err := os.ReadFile("../examples/cluster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files := []string{string(example)}
	for _, m := range regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllStringSubmatch(string(page), -1) {
		if !strings.Contains(m[1], "queue:") {
			m[1] += "queue: {redis: '${GANCHO_REDIS_URL}'}\nrules: [rules/*.yaml]\n"
		}
		files = append(files, m[1])
	}
	if len(files) != 3 {
		t.Fatalf("there are %d examples", len(files))
	}
	for _, file := range files {
		c, err := config.Parse("testdata/example.yaml", []byte(file), func(name string) (string, bool) {
			switch {
			case strings.HasSuffix(name, "_DSN"):
				return "postgres://" + strings.ToLower(name) + "/postgres", true
			case strings.HasSuffix(name, "REDIS_URL"):
				return "redis://redis", true
			}
			return "um-segredo-de-32-bytes-para-gancho", true
		})
		if err != nil || c.Sources == nil {
			t.Errorf("%v in\n%s", err, file)
		}
	}
}
