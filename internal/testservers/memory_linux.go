package testservers

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// memoryDir creates a directory whose files are in memory; empty: there is no
// room for some clusters. Creating and dropping databases costs many times the
// processor time on a disk's file system, even one that is never synced.
func memoryDir() (string, error) {
	const parent, prefix, room = "/dev/shm", "gancho-pg-", 4 << 30
	var s syscall.Statfs_t
	if err := syscall.Statfs(parent, &s); err != nil || s.Bavail*uint64(s.Bsize) < room {
		return "", nil
	}
	// Tests that were killed left theirs.
	left, err := filepath.Glob(filepath.Join(parent, prefix+"*"))
	if err != nil {
		return "", err
	}
	for _, dir := range left {
		owner, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		if pid, err := strconv.Atoi(owner); err == nil && errors.Is(syscall.Kill(pid, 0), syscall.ESRCH) {
			_ = os.RemoveAll(dir) // another user's: not ours to remove
		}
	}
	return os.MkdirTemp(parent, prefix+strconv.Itoa(os.Getpid())+"-")
}
