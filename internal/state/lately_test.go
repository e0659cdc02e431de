package state_test

import (
	"testing"
	"time"

	"gancho/internal/state"
)

// The newest attempts of an endpoint are told in the order in which they were made, of one tenant where that is asked for.
func TestLately(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	var all []state.Attempt
	for n := range 50 {
		a := attempt("crm", n)
		if n < 14 { // of which the newest 40 have four
			a.Outcome = "retry"
		}
		if n == 49 {
			a.Tenant = "2"
		}
		all = append(all, a)
	}
	old := attempt("erp", 0)
	old.Time = noon.Add(-time.Hour)
	check(t, s.WriteAttempts(ctx, append(all, old)))
	since := noon.Add(-time.Minute)
	got, err := s.Lately(ctx, []string{"crm", "erp", "nenhum"}, since, "")
	check(t, err)
	same(t, "all tenants'", map[string]state.Lately{"crm": {Attempts: 40, Delivered: 36, Line: []int64{0, 100, 100, 100, 100, 100, 100, 100, 100, 100}}}, got)
	got, err = s.Lately(ctx, []string{"crm"}, since, "2")
	check(t, err)
	same(t, "a tenant's", map[string]state.Lately{"crm": {Attempts: 1, Delivered: 1, Line: []int64{100}}}, got)
}
