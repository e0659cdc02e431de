package dispatch_test

import (
	"bytes"
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// notified are the notices of a test.
type notified struct {
	mu  sync.Mutex
	all []dispatch.Notice
	err error // what Notify returns; then nothing was sent
}

func (n *notified) notify(_ context.Context, notice dispatch.Notice) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.err != nil {
		return n.err
	}
	n.all = append(n.all, notice)
	return nil
}

func (n *notified) list() []dispatch.Notice {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]dispatch.Notice(nil), n.all...)
}

func (n *notified) until(t *testing.T, what string, many int) []dispatch.Notice {
	t.Helper()
	queuetest.Eventually(t, what, func() bool { return len(n.list()) >= many })
	return n.list()
}

// The notice of a suspension is sent by the endpoint's owners until one of them
// succeeds, and then no more, and so is that of the recovery.
func TestSuspensionAndRecoveryAreAnnounced(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	rc := queuetest.Client(t, r)
	queuetest.AppendEvents(t, q, 0, 2, 2, queuetest.KeyModulo(1))
	gone := newReceiver()
	gone.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		return answer(410, webhook.Gone)
	}
	// The first owner cannot send it.
	mute := &notified{err: errors.New("unreachable")}
	_, stop := startDispatcher(t, q, gone, dispatch.Options{Notify: mute.notify}, ep)
	queuetest.Eventually(t, "the pause", func() bool { s, err := queuetest.Stats(t.Context(), q, "a"); return err == nil && s.Reason != "" })
	stop()
	s, err := queuetest.Stats(t.Context(), q, "a")
	if err != nil {
		t.Fatal(err)
	}
	paused := dispatch.Notice{Kind: dispatch.NoticePaused, Endpoint: "a", Reason: "the receiver answered 410 Gone", Since: s.Since}
	told := &notified{}
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), gone, dispatch.Options{Notify: told.notify}, ep)
	if diff := cmp.Diff([]dispatch.Notice{paused}, told.until(t, "the notice of the suspension", 1)); diff != "" {
		t.Error(diff)
	}
	queuetest.Eventually(t, "that to be written", func() bool { return rc.HGet(t.Context(), "gancho:{a}:state", "noticed").Val() != "" })
	stop()

	// It is not sent again, and the recovery is announced with the first success.
	if _, err := q.Resume(t.Context(), "a"); err != nil {
		t.Fatal(err)
	}
	again := &notified{}
	sink := newReceiver()
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{Notify: again.notify}, ep)
	queuetest.Drained(t, q, "a")
	recovered := dispatch.Notice{Kind: dispatch.NoticeRecovered, Endpoint: "a", Since: s.Since}
	if diff := cmp.Diff([]dispatch.Notice{recovered}, again.until(t, "the notice of the recovery", 1)); diff != "" {
		t.Error(diff)
	}
	stop()
	last := &notified{}
	queuetest.AppendEvents(t, q, 2, 4, 2, queuetest.KeyModulo(1))
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), sink, dispatch.Options{Notify: last.notify}, ep)
	queuetest.Drained(t, q, "a")
	stop()
	if all := append(again.list()[1:], last.list()...); len(all) != 0 {
		t.Errorf("sent again: %+v", all)
	}
}

