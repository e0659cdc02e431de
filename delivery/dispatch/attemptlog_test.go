package dispatch_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// logged waits for n records in the endpoint's log.
func logged(t testing.TB, q *queue.Queue, endpoint string, n int) (records []queue.LogRecord, ids []string) {
	t.Helper()
	queuetest.Eventually(t, fmt.Sprint(n, " records in the log"), func() bool {
		entries, err := q.Log(t.Context(), endpoint, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		records, ids = nil, nil
		for _, e := range entries {
			records, ids = append(records, e.Records...), append(ids, e.ID)
		}
		return len(records) >= n
	})
	return records, ids
}

func statsOf(t testing.TB, q *queue.Queue, endpoint string) queue.Stats {
	t.Helper()
	all, err := q.Stats(t.Context(), []string{endpoint})
	if err != nil {
		t.Fatal(err)
	}
	return all[0]
}

// The log has of every attempt what was sent, when, and its outcome.
func TestAttemptsAreLogged(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Order: endpoint.OrderEndpoint, Retry: ms(1)}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, n int) webhook.Outcome {
		o := delivered()
		if n == 1 && m.Key == "k1" || m.Key == "k2" {
			o = status(503)
			o.Err = errors.New("post to https://x: \"503\"\n\xff")
		}
		o.Duration = 1234567 * time.Nanosecond
		return o
	}
	startDispatcher(t, q, sink, dispatch.Options{Log: true, KeepEvents: true}, ep)
	client := queuetest.Client(t, r)
	var want []queue.LogRecord
	record := func(m webhook.Message, number, status int, outcome string) {
		l := queue.LogRecord{
			Endpoint: "a", WebhookID: m.ID, Event: m.Type, Tenant: m.Tenant, Key: m.Key, Committed: m.Time, Number: number,
			Outcome: outcome, Class: webhook.ClassStatus, Status: status, Duration: 1234567, Replay: m.Replay,
			Error: "post to https://x: \"503\"\n\ufffd",
		}
		if outcome == "delivered" {
			l.Class, l.Error = webhook.ClassOK, ""
		}
		if !m.Replay && (outcome == "delivered" || outcome == queue.OutcomeDead) {
			kept := m
			l.Kept = &kept
		}
		want = append(want, l)
	}
	b := q.NewBatch()
	for i := range 3 {
		ev := queuetest.Event(i, fmt.Sprint("k", i))
		ev.Data = []byte("{\"n\":\"\xe9\"}\n") // a source in SQL_ASCII may hold anything
		if i > 0 {
			ev.Data, ev.Previous, ev.Unchanged = []byte("{\n \"ação\" : \"\\u00e7\"\n}"), []byte(`{"a":"\\\""}`), []byte(`["x"]`)
			ev.Errors = []byte("[\"n\xe9\"]")
		}
		if _, err := b.Add(ev); err != nil {
			t.Fatal(err)
		}
		if err := q.Append(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		b.Reset()
		m := kept(t, i, fmt.Sprint("k", i))
		m.ID = strings.Replace(m.ID, "0badcafe", client.HGet(t.Context(), "gancho:source", "id:1").Val(), 1)
		m.Data, m.Previous, m.Unchanged, m.Errors = ev.Data, ev.Previous, ev.Unchanged, ev.Errors
		switch i {
		case 0:
			record(m, 1, 204, "delivered")
		case 1:
			record(m, 1, 503, "retry")
			record(m, 2, 204, "delivered")
		case 2:
			record(m, 1, 503, "retry")
			record(m, 2, 503, "dead")
		}
		logged(t, q, "a", len(want))
	}
	replay := kept(t, 9, "k9")
	if err := queuetest.Replay(t.Context(), q, "a", []webhook.Message{replay}); err != nil {
		t.Fatal(err)
	}
	replay.Replay = true
	record(replay, 1, 204, "delivered")
	got, ids := logged(t, q, "a", len(want))
	if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(queue.LogRecord{}, "Time", "Entry")); diff != "" {
		t.Errorf("log (-want +got):\n%s", diff)
	}
	unique := map[string]bool{}
	for _, l := range got {
		if d := time.Since(l.Time); d < 0 || d > queuetest.Patience || l.Entry == "" {
			t.Errorf("record of entry %q at %s", l.Entry, l.Time)
		}
		unique[l.Entry+l.Time.String()] = true
	}
	if len(unique) != len(got) {
		t.Errorf("%d of %d records are unique", len(unique), len(got))
	}

	if s := statsOf(t, q, "a"); s.LogRecords != int64(len(want)) || s.LogEntries != int64(len(ids)) || s.LogLost != 0 {
		t.Errorf("%d records in %d entries wait, %d lost; want %d in %d and none", s.LogRecords, s.LogEntries, s.LogLost, len(want), len(ids))
	}
	for range 2 { // again is harmless
		if err := q.TrimLog(t.Context(), "a", ids...); err != nil {
			t.Fatal(err)
		}
	}
	if s := statsOf(t, q, "a"); s.LogRecords != 0 || s.LogEntries != 0 || s.LogLost != 0 {
		t.Errorf("after trimming: %+v, want an empty log", s)
	}
	if v := client.HGet(t.Context(), "gancho:{a}:state", "log_bytes").Val(); v != "0" {
		t.Errorf("an empty log is counted with %s bytes", v)
	}
}

