//go:build unix

package bridge

import (
	"math"
	"syscall"
)

// descriptors is how many the process may have open; 0: unknown.
func descriptors() int {
	var limit syscall.Rlimit
	if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) != nil || limit.Cur > math.MaxInt32 {
		return 0
	}
	return int(limit.Cur) // it was compared above
}
