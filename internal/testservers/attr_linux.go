package testservers

import "syscall"

// ChildAttr puts a child into a process group of its own, so that a terminal's
// Ctrl-C reaches it only through its parent, and has the kernel send it
// deathSignal when the thread that started it ends.
func ChildAttr(deathSignal syscall.Signal, credential *syscall.Credential) *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: deathSignal, Credential: credential, Setpgid: true}
}
