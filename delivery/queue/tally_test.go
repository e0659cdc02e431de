package queue_test

import (
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/mapping"
)

// counter captures events, each a change that its rule matched, and counts them.
type counter struct {
	t *testing.T
	q *queue.Queue
}

// capture appends events from..to (excluded), whose changes the rule has seen, and a filtered change for each.
func (c counter) capture(from, to int) {
	c.t.Helper()
	b := c.q.NewBatch()
	b.CountIn(c.q.Tally())
	for i := from; i < to; i++ {
		ev := queuetest.Event(i, "k")
		c.q.Tally().Observe(&mapping.Observation{Position: ev.Position, Time: ev.Time, Op: ev.Op, Verdicts: []mapping.Verdict{
			{Rule: 0, Outcome: mapping.Fired}, {Rule: 1, Outcome: mapping.False},
		}})
		if _, err := b.Add(ev); err != nil {
			c.t.Fatal(err)
		}
	}
	if err := c.q.Append(c.t.Context(), b); err != nil {
		c.t.Fatal(err)
	}
	c.q.Tally().Reached()
	c.q.Appended(queuetest.LSN(to - 1))
}

func (c counter) begin() {
	c.t.Helper()
	if err := c.q.Take(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
	if err := c.q.BeginTally(c.t.Context()); err != nil {
		c.t.Fatal(err)
	}
}

// sums are the counts of rule 0, and the filtered changes of rule 1.
func (c counter) sums() (seen, made, to, filtered int64) {
	c.t.Helper()
	at := queuetest.Event(0, "k").Time
	counted, err := c.q.Tallies(c.t.Context(), queue.TallySpan{From: at.Add(-time.Hour), To: at.Add(time.Hour)})
	if err != nil {
		c.t.Fatal(err)
	}
	for key, r := range counted.Rules {
		switch key.Rule {
		case 0:
			seen, made, to = seen+r.N[queue.Seen], made+r.N[queue.Made], to+r.To["a"]
		case 1:
			filtered += r.N[queue.Filtered]
		}
	}
	return seen, made, to, filtered
}

// TestTallyCountsEachTransactionOnce reads transactions again in the ways in which that happens: after a lost
// process, in the same process, and by another one that takes over while the first still has counts.
func TestTallyCountsEachTransactionOnce(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	ep := endpoint.Endpoint{Name: "a"}
	first := counter{t, queuetest.Open(t, r, ep)}
	want := func(c counter, n int64) {
		t.Helper()
		if seen, made, to, filtered := c.sums(); seen != n || made != n || to != n || filtered != n {
			t.Errorf("seen %d, made %d, to %d, filtered %d; want %d of each", seen, made, to, filtered, n)
		}
	}
	first.begin()
	first.capture(0, 10)
	durably(t, first.q, queuetest.LSN(9))
	want(first, 10)
	first.capture(10, 15) // appended and not confirmed: never written by this process if it dies here
	second := counter{t, queuetest.Open(t, r, ep)}
	second.begin()
	second.capture(5, 20) // from a position before
	durably(t, second.q, queuetest.LSN(19))
	want(second, 20)
	if err := first.q.RunDurable(t.Context(), func(uint64) { t.Error("a stale process has confirmed") }); err == nil {
		t.Error("a stale process was not fenced out")
	}
	want(second, 20)
	second.capture(20, 25)
	second.begin() // the stream begins again, from before what was not written
	second.capture(18, 30)
	durably(t, second.q, queuetest.LSN(29))
	want(second, 30)
	// What moves state only works while Redis is full: here the deltas are written by BeginTally.
	second.capture(30, 32)
	if err := queuetest.Client(t, r).ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	second.begin()
	want(second, 32)
}

// TestTallyOfOutcomesThatComeLater has changes whose outcome is known at the commit, or when lookups are read.
func TestTallyOfOutcomesThatComeLater(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	c := counter{t, queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})}
	c.begin()
	at := queuetest.Event(0, "k")
	for _, o := range []struct {
		later, net, again bool
		op                cdc.Op
		verdicts          []mapping.Verdict
	}{
		{verdicts: []mapping.Verdict{{Rule: 0, Outcome: mapping.Awaits}, {Rule: 1, Outcome: mapping.Null}}},
		{again: true, verdicts: []mapping.Verdict{{Rule: 0, Outcome: mapping.Awaits}, {Rule: 1, Outcome: mapping.Null}}},
		{op: cdc.Read, verdicts: []mapping.Verdict{{Rule: 0, Outcome: mapping.Fired}}},
		{later: true, verdicts: []mapping.Verdict{{Rule: 0, Outcome: mapping.WasParked}}},
		// Three changes of a row have one event, whose lookup is read.
		{verdicts: []mapping.Verdict{{Rule: 2, Outcome: mapping.Commit}}},
		{verdicts: []mapping.Verdict{{Rule: 2, Outcome: mapping.Commit}}},
		{verdicts: []mapping.Verdict{{Rule: 2, Outcome: mapping.Commit}}},
		{net: true, verdicts: []mapping.Verdict{{Rule: 2, Outcome: mapping.Awaits}}},
		{later: true, verdicts: []mapping.Verdict{{Rule: 2, Outcome: mapping.Fired}}},
		// Two rows are in one group.
		{verdicts: []mapping.Verdict{{Rule: 3, Outcome: mapping.Commit}}},
		{verdicts: []mapping.Verdict{{Rule: 3, Outcome: mapping.Commit}}},
		{later: true, verdicts: []mapping.Verdict{{Rule: 3, Outcome: mapping.Grouped}}},
		{later: true, verdicts: []mapping.Verdict{{Rule: 3, Outcome: mapping.Grouped}}},
		{net: true, verdicts: []mapping.Verdict{{Rule: 3, Outcome: mapping.Fired}}},
		// A child moves to another parent, each of which has an event; another row is as before.
		{verdicts: []mapping.Verdict{{Rule: 4, Outcome: mapping.Child}}},
		{net: true, verdicts: []mapping.Verdict{{Rule: 4, Outcome: mapping.Fired}}},
		{net: true, verdicts: []mapping.Verdict{{Rule: 4, Outcome: mapping.Fired}}},
		{verdicts: []mapping.Verdict{{Rule: 5, Outcome: mapping.Commit}}},
		{verdicts: []mapping.Verdict{{Rule: 5, Outcome: mapping.Commit}}},
		{later: true, verdicts: []mapping.Verdict{{Rule: 5, Outcome: mapping.Nothing}}},
	} {
		c.q.Tally().Observe(&mapping.Observation{Position: at.Position, Time: at.Time, Op: o.op, Later: o.later, Net: o.net, Again: o.again, Verdicts: o.verdicts})
	}
	c.q.Tally().Reached()
	c.q.Appended(queuetest.LSN(0))
	durably(t, c.q, queuetest.LSN(0))
	counted, err := c.q.Tallies(t.Context(), queue.TallySpan{From: at.Time.Add(-time.Hour), To: at.Time.Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	want := map[int][]int64{ // seen, matched, filtered, collapsed, repeated, parked
		0: {1, 0, 0, 0, 0, 1}, 1: {1, 0, 1, 0, 0, 0}, 2: {3, 1, 0, 2, 0, 0}, 3: {2, 1, 0, 1, 0, 0}, 4: {1, 2, 0, 0, 1, 0}, 5: {2, 0, 0, 2, 0, 0},
	}
	got := map[int][]int64{}
	for key, r := range counted.Rules {
		got[key.Rule] = r.N[:queue.Parked+1]
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for lsn, rules := range map[cdc.LSN]int{at.Commit: 6, at.Commit + 1: 0} {
		some, err := c.q.Tallies(t.Context(), queue.TallySpan{From: at.Time.Add(-time.Hour), To: at.Time.Add(time.Hour), First: lsn})
		if err != nil || len(some.Rules) != rules {
			t.Errorf("from %s on: %d rules, %v; want %d", lsn, len(some.Rules), err, rules)
		}
	}
}

// durably runs RunDurable until a position is confirmed.
func durably(t *testing.T, q *queue.Queue, lsn uint64) {
	t.Helper()
	ctx, done := context.WithCancel(t.Context())
	defer done()
	if err := q.RunDurable(ctx, func(to uint64) {
		if to >= lsn {
			done()
		}
	}); err != nil {
		t.Fatal(err)
	}
}

// TestFatesAreCountedOnce acknowledges twice, and with a lost lease.
func TestFatesAreCountedOnce(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	queuetest.AppendEvents(t, q, 0, 6, 6, queuetest.KeyModulo(2))
	w := q.Worker()
	owners, err := w.Acquire(t.Context(), time.Minute, []string{"a"})
	if err != nil || owners[0] == nil {
		t.Fatal(err)
	}
	owner := owners[0]
	page, _, err := owner.Read(t.Context(), false, queue.ID{}, 10, 1<<20)
	if err != nil || len(page) != 6 {
		t.Fatal(len(page), err)
	}
	results := &queue.Results{}
	for i, e := range page {
		switch {
		case i < 3:
			results.Done = append(results.Done, e.ID)
		case i < 5:
			results.Dead = append(results.Dead, queue.DeadResult{ID: e.ID, Reason: "refused"})
		default:
			continue
		}
		results.Committed(e.ID, e.Msg.Time)
	}
	for range 2 {
		if owned, err := owner.Write(t.Context(), results); err != nil || !owned {
			t.Fatal(owned, err)
		}
	}
	at := page[0].Msg.Time.Unix() / int64(queue.TallyInterval/time.Second)
	rule := queue.RuleKey{Interval: at, Epoch: 1}
	counted := &queue.Tallies{Epoch: 1, Counted: 1 << 40}
	waiting, uncounted, err := q.WaitingByRule(t.Context(), "a", queue.ID{}, counted)
	if err != nil || waiting[rule] != 1 || uncounted != 0 {
		t.Errorf("waiting %v, %d uncounted, %v", waiting, uncounted, err)
	}
	if err := owner.Release(t.Context()); err != nil {
		t.Fatal(err)
	}
	// The queue goes together with the count of what waited: what cannot be counted stays.
	client := queuetest.Client(t, r)
	day := fmt.Sprint("gancho:{a}:tally:", at/24)
	counts := client.Dump(t.Context(), day).Val()
	client.Set(t.Context(), day, "no hash", 0)
	if err := q.Drop(t.Context(), "a"); err == nil || client.XLen(t.Context(), "gancho:{a}:q").Val() != 1 {
		t.Fatalf("dropped what could not be counted: %v", err)
	}
	client.RestoreReplace(t.Context(), day, time.Hour, counts)
	for range 2 { // also when the answer was lost
		if err := q.Drop(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
	}
	got, err := q.Fates(t.Context(), "a", []int64{at})
	want := map[queue.EventKey]int64{{RuleKey: rule, Fate: queue.FateDelivered}: 3, {RuleKey: rule, Fate: queue.FateDead}: 2, {RuleKey: rule, Fate: queue.FateDropped}: 1}
	if err != nil || !maps.Equal(got, want) {
		t.Errorf("got %v, %v; want %v", got, err, want)
	}
}
