package main_test

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"github.com/redis/go-redis/v9"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/testservers"
)

// noonZone is a time zone, without summer time, in which it is about noon: no test's day ends within it.
func noonZone() string {
	offset := 12 - time.Now().UTC().Hour() // Etc/GMT-3 is three hours east
	return fmt.Sprintf("Etc/GMT%+d", -offset)
}

// moveTallies has what was counted of today, under the keys of a pattern, be of the day before.
func moveTallies(t *testing.T, c *redis.Client, pattern string) {
	t.Helper()
	keys, err := c.Keys(t.Context(), pattern).Result()
	if err != nil || len(keys) == 0 {
		t.Fatal(keys, err)
	}
	slices.Sort(keys) // a key's new name is never that of one that has not moved
	for _, key := range keys {
		at := strings.LastIndexByte(key, ':') + 1
		n, err := strconv.Atoi(key[at:])
		if err != nil {
			t.Fatal(err)
		}
		day := 1 // an endpoint's counts have a key for each day, and those of the capture one for each interval
		if strings.Contains(key, ":source}") {
			day = int(24 * time.Hour / queue.TallyInterval)
		}
		if err := c.Rename(t.Context(), key, key[:at]+strconv.Itoa(n-day)).Err(); err != nil {
			t.Fatal(err)
		}
	}
}

// toYesterday moves what was kept of today, of a world whose bridge is stopped, to the day before.
func (w *world) toYesterday() {
	w.t.Helper()
	w.exec("update gancho.attempts set committed = committed - interval '1 day'")
	w.exec("update gancho.dead_letters set committed = committed - interval '1 day'")
	c := w.redisClient()
	moveTallies(w.t, c, "gancho:{*}:tally:*")
	waiting, err := c.XRange(w.t.Context(), "gancho:{c}:q", "-", "+").Result()
	if err != nil || len(waiting) == 0 {
		w.t.Fatal(len(waiting), err)
	}
	c.Del(w.t.Context(), "gancho:{c}:q")
	for _, e := range waiting {
		committed, rest, _ := strings.Cut(fmt.Sprint(e.Values["c"]), " ")
		micros, err := strconv.ParseInt(committed, 10, 64)
		if err != nil {
			w.t.Fatal(err)
		}
		e.Values["c"] = fmt.Sprint(micros-(24*time.Hour).Microseconds(), " ", rest)
		if err := c.XAdd(w.t.Context(), &redis.XAddArgs{Stream: "gancho:{c}:q", ID: e.ID, Values: e.Values}).Err(); err != nil {
			w.t.Fatal(err)
		}
	}
}

// closingsOf are the closings that a receiver has, by their day; each may have come more than once.
func closingsOf(t *testing.T, all []arrival) (byDay map[string]control.ClosingData, ids map[string]bool) {
	t.Helper()
	byDay, ids = map[string]control.ClosingData{}, map[string]bool{}
	for _, a := range all {
		if a.event != "gancho.closing" {
			continue
		}
		var body struct{ Data control.ClosingData }
		if err := json.Unmarshal(a.body, &body); err != nil {
			t.Fatal(err)
		}
		if other, ok := byDay[string(body.Data.Day)]; ok {
			if diff := cmp.Diff(other, body.Data); diff != "" {
				t.Errorf("two closings of a day differ: %s", diff)
			}
		}
		byDay[string(body.Data.Day)], ids[a.id] = body.Data, true
	}
	return byDay, ids
}

// compared is what a receiver computes of what it has of a day, as docs/receivers.md shows it.
func compared(all []arrival) []control.ClosingEvent {
	ids := map[string][]string{}
	for _, a := range all {
		if !strings.HasPrefix(a.event, "gancho.") && !slices.Contains(ids[a.event], a.id) {
			ids[a.event] = append(ids[a.event], a.id)
		}
	}
	out := []control.ClosingEvent{}
	for event, of := range ids {
		slices.Sort(of)
		sum := sha256.Sum256([]byte(strings.Join(of, "\n")))
		out = append(out, control.ClosingEvent{Event: event, Count: int64(len(of)), Digest: hex.EncodeToString(sum[:])})
	}
	slices.SortFunc(out, func(a, b control.ClosingEvent) int { return strings.Compare(a.Event, b.Event) })
	return out
}

