package main_test

import (
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/testservers"
)

// zoneOfMidnight is a time zone in which midnight is at a time, which is of a whole hour.
func zoneOfMidnight(midnight time.Time) string {
	if hour := midnight.UTC().Hour(); hour > 12 {
		return fmt.Sprintf("Etc/GMT-%d", 24-hour) // to the east
	}
	return fmt.Sprintf("Etc/GMT+%d", midnight.UTC().Hour())
}

// TestClosingOverMidnight: of two bridges that run over midnight, under traffic, the active one is killed just after it. The day
// is closed once, with all of its events and none of the next day, behind them, also though both have seen midnight.
func TestClosingOverMidnight(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	midnight := time.Now().Truncate(time.Hour).Add(time.Hour)
	if os.Getenv("GANCHO_TEST_MIDNIGHT") == "" {
		t.Skipf("it waits for the next full hour, %s; GANCHO_TEST_MIDNIGHT=1 lets it", midnight.Format(time.TimeOnly))
	}
	w := newWorld(t, testservers.RedisOptions{}, loadTable)
	w.rules = loadRules
	w.source, w.extra = "  timezone: "+zoneOfMidnight(midnight), "state: {key: '"+stateKey+"'}"
	r := newReceiver(t, nil)
	w.endpoint("a", r.url(), "closing: daily 00:01")
	b := w.run()
	other := w.start("run", "--config", w.write())
	other.waitLog("serving health and metrics")
	start := time.NewTimer(time.Until(midnight.Add(-time.Minute))) // no more before midnight than is looked at
	select {
	case <-start.C:
	case <-b.done:
		t.Fatal("the bridge ended")
	}
	l := startLoad(t, w.dsn, 50*time.Millisecond)
	begun := time.NewTimer(time.Until(midnight.Add(time.Second)))
	select {
	case <-begun.C:
	case <-b.done:
		t.Fatal("the bridge ended")
	}
	b.kill()
	other.waitLog("bridge is ready")
	l.waitRows(20)
	rows := l.stop()
	all := r.waitFor(3*queuetest.Patience, "the closing", func(all []arrival) bool {
		byDay, _ := closingsOf(t, all)
		return len(byDay) > 0
	})
	byDay, ids := closingsOf(t, all)
	if len(byDay) != 1 || len(ids) != 1 {
		t.Fatalf("closings %v under %v", byDay, ids)
	}
	var before, after []arrival
	var closed bool
	for _, a := range all {
		if a.event == "gancho.closing" {
			closed = true
			continue
		}
		var body struct{ Timestamp time.Time }
		if err := json.Unmarshal(a.body, &body); err != nil {
			t.Fatal(err)
		}
		if !body.Timestamp.Before(midnight) {
			after = append(after, a)
			continue
		}
		if before = append(before, a); closed {
			t.Errorf("%s, of the day, arrived behind its closing", a.id)
		}
	}
	checkDelivery(t, append(before[:len(before):len(before)], after...), rows)
	for day, c := range byDay {
		if !c.Complete || !c.To.Equal(midnight) || len(before) == 0 || len(after) == 0 {
			t.Errorf("closing of %s: %+v; %d events before midnight at %s, %d after", day, c, len(before), midnight, len(after))
		}
		if diff := cmp.Diff(compared(before), c.Events); diff != "" {
			t.Errorf("the receiver finds a difference: %s", diff)
		}
	}
	t.Logf("%d events before midnight, %d after", len(before), len(after))
	other.stop()
}

// halfHourZone is a time zone whose offset is not of whole hours, in which it is day.
func halfHourZone(t *testing.T) *time.Location {
	t.Helper()
	for _, name := range []string{"Asia/Kolkata", "Pacific/Marquesas", "America/St_Johns"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		if hour := time.Now().In(zone).Hour(); hour >= 6 && hour < 20 {
			return zone
		}
	}
	t.Fatal("it is night everywhere")
	return nil
}

// toInterval moves what was counted, of a world whose bridge is stopped, to the hour of UTC of a time.
func (w *world) toInterval(at time.Time) {
	w.t.Helper()
	c, ctx := w.redisClient(), w.t.Context()
	n := at.Unix() / int64(queue.TallyInterval/time.Second)
	day := int64(24 * time.Hour / queue.TallyInterval)
	keys, err := c.Keys(ctx, "gancho:{*}:tally:*").Result()
	if err != nil {
		w.t.Fatal(err)
	}
	for _, key := range keys {
		prefix, to, fields := key[:strings.LastIndexByte(key, ':')+1], n, c.HGetAll(ctx, key).Val()
		c.Del(ctx, key)
		captured := strings.Contains(key, "{gancho:source}")
		if !captured {
			to = n / day
		}
		for field, value := range fields {
			if _, rest, _ := strings.Cut(field, ":"); !captured {
				field = strconv.FormatInt(n%day, 10) + ":" + rest
			}
			if count, err := strconv.ParseInt(value, 10, 64); err == nil && !strings.Contains(field, "first") && !strings.Contains(field, "last") {
				c.HIncrBy(ctx, prefix+strconv.FormatInt(to, 10), field, count) // an hour may have ended meanwhile
			} else {
				c.HSet(ctx, prefix+strconv.FormatInt(to, 10), field, value)
			}
		}
	}
}
