package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"
)

// tally is what a receiver counted since the last reset.
type tally struct {
	Count       int
	Read        int // events of rows that were there already, or of timers, which nothing else counts
	First, Last time.Time
	// P50, P99 and Longest are from the commit, as the event states it, to the arrival.
	P50, P99, Longest time.Duration
	// Gap is the longest time between two arrivals.
	Gap time.Duration
}

// counting is the receiver's state.
type counting struct {
	delay time.Duration
	mu    sync.Mutex
	tally tally
	waits []time.Duration
}

// beReceiver serves on a free port, which it prints, until the context ends.
func beReceiver(ctx context.Context, delay string) error {
	d, err := time.ParseDuration(delay)
	if err != nil {
		return err
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	c := &counting{delay: d}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /hook", c.take)
	mux.HandleFunc("POST /reset", func(http.ResponseWriter, *http.Request) {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.tally, c.waits = tally{}, c.waits[:0]
	})
	mux.HandleFunc("GET /count", func(w http.ResponseWriter, _ *http.Request) {
		c.mu.Lock()
		t := c.tally
		c.mu.Unlock()
		_ = json.NewEncoder(w).Encode(t)
	})
	mux.HandleFunc("GET /tally", func(w http.ResponseWriter, _ *http.Request) {
		_ = json.NewEncoder(w).Encode(c.sum()) // the client has disconnected
	})
	server := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	defer context.AfterFunc(ctx, func() { _ = server.Close() })()
	if _, err := fmt.Fprintln(os.Stdout, l.Addr()); err != nil {
		return err
	}
	if err := server.Serve(l); ctx.Err() == nil {
		return err
	}
	return nil
}

var timestamp, readOp, timerOp = []byte(`"timestamp":"`), []byte(`"op":"read"`), []byte(`"op":"timer"`)

func (c *counting) take(w http.ResponseWriter, r *http.Request) {
	arrived := time.Now()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		return // the sender was stopped
	}
	if bytes.Contains(body, readOp) || bytes.Contains(body, timerOp) {
		c.mu.Lock()
		c.tally.Read++
		c.mu.Unlock()
		w.WriteHeader(http.StatusNoContent)
		return
	}
	var wait time.Duration
	if i := bytes.Index(body, timestamp); i >= 0 {
		text := body[i+len(timestamp):]
		if end := bytes.IndexByte(text, '"'); end >= 0 {
			if t, err := time.Parse(time.RFC3339Nano, string(text[:end])); err == nil {
				wait = arrived.Sub(t)
			}
		}
	}
	c.mu.Lock()
	if c.tally.Count == 0 {
		c.tally.First = arrived
	} else {
		c.tally.Gap = max(c.tally.Gap, arrived.Sub(c.tally.Last))
	}
	c.tally.Count++
	c.tally.Last = arrived
	c.waits = append(c.waits, wait)
	c.mu.Unlock()
	if c.delay > 0 {
		<-time.After(c.delay)
	}
	w.WriteHeader(http.StatusNoContent)
}

func (c *counting) sum() tally {
	c.mu.Lock()
	defer c.mu.Unlock()
	t := c.tally
	if n := len(c.waits); n > 0 {
		sorted := slices.Sorted(slices.Values(c.waits))
		t.P50, t.P99, t.Longest = sorted[n/2], sorted[n*99/100], sorted[n-1]
	}
	return t
}
