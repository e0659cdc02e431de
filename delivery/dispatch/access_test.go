package dispatch_test

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

// documentedUser creates the user of docs/operations.md on the server, as the line there does.
func documentedUser(t *testing.T, do func(ctx context.Context, args ...any) error) {
	t.Helper()
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.HasPrefix(line, "ACL SETUSER gancho ") {
			var args []any
			for _, word := range strings.Fields(line) {
				args = append(args, word)
			}
			if err := do(t.Context(), args...); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
	t.Fatal("docs/operations.md has no line for the user")
}

// The documented user may do everything that Gancho does, and nothing that it does is
// refused on the way.
func TestDocumentedUser(t *testing.T) {
	t.Parallel()
	for _, fsync := range []string{"everysec", "always"} {
		t.Run(fsync, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t, "appendfsync", fsync)
			c := queuetest.Client(t, r)
			documentedUser(t, func(ctx context.Context, args ...any) error { return c.Do(ctx, args...).Err() })
			eps := []endpoint.Endpoint{{Name: "a"}, {Name: "b", Retry: ms(10)}}
			open := func() *queue.Queue {
				q, err := queue.Open(t.Context(), queue.Options{
					URL: strings.Replace(r.URL(), "redis://", "redis://gancho:PASSWORD@", 1), Endpoints: queuetest.Endpoints(eps...), Logger: queuetest.Logger(t),
				})
				if err != nil {
					t.Fatal(err)
				}
				t.Cleanup(func() { _ = q.Close() })
				return q
			}
			q, worker := open(), open()
			if _, err := q.Claim(t.Context(), queuetest.Source(), false); err != nil {
				t.Fatal(err)
			}
			confirmed, _ := queuetest.RunDurable(t, q)
			sink := newReceiver()
			sink.answer = func(_ context.Context, ep *endpoint.Endpoint, _ *webhook.Message, _ int) webhook.Outcome {
				if ep.Name == "b" {
					return status(404)
				}
				return delivered()
			}
			_, stop := startDispatcher(t, q, sink, dispatch.Options{Lease: time.Second, Log: true, KeepEvents: true}, eps...)
			_, stopWorker := startDispatcher(t, worker, sink, dispatch.Options{Lease: time.Second, Log: true}, eps...)
			queuetest.AppendEvents(t, q, 0, 20, 5, queuetest.KeyModulo(3))
			b := q.NewBatch()
			if err := b.Park(&mapping.Parked{Position: queuetest.Event(20, "").Position, Rule: "r", Table: "t", Reason: "x"}); err != nil {
				t.Fatal(err)
			}
			must := func(err error) {
				t.Helper()
				if err != nil {
					t.Error(err)
				}
			}
			must(q.Append(t.Context(), b))
			q.Appended(queuetest.LSN(20))
			must(q.Durably(t.Context(), "a", func() error {
				_, err := q.ReplayPart(t.Context(), "a", &queue.Part{Job: "1", Position: "5", Messages: keptFrom(t, 0, 5, queuetest.KeyModulo(3))})
				return err
			}))
			must(q.ForgetJob(t.Context(), "a", "1"))
			must(q.Announce(t.Context(), []string{"a"}, webhook.Message{ID: "n", Type: "gancho.test", Time: time.Now(), Data: []byte("{}")}))
			queuetest.Drained(t, q, "a")
			queuetest.Eventually(t, "the dead letters", func() bool {
				dead, err := q.Dead(t.Context(), "b", "", 100)
				return err == nil && len(dead) == 20
			})
			queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == queuetest.LSN(20) })
			dead, err := q.Dead(t.Context(), "b", "", 1)
			must(err)
			must(q.TrimDead(t.Context(), "b", dead[0].Handle))
			log, err := q.Log(t.Context(), "a", 10)
			must(err)
			for _, e := range log {
				must(q.TrimLog(t.Context(), "a", e.ID))
			}
			_, err = q.Hasten(t.Context(), "a")
			must(err)
			_, err = q.Resume(t.Context(), "b")
			must(err)
			_, err = q.EndpointNames(t.Context())
			must(err)
			_, err = q.Orphans(t.Context(), nil)
			must(err)
			_, err = q.RekeyParked(t.Context(), func(p *queue.ParkedChange) (bool, error) { return true, nil })
			must(err)
			parked, err := q.Parked(t.Context(), queue.ParkedFilter{}, queue.ID{}, 10)
			must(err)
			for i := range parked {
				must(q.StillParked(t.Context(), parked[i].ID, "again"))
				_, err := q.Unpark(t.Context(), []queue.Unparked{{ID: parked[i].ID, Endpoints: []string{"a"}, Message: webhook.Message{ID: "x", Type: "y", Data: []byte("{}")}}})
				must(err)
			}
			must(q.ForgetReasons(t.Context()))
			must(q.TakesReplays(t.Context(), "a"))
			_, err = q.DropParked(t.Context(), []queue.ID{{}})
			must(err)
			_, err = q.ParkedCount(t.Context())
			must(err)
			_, err = q.ParkedBytes(t.Context())
			must(err)
			_, err = q.LastParked(t.Context())
			must(err)
			must(q.Ping(t.Context()))
			stopWorker()
			stop()
			must(q.Drop(t.Context(), "a"))
			must(c.Del(t.Context(), "gancho:source").Err())
			_, err = open().Claim(t.Context(), queuetest.Source(), false) // which looks at the streams
			must(err)
			refused, err := c.ACLLog(t.Context(), 100).Result()
			must(err)
			for _, e := range refused {
				t.Errorf("refused: %s %s in %s", e.Reason, e.Object, e.Context)
			}
		})
	}
}
