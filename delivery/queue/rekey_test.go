package queue_test

import (
	"bytes"
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/mapping"
)

// TestRekeyOfLargeRows: rows are read once, also when some were dropped meanwhile, and what a
// RekeyParked that dies would leave goes within minutes.
func TestRekeyOfLargeRows(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q, client := queuetest.Open(t, r), queuetest.Client(t, r)
	const rows, size = 50, 100_000
	b := q.NewBatch()
	for i := range rows {
		p := mapping.Parked{
			Position: cdc.Position{Commit: cdc.LSN(queuetest.LSN(i))}, Type: "e", Rule: "r.yaml:3", Table: "t", Op: cdc.Insert,
			Time: queuetest.Event(i, "").Time, Reason: "r", Change: bytes.Repeat([]byte("x"), size),
		}
		if err := b.Park(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	output := func() (n int) {
		t.Helper()
		info, err := client.Info(t.Context(), "stats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, rest, _ := strings.Cut(info, "total_net_output_bytes:")
		if _, err := fmt.Sscan(rest, &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := output()
	var ids []queue.ID
	n, err := q.RekeyParked(t.Context(), func(p *queue.ParkedChange) (bool, error) {
		ids = append(ids, p.ID)
		if len(ids) == rows {
			if n, err := q.DropParked(t.Context(), ids[1:40]); err != nil || n != 39 {
				t.Errorf("dropped %d, %v", n, err)
			}
			keys, err := client.Keys(t.Context(), "*rekeyed*").Result()
			if err != nil || len(keys) != 1 {
				t.Fatalf("%q, %v", keys, err)
			}
			if ttl, err := client.TTL(t.Context(), keys[0]).Result(); err != nil || ttl <= 0 || ttl > 3*time.Minute {
				t.Errorf("a copy that is left is kept for %s, %v", ttl, err)
			}
		}
		return true, nil
	})
	if read := output() - before; err != nil || n != rows || read > rows*size*3/2 {
		t.Errorf("%d encrypted again, %d bytes were read of %d, %v", n, read, rows*size, err)
	}
	if left, err := q.ParkedCount(t.Context()); err != nil || left != rows-39 {
		t.Errorf("%d parked changes are left, %v", left, err)
	}
}
