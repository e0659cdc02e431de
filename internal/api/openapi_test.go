package api_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/internal/api"
	"gancho/internal/control"
)

// Every route is described, and everything described is a route, with the same
// parameters, bodies and roles.
func TestRoutesAreDescribed(t *testing.T) {
	t.Parallel()
	d := describe(t)
	type route struct {
		Method, Path, Role string
		Query, Media       []string
	}
	key := func(r route) string { return r.Method + " " + r.Path }
	var described, existing []route
	paths, _ := d.object["paths"].(object)
	for path, item := range paths {
		for method := range item.(object) {
			if method == "parameters" {
				continue
			}
			o := d.operation(method, path)
			r := route{Method: strings.ToUpper(method), Path: path, Query: []string{}, Media: []string{}}
			r.Role, _ = o["x-role"].(string)
			for _, p := range d.parameters(path, o) {
				if p["in"] == "query" {
					r.Query = append(r.Query, p["name"].(string))
				}
			}
			content, _ := at(o, "requestBody", "content").(object)
			for media := range content {
				r.Media = append(r.Media, media)
			}
			slices.Sort(r.Query)
			slices.Sort(r.Media)
			described = append(described, r)
		}
	}
	for _, r := range api.Routes() {
		out := route{Method: r.Method, Path: r.Path, Role: r.Role, Query: []string{}, Media: slices.Clone(r.Media)}
		for _, q := range r.Query {
			out.Query = append(out.Query, strings.TrimSuffix(q, "[]"))
		}
		if out.Media == nil {
			out.Media = []string{}
		}
		slices.Sort(out.Query)
		slices.Sort(out.Media)
		existing = append(existing, out)
	}
	byKey := func(a, b route) int { return strings.Compare(key(a), key(b)) }
	slices.SortFunc(described, byKey)
	slices.SortFunc(existing, byKey)
	if diff := cmp.Diff(described, existing); diff != "" {
		t.Errorf("described and existing routes (-described +existing):\n%s", diff)
	}
}

// parameters are those of a path and of an operation.
func (d description) parameters(path string, operation object) []object {
	var all []object
	for _, from := range []any{at(d.object, "paths", path, "parameters"), operation["parameters"]} {
		list, _ := from.([]any)
		for _, p := range list {
			all = append(all, d.resolve(p))
		}
	}
	return all
}

// The description is sound in itself: references lead somewhere, names are
// unique, paths and their parameters agree, and no schema says anything that
// the tests do not understand.
func TestDescriptionIsSound(t *testing.T) {
	t.Parallel()
	d := describe(t)
	if got := at(d.object, "info", "version"); got != "1.2.3" {
		t.Errorf("the version is %v", got)
	}
	ids := map[any]bool{}
	paths, _ := d.object["paths"].(object)
	for path, item := range paths {
		for method := range item.(object) {
			if method == "parameters" {
				continue
			}
			o := d.operation(method, path)
			if ids[o["operationId"]] || o["operationId"] == nil || o["summary"] == nil {
				t.Errorf("%s %s: its operationId %v is missing or not its own, or it has no summary", method, path, o["operationId"])
			}
			ids[o["operationId"]] = true
			var inPath []string
			for _, p := range d.parameters(path, o) {
				if p["in"] == "path" {
					inPath = append(inPath, "{"+p["name"].(string)+"}")
				}
			}
			for _, part := range strings.Split(path, "/") {
				if strings.HasPrefix(part, "{") && !slices.Contains(inPath, part) {
					t.Errorf("%s %s: %s is not described", method, path, part)
				}
			}
		}
	}
	d.walk(t, "", d.object)
}

// walk visits everything, and schemas with care.
func (d description) walk(t *testing.T, path string, v any) {
	t.Helper()
	switch v := v.(type) {
	case []any:
		for i, item := range v {
			d.walk(t, fmt.Sprintf("%s/%d", path, i), item)
		}
	case object:
		if ref, ok := v["$ref"].(string); ok && d.resolve(v) == nil {
			t.Errorf("%s: %s leads nowhere", path, ref)
		}
		isSchema := strings.HasSuffix(path, "/schema") || strings.HasSuffix(path, "/items") ||
			strings.HasSuffix(path[:max(0, strings.LastIndex(path, "/"))], "/schemas") ||
			strings.HasSuffix(path[:max(0, strings.LastIndex(path, "/"))], "/properties")
		for word, item := range v {
			if isSchema && !slices.Contains(schemaWords, word) {
				t.Errorf("%s: the schema has the keyword %s, which the tests do not know", path, word)
			}
			d.walk(t, path+"/"+word, item)
		}
	}
}

