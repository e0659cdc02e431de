package queue_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/testservers"
)

func numberRules(t *testing.T, q *queue.Queue, want []int, rules ...string) {
	t.Helper()
	got, err := q.NumberRules(t.Context(), rules)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("numbers of %q: -want +got\n%s", rules, d)
	}
}

// A rule keeps its number over restarts, another order, and its absence; only a
// new epoch forgets it.
func TestNumberRules(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	unclaimed := queuetest.OpenOnly(t, r)
	if _, err := unclaimed.NumberRules(t.Context(), nil); err == nil {
		t.Error("rules were numbered before the queue was claimed")
	}
	q := queuetest.Open(t, r)
	numberRules(t, q, []int{})
	numberRules(t, q, []int{0, 1}, "a", "b")
	numberRules(t, q, []int{2, 1, 0}, "c", "b", "a")

	again := queuetest.Open(t, r)
	numberRules(t, again, []int{3, 2}, "d", "c")
	numberRules(t, q, []int{0, 3, 4}, "a", "d", "e") // by a process that has not seen d

	moved := queuetest.Source()
	moved.Timeline++
	if epoch, err := again.Claim(t.Context(), moved, true); epoch != 2 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	numberRules(t, again, []int{0, 1}, "e", "a")
	if _, err := q.NumberRules(t.Context(), []string{"a"}); err == nil {
		t.Error("rules were numbered in an epoch that is over")
	}
}

// A number that Redis has lost, as with its AOF's end, is written again: nobody
// else may have it.
func TestNumberRulesThatRedisLost(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q, c := queuetest.Open(t, r), queuetest.Client(t, r)
	numberRules(t, q, []int{0, 1, 2}, "a", "b", "c")
	lose := func(command ...any) {
		t.Helper()
		if err := c.Do(t.Context(), command...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	lose("HDEL", "gancho:source", "rule:1:b", "rule:1:c")
	numberRules(t, q, []int{3, 2}, "d", "c")
	lose("FLUSHALL")
	if err := q.AcceptRestart(t.Context()); err != nil {
		t.Fatal(err)
	}
	numberRules(t, queuetest.Open(t, r), []int{3, 2, 1, 0, 4}, "d", "c", "b", "a", "e")
}

// Somebody else remembers the numbers of the epoch that Redis has lost; what Redis has
// given since, it keeps.
func TestNumberRulesRemembered(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	c := queuetest.Client(t, r)
	q := queuetest.Open(t, r)
	if unclaimed := queuetest.OpenOnly(t, r).Claimed(); unclaimed != nil {
		t.Errorf("claimed as %+v", unclaimed)
	}
	numberRules(t, q, []int{0, 1}, "a", "b")
	numberRules(t, queuetest.Open(t, r), []int{2}, "c")
	numberRules(t, q, []int{}) // of a process that was not asked for c
	remembered := q.Claimed()
	if d := cmp.Diff(map[string]int{"a": 0, "b": 1, "c": 2}, remembered.Numbers); d != "" {
		t.Errorf("-want +got\n%s", d)
	}
	claim := func(epoch uint16, accept bool) *queue.Queue {
		t.Helper()
		s := queuetest.Source()
		s.Timeline, s.Last = int32(epoch), remembered
		again := queuetest.OpenOnly(t, r)
		if got, err := again.Claim(t.Context(), s, accept); err != nil || got != epoch {
			t.Fatalf("epoch %d, %v", got, err)
		}
		return again
	}
	if err := c.FlushAll(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	numberRules(t, claim(1, false), []int{3, 2, 0}, "d", "c", "a")
	if err := c.HDel(t.Context(), "gancho:source", "rule:1:a", "rule:1:b", "rule:1:c", "rule:1:d").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.HSet(t.Context(), "gancho:source", "rule:1:e", 1).Err(); err != nil {
		t.Fatal(err)
	}
	numberRules(t, claim(1, false), []int{0, 3, 2, 1}, "a", "b", "c", "e")
	numberRules(t, claim(2, true), []int{0}, "c")
}

// What does not fit in n is refused, and what has fitted still does. A full Redis
// numbers rules.
func TestNumberRulesBound(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	if err := queuetest.Client(t, r).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	rules := make([]string, 1<<16)
	for i := range rules {
		rules[i] = fmt.Sprint("public.clientes 0 evento", i)
	}
	for some := range slices.Chunk(rules, 1<<12) { // a busy machine takes seconds for twice as many
		numbers, err := q.NumberRules(t.Context(), some)
		if err != nil || some[len(some)-1] != fmt.Sprint("public.clientes 0 evento", numbers[len(numbers)-1]) {
			t.Fatalf("the last of %d: %v", len(numbers), err)
		}
	}
	if _, err := q.NumberRules(t.Context(), []string{rules[7], "mais um"}); err == nil || !strings.Contains(err.Error(), "65536") {
		t.Errorf("one more: %v", err)
	}
	numberRules(t, queuetest.Open(t, r), []int{7}, rules[7])
}

// TestRuleVersions: the newest version of each rule is remembered in its epoch, also by a
// full Redis; that of a rule which ran before versions were recorded is not known.
func TestRuleVersions(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r)
	numberRules(t, q, []int{0, 1, 2}, "a", "b", "c")
	if err := queuetest.Client(t, r).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	for _, version := range []string{"v1", "v2"} {
		if err := q.RecordVersions(t.Context(), []string{"a", "b"}, []string{"u", version}); err != nil {
			t.Fatal(err)
		}
	}
	got, err := queuetest.OpenOnly(t, r).NumberedRules(t.Context())
	if diff := cmp.Diff(map[string]string{"a": "u", "b": "v2", "c": ""}, got); diff != "" || err != nil {
		t.Errorf("versions (-want +got):\n%s%v", diff, err)
	}
	moved := queuetest.Source()
	moved.Timeline++
	if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), moved, true); err != nil {
		t.Fatal(err)
	}
	if err := q.RecordVersions(t.Context(), []string{"a"}, []string{"w"}); err == nil {
		t.Error("a version was recorded in an epoch that is over")
	}
}
