package control_test

import (
	"fmt"
	"testing"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
)

// TestStatusOfVeryMany: of hundreds of endpoints the status is read at once and kept for a moment; of one that has something queued, and of one that is
// new, it says what is so now.
func TestStatusOfVeryMany(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	const many = 300
	all := make([]endpoint.Endpoint, many)
	for i := range all {
		all[i] = endpoint.Endpoint{Name: fmt.Sprintf("e%03d", i), URL: "https://example.com", Events: []string{fmt.Sprintf("e%03d.*", i)}}
	}
	all[7].Events = []string{"cobranca.*"}
	q := queuetest.Open(t, queuetest.StartRedis(t), all...)
	s := control.New(control.Options{Queue: q, File: func() []*endpoint.Endpoint { return queuetest.Endpoints(all...) }})
	look := func(name string) int64 {
		t.Helper()
		v, err := s.Status(ctx, root)
		if err != nil || len(v.Errors) > 0 || len(v.Endpoints) != len(all) {
			t.Fatalf("%d endpoints, %v, %v", len(v.Endpoints), v.Errors, err)
		}
		for _, e := range v.Endpoints {
			if e.Name == name {
				return e.Live.Backlog
			}
		}
		t.Fatalf("%s is not there", name)
		return 0
	}
	key := queuetest.KeyModulo(1)
	queuetest.AppendEvents(t, q, 1, 4, 10, key)
	if n := look("e007"); n != 3 {
		t.Errorf("at first %d events, want 3", n)
	}
	queuetest.AppendEvents(t, q, 4, 6, 10, key)
	if n := look("e007"); n != 5 {
		t.Errorf("a moment later %d events, want 5", n)
	}
	all = append(all, endpoint.Endpoint{Name: "novo", URL: "https://example.com", Events: []string{"cobranca.*"}})
	q.Update(queuetest.Endpoints(all...))
	queuetest.AppendEvents(t, q, 6, 7, 10, key)
	if n := look("novo"); n != 1 {
		t.Errorf("of a new one %d events, want 1", n)
	}
}
