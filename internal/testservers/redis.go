package testservers

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// RedisOptions are what a test may change.
type RedisOptions struct {
	// Settings are given on the command line, and win over the defaults:
	// appendonly yes, appendfsync everysec, maxmemory-policy noeviction, no snapshots.
	Settings map[string]string
}

// Redis is a private Redis server that keeps its data in a temporary directory.
type Redis struct {
	dir, bin string
	port     int
	settings map[string]string
	env      []string // beside this process's own
	// conf is a configuration file, which the server may rewrite; empty: none.
	conf string
	// sentinel runs the server as a sentinel.
	sentinel bool
	process  *Process
}

// StartRedis starts a server and waits until it answers. Close removes it.
func StartRedis(o RedisOptions) (*Redis, error) {
	nodes, err := startNodes(1, o.Settings)
	return nodes[0], err
}

// newRedis returns a server with a directory, not started.
func newRedis(settings map[string]string) (*Redis, error) {
	r := &Redis{settings: map[string]string{
		"bind": "127.0.0.1", "save": "", "appendonly": "yes", "appendfsync": "everysec",
		"maxmemory-policy": "noeviction", "daemonize": "no",
	}}
	maps.Copy(r.settings, settings)
	name := cmp.Or(os.Getenv("GANCHO_TEST_REDIS_SERVER"), "redis-server")
	var err error
	if r.bin, err = exec.LookPath(name); err != nil {
		return nil, fmt.Errorf("%s is missing; install it: make deps", name)
	}
	if r.dir, err = newDirectory("redis"); err != nil {
		return nil, err
	}
	return r, nil
}

// first starts a server for the first time, on a port of its own, and removes it
// if that fails.
func (r *Redis) first() (err error) {
	if r.port, err = quietPort(); err == nil {
		err = r.Start()
	}
	if err != nil {
		err = fmt.Errorf("%w\n%s", err, r.Log())
		r.Close()
	}
	return err
}

// Start starts a server that was stopped or killed, on the same data and port,
// and waits until it has loaded them.
func (r *Redis) Start() error {
	var args []string
	if r.conf != "" {
		args = append(args, r.conf)
	}
	args = append(args, "--port", strconv.Itoa(r.port), "--dir", r.dir, "--logfile", filepath.Join(r.dir, "log"))
	for k, v := range r.settings {
		args = append(args, "--"+k, v)
	}
	if r.sentinel {
		args = append(args, "--sentinel")
	}
	cmd := exec.Command(r.bin, args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), r.env...)
	var err error
	if r.process, err = StartProcess(cmd, syscall.SIGKILL, nil); err != nil {
		return err
	}
	client := r.client()
	defer func() { _ = client.Close() }()
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		// Another test's server may have taken the port, and answer in our server's place.
		answering := client.InfoMap(ctx, "server")
		err := cmp.Or(answering.Err(), client.Ping(ctx).Err()) // which fails while it loads
		if err == nil {
			if answering.Item("Server", "process_id") == strconv.Itoa(cmd.Process.Pid) {
				return nil
			}
			err = errors.New("another server has its port")
		}
		if ctx.Err() != nil || !r.process.running() {
			return fmt.Errorf("wait for Redis: %w", err)
		}
		pause()
	}
}

// Set changes a setting for the next Start.
func (r *Redis) Set(name, value string) { r.settings[name] = value }

// Setenv sets a variable of its environment for the next Start.
func (r *Redis) Setenv(name, value string) { r.env = append(r.env, name+"="+value) }

// StartSupervised is Start as a supervisor does it: a server that has cut a torn
// append-only file, and ended because it is not the last one, is started again.
func (r *Redis) StartSupervised() error {
	// The second start takes back the transaction that the cut has left open.
	for range 2 {
		before := len(r.Log())
		// Not as its last word: a child of the server that was killed may still have written.
		if err := r.Start(); err == nil || !strings.Contains(r.Log()[before:], "the truncated file is not the last file") {
			return err
		}
	}
	return r.Start()
}

// Kill kills the server with SIGKILL. Start brings it back on its data.
func (r *Redis) Kill() { r.process.Signal(syscall.SIGKILL) }

// Stop shuts the server down: it saves what it has to save.
func (r *Redis) Stop() { r.process.Signal(syscall.SIGTERM) }

// Signal sends a signal (SIGSTOP, SIGCONT) without waiting for anything.
func (r *Redis) Signal(sig syscall.Signal) error { return r.process.cmd.Process.Signal(sig) }

// Addr is host:port.
func (r *Redis) Addr() string { return net127(r.port) }

// URL is the server as a redis:// URL.
func (r *Redis) URL() string { return "redis://" + r.Addr() + "/0" }

// Dir is the data directory; the AOF is in its appendonlydir.
func (r *Redis) Dir() string { return r.dir }

// PID is the server's.
func (r *Redis) PID() int { return r.process.cmd.Process.Pid }

// Log is what the server wrote.
func (r *Redis) Log() string { return logIn(r.dir) }

// Close kills the server and removes its data. It may be called twice.
func (r *Redis) Close() {
	r.process.Signal(syscall.SIGKILL)
	_ = os.RemoveAll(r.dir) // a temporary directory: nobody needs the error
}

func net127(port int) string { return "127.0.0.1:" + strconv.Itoa(port) }
