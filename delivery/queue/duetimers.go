package queue

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/webhook"
	"gancho/mapping"
)

// PendingTimer is one that waits, or is due.
type PendingTimer struct {
	ID   ID // of the change that set it: the webhook-id of its event
	Rule string
	Key  []byte
	Due  time.Time // zero: its event could not be computed when it was due, and it is parked
	// Reason is why it is parked, of RowTimers.
	Reason string
}

// FiredTimer is one that is due, with its event.
type FiredTimer struct {
	PendingTimer
	// Endpoints get the message; none: the timer is only removed.
	Endpoints []string
	Message   webhook.Message
	// Failure has the timer be parked instead.
	Failure *TimerFailure
}

// TimerCount is how many timers of a rule are pending, when the first of them is due (zero: none is pending), and how many are parked.
type TimerCount struct {
	Pending int64
	Next    time.Time
	Failed  int64
}

// headsOfTimers begins a script that goes through the timers of several rules in the order of the times: heads are the rules with
// timers, each with when the first is due, and how many have been passed. ARGV: behind the token and two others, rules, which are left out
// (ARGV[4] is -), or the only ones.
const headsOfTimers = fencedTimers + `
local named = {}
for i = 5, #ARGV do named[ARGV[i]] = true end
local heads = {}
for _, rule in ipairs(redis.call('HKEYS', KEYS[2])) do
  if (ARGV[4] == '-') ~= (named[rule] or false) then
    local first = redis.call('ZRANGE', sorted(rule), 0, 0, 'WITHSCORES')
    if #first > 0 then heads[#heads + 1] = {rule = rule, at = tonumber(first[2]), from = 0} end
  end
end
`

// dueTimersScript returns timers that are due up to a time, in order, each as its rule, member, time, and id and key. ARGV[2] is the
// time, ARGV[3] how many.
var dueTimersScript = redis.NewScript(headsOfTimers + `
local upTo, most, out = tonumber(ARGV[2]), tonumber(ARGV[3]), {}
while #out < 4 * most do
  local first, limit
  for _, h in ipairs(heads) do
    if h.at and h.at <= upTo then
      if not first or h.at < first.at then first, limit = h, first and first.at or limit
      elseif not limit or h.at < limit then limit = h.at end
    end
  end
  if not first then break end
  limit = limit or upTo
  local chunk = redis.call('ZRANGE', sorted(first.rule), first.from, first.from + math.min(64, most - #out / 4) - 1, 'WITHSCORES')
  first.at = nil
  for i = 1, #chunk, 2 do
    local at = tonumber(chunk[i + 1])
    if at > limit then
      first.at = at
      break
    end
    out[#out + 1] = first.rule
    out[#out + 1] = chunk[i]
    out[#out + 1] = chunk[i + 1]
    out[#out + 1] = redis.call('HGET', place(first.rule, chunk[i])) or ''
    first.from = first.from + 1
  end
  if not first.at then
    local rest = redis.call('ZRANGE', sorted(first.rule), first.from, first.from, 'WITHSCORES')
    first.at = rest[2] and tonumber(rest[2])
  end
end
return out`)

// fireTimersScript queues the events of timers and removes them, each unless it has another id by now. KEYS: behind the others, the side
// streams. ARGV: behind the token, for each its rule, member and id, how many streams get it, their numbers, how many fields
// and values the message has, and they; or, of one that is parked, -1 and its failure. The first write is one that a full Redis refuses.
var fireTimersScript = redis.NewScript(fencedTimers + `
local i, fired = 2, 0
while i <= #ARGV do
  local rule, member, id, streams = ARGV[i], ARGV[i + 1], ARGV[i + 2], tonumber(ARGV[i + 3])
  local hash, field = place(rule, member)
  local is = string.sub(redis.call('HGET', hash, field) or '', 1, 16) == id
  local from, n = i + 5 + streams, 0
  if streams < 0 then
    from = i + 5
    if is then
      redis.call('ZADD', sorted(rule), '+inf', member)
      redis.call('ZADD', failed, 0, id)
      redis.call('HSET', failures, id, ARGV[i + 4], '', id)
    end
  else
    n = tonumber(ARGV[i + 4 + streams])
  end
  if is and streams >= 0 then
    for s = 1, streams do redis.call('XADD', KEYS[4 + ARGV[i + 3 + s]], '*', unpack(ARGV, from, from + n - 1)) end
    redis.call('ZREM', sorted(rule), member)
    redis.call('HDEL', hash, field)
    fired = fired + 1
  end
  i = from + n
end
return fired`)

