package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/webhook"
	"gancho/mapping"
)

// A timer whose event cannot be computed when it is due is parked: it stays where timers are, never due, so that a change of the row moves or cancels
// it as any other, and a set has its id, a hash what is known of its failure. The hash's empty field has the id of the one that has failed last.

const (
	// failuresTold is how many timers that have failed have their reasons in Redis: some 600 bytes each, and maxReason for the reason at most. Those that
	// fail while there are as many are kept without, in some 400: without room for events, capture stands still.
	failuresTold = 100_000
	maxReason    = 1 << 10
	// untoldReason is the reason of these.
	untoldReason = "100,000 parked timers have their reasons in redis's memory, and that of this one was not kept; redrive or drop some, then this one"
)

// TimerFailure is why the event of a timer cannot be computed.
type TimerFailure struct {
	Event  string `json:"event,omitempty"`
	Place  string `json:"place"` // file:line of the rule
	Table  string `json:"table,omitempty"`
	Reason string `json:"reason,omitempty"` // without row data
	// At is when the timer failed.
	At time.Time `json:"at"`
}

// failedTimer is what the hash of failures has of one.
type failedTimer struct {
	TimerFailure
	Rule string `json:"rule"`
	Key  []byte `json:"key"`
	Due  int64  `json:"due"` // in microseconds since 1970
}

// failureText is what the hash of failures gets; brief: without what its rule says as well, and the reason.
func (f *FiredTimer) failureText(brief bool) []byte {
	of := failedTimer{TimerFailure: *f.Failure, Rule: f.Rule, Key: f.Key, Due: f.Due.UnixMicro()}
	if len(of.Reason) > maxReason {
		of.Reason = strings.ToValidUTF8(of.Reason[:maxReason], "") + "…"
	}
	if brief {
		of.Event, of.Table, of.Reason = "", "", ""
	}
	text, _ := json.Marshal(of) // of strings, numbers and a time of our clock
	return text
}

// complete fills in what a brief text does not have. A rule's identity is its table, a number and its event.
func (f *failedTimer) complete() {
	if f.Reason != "" {
		return
	}
	f.Reason = untoldReason
	rest, event := cutLast(f.Rule)
	f.Event = event
	f.Table, _ = cutLast(rest)
}

// cutLast cuts a text around its last space.
func cutLast(text string) (before, after string) {
	i := max(0, strings.LastIndexByte(text, ' '))
	return text[:i], strings.TrimPrefix(text[i:], " ")
}

// briefly reports whether those of the timers that have failed are to be kept without their reasons.
func (q *Queue) briefly(ctx context.Context, fired []FiredTimer) (bool, error) {
	if !slices.ContainsFunc(fired, func(f FiredTimer) bool { return f.Failure != nil }) {
		return false, nil
	}
	ids, _ := q.keys.failedKeys()
	n, err := q.client.ZCard(ctx, ids).Result()
	return n >= q.failuresTold, err
}

// failedKeys are the keys of the timers that have failed: their ids, and what is known of each.
func (k keyspace) failedKeys() (ids, failures string) {
	return k.timersDue() + "failed", k.timersDue() + "failures"
}

// failedIDs are ids of timers that have failed, after one (zero: from the first), in order; at most a page.
func (q *Queue) failedIDs(ctx context.Context, after ID) ([]string, error) {
	ids, _ := q.keys.failedKeys()
	from := "-"
	if !after.IsZero() {
		from = "(" + string(after.Bytes())
	}
	return q.client.Do(ctx, "ZRANGEBYLEX", ids, from, "+", "LIMIT", 0, parkedPage).StringSlice()
}

// failedTimers reads the timers that have failed under ids; those that are healed meanwhile are left out.
func (q *Queue) failedTimers(ctx context.Context, ids []string) (map[ID]failedTimer, error) {
	if len(ids) == 0 {
		return nil, nil
	}
	_, failures := q.keys.failedKeys()
	texts, err := q.client.HMGet(ctx, failures, ids...).Result()
	if err != nil {
		return nil, err
	}
	out := map[ID]failedTimer{}
	for i, id := range ids {
		s, is := texts[i].(string)
		if !is {
			continue
		}
		var f failedTimer
		if err := json.Unmarshal([]byte(s), &f); err != nil {
			return nil, fmt.Errorf("parse the failure of a timer: %w", err)
		}
		f.complete()
		out[IDFromBytes([]byte(id))] = f
	}
	return out, nil
}

// addFailures adds to those of timers that are parked why they are.
func (q *Queue) addFailures(ctx context.Context, timers []PendingTimer) error {
	var ids []string
	for i := range timers {
		if timers[i].Due.IsZero() {
			ids = append(ids, string(timers[i].ID.Bytes()))
		}
	}
	failed, err := q.failedTimers(ctx, ids)
	for i := range timers {
		if f, is := failed[timers[i].ID]; is && timers[i].Due.IsZero() {
			timers[i].Reason = f.Reason
		}
	}
	return annotate(err, "read why the timers of a row are parked")
}

