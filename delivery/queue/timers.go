package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/delivery/webhook"
	"gancho/mapping"
)

// What changes mean for timers is a stream beside that of the parked changes, which Append writes in the transaction that
// appends the events: under ids that are positions, so that a change that is read again changes nothing twice, and with
// all that is said of appends. The process that captures applies its entries, in order: a script takes them out of the
// stream, and sets, moves and removes members of two keys. In one, sorted, a timer's member, <rule>:<key>, has the time
// at which it is due, in microseconds; in the other it has the id of the change that has set it. What is due is
// queued by a script that removes it, and does so only while the id is the same: so each is queued once.

// PendingTimer is one that waits, or is due.
type PendingTimer struct {
	ID  ID // of the change that has set it: the webhook-id of its event
	N   int
	Key []byte
	Due time.Time
}

// FiredTimer is one that is due, with its event.
type FiredTimer struct {
	PendingTimer
	// Endpoints get the message; none: the timer is only removed.
	Endpoints []string
	Message   webhook.Message
}

// Timer adds what a change means for a timer.
func (b *Batch) Timer(t *mapping.TimerChange) error {
	id, err := b.next(&b.lastTimer, t.Position, t.N)
	if err != nil {
		return fmt.Errorf("add timer: %w", err)
	}
	rec := record{id: id, timer: true}
	rec.text, rec.micros = b.identify(id, t.Due)
	if t.Due.IsZero() {
		rec.micros = span{}
	}
	if t.Pending {
		rec.data = b.put([]byte("1"))
	}
	rec.key, rec.tenant = b.put(member(t.N, t.Key)), span{}
	if t.Former != nil {
		rec.tenant = b.put(member(t.N, t.Former))
	}
	b.records = append(b.records, rec)
	b.destinations = append(b.destinations, destination{len(b.records) - 1, b.q.appender.timers})
	return nil
}

// HasTimers reports whether something for timers was added.
func (b *Batch) HasTimers() bool { return !b.lastTimer.IsZero() }

// TimerWebhookID is the webhook-id of the event of a timer: its source is that of the change that has set it.
func (q *Queue) TimerWebhookID(ctx context.Context, id ID) (string, error) {
	source, err := q.sources.of(ctx, id.Epoch())
	return id.WebhookID(source), annotate(err, "name the event of a timer")
}

func member(n int, key []byte) []byte {
	return append(append(strconv.AppendInt(nil, int64(n), 10), ':'), key...)
}

// timerCommand appends an entry: the member, when it is due (empty: never), the id in 16 bytes, the former member, and
// whether only one that is pending is moved.
func timerCommand(key string, exists bool, b *Batch, rec *record) redis.Cmder {
	args := []any{"XADD", key}
	if exists {
		args = append(args, "NOMKSTREAM")
	}
	args = append(args, b.bytes(rec.text), "m", b.bytes(rec.key), "d", b.bytes(rec.micros), "i", rec.id.Bytes(),
		"f", b.bytes(rec.tenant), "p", b.bytes(rec.data))
	return redis.NewCmd(context.Background(), args...)
}

// timersPage is how many entries, or timers, one script takes.
const timersPage = 500

// fencedTimers begins the scripts of who captures: they do nothing under an older token. KEYS: the token, then what is due
// and which changes have set it. ARGV: the token; 0: none was taken.
const fencedTimers = `
if tonumber(ARGV[1]) > 0 and tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return redis.error_reply('FENCED by another token') end
`

// applyTimersScript applies entries, and returns how many. KEYS: behind the others, the stream. The first write is one that
// a full Redis allows: see ackScript. It frees more than it takes.
var applyTimersScript = redis.NewScript(fencedTimers + `
redis.call('XDEL', KEYS[4], '0-1')
local page, ids = redis.call('XRANGE', KEYS[4], '-', '+', 'COUNT', ARGV[2]), {}
for i, entry in ipairs(page) do
  local f = entry[2]
  local member, due, id, former, pending = f[2], f[4], f[6], f[8], f[10]
  local had = false
  if former ~= '' then
    had = redis.call('ZREM', KEYS[2], former) == 1
    redis.call('HDEL', KEYS[3], former)
  end
  if due == '' then
    redis.call('ZREM', KEYS[2], member)
    redis.call('HDEL', KEYS[3], member)
  elseif pending == '' or had or redis.call('HEXISTS', KEYS[3], member) == 1 then
    redis.call('ZADD', KEYS[2], due, member)
    redis.call('HSET', KEYS[3], member, id)
  end
  ids[i] = entry[1]
end
if #ids > 0 then redis.call('XDEL', KEYS[4], unpack(ids)) end
return #ids`)

// dueTimersScript returns timers that are due up to a time, in order, each as its member, time and id; and behind them
// when the first that is not returned is due, if there is one.
var dueTimersScript = redis.NewScript(fencedTimers + `
local found = redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', ARGV[2], 'WITHSCORES', 'LIMIT', 0, ARGV[3])
local out = {}
for i = 1, #found, 2 do
  out[#out + 1] = found[i]
  out[#out + 1] = found[i + 1]
  out[#out + 1] = redis.call('HGET', KEYS[3], found[i]) or ''
end
local rest = redis.call('ZRANGE', KEYS[2], #found / 2, #found / 2, 'WITHSCORES')
if #rest > 0 then out[#out + 1] = rest[2] end
return out`)

