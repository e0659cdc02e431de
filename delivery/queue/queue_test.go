package queue_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/mapping"
)

func TestIDs(t *testing.T) {
	t.Parallel()
	p := cdc.Position{Commit: 0x16_B374D848, Ordinal: 7}
	id, err := queue.NewID(3, p, 2)
	if err != nil {
		t.Fatal(err)
	}
	type view struct {
		Text, Webhook, Sequence string
		Epoch                   uint16
		Position                cdc.Position
		N                       int
	}
	want := view{
		Text:     fmt.Sprintf("%d-%d", uint64(3)<<52|uint64(p.Commit), 7<<16|2),
		Webhook:  "a1b2c3d4-003-00000016b374d848-000000000007-0002",
		Sequence: "003-00000016b374d848-000000000007-0002",
		Epoch:    3, Position: p, N: 2,
	}
	got := view{id.String(), id.WebhookID("a1b2c3d4"), id.Sequence(), id.Epoch(), id.Position(), id.N()}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	parsed, err := queue.ParseID(id.String())
	if err != nil || parsed != id {
		t.Errorf("parsed %v, %v", parsed, err)
	}
	from, parsed, err := queue.ParseWebhookID(want.Webhook)
	if err != nil || parsed != id || from != "a1b2c3d4" {
		t.Errorf("parsed %s %v, %v", from, parsed, err)
	}
}

func TestIDsRiseWithPositions(t *testing.T) {
	t.Parallel()
	var last queue.ID
	for _, epoch := range []uint16{1, 2, 4095} {
		for _, lsn := range []cdc.LSN{1, 0xFFFF, 1 << 40, 1<<52 - 1} {
			for _, ordinal := range []uint64{0, 1, 1 << 32, 1<<48 - 1} {
				for _, n := range []int{0, 1, 65535} {
					id, err := queue.NewID(epoch, cdc.Position{Commit: lsn, Ordinal: ordinal}, n)
					if err != nil {
						t.Fatal(err)
					}
					if !last.IsZero() && (id.Compare(last) <= 0 || id.WebhookID("00000000") <= last.WebhookID("00000000") || id.Sequence() <= last.Sequence()) {
						t.Fatalf("%v does not come after %v", id, last)
					}
					last = id
				}
			}
		}
	}
}

func TestIDsThatDoNotFit(t *testing.T) {
	t.Parallel()
	for name, build := range map[string]func() (queue.ID, error){
		"epoch 0":    func() (queue.ID, error) { return queue.NewID(0, cdc.Position{Commit: 1}, 0) },
		"epoch 4096": func() (queue.ID, error) { return queue.NewID(4096, cdc.Position{Commit: 1}, 0) },
		"lsn 0":      func() (queue.ID, error) { return queue.NewID(1, cdc.Position{}, 0) },
		"lsn 2^52":   func() (queue.ID, error) { return queue.NewID(1, cdc.Position{Commit: 1 << 52}, 0) },
		"ordinal":    func() (queue.ID, error) { return queue.NewID(1, cdc.Position{Commit: 1, Ordinal: 1 << 48}, 0) },
		"n":          func() (queue.ID, error) { return queue.NewID(1, cdc.Position{Commit: 1}, 1<<16) },
		"n below 0":  func() (queue.ID, error) { return queue.NewID(1, cdc.Position{Commit: 1}, -1) },
	} {
		if id, err := build(); err == nil {
			t.Errorf("%s: got %v, want an error", name, id)
		}
	}
	for _, s := range []string{"", "1", "1-", "x-1", "1-x", "18446744073709551616-0"} {
		if id, err := queue.ParseID(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, id)
		}
	}
	for _, s := range []string{"", "a1b2c3d4", "a1b2c3d4-003-00000016b374d848-000000000007-002", "a1b2c3d4-003-00000016b374d84x-000000000007-0002"} {
		if _, id, err := queue.ParseWebhookID(s); err == nil {
			t.Errorf("%q: got %v, want an error", s, id)
		}
	}
}