// WhichTimers chooses the timers of rules: of all but some, or of some alone.
type WhichTimers struct {
	But  []string
	Only []string // if there are any, But is not regarded
}

func (w *WhichTimers) args() []any {
	rules, how := w.But, "-"
	if len(w.Only) > 0 {
		rules, how = w.Only, "+"
	}
	args := []any{how}
	for _, r := range rules {
		args = append(args, r)
	}
	return args
}

// DueTimers returns up to most of the timers that are due at a time, in order; at most a page. Its errors are those of ApplyTimers.
func (q *Queue) DueTimers(ctx context.Context, at time.Time, which WhichTimers, most int) (due []PendingTimer, err error) {
	run, keys, err := q.timerKeys(ctx)
	var found []string
	if err == nil {
		args := append([]any{q.Token(), at.UnixMicro(), min(most, timersPage)}, which.args()...)
		found, err = dueTimersScript.Run(ctx, run, keys, args...).StringSlice()
	}
	if err != nil {
		return nil, timersError(err, "read timers")
	}
	for f := range slices.Chunk(found, 4) {
		t, err := parseTimer(f)
		if err != nil {
			return nil, err
		}
		due = append(due, t)
	}
	return due, nil
}

// dueTime is when a timer with a score is due; zero: it is parked.
func dueTime(score string) (time.Time, error) {
	micros, err := strconv.ParseFloat(score, 64)
	switch {
	case err != nil:
		return time.Time{}, errEntry
	case math.IsInf(micros, 0):
		return time.Time{}, nil
	}
	return time.UnixMicro(int64(micros)).UTC(), nil
}

// parseTimer parses rule, member, score, and id and key.
func parseTimer(f []string) (PendingTimer, error) {
	const idLen = 16
	t := PendingTimer{Rule: f[0], Key: []byte(f[1])}
	if len(f[3]) < idLen {
		return t, errEntry
	}
	t.ID = IDFromBytes([]byte(f[3][:idLen]))
	if key := f[3][idLen:]; key != "" {
		t.Key = []byte(key)
	}
	var err error
	t.Due, err = dueTime(f[2])
	return t, err
}

// Timers counts the timers of rules, as far as they have been applied: also those whose rule is gone. Anybody may call it.
func (q *Queue) Timers(ctx context.Context) (map[string]TimerCount, error) {
	numbers, err := q.client.HGetAll(ctx, q.keys.timerRules()).Result()
	if err != nil {
		return nil, annotate(err, "count timers")
	}
	pipe := q.client.Pipeline()
	all, failed, first := map[string]*redis.IntCmd{}, map[string]*redis.IntCmd{}, map[string]*redis.ZSliceCmd{}
	for rule, n := range numbers {
		key := q.keys.timersDue() + n
		all[rule], failed[rule], first[rule] = pipe.ZCard(ctx, key), pipe.ZCount(ctx, key, "+inf", "+inf"), pipe.ZRangeWithScores(ctx, key, 0, 0)
	}
	if len(numbers) > 0 {
		if _, err := pipe.Exec(ctx); err != nil {
			return nil, annotate(err, "count timers")
		}
	}
	out := map[string]TimerCount{}
	for rule := range numbers {
		heads := first[rule].Val()
		if len(heads) == 0 {
			continue
		}
		count := TimerCount{Pending: all[rule].Val() - failed[rule].Val(), Failed: failed[rule].Val()}
		if count.Pending > 0 && !math.IsInf(heads[0].Score, 0) {
			count.Next = time.UnixMicro(int64(heads[0].Score)).UTC()
		}
		out[rule] = count
	}
	return out, nil
}

