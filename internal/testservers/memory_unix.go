//go:build unix && !linux

package testservers

// memoryDir returns that there is no directory in memory.
func memoryDir() (string, error) { return "", nil }
