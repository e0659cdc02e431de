package bridge_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"gancho/delivery/endpoint"
	"gancho/internal/bridge"
	"gancho/internal/state"
)

func row(t *testing.T, id, version int64, name, document string, secrets ...string) state.Endpoint {
	t.Helper()
	e := state.Endpoint{ID: id, Version: version, Name: name, Document: json.RawMessage(document)}
	for _, text := range secrets {
		s, err := endpoint.ParseSecret(text)
		if err != nil {
			t.Fatal(err)
		}
		e.Secrets = append(e.Secrets, state.Secret{Secret: s})
	}
	return e
}

func urls(endpoints []*endpoint.Endpoint) map[string]string {
	out := map[string]string{}
	for _, e := range endpoints {
		out[e.Name] = e.URL
	}
	return out
}

func TestRoster(t *testing.T) {
	t.Parallel()
	const one, two = "um-segredo-de-32-bytes-para-gancho", "outro-segredo-de-32-bytes-p-gancho"
	var log bytes.Buffer
	r := bridge.NewRoster(zerolog.New(&log))
	r.SetFile(&endpoint.Endpoint{Name: "file", URL: "https://file.com"})
	r.SetStored(row(t, 1, 1, "a", `{"url": "https://a.com"}`, one), row(t, 2, 1, "file", `{"url": "https://stored.com"}`))
	if diff := cmp.Diff(map[string]string{"file": "https://file.com", "a": "https://a.com"}, urls(r.All())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_ = r.All()
	if n := strings.Count(log.String(), "same name"); n != 1 {
		t.Errorf("the clash is said %d times", n)
	}

	// A document that cannot be read keeps its last good form, its state and
	// secrets do not; one that never could is held, and gets its events.
	bad := row(t, 1, 2, "a", `nonsense`, two)
	bad.State = endpoint.Paused
	lost := row(t, 4, 1, "lost", "")
	lost.Document, lost.Sealed = nil, &state.KeyError{What: "the settings", ID: "k7"}
	lost.Public, lost.Tenants = json.RawMessage(`{"events":["a.*"],"headers":{"X":"***"}}`), []string{"1"}
	off := row(t, 5, 1, "off", "nonsense")
	off.State = endpoint.Inactive
	r.SetStored(bad, row(t, 3, 1, "new", `nonsense`), lost, off)
	all := r.All()
	for i, want := range []struct {
		state           endpoint.State
		events, tenants []string
	}{2: {endpoint.Paused, nil, nil}, 3: {endpoint.Paused, []string{"a.*"}, []string{"1"}}, 4: {endpoint.Inactive, nil, nil}} {
		if e := all[i]; i > 1 && (e.State != want.state || !slices.Equal(e.Events, want.events) || !slices.Equal(e.Tenants, want.tenants)) {
			t.Errorf("%s is %s, for %v of %v", e.Name, e.State, e.Events, e.Tenants)
		}
	}
	if !strings.Contains(log.String(), "k7") {
		t.Errorf("the log does not say which key is missing: %s", log.String())
	}
	if diff := cmp.Diff(map[string]string{"file": "https://file.com", "a": "https://a.com", "new": "", "lost": "", "off": ""}, urls(all)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	want, err := endpoint.ParseSecret(two)
	if err != nil {
		t.Fatal(err)
	}
	if a := all[1]; a.State != endpoint.Paused || len(a.Secrets) != 1 || !a.Secrets[0].Equal(want) {
		t.Errorf("a is %s with %d secrets", a.State, len(a.Secrets))
	}
	log.Reset()
	r.SetStored(bad, row(t, 3, 1, "new", `nonsense`), lost, off)
	if log.Len() > 0 {
		t.Errorf("what was said is said again: %s", log.String())
	}

	// What cannot be decrypted keeps its secrets, too.
	r.SetStored(state.Endpoint{ID: 1, Version: 3, Name: "a", Sealed: &state.KeyError{}})
	if a := r.All()[1]; a.URL != "https://a.com" || len(a.Secrets) != 1 || !a.Secrets[0].Equal(want) {
		t.Errorf("a is %s with %d secrets", a.URL, len(a.Secrets))
	}
	// Mended, it is as it should be; gone, it is gone, and its id is forgotten.
	r.SetStored(row(t, 1, 4, "a", `{"url": "https://b.com"}`, one))
	if r.All()[1].URL != "https://b.com" {
		t.Errorf("a is %v", urls(r.All()))
	}
	r.SetStored()
	if len(r.All()) != 1 {
		t.Errorf("left are %v", urls(r.All()))
	}
	r.SetStored(row(t, 1, 5, "a", "nonsense"))
	if a := r.All()[1]; a.URL != "" || a.State != endpoint.Paused {
		t.Errorf("a form that was forgotten is used: %s", a.URL)
	}
}

// The fields of a tenant are in every request of its endpoints, of the file and stored, beside their own; while they cannot be read, its
// endpoints are held, unless they could be before.
func TestRosterFields(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	r := bridge.NewRoster(zerolog.New(&log))
	r.SetFile(&endpoint.Endpoint{Name: "file", Tenants: []string{"1"}, Extra: map[string]endpoint.Hidden{"token": "its own"}})
	stored := row(t, 1, 1, "a", `{"url": "https://a.com", "tenants": [1]}`)
	bare := row(t, 2, 1, "bare", `{"url": "https://a.com", "tenants": [1], "format": "bare"}`)
	all := row(t, 3, 1, "all", `{"url": "https://a.com"}`)
	r.SetStored(stored, bare, all)
	see := func() map[string]string {
		out := map[string]string{}
		for _, e := range r.All() {
			out[e.Name] = e.State.String() + " " + e.Extra["token"].Reveal()
		}
		return out
	}
	unread := state.TenantFields{Tenant: "1", Sealed: &state.KeyError{What: "the fields", ID: "k7"}}
	fields := state.TenantFields{Tenant: "1", Fields: map[string]endpoint.Hidden{"token": "the tenant's"}}
	for _, step := range []struct {
		fields []state.TenantFields
		want   map[string]string
	}{
		{nil, map[string]string{"file": "active its own", "a": "active ", "bare": "active ", "all": "active "}},
		{[]state.TenantFields{unread}, map[string]string{"file": "paused its own", "a": "paused ", "bare": "paused ", "all": "active "}},
		{[]state.TenantFields{fields}, map[string]string{"file": "active its own", "a": "active the tenant's", "bare": "active ", "all": "active "}},
		{[]state.TenantFields{unread}, map[string]string{"file": "active its own", "a": "active the tenant's", "bare": "active ", "all": "active "}},
		{nil, map[string]string{"file": "active its own", "a": "active ", "bare": "active ", "all": "active "}},
	} {
		r.SetFields(step.fields...)
		if diff := cmp.Diff(step.want, see()); diff != "" {
			t.Errorf("with %v (-want +got):\n%s", step.fields, diff)
		}
	}
	if n := strings.Count(log.String(), "cannot be read"); n != 2 {
		t.Errorf("it is said %d times that the fields cannot be read", n)
	}
}

// TestRosterShares: an endpoint that did not change is the same one after every reload, edit and look, with the fields of its tenant, too:
// of ten thousand a copy each would be kept, and connections are known by it.
func TestRosterShares(t *testing.T) {
	t.Parallel()
	r := bridge.NewRoster(zerolog.Nop())
	file := func(url string) *endpoint.Endpoint {
		return &endpoint.Endpoint{Name: "file", URL: url, Tenants: []string{"1"}, Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"X": "y"})}
	}
	set := func(url string, version int64, document string) (ofFile, stored *endpoint.Endpoint) {
		t.Helper()
		r.SetFile(file(url))
		r.SetStored(row(t, 1, version, "stored", document, "um-segredo-de-32-bytes-para-gancho"))
		all := r.All()
		if len(all) != 2 || all[0] != r.All()[0] || all[1] != r.All()[1] {
			t.Fatal("endpoints are others each time")
		}
		return all[0], all[1]
	}
	for _, fields := range [][]state.TenantFields{nil, {{Tenant: "1", Fields: map[string]endpoint.Hidden{"token": "the tenant's"}}}} {
		r.SetFields(fields...)
		ofFile, stored := set("https://a.com", 1, `{"url": "https://a.com", "tenants": [1]}`)
		if f, s := set("https://a.com", 2, `{"tenants": [1], "url": "https://a.com"}`); f != ofFile || s != stored {
			t.Errorf("with fields %v: endpoints that mean the same are others", fields)
		}
		if f, s := set("https://b.com", 3, `{"url": "https://b.com", "tenants": [1]}`); f == ofFile || s == stored || f.URL != "https://b.com" || s.URL != "https://b.com" {
			t.Errorf("with fields %v: endpoints that were changed are the same: %s, %s", fields, f.URL, s.URL)
		}
	}
}
