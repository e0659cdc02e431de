package main_test

import (
	"path/filepath"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

// TestCheckWarnsOfWeakKeys: a state.key that nobody has drawn, and a secret that two
// receivers know, are told and stop nothing; neither is repeated.
func TestCheckWarnsOfWeakKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	zeros := strings.Repeat("A", 43) + "="
	w.extra = "state: {key: 'k1:" + zeros + "'}"
	w.endpoint("crm", "http://127.0.0.1:9")
	w.endpoint("erp", "http://127.0.0.1:9")
	code, _, stderr := command(t, "check", "--offline", "--config", filepath.Clean(w.write()))
	if code != 0 || !strings.Contains(stderr, `the key "k1" of state.key`) || !strings.Contains(stderr, "crm, erp have a signing secret in common") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if strings.Contains(stderr, zeros) || strings.Contains(stderr, secret) {
		t.Errorf("a key is repeated: %s", stderr)
	}
}