// readFailed reads some of the timers that are parked after an id, as parked changes; none: there are none.
func (q *Queue) readFailed(ctx context.Context, after, last ID) ([]ParkedChange, error) {
	for {
		ids, err := q.failedIDs(ctx, after)
		if err != nil || len(ids) == 0 {
			return nil, annotate(err, "read parked timers")
		}
		failed, err := q.failedTimers(ctx, ids)
		if err != nil {
			return nil, annotate(err, "read parked timers")
		}
		var out []ParkedChange
		for _, text := range ids {
			after = IDFromBytes([]byte(text))
			f, is := failed[after]
			switch {
			case !last.IsZero() && after.Compare(last) > 0:
				return out, nil
			case !is:
				continue
			}
			p := ParkedChange{
				ID: after, Type: f.Event, Rule: f.Place, Table: f.Table, Operation: webhook.OpTimer, Reason: f.Reason,
				Time: time.UnixMicro(f.Due).UTC(), Redrivable: true, RowKey: strings.Join(mapping.DecodeKey(f.Key), ","), identity: f.Rule, failed: f.At,
			}
			if p.WebhookID, err = q.parkedWebhookID(ctx, after); err != nil {
				return nil, err
			}
			out = append(out, p)
		}
		if len(out) > 0 {
			return out, nil
		}
	}
}

// NewestFailedTimer returns the timer that has been parked last, and when; zero: none is parked, or it is no longer.
func (q *Queue) NewestFailedTimer(ctx context.Context) (ID, time.Time, error) {
	_, failures := q.keys.failedKeys()
	newest, err := q.client.HMGet(ctx, failures, "").Result()
	if err != nil || len(newest) != 1 {
		return ID{}, time.Time{}, annotate(err, "read which timer was parked last")
	}
	id, _ := newest[0].(string)
	if id == "" {
		return ID{}, time.Time{}, nil
	}
	failed, err := q.failedTimers(ctx, []string{id})
	of := IDFromBytes([]byte(id))
	f, is := failed[of]
	if err != nil || !is {
		return ID{}, time.Time{}, annotate(err, "read which timer was parked last")
	}
	return of, f.At, nil
}

// healTimersScript makes parked timers due at their times again, or removes them where there is no time, and returns how many it was. ARGV: behind the token, which
// is not compared, of each its rule, member, id and time. What it does first when it removes, a full Redis allows.
var healTimersScript = redis.NewScript(timerBuckets + `
local n = 0
for i = 2, #ARGV, 4 do
  local rule, member, id, due = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local hash, field = place(rule, member)
  if redis.call('ZSCORE', failed, id) then
    if string.sub(redis.call('HGET', hash, field) or '', 1, 16) == id then
      if due == '' then
        redis.call('ZREM', sorted(rule), member)
        redis.call('HDEL', hash, field)
      else
        redis.call('ZADD', sorted(rule), due, member)
      end
      n = n + 1
    end
    heal(id)
  end
end
return n`)

// RedriveTimers makes parked timers due again, at their times, and returns how many there were: who captures fires them then, by its rules. Anybody may call it.
func (q *Queue) RedriveTimers(ctx context.Context, ids []ID) (int64, error) {
	n, err := q.healTimers(ctx, ids, func(f *failedTimer) any { return f.Due })
	return n, annotate(err, "have parked timers fired again")
}

// dropTimers removes parked timers, and returns how many there were.
func (q *Queue) dropTimers(ctx context.Context, ids []ID) (int64, error) {
	return q.healTimers(ctx, ids, func(*failedTimer) any { return "" })
}

func (q *Queue) healTimers(ctx context.Context, ids []ID, due func(*failedTimer) any) (n int64, err error) {
	for part := range slices.Chunk(ids, timersTurn) {
		texts := make([]string, len(part))
		for i, id := range part {
			texts[i] = string(id.Bytes())
		}
		failed, err := q.failedTimers(ctx, texts)
		if err != nil || len(failed) == 0 {
			if err != nil {
				return n, err
			}
			continue
		}
		_, keys, err := q.timerKeys(ctx)
		if err != nil {
			return n, err
		}
		args := []any{0}
		for _, id := range part {
			if f, is := failed[id]; is {
				args = append(args, f.Rule, member(f.Key), id.Bytes(), due(&f))
			}
		}
		healed, err := healTimersScript.Run(ctx, q.client, keys, args...).Int64()
		if n += healed; err != nil {
			return n, err
		}
	}
	return n, nil
}
