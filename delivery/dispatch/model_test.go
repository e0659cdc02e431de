package dispatch_test

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
)

// model is a receiver that answers at random, and knows what may come of it.
type model struct {
	t *testing.T

	mu     sync.Mutex
	random *rand.Rand
	// compact: events are superseded at times.
	compact bool
	kind    bool              // it answers everything with success
	taken   map[string]int    // by webhook-id
	last    map[string]string // the last one taken, by stream and key
}

func (m *model) answer(ms []*webhook.Message) webhook.Outcome {
	m.mu.Lock()
	defer m.mu.Unlock()
	o := delivered()
	if !m.kind {
		o = m.failure()
	}
	if o.Kind != webhook.Delivered {
		return o
	}
	for _, e := range ms {
		m.taken[e.ID]++
		lane := e.Key
		if e.Replay {
			lane += " again"
		}
		if e.ID <= m.last[lane] {
			m.t.Errorf("%s: %s was taken after %s", lane, e.ID, m.last[lane])
		}
		m.last[lane] = e.ID
	}
	return o
}

// failure is one in four times, in some of which there is a wish.
func (m *model) failure() webhook.Outcome {
	switch m.random.IntN(64) {
	case 0, 1, 2, 3:
		return answer(422, webhook.Refused)
	case 4, 5, 6, 7, 8:
		return status(503)
	case 9, 10:
		return refused()
	case 11:
		return after(status(429), time.Millisecond)
	case 12:
		return wishing(status(500), webhook.WishAbort)
	case 13:
		return wishing(status(500), webhook.WishPause)
	case 14:
		return wishing(delivered(), webhook.WishPause)
	case 15:
		return answer(410, webhook.Gone)
	}
	return delivered()
}

// settings are at random, too.
func (m *model) settings() endpoint.Endpoint {
	m.mu.Lock()
	defer m.mu.Unlock()
	pick := func(n int) int { return m.random.IntN(n) }
	ep := endpoint.Endpoint{
		Name: "a", Concurrency: 1 + pick(12), Retry: ms(1, 1, 1)[:pick(4)], RetryRefused: ms(1, 1)[:pick(3)],
		Order:       []endpoint.Order{endpoint.OrderKey, endpoint.OrderKey, endpoint.OrderEndpoint}[pick(3)],
		OnExhausted: []endpoint.Exhausted{endpoint.DeadLetter, endpoint.DeadLetter, endpoint.Block, endpoint.Pause}[pick(4)],
		State:       []endpoint.State{endpoint.Active, endpoint.Active, endpoint.Active, endpoint.Paused, endpoint.Inactive}[pick(5)],
	}
	if pick(3) == 0 {
		ep.Batch = endpoint.Batching{Max: 2 + pick(9), Wait: time.Duration(pick(3)) * time.Millisecond, PerTransaction: pick(4) == 0}
	}
	if m.compact {
		ep.Compact = pick(3) > 0
	}
	return ep
}

func (m *model) calm() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.kind = true
}

// Whatever the receiver answers, and while settings and owners change and
// events are sent again beside new ones, each event is delivered or becomes a
// dead letter, once, in the order of its key; and the log says the same.
func TestEveryEventHasOneEnd(t *testing.T) {
	t.Parallel()
	for name, compact := range map[string]bool{"all are sent": false, "some are superseded": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			everyEventHasOneEnd(t, compact)
		})
	}
}