// TestClosingOfHalfHours: where midnight is within an hour of UTC, events before and after it are counted together, and the closing
// has those before it. It becomes due while two bridges run, and is sent once, also when the one that has sent it is killed.
func TestClosingOfHalfHours(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	zone := halfHourZone(t)
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	w.source, w.extra = "  timezone: "+zone.String(), "state: {key: '"+stateKey+"'}"
	r := newReceiver(t, nil)
	due := time.Now().In(zone).Add(90 * time.Second)
	w.endpoint("a", r.url(), "closing: daily "+due.Format("15:04"))
	b := w.run()
	w.exec("insert into eventos (cliente_id, seq) select 1, i from generate_series(1, 7) i")
	w.exec("insert into eventos (cliente_id, seq) select 2, i from generate_series(1, 5) i")
	r.waitCount(12)
	c := w.redisClient()
	queuetest.Eventually(t, "the events to be stored and counted", func() bool {
		return c.XLen(t.Context(), "gancho:{a}:q").Val()+c.XLen(t.Context(), "gancho:{a}:log").Val() == 0
	})
	b.stop()
	year, month, day := time.Now().In(zone).Date()
	midnight := time.Date(year, month, day, 0, 0, 0, 0, zone)
	w.toInterval(midnight)
	w.exec("update gancho.attempts set committed = case key when '1' then $1::timestamptz else $2::timestamptz end", midnight.Add(-10*time.Minute), midnight.Add(10*time.Minute))
	if err := c.HSet(t.Context(), "gancho:{a}:state", "closed", midnight.AddDate(0, 0, -2).Format(time.DateOnly)).Err(); err != nil {
		t.Fatal(err)
	}
	b = w.run()
	other := w.start("run", "--config", w.write())
	other.waitLog("serving health and metrics")
	hasClosing := func(all []arrival) bool { byDay, _ := closingsOf(t, all); return len(byDay) > 0 }
	r.waitFor(4*queuetest.Patience, "the closing", hasClosing)
	b.kill()
	other.waitLog("bridge is ready")
	w.exec("insert into eventos (cliente_id, seq) values (1, 8)")
	all := r.waitFor(queuetest.Patience, "an event after the kill", func(all []arrival) bool { return len(distinct(ofKey(all, "1"))) == 8 })
	byDay, ids := closingsOf(t, all)
	got := byDay[midnight.AddDate(0, 0, -1).Format(time.DateOnly)]
	if len(byDay) != 1 || len(ids) != 1 || !got.Complete || got.Count != 7 || got.Missing != 0 || !got.To.Equal(midnight) {
		t.Errorf("closings %+v under %v", byDay, ids)
	}
	if diff := cmp.Diff(compared(ofKey(all[:12], "1")), got.Events); diff != "" {
		t.Errorf("the receiver finds a difference: %s", diff)
	}
	other.stop()
}

