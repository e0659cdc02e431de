package dispatch

import (
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

// Results that wait are bounded in number, and in bytes of the log.
func TestUnwrittenResultsAreBounded(t *testing.T) {
	t.Parallel()
	m := &webhook.Message{ID: "id", Data: make([]byte, 100)}
	for name, add := range map[string]func(r *queue.Results){
		"events":         func(r *queue.Results) { r.Done = append(r.Done, queue.ID{}) },
		"retries":        func(r *queue.Results) { r.Retries = append(r.Retries, queue.RetryResult{}) },
		"events' bodies": func(r *queue.Results) { r.Record(queue.ID{}, m, &webhook.Outcome{}, 1, true, false, time.Now()) },
	} {
		c := &courier{
			means: &means{o: Options{WindowEvents: 4, WindowBytes: 400}, memory: &memory{}},
			ep:    &endpoint.Endpoint{Concurrency: 1}, reading: newReading(), activity: &activity{},
		}
		results := []*queue.Results{&c.writing.results, &c.writing.outgoing}
		n := 0
		for ; !c.unwrittenFullLocked() && n < 1000; n++ {
			add(results[n%2])
		}
		if n < 8 || n > 60 {
			t.Errorf("%d %s wait", n, name)
		}
	}
}
