package testservers

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

// Unreadable returns the path of a file that this user may not read. Root reads all that has a mode, but not what the kernel lets be
// written only.
func Unreadable(t testing.TB) string {
	t.Helper()
	name := "/proc/sys/vm/compact_memory"
	if os.Geteuid() != 0 {
		name = filepath.Join(t.TempDir(), "unreadable")
		if err := os.WriteFile(name, nil, 0o200); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := os.ReadFile(name); !errors.Is(err, fs.ErrPermission) {
		t.Fatalf("%s: %v", name, err)
	}
	return name
}
