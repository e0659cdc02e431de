package state_test

import (
	"errors"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

func texts(all []state.TenantFields) map[string]string {
	out := map[string]string{}
	for _, f := range all {
		for name, v := range f.Fields {
			out[f.Tenant+" "+name] = v.Reveal()
		}
	}
	return out
}

// Fields are encrypted, one by one changed and removed, told in the audit log by name only, and encrypted again by rekey.
func TestFields(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	set := func(tenant string, fields map[string]string, remove ...string) {
		t.Helper()
		change := map[string]*endpoint.Hidden{}
		for name, text := range fields {
			change[name] = new(endpoint.Hidden(text))
		}
		for _, name := range remove {
			change[name] = nil
		}
		check(t, s.ChangeFields(ctx, "cli:ana", tenant, change))
	}
	revision := query[int64](t, dsn, `select n from gancho.revision`)
	set("1", map[string]string{"validationtoken": "segredo-um", "loja": "São Paulo €"})
	if query[int64](t, dsn, `select n from gancho.revision`) == revision {
		t.Error("bridges are not told")
	}
	set("2", map[string]string{"validationtoken": "segredo-dois"})
	set("1", map[string]string{"validationtoken": "segredo-novo"}, "loja")
	set("3", map[string]string{"a": "segredo-tres"})
	set("3", nil, "a")
	want := map[string]string{"1 validationtoken": "segredo-novo", "2 validationtoken": "segredo-dois"}
	if diff := cmp.Diff(want, texts(must[[]state.TenantFields](t)(s.Fields(ctx, "")))); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if got := must[[]state.TenantFields](t)(s.Fields(ctx, "2")); len(got) != 1 || got[0].Tenant != "2" {
		t.Errorf("those of one tenant are %v", got)
	}
	for _, table := range []string{"tenant_fields", "audit"} {
		if n := query[int](t, dsn, `select count(*) from gancho.`+table+` t where to_jsonb(t)::text like '%segredo%'`); n != 0 {
			t.Errorf("%d rows of %s have a value in clear", n, table)
		}
	}
	if n := query[int](t, dsn, `select count(*) from gancho.audit where action = 'fields.edit' and object = 'tenant/1' and tenant = '1'`); n != 2 {
		t.Errorf("%d entries of the audit log, want 2", n)
	}
	without := open(t, dsn, keys(t, "b"))
	if got := must[[]state.TenantFields](t)(without.Fields(ctx, "1")); got[0].Sealed == nil || got[0].Sealed.ID != "a" || got[0].Fields != nil {
		t.Errorf("without the key: %+v", got)
	}
	var lost *state.KeyError
	if err := without.ChangeFields(ctx, "cli:ana", "1", map[string]*endpoint.Hidden{"x": nil}); !errors.As(err, &lost) {
		t.Errorf("a change without the key: %v", err)
	}
	if n := must[int](t)(open(t, dsn, keys(t, "b", "a")).Rekey(ctx, "cli:ana", parked{})); n != 2 {
		t.Errorf("%d values were encrypted again, want 2", n)
	}
	if diff := cmp.Diff(want, texts(must[[]state.TenantFields](t)(without.Fields(ctx, "")))); diff != "" {
		t.Errorf("after rekeying, with the new key alone (-want +got):\n%s", diff)
	}
}

// Of the fields of thousands of tenants those are decrypted again that have changed.
func TestFieldsAreDecryptedOnce(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	set := func(tenant, value string) {
		t.Helper()
		check(t, s.ChangeFields(ctx, "cli:ana", tenant, map[string]*endpoint.Hidden{"loja": new(endpoint.Hidden(value))}))
	}
	read := func() (values map[string]string, maps map[string]uintptr) {
		t.Helper()
		values, maps = map[string]string{}, map[string]uintptr{}
		for _, f := range must[[]state.TenantFields](t)(s.Fields(ctx, "")) {
			v := f.Fields["loja"]
			values[f.Tenant], maps[f.Tenant] = v.Reveal(), reflect.ValueOf(f.Fields).Pointer()
		}
		return values, maps
	}
	set("1", "a")
	set("2", "b")
	_, first := read()
	set("2", "c")
	set("3", "d")
	values, second := read()
	same(t, "values", map[string]string{"1": "a", "2": "c", "3": "d"}, values)
	if second["1"] != first["1"] || second["2"] == first["2"] {
		t.Errorf("decrypted as %v, then %v", first, second)
	}
	must[int](t)(open(t, dsn, keys(t, "b", "a")).Rekey(ctx, "cli:ana", parked{}))
	execute(t, dsn, `delete from gancho.tenant_fields where tenant = '1'`)
	values, _ = read()
	same(t, "values after rekeying, without the key", map[string]string{"2": "", "3": ""}, values)
}

// ChangeEndpoints does all of a plan or nothing, with one entry of the audit log; of two at a time the second sees what the first has done.
func TestChangeEndpoints(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	for _, e := range []state.Endpoint{newEndpoint("a", "1"), newEndpoint("b", "1"), newEndpoint("alheio", "2"), newEndpoint("ambos", "1", "2")} {
		must[state.Endpoint](t)(s.AddEndpoint(ctx, "cli:ana", e, nil))
	}
	entry := state.Change{Actor: "cli:ana", Action: "unit.edit", Object: "screen/iset"}
	planned := func(name string) state.PlannedEndpoint {
		return state.PlannedEndpoint{Endpoint: newEndpoint(name, "1"), Secrets: []endpoint.Secret{endpoint.GenerateSecret()}}
	}
	err := s.ChangeEndpoints(ctx, "1", entry, func(now []state.Endpoint) (state.EndpointPlan, error) {
		if len(now) != 2 || now[0].Name != "a" || now[0].Document == nil {
			t.Errorf("the plan gets %+v", now)
		}
		changed := now[0]
		changed.State = endpoint.Inactive
		return state.EndpointPlan{Add: []state.PlannedEndpoint{planned("c")}, Change: []state.Endpoint{changed}, Drop: []string{"b"}}, nil
	})
	check(t, err)
	names := func() (all []string) {
		for _, e := range must[[]state.Endpoint](t)(s.EndpointsOf(ctx, "1")) {
			all = append(all, e.Name+" "+e.State.String())
		}
		return all
	}
	if diff := cmp.Diff([]string{"a inactive", "c active"}, names()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if drops := must[[]string](t)(s.Drops(ctx)); !slices.Equal(drops, []string{"b"}) {
		t.Errorf("the queues to drop are %v", drops)
	}
	entries := must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Action: "unit.edit"}, 0, 10))
	if len(entries) != 1 || entries[0].Tenant != "1" || !strings.Contains(string(entries[0].Before), `"b"`) || !strings.Contains(string(entries[0].After), `"c"`) {
		t.Errorf("the audit log has %+v", entries)
	}
	for what, plan := range map[string]state.EndpointPlan{
		"a name that is taken":   {Remove: []string{"a"}, Add: []state.PlannedEndpoint{planned("alheio")}},
		"another's endpoint":     {Add: []state.PlannedEndpoint{planned("d")}, Change: []state.Endpoint{newEndpoint("alheio", "2")}},
		"one of several tenants": {Remove: []string{"ambos"}},
	} {
		err := s.ChangeEndpoints(ctx, "1", entry, func([]state.Endpoint) (state.EndpointPlan, error) { return plan, nil })
		if !errors.Is(err, state.ErrConflict) && !errors.Is(err, state.ErrNotFound) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if diff := cmp.Diff([]string{"a inactive", "c active"}, names()); diff != "" {
		t.Errorf("a refused change has changed something (-want +got):\n%s", diff)
	}
	var both sync.WaitGroup
	for range 2 {
		both.Go(func() {
			err := s.ChangeEndpoints(ctx, "5", entry, func(now []state.Endpoint) (p state.EndpointPlan, err error) {
				if len(now) == 0 {
					first := planned("so-um")
					first.Tenants = []string{"5"}
					p.Add = append(p.Add, first)
				}
				return p, nil
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	both.Wait()
}
