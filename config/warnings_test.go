package config_test

import (
	"strings"
	"testing"

	"gancho/config"
)

// What others on the network could read is a warning; what only this machine reaches is none.
func TestWarnings(t *testing.T) {
	t.Parallel()
	const state, token = `"state.key"`, "a token for the metrics"
	for _, c := range []struct {
		listen, metrics, token string
		state                  bool
		want                   []string
	}{
		{"127.0.0.1:8620", "", "", true, nil},
		{"localhost:8620", "", "", true, nil},
		{"[::1]:8620", "127.0.0.2:9620", "", true, nil},
		{"0.0.0.0:8620", "", "", true, []string{"http.listen is 0.0.0.0:8620", "the API speaks plain HTTP", "http.listen", "reads the metrics"}},
		{":8620", "", token, true, []string{"the API speaks plain HTTP"}},
		{"10.0.0.5:8620", "", "", false, []string{"reads the metrics"}},
		{"gancho.example.com:8620", "127.0.0.1:9620", "", true, []string{"the API speaks plain HTTP"}},
		{"127.0.0.1:8620", "[::]:9620", "", true, []string{"http.metrics is [::]:9620"}},
		{"127.0.0.1:8620", "[::]:9620", token, true, nil},
	} {
		cfg := config.Config{HTTP: config.HTTP{Listen: c.listen, Metrics: c.metrics, MetricsToken: config.Secret(c.token)}}
		if c.state {
			cfg.State.Key = state
		}
		got := strings.Join(cfg.Warnings(), "\n")
		for _, part := range c.want {
			if !strings.Contains(got, part) {
				t.Errorf("%+v: the warnings lack %q:\n%s", c, part, got)
			}
		}
		if len(c.want) == 0 && got != "" {
			t.Errorf("%+v: %s", c, got)
		}
	}
}