// TestClosing closes two days, after an outage, of which events became dead letters, were sent again, wait, are superseded, and are
// missing in the log, with kills of the bridge and Redis around it: each receiver has one closing of each day, after
// the day's events, and it says what the receiver counts itself.
func TestClosing(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = proveRules
	w.source, w.extra = "  timezone: "+noonZone(), "state: {key: '"+stateKey+"', keep_events: 7d}"
	zone, err := time.LoadLocation(noonZone())
	if err != nil {
		t.Fatal(err)
	}
	day := func(back int) string { return time.Now().In(zone).AddDate(0, 0, -back).Format(time.DateOnly) }
	closing, hold := make(chan struct{}, 100), make(chan struct{})
	a := newReceiver(t, func(out http.ResponseWriter, got arrival) {
		if got.event == "gancho.closing" {
			closing <- struct{}{}
			<-hold
		}
		if seq, err := strconv.Atoi(got.field("seq")); err == nil && seq%5 == 0 && got.event == "evento.par" && !got.replay {
			out.Header().Set("webhook-delivery", "abort")
			out.WriteHeader(http.StatusTeapot)
		}
	})
	lacking, waiting := newReceiver(t, nil), newReceiver(t, nil)
	w.endpoint("a", a.url(), "closing: daily 00:10")
	w.endpoint("b", lacking.url(), "closing: daily 00:05", "events: [evento.lote]")
	w.endpoint("c", waiting.url(), "closing: daily 00:01", "events: [evento.par]", "state: paused", "compact: key")
	b := w.run()
	for i := range 40 {
		w.exec("insert into eventos (cliente_id, seq) values ($1, $2)", i%3, i)
	}
	const given = 40 + 20 + 26 + 40 // of each rule: all, the even ones, those not divisible by 3, all
	a.waitCount(given)
	lacking.waitCount(40)
	if code, _, stderr := command(t, "resend", "--endpoint", "a", "--from", "1h", "--config", w.write(), "--wait"); code != 0 {
		t.Fatal(code, stderr) // what is sent again is in the closing once
	}
	c := w.redisClient()
	queuetest.Eventually(t, "the day to be stored and counted", func() bool {
		left := c.XLen(t.Context(), "gancho:{a}:x").Val()
		for _, name := range []string{"a", "b"} {
			for _, of := range []string{"q", "log", "dead"} {
				left += c.XLen(t.Context(), "gancho:{"+name+"}:"+of).Val()
			}
		}
		return left == 0
	})
	b.stop()
	w.toYesterday()
	w.exec("delete from gancho.attempts where ctid in (select ctid from gancho.attempts where endpoint = 'b' limit 1)")
	for _, name := range []string{"a", "b", "c"} { // since then there was an outage
		if err := c.HSet(t.Context(), "gancho:{"+name+"}:state", "closed", day(3)).Err(); err != nil {
			t.Fatal(err)
		}
	}
	for range 3 { // killed while a closing is sent
		b = w.run()
		select {
		case <-closing:
		case <-b.done:
			t.Fatal("the bridge ended")
		case <-t.Context().Done():
			t.Fatal(context.Cause(t.Context()))
		}
		b.kill()
	}
	w.redis.Kill()
	if err := w.redis.Start(); err != nil {
		t.Fatal(err)
	}
	close(hold)
	b = w.run()
	moved := time.Now()
	w.exec("insert into eventos (cliente_id, seq) values (1, 1)") // of today
	ofYesterday := func(r *receiver) []arrival {
		return slices.DeleteFunc(slices.Clone(arrivalsOf(r)), func(got arrival) bool { return r == a && got.event != "gancho.closing" && got.at.After(moved) })
	}
	twoDays := func(r *receiver, count int64, complete bool) []control.ClosingEvent {
		t.Helper()
		all := r.waitFor(2*time.Minute, "the closings", func(all []arrival) bool {
			byDay, _ := closingsOf(t, all)
			return len(byDay) == 2
		})
		byDay, ids := closingsOf(t, all)
		if len(ids) != 2 {
			t.Errorf("%d webhook-ids of the closings of 2 days: %v", len(ids), ids)
		}
		got := byDay[day(1)]
		if got.Count != count || got.Complete != complete {
			t.Errorf("yesterday: %+v, want %d events, complete %t", got, count, complete)
		}
		if empty := byDay[day(2)]; !empty.Complete || empty.Count != 0 || len(empty.Events) != 0 {
			t.Errorf("the day without events: %+v", empty)
		}
		if !complete {
			if got.Missing != 1 {
				t.Errorf("%d are missing, not the one that was deleted", got.Missing)
			}
			return got.Events
		}
		all = ofYesterday(r)
		of := slices.IndexFunc(all, func(a arrival) bool { return a.event == "gancho.closing" && a.field("day") == day(1) })
		if diff := cmp.Diff(compared(all[:of]), got.Events); diff != "" {
			t.Errorf("a receiver finds a difference: %s", diff)
		}
		return got.Events
	}
	twoDays(a, given, true)
	w.compareAsDocumented(ofYesterday(a))
	twoDays(lacking, 39, false)
	_, stdout, stderr := command(t, "status", "--config", w.write())
	if !strings.Contains(stdout, "of endpoint b: that of "+day(1)+" is not of the whole day (missing in the delivery log: 1)") || !strings.Contains(stderr, "the newest closing of endpoint b is incomplete") ||
		strings.Contains(stderr, "endpoint a ") {
		t.Errorf("status of an incomplete closing:\n%s%s", stdout, stderr)
	}
	b.waitLog("closing waits until every event of the day")
	if byDay, _ := closingsOf(t, arrivalsOf(waiting)); len(byDay) != 0 {
		t.Errorf("closings of days whose events wait: %v", byDay)
	}
	b.stop()
	w.endpoints[2] = strings.Replace(w.endpoints[2], "state: paused", "state: active", 1)
	b = w.run()
	twoDays(waiting, 3, true) // of three keys; the other events are superseded
	b.stop()
}

