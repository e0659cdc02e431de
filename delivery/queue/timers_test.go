package queue_test

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// TestTimers: timers are set, moved and canceled in the order of their changes, however often these are appended, and
// each is fired once.
func TestTimers(t *testing.T) {
	t.Parallel()
	q := queuetest.Open(t, queuetest.StartRedis(t))
	at := time.UnixMicro(1772366400000001).UTC()
	change := func(lsn cdc.LSN, key string, in time.Duration) mapping.TimerChange {
		c := mapping.TimerChange{Position: cdc.Position{Commit: 0x1000 + lsn}, N: 7, Rule: "r", Key: []byte(key)}
		if in > 0 {
			c.Due = at.Add(in)
		}
		return c
	}
	appendAll := func(changes ...mapping.TimerChange) {
		t.Helper()
		b := q.NewBatch()
		for i := range changes {
			if err := b.Timer(&changes[i]); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := q.ApplyTimers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	due := func(in time.Duration) (timers []queue.PendingTimer, texts []string) {
		t.Helper()
		timers, err := q.DueTimers(t.Context(), at.Add(in), queue.WhichTimers{}, 500)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range timers {
			texts = append(texts, fmt.Sprintf("%s %s %x", d.Key, d.Due.Sub(at), uint64(d.ID.Position().Commit)))
		}
		return timers, texts
	}
	is := func(what string, got []string, want ...string) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	pending := change(6, "d", 3*time.Second)
	pending.Pending = true
	former := change(7, "b2", 4*time.Second)
	former.Former = []byte("b")
	first := []mapping.TimerChange{
		change(1, "a", 5*time.Second), change(2, "b", time.Second), change(3, "c", 2*time.Second),
		change(4, "a", 6*time.Second), change(5, "c", 0), pending, former,
	}
	appendAll(first...)
	_, texts := due(0)
	is("before", texts)
	count := func(pending int64, next time.Duration) {
		t.Helper()
		got, err := q.Timers(t.Context())
		if c := got["r"]; err != nil || c.Pending != pending || !c.Next.Equal(at.Add(next)) {
			t.Errorf("%+v, %v; want %d, the first after %s", got, err, pending, next)
		}
	}
	count(2, 4*time.Second)
	appendAll(first...) // again: Redis has refused them all
	timers, texts := due(10 * time.Second)
	is("all", texts, "b2 4s 1007", "a 6s 1004")
	appendAll(change(9, "a", 20*time.Second)) // moved since
	var fired []queue.FiredTimer
	for _, d := range timers {
		fired = append(fired, queue.FiredTimer{PendingTimer: d, Endpoints: []string{"crm", "erp"}, Message: webhook.Message{
			ID: d.ID.WebhookID("0123abcd"), Type: "e", Op: webhook.OpTimer, Time: d.Due, Late: 3, Data: []byte("{}"),
		}})
	}
	for range 2 {
		if err := q.FireTimers(t.Context(), fired); err != nil {
			t.Fatal(err)
		}
	}
	for _, e := range []string{"crm", "erp"} {
		if n, err := q.ReplayBacklog(t.Context(), e); n != 1 || err != nil {
			t.Errorf("%s has %d, %v", e, n, err)
		}
	}
	_, texts = due(time.Hour)
	is("after", texts, "a 20s 1009")
	count(1, 20*time.Second)
}

// TestTimersInTurns: whoever sets or fires many timers holds Redis up for few of them at a time.
func TestTimersInTurns(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	calls := func() (n int) {
		t.Helper()
		info, err := queuetest.Client(t, w.r).Info(t.Context(), "commandstats").Result()
		if err != nil {
			t.Fatal(err)
		}
		_, after, _ := strings.Cut(info, "cmdstat_evalsha:calls=")
		n, _ = strconv.Atoi(strings.Split(after, ",")[0])
		return n
	}
	var all []mapping.TimerChange
	for i := range 60 {
		all = append(all, w.set("r", strconv.Itoa(i), i))
	}
	before := calls()
	w.apply(all...)
	if n := calls() - before; n < 3 {
		t.Errorf("60 timers were set in %d turns", n)
	}
	due, err := w.q.DueTimers(t.Context(), w.at.Add(time.Hour), queue.WhichTimers{}, 60)
	if err != nil || len(due) != 60 {
		t.Fatal(len(due), err)
	}
	var fired []queue.FiredTimer
	for _, d := range due {
		fired = append(fired, queue.FiredTimer{PendingTimer: d, Endpoints: []string{"crm"}, Message: webhook.Message{ID: d.ID.WebhookID("0123abcd"), Type: "e", Op: webhook.OpTimer, Data: []byte("{}")}})
	}
	before = calls()
	if err := w.q.FireTimers(t.Context(), fired); err != nil {
		t.Fatal(err)
	}
	if n := calls() - before; n < 3 {
		t.Errorf("60 timers were fired in %d turns", n)
	}
	if n, err := w.q.ReplayBacklog(t.Context(), "crm"); n != 60 || err != nil {
		t.Error(n, err)
	}
}

// TestTimersOfReadRows: a row that was there already gets a timer where it has none; a time that is another one by now moves it.
func TestTimersOfReadRows(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	read := func(rule string, in int, span bool) mapping.TimerChange {
		c := w.set(rule, "k", in)
		c.Read, c.Span = true, span
		return c
	}
	is := func(what, rule string, lsn cdc.LSN, in int) {
		t.Helper()
		got, err := w.q.RowTimers(t.Context(), []string{rule}, []byte("k"))
		if err != nil || len(got) != 1 || got[0].ID.Position().Commit != lsn || !got[0].Due.Equal(w.at.Add(time.Duration(in)*time.Second)) {
			t.Errorf("%s: %+v, %v", what, got, err)
		}
	}
	w.apply(read("span", 10, true), read("time", 10, false))
	is("none was there", "span", w.lsn, 10)
	is("none was there", "time", w.lsn, 10)
	first := w.lsn
	w.apply(read("span", 20, true), read("time", 10, false))
	is("it is there", "span", first, 10)
	is("it is there", "time", first, 10)
	w.apply(read("time", 30, false))
	is("another time", "time", w.lsn, 30)
}

// TestTimersChangedBehindARead: what a live change behind a read means for a row's timer is so, also where both are appended together.
func TestTimersChangedBehindARead(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	read := func(rule string, span bool) mapping.TimerChange {
		c := w.set(rule, "k", 10)
		c.Read, c.Span = true, span
		return c
	}
	for _, span := range []bool{true, false} {
		moved, canceled := fmt.Sprint("moved ", span), fmt.Sprint("canceled ", span)
		w.apply(read(moved, span), read(canceled, span), w.set(moved, "k", 20), mapping.TimerChange{Rule: canceled, Key: []byte("k")})
		if got := w.due(1000, queue.WhichTimers{Only: []string{canceled}}, 10); len(got) > 0 {
			t.Errorf("canceled behind the read: %q", got)
		}
		if got := w.due(15, queue.WhichTimers{Only: []string{moved}}, 10); len(got) > 0 {
			t.Errorf("moved behind the read: %q is due", got)
		}
		if got := w.due(25, queue.WhichTimers{Only: []string{moved}}, 10); len(got) != 1 {
			t.Errorf("moved behind the read: %q", got)
		}
	}
}

// TestManyFailedTimers: beyond so many, timers that have failed are kept without their reasons, and redriven as the others.
func TestManyFailedTimers(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	w.q.TellFailures(2)
	const rule = "public.pedidos 0 vencido"
	reason := strings.Repeat("ã", 5000)
	for i := range 4 {
		w.apply(w.set(rule, strconv.Itoa(i), i))
	}
	fail := func(most int) {
		t.Helper()
		due, err := w.q.DueTimers(t.Context(), w.at.Add(time.Hour), queue.WhichTimers{}, most)
		if err != nil || len(due) != most {
			t.Fatal(len(due), err)
		}
		for _, d := range due { // each in a turn of its own
			f := queue.FiredTimer{PendingTimer: d, Failure: &queue.TimerFailure{Event: "vencido", Place: "regras.yaml:3", Table: "public.pedidos", Reason: reason, At: w.at}}
			if err := w.q.FireTimers(t.Context(), []queue.FiredTimer{f}); err != nil {
				t.Fatal(err)
			}
		}
	}
	fail(4)
	told := func() (n int) {
		t.Helper()
		all, err := w.q.Parked(t.Context(), queue.ParkedFilter{}, queue.ID{}, 10)
		if err != nil || len(all) != 4 {
			t.Fatalf("%+v, %v", all, err)
		}
		for _, p := range all {
			if p.Type != "vencido" || p.Table != "public.pedidos" || p.Rule != "regras.yaml:3" || !p.Redrivable || len(p.Reason) > 1100 {
				t.Errorf("%+v", p)
			}
			if strings.HasPrefix(p.Reason, "ãã") {
				n++
			} else if !strings.Contains(p.Reason, "of this one was not kept") {
				t.Errorf("reason %q", p.Reason)
			}
		}
		return n
	}
	if n := told(); n != 2 {
		t.Errorf("%d have their reasons, want 2", n)
	}
	timers, err := w.q.RowTimers(t.Context(), []string{rule}, []byte("3"))
	if err != nil || len(timers) != 1 || !timers[0].Due.IsZero() || !strings.Contains(timers[0].Reason, "not kept") {
		t.Errorf("%+v, %v", timers, err)
	}
	all, err := w.q.Parked(t.Context(), queue.ParkedFilter{}, queue.ID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	w.q.TellFailures(4)
	if n, err := w.q.RedriveTimers(t.Context(), []queue.ID{all[2].ID, all[3].ID}); n != 2 || err != nil {
		t.Fatal(n, err)
	}
	fail(2)
	if n := told(); n != 4 {
		t.Errorf("%d have their reasons after a redrive, want 4", n)
	}
}

// timerWorld sets timers of several rules and keys, short and long.
type timerWorld struct {
	t   *testing.T
	r   *testservers.Redis
	q   *queue.Queue
	at  time.Time
	lsn cdc.LSN
}

func (w *timerWorld) apply(changes ...mapping.TimerChange) {
	w.t.Helper()
	b := w.q.NewBatch()
	w.lsn++
	for i := range changes {
		changes[i].Position = cdc.Position{Commit: w.lsn, Ordinal: uint64(i)}
		if err := b.Timer(&changes[i]); err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.q.Append(w.t.Context(), b); err != nil {
		w.t.Fatal(err)
	}
	if err := w.q.ApplyTimers(w.t.Context()); err != nil {
		w.t.Fatal(err)
	}
}

func (w *timerWorld) set(rule, key string, in int) mapping.TimerChange {
	return mapping.TimerChange{Rule: rule, Key: []byte(key), Due: w.at.Add(time.Duration(in) * time.Second)}
}

// due are rule and key of what is due, in order.
func (w *timerWorld) due(in int, which queue.WhichTimers, most int) []string {
	w.t.Helper()
	due, err := w.q.DueTimers(w.t.Context(), w.at.Add(time.Duration(in)*time.Second), which, most)
	if err != nil {
		w.t.Fatal(err)
	}
	texts := []string{}
	for _, d := range due {
		texts = append(texts, d.Rule+" "+string(d.Key))
	}
	return texts
}

func newTimerWorld(t *testing.T) *timerWorld {
	r := queuetest.StartRedis(t)
	return &timerWorld{t: t, r: r, q: queuetest.Open(t, r), at: time.UnixMicro(1772366400000001).UTC(), lsn: 0x1000}
}

// TestTimersOfRules: what is due of several rules comes in the order of the times, without those that are left out; long keys are whole.
func TestTimersOfRules(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	long := strings.Repeat("k", 200)
	var all []mapping.TimerChange
	var want []string
	for i := range 300 {
		rule, key := fmt.Sprintf("r%d", i%3), fmt.Sprintf("%s%d", long[:i%2*200], i)
		all = append(all, w.set(rule, key, i/7*7+i%3)) // in runs, several at the same time
		want = append(want, rule+" "+key)
	}
	w.apply(all...)
	order := func(text string) (seconds, rule int) {
		i := slices.Index(want, text)
		return i/7*7 + i%3, i % 3
	}
	for _, most := range []int{1, 50, 500} {
		got := w.due(1000, queue.WhichTimers{}, most)
		if len(got) != min(most, 64) { // a page
			t.Fatalf("%d of %d", len(got), most)
		}
		for i := 1; i < len(got); i++ {
			before, _ := order(got[i-1])
			if now, _ := order(got[i]); now < before {
				t.Errorf("%d of %d: %q comes before %q", i, most, got[i-1][:10], got[i][:10])
			}
		}
	}
	if got := w.due(1000, queue.WhichTimers{But: []string{"r0", "r2"}}, 500); len(got) != 64 || !strings.HasPrefix(got[63], "r1 ") {
		t.Errorf("of one rule: %d", len(got))
	}
	if got := w.due(1000, queue.WhichTimers{Only: []string{"r2"}}, 500); len(got) != 64 || !strings.HasPrefix(got[0], "r2 ") {
		t.Errorf("of one rule alone: %d", len(got))
	}
	w.apply(mapping.TimerChange{Rule: "r1", All: true}, mapping.TimerChange{Rule: "never", All: true}, w.set("r1", long, 3))
	if got := w.due(1000, queue.WhichTimers{But: []string{"r0", "r2"}}, 500); len(got) != 1 || got[0] != "r1 "+long {
		t.Errorf("after a truncate: %q", got)
	}
	own, err := w.q.RowTimers(t.Context(), []string{"r0", "r1", "none"}, []byte(long))
	if err != nil || len(own) != 1 || own[0].Rule != "r1" || !own[0].Due.Equal(w.at.Add(3*time.Second)) {
		t.Errorf("%+v, %v", own, err)
	}
}

// TestKeyTimers: what waits for a row is found by its primary key as people write it.
func TestKeyTimers(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	w.apply(w.set("public.t 0 a", "\x0247", 1), w.set("public.t 0 b.c", "\x0247", 1), w.set("public.u 0 d", "\x011\x01x", 1))
	for _, c := range []struct {
		of   queue.Subject
		want int
	}{
		{queue.Subject{Key: "47"}, 2}, {queue.Subject{Key: "47", Events: []string{"b.*"}}, 1}, {queue.Subject{Key: "1,x"}, 1}, {queue.Subject{Key: "4"}, 0},
	} {
		if n, err := w.q.CountKeyTimers(t.Context(), c.of); n != c.want || err != nil {
			t.Errorf("%+v: %d, %v", c.of, n, err)
		}
	}
}

// TestTruncatedTimers: a truncate of more rows than one script takes, and what follows it.
func TestTruncatedTimers(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	for range 3 {
		var all []mapping.TimerChange
		for i := range 500 {
			all = append(all, w.set("r", fmt.Sprint(w.lsn, " ", i), 1))
		}
		w.apply(all...)
	}
	w.apply(mapping.TimerChange{Rule: "r", All: true}, w.set("r", "new", 1))
	if got := w.due(10, queue.WhichTimers{}, 500); !slices.Equal(got, []string{"r new"}) {
		t.Errorf("%d are left: %.3q", len(got), got)
	}
	keys, err := queuetest.Client(t, w.r).Keys(t.Context(), "*timers-set*").Result()
	if err != nil || len(keys) != 1 {
		t.Errorf("%d hashes are left, %v", len(keys), err)
	}
}

// TestShiftedKeys: where a primary key is deferrable, rows of a transaction pass through each other's keys.
func TestShiftedKeys(t *testing.T) {
	t.Parallel()
	w := newTimerWorld(t)
	moved := func(from, to string, in int) mapping.TimerChange {
		c := w.set("r", to, in)
		c.Former = []byte(from)
		return c
	}
	w.apply(w.set("r", "1", 1), w.set("r", "2", 2), w.set("r", "3", 3))
	w.apply(moved("1", "2", 11), moved("2", "3", 12), moved("3", "4", 13)) // id = id + 1
	w.apply(moved("2", "3", 22), moved("3", "2", 21))                      // exchanged
	if got, want := w.due(100, queue.WhichTimers{}, 500), []string{"r 4", "r 2", "r 3"}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// timerKey is the i-th row's, as the mapper writes it.
func timerKey(kind string, i int) []byte {
	text := fmt.Sprint(i)
	switch kind {
	case "uuid":
		text = fmt.Sprintf("%08x-4b1d-4c3a-9a51-%012x", i*2654435761%(1<<32), i)
	case "long": // such as of three columns
		text = fmt.Sprintf("%0100d", i)
	}
	return append([]byte{byte(len(text))}, text...)
}

// timerBytes sets timers and returns how much memory of Redis each takes.
func timerBytes(t testing.TB, kind string, n int) float64 {
	t.Helper()
	r := queuetest.StartRedis(t)
	q, client := queuetest.Open(t, r), queuetest.Client(t, r)
	used := func() int64 {
		t.Helper()
		info, err := client.InfoMap(t.Context(), "memory").Result()
		if err != nil {
			t.Fatal(err)
		}
		bytes, err := strconv.ParseInt(info["Memory"]["used_memory"], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return bytes
	}
	at := time.UnixMicro(1772366400000001).UTC()
	before, b := used(), q.NewBatch()
	for i := 0; i < n; {
		b.Reset()
		for ; i < n && b.Len() < 1000; i++ {
			c := mapping.TimerChange{
				Position: cdc.Position{Commit: 0x1000 + cdc.LSN(i)}, Rule: fmt.Sprint("public.pedidos 0 pedido.abandonado", i%5), Key: timerKey(kind, i),
				Due: at.Add(time.Duration(i*7919%n) * 37 * time.Millisecond),
			}
			if err := b.Timer(&c); err != nil {
				t.Fatal(err)
			}
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		if err := q.ApplyTimers(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return float64(used()-before) / float64(n)
}

// TestTimersMemory: what a timer takes.
func TestTimersMemory(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		kind string
		most float64
	}{{"number", 200}, {"uuid", 260}} { // a million take a quarter less each: the small hashes are fuller
		t.Run(c.kind, func(t *testing.T) {
			t.Parallel()
			if got := timerBytes(t, c.kind, 50_000); got > c.most {
				t.Errorf("%.0f bytes each, at most %.0f", got, c.most)
			}
		})
	}
}

// BenchmarkTimersMemory prints what each of a million timers takes.
func BenchmarkTimersMemory(b *testing.B) {
	for _, kind := range []string{"number", "uuid", "long"} {
		b.Run(kind, func(b *testing.B) {
			for b.Loop() {
				b.ReportMetric(timerBytes(b, kind, 1_000_000), "B/timer")
			}
		})
	}
}

// TestNewestFailedTimer: none is known of a Redis without any, and of one that does not answer it is an error.
func TestNewestFailedTimer(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	q := queuetest.Open(t, r)
	if id, at, err := q.NewestFailedTimer(t.Context()); err != nil || !id.IsZero() || !at.IsZero() {
		t.Errorf("%s, %s, %v", id, at, err)
	}
	r.Kill()
	if _, _, err := q.NewestFailedTimer(t.Context()); err == nil {
		t.Error("a Redis that is down has no timer that failed")
	}
}
