package dispatch_test

import (
	"fmt"
	"runtime"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// configured is n endpoints as a gym chain has them: one for each unit.
func configured(n int) []*endpoint.Endpoint {
	out := make([]*endpoint.Endpoint, n)
	for i := range out {
		secret, err := endpoint.ParseSecret("whsec_dGVzdGUtc2VjcmV0by1kZS0zMi1ieXRlcy1nYW5jaG8=")
		if err != nil {
			panic(err)
		}
		ep := endpoint.Endpoint{
			Name: fmt.Sprintf("unidade-%04d", i), URL: fmt.Sprintf("https://crm-%d.example.com/hooks/gancho", i),
			Tenants: []string{fmt.Sprint(i)}, Events: []string{"cobranca.*", "cliente.novo"}, Secrets: []endpoint.Secret{secret},
			Headers: endpoint.HeadersOf(map[string]endpoint.Hidden{"X-Api-Key": endpoint.Hidden(fmt.Sprint("key-", i))}),
		}.WithDefaults()
		out[i] = &ep
	}
	return out
}

func heap() int64 {
	var m runtime.MemStats
	runtime.GC()
	runtime.GC()
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc + m.StackInuse)
}

// An idle endpoint costs 2.6 to 2.9 KB, its settings included, and thousands are acquired together.
func TestIdleEndpointsAreCheap(t *testing.T) {
	testservers.Whole(t)
	for _, n := range []int{1000, 5000} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			r := queuetest.StartRedis(t)
			q := queuetest.Open(t, r)
			client := queuetest.Client(t, r)
			sink := newReceiver()
			d, _ := startDispatcher(t, q, sink, dispatch.Options{Log: true, KeepEvents: true})
			queuetest.Eventually(t, "the dispatcher", func() bool { return client.Exists(t.Context(), "gancho:leases").Val() == 1 })
			before, goroutines := heap(), runtime.NumGoroutine()
			eps := configured(n)
			start := time.Now()
			q.Update(eps)
			d.Update(eps)
			queuetest.Eventually(t, "all endpoints to be loaded", func() bool { return d.Loaded() == n })
			took := time.Since(start)
			per := (heap() - before) / int64(n)
			t.Logf("%d endpoints: %d bytes each, loaded after %s", n, per, took)
			const most = 3328
			if n == 5000 && per > most { // of fewer, what the process needs anyway shows
				t.Errorf("an idle endpoint takes %d bytes, want at most %d", per, most)
			}
			if more := runtime.NumGoroutine() - goroutines; more > 20 {
				t.Errorf("%d goroutines more", more)
			}
		})
	}
}
