package bridge_test

import (
	"bytes"
	"encoding/json"
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

func urls(endpoints []endpoint.Endpoint) map[string]string {
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
	r.SetFile(endpoint.Endpoint{Name: "file", URL: "https://file.com"})
	if err := r.SetStored(row(t, 1, 1, "a", `{"url": "https://a.com"}`, one), row(t, 2, 1, "file", `{"url": "https://stored.com"}`)); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(map[string]string{"file": "https://file.com", "a": "https://a.com"}, urls(r.All())); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	_ = r.All()
	if n := strings.Count(log.String(), "same name"); n != 1 {
		t.Errorf("the clash is said %d times", n)
	}

	// A document that cannot be read keeps its last good form, its state and
	// secrets do not; one that never could is left out.
	bad := row(t, 1, 2, "a", `nonsense`, two)
	bad.State = endpoint.Paused
	if err := r.SetStored(bad, row(t, 3, 1, "new", `nonsense`)); err == nil || !strings.Contains(err.Error(), "new") || strings.Contains(err.Error(), "a,") {
		t.Errorf("the error is %v, want one about new", err)
	}
	all := r.All()
	if diff := cmp.Diff(map[string]string{"file": "https://file.com", "a": "https://a.com"}, urls(all)); diff != "" {
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
	_ = r.SetStored(bad, row(t, 3, 1, "new", `nonsense`))
	if log.Len() > 0 {
		t.Errorf("what was said is said again: %s", log.String())
	}

	// What cannot be decrypted keeps its secrets, too.
	sealed := state.Endpoint{ID: 1, Version: 3, Name: "a"}
	if err := r.SetStored(sealed); err != nil {
		t.Errorf("an endpoint with a good form is reported: %v", err)
	}
	if a := r.All()[1]; a.URL != "https://a.com" || len(a.Secrets) != 1 || !a.Secrets[0].Equal(want) {
		t.Errorf("a is %s with %d secrets", a.URL, len(a.Secrets))
	}
	// Mended, it is as it should be; gone, it is gone, and its id is forgotten.
	if err := r.SetStored(row(t, 1, 4, "a", `{"url": "https://b.com"}`, one)); err != nil || r.All()[1].URL != "https://b.com" {
		t.Errorf("a is %v, %v", urls(r.All()), err)
	}
	if err := r.SetStored(); err != nil || len(r.All()) != 1 {
		t.Errorf("left are %v, %v", urls(r.All()), err)
	}
	if err := r.SetStored(row(t, 1, 5, "a", "nonsense")); err == nil {
		t.Error("a form that was forgotten is used")
	}
}
