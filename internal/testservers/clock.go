package testservers

import (
	"cmp"
	_ "embed"
	"encoding/binary"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// Clock is the wall clock of servers, which a test sets. They are started with a library that answers when they ask for the time; what
// they wait for goes by the machine's monotonic clock. libfaketime does not do: Redis's allocator asks for the time before that is ready.
type Clock struct{ file, library string }

//go:embed testdata/clock.c
var clockSource []byte

// NewClock returns one that shows the machine's time, until the test ends. It needs Linux and a C compiler.
func NewClock(t testing.TB) *Clock {
	t.Helper()
	// Not in shared memory, of which programs may not be loaded, nor in t.TempDir, which other users may not enter.
	dir, err := os.MkdirTemp("", "gancho-clock-") //nolint:usetesting // see above
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	c := &Clock{file: filepath.Join(dir, "ahead"), library: filepath.Join(dir, "clock.so")}
	source := filepath.Join(dir, "clock.c")
	if err = os.Chmod(dir, 0o755); err == nil {
		err = os.WriteFile(source, clockSource, 0o600)
	}
	if err == nil {
		err = c.Set(0)
	}
	if err != nil {
		t.Fatal(err)
	}
	cc := exec.Command(cmp.Or(os.Getenv("CC"), "cc"), "-shared", "-fPIC", "-O2", "-o", c.library, source)
	if out, err := cc.CombinedOutput(); err != nil {
		t.Fatalf("compile the clock of servers: %v\n%s", err, out)
	}
	return c
}

// Set has the clock be ahead of the machine's, or behind it, from now on.
func (c *Clock) Set(ahead time.Duration) error {
	file, err := os.OpenFile(c.file, os.O_WRONLY|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	if _, err = file.WriteAt(binary.NativeEndian.AppendUint64(nil, uint64(ahead)), 0); err != nil {
		_ = file.Close()
		return fmt.Errorf("set the clock of servers: %w", err)
	}
	return file.Close()
}

// Environment is that of the servers.
func (c *Clock) Environment() map[string]string {
	return map[string]string{"LD_PRELOAD": c.library, "GANCHO_TEST_CLOCK": c.file}
}
