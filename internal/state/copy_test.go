package state_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// TestAttemptsAreExact: a row of the log has what was written, in the way of new rows and in that of repeated ones.
func TestAttemptsAreExact(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	long := attempt("crm", 1)
	long.Time, long.Committed = time.Date(2026, 1, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(1999, 12, 31, 23, 59, 59, 1_000, time.UTC)
	long.Key, long.Tenant, long.Error = "ação\n\x00\\u{5c}", "", "reset\tby \xff"
	long.Tags, long.Detail = []string{"cpf=1", "", `a="{,}"\`}, []byte{0, 255}
	long.Number, long.Status, long.Replay, long.Duration = 1<<31-1, -1, true, webhook.Milliseconds(26*time.Hour)
	short := attempt("crm", 2)
	short.Time, short.Tags, short.Detail = long.Time.Add(time.Microsecond), nil, nil
	empty := attempt("crm", 3)
	empty.Time, empty.Detail = short.Time.Add(time.Microsecond), []byte{}
	rows := []state.Attempt{long, short, empty}
	for range 2 {
		check(t, s.WriteAttempts(t.Context(), rows))
		for _, want := range rows {
			id := state.AttemptID(&want)
			got, err := s.Attempt(t.Context(), id, "")
			check(t, err)
			want.ID = got.ID
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		}
	}
}
