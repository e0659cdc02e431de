package dispatch_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

// logLine is found by the first line of a log that contains a text.
type logLine struct {
	text  string
	once  sync.Once
	found chan struct{}
}

func (l *logLine) Write(line []byte) (int, error) {
	if bytes.Contains(line, []byte(l.text)) {
		l.once.Do(func() { close(l.found) })
	}
	return len(line), nil
}

// TestForgottenEventsAreNotSent erases a key while one of its events waits for its retry
// and others are in its owner's memory: they are not sent, and the other keys' events are,
// once and in order.
func TestForgottenEventsAreNotSent(t *testing.T) {
	t.Parallel()
	ep := endpoint.Endpoint{Name: "crm", Concurrency: 1, Order: endpoint.OrderKey, Retry: []time.Duration{time.Hour}}
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, ep)
	free := make(chan struct{})
	receiver := newReceiver()
	receiver.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.Key == "maria" {
			return status(500)
		}
		<-free
		return delivered()
	}
	key := func(i int) string { return []string{"maria", "joao"}[i%2] }
	queuetest.AppendEvents(t, q, 0, 8, 8, key)
	reread := &logLine{text: "read again", found: make(chan struct{})}
	runDispatcher(t, q, receiver, dispatch.Options{Log: true, KeepEvents: true, Logger: zerolog.New(reread)}, ep)
	receiver.until(t, "joao's first event in flight", func(all []arrival) bool { return len(all) == 2 })

	other := queuetest.OpenOnly(t, r, ep) // as the command does
	maria := queue.Subject{Tenant: "1", Key: "maria", Events: []string{"cobranca.*"}}
	counted, err := other.CountSubject(t.Context(), maria)
	if err != nil {
		t.Fatal(err)
	}
	if counted.Queued != 4 {
		t.Errorf("counted %+v, want 4 queued", counted)
	}
	for _, not := range []queue.Subject{{Tenant: "2", Key: "maria"}, {Key: "maria"}, {Tenant: "1", Key: "mari"}, {Tenant: "1", Key: "maria", Events: []string{"pedido.*"}}} {
		if got, err := other.Forget(t.Context(), not); err != nil || got != (queue.Forgotten{}) {
			t.Errorf("forget %+v: %+v, %v", not, got, err)
		}
	}
	forgotten, err := other.Forget(t.Context(), maria)
	if err != nil {
		t.Fatal(err)
	}
	if forgotten.Queued != 4 {
		t.Errorf("forgot %+v, want 4 queued", forgotten)
	}
	select {
	case <-reread.found:
	case <-time.After(queuetest.Patience):
		t.Fatal("the owner has not noticed")
	}
	close(free)
	queuetest.AppendEvents(t, q, 8, 12, 4, key)
	all := receiver.distinct(t, 2+3+2+1) // the last of joao's, and maria's first new one
	var got []string
	for _, a := range all {
		got = append(got, a.data)
	}
	var want []string
	for _, i := range []int{0, 1, 3, 5, 7, 8, 9, 11} {
		want = append(want, fmt.Sprintf(`{"id":%d,"key":%q}`, i, key(i)))
	}
	// Which of the two keys comes first is not said.
	if diff := cmp.Diff(of(want, "joao"), of(got, "joao")); diff != "" {
		t.Errorf("joao's (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(of(want, "maria"), of(got, "maria")); diff != "" {
		t.Errorf("maria's (-want +got):\n%s", diff)
	}
}

// of are the bodies with a text.
func of(bodies []string, text string) (out []string) {
	for _, b := range bodies {
		if bytes.Contains([]byte(b), []byte(text)) {
			out = append(out, b)
		}
	}
	return out
}

// TestForgetIsComplete erases a key from the log, whose entries it shares with others, and
// from dead letters, in the queue of an endpoint that nobody delivers to.
func TestForgetIsComplete(t *testing.T) {
	t.Parallel()
	ep := endpoint.Endpoint{Name: "crm", Concurrency: 4, Order: endpoint.OrderKey, Retry: []time.Duration{}}
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, ep)
	receiver := newReceiver()
	receiver.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.Key == "maria" && m.Sequence[len(m.Sequence)-1]%2 == 0 {
			return refused()
		}
		return delivered()
	}
	queuetest.AppendEvents(t, q, 0, 20, 20, func(i int) string { return []string{"maria", "joao"}[i/2%2] })
	_, stop := startDispatcher(t, q, receiver, dispatch.Options{Log: true, KeepEvents: true}, ep)
	receiver.distinct(t, 20)
	stop()
	maria, joao := queue.Subject{Tenant: "1", Key: "maria"}, queue.Subject{Tenant: "1", Key: "joao"}
	before, err := q.CountSubject(t.Context(), joao)
	if err != nil {
		t.Fatal(err)
	}
	counted, err := q.CountSubject(t.Context(), maria)
	if err != nil {
		t.Fatal(err)
	}
	got, err := q.Forget(t.Context(), maria)
	if err != nil {
		t.Fatal(err)
	}
	if got != counted || got.Attempts == 0 || got.Queued+got.DeadLetters == 0 {
		t.Errorf("forgot %+v, counted %+v before", got, counted)
	}
	if again, err := q.Forget(t.Context(), maria); err != nil || again != (queue.Forgotten{}) {
		t.Errorf("forgot again %+v, %v", again, err)
	}
	if after, err := q.CountSubject(t.Context(), joao); err != nil || after != before {
		t.Errorf("joao has %+v, %v; had %+v", after, err, before)
	}
	stats, err := q.Stats(t.Context(), []string{"crm"})
	if err != nil || stats[0].LogRecords != before.Attempts {
		t.Errorf("the log's size is %d, %v; it has %d attempts", stats[0].LogRecords, err, before.Attempts)
	}

	// What cannot be read is left, counted, and keeps nobody from being forgotten.
	c := queuetest.Client(t, r)
	if err := c.Do(t.Context(), "XADD", "gancho:{crm}:log", "*", "n", "1", "b", "of another version").Err(); err != nil {
		t.Fatal(err)
	}
	if got, err := q.Forget(t.Context(), joao); err != nil || got.Attempts != before.Attempts || got.Unreadable != 1 {
		t.Errorf("forgot %+v, %v, beside what cannot be read", got, err)
	}
	if receivers, err := q.SubjectReceivers(t.Context(), joao); err != nil || len(receivers) > 0 {
		t.Errorf("receivers %v, %v, beside what cannot be read", receivers, err)
	}
	if n := c.XLen(t.Context(), "gancho:{crm}:log").Val(); n != 1 {
		t.Errorf("the log has %d entries, want that which cannot be read", n)
	}
}