// The recovery from an outage of less than a minute needs no notice.
func TestRecoveryFromAnOutageIsAnnounced(t *testing.T) {
	t.Parallel()
	for _, outage := range []time.Duration{30 * time.Second, 2 * time.Minute} {
		t.Run(outage.String(), func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a"}
			q := queuetest.Open(t, r, ep)
			queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(5))
			since := time.Now().Add(-outage).Truncate(time.Millisecond).UTC()
			queuetest.Client(t, r).HSet(t.Context(), "gancho:{a}:state", "open", strconv.FormatInt(since.UnixMilli(), 10))
			var want []dispatch.Notice
			if outage > time.Minute {
				want = []dispatch.Notice{{Kind: dispatch.NoticeRecovered, Endpoint: "a", Since: since}}
			}
			told := &notified{}
			_, stop := startDispatcher(t, q, newReceiver(), dispatch.Options{Notify: told.notify}, ep)
			queuetest.Drained(t, q, "a")
			stop()
			if diff := cmp.Diff(want, told.list(), cmpopts.EquateEmpty()); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// Dead letters are announced once Redis has them. A flood of them, while nobody
// listens, delays nothing and is not kept in memory.
func TestDeadLettersAreAnnounced(t *testing.T) {
	t.Parallel()
	const flood = 800
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(), PauseAfter: -1}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	sink := newReceiver()
	sink.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome { return status(404) }
	told, called, listen := &notified{}, make(chan struct{}, flood), make(chan struct{})
	notify := func(ctx context.Context, n dispatch.Notice) error {
		if held, err := queuetest.Stats(ctx, q, "a"); err != nil || held.Dead == 0 {
			t.Errorf("a dead letter was announced when there were %d, %v", held.Dead, err)
		}
		called <- struct{}{}
		<-listen
		return told.notify(ctx, n)
	}
	startDispatcher(t, q, sink, dispatch.Options{Notify: notify}, ep)
	queuetest.Eventually(t, "the first notice", func() bool { return len(called) > 0 })
	queuetest.AppendEvents(t, q, 1, flood, 100, queuetest.KeyModulo(50))
	queuetest.Drained(t, q, "a")
	close(listen)
	first := told.until(t, "notices", 1)[0]
	want := dispatch.Notice{
		Kind: dispatch.NoticeDeadLetter, Endpoint: "a", Reason: "no success in 1 attempt",
		Event: "cobranca.liquidada", WebhookID: sink.list()[0].id, Tenant: "1", Attempts: 1,
	}
	if diff := cmp.Diff(want, first, cmpopts.IgnoreFields(dispatch.Notice{}, "Since")); diff != "" || time.Since(first.Since) > time.Minute {
		t.Errorf("since %s %s", first.Since, diff)
	}
	// What waited is sent; only then there is room for sure.
	told.until(t, "all that were kept", 256)
	queuetest.AppendEvents(t, q, flood, flood+1, 1, queuetest.KeyModulo(1))
	queuetest.Eventually(t, "the notice of the last one", func() bool { all := told.list(); return number(all[len(all)-1].WebhookID) == flood })
	if n := len(told.list()); n > 300 {
		t.Errorf("%d notices were kept of %d dead letters", n, flood)
	}
}

// An endpoint that fails is announced after ten attempts, once, whoever owns it; its next
// success is its recovery.
func TestFailingIsAnnounced(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 3_600_000), PauseAfter: 24 * time.Hour}
	q := queuetest.Open(t, r, ep)
	rc := queuetest.Client(t, r)
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	refusing := newReceiver()
	refusing.answer = func(context.Context, *endpoint.Endpoint, *webhook.Message, int) webhook.Outcome {
		o := status(503)
		o.Answer = bytes.Repeat([]byte("x"), 600)
		return o
	}
	told := &notified{}
	_, stop := startDispatcher(t, q, refusing, dispatch.Options{Notify: told.notify}, ep)
	n := told.until(t, "the warning", 1)[0]
	if n.Kind != dispatch.NoticeFailing || n.Attempts != 10 || n.Status != 503 || len(n.Answer) != 500 || n.WebhookID == "" || n.Stage != dispatch.WarnFailing || n.Pauses.Sub(n.Since) != 24*time.Hour {
		t.Errorf("the warning is %+v", n)
	}
	queuetest.Eventually(t, "that to be written", func() bool { return rc.HGet(t.Context(), "gancho:{a}:state", "warned").Val() == "1" })
	queuetest.Eventually(t, "the last of the quick attempts", func() bool { return len(refusing.list()) >= 16 })
	stop()
	if all := told.list(); len(all) != 1 {
		t.Errorf("the warning was sent %d times", len(all))
	}
	_, stop = startDispatcher(t, queuetest.OpenOnly(t, r), newReceiver(), dispatch.Options{Notify: told.notify}, ep)
	queuetest.AppendEvents(t, q, 1, 2, 1, func(int) string { return "another" })
	if all := told.until(t, "the recovery", 2); all[1].Kind != dispatch.NoticeRecovered || !all[1].Since.Equal(n.Since) {
		t.Errorf("after the warning comes %+v", all[1])
	}
	queuetest.Eventually(t, "that to be written", func() bool { return rc.HGet(t.Context(), "gancho:{a}:state", "warned").Val() == "" })
	stop()
}
