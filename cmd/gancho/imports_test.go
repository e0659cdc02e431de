package main_test

import (
	"os/exec"
	"strings"
	"testing"
)

// TestNoTestPackages: the command that users install has no test server, no
// demo and nothing else that only tests are for.
func TestNoTestPackages(t *testing.T) {
	t.Parallel()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", "gancho/cmd/gancho").Output()
	if err != nil {
		t.Fatal(err)
	}
	packages := strings.Fields(string(out))
	if len(packages) < 100 {
		t.Fatalf("go list names %d packages", len(packages))
	}
	for _, p := range packages {
		for _, forbidden := range []string{
			"testing", "net/http/httptest", "gancho/internal/testservers", "gancho/internal/demo", "gancho/internal/bench",
			"github.com/google/go-cmp", "go.uber.org/goleak", "github.com/standard-webhooks", "github.com/cloudevents/sdk-go",
			"github.com/santhosh-tekuri/jsonschema", "github.com/chromedp/chromedp", "github.com/rogpeppe/go-internal",
		} {
			if p == forbidden || strings.HasPrefix(p, forbidden+"/") {
				t.Errorf("gancho imports %s; go list -deps shows the way to it", p)
			}
		}
	}
}
