package queue_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/mapping"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// promotedTo is the usual source after promotions, with its slot where it was.
func promotedTo(timeline int32, history cdc.History) queue.Source {
	s := queuetest.Source()
	s.Timeline, s.History, s.Current = timeline, history, 0x90000
	return s
}

// TestPromotion: a promoted server that has all that was read is read on in the same epoch; one that lacks the end is
// refused, and so is the former primary.
func TestPromotion(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	key := func(int) string { return "k" }
	former := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	must(t, former.Take(t.Context()))
	queuetest.AppendEvents(t, former, 0, 3, 1, key) // the last is at 0x2200
	confirmed, ended := queuetest.RunDurable(t, former)
	former.Passed(cdc.Footprint{Commit: 0x2200, End: 0x2280, Time: time.Date(2026, 11, 29, 1, 2, 3, 4000, time.UTC)})
	former.Appended(0x2900) // the former primary was idle for a while
	queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == 0x2900 })

	// It lacks the end.
	for _, left := range []cdc.History{"1@0/2100", "1@0/2200"} {
		var changed *queue.SourceChangedError
		lacks := promotedTo(2, left)
		_, err := queuetest.OpenOnly(t, r).Claim(t.Context(), lacks, false)
		if !errors.As(err, &changed) || !strings.Contains(err.Error(), "lacks the transaction at 0/2200") || changed.Gap.Reason != queue.GapTimeline || !changed.Gap.Again() {
			t.Errorf("left at %s: %v", left, err)
		}
		if err := queuetest.OpenOnly(t, r).Recognise(t.Context(), lacks); !errors.As(err, &changed) {
			t.Errorf("left at %s: recognised: %v", left, err)
		}
	}
	// It has everything, and new transactions where there was nothing.
	promoted := promotedTo(2, "1@0/2280")
	must(t, queuetest.OpenOnly(t, r).Recognise(t.Context(), promoted))
	q := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	if epoch, err := q.Claim(t.Context(), promoted, false); epoch != 1 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	if reached, err := q.Reached(t.Context()); err != nil || reached.Confirmed != 0x2280 || reached.Source.Timeline != 2 || reached.Source.History != "1@0/2280" {
		t.Errorf("reached %+v, %v", reached, err)
	}
	// Whoever reads the former primary still appends and records nothing, and cannot take its turn.
	batch := former.NewBatch()
	if _, err := batch.Add(queuetest.Event(3, "k")); err != nil {
		t.Fatal(err)
	}
	if err := former.Append(t.Context(), batch); !errors.Is(err, queue.ErrFenced) {
		t.Errorf("the one that reads the former primary appends: %v", err)
	}
	former.Appended(0x3000)
	if err := <-ended; !errors.Is(err, queue.ErrClaimLost) {
		t.Errorf("the one that reads the former primary records: %v", err)
	}
	for what, err := range map[string]error{"take": former.Take(t.Context()), "recognise": former.Recognise(t.Context(), queuetest.Source()), "restart": former.AcceptRestart(t.Context())} {
		if !errors.Is(err, queue.ErrClaimLost) {
			t.Errorf("the one that reads the former primary: %s: %v", what, err)
		}
	}
	must(t, q.Take(t.Context()))
	queuetest.AppendEvents(t, q, 1, 5, 2, key) // from the slot on, which is behind
	if n := queuetest.Client(t, r).XLen(t.Context(), "gancho:{a}:q").Val(); n != 5 {
		t.Errorf("%d events are queued, want 5", n)
	}
	// The others.
	for name, s := range map[string]queue.Source{
		"the former primary":                    queuetest.Source(),
		"another one that was promoted":         promotedTo(2, "1@0/2300"),
		"a promotion of another one":            promotedTo(3, "1@0/2300 2@0/8000"),
		"a promotion of the former primary":     promotedTo(3, "1@0/8000"),
		"a promotion of which nothing is known": promotedTo(3, ""),
	} {
		var changed *queue.SourceChangedError
		if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), s, false); !errors.As(err, &changed) || changed.Gap.Reason != queue.GapTimeline {
			t.Errorf("%s: %v", name, err)
		}
	}
	again := promotedTo(4, "1@0/2280 2@0/8000 3@0/8100")
	for range 2 { // also when the answer was lost
		if epoch, err := queuetest.OpenOnly(t, r).Claim(t.Context(), again, false); epoch != 1 || err != nil {
			t.Errorf("promoted again: epoch %d, %v", epoch, err)
		}
	}
}

