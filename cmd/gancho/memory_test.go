package main_test

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"gancho/internal/testservers"
)

// maxRSS is how much memory the bridge may ever have used, in KiB.
const maxRSS = 150 << 10

// TestMemoryStaysFlat puts transactions of 50 thousand and of 500 thousand
// rows, and a row of 5 MB, through the command as users build it: the race
// detector would multiply what it measures.
func TestMemoryStaysFlat(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	gancho, server := buildCommand(t), ownPostgres(t, nil)
	var peaks []string
	for _, rows := range []int{50_000, 500_000} {
		peak := hugeTransaction(t, server, gancho, rows)
		peaks = append(peaks, fmt.Sprintf("%d rows: %d KiB", rows, peak))
		if peak > maxRSS {
			t.Errorf("peak RSS at %d rows is %d KiB, more than %d", rows, peak, maxRSS)
		}
	}
	t.Logf("peak RSS: %s", strings.Join(peaks, ", "))
}

// builtCommand is built as by make build, of what that may have compiled.
var builtCommand = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "gancho-bin-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "gancho")
	build := exec.Command("go", "build", "-trimpath", "-ldflags", "-s -w", "-o", path, "gancho/cmd/gancho")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := build.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build gancho: %w\n%s", err, out)
	}
	return path, nil
})

func buildCommand(t testing.TB) string {
	t.Helper()
	path, err := builtCommand()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

func hugeTransaction(t *testing.T, server *testservers.Postgres, gancho string, rows int) (peak int) {
	w := newWorldOn(t, server, "", testservers.RedisOptions{Settings: map[string]string{"appendfsync": "everysec"}}, loadTable)
	r := newReceiver(t, nil)
	// All rows go to a queue that waits, a hundredth of them all the way.
	w.rules = loadRules + `
  - event: evento.centesimo
    table: eventos
    on: insert
    when: id % 100 = 0
    key: cliente_id
    data: {id: id, cliente_id: cliente_id, seq: seq, texto: texto}
`
	w.endpoint("waiting", r.url(), "events: [evento.criado]", "state: paused")
	w.endpoint("active", r.url(), "events: [evento.centesimo]")
	b := w.startCommand(gancho, "run", "--create", "--config", w.write())
	b.waitLog("bridge is ready")
	w.exec("insert into eventos (cliente_id, seq) select g % 1000, g from generate_series(1, $1::int) g", rows)
	w.exec("insert into eventos (id, cliente_id, seq, texto) values ($1, 1, 1, repeat('gancho é ', 500000))", 100*rows)
	all := r.waitCount(rows/100 + 1)
	if n := len(all[len(all)-1].body); n < 5_000_000 {
		t.Errorf("the last webhook has %d bytes, want the row of 5 MB", n)
	}
	n, err := w.redisClient().XLen(context.Background(), "gancho:{waiting}:q").Result()
	if err != nil || n != int64(rows)+1 {
		t.Errorf("%d events (%v) are queued, want %d", n, err, rows+1)
	}
	peak = peakRSS(t, b.cmd.Process.Pid)
	b.stop()
	return peak
}

// peakRSS is the process's VmHWM in KiB.
func peakRSS(t testing.TB, pid int) (kib int) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmHWM:") {
			if _, err := fmt.Sscanf(line, "VmHWM: %d kB", &kib); err != nil {
				t.Fatal(err)
			}
		}
	}
	return kib
}