func arrivalsOf(r *receiver) []arrival {
	all, _ := r.snapshot()
	return all
}

// compareAsDocumented has a receiver compare as docs/receivers.md shows it: with all events, and without one.
func (w *world) compareAsDocumented(all []arrival) {
	w.t.Helper()
	text, err := os.ReadFile("../../docs/receivers.md")
	if err != nil {
		w.t.Fatal(err)
	}
	_, query, found := strings.Cut(string(text), "\n### Comparison\n")
	_, query, opened := strings.Cut(query, "```sql\n")
	query, _, closed := strings.Cut(query, "```")
	if !found || !opened || !closed {
		w.t.Fatal("docs/receivers.md has no comparison")
	}
	w.exec("create table eventos_recebidos (webhook_id text primary key, evento text, ocorrido_em timestamptz); create table fechamentos (dados jsonb)")
	days := map[string]bool{}
	for _, a := range all {
		var body struct {
			Timestamp time.Time
			Data      json.RawMessage
		}
		if err := json.Unmarshal(a.body, &body); err != nil {
			w.t.Fatal(err)
		}
		switch {
		case a.event == "gancho.closing":
			if day := a.field("day"); !days[day] {
				days[day] = true
				w.exec("insert into fechamentos values ($1)", body.Data)
			}
		default: // of the day before, to which what Gancho keeps was moved
			w.exec("insert into eventos_recebidos values ($1, $2, $3) on conflict do nothing", a.id, a.event, body.Timestamp.AddDate(0, 0, -1))
		}
	}
	differences := func() (out []string) {
		w.t.Helper()
		rows, _ := w.connect().Query(w.t.Context(), query) // ForEachRow returns its error
		var day, event string
		var sent, received int
		if _, err := pgx.ForEachRow(rows, []any{&day, &event, &sent, &received}, func() error {
			out = append(out, fmt.Sprint(event, " ", sent, " ", received))
			return nil
		}); err != nil {
			w.t.Fatal(err)
		}
		return out
	}
	if got := differences(); len(got) != 0 {
		w.t.Errorf("the documented comparison finds %q", got)
	}
	w.exec("delete from eventos_recebidos where webhook_id = (select min(webhook_id) from eventos_recebidos where evento = 'evento.par')")
	if got := differences(); !slices.Equal(got, []string{"evento.par 20 19"}) {
		w.t.Errorf("the documented comparison finds %q of one that is missing", got)
	}
}
