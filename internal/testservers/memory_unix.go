//go:build unix && !linux

package testservers

// memoryDir is a directory whose files are in memory: there is none.
func memoryDir() string { return "" }
