package bridge_test

import (
	"slices"
	"testing"

	"gancho/internal/bridge"
	"gancho/internal/monitoring"
)

// TestWatched: what monitoring watches is what the bridge measures, series that seldom come included.
func TestWatched(t *testing.T) {
	t.Parallel()
	described := bridge.Described()
	if len(described) < 50 {
		t.Fatalf("%d metrics are described", len(described))
	}
	has := func(metric string, labels ...string) {
		got, ok := described[metric]
		if !ok {
			t.Errorf("the bridge has no metric %s", metric)
		}
		for _, l := range labels {
			if !slices.Contains(got, l) {
				t.Errorf("%s has no label %s but %q", metric, l, got)
			}
		}
	}
	for _, w := range monitoring.List() {
		if w.Metric == "up" {
			continue // Prometheus's
		}
		has(w.Metric, w.Labels()...)
		for _, a := range w.Alerts {
			for _, other := range []string{a.Condition.Share, a.Condition.Without} {
				if other != "" {
					has(other)
				}
			}
		}
	}
	has("gancho_build_info")
	has("process_start_time_seconds")
}
