package console_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"syscall"
	"testing"
	"time"

	"gancho/internal/state"
)

// BenchmarkTails measures what fifty open live tails cost this process, browsers included, while a thousand attempts a second are logged: more than none, in
// turns. `make bench-console` runs it.
func BenchmarkTails(b *testing.B) {
	const (
		tails  = 50
		rate   = 1000
		turn   = 10 * time.Second
		rounds = 3
	)
	w := newConsole(b)
	w.endpoint("crm", "")
	n := 0
	var cost [2]time.Duration
	for range rounds {
		for i, open := range []int{0, tails} {
			ctx, cancel := context.WithCancel(context.Background())
			ended := w.follow(ctx, open)
			begun, used := time.Now(), processTime(b)
			for at := time.NewTicker(100 * time.Millisecond); time.Since(begun) < turn; {
				<-at.C
				rows := make([]state.Attempt, rate/10)
				for j := range rows {
					n++
					rows[j] = state.Attempt{
						Time: time.Now(), Endpoint: "crm", Entry: fmt.Sprint(n), Number: 1, WebhookID: fmt.Sprint("w", n), Event: "cobranca.paga", Tenant: "1",
						Key: fmt.Sprint("k", n%1000), Committed: time.Now(), Outcome: "delivered", Status: http.StatusOK,
					}
				}
				if err := w.store.WriteAttempts(ctx, rows); err != nil {
					b.Fatal(err)
				}
			}
			cost[i] += processTime(b) - used
			cancel()
			if read := ended(); open > 0 && read == 0 {
				b.Fatal("the tails have shown nothing")
			}
		}
	}
	b.ReportMetric(100*(cost[1]-cost[0]).Seconds()/(rounds*turn).Seconds(), "%core-more")
	b.ReportMetric(100*cost[0].Seconds()/(rounds*turn).Seconds(), "%core-without")
	b.ReportMetric(0, "ns/op")
}

// follow opens so many live tails, of an administrator, until the context ends. What it returns waits for their end, and returns how many bytes they have shown.
func (w *world) follow(ctx context.Context, tails int) (wait func() int64) {
	read := make(chan int64, tails)
	visitor := w.as(state.Admin, "")
	for range tails {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+"/console/live/events", nil)
		if err != nil {
			w.t.Fatal(err)
		}
		answer, err := (&http.Client{Jar: visitor.client.Jar}).Do(request) //nolint:bodyclose // the goroutine below closes it
		if err != nil {
			w.t.Fatal(err)
		}
		if answer.StatusCode != http.StatusOK {
			w.t.Fatalf("a tail answers %s", answer.Status)
		}
		go func() {
			n, _ := io.Copy(io.Discard, answer.Body) // its error is the context's
			_ = answer.Body.Close()
			read <- n
		}()
	}
	return func() (sum int64) {
		for range tails {
			sum += <-read
		}
		return sum
	}
}

// processTime is the processor time that this process has used.
func processTime(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
