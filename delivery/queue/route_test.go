package queue_test

import (
	"strconv"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"

	"github.com/google/go-cmp/cmp"
)

func TestRouter(t *testing.T) {
	t.Parallel()
	router := queue.NewRouter([]endpoint.Endpoint{
		0: {Name: "everything"},
		1: {Name: "charges of tenant 1", Tenants: []string{"1"}, Events: []string{"cobranca.*", "cliente.novo"}},
		2: {Name: "inactive", State: endpoint.Inactive},
		3: {Name: "paused", State: endpoint.Paused, Events: []string{"*"}, Tenants: []string{"1", "2"}},
		4: {Name: "new things", Events: []string{"*.nov*"}},
	})
	for range 2 { // worked out, then remembered
		for _, c := range []struct {
			event, tenant string
			want          []int
		}{
			{"cobranca.liquidada", "1", []int{0, 1, 3}},
			{"cobranca.liquidada", "2", []int{0, 3}},
			{"cobranca.liquidada", "01", []int{0}}, // compared as text
			{"cobranca.liquidada", "", []int{0}},
			{"cliente.novo", "1", []int{0, 1, 3, 4}},
			{"cliente.novo", "3", []int{0, 4}},
			{"cobranca", "1", []int{0, 3}},
			{"notificarPagamento", "2", []int{0, 3}},
		} {
			if diff := cmp.Diff(c.want, router.Match(c.event, []byte(c.tenant))); diff != "" {
				t.Errorf("%s of tenant %q: %s", c.event, c.tenant, diff)
			}
		}
	}
	if got := queue.NewRouter(nil).Match("a", nil); len(got) != 0 {
		t.Errorf("no endpoint, yet %v", got)
	}
}

func TestTenantsOfSources(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		of, tenant string
		want       bool
	}{
		{"loja_1/7", "loja_1/7", true}, {"loja_1/7", "loja_1/70", false}, {"loja_1/7", "loja_2/7", false}, {"loja_1", "loja_1", true}, {"loja_1", "loja_1/7", false},
		{"loja_1/*", "loja_1/7", true}, {"loja_1/*", "loja_1", true}, {"loja_1/*", "loja_10/7", false}, {"loja_1/*", "", false}, {"loja_1/*", "loja_1/7/8", true},
		{"loja_*/*", "loja_1/7", true}, {"loja_*/*", "loja_2", true}, {"loja_*/*", "clinica_1/7", false}, {"*/*", "x", true}, {"*/*", "", false}, {"*", "x", false}, {"lo*a", "loja", false},
	} {
		if got := queue.TakesTenant([]string{c.of}, c.tenant); got != c.want {
			t.Errorf("tenants %q take %q: %v, want %v", c.of, c.tenant, got, c.want)
		}
		source, _, _ := strings.Cut(c.tenant, "/")
		if c.want && !queue.TakesSource([]string{c.of}, source) && source != "" {
			t.Errorf("tenants %q take %q and not its source", c.of, c.tenant)
		}
	}
	if !queue.TakesTenant(nil, "") || !queue.TakesSource(nil, "loja_1") || queue.TakesSource([]string{"loja_1/7", "loja_2/*"}, "loja_3") {
		t.Error("an endpoint for all takes some only, or one for some all")
	}
	router := queue.NewRouter([]endpoint.Endpoint{{Name: "all"}, {Name: "lojas", Tenants: []string{"loja_*/*"}}, {Name: "one", Tenants: []string{"loja_1/7"}}})
	if diff := cmp.Diff([]int{0, 1, 2}, router.Match("x", []byte("loja_1/7"))); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]int{0, 1}, router.Match("x", []byte("loja_2"))); diff != "" {
		t.Error(diff)
	}
}

func TestPatterns(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		pattern, event string
		want           bool
	}{
		{"a.b", "a.b", true}, {"a.b", "a.bc", false}, {"a.b", "A.b", false}, {"a?b", "a.b", false}, {"a.b", "axb", false},
		{"*", "", true}, {"*", "a.b.c", true}, {"a.*", "a.", true}, {"a.*", "a.b.c", true}, {"a.*", "a", false}, {"a.*", "ba.b", false},
		{"*.b", "a.b", true}, {"*.b", "a.b.c", false}, {"*.b", ".b", true}, {"a*a", "a", false}, {"a*a", "aa", true}, {"a*b*c", "aXbYc", true},
		{"a*b*c", "acb", false}, {"*ab*ab", "abab", true}, {"*ab*ab", "ab", false}, {"**", "x", true}, {"a**b", "ab", true}, {"", "a", false},
	} {
		got := queue.NewRouter([]endpoint.Endpoint{{Events: []string{c.pattern}}}).Match(c.event, nil)
		if (len(got) == 1) != c.want {
			t.Errorf("%q takes %q: %v, want %v", c.pattern, c.event, !c.want, c.want)
		}
	}
	hostile := queue.NewRouter([]endpoint.Endpoint{{Events: []string{strings.Repeat("a*", 50) + "b"}}})
	if got := hostile.Match(strings.Repeat("a", 10000), nil); got != nil {
		t.Errorf("matched %v", got)
	}
}

func TestRouterMemory(t *testing.T) {
	router := queue.NewRouter([]endpoint.Endpoint{{Tenants: []string{"7", "70000"}}, {Events: []string{"b*"}}})
	tenant := []byte("7")
	if n := testing.AllocsPerRun(100, func() { router.Match("a.b", tenant); router.Match("b.c", tenant) }); n != 0 {
		t.Errorf("%v allocations in steady state", n)
	}
	for i := range 3 * queue.MaxRoutes {
		got := router.Match("a.b", strconv.AppendInt(nil, int64(i), 10))
		if want := i == 7 || i == 70000; (len(got) == 1) != want {
			t.Fatalf("tenant %d: %v", i, got)
		}
		if router.Size() > queue.MaxRoutes+1 {
			t.Fatalf("%d lists remembered", router.Size())
		}
	}
}

// An endpoint that chooses sources gets what their tenants begin with, and of what concerns several tenants only what is all theirs.
func TestEndpointsOfSources(t *testing.T) {
	t.Parallel()
	all := []endpoint.Endpoint{
		{Name: "all", Events: []string{"*", "gancho.*"}},
		{Name: "lojas", Sources: []string{"loja_*"}, Events: []string{"*", "gancho.*"}},
		{Name: "both", Sources: []string{"loja_*"}, Tenants: []string{"loja_1/7", "bar/7"}, Events: []string{"*", "gancho.*"}},
	}
	for tenant, want := range map[string][]string{
		"loja_1/7": {"all", "lojas", "both"}, "loja_2/7": {"all", "lojas"}, "loja_2": {"all", "lojas"}, "bar/7": {"all"}, "bar": {"all"},
	} {
		if diff := cmp.Diff(want, queue.Routed(all, "x", []byte(tenant))); diff != "" {
			t.Errorf("%s: %s", tenant, diff)
		}
		if diff := cmp.Diff(want, queue.Subscribed(all, "gancho.x", tenant)); diff != "" {
			t.Errorf("operational, %s: %s", tenant, diff)
		}
	}
	if diff := cmp.Diff([]string{"all"}, queue.Subscribed(all, "gancho.x", "loja_1/7", "bar/7")); diff != "" {
		t.Error(diff)
	}
}
