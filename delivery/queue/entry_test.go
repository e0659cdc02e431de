package queue_test

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/mapping"
)

// TestEntryFormats: an event is read as it was added, whether it has one field, with or without what a newer version adds, or one for
// each part, as those of older versions; and the scripts that look into a stream find all of them.
func TestEntryFormats(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	c := queuetest.Client(t, r)
	b := q.NewBatch()
	const key = "ação\n 7"
	whole, bare := queuetest.Event(1, key), queuetest.Event(2, key)
	whole.Tenant, whole.Op = []byte("loja 1"), cdc.Insert
	whole.Previous, whole.Unchanged, whole.Errors = []byte(`{"nome":"A"}`), []byte(`["foto"]`), []byte(`["nascimento"]`)
	whole.Tags, whole.Change = []byte(`["cpf=1","b=\"2\n"]`), []byte{0, 255, '\n'}
	bare.Tenant, bare.Version, bare.Data = nil, "", nil
	for _, ev := range []*mapping.Event{whole, bare} {
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	const stream = "gancho:{a}:q"
	id := func(i int) queue.ID {
		id, err := queue.NewID(1, queuetest.Event(i, "").Position, 0)
		if err != nil {
			t.Fatal(err)
		}
		return id
	}
	first := id(1).String()
	packed, _ := c.XRange(t.Context(), stream, first, first).Val()[0].Values["c"].(string)
	head, rest, _ := strings.Cut(packed, "\n")
	f := queuetest.Fields(t, map[string]any{"c": packed})
	for i, values := range [][]any{
		{"c", head + " 5 0\n" + rest + "newer", "z", "unknown"},
		{"t", f["t"], "k", f["k"], "n", f["n"], "c", f["c"], "d", f["d"], "v", f["v"], "o", f["o"], "p", f["p"], "u", f["u"], "e", f["e"], "g", f["g"], "h", f["h"]},
	} {
		if err := c.Do(t.Context(), append([]any{"XADD", stream, id(3 + i).String()}, values...)...).Err(); err != nil {
			t.Fatal(err)
		}
	}
	owners, err := q.Worker().Acquire(t.Context(), time.Hour, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	page, end, err := owners[0].Read(t.Context(), false, queue.ID{}, 10, 1<<20)
	if err != nil || !end {
		t.Fatal(end, err)
	}
	message := webhook.Message{
		Type: whole.Type, Tenant: "loja 1", Key: key, Version: "v1", Op: "insert", Time: whole.Time, Data: whole.Data, Previous: whole.Previous,
		Unchanged: whole.Unchanged, Errors: whole.Errors, Tags: []string{"cpf=1", "b=\"2\n"}, Change: whole.Change,
	}
	want := []webhook.Message{message, {Type: bare.Type, Key: key, Op: "update", Time: bare.Time, Data: []byte{}}, message, message}
	var got []webhook.Message
	for _, e := range page {
		m := *e.Msg
		m.ID, m.Sequence = "", "" // of the entry's id
		got = append(got, m)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	for tenant, want := range map[string]int64{"loja 1": 3, "": 1, "loja": 0} {
		s := queue.Subject{Tenant: tenant, Key: key, Events: []string{"cobranca.*"}}
		if found, err := q.CountSubject(t.Context(), s); err != nil || found.Queued != want {
			t.Errorf("of tenant %q %d events were found, want %d: %v", tenant, found.Queued, want, err)
		}
	}
	for removed := range 2 { // the oldest is one of either format
		stats, err := q.Stats(t.Context(), []string{"a"})
		if err != nil || !stats[0].Oldest.Equal(whole.Time) {
			t.Errorf("without the first %d the oldest is of %s, want %s: %v", removed*3, stats[0].Oldest, whole.Time, err)
		}
		c.XDel(t.Context(), stream, id(1).String(), id(2).String(), id(3).String())
	}
}

// TestEntryRefused: what Gancho has not written is an error, and no event.
func TestEntryRefused(t *testing.T) {
	t.Parallel()
	for _, packed := range []string{"", "1 1 1 1", "x 1 1 1\nabc", "1 1 1 2\nabc", "1 1 -1 1\nabc", "1 1 x 1\nabc", "1 9999999999999999999 1 1\nabc"} {
		r := queuetest.StartRedis(t)
		q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
		if err := queuetest.Client(t, r).Do(t.Context(), "XADD", "gancho:{a}:q", "4503599627378944-0", "c", packed).Err(); err != nil {
			t.Fatal(err)
		}
		owners, err := q.Worker().Acquire(t.Context(), time.Hour, []string{"a"})
		if err != nil {
			t.Fatal(err)
		}
		if page, _, err := owners[0].Read(t.Context(), false, queue.ID{}, 10, 1<<20); err == nil {
			t.Errorf("%q was read as %+v", packed, *page[0].Msg)
		}
	}
}

// TestReadSteps: a page has what was asked for, whatever the sizes of entries, and when they are large, Redis is asked for a few of them at a time.
func TestReadSteps(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	const small, large, size, budget = 600, 200, 128 << 10, 1 << 20
	b := q.NewBatch()
	for i := range small + large {
		ev := queuetest.Event(i, "k")
		if i >= small {
			ev.Data = []byte(`"` + strings.Repeat("x", size) + `"`)
		}
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
		if b.Bytes() > 4*size || i == small+large-1 {
			if err := q.Append(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			b.Reset()
		}
	}
	owners, err := q.Worker().Acquire(t.Context(), time.Hour, []string{"a"})
	if err != nil {
		t.Fatal(err)
	}
	var after queue.ID
	var pages []int
	var seen, largest int
	for end := false; !end; {
		var page []queue.Entry
		if page, end, err = owners[0].Read(t.Context(), false, after, 256, budget); err != nil {
			t.Fatal(err)
		}
		for i, e := range page {
			if e.ID.Compare(after) <= 0 {
				t.Fatalf("entry %s comes after %s", e.ID, after)
			}
			after = page[i].ID
		}
		seen += len(page)
		if len(pages) > 3 { // two steps have had large ones
			largest = max(largest, len(page))
		}
		pages = append(pages, len(page))
	}
	if seen != small+large || pages[0] != 256 || pages[2] > 128 || largest > budget/size {
		t.Errorf("%d entries were read, in pages of %d", seen, pages)
	}
}
