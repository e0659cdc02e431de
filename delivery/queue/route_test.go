package queue_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

func TestRouter(t *testing.T) {
	t.Parallel()
	router := queue.NewRouter([]*endpoint.Endpoint{
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

func TestTakesSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		endpoint endpoint.Endpoint
		want     bool
	}{
		{endpoint.Endpoint{}, true}, {endpoint.Endpoint{Tenants: []string{"loja_1/7"}}, true}, {endpoint.Endpoint{Tenants: []string{"loja_1"}}, true},
		{endpoint.Endpoint{Tenants: []string{"loja_10/7", "loja_2"}}, false}, {endpoint.Endpoint{Sources: []string{"loja_*"}}, true},
		{endpoint.Endpoint{Sources: []string{"loja"}}, false}, {endpoint.Endpoint{Sources: []string{"bar_*"}, Tenants: []string{"loja_1/7"}}, false},
	} {
		if got := queue.TakesSource(&c.endpoint, "loja_1"); got != c.want {
			t.Errorf("tenants %q of sources %q: %v, want %v", c.endpoint.Tenants, c.endpoint.Sources, got, c.want)
		}
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
		got := queue.NewRouter([]*endpoint.Endpoint{{Events: []string{c.pattern}}}).Match(c.event, nil)
		if (len(got) == 1) != c.want {
			t.Errorf("%q takes %q: %v, want %v", c.pattern, c.event, !c.want, c.want)
		}
	}
	hostile := queue.NewRouter([]*endpoint.Endpoint{{Events: []string{strings.Repeat("a*", 50) + "b"}}})
	if got := hostile.Match(strings.Repeat("a", 10000), nil); got != nil {
		t.Errorf("matched %v", got)
	}
}

func TestRouterMemory(t *testing.T) {
	router := queue.NewRouter([]*endpoint.Endpoint{{Tenants: []string{"7", "70000"}}, {Events: []string{"b*"}}})
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

// Whatever was asked before, the answer is what asking each endpoint gives.
func TestRouterAsksNobodyInVain(t *testing.T) {
	t.Parallel()
	random := rand.New(rand.NewPCG(14, 5))
	patterns := [][]string{nil, {"a.*"}, {"b.c", "a.b"}, {"*"}}
	tenants := [][]string{nil, {"x_1/1"}, {"2", "x_1/1", "2"}, {"x_2"}}
	sources := [][]string{nil, nil, {"x_*"}, {"2", "x_1"}}
	eps := make([]*endpoint.Endpoint, 200)
	for i := range eps {
		eps[i] = &endpoint.Endpoint{Name: fmt.Sprint(i), Events: patterns[random.IntN(len(patterns))], Tenants: tenants[random.IntN(len(tenants))], Sources: sources[random.IntN(len(sources))]}
		eps[i].State = []endpoint.State{endpoint.Active, endpoint.Paused, endpoint.Inactive}[random.IntN(3)]
	}
	router := queue.NewRouter(eps)
	for range 200 {
		event, tenant := []string{"a.b", "b.c", "c.d"}[random.IntN(3)], []string{"", "x_1/1", "2", "x_2", "x_2/4"}[random.IntN(5)]
		source, _, _ := strings.Cut(tenant, "/")
		var want []int
		for i := range eps {
			if queue.Refuses(eps[i], event) == "" && (len(eps[i].Tenants) == 0 || slices.Contains(eps[i].Tenants, tenant)) && eps[i].Reads(source) {
				want = append(want, i)
			}
		}
		if diff := cmp.Diff(want, router.Match(event, []byte(tenant)), cmpopts.EquateEmpty()); diff != "" {
			t.Fatalf("%s of tenant %q: %s", event, tenant, diff)
		}
	}
}

// BenchmarkRouterBegins is what the first event of each of ten thousand tenants costs, each with an endpoint of its own, after every change of the endpoints.
func BenchmarkRouterBegins(b *testing.B) {
	eps := make([]*endpoint.Endpoint, 10_000)
	for i := range eps {
		eps[i] = &endpoint.Endpoint{Name: fmt.Sprint("u", i), Tenants: []string{fmt.Sprint(i)}, Events: []string{"cobranca.*"}}
	}
	for b.Loop() {
		router := queue.NewRouter(eps)
		for i := range eps {
			router.Match("cobranca.paga", []byte(eps[i].Tenants[0]))
		}
	}
}

// An endpoint that chooses sources gets what their tenants begin with, and of what concerns several tenants only what is all theirs.
func TestEndpointsOfSources(t *testing.T) {
	t.Parallel()
	all := []*endpoint.Endpoint{
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
