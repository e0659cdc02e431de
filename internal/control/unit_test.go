package control_test

import (
	"errors"
	"strings"
	"testing"

	"gancho/internal/control"
	"gancho/internal/state"
)

// TestUnitAddresses: what a tenant may not do with an address of its own, and what happens to settings beside the screen's.
func TestUnitAddresses(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := t.Context()
	tenant := control.Actor{Name: "token:um", Role: state.Admin, Tenant: "1"}
	change := func(c ...control.AddressChange) (control.UnitView, error) {
		return g.ChangeUnit(ctx, tenant, "iset", control.UnitChange{Addresses: c})
	}
	view, err := change(control.AddressChange{URL: "https://a.example.com/hooks/1", Actions: []string{"pedido"}})
	if err != nil || len(view.Addresses) != 1 || view.Addresses[0].State != "active" || view.Addresses[0].URL != "https://a.example.com/hooks/***" {
		t.Fatalf("%+v, %v", view, err)
	}
	own := view.Addresses[0].Endpoint
	if !strings.HasPrefix(own, "iset-1-") {
		t.Errorf("the endpoint is %s", own)
	}
	// The same address again is the same endpoint; patterns of others' making stay.
	if _, err := g.EditEndpoint(ctx, root, own, control.Edit{Patch: []byte(`{"events":["pedido.criado","pedido.alterado","outro.*"],"headers":{"X-Key":"segredo"}}`)}); err != nil {
		t.Fatal(err)
	}
	view, err = change(control.AddressChange{URL: "https://a.example.com/hooks/1", Actions: []string{"compra"}})
	if err != nil || len(view.Addresses) != 1 || strings.Join(view.Addresses[0].Actions, " ") != "pedido compra" {
		t.Fatalf("%+v, %v", view, err)
	}
	if e, err := g.Endpoint(ctx, root, own); err != nil || !strings.Contains(string(e.Settings), "outro.*") || !strings.Contains(string(e.Settings), "X-Key") {
		t.Errorf("%s, %v", e.Settings, err)
	}
	// Its hidden values are not sent elsewhere, an operator's networks not opened for another address.
	var invalid *control.InvalidError
	if _, err := change(control.AddressChange{Endpoint: own, URL: "https://b.example.com/", Actions: []string{"compra"}}); !errors.As(err, &invalid) || invalid.Problems[0].Pointer != "/addresses/0/headers/X-Key" {
		t.Errorf("another address keeps a header: %v", err)
	}
	if _, err := g.EditEndpoint(ctx, root, own, control.Edit{Patch: []byte(`{"headers":null,"allow_private":["10.0.0.0/8"]}`)}); err != nil {
		t.Fatal(err)
	}
	if _, err := change(control.AddressChange{Endpoint: own, URL: "https://b.example.com/", Actions: []string{"compra"}}); !errors.As(err, &invalid) || invalid.Problems[0].Pointer != "/addresses/0/url" {
		t.Errorf("another address keeps an operator's networks: %v", err)
	}
	for _, name := range []string{"um", "dois", "nenhum"} { // an endpoint of its own that is no screen's, another's, nobody's
		if _, err := change(control.AddressChange{Endpoint: name}); !errors.Is(err, state.ErrNotFound) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := g.Unit(ctx, tenant, "iset", "2"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("another's unit: %v", err)
	}
	view, err = g.ChangeUnit(ctx, tenant, "iset", control.UnitChange{State: "inactive"})
	if err != nil || view.Active || view.Addresses[0].State != "inactive" {
		t.Errorf("%+v, %v", view, err)
	}
	view, err = change(control.AddressChange{URL: "https://c.example.com/", Actions: []string{"estoque"}})
	if err != nil || len(view.Addresses) != 2 || view.Addresses[1].State != "inactive" {
		t.Errorf("a new address is active while the others are not: %+v, %v", view, err)
	}
	view, err = change(control.AddressChange{Endpoint: own}, control.AddressChange{Endpoint: view.Addresses[1].Endpoint})
	if err != nil || len(view.Addresses) != 0 || !view.Active {
		t.Errorf("%+v, %v", view, err)
	}
	g.Quotas.Tenant.Endpoints = 1 // "um" is there already
	var over *control.QuotaError
	if _, err := change(control.AddressChange{URL: "https://c.example.com/", Actions: []string{"estoque"}}); !errors.As(err, &over) {
		t.Errorf("an address over the quota: %v", err)
	}
}
