package control_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestEditKeepsSecrets sends back what a view shows: nothing has changed. And
// each secret that is hidden there can be kept, changed or removed alone.
func TestEditKeepsSecrets(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	document := `{
  "url": "https://crm.example.com/hook?a=1&token=segredo&token=outro&solto",
  "headers": {"X-Api-Key": "chave", "X-Unidade": "1"},
  "extra": {"validationtoken": "abc"},
  "proxy": "http://eu:senha@proxy.example.com:3128"
}`
	made, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "crm", Document: []byte(document)})
	if err != nil {
		t.Fatal(err)
	}
	before, err := g.Store.Endpoint(ctx, "crm")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := g.EditEndpoint(ctx, root, "crm", control.Edit{Patch: made.Endpoint.Settings}); err != nil {
		t.Fatal(err)
	}
	after, err := g.Store.Endpoint(ctx, "crm")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(before.Document), string(after.Document)); diff != "" {
		t.Errorf("what a view shows, sent back, changes (-before +after):\n%s", diff)
	}
	steps := []struct{ patch, key, want string }{
		{`{"url": "https://crm.example.com/?token=***&x=1&token=***"}`, "url", `"https://crm.example.com/?token=segredo&x=1&token=outro"`},
		{`{"headers": {"x-api-key": "***", "x-unidade": null, "X-Nova": "n"}}`, "headers", `{"X-Api-Key":"chave","X-Nova":"n"}`},
		{`{"extra": {"validationtoken": "novo"}}`, "extra", `{"validationtoken":"novo"}`},
		{`{"proxy": "http://outro:***@proxy.example.com:3128"}`, "proxy", `"http://outro:senha@proxy.example.com:3128"`},
		{`{"rate": "5/s", "name": "crm", "state": "active"}`, "rate", `"5/s"`},
		{`{"rate": null}`, "rate", ``},
	}
	for _, step := range steps {
		if _, err := g.EditEndpoint(ctx, root, "crm", control.Edit{Patch: []byte(step.patch)}); err != nil {
			t.Errorf("%s: %v", step.patch, err)
			continue
		}
		e, err := g.Store.Endpoint(ctx, "crm")
		if err != nil {
			t.Fatal(err)
		}
		var keys map[string]json.RawMessage
		if err := json.Unmarshal(e.Document, &keys); err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(step.want, string(keys[step.key])); diff != "" {
			t.Errorf("%s (-want +got):\n%s", step.patch, diff)
		}
	}
}

// TestEditRefused: what is wrong is said by its key, all of it at once, and
// nothing is changed.
func TestEditRefused(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	before, err := g.Store.Endpoint(ctx, "todos")
	if err != nil {
		t.Fatal(err)
	}
	for patch, pointers := range map[string][]string{
		`{"concurency": 3, "retry": ["5s", "soon"]}`: {"/concurency", "/retry/1"},
		`{"headers": {"X-Api-Key": "***"}}`:          {"/headers/X-Api-Key"},
		`{"url": "https://x.example.com/?novo=***"}`: {"/url"},
		`{"url": null}`:                      {""},
		`{"name": "outro"}`:                  {"/name"},
		`{"state": "paused", "secret": "x"}`: {"/state", "/secret"},
		`{"timeout": "1ms"}`:                 {"/timeout"},
		`[]`:                                 {""},
		`null`:                               {""},
		`{} {}`:                              {""},
		`{"format": {"a": 1}}`:               {"/format"},
	} {
		var invalid *control.InvalidError
		_, err := g.EditEndpoint(ctx, root, "todos", control.Edit{Patch: []byte(patch)})
		if !errors.As(err, &invalid) {
			t.Errorf("%s: %v, want a refusal", patch, err)
			continue
		}
		got := []string{}
		for _, p := range invalid.Problems {
			got = append(got, p.Pointer)
			if p.Line != 0 || p.Message == "" {
				t.Errorf("%s: %+v", patch, p)
			}
		}
		if diff := cmp.Diff(pointers, got); diff != "" {
			t.Errorf("%s: %v (-want +got):\n%s", patch, err, diff)
		}
	}
	if _, err := g.EditEndpoint(ctx, root, "todos", control.Edit{Patch: []byte(`{"rate": "1/s"}`), Version: before.Version + 1}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("an edit of another version: %v, want a conflict", err)
	}
	after, err := g.Store.Endpoint(ctx, "todos")
	if err != nil || after.Version != before.Version {
		t.Errorf("version %d, want %d (%v)", after.Version, before.Version, err)
	}
	var readOnly *control.ReadOnlyError
	if _, err := g.EditEndpoint(ctx, root, "arquivo", control.Edit{Patch: []byte(`{"rate": "1/s"}`)}); !errors.As(err, &readOnly) {
		t.Errorf("an edit of the file's endpoint: %v", err)
	}
}

