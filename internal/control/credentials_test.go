package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/state"
)

// TestCredentials of receivers that know another scheme: a secret signs after it was stored as it
// was written, what cannot sign is refused before it takes the place of what does, and nobody is
// shown a login.
func TestCredentials(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	const secret = "It's a Secret to Everybody"
	document := `{"url": "https://example.com", "secret": "` + secret + `", "signatures": ["github"], "auth": {"basic": {"user": "ana", "password": "segredo-da-ana"}}}`
	if _, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "assinado", Document: []byte(document)}); err != nil {
		t.Fatal(err)
	}
	stored, err := g.Store.Endpoint(ctx, "assinado")
	if err != nil {
		t.Fatal(err)
	}
	key, _ := stored.Secrets[0].Secret.Key(endpoint.KeyText)
	if string(key) != secret || !stored.Secrets[0].Secret.IsText() {
		t.Errorf("the stored secret's key is %q", key)
	}
	refused := func(what string, err error) {
		var invalid *control.InvalidError
		if !errors.As(err, &invalid) || strings.Contains(err.Error(), "Everybody") {
			t.Errorf("%s: %v, want a refusal", what, err)
		}
	}
	_, err = g.Rotate(ctx, root, "assinado", control.Rotation{Ed25519: true})
	refused("rotation to ed25519", err)
	_, err = g.EditEndpoint(ctx, root, "assinado", control.Edit{Patch: []byte(`{"signatures": ["svix"]}`)})
	refused("a key of base64", err)
	_, err = g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "outro", Document: []byte(`{"url": "https://example.com", "signatures": ["github"]}`), Ed25519: true})
	refused("a new ed25519 key", err)
	_, err = g.EditEndpoint(ctx, root, "assinado", control.Edit{Patch: []byte(`{"url": "https://outro.example.com"}`)})
	refused("a login that moves to another server", err)
	if _, err := g.Rotate(ctx, root, "assinado", control.Rotation{}); err != nil {
		t.Error(err)
	}
	if _, err := g.EditEndpoint(ctx, root, "assinado", control.Edit{Patch: []byte(`{"auth": {"basic": {"password": "outro-segredo"}}}`)}); err != nil {
		t.Error(err)
	}
	view, err := g.Settings(ctx, root, "assinado")
	if err != nil {
		t.Fatal(err)
	}
	log, err := g.Audit(ctx, root, state.AuditFilter{}, "", 0)
	if err != nil || len(log.Items) == 0 {
		t.Fatal(err)
	}
	shown := string(view.Settings)
	for _, entry := range log.Items {
		shown += string(entry.Before) + string(entry.After)
	}
	for _, hidden := range []string{"segredo", "Everybody"} {
		if strings.Contains(shown, hidden) {
			t.Errorf("somebody is shown %s: %s", hidden, shown)
		}
	}
}

// TestUnsignedEndpoint has no key, so that nobody is given one that signs nothing, until it is to sign.
func TestUnsignedEndpoint(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	add := func(name, document string, ed25519 bool) (control.CreatedView, error) {
		return g.AddEndpoint(ctx, root, control.NewEndpoint{Name: name, Document: []byte(document), Ed25519: ed25519})
	}
	for name, document := range map[string]string{
		"sala":  `{"url": "https://hooks.slack.com/services/a/b/c", "style": "slack"}`,
		"login": `{"url": "https://example.com", "standard": false, "auth": {"bearer": "um-token"}}`,
	} {
		made, err := add(name, document, false)
		if err != nil || made.Secret != "" || made.Public != "" || len(made.Endpoint.Keys) != 0 {
			t.Errorf("%s: %+v, %v, want no key", name, made, err)
		}
		var invalid *control.InvalidError
		if _, err := add(name+"-ed25519", document, true); !errors.As(err, &invalid) {
			t.Errorf("%s with an ed25519 key: %v, want a refusal", name, err)
		}
		sign := control.Edit{Patch: []byte(`{"style": null, "standard": null}`)}
		if _, err := g.EditEndpoint(ctx, root, name, sign); !errors.As(err, &invalid) {
			t.Errorf("%s is to sign without a key: %v, want a refusal", name, err)
		}
		if _, err := g.EditEndpoint(ctx, root, name, control.Edit{Patch: []byte(`{"rate": "2/s"}`)}); err != nil {
			t.Errorf("another setting of %s: %v", name, err)
		}
		made, err = g.Rotate(ctx, root, name, control.Rotation{})
		if err != nil || made.Secret == "" {
			t.Errorf("rotation of %s: %+v, %v", name, made, err)
		}
		if _, err := g.EditEndpoint(ctx, root, name, sign); err != nil {
			t.Errorf("%s is to sign with a key: %v", name, err)
		}
	}
	if made, err := add("assinado", `{"url": "https://example.com", "standard": false, "signatures": ["github"]}`, false); err != nil || made.Secret == "" {
		t.Errorf("a signature of a vendor's: %+v, %v, want a key", made, err)
	}
}

// TestRememberedTest: whoever looks at an endpoint is told of its receiver's wrong successes, until its settings change.
func TestRememberedTest(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	settings := `{"url": "` + g.receiver.URL + `", "allow_http": true, "allow_private": ["127.0.0.0/8"]}`
	if _, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: "guardado", Document: []byte(settings)}); err != nil {
		t.Fatal(err)
	}
	tested := func(name string) *state.EndpointTest {
		t.Helper()
		one, err := g.Endpoint(ctx, root, name)
		if err != nil {
			t.Fatal(err)
		}
		list, err := g.Endpoints(ctx, root, "", 0)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range list.Items {
			if e.Name == name && (e.Tested == nil) != (one.Tested == nil) {
				t.Errorf("the list has %v of %s, the endpoint %v", e.Tested, name, one.Tested)
			}
		}
		return one.Tested
	}
	for _, name := range []string{"arquivo", "guardado"} {
		if got := tested(name); got != nil {
			t.Errorf("%s was never tested: %+v", name, got)
		}
		x, err := g.Test(ctx, root, name)
		if err != nil || x.Outcome != "delivered" {
			t.Fatal(x.Error, err)
		}
		got := tested(name)
		if got == nil || got.Time.IsZero() || len(got.Wrong) == 0 {
			t.Fatalf("%s: %+v is remembered", name, got)
		}
		if diff := cmp.Diff(x.Wrong, got.Wrong); diff != "" || !got.Wrong[0].Accepted {
			t.Errorf("%s: what the receiver said (want -, got +):\n%s", name, diff)
		}
	}
	if _, err := g.EditEndpoint(ctx, root, "guardado", control.Edit{Patch: []byte(`{"success": {"status": 204}}`)}); err != nil {
		t.Fatal(err)
	}
	if got := tested("guardado"); got != nil {
		t.Errorf("other settings were not tested: %+v", got)
	}
	if _, err := g.Test(ctx, root, "guardado"); err != nil || tested("guardado") == nil {
		t.Errorf("tested again: %v, %v", tested("guardado"), err)
	}
	if _, err := g.Remove(ctx, root, "guardado", false); err != nil {
		t.Fatal(err)
	}
	if left, err := g.Store.Tests(ctx, []string{"guardado"}); err != nil || len(left) != 0 {
		t.Errorf("the test of a removed endpoint is remembered: %v, %v", left, err)
	}
}
