package state_test

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

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

// Of an endpoint with very many attempts few rows are read, although PostgreSQL expects few of each.
func TestLatelyReadsFew(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	var all []state.Attempt
	for n := range 4000 {
		a := attempt("grande", n)
		if n%2 == 0 { // the others have one each
			a.Endpoint, a.Tenant = fmt.Sprint("e", n), fmt.Sprint("t", n)
		}
		all = append(all, a)
	}
	check(t, s.WriteAttempts(ctx, all))
	db, err := pgx.Connect(ctx, dsn)
	check(t, err)
	defer func() { _ = db.Close(context.Background()) }()
	_, err = db.Exec(ctx, "analyze gancho.attempts")
	check(t, err)
	plan, err := s.ExplainLately(ctx, "grande", noon.Add(-time.Hour), all[1].Tenant)
	check(t, err)
	if strings.Contains(plan, "Sort Method") || !regexp.MustCompile(`Index Scan Backward.*actual time=\S+ rows=40`).MatchString(plan) {
		t.Errorf("more than the newest attempts are read:\n%s", plan)
	}
}
