package presets_test

import (
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/presets"
	"gancho/internal/testservers"
)

var pg *testservers.Postgres

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

func TestNames(t *testing.T) {
	t.Parallel()
	if diff := cmp.Diff([]string{"iset", "pacto", "superlogica"}, presets.Names()); diff != "" {
		t.Error(diff)
	}
	_, err := presets.Files("../presets")
	if err == nil || !strings.HasSuffix(err.Error(), "write one of iset, pacto, superlogica") {
		t.Errorf("Files of another name: %v", err)
	}
}

// What Files returns is the caller's: no one else sees it changed.
func TestFilesAreTheCallers(t *testing.T) {
	t.Parallel()
	for range 2 {
		files, err := presets.Files("pacto")
		if err != nil {
			t.Fatal(err)
		}
		text := files["pacto.yaml"]
		if !strings.HasPrefix(string(text), "# Preset pacto") {
			t.Fatalf("the file begins %.20q", text)
		}
		clear(text)
	}
}
