package main_test

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// TestService runs the bridge as systemd does: with a socket for its notices, a watchdog, a
// credential and the journal, and reloads it.
func TestService(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, driftTable)
	r := newReceiver(t, nil)
	w.rules = driftRules
	w.endpoint("a", r.url())
	credentials, address := t.TempDir(), filepath.Join(t.TempDir(), "notify")
	if err := os.WriteFile(filepath.Join(credentials, "GANCHO_TEST_LEVEL"), []byte("info\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	w.extra = "log: {level: \"${GANCHO_TEST_LEVEL}\"}"
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }()
	if err := manager.SetReadDeadline(time.Now().Add(2 * time.Minute)); err != nil {
		t.Fatal(err)
	}
	until := func(want string) {
		t.Helper()
		buffer := make([]byte, 1024)
		for got := ""; !strings.Contains(got, want); {
			n, err := manager.Read(buffer)
			if err != nil {
				t.Fatalf("wait for %s: %v", want, err)
			}
			got = string(buffer[:n])
		}
	}
	w.env = []string{"NOTIFY_SOCKET=" + address, "WATCHDOG_USEC=100000", "CREDENTIALS_DIRECTORY=" + credentials}
	b := w.start("run", "--create", "--config", w.write())
	until("READY=1")
	until("STATUS=ready")
	until("WATCHDOG=1")
	health := func(code int, text string, args ...string) {
		t.Helper()
		args = append([]string{"health", "--url", "http://" + b.listening()}, args...)
		if got, stdout, stderr := command(t, args...); got != code || !strings.Contains(stdout+stderr, text) {
			t.Errorf("gancho %v: exit %d\n%s%s", args, got, stdout, stderr)
		}
	}
	health(0, "ready")
	health(0, "ok", "--live")

	good := w.rules
	w.rules = strings.Replace(driftRules, "nome: nome", "nome: nomme", 1)
	reload := func() {
		t.Helper()
		w.write()
		if err := b.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		until("RELOADING=1")
		until("READY=1")
	}
	reload()
	until("STATUS=ready; the last reload was refused")
	w.rules = good
	reload()
	until("STATUS=ready")

	w.redis.Kill()
	until("redis")
	health(3, "redis")
	health(0, "ok", "--live")
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	until("STOPPING=1")
	b.wait(0)
	health(1, "is gancho run running here?")
}

// TestCredentials: what cannot be read is not taken for what is not set.
func TestCredentials(t *testing.T) {
	t.Parallel()
	w := &world{t: t, dir: t.TempDir()}
	credentials := t.TempDir()
	w.env = []string{"CREDENTIALS_DIRECTORY=" + credentials}
	if err := os.Symlink("nowhere", filepath.Join(credentials, "GANCHO_SECRET")); err != nil {
		t.Fatal(err)
	}
	b := w.start("version")
	b.wait(2)
	if !strings.Contains(b.text(), "make them readable for this user") {
		t.Error(b.text())
	}
	w.env = []string{"CREDENTIALS_DIRECTORY=" + filepath.Join(credentials, "none")}
	w.start("version").wait(0)
}
