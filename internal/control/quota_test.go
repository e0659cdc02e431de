package control_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
)

// quotaOf is the quota that an error is about, as tenant/what; "" is none.
func quotaOf(t *testing.T, err error) string {
	t.Helper()
	if err == nil {
		return ""
	}
	var over *control.QuotaError
	if !errors.As(err, &over) {
		t.Fatalf("the error is not about a quota: %v", err)
	}
	return over.Tenant + "/" + over.What
}

// What is over a quota gets no more on top; others, and dry runs, do.
func TestQuotas(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	two := control.Actor{Name: "token:dois", Role: state.Admin, Tenant: "2"}
	one := control.Actor{Name: "token:um", Role: state.Admin, Tenant: "1"}
	add := func(a control.Actor) error {
		_, err := g.AddEndpoint(ctx, a, control.NewEndpoint{Name: g.name(), Document: []byte("url: https://a.example.com")})
		return err
	}
	expect := func(what string, err error, want string) {
		t.Helper()
		if got := quotaOf(t, err); got != want {
			t.Errorf("%s: %q, want %q: %v", what, got, want, err)
		}
	}
	quotas := func(q control.Quotas) { g.Quotas = q }

	// Tenant 1 has um and arquivo-um of the file, tenant 2 has dois; arquivo and todos are the operator's.
	quotas(control.Quotas{Tenant: control.Quota{Endpoints: 2}})
	expect("a third endpoint of tenant 1", add(one), "1/endpoints")
	expect("a second endpoint of tenant 2", add(two), "")
	expect("the operator's", add(root), "")
	quotas(control.Quotas{Total: control.Quota{Endpoints: 7}})
	expect("an eighth endpoint", add(one), "/endpoints")

	message := webhook.Message{Type: "gancho.teste", Time: time.Now(), Data: []byte(`{}`)}
	for i := range 5 {
		message.ID = fmt.Sprint("m-", i)
		if err := g.Queue.Announce(ctx, []string{"um"}, message); err != nil {
			t.Fatal(err)
		}
	}
	g.dead("um", "1")
	g.dead("dois", "2")
	resend := func(a control.Actor, to string, dry bool) error {
		_, err := g.CreateResend(ctx, a, state.Job{Endpoint: to, Filter: state.Filter{Key: "7"}, DryRun: dry})
		return err
	}
	redrive := func(a control.Actor, to string) error {
		_, err := g.CreateRedrive(ctx, a, state.Job{Filter: state.Filter{Endpoint: to}}, to == "")
		return err
	}
	for what, q := range map[string]control.Quota{"backlog": {Backlog: 4}, "backlog_bytes": {BacklogBytes: 10}} {
		quotas(control.Quotas{Tenant: q})
		expect("an endpoint", add(one), "1/"+what)
		expect("a resend", resend(one, "um", false), "1/"+what)
		expect("a resend that only counts", resend(one, "um", true), "")
		expect("a redrive", redrive(one, "um"), "1/"+what)
		expect("a redrive of all", redrive(root, ""), "1/"+what)
		expect("another tenant's resend", resend(two, "dois", false), "")
		expect("the operator's resend", resend(root, "todos", false), "")
		quotas(control.Quotas{Total: q})
		err := resend(two, "dois", false)
		expect("a resend while all are over", err, "/"+what)
		if err != nil && strings.ContainsAny(err.Error(), "0123456789") {
			t.Errorf("a tenant reads how much all use: %v", err)
		}
	}
	// What tenant 1 has beyond its own quota takes no room from others.
	for what, q := range map[string]control.Quota{"backlog": {Backlog: 2}, "backlog_bytes": {BacklogBytes: 10}} {
		quotas(control.Quotas{Tenant: q, Total: q})
		expect("its own resend", resend(one, "um", false), "1/"+what)
		expect("another tenant's resend", resend(two, "dois", false), "")
		expect("the operator's endpoint", add(root), "")
		status, err := g.Status(ctx, two)
		if err != nil || len(status.OverQuota) > 0 {
			t.Errorf("another tenant's status has %q, %v", status.OverQuota, err)
		}
		if status, err = g.Status(ctx, root); err != nil || len(status.OverQuota) != 1 || !strings.Contains(status.OverQuota[0], `the tenant "1" has`) {
			t.Errorf("the operator's status has %q, %v", status.OverQuota, err)
		}
	}
	quotas(control.Quotas{Tenant: control.Quota{Endpoints: 1}, Total: control.Quota{Endpoints: 8}}) // 9, with 2 beyond
	expect("another endpoint of the operator", add(root), "")
	expect("one more", add(root), "/endpoints")
	quotas(control.Quotas{Tenant: control.Quota{Backlog: 3}, Total: control.Quota{Backlog: 2}})
	expect("a resend while what counts is too much", resend(two, "dois", false), "/backlog")
	quotas(control.Quotas{Tenant: control.Quota{Backlog: 5, BacklogBytes: 1 << 20}})
	expect("at the quota", redrive(one, "um"), "")
}