func TestOpenRefusesSettingsThatLoseEvents(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		settings []string
		want     queue.SettingError
	}{
		"eviction":       {[]string{"maxmemory-policy", "allkeys-lru"}, queue.SettingError{Setting: "maxmemory-policy", Value: "allkeys-lru"}},
		"no persistence": {[]string{"appendonly", "no"}, queue.SettingError{Setting: "appendonly", Value: "no"}},
		"no fsync":       {[]string{"appendfsync", "no"}, queue.SettingError{Setting: "appendfsync", Value: "no"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t, c.settings...)
			_, err := queue.Open(t.Context(), queue.Options{URL: r.URL(), Logger: queuetest.Logger(t)})
			var got *queue.SettingError
			if !errors.As(err, &got) {
				t.Fatalf("got %v, want a SettingError", err)
			}
			if got.Setting != c.want.Setting || got.Value != c.want.Value || got.Fix == "" {
				t.Errorf("got %+v, want %+v and a fix", got, c.want)
			}
		})
	}
}

func TestOpenWithoutConfig(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	if err := queuetest.Client(t, r).Do(t.Context(), "ACL", "SETUSER", "limited", "on", ">pw", "~*", "&*", "+@all", "-config").Err(); err != nil {
		t.Fatal(err)
	}
	q, err := queue.Open(t.Context(), queue.Options{URL: "redis://limited:pw@" + r.Addr(), Logger: queuetest.Logger(t)})
	if err == nil {
		t.Cleanup(func() { _ = q.Close() })
	}
	if trustsWaitAOF(t, r) {
		if err != nil {
			t.Errorf("got %v, want WAITAOF to be enough", err)
		}
		return
	}
	if want := "CONFIG is forbidden"; err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("got %v, want it to say that %s", err, want)
	}
}

func TestOpenVolatileWhenAllowed(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendonly", "no")
	q, err := queue.Open(t.Context(), queue.Options{URL: r.URL(), AllowVolatile: true, Logger: queuetest.Logger(t)})
	if err != nil {
		t.Fatal(err)
	}
	if err := q.Close(); err != nil {
		t.Error(err)
	}
}

func TestOpenUnreachable(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	r.Kill()
	_, err := queue.Open(t.Context(), queue.Options{URL: r.URL(), Logger: queuetest.Logger(t)})
	if !errors.Is(err, queue.ErrUnreachable) {
		t.Errorf("got %v, want ErrUnreachable", err)
	}
	_, err = queue.Open(t.Context(), queue.Options{URL: "redis//user:geheim@host", Logger: queuetest.Logger(t)})
	if err == nil || strings.Contains(err.Error(), "geheim") {
		t.Errorf("got %v, want an error without the password", err)
	}
}

