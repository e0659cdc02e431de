package dispatch_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

// cpuTime is what a process has used, in clock ticks of 10 ms.
func cpuTime(b *testing.B, pid int) time.Duration {
	b.Helper()
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		b.Fatal(err)
	}
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	user, err1 := strconv.Atoi(fields[11])
	system, err2 := strconv.Atoi(fields[12])
	if err1 != nil || err2 != nil {
		b.Fatal(err1, err2)
	}
	return time.Duration(user+system) * 10 * time.Millisecond
}

func benchEvents() []*mapping.Event {
	events := make([]*mapping.Event, 1000)
	for i := range events {
		events[i] = queuetest.Event(i, fmt.Sprint("k", i%100))
		events[i].Data = fmt.Appendf(nil, `{"id":%d,"valor":129.90,"liquidada_em":"2026-01-01T12:00:00-03:00","cliente":{"id":77,"nome":%q}}`, i, strings.Repeat("n", 200))
	}
	return events
}

// BenchmarkAppend is capture's part: build batches and append them, without and with the fencing token.
func BenchmarkAppend(b *testing.B) {
	for _, size := range []int{1, 10, 100, 500} {
		for _, fenced := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/fenced=%t", size, fenced), func(b *testing.B) {
				r := queuetest.StartRedis(b)
				q := queuetest.Open(b, r, endpoint.Endpoint{Name: "a"})
				benchAppend(b, q, size, fenced, r.PID())
			})
		}
	}
}

// BenchmarkAppendCluster is BenchmarkAppend with each event for six endpoints on three nodes.
func BenchmarkAppendCluster(b *testing.B) {
	c := startCluster(b, 0)
	var pids []int
	for _, node := range c.Nodes() {
		pids = append(pids, node.PID())
	}
	eps := make([]endpoint.Endpoint, 6)
	for i := range eps {
		eps[i].Name = fmt.Sprint("e", i)
	}
	for _, size := range []int{6, 60, 600} {
		for _, fenced := range []bool{false, true} {
			b.Run(fmt.Sprintf("%d/fenced=%t", size, fenced), func(b *testing.B) {
				q := openPart(b, c, fmt.Sprintf("bench%d%t%d", size, fenced, b.N), eps...)
				benchAppend(b, q, size, fenced, pids...)
			})
		}
	}
}

func benchAppend(b *testing.B, q *queue.Queue, size int, fenced bool, pids ...int) {
	b.Helper()
	if fenced {
		if err := q.Take(b.Context()); err != nil {
			b.Fatal(err)
		}
	}
	redisTime := func() (sum time.Duration) {
		for _, pid := range pids {
			sum += cpuTime(b, pid)
		}
		return sum
	}
	events, batch := benchEvents(), q.NewBatch()
	b.ReportAllocs()
	redis, self := redisTime(), cpuTime(b, os.Getpid())
	b.ResetTimer()
	for i := range b.N {
		ev := *events[i%len(events)]
		ev.Commit = cdc.LSN(0x1000000 + 0x10*i)
		if _, err := batch.Add(&ev); err != nil {
			b.Fatal(err)
		}
		if batch.Len() >= size || i == b.N-1 {
			if err := q.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
	b.StopTimer()
	b.ReportMetric(float64((redisTime()-redis).Nanoseconds())/float64(b.N), "redis-ns/op")
	b.ReportMetric(float64((cpuTime(b, os.Getpid())-self).Nanoseconds())/float64(b.N), "go-ns/op")
}

// BenchmarkDispatch compares the dispatcher with plain POSTs of the same body
// to the same server, each with the same number of requests in flight.
func BenchmarkDispatch(b *testing.B) {
	const concurrency = 32
	var count atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		count.Add(1)
	}))
	b.Cleanup(server.Close)
	var plain float64
	b.Run("plain", func(b *testing.B) {
		plain = plainPosts(b, server.URL, concurrency)
	})
	for _, c := range []struct {
		name    string
		live    bool
		options dispatch.Options
	}{
		{"backlog", false, dispatch.Options{}},
		{"live", true, dispatch.Options{}},
		{"backlog-logged", false, dispatch.Options{Log: true}},
		{"backlog-kept", false, dispatch.Options{Log: true, KeepEvents: true}},
	} {
		b.Run(c.name, func(b *testing.B) {
			rate := dispatchPosts(b, server.URL, concurrency, c.live, c.options, &count)
			if plain > 0 {
				b.ReportMetric(rate/plain, "of-plain")
			}
		})
	}
}

