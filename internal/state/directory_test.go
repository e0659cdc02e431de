package state_test

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// rowsOf are the rows themselves.
func rowsOf(all []*state.Known) []state.Endpoint {
	var out []state.Endpoint
	for _, k := range all {
		out = append(out, k.Endpoint)
	}
	return out
}

func known(rows []state.Endpoint) []*state.Known {
	var out []*state.Known
	for _, e := range rows {
		out = append(out, state.NewKnown(e))
	}
	return out
}

// settingsOf are what the documents mean, with their secrets.
func settingsOf(t *testing.T, all []*state.Known) map[string]string {
	t.Helper()
	out := map[string]string{}
	for _, k := range all {
		e := must[*endpoint.Endpoint](t)(k.Settings(nil))
		out[k.Name] = e.Name + " " + e.State.String() + " " + string(e.Document())
		for _, s := range e.Secrets {
			out[k.Name] += " " + s.Reveal()
		}
	}
	return out
}

// TestDirectory: after every kind of change, whoever made it, a directory that has read before says the same as a reading of all.
func TestDirectory(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	db := must[*pgx.Conn](t)(pgx.Connect(ctx, dsn))
	t.Cleanup(func() { _ = db.Close(ctx) })
	exec := func(sql string, args ...any) {
		t.Helper()
		_, err := db.Exec(ctx, sql, args...)
		check(t, err)
	}
	ep := endpoint.Endpoint{URL: "https://example.com/a"}
	add := func(name string) {
		t.Helper()
		_, err := s.AddEndpoint(ctx, "teste", state.Endpoint{Name: name, Document: ep.Document(), Public: ep.Public()}, []endpoint.Secret{endpoint.GenerateSecret()})
		check(t, err)
	}
	d := s.Directory()
	var before []*state.Known
	// same compares, and returns how many endpoints were read and decrypted for it: those that were not are the ones of before.
	same := func(what string) (read int) {
		t.Helper()
		want := must[[]state.Endpoint](t)(s.EndpointsOf(ctx, ""))
		got := must[[]*state.Known](t)(d.Endpoints(ctx))
		if diff := cmp.Diff(settingsOf(t, known(want)), settingsOf(t, got)); diff != "" {
			t.Errorf("%s, what they mean (-all +directory):\n%s", what, diff)
		}
		for i := range want {
			want[i].Document = nil // what it means is compared
		}
		if diff := cmp.Diff(want, rowsOf(got), cmp.Comparer(endpoint.Secret.Equal)); diff != "" {
			t.Errorf("%s (-all +directory):\n%s", what, diff)
		}
		if len(before) > 0 && len(got) > 0 && len(before) == len(got) && &before[0] == &got[0] {
			t.Errorf("%s: nothing was read", what)
		}
		for i := range got {
			if !slices.Contains(before, got[i]) {
				read++
			}
		}
		before = got
		return read
	}
	for _, name := range []string{"a-b", "ab", "a_c", "a0"} {
		add(name)
	}
	if n := same("at first"); n != 4 {
		t.Errorf("%d endpoints were read at first, want 4", n)
	}
	one := must[state.Endpoint](t)(s.Endpoint(ctx, "ab"))
	one.Document = []byte(`{"url":"https://example.com/b"}`)
	must[state.Endpoint](t)(s.UpdateEndpoint(ctx, "teste", one))
	if n := same("after an edit"); n != 1 {
		t.Errorf("%d endpoints were read after an edit of one", n)
	}
	must[state.Endpoint](t)(s.SetEndpointState(ctx, "teste", "a0", endpoint.Paused))
	same("paused")
	must[state.Endpoint](t)(s.RotateSecret(ctx, "teste", "a_c", endpoint.GenerateSecret(), time.Hour))
	same("with another secret")
	exec(`update gancho.secrets set expires = now() - interval '1 second' where expires is not null`)
	same("when a secret has expired")
	exec(`update gancho.endpoints set state = 'inactive' where name = 'ab'`)
	same("by hand, without another version")
	check(t, s.RemoveEndpoint(ctx, "teste", "a-b", false))
	same("removed")
	check(t, s.RemoveEndpoint(ctx, "teste", "a0", false))
	add("a0")
	same("removed and added again")
	exec(`update gancho.endpoints set sealed = '\x00' where name = 'a_c'`)
	got := must[[]*state.Known](t)(d.Endpoints(ctx))
	if i := slices.IndexFunc(got, func(e *state.Known) bool { return e.Name == "a_c" }); i < 0 || got[i].Sealed == nil {
		t.Errorf("one that cannot be decrypted: %+v", rowsOf(got))
	} else if settings, err := got[i].Settings(nil); settings != nil || !errors.Is(err, got[i].Sealed) {
		t.Errorf("the settings of one that cannot be decrypted: %+v, %v", settings, err)
	}
	if again := must[[]*state.Known](t)(d.Endpoints(ctx)); &again[0] != &got[0] {
		t.Error("without a change it is read again")
	}
}

// TestDirectoryOnRekey: values that another key has encrypted meanwhile are read again.
func TestDirectoryOnRekey(t *testing.T) {
	t.Parallel()
	dsn := database(t, "")
	ctx := t.Context()
	old, both, bare := open(t, dsn, keys(t, "a")), open(t, dsn, keys(t, "b", "a")), open(t, dsn, keys(t, "a"))
	ep := endpoint.Endpoint{URL: "https://example.com/a"}
	must[state.Endpoint](t)(old.AddEndpoint(ctx, "teste", state.Endpoint{Name: "a", Document: ep.Document(), Public: ep.Public()}, nil))
	d, without := both.Directory(), bare.Directory()
	want := must[[]*state.Known](t)(d.Endpoints(ctx))
	former := must[*endpoint.Endpoint](t)(want[0].Settings(nil))
	must[[]*state.Known](t)(without.Endpoints(ctx))
	must[int](t)(both.Rekey(ctx, "teste", parked{}))
	got := must[[]*state.Known](t)(d.Endpoints(ctx))
	if diff := cmp.Diff(rowsOf(want), rowsOf(got), cmp.Comparer(endpoint.Secret.Equal)); diff != "" {
		t.Errorf("a process with both keys (-before +after):\n%s", diff)
	}
	if got[0] == want[0] {
		t.Error("what another key has encrypted is not read again")
	}
	if settings := must[*endpoint.Endpoint](t)(got[0].Settings(former)); settings != former {
		t.Error("what means the same is there twice")
	}
	if got := must[[]*state.Known](t)(without.Endpoints(ctx)); got[0].Sealed == nil || got[0].Sealed.ID != "b" {
		t.Errorf("a process without the new key: %+v", rowsOf(got))
	}
}

// TestDirectoryTogether: many ask while it changes; each sees at least what it has stored itself.
func TestDirectoryTogether(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	d := s.Directory()
	ep := endpoint.Endpoint{URL: "https://example.com/a"}
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			name := fmt.Sprintf("e%d", i)
			if _, err := s.AddEndpoint(ctx, "teste", state.Endpoint{Name: name, Document: ep.Document(), Public: ep.Public()}, nil); err != nil {
				t.Error(err)
				return
			}
			rows, err := d.Endpoints(ctx)
			if err != nil || !slices.ContainsFunc(rows, func(e *state.Known) bool { return e.Name == name }) {
				t.Errorf("%s is not there: %v", name, err)
			}
		})
	}
	all.Wait()
}
