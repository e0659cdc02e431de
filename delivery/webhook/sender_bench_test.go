package webhook_test

import (
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
)

// BenchmarkSend compares Send with plain keep-alive POSTs of the same body by
// net/http's client, over the same number of connections to the same receiver.
// The two take turns within one run, so that a busy machine costs both alike.
func BenchmarkSend(b *testing.B) {
	const concurrency = 16
	url, body := benchReceiver(b)
	ep := local(url)
	ep.Secrets = secrets(b, newerSecret)
	sender := newSender(b, webhook.Options{})
	m := message()
	m.Data = bytes.Repeat([]byte("1"), 500)
	if o := sender.Send(b.Context(), ep, m); o.Err != nil {
		b.Fatal(o.Err)
	}
	same := bytes.Clone(<-body)
	transport := &http.Transport{MaxIdleConnsPerHost: concurrency}
	client := &http.Client{Transport: transport, Timeout: 20 * time.Second}
	b.Cleanup(transport.CloseIdleConnections)

	var sent, posted time.Duration
	const share = 2000 // requests per turn
	b.ReportAllocs()
	n := 0
	for b.Loop() {
		posted += inParallel(concurrency, share, func() {
			answer, err := client.Post(url, "application/json", bytes.NewReader(same))
			if err != nil {
				b.Error(err)
				return
			}
			_, _ = io.Copy(io.Discard, answer.Body)
			_ = answer.Body.Close()
		})
		sent += inParallel(concurrency, share, func() {
			if o := sender.Send(b.Context(), ep, m); o.Err != nil {
				b.Error(o.Err)
			}
		})
		n += share
	}
	b.ReportMetric(float64(n)/sent.Seconds(), "sends/s")
	b.ReportMetric(float64(n)/posted.Seconds(), "posts/s")
	b.ReportMetric(posted.Seconds()/sent.Seconds(), "ratio")
}

// BenchmarkAttempt is Send alone, for its allocations and profile.
func BenchmarkAttempt(b *testing.B) {
	url, _ := benchReceiver(b)
	ep := local(url)
	ep.Secrets = secrets(b, newerSecret)
	sender, m := newSender(b, webhook.Options{}), message()
	b.ReportAllocs()
	for b.Loop() {
		if o := sender.Send(b.Context(), ep, m); o.Err != nil {
			b.Fatal(o.Err)
		}
	}
}

func inParallel(workers, n int, f func()) time.Duration {
	start := time.Now()
	var group sync.WaitGroup
	for range workers {
		group.Go(func() {
			for range n / workers {
				f()
			}
		})
	}
	group.Wait()
	return time.Since(start)
}

// benchReceiver answers 204 and hands out the first body.
func benchReceiver(b *testing.B) (url string, first <-chan []byte) {
	b.Helper()
	body := make(chan []byte, 1)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	server := &http.Server{ErrorLog: log.New(io.Discard, "", 0), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		read, _ := io.ReadAll(r.Body)
		select {
		case body <- read:
		default:
		}
		w.WriteHeader(http.StatusNoContent)
	})}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = server.Serve(listener) // ends with Close
	}()
	b.Cleanup(func() {
		_ = server.Close()
		<-ended
	})
	return "http://" + listener.Addr().String(), body
}

// BenchmarkBody is the writing of one body in each format, into memory that
// is there.
func BenchmarkBody(b *testing.B) {
	for _, c := range []struct {
		name string
		ep   endpoint.Endpoint
	}{
		{"standard", endpoint.Endpoint{}},
		{"bare", endpoint.Endpoint{Format: endpoint.FormatBare}},
		{"strings", endpoint.Endpoint{StringNumbers: true}},
		{"cloudevents", endpoint.Endpoint{Format: endpoint.FormatCloudEvents}},
		{"form", endpoint.Endpoint{Format: endpoint.FormatForm}},
	} {
		b.Run(c.name, func(b *testing.B) {
			write, m, dst := webhook.BodyWriter(&c.ep), fullMessage(), make([]byte, 0, 4096)
			b.ReportAllocs()
			for b.Loop() {
				dst = write(dst[:0], m)
			}
		})
	}
}
