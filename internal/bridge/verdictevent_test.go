package bridge_test

import (
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/mapping"
)

// TestVerdictsOfEvent: a webhook-id leads to the change that it is of and those of the row after it; one of another source, epoch, rule or tenant to none.
func TestVerdictsOfEvent(t *testing.T) {
	t.Parallel()
	rules, rel := verdictLab(t)
	v := bridge.NewVerdicts(2048)
	v.Use(rules)
	v.Began(verdictStart)
	m := mapping.NewMapper(rules, nil, mapping.WithObserver(v))
	id := func(source string, epoch uint16, n, rule int) string {
		t.Helper()
		id, err := queue.NewID(epoch, cdc.Position{Commit: 1<<51 + cdc.LSN(n)}, rule)
		if err != nil {
			t.Fatal(err)
		}
		return id.WebhookID(source)
	}
	for n := range 3 + control.MaxWhyChanges {
		before, after := "P", "L"
		if n%2 == 1 {
			before, after = after, before
		}
		for _, row := range []string{"5", "6"} {
			c := update(rel, n, row, row, before, after)
			if row == "6" {
				c.Ordinal = 1
			}
			if err := m.Map(c, nowhere{}); err != nil {
				t.Fatal(err)
			}
		}
	}
	five, six := "5", "6"
	for _, c := range []struct {
		what, id string
		tenant   *string
		want     string
	}{
		{"the first event of the row", id("01234567", 1, 0, 7), nil, fmt.Sprintf("public.cobrancas, %d changes, the first event", control.MaxWhyChanges)},
		{"one in the middle", id("01234567", 1, 98, 7), nil, "public.cobrancas, 5 changes, the first event"},
		{"of its tenant", id("01234567", 1, 98, 7), &five, "public.cobrancas, 5 changes, the first event"},
		{"of another tenant", id("01234567", 1, 98, 7), &six, "none"},
		{"a change without an event", id("01234567", 1, 99, 7), nil, "none"},
		{"another rule", id("01234567", 1, 98, 9), nil, "none"},
		{"another source", id("11234567", 1, 98, 7), nil, "none"},
		{"another epoch", id("01234567", 2, 98, 7), nil, "none"},
		{"a change that is not known", id("01234567", 1, 4711, 7), nil, "none"},
		{"no position", "01234567-correction", nil, "none"},
	} {
		view, err := v.AnswerEvent(control.WhyQuestion{WebhookID: c.id, Tenant: c.tenant})
		got := "none"
		if len(view.Changes) > 0 {
			got = fmt.Sprintf("%s, %d changes, the first %s", view.Table, len(view.Changes), view.Changes[0].Rules[0].Outcome)
		}
		if diff := cmp.Diff(c.want, got); diff != "" || err != nil || view.WebhookID != c.id || !view.Since.Equal(verdictStart) {
			t.Errorf("%s: %v, %+v -want +got\n%s", c.what, err, view.Since, diff)
		}
	}
}
