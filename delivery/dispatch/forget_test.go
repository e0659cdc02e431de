package dispatch_test

import (
	"bytes"
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
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
}