func TestClaim(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	changed := func(f func(*queue.Source)) queue.Source {
		s := queuetest.Source()
		f(&s)
		return s
	}
	steps := []struct {
		name   string
		source queue.Source
		accept bool
		epoch  uint16 // 0: refused
		why    string
	}{
		{"first", queuetest.Source(), false, 1, ""},
		{"again", queuetest.Source(), false, 1, ""},
		{"accept without need", queuetest.Source(), true, 1, ""},
		{"slot behind the record", changed(func(s *queue.Source) { s.ConfirmedFlush = 0x800 }), false, 1, ""},
		{"other system", changed(func(s *queue.Source) { s.SystemID = "99" }), false, 0, "system identifier was 7300000000000000001 and is 99"},
		{"other timeline", changed(func(s *queue.Source) { s.Timeline = 2 }), false, 0, "timeline was 1 and is 2"},
		{"other database", changed(func(s *queue.Source) { s.Database = "loja" }), false, 0, `database was "academia" and is "loja"`},
		{"other slot", changed(func(s *queue.Source) { s.Slot = "b" }), false, 0, `slot was "gancho" and is "b"`},
		{"WAL ends before", changed(func(s *queue.Source) { s.Current = 0x800 }), false, 0, "the server's WAL ends at 0/800, before 0/1000"},
		{"WAL of another history", changed(func(s *queue.Source) { s.Diverged = true }), false, 0, "has written as much since"},
		{"slot recreated", changed(func(s *queue.Source) { s.SlotCreated, s.ConfirmedFlush = true, 0x1800 }), false, 0, `slot "gancho" was recreated at 0/1800`},
		{"slot created, and the answer lost", changed(func(s *queue.Source) { s.SlotCreated = true }), false, 1, ""},
		{"slot moved on", changed(func(s *queue.Source) { s.ConfirmedFlush = 0x1001 }), false, 0, `slot "gancho" stands at 0/1001, beyond 0/1000`},
		{"accepted", changed(func(s *queue.Source) { s.ConfirmedFlush = 0x5000; s.SlotCreated = true }), true, 2, ""},
		{"after that", changed(func(s *queue.Source) { s.ConfirmedFlush = 0x5000 }), false, 2, ""},
		{"promoted", changed(func(s *queue.Source) { s.ConfirmedFlush, s.Timeline, s.History = 0x5000, 2, "1@0/4000" }), true, 3, ""},
		{"promoted elsewhere", changed(func(s *queue.Source) { s.ConfirmedFlush, s.Timeline, s.History = 0x5000, 2, "1@0/4800" }), false, 0, "was 1@0/4000 and is 1@0/4800"},
		{"history unknown", changed(func(s *queue.Source) { s.ConfirmedFlush, s.Timeline = 0x5000, 2 }), false, 3, ""},
	}
	for _, s := range steps {
		q := queuetest.OpenOnly(t, r) // each step is another process
		epoch, err := q.Claim(t.Context(), s.source, s.accept)
		var refusal *queue.SourceChangedError
		switch {
		case s.epoch != 0 && (err != nil || epoch != s.epoch):
			t.Errorf("%s: got epoch %d, %v, want %d", s.name, epoch, err, s.epoch)
		case s.epoch == 0 && !errors.As(err, &refusal):
			t.Errorf("%s: got epoch %d, %v, want a SourceChangedError", s.name, epoch, err)
		case s.epoch == 0 && (!strings.Contains(err.Error(), s.why) || !strings.Contains(err.Error(), map[bool]string{true: "queue.prefix", false: "--accept-source"}[refusal.Another])):
			t.Errorf("%s: got %q, want it to say %q and the way out", s.name, err, s.why)
		case s.epoch == 0 && (refusal.Recorded == 0x1000) != (s.name == "WAL ends before"):
			t.Errorf("%s: recorded %x: only an earlier end of the WAL may be measured again", s.name, refusal.Recorded)
		}
	}
}

// TestGaps: the claim that accepts another source records what is missing, with the reason that was
// noted before; a footprint goes with its position, and not into the next epoch.
func TestGaps(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "appendfsync", "always")
	if err := queuetest.OpenOnly(t, r).OpenGap(t.Context(), queue.GapBudget, "demais"); !errors.Is(err, queue.ErrNoRecord) {
		t.Errorf("a gap of a source that redis does not know: %v", err)
	}
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	confirmed, _ := queuetest.RunDurable(t, q)
	early := cdc.Footprint{Commit: 0x1100, End: 0x1180, Time: time.Date(2026, 11, 29, 1, 2, 3, 4000, time.UTC)}
	q.Passed(early)
	q.Passed(cdc.Footprint{Commit: 0x9000, End: 0x9080, Time: early.Time.Add(time.Hour)}) // it is not confirmed
	q.Appended(0x1200)
	queuetest.Eventually(t, "the confirmation", func() bool { return confirmed.Newest() == 0x1200 })
	reached, err := q.Reached(t.Context())
	if err != nil || reached.Confirmed != 0x1200 || reached.Footprint != early || reached.Open != nil {
		t.Fatalf("reached %+v, %v", reached, err)
	}
	for range 2 { // the first one counts
		if err := q.OpenGap(t.Context(), queue.GapBudget, "demais"); err != nil {
			t.Fatal(err)
		}
	}
	s := queuetest.Source()
	s.SlotCreated, s.ConfirmedFlush = true, 0x5000
	again := queuetest.OpenOnly(t, r)
	if err := again.Recognise(t.Context(), s); err == nil || !strings.Contains(err.Error(), "after 0/1200 (2026-11-29T01:02:03Z) and before 0/5000") {
		t.Errorf("recognised: %v", err)
	}
	if epoch, err := again.Claim(t.Context(), s, true); epoch != 2 || err != nil {
		t.Fatalf("epoch %d, %v", epoch, err)
	}
	gaps, err := again.Gaps(t.Context())
	if err != nil || len(gaps) != 1 || gaps[0].Reason != queue.GapBudget || gaps[0].From != "0/1200" || gaps[0].To != "0/5000" || gaps[0].Epoch != 2 {
		t.Errorf("gaps %+v, %v", gaps, err)
	}
	if reached, err = again.Reached(t.Context()); err != nil || reached.Footprint.End != 0 || reached.Open != nil {
		t.Errorf("reached %+v, %v", reached, err)
	}
	if err := q.Recognise(t.Context(), s); !errors.Is(err, queue.ErrClaimLost) {
		t.Errorf("the process of the epoch before: %v", err)
	}
	if _, err := again.Skip(t.Context(), 0x5100); err == nil {
		t.Error("a position was skipped where the stream does not end")
	}
	if err := again.NoteStuck(t.Context(), queue.Stuck{Commit: "0/5100", Where: "the first one", Why: "erro"}); err != nil {
		t.Fatal(err)
	}
	if _, err := again.Skip(t.Context(), 0x5101); err == nil || !strings.Contains(err.Error(), "--skip 0/5100") {
		t.Errorf("another position: %v", err)
	}
	if g, err := again.Skip(t.Context(), 0x5100); err != nil || g.Reason != queue.GapUnprintable {
		t.Errorf("skip: %+v, %v", g, err)
	}
	if reached, err = again.Reached(t.Context()); err != nil || reached.Skip != 0x5100 || reached.Stuck == nil {
		t.Errorf("reached %+v, %v", reached, err)
	}
}

