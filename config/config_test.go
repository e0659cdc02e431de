package config_test

import (
	"encoding/json"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/config"
	"gancho/internal/strictyaml"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func env(name string) (string, bool) {
	v, ok := map[string]string{
		"GANCHO_SOURCE_DSN": "postgres://gancho:segredo@db/academia",
		"GANCHO_STATE_KEY":  "segredo",
		"CRM_SECRET":        "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSwMfKQ9r8GKYqrTwjU",
		"CRM_KEY":           "segredo",
	}[name]
	return v, ok
}

// Every file of testdata is loaded: a wrong one gives exactly the messages of
// its golden file, a right one the configuration there, with secrets hidden.
func TestLoad(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 12 {
		t.Fatalf("found %d files, %v", len(files), err)
	}
	for _, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			t.Parallel()
			c, err := config.Load(file, env)
			var got string
			if err != nil {
				if strings.Contains(file, "valid_") {
					t.Fatal(err)
				}
				var all strictyaml.Errors
				if !errors.As(err, &all) {
					t.Fatalf("the error is a %T", err)
				}
				got = err.Error() + "\n"
			} else {
				out, err := json.MarshalIndent(c, "", "  ")
				if err != nil {
					t.Fatal(err)
				}
				got = string(out) + "\n" + c.Source.Location.String() + "\n"
			}
			if strings.Contains(got, "segredo") {
				t.Error("a secret is shown")
			}
			golden := strings.TrimSuffix(file, ".yaml") + ".golden"
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("-want +got; go test ./config -update rewrites it:\n%s", diff)
			}
		})
	}
}

func TestLoadKeepsSecrets(t *testing.T) {
	t.Parallel()
	c, err := config.Load("testdata/valid_full.yaml", env)
	if err != nil {
		t.Fatal(err)
	}
	if got, want := c.Queue.Redis.Reveal(), "rediss://:segredo@redis:6380/1"; got != want {
		t.Errorf("redis is %s, want %s", got, want)
	}
	if got := c.Endpoints[1].Headers[0].Value.Reveal(); got != "segredo" {
		t.Errorf("the header is %q", got)
	}
	if got, want := c.Endpoints[0].Retry, []time.Duration{time.Second, time.Minute, 24 * time.Hour}; !cmp.Equal(got, want) {
		t.Errorf("retries are %v, want %v", got, want)
	}
	if got, want := c.Endpoints[0].Tenants, []string{"1", "002"}; !cmp.Equal(got, want) {
		t.Errorf("tenants are %v, want %v", got, want)
	}
}

func TestLoadMissingFile(t *testing.T) {
	t.Parallel()
	_, err := config.Load("testdata/none.yaml", env)
	if !errors.Is(err, os.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func FuzzLoad(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range files {
		src, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(src)
	}
	f.Fuzz(func(t *testing.T, src []byte) {
		c, err := config.Parse("testdata/fuzz.yaml", src, env)
		var all strictyaml.Errors
		switch {
		case err == nil && (c.Source.DSN == "" && c.Sources == nil || c.Queue.Redis == "" && c.Queue.Sentinel == nil && c.Queue.Cluster == nil || len(c.Rules) == 0 || c.Source.Location == nil):
			t.Errorf("an incomplete configuration was accepted: %v", c)
		case err != nil && (!errors.As(err, &all) || len(all) == 0):
			t.Errorf("an error without its place: %v", err)
		}
	})
}
