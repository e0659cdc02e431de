package demo_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/config"
	"gancho/internal/demo"
)

// The demo leaves nothing behind, whatever the bridge does. Not parallel: it
// checks what is left in the directory for temporary files.
func TestRunCleansUpWhenTheBridgeFails(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("TMPDIR", dir)
	if err := os.Chmod(dir, 0o755); err != nil { // PostgreSQL runs as another user
		t.Fatal(err)
	}
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	refused := errors.New("refused")
	var listen string
	var out bytes.Buffer
	err := demo.Run(context.Background(), demo.Options{
		Out: &out, For: time.Second,
		Bridge: func(_ context.Context, file string) error {
			c, err := config.Load(file, os.LookupEnv)
			if err != nil {
				t.Errorf("the demo's configuration is refused:\n%v", err)
				return refused
			}
			if len(c.Rules) < 6 || len(c.Endpoints) != 2 {
				t.Errorf("%d rule files, %d endpoints", len(c.Rules), len(c.Endpoints))
			}
			listen = c.Endpoints[0].URL
			return refused
		},
	})
	if !errors.Is(err, refused) {
		t.Errorf("Run returns %v, want the bridge's error", err)
	}
	if strings.Contains(err.Error(), "\n") {
		t.Errorf("Run returns more than the bridge's error:\n%v", err)
	}
	left, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(left) > 0 {
		t.Errorf("left behind: %v", left)
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	if res, err := client.Get(listen); err == nil {
		_ = res.Body.Close()
		t.Errorf("%s is still answered", listen)
	}
}

func TestRunEndsWhenInterruptedBeforeTheTraffic(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	err := demo.Run(ctx, demo.Options{
		Out: io.Discard,
		Bridge: func(bridge context.Context, _ string) error {
			cancel()
			<-bridge.Done()
			return nil
		},
	})
	if err != nil {
		t.Errorf("Run returns %v, want nil: an interrupted demo is no failure", err)
	}
}

// A bridge that is ready and delivers nothing is found out.
func TestRunFailsWhenWebhooksAreMissing(t *testing.T) {
	t.Parallel()
	err := demo.Run(context.Background(), demo.Options{
		Out: io.Discard, For: time.Second, Seed: 1, Patience: 50 * time.Millisecond,
		Bridge: func(ctx context.Context, file string) error {
			c, err := config.Load(file, os.LookupEnv)
			if err != nil {
				return err
			}
			l, err := net.Listen("tcp", c.HTTP.Listen)
			if err != nil {
				return err
			}
			server := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path == "/metrics" {
					_, _ = io.WriteString(w, "# HELP gancho_events_total Events.\ngancho_events_total{event=\"cliente.inventado\"} 3\n")
				}
			})}
			context.AfterFunc(ctx, func() { _ = server.Close() })
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	})
	if err == nil {
		t.Fatal("Run returns nil")
	}
	for _, want := range []string{
		"crm: 0 of ",
		"the bridge matched 3 events cliente.inventado, want 0",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("Run returns %v\nwithout %q", err, want)
		}
	}
}

func TestCountsByEvent(t *testing.T) {
	t.Parallel()
	c := demo.Counts{{"a", 1}: 2, {"a", 2}: 3, {"b", 1}: 1}
	c.Add(demo.Counts{{"b", 1}: 4})
	if diff := cmp.Diff(map[string]int{"a": 5, "b": 5}, c.Events()); diff != "" {
		t.Error(diff)
	}
	if c.Total() != 10 {
		t.Errorf("total %d, want 10", c.Total())
	}
}
