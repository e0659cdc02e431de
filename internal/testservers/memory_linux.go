package testservers

import "syscall"

// memoryDir is a directory whose files are in memory; empty: there is none with
// room for some servers.
func memoryDir() string {
	const dir, room = "/dev/shm", 4 << 30
	var s syscall.Statfs_t
	if err := syscall.Statfs(dir, &s); err != nil || s.Bavail*uint64(s.Bsize) < room {
		return ""
	}
	return dir
}
