package queue_test

import (
	"errors"
	"os"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
)

// Whatever frees memory or only moves state works while Redis is full.
func TestFullRedisTakesState(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	queuetest.AppendEvents(t, q, 0, 10, 10, queuetest.KeyModulo(1))
	c := queuetest.Client(t, r)
	if err := c.HSet(t.Context(), "gancho:{a}:state", "paused", "gone", "since", 1).Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}

	again := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	if epoch, err := again.Claim(t.Context(), queuetest.Source(), false); epoch != 1 || err != nil {
		t.Errorf("claim: epoch %d, %v", epoch, err)
	}
	if err := again.RecordTables(t.Context(), "{}"); err != nil {
		t.Errorf("record of the tables: %v", err)
	}
	if names, err := again.EndpointNames(t.Context()); len(names) != 1 || err != nil {
		t.Errorf("names: %q, %v", names, err)
	}
	if resumed, err := again.Resume(t.Context(), "a"); !resumed || err != nil {
		t.Errorf("resume: %v, %v", resumed, err)
	}
	if s, err := queuetest.Stats(t.Context(), again, "a"); s.Reason != "" || err != nil {
		t.Errorf("it is still suspended: %q, %v", s.Reason, err)
	}
	if _, err := again.Hasten(t.Context(), "a"); err != nil {
		t.Error(err)
	}
	confirmed, _ := queuetest.RunDurable(t, again)
	again.Appended(queuetest.LSN(9))
	queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == queuetest.LSN(9) })

	w := again.Worker()
	owners, err := w.Acquire(t.Context(), time.Minute, []string{"a"})
	if err != nil || owners[0] == nil {
		t.Fatalf("acquire: %v", err)
	}
	page, _, err := owners[0].Read(t.Context(), false, queue.ID{}, 100, 1<<20)
	if err != nil || len(page) != 10 {
		t.Fatalf("read %d events, %v", len(page), err)
	}
	results := &queue.Results{Done: []queue.ID{page[0].ID}, Dead: []queue.DeadResult{{ID: page[1].ID, Reason: "refused"}}}
	results.Retries = append(results.Retries, queue.RetryResult{ID: page[2].ID})
	if owned, err := owners[0].Write(t.Context(), results); !owned || err != nil {
		t.Errorf("acknowledge: %v, %v", owned, err)
	}
	b := again.NewBatch()
	for i := 10; i < 13; i++ {
		if _, err := b.Add(queuetest.Event(i, "k")); err != nil {
			t.Fatal(err)
		}
	}
	if err := again.Append(t.Context(), b); !errors.Is(err, queue.ErrFull) {
		t.Errorf("append: %v, want ErrFull", err)
	}
	if err := owners[0].Release(t.Context()); err != nil {
		t.Error(err)
	}
	if err := again.Drop(t.Context(), "a"); err != nil {
		t.Error(err)
	}
}

// A Redis that cannot write to its disk refuses writes, and will take them later.
func TestFullDiskIsWaitedFor(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "save", "3600 1")
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c := queuetest.Client(t, r)
	// A snapshot that cannot be renamed onto a folder fails: writes are refused until one succeeds.
	if err := os.Mkdir(r.Dir()+"/dump.rdb", 0o700); err != nil {
		t.Fatal(err)
	}
	if err := c.BgSave(t.Context()).Err(); err != nil {
		t.Fatal(err)
	}
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, queue.ErrUnreachable) {
			t.Errorf("%s: %v, want ErrUnreachable", what, err)
		}
	}
	queuetest.Eventually(t, "the snapshot to fail", func() bool {
		return c.InfoMap(t.Context(), "persistence").Item("Persistence", "rdb_last_bgsave_status") == "err"
	})
	b := q.NewBatch()
	for i := range 3 {
		if _, err := b.Add(queuetest.Event(i, "k")); err != nil {
			t.Fatal(err)
		}
	}
	refused("append", q.Append(t.Context(), b))
	_, err := q.Claim(t.Context(), queuetest.Source(), false)
	refused("claim", err)
	_, err = q.Hasten(t.Context(), "a")
	refused("hasten", err)
	refused("ping", q.Ping(t.Context()))
	if err := os.Remove(r.Dir() + "/dump.rdb"); err != nil {
		t.Fatal(err)
	}
	if err := c.ConfigSet(t.Context(), "save", "").Err(); err != nil {
		t.Fatal(err)
	}
	if err := c.ConfigSet(t.Context(), "stop-writes-on-bgsave-error", "no").Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Error(err)
	}
}
