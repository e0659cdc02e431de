package control_test

import (
	"context"
	"errors"
	"strings"
	"testing"

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
