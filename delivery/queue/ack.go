package queue

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"
)

// Results are outcomes that Redis does not know yet. They belong to one goroutine
// at a time.
type Results struct {
	Done      []ID // delivered
	Clean     []ID // delivered, after failures, whose attempts are kept in rt and at
	Forgotten []ID // no longer in their stream, or among Superseded, though their attempts are kept
	// Superseded were not sent, because a newer event of their key and name was there.
	Superseded []ID
	Retries    []RetryResult
	Dead       []DeadResult
	state      []any // fields and values of the endpoint's state
	log        attemptLog
	committed  map[ID]int64 // the intervals of their commits, for the counts
}

// Committed says when an event was committed that is among the results: it is counted then.
func (r *Results) Committed(id ID, at time.Time) {
	if r.committed == nil {
		r.committed = map[ID]int64{}
	}
	r.committed[id] = intervalOf(at)
}

// RetryResult is an event that failed and is to be sent again.
type RetryResult struct {
	ID ID
	Attempts
}

// DeadResult is an event that becomes a dead letter.
type DeadResult struct {
	ID     ID
	Reason string
	Attempts
}

// Len is the number of events; one that was superseded after failures is among two of the kinds.
func (r *Results) Len() int {
	return len(r.Done) + len(r.Clean) + len(r.Superseded) + len(r.Forgotten) + len(r.Retries) + len(r.Dead)
}

// LogBytes is how much of the log the results have, the events that it keeps included.
func (r *Results) LogBytes() int { return len(r.log.lines) }

// Empty reports whether there is nothing to write.
func (r *Results) Empty() bool { return r.Len()+len(r.state)+r.log.records == 0 }

// Reset empties the results, and keeps their memory.
func (r *Results) Reset() {
	clear(r.Retries)
	clear(r.Dead)
	clear(r.state)
	clear(r.committed)
	r.Done, r.Clean, r.Forgotten = r.Done[:0], r.Clean[:0], r.Forgotten[:0]
	r.Superseded = r.Superseded[:0]
	r.Retries, r.Dead, r.state = r.Retries[:0], r.Dead[:0], r.state[:0]
	r.log.reset()
}

// Pause has the endpoint be paused from a time on.
func (r *Results) Pause(reason string, at time.Time) {
	r.state = append(r.state, "paused", reason, "since", strconv.FormatInt(at.UnixMilli(), 10))
}

// Hold has nothing be sent to the endpoint before a time.
func (r *Results) Hold(until time.Time) {
	r.state = append(r.state, "hold", strconv.FormatInt(until.UnixMilli(), 10))
}

// SetHealth keeps the endpoint's health for its next owner.
func (r *Results) SetHealth(h *Health) {
	for i, value := range h.values() {
		text := ""
		if *value != 0 {
			text = strconv.FormatInt(*value, 10)
		}
		r.state = append(r.state, healthFields[i], text)
	}
}

// ChangesState reports whether the endpoint's state is among the results.
func (r *Results) ChangesState() bool { return len(r.state) > 0 }

// Mark sets true for events that were delivered, and false for dead letters and superseded ones.
func (r *Results) Mark(of map[ID]bool) {
	for _, id := range slices.Concat(r.Done, r.Clean) {
		of[id] = true
	}
	for i := range r.Dead {
		of[r.Dead[i].ID] = false
	}
	for _, id := range r.Superseded {
		of[id] = false
	}
}

// ackScript writes results, if the caller still owns the endpoint: 1, else 0.
// Doing it twice is harmless.
//
// Its first write is one that Redis allows when it is full, and that changes
// nothing: a script that has written may go on writing. Without it, the state
// of a failed event could not be kept at the very time when deliveries have to make room.
//
// A retry that is followed by a success comes in the same call or an earlier
// one, so retries are written first.
//
// Before that first write, SETRANGE changes nothing either, and is refused by
// a full Redis: then the log may use up little of what deliveries free. It is
// shortened by some entries at a time, to hold Redis up for no longer.
var ackScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
local full = tonumber(ARGV[2]) > 0 and type(redis.pcall('SETRANGE', KEYS[1], 0, '')) == 'table'
redis.call('XDEL', KEYS[2], '0-0')
if tonumber(ARGV[2]) > 0 then
  redis.call('XADD', KEYS[8], '*', 'n', ARGV[2], 'b', ARGV[3])
  local records = redis.call('HINCRBY', KEYS[6], 'log_records', ARGV[2])
  local bytes = redis.call('HINCRBY', KEYS[6], 'log_bytes', #ARGV[3])
  local most, largest = tonumber(ARGV[4]), tonumber(ARGV[5])
  if full then most, largest = most / 64, largest / 64 end
  for i = 1, 64 do
    if records <= most and bytes <= largest then break end
    local oldest = redis.call('XRANGE', KEYS[8], '-', '+', 'COUNT', 1)[1]
    if not oldest then break end
    redis.call('XDEL', KEYS[8], oldest[1])
    redis.call('HINCRBY', KEYS[6], 'log_lost', oldest[2][2])
    records = redis.call('HINCRBY', KEYS[6], 'log_records', -tonumber(oldest[2][2]))
    bytes = redis.call('HINCRBY', KEYS[6], 'log_bytes', -#oldest[2][4])
  end
end
local at = 7
local function ids(f)
  local n = tonumber(ARGV[at])
  at = at + 1
  while n > 0 do
    local m = math.min(n, 1000)
    f(at, at + m - 1)
    at, n = at + m, n - m
  end
end
local function count(key, field, n)
  if key == 0 or n == 0 then return end
  redis.call('HINCRBY', KEYS[key], field, n)
  if redis.call('PTTL', KEYS[key]) < 0 then redis.call('PEXPIRE', KEYS[key], ARGV[6]) end
end
local n = tonumber(ARGV[at])
at = at + 1
for i = 1, n do
  redis.call('ZADD', KEYS[3], ARGV[at + 1], ARGV[at])
  redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 2])
  at = at + 3
