package queue_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/endpoint"
	"gancho/internal/testservers"
)

// notedDisk is the disk of a Redis that notes what it has synced.
type notedDisk struct {
	t     *testing.T
	redis *testservers.Redis
	notes string // folder
}

func newNotedDisk(t *testing.T, settings ...string) *notedDisk {
	t.Helper()
	cc, err := exec.LookPath("cc")
	if err != nil {
		t.Fatal("no C compiler, so nothing notes what Redis has synced; install it: make deps")
	}
	d := &notedDisk{t: t, redis: queuetest.StartRedis(t, settings...), notes: t.TempDir()}
	library := filepath.Join(t.TempDir(), "synced.so")
	if out, err := exec.Command(cc, "-shared", "-fPIC", "-O1", "-o", library, "../../cmd/gancho/testdata/synced.c", "-ldl").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	d.redis.Stop()
	d.redis.Setenv("LD_PRELOAD", library)
	d.redis.Setenv("SYNCED_DIR", d.notes)
	if err := d.redis.Start(); err != nil {
		t.Fatal(err)
	}
	return d
}

// stop makes the disk stand still, so that no fsync ends until start.
func (d *notedDisk) stop() {
	d.t.Helper()
	if err := os.WriteFile(filepath.Join(d.notes, "hold"), nil, 0o600); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = os.Remove(filepath.Join(d.notes, "hold")) }) // or Redis would not end
}

func (d *notedDisk) start() {
	if err := os.Remove(filepath.Join(d.notes, "hold")); err != nil {
		d.t.Error(err)
	}
}

// has reports whether a text is in the part of the append-only file that a power cut
// would leave.
func (d *notedDisk) has(text string) bool {
	files, err := filepath.Glob(filepath.Join(d.redis.Dir(), "appendonlydir", "*.incr.aof"))
	if err != nil || len(files) != 1 {
		d.t.Errorf("find the append-only file: %v, %v", files, err)
		return false
	}
	note, err := os.ReadFile(filepath.Join(d.notes, filepath.Base(files[0])))
	if err != nil {
		return false // nothing was synced
	}
	synced, err := strconv.Atoi(string(note))
	if err != nil {
		d.t.Error(err)
		return false
	}
	aof, err := os.ReadFile(files[0])
	if err != nil {
		d.t.Error(err)
	}
	return strings.Contains(string(aof[:synced]), text)
}

// An fsync that takes over two seconds has Redis write what it had held back, and not
// sync it until a second later.
func TestNothingIsDurableBehindASlowFsync(t *testing.T) {
	t.Parallel()
	d := newNotedDisk(t)
	q := queuetest.Open(t, d.redis, endpoint.Endpoint{Name: "a"})
	c := queuetest.Client(t, d.redis)
	persistence := func(field string) string { return c.InfoMap(t.Context(), "persistence").Item("Persistence", field) }
	d.stop()
	queuetest.AppendEvents(t, q, 0, 1, 1, queuetest.KeyModulo(1))
	queuetest.Eventually(t, "an fsync that hangs", func() bool { return persistence("aof_pending_bio_fsync") != "0" })

	confirmed := make(chan uint64)
	ctx, end := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() {
		ended <- q.RunDurable(ctx, func(lsn uint64) {
			if !d.has(strconv.FormatUint(lsn, 10)) {
				t.Errorf("confirmed %d, which is not on the disk", lsn)
			}
			confirmed <- lsn
		})
	}()
	queuetest.AppendEvents(t, q, 1, 2, 1, queuetest.KeyModulo(1))
	q.Appended(queuetest.LSN(1))
	sent := make(chan error)
	go func() {
		err := q.Durably(t.Context(), "a", func() error { return c.Set(t.Context(), "redriven", "x", 0).Err() })
		if !d.has("redriven") {
			t.Error("what was written durably is not on the disk")
		}
		sent <- err
	}()
	queuetest.Eventually(t, "a write behind the fsync", func() bool { return persistence("aof_delayed_fsync") != "0" || trustsWaitAOF(t, d.redis) })
	d.start()
	if lsn := <-confirmed; lsn != queuetest.LSN(1) {
		t.Errorf("confirmed %x", lsn)
	}
	if err := <-sent; err != nil {
		t.Error(err)
	}
	end()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}