// TestPromotionUnderAStream: a standby that was read through its promotion has what was read behind the place
// where the timelines part, and is no server that lacks the end.
func TestPromotionUnderAStream(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	key := func(int) string { return "k" }
	former := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	must(t, former.Take(t.Context()))
	queuetest.AppendEvents(t, former, 0, 3, 1, key)
	confirmed, _ := queuetest.RunDurable(t, former)
	former.Passed(cdc.Footprint{Commit: 0x2200, End: 0x2280, Time: time.Date(2026, 11, 29, 1, 2, 3, 4000, time.UTC)})
	former.Appended(0x2280)
	queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == 0x2280 })
	queuetest.AppendEvents(t, former, 3, 4, 1, key) // not confirmed yet
	promoted := promotedTo(2, "1@0/2180")           // promoted while it was read
	var changed *queue.SourceChangedError
	if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), promoted, false); !errors.As(err, &changed) || !strings.Contains(err.Error(), "lacks the transaction") {
		t.Errorf("a server whose WAL could not be compared: %v", err)
	}
	promoted.Verified = true
	q := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	must(t, q.Recognise(t.Context(), promoted))
	if epoch, err := q.Claim(t.Context(), promoted, false); epoch != 1 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	if reached, err := q.Reached(t.Context()); err != nil || reached.Confirmed != 0x2280 || reached.Source.Timeline != 2 {
		t.Errorf("reached %+v, %v", reached, err)
	}
	// Promoted again, without the end that it was read up to: what is verified is before that place.
	again := promotedTo(3, "1@0/2180 2@0/2290")
	again.Verified = true
	if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), again, false); !errors.As(err, &changed) || !strings.Contains(err.Error(), "lacks the transaction at 0/2300") {
		t.Errorf("a server that lacks the end: %v", err)
	}
}

// TestTallyOfAPromotion: changes that the promoted server has where the former primary had others are counted, though
// those had been: their rules had made no event of them.
func TestTallyOfAPromotion(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	former := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c := counter{t, former}
	c.begin()
	queuetest.RunDurable(t, former)
	c.capture(0, 3)
	ev := queuetest.Event(4, "k") // filtered, at 0/2400
	former.Tally().Observe(&mapping.Observation{Position: ev.Position, Time: ev.Time, Op: ev.Op, Verdicts: []mapping.Verdict{{Rule: 1, Outcome: mapping.False}}})
	former.Tally().Reached()
	former.Appended(queuetest.LSN(4))
	queuetest.Eventually(t, "the counts", func() bool {
		_, _, _, filtered := c.sums()
		return filtered == 4
	})
	q := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	if epoch, err := q.Claim(t.Context(), promotedTo(2, "1@0/2280"), false); epoch != 1 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	c = counter{t, q}
	c.begin()
	queuetest.RunDurable(t, q)
	c.capture(2, 5) // the first is read again, the others were committed on the promoted server
	queuetest.Eventually(t, "the counts", func() bool {
		seen, made, to, _ := c.sums()
		return seen == 5 && made == 5 && to == 5
	})
}

// TestPromotionOfStuckSource: that a transaction is to be stepped over is about the WAL that the promoted server
// has, and is forgotten where that has another one.
func TestPromotionOfStuckSource(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		left cdc.History
		skip cdc.LSN
	}{{"1@0/3100", 0x3000}, {"1@0/3000", 0}} {
		r := queuetest.StartRedis(t, "appendfsync", "always")
		q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
		must(t, q.NoteStuck(t.Context(), queue.Stuck{Commit: "0/3000", Where: "the first one", Why: "a text"}))
		if _, err := q.Skip(t.Context(), 0x3000); err != nil {
			t.Fatal(err)
		}
		if _, err := queuetest.OpenOnly(t, r).Claim(t.Context(), promotedTo(2, c.left), false); err != nil {
			t.Fatal(err)
		}
		if reached, err := q.Reached(t.Context()); err != nil || reached.Skip != c.skip || (reached.Stuck != nil) != (c.skip != 0) {
			t.Errorf("left at %s: %+v, %v", c.left, reached, err)
		}
	}
}

// TestPromotionThatRedisLost: a Redis that has lost the claim is given it again, with no position of the former timeline.
func TestPromotionThatRedisLost(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	former := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	confirmed, _ := queuetest.RunDurable(t, former)
	former.Appended(0x2900)
	queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == 0x2900 })
	client := queuetest.Client(t, r)
	record := client.HGetAll(t.Context(), "gancho:source").Val()
	q := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	if _, err := q.Claim(t.Context(), promotedTo(2, "1@0/2280"), false); err != nil {
		t.Fatal(err)
	}
	must(t, client.HSet(t.Context(), "gancho:source", record).Err())
	must(t, q.AcceptRestart(t.Context()))
	if reached, err := q.Reached(t.Context()); err != nil || reached.Source.Timeline != 2 || reached.Confirmed != 0x2280 {
		t.Errorf("reached %+v, %v", reached, err)
	}
}