// TestAddRefused: as TestEditRefused, with the places in the document as it
// was given.
func TestAddRefused(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	for _, c := range []struct {
		name, document string
		want           control.Problem
	}{
		{"novo", "url: https://example.com\nretry: [5s, soon]\n", control.Problem{Line: 2, Column: 13, Pointer: "/retry/1"}},
		{"novo", `{"url": "https://example.com", "rate": "fast"}`, control.Problem{Line: 1, Column: 40, Pointer: "/rate"}},
		{"novo", "", control.Problem{}},
		{"novo", "url: ftp://example.com\n", control.Problem{Line: 1, Column: 6, Pointer: "/url"}},
		{"", "url: https://example.com\n", control.Problem{Pointer: "/name"}},
		{"Um Nome", "url: https://example.com\n", control.Problem{Pointer: "/name"}},
		{"um-nome", "name: outro-nome\nurl: https://example.com\n", control.Problem{Pointer: "/name"}},
		{"novo", "url: https://example.com\nsecret: curto\n", control.Problem{Line: 2, Column: 9, Pointer: "/secret"}},
	} {
		var invalid *control.InvalidError
		_, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Origin: "x.yaml", Name: c.name, Document: []byte(c.document)})
		if !errors.As(err, &invalid) {
			t.Errorf("%q: %v, want a refusal", c.document, err)
			continue
		}
		got := invalid.Problems[0]
		got.Message, got.Hint = "", ""
		if diff := cmp.Diff(c.want, got); diff != "" || len(invalid.Problems) != 1 {
			t.Errorf("%q: %v (-want +got):\n%s", c.document, err, diff)
		}
	}
	for _, name := range []string{"um", "arquivo"} {
		var taken *control.TakenError
		if _, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: name, Document: []byte("url: https://example.com\n")}); !errors.As(err, &taken) {
			t.Errorf("a second %s: %v, want that it is taken", name, err)
		}
	}
	if all, err := g.Store.EndpointsOf(ctx, ""); err != nil || len(all) != 3 {
		t.Errorf("%d endpoints are stored (%v), want 3", len(all), err)
	}
}

// TestSecretsOfAnEndpoint: given, made, and rotated ones.
func TestSecretsOfAnEndpoint(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	const given = "whsec_dGVzdGUtc2VjcmV0by1kZS0zMi1ieXRlcy1nYW5jaG8="
	view, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "dado", Document: []byte("url: https://example.com\nsecret: " + given + "\n")})
	if err != nil || view.Secret != "" {
		t.Errorf("%+v, %v", view, err)
	}
	const text = "combinado por telefone, de 32 by"
	known := "whsec_" + base64.StdEncoding.EncodeToString([]byte(text)) // as the receiver needs it
	view, err = g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "texto", Document: []byte("url: https://example.com\nsecret: " + text + "\n")})
	if err != nil || view.Secret != known {
		t.Errorf("%+v, %v", view, err)
	}
	asText, err := endpoint.ParseSecret(text)
	if err != nil {
		t.Fatal(err)
	}
	if view, err = g.Rotate(ctx, root, "texto", control.Rotation{Secret: &asText}); err != nil || view.Secret != known {
		t.Errorf("%+v, %v", view, err)
	}
	view, err = g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "feito", Document: []byte("url: https://example.com\n"), Ed25519: true})
	if err != nil || view.Public == "" || len(view.Endpoint.Keys) != 1 || view.Endpoint.Keys[0].Public != view.Public {
		t.Fatalf("%+v, %v", view, err)
	}
	made, err := endpoint.ParseSecret(view.Secret)
	if err != nil {
		t.Fatal(err)
	}
	stored, err := g.Store.Endpoint(ctx, "feito")
	if err != nil || !stored.Secrets[0].Secret.Equal(made) {
		t.Errorf("the key that was shown is not the one that is stored (%v)", err)
	}
	view, err = g.Rotate(ctx, root, "feito", control.Rotation{Overlap: control.DefaultOverlap})
	if err != nil || view.Secret == "" || view.Until.IsZero() || len(view.Endpoint.Keys) != 2 {
		t.Errorf("%+v, %v", view, err)
	}
	view, err = g.Rotate(ctx, root, "feito", control.Rotation{})
	if err != nil || !view.Until.IsZero() || len(view.Endpoint.Keys) != 1 {
		t.Errorf("%+v, %v", view, err)
	}
	var invalid *control.InvalidError
	if _, err := g.Rotate(ctx, root, "feito", control.Rotation{Overlap: -1}); !errors.As(err, &invalid) {
		t.Errorf("a negative overlap: %v", err)
	}
	for range endpoint.MaxKeys - 1 {
		if view, err = g.Rotate(ctx, root, "feito", control.Rotation{Overlap: control.DefaultOverlap}); err != nil {
			t.Fatal(err)
		}
	}
	var next time.Time
	for _, k := range view.Endpoint.Keys {
		if next.IsZero() || !k.Expires.IsZero() && k.Expires.Before(next) {
			next = k.Expires
		}
	}
	want := "wait until one of them stops (the next at " + next.Format(time.RFC3339) + "), or write 0, which stops the others immediately"
	if _, err := g.Rotate(ctx, root, "feito", control.Rotation{Overlap: control.DefaultOverlap}); !errors.As(err, &invalid) || invalid.Problems[0].Hint != want {
		t.Errorf("a key too many: %v, want the hint %q", err, want)
	}
	if view, err = g.Rotate(ctx, root, "feito", control.Rotation{}); err != nil || len(view.Endpoint.Keys) != 1 {
		t.Errorf("a key too many without overlap: %+v, %v", view, err)
	}
}
