package bridge_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/internal/bridge"
	"gancho/internal/control"
	"gancho/mapping"
)

// TestRecentChanges: the newest changes that a rule has looked at are listed, each once, and each leads to all changes of its row.
func TestRecentChanges(t *testing.T) {
	t.Parallel()
	rules, rel := verdictLab(t)
	const kept = bridge.ChunkRecords
	v := bridge.NewVerdicts(kept)
	v.Use(rules)
	v.Began(verdictStart)
	m := mapping.NewMapper(rules, nil, mapping.WithObserver(v))
	change := func(n int, id, before, after string) {
		t.Helper()
		if err := m.Map(update(rel, n, id, "1", before, after), nowhere{}); err != nil {
			t.Fatal(err)
		}
	}
	recent := func(rule string, n int) (out []string) {
		t.Helper()
		found, err := v.Recent(rule, n)
		if err != nil {
			t.Fatal(err)
		}
		for i := range found.Changes {
			c := &found.Changes[i]
			out = append(out, fmt.Sprintf("%d %s %s %s", int(c.Time.Sub(verdictStart).Seconds()), c.Table, c.Op, c.Rules[0].Outcome))
		}
		return out
	}
	paid, added := rules.Texts()[0].Place, rules.Texts()[1].Place
	for range 2 { // read again after a rewind
		change(1, "5", "P", "L")
		change(2, "6", "P", "P")
		change(3, "5", "L", "P")
	}
	third, second, first := "3 public.cobrancas update when_false", "2 public.cobrancas update when_false", "1 public.cobrancas update event"
	for _, c := range []struct {
		what, rule string
		n          int
		want       []string
	}{
		{"of any rule", "", 10, []string{third, second, first}},
		{"of a rule", paid, 2, []string{third, second}},
		{"of a rule that is not for updates", added, 10, nil},
	} {
		if diff := cmp.Diff(c.want, recent(c.rule, c.n)); diff != "" {
			t.Errorf("%s: -want +got\n%s", c.what, diff)
		}
	}
	if _, err := v.Recent("rules.yaml:4711", 10); err == nil || !strings.Contains(err.Error(), "there is no rule") {
		t.Errorf("a rule that does not exist: %v", err)
	}
	found, _ := v.Recent(paid, 1)
	of := found.Changes[0].ID()
	view, err := v.Answer(control.WhyQuestion{Table: "cobrancas", Change: of})
	if err != nil || len(view.Changes) != 2 || view.Changes[1].ID() != of {
		t.Errorf("the row of change %s: %+v, %v", of, view.Changes, err)
	}
	for _, wrong := range []string{"yesterday", of + "7", "16/B374D848"} {
		if _, err := v.Answer(control.WhyQuestion{Table: "cobrancas", Change: wrong}); err == nil || !strings.Contains(err.Error(), "change") {
			t.Errorf("change %q: %v", wrong, err)
		}
	}
	// A change of the key leads to the row as it is now.
	moved := update(rel, 4, "5", "1", "P", "P")
	moved.Old, moved.New = charge("5", "1", "P"), charge("8", "1", "P")
	if err := m.Map(moved, nowhere{}); err != nil {
		t.Fatal(err)
	}
	change(5, "8", "P", "L")
	found, _ = v.Recent(paid, 2)
	if view, err := v.Answer(control.WhyQuestion{Table: "cobrancas", Change: found.Changes[1].ID()}); err != nil || len(view.Changes) != 2 || view.Changes[1].ID() != found.Changes[0].ID() {
		t.Errorf("the row of the change of the key: %+v, %v", view.Changes, err)
	}
	// Room is made, and much of one row pushes nothing out of the list but what is older.
	for n := range kept {
		change(6+n, "7", "P", "P")
	}
	if got := recent(paid, 3); len(got) != 3 || !strings.HasPrefix(got[0], fmt.Sprint(5+kept)) {
		t.Errorf("the newest of many are %q", got)
	}
	if _, err := v.Answer(control.WhyQuestion{Table: "cobrancas", Change: of}); err == nil || !strings.Contains(err.Error(), "not remembered any more") {
		t.Errorf("a change that had to make room: %v", err)
	}
}