// FireTimers queues the events of timers, and removes these, unless they were canceled or set again since DueTimers: each
// event is queued once, whatever answers are lost and processes die. In a cluster each endpoint gets its own once,
// durably, and then the timers are removed. Its errors are those of ApplyTimers, and ErrFull; part of them may
// be queued then.
func (q *Queue) FireTimers(ctx context.Context, fired []FiredTimer) error {
	var endpoints []string
	for i := range fired {
		for _, e := range fired[i].Endpoints {
			if !slices.Contains(endpoints, e) {
				endpoints = append(endpoints, e)
			}
		}
	}
	err := q.registerAll(ctx, endpoints)
	if err == nil && q.cluster != nil {
		if err = q.fireInSlots(ctx, endpoints, fired); err == nil {
			err = q.runFire(ctx, nil, fired)
		}
		if err == nil {
			q.forgetFired(ctx, endpoints, fired)
		}
	} else if err == nil {
		err = q.runFire(ctx, endpoints, fired)
	}
	for _, e := range endpoints {
		q.wakeSide(ctx, e)
	}
	return timersError(err, fmt.Sprintf("queue the events of %d timers", len(fired)))
}

func (q *Queue) registerAll(ctx context.Context, endpoints []string) error {
	if len(endpoints) == 0 {
		return nil
	}
	names := make([]any, len(endpoints))
	for i, e := range endpoints {
		names[i] = e
	}
	err := q.register(ctx, names...)
	if err == nil && q.cluster != nil { // who has taken over may not know one that is new
		err = q.comparesToken(ctx, q.Token())
	}
	return err
}

// runFire runs the script for those of the endpoints, in turns.
func (q *Queue) runFire(ctx context.Context, endpoints []string, fired []FiredTimer) error {
	run, keys, err := q.timerKeys(ctx)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		keys = append(keys, q.keys.side(e))
	}
	for turn := range slices.Chunk(fired, timersTurn) {
		brief, err := q.briefly(ctx, turn)
		if err != nil {
			return err
		}
		if err := fireTimersScript.Run(ctx, run, keys, fireArgs(q.Token(), endpoints, turn, brief)...).Err(); err != nil {
			return err
		}
	}
	return nil
}

// fireArgs are the arguments of fireTimersScript for those of the endpoints; brief: failures are kept without their reasons.
func fireArgs(token uint64, endpoints []string, fired []FiredTimer, brief bool) []any {
	args := []any{token}
	for i := range fired {
		f := &fired[i]
		args = append(args, f.Rule, member(f.Key), f.ID.Bytes())
		if f.Failure != nil {
			args = append(args, -1, f.failureText(brief))
			continue
		}
		var to []any
		for _, e := range f.Endpoints {
			if at := slices.Index(endpoints, e); at >= 0 {
				to = append(to, at+1)
			}
		}
		var fields []any
		if len(to) > 0 {
			fields = sideFields(&f.Message, false)
		}
		args = append(append(append(args, len(to)), to...), len(fields))
		args = append(args, fields...)
	}
	return args
}

func firedMark(f *FiredTimer) string { return "timer " + f.ID.String() }

// fireInSlotScript appends an event to one side stream, once, unless the stream's copy of the token is newer. KEYS: the side stream, the
// jobs' positions, the copy. ARGV: the mark, how long Redis keeps it, the token; 0: none was taken.
var fireInSlotScript = redis.NewScript(`
local newest = tonumber(ARGV[3])
if newest > 0 and tonumber(redis.call('GET', KEYS[3]) or '0') > newest then return redis.error_reply('FENCED by a newer token') end
if redis.call('HSETNX', KEYS[2], ARGV[1], '1') == 1 then redis.call('XADD', KEYS[1], '*', unpack(ARGV, 4)) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1`)

