package queue_test

import (
	"bytes"
	"strconv"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/mapping"
)

// TestForgetReasons: however many reasons there are, no call is about all of them.
func TestForgetReasons(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q, client := queuetest.Open(t, r), queuetest.Client(t, r)
	b, position := q.NewBatch(), cdc.Position{Commit: 0x1000}
	if err := b.Park(&mapping.Parked{Position: position, Op: cdc.Insert, Time: time.Now()}); err != nil {
		t.Fatal(err)
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	id, err := queue.NewID(1, position, 0)
	if err != nil {
		t.Fatal(err)
	}
	reasons := []any{id.String(), "still"}
	const gone = 3000
	for i := range gone {
		reasons = append(reasons, "1-"+strconv.Itoa(i+1), "gone")
	}
	const key = "gancho:{gancho:parked}:reasons"
	if err := client.HSet(t.Context(), key, reasons...).Err(); err != nil {
		t.Fatal(err)
	}
	before := queuetest.Calls(t, client)["hdel"]
	if err := q.ForgetReasons(t.Context()); err != nil {
		t.Fatal(err)
	}
	calls := queuetest.Calls(t, client)
	if left, err := client.HKeys(t.Context(), key).Result(); err != nil || len(left) != 1 || left[0] != id.String() {
		t.Errorf("%d are left, %v", len(left), err)
	}
	if calls["hdel"]-before != gone || calls["hscan"] < 2 {
		t.Errorf("%v", calls)
	}
}

// TestParkedWithoutRows: a list of parked changes costs no more where their rows are large.
func TestParkedWithoutRows(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q, client := queuetest.Open(t, r), queuetest.Client(t, r)
	b := q.NewBatch()
	const small, large, size = 600, 30, 256 << 10
	for i := range small + large {
		p := mapping.Parked{Position: cdc.Position{Commit: cdc.LSN(queuetest.LSN(i))}, Op: cdc.Insert, Time: time.Now(), Change: []byte("x")}
		if i >= small {
			p.Change = bytes.Repeat([]byte("x"), size)
		}
		if err := b.Park(&p); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	sent := func() int {
		t.Helper()
		n, err := strconv.Atoi(client.InfoMap(t.Context(), "stats").Item("Stats", "total_net_output_bytes"))
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := sent()
	all, err := q.Parked(t.Context(), queue.ParkedFilter{}, queue.ID{}, 10_000)
	if n := sent() - before; err != nil || len(all) != small+large || n > size {
		t.Errorf("%d changes in %d bytes, %v", len(all), n, err)
	}
	for i := range all {
		if !all[i].Redrivable || all[i].Change != nil {
			t.Errorf("change %d: %+v", i, all[i])
		}
	}
	page, err := q.ParkedPage(t.Context(), queue.ParkedFilter{}, all[small-1].ID, 10_000, 4*size)
	if err != nil || len(page) != 4 || len(page[0].Change) != size {
		t.Errorf("a page of %d changes, %v", len(page), err)
	}
}
