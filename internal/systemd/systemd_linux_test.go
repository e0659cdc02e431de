package systemd_test

import (
	"bytes"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"gancho/internal/systemd"
)

func env(variables map[string]string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		value, ok := variables[name]
		return value, ok
	}
}

func TestNotifier(t *testing.T) {
	t.Parallel()
	address := filepath.Join(t.TempDir(), "notify")
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }()
	n := systemd.NewNotifier(env(map[string]string{"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "7"}), 7)
	defer n.Close()
	if n.Watchdog() != 30*time.Second {
		t.Errorf("watchdog of %s", n.Watchdog())
	}
	n.Ready()
	n.Reloading()
	n.Status("first\nREADY=1") // a message must not be another
	n.Alive()
	n.Stopping()
	var got []string
	buffer := make([]byte, 512)
	for range 5 {
		size, err := manager.Read(buffer)
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, string(buffer[:size]))
	}
	if diff := cmp.Diff([]string{"READY=1", "RELOADING=1", "STATUS=first", "WATCHDOG=1", "STOPPING=1\nSTATUS=stopping"}, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	_ = manager.Close()
	n.Alive() // nobody listens any more

	other := systemd.NewNotifier(env(map[string]string{"NOTIFY_SOCKET": address}), 7)
	other.Ready() // nobody listens at that address
	other.Close()
	for name, variables := range map[string]map[string]string{
		"another's watchdog": {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "8"},
		"no number":          {"WATCHDOG_USEC": "1s"},
		"no service manager": {},
	} {
		if n := systemd.NewNotifier(env(variables), 7); n.Watchdog() != 0 {
			t.Errorf("%s: watchdog of %s", name, n.Watchdog())
		}
	}
}

func TestJournal(t *testing.T) {
	t.Parallel()
	f, err := os.Create(filepath.Join(t.TempDir(), "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var stat syscall.Stat_t
	if err := syscall.Fstat(int(f.Fd()), &stat); err != nil {
		t.Fatal(err)
	}
	stream := fmt.Sprintf("%d:%d", stat.Dev, stat.Ino)
	j, is := systemd.NewJournal(f, env(map[string]string{"JOURNAL_STREAM": stream}))
	if !is {
		t.Errorf("%s is not the journal", stream)
	}
	log := zerolog.New(j)
	log.Debug().Msg("a")
	log.Info().Msg("b")
	log.Warn().Msg("c")
	log.Error().Msg("d")
	if _, err := fmt.Fprint(j, "gancho: two\nlines\n"); err != nil {
		t.Fatal(err)
	}
	got, err := os.ReadFile(f.Name())
	if err != nil {
		t.Fatal(err)
	}
	want := `<7>{"level":"debug","message":"a"}
<6>{"level":"info","message":"b"}
<4>{"level":"warn","message":"c"}
<3>{"level":"error","message":"d"}
<3>gancho: two
<3>lines
`
	if diff := cmp.Diff(want, string(got)); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if _, is := systemd.NewJournal(f, env(map[string]string{"JOURNAL_STREAM": "1:1"})); is {
		t.Error("a redirected stream is taken for the journal")
	}
	if _, is := systemd.NewJournal(&bytes.Buffer{}, env(map[string]string{"JOURNAL_STREAM": stream})); is {
		t.Error("a buffer is taken for the journal")
	}
}