// fireInSlots queues the events of timers for the endpoints of a cluster, each once: Redis keeps a mark with it.
func (q *Queue) fireInSlots(ctx context.Context, endpoints []string, fired []FiredTimer) error {
	for _, e := range endpoints {
		err := q.Durably(ctx, e, func() error {
			for i := range fired {
				f := &fired[i]
				if !slices.Contains(f.Endpoints, e) {
					continue
				}
				args := append([]any{firedMark(f), jobAge.Milliseconds(), q.Token()}, sideFields(&f.Message, false)...)
				err := fireInSlotScript.Run(ctx, q.client, []string{q.keys.side(e), q.keys.jobs(e), q.keys.tokenOf(e)}, args...).Err()
				if err != nil {
					return unreachable(fenced(err))
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// forgetFired removes the marks of timers that were removed. What it leaves, Redis forgets a week after the last one.
func (q *Queue) forgetFired(ctx context.Context, endpoints []string, fired []FiredTimer) {
	for _, e := range endpoints {
		var marks []string
		for i := range fired {
			if slices.Contains(fired[i].Endpoints, e) {
				marks = append(marks, firedMark(&fired[i]))
			}
		}
		_ = q.client.HDel(ctx, q.keys.jobs(e), marks...).Err() // as above
	}
}

// rowTimersScript returns the timers that a member has by some rules, each as its rule, time, and id and key. ARGV: the member, the rules.
var rowTimersScript = redis.NewScript(timerBuckets + `
local out = {}
for i = 2, #ARGV do
  local rest = number(ARGV[i]) and redis.call('HGET', place(ARGV[i], ARGV[1]))
  local at = rest and redis.call('ZSCORE', sorted(ARGV[i]), ARGV[1])
  if at then
    out[#out + 1] = ARGV[i]
    out[#out + 1] = at
    out[#out + 1] = rest
  end
end
return out`)

// RowTimers returns the timers that a row has by some rules, as far as they have been applied; the key is as [mapping.TimerChange] has
// it. Anybody may call it.
func (q *Queue) RowTimers(ctx context.Context, rules []string, key []byte) (timers []PendingTimer, err error) {
	args := []any{member(key)}
	for _, r := range rules {
		args = append(args, r)
	}
	_, keys, err := q.timerKeys(ctx)
	var found []string
	if err == nil && len(rules) > 0 {
		found, err = rowTimersScript.Run(ctx, q.client, keys, args...).StringSlice()
	}
	if err != nil {
		return nil, timersError(err, "read the timers of a row")
	}
	for f := range slices.Chunk(found, 3) {
		t, err := parseTimer([]string{f[0], string(key), f[1], f[2]})
		if err != nil {
			return nil, err
		}
		timers = append(timers, t)
	}
	return timers, q.addFailures(ctx, timers)
}

// CountKeyTimers returns how many timers there are of rows whose primary key is the subject's key, of the events that the subject names. Whose rows they
// are nobody knows before they are read.
func (q *Queue) CountKeyTimers(ctx context.Context, s Subject) (n int, err error) {
	all, err := q.client.HKeys(ctx, q.keys.timerRules()).Result()
	if err != nil {
		return 0, annotate(err, "look for a key's timers")
	}
	rules := slices.DeleteFunc(all, func(rule string) bool { return !s.names(rule[strings.LastIndexByte(rule, ' ')+1:]) })
	asOne, parts := mapping.EncodeKey(s.Key), strings.Split(s.Key, ",")
	for _, key := range [][]byte{asOne, mapping.EncodeKey(parts...)} {
		if len(parts) == 1 && n > 0 {
			break // both are the same
		}
		found, err := q.RowTimers(ctx, rules, key)
		if err != nil {
			return n, err
		}
		n += len(found)
	}
	return n, nil
}