// fireTimersScript queues the events of timers and removes them, each unless it has another id by now. KEYS: behind the others, the side
// streams. ARGV: behind the token, for each its member and id, how many streams get it, their numbers, how many fields
// and values the message has, and they. The first write is one that a full Redis refuses.
var fireTimersScript = redis.NewScript(fencedTimers + `
local i, fired = 2, 0
while i <= #ARGV do
  local member, id, streams = ARGV[i], ARGV[i + 1], tonumber(ARGV[i + 2])
  local from = i + 4 + streams
  local n = tonumber(ARGV[i + 3 + streams])
  if redis.call('HGET', KEYS[3], member) == id then
    for s = 1, streams do redis.call('XADD', KEYS[3 + ARGV[i + 2 + s]], '*', unpack(ARGV, from, from + n - 1)) end
    redis.call('ZREM', KEYS[2], member)
    redis.call('HDEL', KEYS[3], member)
    fired = fired + 1
  end
  i = from + n
end
return fired`)

// timerKeys are the keys of a script of timers, and who runs it.
func (q *Queue) timerKeys(ctx context.Context) (redis.Scripter, []string, error) {
	addr, err := q.masterOf(ctx, q.keys.timers())
	token := q.keys.token()
	if q.cluster != nil {
		token = q.keys.tokenOf("")
	}
	return q.timing.to(addr), []string{token, q.keys.timersDue(), q.keys.timersSet()}, err
}

func timersError(err error, what string) error {
	if err != nil && isReply(err) && errors.Is(err, redis.Nil) {
		err = nil
	}
	if err != nil && len(err.Error()) >= 6 && err.Error()[:6] == "FENCED" {
		err = ErrFenced
	}
	return annotate(err, "%s", what)
}

// ApplyTimers applies all that was appended for timers. Only who captures may call it: its errors are ErrFenced,
// ErrRestarted, ErrUnreachable or another.
func (q *Queue) ApplyTimers(ctx context.Context) error {
	run, keys, err := q.timerKeys(ctx)
	keys = append(keys, q.keys.timers())
	for n := timersPage; err == nil && n == timersPage; {
		n, err = applyTimersScript.Run(ctx, run, keys, q.Token(), timersPage).Int()
	}
	return timersError(err, "set timers")
}

// DueTimers returns up to a page of the timers that are due at a time, in order, and when the next one is due; zero: there is
// none. Its errors are those of ApplyTimers.
func (q *Queue) DueTimers(ctx context.Context, at time.Time) (due []PendingTimer, next time.Time, err error) {
	run, keys, err := q.timerKeys(ctx)
	var found []string
	if err == nil {
		found, err = dueTimersScript.Run(ctx, run, keys, q.Token(), at.UnixMicro(), timersPage).StringSlice()
	}
	if err != nil {
		return nil, next, timersError(err, "read timers")
	}
	for ; len(found) >= 3; found = found[3:] {
		t, err := parseTimer(found[0], found[1], found[2])
		if err != nil {
			return nil, next, err
		}
		due = append(due, t)
	}
	if len(found) > 0 {
		if next, err = dueTime(found[0]); err != nil {
			return nil, next, err
		}
	}
	return due, next, nil
}

func dueTime(score string) (time.Time, error) {
	micros, err := strconv.ParseFloat(score, 64)
	if err != nil {
		return time.Time{}, errEntry
	}
	return time.UnixMicro(int64(micros)).UTC(), nil
}

func parseTimer(member, score, id string) (PendingTimer, error) {
	t := PendingTimer{ID: IDFromBytes([]byte(id))}
	i := slices.Index([]byte(member), ':')
	if i < 0 {
		return t, errEntry
	}
	var err error
	if t.N, err = strconv.Atoi(member[:i]); err != nil {
		return t, errEntry
	}
	t.Key = []byte(member[i+1:])
	t.Due, err = dueTime(score)
	return t, err
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
	return q.register(ctx, names...)
}

// runFire runs the script for those of the endpoints.
func (q *Queue) runFire(ctx context.Context, endpoints []string, fired []FiredTimer) error {
	run, keys, err := q.timerKeys(ctx)
	if err != nil {
		return err
	}
	for _, e := range endpoints {
		keys = append(keys, q.keys.side(e))
	}
	args := []any{q.Token()}
	for i := range fired {
		f := &fired[i]
		args = append(args, member(f.N, f.Key), f.ID.Bytes())
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
	return fireTimersScript.Run(ctx, run, keys, args...).Err()
}

// fireInSlots queues the events of timers for the endpoints of a cluster, each once: Redis keeps a mark with it, which
// it forgets in a week.
func (q *Queue) fireInSlots(ctx context.Context, endpoints []string, fired []FiredTimer) error {
	for _, e := range endpoints {
		err := q.Durably(ctx, e, func() error {
			for i := range fired {
				f := &fired[i]
				if !slices.Contains(f.Endpoints, e) {
					continue
				}
				args := append([]any{"timer " + f.ID.String(), jobAge.Milliseconds()}, sideFields(&f.Message, false)...)
				if err := unparkInSlotScript.Run(ctx, q.client, []string{q.keys.side(e), q.keys.jobs(e)}, args...).Err(); err != nil {
					return unreachable(err)
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

// CountTimers returns how many timers are pending.
func (q *Queue) CountTimers(ctx context.Context) (int64, error) {
	n, err := q.client.ZCard(ctx, q.keys.timersDue()).Result()
	return n, annotate(err, "count timers")
}
