package bench_test

import (
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/url"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"
)

// tails is the time from commit to arrival at 1,000 events a second while fifty people watch the console's live page, beside that while
// nobody does, in turns: short ones, each pair in the other order than the one before, so that what else the machine does is the same for both.
func (l *lab) tails(ctx context.Context) (r row, err error) {
	const open, perSecond, seconds, rounds = 50, 1000, 4, 8
	receiver, to, err := l.receiver(0)
	if err != nil {
		return r, err
	}
	if err := l.freshRedis(ctx); err != nil {
		return r, err
	}
	address, err := freeAddress(ctx)
	if err != nil {
		return r, err
	}
	key, err := exec.CommandContext(ctx, l.gancho, "secrets", "generate-key").Output()
	if err != nil {
		return r, fmt.Errorf("make a key for the state: %w", err)
	}
	l.extra = fmt.Sprintf("state:\n  key: %s\nconsole:\n  listen: %s\n", strings.TrimSpace(string(key)), address)
	defer func() { l.extra = "" }()
	l.slots++
	slot := fmt.Sprintf("bench_%d", l.slots)
	bridge, err := l.bridge(slot, endpoint(to+"/hook", 16, "active"))
	if err != nil {
		return r, err
	}
	if _, err := bridge.waitLine("bridge is ready"); err != nil {
		return r, err
	}
	browser, err := l.signIn(ctx, "http://"+address+"/console/")
	if err != nil {
		return r, err
	}
	if _, err := l.live(ctx, to, perSecond, perSecond); err != nil { // it warms connections up and is not counted
		return r, err
	}
	var p50, p99, cost [2][]float64
	for round := range rounds {
		for turn := range 2 {
			i := (round + turn) % 2
			n := i * open
			watched, stop := context.WithCancel(ctx)
			read, wait, err := watch(watched, browser, "http://"+address+"/console/live/events", n)
			if err == nil {
				used, begun := cpu(bridge.cmd.Process.Pid), time.Now()
				var t tally
				t, err = l.live(ctx, to, perSecond*seconds, perSecond)
				p50[i], p99[i] = append(p50[i], ms(t.P50)), append(p99[i], ms(t.P99))
				cost[i] = append(cost[i], 100*(cpu(bridge.cmd.Process.Pid)-used).Seconds()/time.Since(begun).Seconds())
			}
			stop()
			wait()
			switch {
			case err != nil:
				return r, err
			case n > 0 && read.Load() == 0:
				return r, fmt.Errorf("%d tails have shown nothing", n)
			}
		}
	}
	for _, p := range []*process{bridge, receiver} {
		if err := p.stop(); err != nil {
			return r, err
		}
	}
	return row{
		what:   fmt.Sprintf("commit to arrival at %d events/s while %d live tails are open (pairwise)", perSecond, open),
		figure: fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; the bridge takes %.1f %% of a core", median(p50[1]), median(p99[1]), median(cost[1])),
		limit:  fmt.Sprintf("p50 %.2f ms, p99 %.2f ms; %.1f %%, without, in turns", median(p50[0]), median(p99[0]), median(cost[0])),
		ratio:  fmt.Sprintf("%.2f, %.2f", median(quotients(p50)), median(quotients(p99))), reach: "<= 1.1",
	}, l.dropSlot(ctx, slot)
}

// quotients are the second by the first of each pair.
func quotients(pairs [2][]float64) []float64 {
	out := make([]float64, len(pairs[0]))
	for i := range out {
		out[i] = pairs[1][i] / pairs[0][i]
	}
	return out
}

// freeAddress is an address of this machine that nothing listens on.
func freeAddress(ctx context.Context) (string, error) {
	var c net.ListenConfig
	listener, err := c.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	return listener.Addr().String(), listener.Close()
}

// signIn returns a client that is signed in to the console at an address.
func (l *lab) signIn(ctx context.Context, console string) (*http.Client, error) {
	token, err := exec.CommandContext(ctx, l.gancho, "tokens", "create", "bench", "--role", "viewer", "--config", filepath.Join(l.dir, "gancho.yaml")).Output()
	if err != nil {
		return nil, fmt.Errorf("gancho tokens create: %w", err)
	}
	jar, err := cookiejar.New(nil)
	if err != nil {
		return nil, err
	}
	text := token[strings.Index(string(token), "gancho_"):]
	form := url.Values{"token": {strings.Fields(string(text))[0]}}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, console+"sign-in", strings.NewReader(form.Encode()))
	if err != nil {
		return nil, err
	}
	request.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	request.Header.Set("Sec-Fetch-Site", "same-origin")
	client := &http.Client{Jar: jar}
	answer, err := client.Do(request)
	if err != nil {
		return nil, err
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusOK || strings.HasSuffix(answer.Request.URL.Path, "/sign-in") {
		return nil, fmt.Errorf("sign in: %s at %s", answer.Status, answer.Request.URL)
	}
	return client, nil
}

// watch opens n streams until the context ends. It counts the bytes that they show, and wait returns when they have ended.
func watch(ctx context.Context, client *http.Client, stream string, n int) (read *atomic.Int64, wait func(), err error) {
	read, ended := new(atomic.Int64), make(chan struct{}, n)
	opened := 0
	wait = func() {
		for range opened {
			<-ended
		}
	}
	for range n {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, stream, http.NoBody)
		if err != nil {
			return read, wait, err
		}
		answer, err := client.Do(request) //nolint:bodyclose // the goroutine below closes it
		if err != nil {
			return read, wait, err
		}
		if answer.StatusCode != http.StatusOK {
			_ = answer.Body.Close()
			return read, wait, fmt.Errorf("a tail answers %s", answer.Status)
		}
		opened++
		go func() {
			shown, _ := io.Copy(io.Discard, answer.Body) // its error is the context's
			_ = answer.Body.Close()
			read.Add(shown)
			ended <- struct{}{}
		}()
	}
	return read, wait, nil
}
