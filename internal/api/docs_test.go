package api_test

import (
	"encoding/json"
	"net/http"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"gancho/internal/api"
	"gancho/internal/state"
)

// The examples of docs/api.md work, one after the other, as they are written.
func TestDocumentedExamples(t *testing.T) {
	t.Parallel()
	if _, err := exec.LookPath("curl"); err != nil {
		t.Fatal("curl is missing; install it: apt-get install curl")
	}
	w := newWorld(t)
	w.addAttempts("crm-centro", "1", 5)
	w.addKept("1", 5)
	w.addEndpoint("elsewhere", "")
	w.addDead("crm-centro", "1", 3)
	text := documentation(t)
	blocks := regexp.MustCompile("(?ms)^```sh\n(.*?)^```$").FindAllStringSubmatch(text, -1)
	if len(blocks) < 15 {
		t.Fatalf("the page has %d examples", len(blocks))
	}
	for _, block := range blocks {
		cmd := exec.CommandContext(t.Context(), "sh", "-eu", "-c", block[1])
		cmd.Dir = t.TempDir()
		cmd.Env = append(os.Environ(), "GANCHO_URL="+w.url, "GANCHO_TOKEN="+w.tokens["root"])
		if out, err := cmd.CombinedOutput(); err != nil || len(out) == 0 {
			t.Errorf("the example fails: %v\n%s\n%s", err, block[1], out)
		}
	}
	// They did what the text says.
	if a := w.do("GET", "/endpoints/crm-centro", "root", ""); a.status != http.StatusNotFound {
		t.Errorf("the endpoint is still there: %d", a.status)
	}
	changes := must[items[state.Change]](w, http.StatusOK, "GET", "/audit?object=endpoint/crm-centro&limit=500", "root", "").Items
	var actions []string
	for _, c := range changes {
		actions = append(actions, c.Action)
	}
	for _, want := range []string{"endpoint.add", "endpoint.edit", "endpoint.pause", "endpoint.activate", "secret.rotate", "redrive.create", "resend.create", "redrive.cancel", "endpoint.remove"} {
		if !slices.Contains(actions, want) {
			t.Errorf("no example led to %s: %v", want, actions)
		}
	}
}

func documentation(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../../docs/api.md")
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// The error of the page is the one that comes.
func TestDocumentedError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	block := regexp.MustCompile("(?ms)^```json\n(.*?)^```$").FindStringSubmatch(documentation(t))
	if block == nil {
		t.Fatal("the page has no error")
	}
	var want, got any
	if err := json.Unmarshal([]byte(block[1]), &want); err != nil {
		t.Fatal(err)
	}
	a := w.do("POST", "/endpoints", "root", `{"name": "crm-centro", "url": "https://crm.example.com", "evnts": ["cobranca.*"]}`)
	if err := json.Unmarshal(a.body, &got); err != nil {
		t.Fatal(err)
	}
	if asJSON(want) != asJSON(got) {
		t.Errorf("the page has\n%s\nand what comes is\n%s", asJSON(want), asJSON(got))
	}
}

// The page and the description name every kind of problem, and the page leaves
// out no group of paths.
func TestDocumentationIsWhole(t *testing.T) {
	t.Parallel()
	text := documentation(t)
	described, _ := at(describe(t).object, "info", "description").(string)
	for name, status := range api.Problems() {
		row := regexp.MustCompile("(?m)^\\| `" + name + "` \\| " + status + " \\|")
		if !row.MatchString(text) {
			t.Errorf("docs/api.md has no row for %s (%s)", name, status)
		}
		if !strings.Contains(described, "`"+name+"`") {
			t.Errorf("openapi.yaml does not name %s", name)
		}
	}
	for _, r := range api.Routes() {
		if group := "/" + strings.Split(r.Path, "/")[1]; !strings.Contains(text, group) {
			t.Errorf("docs/api.md does not tell of %s", group)
		}
	}
}