func everyEventHasOneEnd(t *testing.T, compact bool) {
	t.Helper()
	r := queuetest.StartRedis(t)
	plain := endpoint.Endpoint{Name: "a", Retry: ms(1, 1, 1)}
	q := queuetest.Open(t, r, plain)
	m := &model{t: t, random: random(t), compact: compact, taken: map[string]int{}, last: map[string]string{}}
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, e *webhook.Message, _ int) webhook.Outcome {
		return m.answer([]*webhook.Message{e})
	}
	sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, list []*webhook.Message, _ int) webhook.Outcome {
		return m.answer(list)
	}
	// A small window has events read again from Redis.
	o := dispatch.Options{Log: true, KeepEvents: true, WindowEvents: 16}
	d, stop := startDispatcher(t, q, sink, o, plain)
	const rounds, events, replays = 60, 20, 5
	for i := range rounds {
		before := sink.count()
		queuetest.AppendEvents(t, q, i*events, (i+1)*events, 1+i%9, queuetest.KeyModulo(7))
		if err := queuetest.Replay(t.Context(), q, "a", keptFrom(t, 5000+i*replays, 5000+(i+1)*replays, queuetest.KeyModulo(3))); err != nil {
			t.Fatal(err)
		}
		ep := m.settings()
		if i%12 == 11 { // another owner
			stop()
			d, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, o, ep)
		} else {
			d.Update(queuetest.Endpoints(ep))
		}
		if i%4 == 3 {
			continue
		}
		if _, err := q.Resume(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		if ep.State == endpoint.Active { // some are taken before the next change
			queuetest.Eventually(t, "some requests", func() bool {
				s, err := queuetest.Stats(t.Context(), q, "a")
				// An event that blocks the only lane stops it until the next Resume. Lists of what is not superseded may be few.
				return err == nil && (s.Reason != "" || s.Blocked > 0 || sink.count() > before+i%7 || s.Backlog+s.Replays == 0)
			})
		}
	}
	m.calm()
	d.Update(queuetest.Endpoints(plain))
	resume := func() bool {
		if _, err := q.Resume(t.Context(), "a"); err != nil {
			t.Fatal(err)
		}
		held, err := queuetest.Stats(t.Context(), q, "a")
		again, err2 := q.ReplayBacklog(t.Context(), "a")
		return err == nil && err2 == nil && held.Backlog+again == 0
	}
	queuetest.Eventually(t, "an end of every event", resume)
	stop()
	m.compare(q, rounds*(events+replays))
}

// compare is of what was taken, the dead letters, and the log.
func (m *model) compare(q *queue.Queue, total int) {
	t := m.t
	t.Helper()
	ends := map[string][]string{}
	for id, n := range m.taken {
		ends[id] = slices.Repeat([]string{"delivered"}, n)
	}
	for after := ""; ; {
		page, err := q.Dead(t.Context(), "a", after, 1000)
		if err != nil {
			t.Fatal(err)
		}
		if len(page) == 0 {
			break
		}
		for _, l := range page {
			ends[l.ID] = append(ends[l.Message.ID], queue.OutcomeDead)
		}
		after = page[len(page)-1].Handle
	}
	records, _ := logged(t, q, "a", total)
	said := map[string][]string{}
	last, superseded := map[string]string{}, map[string]string{} // by key
	for _, l := range records {
		if !l.Replay {
			last[l.Key] = max(last[l.Key], l.WebhookID)
		}
		if l.Outcome == queue.OutcomeSuperseded {
			ends[l.WebhookID] = append(ends[l.WebhookID], queue.OutcomeSuperseded)
			superseded[l.Key] = max(superseded[l.Key], l.WebhookID)
			if l.Replay {
				t.Errorf("%s was to be sent again, and is superseded", l.WebhookID)
			}
		}
		if l.Outcome == "delivered" || l.Outcome == queue.OutcomeDead || l.Outcome == queue.OutcomeSuperseded {
			said[l.WebhookID] = append(said[l.WebhookID], l.Outcome)
			if (l.Kept == nil) != l.Replay {
				t.Errorf("%s, entry %s, %s: kept %t", l.WebhookID, l.Entry, l.Outcome, l.Kept != nil)
			}
		}
	}
	for key, id := range superseded {
		if id == last[key] {
			t.Errorf("%s: its newest event %s is superseded", key, id)
		}
	}
	if (len(superseded) > 0) != m.compact {
		t.Errorf("events of %d keys are superseded; compact %t", len(superseded), m.compact)
	}
	if len(ends) != total {
		t.Errorf("%d events have ended, want %d", len(ends), total)
	}
	for id, how := range ends {
		if len(how) != 1 || !slices.Equal(how, said[id]) {
			t.Errorf("%s has ended as %v, in the log %v", id, how, said[id])
		}
	}
}