func plainPosts(b *testing.B, url string, concurrency int) float64 {
	b.Helper()
	body := benchEvents()[0].Data
	client := &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: concurrency}}
	defer client.CloseIdleConnections()
	self := cpuTime(b, os.Getpid())
	var next atomic.Int64
	var workers sync.WaitGroup
	start := time.Now()
	for range concurrency {
		workers.Go(func() {
			for next.Add(1) <= int64(b.N) {
				answer, err := client.Post(url, "application/json", bytes.NewReader(body))
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
	}
	workers.Wait()
	rate := float64(b.N) / time.Since(start).Seconds()
	b.ReportMetric(rate, "posts/s")
	b.ReportMetric(float64((cpuTime(b, os.Getpid())-self).Nanoseconds())/float64(b.N), "go-ns/op")
	return rate
}

func dispatchPosts(b *testing.B, url string, concurrency int, live bool, o dispatch.Options, count *atomic.Int64) float64 {
	b.Helper()
	r := queuetest.StartRedis(b)
	ep := endpoint.Endpoint{
		Name: "a", URL: url, AllowHTTP: true, AllowPrivate: []netip.Prefix{netip.MustParsePrefix("127.0.0.0/8")}, Concurrency: concurrency,
	}
	q := queuetest.Open(b, r, ep)
	sender := webhook.NewSender(webhook.Options{Version: "bench"})
	defer sender.Close()
	done, seen := make(chan struct{}), atomic.Int64{}
	o.Observe = func(a dispatch.Attempt) {
		if a.Outcome.Kind == webhook.Delivered && seen.Add(1) == int64(b.N) {
			close(done)
		}
	}
	d := dispatch.New(q, sender, queuetest.Endpoints(ep), o)
	ctx, stop := context.WithCancel(b.Context())
	var running sync.WaitGroup
	run := func() { running.Go(func() { _ = d.Run(ctx) }) }
	defer running.Wait()
	defer stop()
	count.Store(0)
	if live {
		run()
	} else {
		appendBench(b, q)
	}
	redis, self := cpuTime(b, r.PID()), cpuTime(b, os.Getpid())
	b.ResetTimer()
	start := time.Now()
	if live {
		appendBench(b, q)
	} else {
		run()
	}
	<-done
	rate := float64(b.N) / time.Since(start).Seconds()
	b.StopTimer()
	b.ReportMetric(rate, "events/s")
	b.ReportMetric(float64((cpuTime(b, r.PID())-redis).Nanoseconds())/float64(b.N), "redis-ns/op")
	b.ReportMetric(float64((cpuTime(b, os.Getpid())-self).Nanoseconds())/float64(b.N), "go-ns/op")
	return rate
}

func appendBench(b *testing.B, q *queue.Queue) {
	b.Helper()
	events, batch := benchEvents(), q.NewBatch()
	for i := range b.N {
		ev := *events[i%len(events)]
		ev.Commit = cdc.LSN(0x1000000 + 0x10*i)
		if _, err := batch.Add(&ev); err != nil {
			b.Fatal(err)
		}
		if batch.Len() >= 100 || i == b.N-1 {
			if err := q.Append(b.Context(), batch); err != nil {
				b.Fatal(err)
			}
			batch.Reset()
		}
	}
}
