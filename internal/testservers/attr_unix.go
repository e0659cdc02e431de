//go:build unix && !linux

package testservers

import "syscall"

// ChildAttr puts a child into a process group of its own. Only Linux kills it
// with its parent: elsewhere a child outlives a parent that is killed.
func ChildAttr(_ syscall.Signal, credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Credential: credential, Setpgid: true}
}