// TestOverflowing: the largest backlogs move first, until half of the quota that is passed is
// left in Redis; what has moved already counts no more.
func TestOverflowing(t *testing.T) {
	t.Parallel()
	endpoints := []*endpoint.Endpoint{{Name: "a", Tenants: []string{"1"}}, {Name: "b", Tenants: []string{"1"}}, {Name: "c", Tenants: []string{"2"}}, {Name: "d"}}
	stats := []queue.Stats{
		{Endpoint: "a", Backlog: 100, Bytes: 1000},
		{Endpoint: "b", Backlog: 50, Bytes: 5000},
		{Endpoint: "c", Backlog: 1030, Bytes: 9000, Overflowed: 1000, OverflowedBytes: 8000},
		{Endpoint: "d", Backlog: 10, Bytes: 100},
	}
	for name, c := range map[string]struct {
		tenant, total control.Quota
		full, silent  bool // silent: Redis refuses MEMORY USAGE
		stuck         string
		want          map[string]int64
	}{
		"none":            {want: map[string]int64{}},
		"at the quota":    {tenant: control.Quota{Backlog: 150, BacklogBytes: 6000}, want: map[string]int64{}},
		"events":          {tenant: control.Quota{Backlog: 140}, want: map[string]int64{"b": 0, "a": 70}},
		"bytes":           {tenant: control.Quota{BacklogBytes: 5000}, want: map[string]int64{"b": 15}},
		"the other is in": {tenant: control.Quota{Backlog: 30}, want: map[string]int64{"b": 0, "a": 15}},
		"all":             {total: control.Quota{Backlog: 189}, want: map[string]int64{"b": 0, "a": 54}},
		"full":            {full: true, want: map[string]int64{"b": 14}},
		"stuck":           {tenant: control.Quota{Backlog: 140}, stuck: "b", want: map[string]int64{"a": 20}},
		"full, stuck":     {full: true, stuck: "b", want: map[string]int64{"a": 0, "c": 0, "d": 0}},
		"full, no bytes":  {full: true, silent: true, want: map[string]int64{"a": 5}},
	} {
		q, stats := control.Quotas{Tenant: c.tenant, Total: c.total}, slices.Clone(stats)
		for i := range stats {
			if c.silent { // of what is in Redis
				stats[i].Bytes = stats[i].OverflowedBytes
			}
		}
		if diff := cmp.Diff(c.want, q.Overflowing(endpoints, stats, c.full, func(name string) bool { return name == c.stuck })); diff != "" {
			t.Errorf("%s (-want +got):\n%s", name, diff)
		}
	}
}

