package demo_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/config"
	"gancho/internal/demo"
	"gancho/internal/presets"
	"gancho/mapping"
)

// A bridge that is ready and delivers nothing is found out, event by event.
func TestTourFailsWhenWebhooksAreMissing(t *testing.T) {
	t.Parallel()
	total := len(presetEvents(t))
	var out bytes.Buffer
	err := demo.Tour(context.Background(), demo.Options{
		Out: &out, Patience: time.Millisecond,
		Bridge: func(ctx context.Context, file string) error {
			c, err := config.Load(file, os.LookupEnv)
			if err != nil {
				return err
			}
			if len(c.Rules) != 3 || len(c.Endpoints) != 1 || c.Endpoints[0].Order.String() != "endpoint" {
				t.Errorf("rules %v, endpoints %v", c.Rules, c.Endpoints)
			}
			l, err := net.Listen("tcp", c.HTTP.Listen)
			if err != nil {
				return err
			}
			server := &http.Server{Handler: http.HandlerFunc(func(http.ResponseWriter, *http.Request) {})}
			context.AfterFunc(ctx, func() { _ = server.Close() })
			if err := server.Serve(l); !errors.Is(err, http.ErrServerClosed) {
				return err
			}
			return nil
		},
	})
	if err == nil || !strings.HasPrefix(err.Error(), fmt.Sprintf("%[1]d of %[1]d events did not arrive: notificarCadastro, notificarContrato, ", total)) {
		t.Errorf("Tour returns %v", err)
	}
	if n := strings.Count(out.String(), "nothing arrived"); n != total {
		t.Errorf("%d of %d are shown as missing:\n%s", n, total, out.String())
	}
}

// The bridge's own error is the one to show.
func TestTourReturnsTheBridgesError(t *testing.T) {
	t.Parallel()
	refused := errors.New("refused")
	err := demo.Tour(context.Background(), demo.Options{Out: io.Discard, Bridge: func(context.Context, string) error { return refused }})
	if !errors.Is(err, refused) || strings.Contains(err.Error(), "\n") {
		t.Errorf("Tour returns %v, want the bridge's error", err)
	}
}

// presetEvents are the names of the events of all presets' rules, sorted.
func presetEvents(t *testing.T) []string {
	t.Helper()
	dir := t.TempDir()
	var paths []string
	for _, preset := range presets.Names() {
		files, err := presets.Files(preset)
		if err != nil {
			t.Fatal(err)
		}
		for name, text := range files {
			path := filepath.Join(dir, name)
			if err := os.WriteFile(path, text, 0o600); err != nil {
				t.Fatal(err)
			}
			paths = append(paths, path)
		}
	}
	rules, err := mapping.Parse(mapping.Options{Files: paths})
	if err != nil {
		t.Fatal(err)
	}
	var events []string
	for _, e := range rules.EventTypes() {
		events = append(events, e.Name)
	}
	slices.Sort(events)
	return events
}

// TestTourPlaysEveryEventOfThePresets: a new event needs a scene.
func TestTourPlaysEveryEventOfThePresets(t *testing.T) {
	t.Parallel()
	scenes, err := demo.Scenes()
	if err != nil {
		t.Fatal(err)
	}
	var played []string
	for _, s := range scenes {
		for _, step := range s.Steps {
			if step.Kind == demo.When {
				played = append(played, step.Event)
			}
		}
	}
	slices.Sort(played)
	if diff := cmp.Diff(presetEvents(t), slices.Compact(played)); diff != "" {
		t.Errorf("events (-of the presets +of the scenes' steps):\n%s", diff)
	}
}

// Each scene has all that the tests and the tour rely on.
func TestScenes(t *testing.T) {
	t.Parallel()
	scenes, err := demo.Scenes()
	if err != nil {
		t.Fatal(err)
	}
	vendors := map[string]int{}
	for i, s := range scenes {
		vendors[s.Vendor]++
		kinds := map[demo.StepKind]int{}
		for _, step := range s.Steps {
			kinds[step.Kind]++
			if len(step.SQL) == 0 {
				t.Errorf("scene %d: a step without SQL", s.Number)
			}
			if step.Kind == demo.Silent && step.Why == "" {
				t.Errorf("scene %d: a near miss that does not say why", s.Number)
			}
		}
		if s.Number != i+1 || s.Title == "" || len(s.Events) == 0 || kinds[demo.When] == 0 || kinds[demo.Silent] == 0 {
			t.Errorf("scene %d is the %dth: %q, events %v, steps %v", s.Number, i+1, s.Title, s.Events, kinds)
		}
	}
	if vendors["Pacto"] != 5 || vendors["Superlógica"] != 26 || vendors["iSET"] != 9 {
		t.Errorf("scenes by vendor: %v", vendors)
	}
}
