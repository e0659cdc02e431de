package main_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestLicences: every module that is linked in, and Go, is listed with a licence that
// is known, and its text is collected for the image.
func TestLicences(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	list := exec.Command("sh", ".ci/licences", dir)
	list.Dir = filepath.Join("..", "..")
	out, err := list.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	listed := map[string]string{}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Split(strings.TrimSpace(line), "\t"); len(fields) == 3 {
			listed[fields[0]] = fields[2]
		}
	}
	modules := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{.Path}}{{end}}", "./cmd/gancho", "./cmd/gancho-demo")
	modules.Dir = list.Dir
	linked, err := modules.Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, module := range append(strings.Fields(string(linked)), "go", "github.com/leeoniya/uPlot") {
		if !slices.Contains([]string{"Apache-2.0", "MIT", "BSD-2-Clause", "BSD-3-Clause"}, listed[module]) {
			t.Errorf("the licence of %s is listed as %q", module, listed[module])
		}
		texts, err := filepath.Glob(filepath.Join(dir, module, "*"))
		if err != nil || len(texts) == 0 {
			t.Errorf("there is no text of the licence of %s, %v", module, err)
		}
	}
	if image, err := os.ReadFile(filepath.Join(list.Dir, "Dockerfile")); err != nil || !strings.Contains(string(image), ".ci/licences /licences") {
		t.Errorf("the image has no licences, %v", err)
	}
}