func TestClaimGoesBeyondStreamsWhoseRecordIsLost(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	queuetest.AppendEvents(t, q, 0, 3, 3, queuetest.KeyModulo(1))
	if err := queuetest.Client(t, r).Del(t.Context(), "gancho:source").Err(); err != nil {
		t.Fatal(err)
	}
	if epoch, err := queuetest.OpenOnly(t, r).Claim(t.Context(), queuetest.Source(), false); err != nil || epoch != 2 {
		t.Errorf("got epoch %d, %v, want 2", epoch, err)
	}
}

func TestBatchRefusesWhatCannotBeAppended(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.OpenOnly(t, r, endpoint.Endpoint{Name: "a"})
	b := q.NewBatch()
	if _, err := b.Add(queuetest.Event(1, "k")); err == nil {
		t.Error("added before Claim")
	}
	if _, err := q.Claim(t.Context(), queuetest.Source(), false); err != nil {
		t.Fatal(err)
	}
	for _, i := range []int{5, 6} {
		if n, err := b.Add(queuetest.Event(i, "k")); n != 1 || err != nil {
			t.Fatalf("add: %d, %v", n, err)
		}
	}
	for _, i := range []int{6, 5} {
		if _, err := b.Add(queuetest.Event(i, "k")); err == nil {
			t.Errorf("added event %d after event 6", i)
		}
	}
}