// testForgetParts: in a cluster as elsewhere, a key leaves the streams of all endpoints, the
// parked changes that are known to be of it, and those that have expired.
func testForgetParts(t *testing.T, q *queue.Queue, endpoints int) {
	t.Helper()
	queuetest.AppendEvents(t, q, 0, 6, 6, func(i int) string { return []string{"maria", "joao"}[i%2] })
	b := q.NewBatch()
	subjects := []string{"1:maria", "1:joao", "", "1:maria", "9:removed", "1:maria"}
	for i, subject := range subjects {
		p := mapping.Parked{
			Position: cdc.Position{Commit: cdc.LSN(queuetest.LSN(i))}, Type: "cliente.novo", Rule: "r.yaml:3", Table: "t", Op: cdc.Insert,
			Time: queuetest.Event(i, "").Time, Reason: "division by zero", Change: []byte("sealed"), Subject: subject, Tenant: []byte("1"), Key: []byte("not stored"),
		}
		if i == 5 {
			p.Type = "pedido.novo"
		}
		if err := b.Park(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	of := func(subject string) (is, known bool) { return subject == "1:maria", strings.HasPrefix(subject, "1:") }
	maria := queue.Subject{Tenant: "1", Key: "maria", Events: []string{"cliente.*", "cobranca.*"}}
	for _, remove := range []bool{false, true} {
		n, unknown, err := q.ForgetParked(t.Context(), maria, of, remove)
		if err != nil || n != 2 || unknown != 2 {
			t.Errorf("parked: %d, %d of which it is not known, %v", n, unknown, err)
		}
	}
	if got, err := q.Forget(t.Context(), maria); err != nil || got.Queued != int64(3*endpoints) {
		t.Errorf("forgot %+v, %v; want 3 of each endpoint", got, err)
	}

	// The three that expire are what was announced of those that are left.
	before := queuetest.Event(4, "").Time
	last, n, err := q.ExpiringParked(t.Context(), before.Add(time.Microsecond))
	if err != nil || n != 3 || last.Position().Commit != cdc.LSN(queuetest.LSN(4)) {
		t.Errorf("expiring: %d up to %s, %v", n, last, err)
	}
	for _, want := range []int64{2, 0} {
		if n, err := q.ExpireParked(t.Context(), last, before); err != nil || n != want {
			t.Errorf("expired: %d, %v; want %d", n, err, want)
		}
	}
	if n, err := q.ExpireParked(t.Context(), last, before.Add(time.Hour)); err != nil || n != 1 {
		t.Errorf("what was not announced expires, too: %d, %v", n, err)
	}
	if n, err := q.ParkedCount(t.Context()); err != nil || n != 1 {
		t.Errorf("%d are still parked, %v", n, err)
	}

	// One deletion is announced at a time.
	due := time.Date(2026, 12, 5, 0, 0, 0, 0, time.UTC)
	for i, want := range []bool{true, false} {
		e := queue.Expiry{Announced: due.AddDate(0, 0, -7), Due: due.AddDate(0, 0, i), UpTo: "7", Count: 3}
		if got, err := q.AnnounceExpiry(t.Context(), queue.ExpiringDead, e); err != nil || got != want {
			t.Errorf("announced: %v, %v", got, err)
		}
	}
	if e, err := q.Expiry(t.Context(), queue.ExpiringDead); err != nil || e == nil || !e.Due.Equal(due) || e.UpTo != "7" || e.Count != 3 {
		t.Errorf("announced is %+v, %v", e, err)
	}
	if err := q.EndExpiry(t.Context(), queue.ExpiringDead); err != nil {
		t.Error(err)
	}
	for _, kind := range []string{queue.ExpiringDead, queue.ExpiringParked} {
		if e, err := q.Expiry(t.Context(), kind); err != nil || e != nil {
			t.Errorf("announced is %+v, %v", e, err)
		}
	}
}

func TestForgetParts(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	testForgetParts(t, queuetest.Open(t, r, unparkEndpoints()[:2]...), 2)
}
