package delivery

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// results are what deliveries came to and Redis does not know yet.
type results struct {
	done      []ID // delivered
	clean     []ID // delivered, with something kept in rt and at
	forgotten []ID // in their stream no more, with something kept
	retries   []retryResult
	dead      []deadResult
	state     []any // fields and values of the endpoint's state
	log       attemptLog
}

type retryResult struct {
	id ID
	attempts
}

type deadResult struct {
	id     ID
	reason string
	attempts
}

// len is the number of events, each counted once.
func (r *results) len() int {
	return len(r.done) + len(r.clean) + len(r.forgotten) + len(r.retries) + len(r.dead)
}

func (r *results) empty() bool { return r.len()+len(r.state)+r.log.records == 0 }

func (r *results) reset() {
	clear(r.retries)
	clear(r.dead)
	clear(r.state)
	r.done, r.clean, r.forgotten = r.done[:0], r.clean[:0], r.forgotten[:0]
	r.retries, r.dead, r.state = r.retries[:0], r.dead[:0], r.state[:0]
	r.log.reset()
}

// pause has the endpoint be paused from a time on.
func (r *results) pause(reason string, at time.Time) {
	r.state = append(r.state, "paused", reason, "since", strconv.FormatInt(at.UnixMilli(), 10))
}

// hold has nothing be sent to the endpoint before a time.
func (r *results) hold(until time.Time) {
	r.state = append(r.state, "hold", strconv.FormatInt(until.UnixMilli(), 10))
}

// setHealth keeps the endpoint's health for its next owner.
func (r *results) setHealth(h *health) {
	for i, value := range h.values() {
		text := ""
		if *value != 0 {
			text = strconv.FormatInt(*value, 10)
		}
		r.state = append(r.state, healthFields[i], text)
	}
}

// changesState reports whether the endpoint's state is among the results.
func (r *results) changesState() bool { return len(r.state) > 0 }

// record adds an attempt to the log; keep: with the event, if it was its last.
func (r *results) record(id ID, m *Message, o *Outcome, number int, dead, keep bool, now time.Time) {
	r.log.add(id, m, o, number, dead, keep, now)
}

// mark sets true for events that were delivered, and false for those that are
// not to be sent again either.
func (r *results) mark(of map[ID]bool) {
	for _, id := range r.done {
		of[id] = true
	}
	for _, id := range r.clean {
		of[id] = true
	}
	for i := range r.dead {
		of[r.dead[i].id] = false
	}
}

// ackScript writes results, if the caller still owns the endpoint: 1, else 0.
// Doing it twice is harmless.
//
// Its first write is one that Redis allows when it is full, and that changes
// nothing: a script that has written may go on writing. Without it, the state
// of a failed event could not be kept just when deliveries have to make room.
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
local at = 6
local function ids(f)
  local n = tonumber(ARGV[at])
  at = at + 1
  while n > 0 do
    local m = math.min(n, 1000)
    f(at, at + m - 1)
    at, n = at + m, n - m
  end
end
local n = tonumber(ARGV[at])
at = at + 1
for i = 1, n do
  redis.call('ZADD', KEYS[3], ARGV[at + 1], ARGV[at])
  redis.call('HSET', KEYS[4], ARGV[at], ARGV[at + 2])
  at = at + 3
end
ids(function(a, b) redis.call('XDEL', KEYS[2], unpack(ARGV, a, b)) end)
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
  end
  redis.call('ZREM', KEYS[3], id)
  redis.call('HDEL', KEYS[4], id)
  at = at + 4
end
if at <= #ARGV then redis.call('HSET', KEYS[6], unpack(ARGV, at, #ARGV)) end
return 1`)

// The numbers of the streams' keys in ackScript.
const (
	ackMain = 2
	ackSide = 7
)

// write writes the results. It returns false when somebody else owns the
// endpoint now, and nothing was written.
func (q *Queue) write(ctx context.Context, endpoint, claim string, r *results) (bool, error) {
	args := make([]any, 0, 12+len(r.done)+2*len(r.clean)+len(r.forgotten)+3*len(r.retries)+4*len(r.dead)+len(r.state))
	args = append(args, claim, r.log.records, r.log.lines, logRecords, logBytes, len(r.retries))
	for i := range r.retries {
		args = append(args, r.retries[i].id.String(), r.retries[i].score(), r.retries[i].marshal())
	}
	args = appendIDs(args, false, r.done, r.clean)
	args = appendIDs(args, true, r.done, r.clean)
	args = append(args, len(r.clean)+len(r.forgotten))
	for _, ids := range [][]ID{r.clean, r.forgotten} {
		for _, id := range ids {
			args = append(args, id.String())
		}
	}
	args = append(args, len(r.dead))
	for i := range r.dead {
		stream := ackMain
		if r.dead[i].id.fromSide() {
			stream = ackSide
		}
		args = append(args, r.dead[i].id.String(), r.dead[i].reason, r.dead[i].marshal(), stream)
	}
	args = append(args, r.state...)
	k := q.keys
	keys := []string{
		k.fence(endpoint), k.events(endpoint), k.due(endpoint), k.attempts(endpoint), k.dead(endpoint), k.state(endpoint),
		k.side(endpoint), k.log(endpoint),
	}
	owned, err := ackScript.Run(ctx, q.client, keys, args...).Int()
	if err != nil {
		return false, fmt.Errorf("acknowledge events of endpoint %q: %w", endpoint, unreachable(err))
	}
	return owned == 1, nil
}

// appendIDs appends those of one of the streams, after their number.
func appendIDs(args []any, side bool, lists ...[]ID) []any {
	number := len(args)
	args = append(args, 0)
	for _, ids := range lists {
		for _, id := range ids {
			if id.fromSide() == side {
				args = append(args, id.String())
			}
		}
	}
	args[number] = len(args) - number - 1
	return args
}