// A log that nobody trims is bounded: the oldest entries are dropped, and counted.
func TestLogIsBounded(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name, text string
		records    int
	}{
		{"records", "{\"e\":\"1-1\"}\n", 25_000},
		{"bytes", `{"e":"1-1","error":"` + strings.Repeat("x", 8<<20) + "\"}\n", 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := queuetest.StartRedis(t)
			ep := endpoint.Endpoint{Name: "a"}
			q := queuetest.Open(t, r, ep)
			client := queuetest.Client(t, r)
			const entries = 8 // exactly the bounds
			for range entries {
				if err := client.Do(t.Context(), "XADD", "gancho:{a}:log", "*", "n", c.records, "b", c.text).Err(); err != nil {
					t.Fatal(err)
				}
			}
			if err := client.HSet(t.Context(), "gancho:{a}:state", "log_records", entries*c.records, "log_bytes", entries*len(c.text)).Err(); err != nil {
				t.Fatal(err)
			}
			sink := newReceiver()
			startDispatcher(t, q, sink, dispatch.Options{Log: true}, ep)
			queuetest.AppendEvents(t, q, 0, 100, 1, queuetest.KeyModulo(100))
			queuetest.Drained(t, q, "a")
			s := statsOf(t, q, "a")
			if s.LogLost != int64(c.records) {
				t.Errorf("%d records lost, want the oldest entry's %d", s.LogLost, c.records)
			}
			if want := int64((entries-1)*c.records + 100); s.LogRecords != want {
				t.Errorf("%d records wait, want %d", s.LogRecords, want)
			}
			oldest, err := q.Log(t.Context(), "a", 1)
			if err != nil || len(oldest) != 1 {
				t.Fatalf("oldest entry: %v, %v", oldest, err)
			}
		})
	}
}

// A full Redis refuses new events; deliveries go on and make room, and the log
// does not take that room.
func TestAcknowledgingIntoAFullRedis(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Retry: ms(1)}
	q := queuetest.Open(t, r, ep)
	const events = 20_000
	queuetest.AppendEvents(t, q, 0, events, 500, queuetest.KeyModulo(100))
	client := queuetest.Client(t, r)
	full := func() int64 {
		n, err := strconv.ParseInt(client.InfoMap(t.Context(), "memory").Item("Memory", "used_memory"), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := full()
	if err := client.ConfigSet(t.Context(), "maxmemory", "1").Err(); err != nil {
		t.Fatal(err)
	}
	sink := newReceiver()
	sink.answer = func(_ context.Context, _ *endpoint.Endpoint, m *webhook.Message, _ int) webhook.Outcome {
		if m.Key == "k7" {
			return status(500)
		}
		return delivered()
	}
	startDispatcher(t, q, sink, dispatch.Options{Log: true, KeepEvents: true}, ep)
	queuetest.Drained(t, q, "a")
	s := statsOf(t, q, "a")
	const attempts, most = events + events/100, 200_000 / 64
	if s.LogRecords > most || s.LogRecords < most/2 || s.LogRecords+s.LogLost != attempts {
		t.Errorf("%d records wait and %d are lost, want up to %d of %d kept", s.LogRecords, s.LogLost, most, attempts)
	}
	if s.Dead != events/100 {
		t.Errorf("%d dead letters, want %d", s.Dead, events/100)
	}
	if after := full(); after >= before {
		t.Errorf("Redis held %d bytes before the deliveries and %d after", before, after)
	}
}

// Without the option nothing is written.
func TestNoLogUnlessWanted(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a"}
	q := queuetest.Open(t, r, ep)
	sink := newReceiver()
	startDispatcher(t, q, sink, dispatch.Options{}, ep)
	queuetest.AppendEvents(t, q, 0, 10, 5, queuetest.KeyModulo(3))
	queuetest.Drained(t, q, "a")
	if n := queuetest.Client(t, r).Exists(t.Context(), "gancho:{a}:log", "gancho:{a}:state").Val(); n != 0 {
		t.Error("there is a log")
	}
}

// Each event of a list has a record of its own, which says which event it was.
func TestListsAreLogged(t *testing.T) {
	t.Parallel()
	r := queuetest.StartRedis(t)
	ep := endpoint.Endpoint{Name: "a", Batch: endpoint.Batching{Max: 4}, Retry: ms(), RetryRefused: ms()}
	q := queuetest.Open(t, r, ep)
	queuetest.AppendEvents(t, q, 0, 40, 40, queuetest.KeyModulo(3))
	sink := newReceiver()
	sink.answerList = func(_ context.Context, _ *endpoint.Endpoint, list []*webhook.Message, _ int) webhook.Outcome {
		for _, m := range list {
			if number(m.ID) == 37 {
				return answer(422, webhook.Refused)
			}
		}
		return delivered()
	}
	_, stop := startDispatcher(t, q, sink, dispatch.Options{Log: true, KeepEvents: true}, ep)
	queuetest.Drained(t, q, "a")
	stop()
	records, _ := logged(t, q, "a", 40)
	last := map[int]string{}
	for _, l := range records {
		if l.Kept == nil {
			continue
		}
		i := number(l.WebhookID)
		if id := l.Kept.ID; last[i] != "" || id != l.WebhookID || l.Entry != entryID(i) {
			t.Errorf("event %d, %s after %q: entry %s, kept %s", i, l.Outcome, last[i], l.Entry, id)
		}
		last[i] = l.Outcome
	}
	if len(last) != 40 || last[37] != queue.OutcomeDead || last[36] != "delivered" {
		t.Errorf("the ends of %d events are in the log, of 37 %q, of 36 %q; want 40, a dead one and a delivered one", len(last), last[37], last[36])
	}
}

// entryID is the place of the i-th event of a test.
func entryID(i int) string { return fmt.Sprintf("%d-0", uint64(1)<<52|queuetest.LSN(i)) }
