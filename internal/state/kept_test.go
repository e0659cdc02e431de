package state_test

import (
	"fmt"
	"slices"
	"testing"

	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// TestEachKept: kept events are read page by page, whoever takes them holds up no statement, and none is read twice or left out.
func TestEachKept(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	const n, keys = 2500, 40
	events := make([]webhook.Message, n)
	newest := map[string]string{}
	var want []string
	for i := range events {
		events[i] = event(0)
		events[i].Time = events[0].Time
		events[i].ID, events[i].Key = fmt.Sprintf("id-%05d", i), fmt.Sprint(i%keys) // most of one commit
		newest[events[i].Key] = events[i].ID
		want = append(want, events[i].ID)
	}
	check(t, s.WriteEvents(ctx, events))
	var got []string
	check(t, s.EachKept(ctx, state.Filter{}, func(m *webhook.Message) error {
		if got = append(got, m.ID); len(got)%1000 == 500 {
			execute(t, dsn, "set lock_timeout = '5s'; lock table gancho.events in access exclusive mode") // no statement is under way
		}
		return nil
	}))
	if !slices.Equal(got, want) {
		t.Errorf("%d kept events were read, want %d, each once and in order", len(got), n)
	}
	last := map[string]string{}
	check(t, s.EachLast(ctx, state.Filter{}, func(m *webhook.Message) {
		if _, twice := last[m.Key]; twice {
			t.Errorf("key %s came twice", m.Key)
		}
		last[m.Key] = m.ID
		if len(last) == keys/2 {
			execute(t, dsn, "set lock_timeout = '5s'; lock table gancho.events in access exclusive mode")
		}
	}))
	same(t, "the newest", newest, last)
}
