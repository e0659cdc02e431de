package testservers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"syscall"
)

// Process is a child that ends with this process.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the child has been reaped
	err  error         // how it ended; to be read when done is closed
}

// StartProcess starts the command in a process group of its own. On Linux the
// kernel sends it deathSignal when this process ends, however it ends: the
// signal is tied to the thread that forks, so a thread is kept for the child's
// whole life. A nil credential is this process's own user.
func StartProcess(cmd *exec.Cmd, deathSignal syscall.Signal, credential *syscall.Credential) (*Process, error) {
	cmd.SysProcAttr = ChildAttr(deathSignal, credential)
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err != nil {
			return
		}
		p.err = cmd.Wait()
		close(p.done)
	}()
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", filepath.Base(cmd.Path), err)
	}
	return p, nil
}

// Done is closed when the child has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Err is what exec.Cmd.Wait returned. Call it when Done is closed.
func (p *Process) Err() error { return p.err }

func (p *Process) running() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// Signal sends the signal and waits until the child has ended. On a nil or
// ended process it does nothing.
func (p *Process) Signal(sig syscall.Signal) {
	if !p.running() {
		return
	}
	_ = p.cmd.Process.Signal(sig) // an error means that it has ended already
	<-p.done
}

// FreeAddress returns a host:port of the loopback interface that is free now.
func FreeAddress() (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return l.Addr().String(), l.Close()
}

// logIn is what the server of a directory has written.
func logIn(dir string) string {
	b, err := os.ReadFile(filepath.Join(dir, "log"))
	if err != nil {
		return ""
	}
	return string(b)
}

// postgresUser is whom PostgreSQL runs as: nil unless we are root, which
// PostgreSQL refuses to run as.
func postgresUser() (*syscall.Credential, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		return nil, fmt.Errorf("find user postgres (root cannot run PostgreSQL): %w; install it: apt-get install postgresql", err)
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	gid, gidErr := strconv.ParseUint(u.Gid, 10, 32)
	if err = errors.Join(err, gidErr); err != nil {
		return nil, fmt.Errorf("read uid and gid of user postgres: %w", err)
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}

// postgresBin returns the directory of PostgreSQL's server programs:
// $GANCHO_TEST_PG_BIN, else the newest that Debian's packages installed, else
// where PATH has initdb.
func postgresBin() (string, error) {
	if dir := os.Getenv("GANCHO_TEST_PG_BIN"); dir != "" {
		return dir, nil
	}
	found, err := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if err != nil {
		return "", err
	}
	if len(found) > 0 {
		return filepath.Dir(slices.MaxFunc(found, func(a, b string) int { return versionOf(a) - versionOf(b) })), nil
	}
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	return "", fmt.Errorf("PostgreSQL's server programs are missing; install them: apt-get install postgresql")
}

func versionOf(path string) int {
	v, err := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path))))
	if err != nil {
		return 0
	}
	return v
}