// The description's examples do what they say.
func TestExamplesWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("crm-centro", "")
	w.addDead("crm-centro", "1", 3)
	w.addKept("1", 3)
	paths, _ := w.about.object["paths"].(object)
	count := 0
	for _, path := range slices.Sorted(mapKeys(paths)) {
		for method := range paths[path].(object) {
			content, _ := at(paths, path, method, "requestBody", "content").(object)
			for media, body := range content {
				examples, _ := at(body, "examples").(object)
				if len(examples) == 0 {
					t.Errorf("%s %s has no example of %s", method, path, media)
				}
				for _, name := range slices.Sorted(mapKeys(examples)) {
					count++
					example := at(examples, name, "value")
					for _, wrong := range w.about.check(at(body, "schema"), example, "", false) {
						t.Errorf("%s %s, example %s: %s", method, path, name, wrong)
					}
					url := strings.ReplaceAll(path, "{name}", "crm-centro")
					if path == "/endpoints" {
						w.do("DELETE", "/endpoints/crm-centro", "root", "")
					}
					a := w.do(strings.ToUpper(method), url, "root", asJSON(example), header{"Content-Type", media})
					if a.status/100 != 2 {
						t.Errorf("%s %s, example %s: %d: %s", method, path, name, a.status, a.body)
					}
				}
			}
		}
	}
	if count < 10 {
		t.Errorf("only %d examples were tried", count)
	}
}

func mapKeys(o object) func(func(string) bool) {
	return func(yield func(string) bool) {
		for k := range o {
			if !yield(k) {
				return
			}
		}
	}
}

// The description of an endpoint's settings has the keys that there are.
func TestSettingsAreDescribed(t *testing.T) {
	t.Parallel()
	d := describe(t)
	properties, _ := at(d.object, "components", "schemas", "NewEndpoint", "properties").(object)
	_, err := endpoint.Parse("", []byte(`{"url":"https://crm.example.com","zzzzzzzzzz":1}`))
	if err == nil {
		t.Fatal("an unknown key is accepted")
	}
	for name := range properties {
		// A value of no sensible type: the mistake must be the value's, not the key's.
		if _, err := endpoint.Parse("", fmt.Appendf(nil, `{"url":"https://crm.example.com",%q:[[[]]]}`, name)); err != nil && strings.Contains(err.Error(), "unknown") {
			t.Errorf("the description has %q, which the parser does not know: %v", name, err)
		}
	}
	settings, _ := at(d.object, "components", "schemas", "Settings", "properties").(object)
	for name := range settings {
		if properties[name] == nil {
			t.Errorf("NewEndpoint lacks %q", name)
		}
	}
	known := knownKeys(err)
	if len(known) < 20 {
		t.Fatalf("the parser lists only %q", known)
	}
	for _, name := range known {
		if properties[name] == nil {
			t.Errorf("the parser knows %q, and the description does not", name)
		}
	}
}

// knownKeys are those that the parser's complaint about an unknown one lists.
func knownKeys(err error) []string {
	_, keys, _ := strings.Cut(err.Error(), "the keys here are ")
	return strings.Split(keys, ", ")
}

// The served document is the one in the source, and needs no token.
func TestDescriptionIsServed(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.do("GET", "/openapi.json", "", "")
	want, err := api.Describe("1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if a.status != http.StatusOK || !bytes.Equal(a.body, want) || !json.Valid(a.body) {
		t.Errorf("the answer is %d with %d bytes", a.status, len(a.body))
	}
	if a := w.do("HEAD", "/openapi.json", "", ""); a.status != http.StatusOK || len(a.body) != 0 {
		t.Errorf("HEAD: %d with %d bytes", a.status, len(a.body))
	}
}

// The roles of the table are the control's own: what the edge admits, the
// control does not refuse, and the reverse.
func TestRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ladder := []string{"viewer", "operator", "admin"}
	tokens := map[string]string{"viewer": "eyes", "operator": "hands", "admin": "root"}
	before := w.snapshot()
	for _, r := range api.Routes() {
		path := strings.NewReplacer("{name}", "nobody", "{id}", "999999").Replace(r.Path)
		for i, role := range ladder {
			body := ""
			if len(r.Media) > 0 {
				body = `{}`
			}
			a := w.do(r.Method, path, tokens[role], body)
			allowed := slices.Index(ladder, r.Role) <= i
			switch {
			case allowed && a.status == http.StatusForbidden:
				t.Errorf("%s %s as %s: forbidden", r.Method, r.Path, role)
			case !allowed && (a.status != http.StatusForbidden || !strings.Contains(a.problem(t).Detail, "role "+r.Role)):
				t.Errorf("%s %s as %s: %d: %s", r.Method, r.Path, role, a.status, a.body)
			}
		}
	}
	w.unchanged(before, "what roles may")
	// The control alone, behind the edge.
	service := control.New(control.Options{Store: w.store, Queue: w.queue})
	if _, err := service.AddEndpoint(t.Context(), control.Actor{Name: "x", Role: "operator"}, control.NewEndpoint{Name: "x", Document: []byte(`{"url":"https://a.example"}`)}); err == nil {
		t.Error("the control lets an operator add endpoints")
	}
}
