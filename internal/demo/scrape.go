package demo

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"time"

	"gancho/internal/retry"
)

// bridgeView reads the bridge's own HTTP server.
type bridgeView struct {
	client *http.Client
	addr   string
}

func newBridgeView(addr string) *bridgeView {
	return &bridgeView{client: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{}}, addr: addr}
}

func (v *bridgeView) close() { v.client.CloseIdleConnections() }

// waitReady returns when /readyz answers 200, or the context is done.
func (v *bridgeView) waitReady(ctx context.Context) error {
	for {
		if body, err := v.get(ctx, "/readyz"); err == nil {
			return body.Close()
		}
		// The bridge announces nowhere else that it is ready.
		if retry.Wait(ctx, 20*time.Millisecond) != nil {
			return context.Cause(ctx)
		}
	}
}

func (v *bridgeView) get(ctx context.Context, path string) (io.ReadCloser, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+v.addr+path, nil)
	if err != nil {
		return nil, err
	}
	res, err := v.client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		_ = res.Body.Close() // its status is the error
		return nil, fmt.Errorf("%s answers %s", path, res.Status)
	}
	return res.Body, nil
}

// counters are the bridge's own counts: its view of the same traffic.
type counters struct {
	changes int
	events  map[string]int
}

// scrape reads the counters from /metrics.
func (v *bridgeView) scrape(ctx context.Context) (counters, error) {
	body, err := v.get(ctx, "/metrics")
	if err != nil {
		return counters{}, fmt.Errorf("read the bridge's metrics: %w", err)
	}
	defer func() { _ = body.Close() }()
	c := counters{events: map[string]int{}}
	lines := bufio.NewScanner(body)
	for lines.Scan() {
		name, label, value, ok := sample(lines.Text())
		switch {
		case !ok:
		case name == "gancho_changes_total":
			c.changes += value
		case name == "gancho_events_total":
			c.events[label] += value
		}
	}
	if err := lines.Err(); err != nil {
		return counters{}, fmt.Errorf("read the bridge's metrics: %w", err)
	}
	return c, nil
}

// sample reads a line like gancho_events_total{event="cliente.novo"} 12 of
// Prometheus' text format, with the value of the label event.
func sample(line string) (name, event string, value int, ok bool) {
	i := strings.LastIndexByte(line, ' ')
	f, err := strconv.ParseFloat(line[i+1:], 64)
	if i < 0 || err != nil || strings.HasPrefix(line, "#") {
		return "", "", 0, false
	}
	name, labels, _ := strings.Cut(line[:i], "{")
	if _, rest, found := strings.Cut(labels, `event="`); found {
		event, _, _ = strings.Cut(rest, `"`)
	}
	return name, event, int(f), true
}