end
n = tonumber(ARGV[at])
at = at + 1
for i = 1, n do
  local key, field, gone = tonumber(ARGV[at]), ARGV[at + 1], 0
  at = at + 2
  ids(function(a, b) gone = gone + redis.call('XDEL', KEYS[2], unpack(ARGV, a, b)) end)
  count(key, field, gone)
end
ids(function(a, b) redis.call('XDEL', KEYS[7], unpack(ARGV, a, b)) end)
ids(function(a, b)
  redis.call('ZREM', KEYS[3], unpack(ARGV, a, b))
  redis.call('HDEL', KEYS[4], unpack(ARGV, a, b))
end)
n = tonumber(ARGV[at])
at = at + 1
for i = 1, n do
  local id, stream = ARGV[at], KEYS[tonumber(ARGV[at + 3])]
  local found = redis.call('XRANGE', stream, id, id)
  if #found > 0 then
    redis.call('XADD', KEYS[5], '*', 'id', id, 'reason', ARGV[at + 1], 'attempts', ARGV[at + 2], unpack(found[1][2]))
    redis.call('XDEL', stream, id)
    count(tonumber(ARGV[at + 4]), ARGV[at + 5], 1)
  end
  redis.call('ZREM', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
  at = at + 6
end
if at <= #ARGV then redis.call('HSET', KEYS[6], unpack(ARGV, at, #ARGV)) end
return 1`)

// The numbers of the streams' keys in ackScript.
const (
	ackMain = 2
	ackSide = 7
)

// Write writes the results; false: another process owns the endpoint, and nothing was written.
func (o *Owner) Write(ctx context.Context, r *Results) (bool, error) {
	owned, mark, err := o.acknowledgeOverflowed(ctx, r)
	if err != nil || !owned {
		return owned, err
	}
	q, endpoint := o.q, o.endpoint
	k := q.keys
	keys := []string{
		k.fence(endpoint), k.events(endpoint), k.due(endpoint), k.attempts(endpoint), k.dead(endpoint), k.state(endpoint),
		k.side(endpoint), k.log(endpoint),
	}
	interval := func(n int64) string { return k.endpointTally(endpoint, n) }
	texts, _ := idTextPool.Get().(*idTexts)
	defer texts.free()
	args := make([]any, 0, 16+len(r.Done)+len(r.Superseded)+2*len(r.Clean)+len(r.Forgotten)+3*len(r.Retries)+6*len(r.Dead)+len(r.state))
	args = append(args, o.claim, r.log.records, r.log.lines, logRecords, logBytes, TallyAge.Milliseconds(), len(r.Retries))
	for i := range r.Retries {
		args = append(args, r.Retries[i].ID.String(), r.Retries[i].score(), r.Retries[i].marshal())
	}
	args = o.appendCounted(args, texts, r, &keys, interval)
	args = texts.appendIDs(args, ID.FromSide, r.Done, r.Clean)
	args = texts.appendIDs(args, func(ID) bool { return true }, r.Clean, r.Forgotten)
	args = append(args, len(r.Dead))
	for i := range r.Dead { // of one that was in the Overflow, its attempts are removed only
		stream := ackMain
		if r.Dead[i].ID.FromSide() {
			stream = ackSide
		}
		dead := o.talliedAs(r, r.Dead[i].ID, FateDead)
		args = append(args, r.Dead[i].ID.String(), r.Dead[i].Reason, r.Dead[i].marshal(), stream, keyNumber(&keys, dead, interval), dead.field())
	}
	args = append(args, r.state...)
	done, err := ackScript.Run(ctx, q.client, keys, args...).Int()
	if mark != nil && err == nil && done == 1 { // also what an earlier one has not removed from the stream
		h, _ := o.head()
		switch _, err = o.setMark(ctx, h, *mark); {
		case errors.Is(err, ErrStale):
			return false, nil
		case err == nil && *mark == "":
			o.endOverflow(ctx)
		}
		return true, err
	}
	return done == 1, annotate(err, "acknowledge events of endpoint %q", endpoint)
}

// idTexts are ids as a command's arguments, in memory that is used again.
type idTexts struct {
	args []*arg
	used int
}

// idTextPool is a cache, not state: what is read from it was written since.
var idTextPool = sync.Pool{New: func() any { return &idTexts{} }}

// free gives the memory back, once the command has been answered.
func (t *idTexts) free() {
	const keep = 4096
	if len(t.args) <= keep {
		t.used = 0
		idTextPool.Put(t)
	}
}

// of returns an id as an argument.
func (t *idTexts) of(id ID) *arg {
	if t.used == len(t.args) {
		t.args = append(t.args, &arg{})
	}
	text := t.args[t.used]
	t.used++
	text.b = id.append(text.b[:0])
	return text
}

// appendIDs appends the ids that are among the chosen, after their number.
func (t *idTexts) appendIDs(args []any, chosen func(ID) bool, lists ...[]ID) []any {
	number := len(args)
	args = append(args, 0)
	for _, ids := range lists {
		for _, id := range ids {
			if chosen(id) {
				args = append(args, t.of(id))
			}
		}
	}
	args[number] = len(args) - number - 1
	return args
}