// Requests that come together exceed no quota: each sees the others.
func TestQuotasHoldInParallel(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	one := control.Actor{Name: "token:um", Role: state.Admin, Tenant: "1"}
	g.Quotas = control.Quotas{Tenant: control.Quota{Endpoints: 4}} // the file and the gym have two of them
	together := func(what string, n, want int, do func(i int) error) {
		t.Helper()
		errs := make(chan error, n)
		for i := range n {
			go func() { errs <- do(i) }()
		}
		made := 0
		for range n {
			switch err := <-errs; {
			case err == nil:
				made++
			case quotaOf(t, err) != what:
				t.Errorf("%s: %v", what, err)
			}
		}
		if made != want {
			t.Errorf("%d %s were made, and the quota has room for %d", made, what, want)
		}
	}
	together("1/endpoints", 12, 2, func(i int) error {
		_, err := g.AddEndpoint(ctx, one, control.NewEndpoint{Name: fmt.Sprint("p", i), Document: []byte("url: https://a.example.com")})
		return err
	})
	// Of two tenants together, whose own quotas have room: the file and the gym have five.
	g.Quotas = control.Quotas{Total: control.Quota{Endpoints: 7 + 3}}
	together("/endpoints", 12, 3, func(i int) error {
		a := control.Actor{Name: "token:x", Role: state.Admin, Tenant: fmt.Sprint(1 + i%2)}
		_, err := g.AddEndpoint(ctx, a, control.NewEndpoint{Name: fmt.Sprint("q", i), Document: []byte("url: https://a.example.com")})
		return err
	})
	resend := func(int) error {
		_, err := g.CreateResend(ctx, one, state.Job{Endpoint: "um", Filter: state.Filter{Key: "7"}})
		return err
	}
	for range control.MaxJobs - 3 {
		if err := resend(0); err != nil {
			t.Fatal(err)
		}
	}
	views, err := g.Endpoints(ctx, one, "", 0)
	if err != nil || len(views.Items) < 3 {
		t.Fatalf("%d endpoints, %v", len(views.Items), err)
	}
	jobs := func() int {
		t.Helper()
		n, err := g.Store.CountJobs(ctx, "1")
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// A redrive of more endpoints than there is room for creates no job, also beside others.
	g.dead(views.Items[0].Name, "1")
	g.dead(views.Items[1].Name, "1")
	together("1/jobs", 4, 1, func(int) error {
		_, err := g.CreateRedrive(ctx, one, state.Job{}, true)
		return err
	})
	if n := jobs(); n != control.MaxJobs-1 {
		t.Errorf("%d jobs, want %d: those of one redrive of two endpoints", n, control.MaxJobs-1)
	}
	g.dead(views.Items[2].Name, "1")
	if made, err := g.CreateRedrive(ctx, one, state.Job{}, true); quotaOf(t, err) != "1/jobs" || len(made) > 0 || jobs() != control.MaxJobs-1 {
		t.Errorf("a redrive of 3 endpoints: %d jobs, %v", len(made), err)
	}
	together("1/jobs", 8, 1, resend)
	if _, err := g.CreateResend(ctx, root, state.Job{Endpoint: "um", Filter: state.Filter{Key: "7"}}); err != nil {
		t.Errorf("the operator's job: %v", err)
	}
	made := 0
	token := func(a control.Actor) error {
		made++
		_, err := g.CreateToken(ctx, a, control.NewToken{Token: state.Token{Name: fmt.Sprint("t", made), Role: state.Viewer, Tenant: "1"}})
		return err
	}
	for range control.MaxTokens {
		if err := token(one); err != nil {
			t.Fatal(err)
		}
	}
	if err := token(one); quotaOf(t, err) != "1/tokens" {
		t.Errorf("a token too many: %v", err)
	}
	if err := token(root); err != nil {
		t.Errorf("the operator's token for the tenant: %v", err)
	}
	if err := g.RevokeToken(ctx, control.Actor{Name: "token:dois", Role: state.Admin, Tenant: "2"}, "t1"); !errors.Is(err, state.ErrNotFound) {
		t.Errorf("another tenant revokes a token: %v", err)
	}
	for _, rate := range []float64{0.001, 1e-300} {
		if _, err := g.CreateResend(ctx, root, state.Job{Endpoint: "um", Filter: state.Filter{Key: "7"}, Rate: rate}); err == nil {
			t.Errorf("a job of %v events a second is made", rate)
		}
	}
}

// An endpoint holds as much as the quotas allow, and what it held before.
func TestEndpointQuota(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	settings := func(n int) string {
		var events, fields []string
		for i := range n {
			events = append(events, fmt.Sprintf(`"e%d.*"`, i))
			fields = append(fields, fmt.Sprintf(`"x-%d":"v"`, i))
		}
		return fmt.Sprintf(`{"url":"https://a.example.com","events":[%s],"headers":{%[2]s},"extra":{%[2]s}}`, strings.Join(events, ","), strings.Join(fields, ","))
	}
	add := func(n int) error {
		_, err := g.AddEndpoint(ctx, root, control.NewEndpoint{Name: fmt.Sprint("e", n), Document: []byte(settings(n))})
		return err
	}
	wrong := func(what string, err error, n int) {
		t.Helper()
		var invalid *control.InvalidError
		if errors.As(err, &invalid); err == nil && n > 0 || invalid != nil && len(invalid.Problems) != n || invalid == nil && err != nil {
			t.Errorf("%s: %v, want %d mistakes", what, err, n)
		}
	}
	wrong("without a quota", add(9), 0)
	g.Quotas = control.Quotas{Patterns: 5, Headers: 5}
	wrong("within the quota", add(5), 0)
	wrong("over the quota", add(6), 3)
	edit := func(name string, n int) error {
		_, err := g.EditEndpoint(ctx, root, name, control.Edit{Patch: []byte(settings(n))})
		return err
	}
	wrong("an edit over the quota", edit("e5", 6), 3)
	wrong("an edit of one that has more", edit("e9", 9), 0)
	wrong("an edit to more than that", edit("e9", 10), 3)
}

// The database compares each pattern with every row: a query has a few.
func TestPatternsPerQuery(t *testing.T) {
	t.Parallel()
	g := newGym(t)
	ctx := context.Background()
	g.dead("um", "1")
	for n, ok := range map[int]bool{control.MaxPatterns: true, control.MaxPatterns + 1: false} {
		f := state.Filter{Endpoint: "um"}
		for i := range n {
			f.Events = append(f.Events, fmt.Sprintf("evento%d.*", i))
		}
		for i := range 1000 {
			f.Events = append(f.Events, fmt.Sprintf("evento.%d", i))
		}
		_, log := g.Deliveries(ctx, root, f, "", 10)
		_, dead := g.DeadLetters(ctx, root, f, "", 10)
		_, redrive := g.CreateRedrive(ctx, root, state.Job{Filter: f}, false)
		_, drop := g.DropDead(ctx, root, f, false)
		_, resend := g.CreateResend(ctx, root, state.Job{Endpoint: "um", Filter: state.Filter{Events: f.Events}})
		_, parked := g.Parked(ctx, root, state.Filter{Events: f.Events}, "", 10)
		_, redriveParked := g.RedriveParked(ctx, root, state.Job{Filter: state.Filter{Events: f.Events}}, false)
		_, dropParked := g.DropParked(ctx, root, state.Filter{Events: f.Events}, false)
		for what, err := range map[string]error{
			"deliveries": log, "dead letters": dead, "a redrive": redrive, "a drop": drop, "a resend": resend,
			"parked changes": parked, "a redrive of parked changes": redriveParked, "a drop of parked changes": dropParked,
		} {
			var invalid *control.InvalidError
			if ok && err != nil || !ok && !errors.As(err, &invalid) {
				t.Errorf("%s with %d patterns: %v", what, n, err)
			}
		}
	}
}