func TestAppend(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r,
		endpoint.Endpoint{Name: "all"}, endpoint.Endpoint{Name: "tenant-2", Tenants: []string{"2"}},
		endpoint.Endpoint{Name: "paused", State: endpoint.Paused}, endpoint.Endpoint{Name: "inactive", State: endpoint.Inactive})
	b := q.NewBatch()
	one, two := queuetest.Event(1, "k1"), queuetest.Event(2, "k2")
	two.Tenant, two.Previous, two.Unchanged = []byte("2"), []byte(`{"nome":"A"}`), []byte(`["foto"]`)
	two.Op, two.Errors = cdc.Insert, []byte(`["nascimento"]`)
	two.N = 3
	for _, ev := range []*mapping.Event{one, two} {
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
	}
	parked := &mapping.Parked{Position: two.Position, N: 4, Type: "x.y", Rule: "r.yaml:3", Table: "public.clientes", Op: cdc.Update,
		Time: two.Time, Reason: "division by zero", Row: []byte(`{"new":{"id":"1"}}`)}
	if err := b.Park(parked); err != nil {
		t.Fatal(err)
	}
	if b.Len() != 6 {
		t.Errorf("the batch holds %d appends, want 6", b.Len())
	}
	for range 2 { // the second time everything is there already
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	id := func(ev *mapping.Event) string {
		id, err := queue.NewID(1, ev.Position, ev.N)
		if err != nil {
			t.Fatal(err)
		}
		return id.String()
	}
	first := entryOf(id(one), "c", "1767225600000001 18 1 2 2 6 19\ncobranca.liquidada1k1v1update"+`{"id":1,"key":"k1"}`)
	second := entryOf(id(two), "c", "1767225600000002 18 1 2 2 6 19 12 8 14\ncobranca.liquidada2k2v1insert"+`{"id":2,"key":"k2"}{"nome":"A"}["foto"]["nascimento"]`)
	want := map[string][]any{
		"gancho:{all}:q": {first, second}, "gancho:{tenant-2}:q": {second}, "gancho:{paused}:q": {first, second}, "gancho:{inactive}:q": {},
	}
	got := map[string][]any{}
	c := queuetest.Client(t, r)
	for key := range want {
		entries, err := c.Do(t.Context(), "XRANGE", key, "-", "+").Slice()
		if err != nil {
			t.Fatal(err)
		}
		got[key] = entries
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	checkParked(t, q, parked)
}

func entryOf(id string, fields ...any) any { return []any{id, fields} }

func checkParked(t *testing.T, q *queue.Queue, p *mapping.Parked) {
	t.Helper()
	all, err := q.Parked(t.Context(), queue.ParkedFilter{}, queue.ID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	id, err := queue.NewID(1, p.Position, p.N)
	if err != nil {
		t.Fatal(err)
	}
	if len(all) != 1 {
		t.Fatalf("parked are %+v", all)
	}
	if _, of, err := queue.ParseWebhookID(all[0].WebhookID); err != nil || of != id {
		t.Errorf("webhook-id %q, %v, want one of %s", all[0].WebhookID, err, id)
	}
	want := []queue.ParkedChange{{
		ID: id, WebhookID: all[0].WebhookID, Type: p.Type, Rule: p.Rule, Table: p.Table, Operation: p.Op.String(), Reason: p.Reason, Time: p.Time,
		Unkept: "it was parked by a version of Gancho that kept no rows",
	}}
	if diff := cmp.Diff(want, all, cmp.Comparer(func(a, b queue.ID) bool { return a == b }), cmpopts.IgnoreUnexported(queue.ParkedChange{})); diff != "" {
		t.Error(diff)
	}
	if n, err := q.ParkedCount(t.Context()); n != 1 || err != nil {
		t.Errorf("%d parked, %v", n, err)
	}
	if rest, err := q.Parked(t.Context(), queue.ParkedFilter{}, id, 10); len(rest) != 0 || err != nil {
		t.Errorf("%d parked after the last, %v", len(rest), err)
	}
}

func TestAppendToFullRedisIsAllOrNothing(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t, "maxmemory", "6mb")
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"}, endpoint.Endpoint{Name: "b"})
	c := queuetest.Client(t, r)
	b := q.NewBatch()
	next, full := 0, false
	for !full && next < 10_000 {
		b.Reset()
		for range 10 {
			ev := queuetest.Event(next, "k")
			ev.Data = fmt.Appendf(nil, `{"x":%q}`, strings.Repeat("x", 5000))
			if _, err := b.Add(ev); err != nil {
				t.Fatal(err)
			}
			next++
		}
		err := q.Append(t.Context(), b)
		if full = errors.Is(err, queue.ErrFull); err != nil && !full {
			t.Fatalf("got %v, want ErrFull", err)
		}
	}
	for _, name := range []string{"a", "b"} {
		if n := c.XLen(t.Context(), "gancho:{"+name+"}:q").Val(); n != int64(next-10) {
			t.Errorf("%s: %d events, want %d: those of complete batches", name, n, next-10)
		}
	}
	if err := c.ConfigSet(t.Context(), "maxmemory", "0").Err(); err != nil {
		t.Fatal(err)
	}
	if err := q.Append(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	if n := c.XLen(t.Context(), "gancho:{a}:q").Val(); n != int64(next) {
		t.Errorf("%d events, want %d", n, next)
	}
}

func TestBacklog(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r, endpoint.Endpoint{Name: "a"})
	if held, err := queuetest.Stats(t.Context(), q, "a"); held.Backlog != 0 || !held.Oldest.IsZero() || err != nil {
		t.Errorf("got %d, %v, %v", held.Backlog, held.Oldest, err)
	}
	queuetest.AppendEvents(t, q, 3, 10, 4, queuetest.KeyModulo(2))
	if held, err := queuetest.Stats(t.Context(), q, "a"); held.Backlog != 7 || !held.Oldest.Equal(queuetest.Event(3, "").Time) || err != nil {
		t.Errorf("got %d, %v, %v", held.Backlog, held.Oldest, err)
	}
}
