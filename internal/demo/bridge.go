package demo

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"gancho/internal/retry"
	"gancho/internal/testservers"
)

// errEnded is why what needs the bridge stops when the bridge does.
var errEnded = errors.New("the bridge ended before the demo did")

// Command returns an Options.Bridge that runs the command at path as a process
// of its own, which writes its log to stderr and creates the slot and the
// publication. The process outlives a Ctrl-C in the terminal, so that what is
// in flight arrives, and on Linux ends with this process in any case.
func Command(path string, stderr io.Writer) func(ctx context.Context, configFile string) error {
	return func(ctx context.Context, configFile string) error {
		cmd := exec.Command(path, "run", "--create", "--config", configFile)
		cmd.Stderr = stderr
		p, err := testservers.StartProcess(cmd, syscall.SIGKILL, nil)
		if err != nil {
			return err
		}
		select {
		case <-p.Done():
		case <-ctx.Done():
			p.Signal(syscall.SIGTERM)
		}
		return p.Err()
	}
}

// FindCommand returns the path of gancho: the program beside this one, which
// is where `make build` writes it, else the one that PATH has.
func FindCommand() (string, error) {
	self, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("find gancho: %w", err)
	}
	path := filepath.Join(filepath.Dir(self), "gancho")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	if found, err := exec.LookPath("gancho"); err == nil {
		return found, nil
	}
	return "", fmt.Errorf("find gancho: %s does not exist and PATH has none; build both programs: make build", path)
}

// bridge is one run of Options.Bridge.
type bridge struct {
	cancel context.CancelFunc
	ended  context.Context //nolint:containedctx // it is done when the bridge has returned
	err    error           // what it returned; to be read when ended is done
}

// startBridge runs the bridge until stop.
func startBridge(ctx context.Context, run func(context.Context, string) error, configFile string) *bridge {
	ended, end := context.WithCancelCause(context.WithoutCancel(ctx))
	ctx, cancel := context.WithCancel(ctx)
	b := &bridge{cancel: cancel, ended: ended}
	go func() {
		b.err = run(ctx, configFile)
		end(errEnded)
	}()
	return b
}

// whileRuns returns the context, done as well when the bridge has ended.
func (b *bridge) whileRuns(ctx context.Context) context.Context {
	ctx, cancel := context.WithCancelCause(ctx)
	context.AfterFunc(b.ended, func() { cancel(errEnded) })
	return ctx
}

// hasEnded reports whether the bridge has returned. What stop then returns is
// never nil, unless stop was called before.
func (b *bridge) hasEnded() bool { return b.ended.Err() != nil }

// stop ends the bridge, waits for it, and returns its error. A bridge that had
// ended before is an error in any case.
func (b *bridge) stop() error {
	early := b.hasEnded()
	b.cancel()
	<-b.ended.Done()
	switch {
	case b.err != nil:
		return fmt.Errorf("run the bridge: %w", b.err)
	case early:
		return errEnded
	}
	return nil
}

// bridgeView reads the bridge's own HTTP server.
type bridgeView struct {
	client *http.Client
	addr   string
}

// waitReady returns when /readyz answers 200; its error is why it never did.
func (v *bridgeView) waitReady(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, readyTimeout, fmt.Errorf("the bridge was not ready within %s", readyTimeout))
	defer cancel()
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
