package testservers

import (
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// newDirectory creates a temporary directory for a server's data: for a test, in
// memory if there is room. On a disk, creating and dropping databases takes many
// times the processor time, though nothing is synced, and a sync by Redis waits for
// all that others write. Benchmarks measure the disk, too.
func newDirectory(kind string) (string, error) {
	parent, bench := "", flag.Lookup("test.bench")
	if bench != nil && bench.Value.String() == "" { // nil: not a test's process
		parent = memoryDir()
	}
	prefix := "gancho-" + kind + "-"
	if parent != "" {
		if err := sweep(filepath.Join(parent, prefix)); err != nil {
			return "", err
		}
		prefix += strconv.Itoa(os.Getpid()) + "-"
	}
	return os.MkdirTemp(parent, prefix)
}

// sweep removes the directories of tests that were killed: the number after the
// prefix is the process that made it.
func sweep(prefix string) error {
	left, err := filepath.Glob(prefix + "*")
	if err != nil {
		return err
	}
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(dir, prefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another user's: not ours to remove
		}
	}
	return nil
}
