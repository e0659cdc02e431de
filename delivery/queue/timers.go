package queue

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"

	"github.com/redis/go-redis/v9"

	"gancho/mapping"
)

// What changes mean for timers is a stream beside that of the parked changes, which Append writes in the transaction that
// appends the events: under ids that are positions, so that a change that is read again changes nothing twice, and with
// all that is said of appends. The process that captures applies its entries, in order: a script takes them out of the
// stream, and sets, moves and removes timers.
//
// A timer is in two places. Of each rule, named by its identity, a sorted set has members by the time at which they are due,
// in microseconds: a row's key, or a digest of one that is long. What belongs to a member is in one of many small hashes, which
// Redis keeps as listpacks, without pointers: the id of the change that has set the timer, and the key where the member is a digest.
// What is due is queued by a script that removes it, and does so only while the id is the same: so each is queued once.

// Timer adds what a change means for a timer.
func (b *Batch) Timer(t *mapping.TimerChange) error {
	id, err := b.next(&b.lastTimer, t.Position, t.N)
	if err != nil {
		return fmt.Errorf("add timer: %w", err)
	}
	rec := record{id: id, timer: true, typ: t.Rule}
	rec.text, rec.micros = b.identify(id, t.Due)
	if t.Due.IsZero() {
		rec.micros = span{}
	}
	switch {
	case t.All:
		rec.data = b.put([]byte("a"))
	case t.Pending:
		rec.data = b.put([]byte("p"))
	case t.Read && t.Span:
		rec.data = b.put([]byte("n"))
	case t.Read:
		rec.data = b.put([]byte("t"))
	}
	m := member(t.Key)
	rec.key = b.put(m)
	if len(m) == digestLen && !t.Due.IsZero() {
		rec.change = b.put(t.Key)
	}
	if t.Former != nil {
		rec.tenant = b.put(member(t.Former))
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

// digestLen is the length of digests; keys that are shorter are members themselves. So Redis has one in 16 bytes, and nobody finds two
// keys with the same one by chance, nor in less than 2^56 attempts.
const digestLen = 14

// member stands for a row's key in Redis.
func member(key []byte) []byte {
	if len(key) < digestLen {
		return key
	}
	sum := sha256.Sum256(key)
	return sum[:digestLen]
}

// timerCommand appends an entry: the rule, the member, when it is due (empty: never), the id in 16 bytes, the former member, what
// is done (a: the rule has none any more, p: only one that is pending is moved, n: one is set where there is none, t: or another time), and the key where the member is a digest.
func timerCommand(key string, exists bool, b *Batch, rec *record) redis.Cmder {
	args := []any{"XADD", key}
	if exists {
		args = append(args, "NOMKSTREAM")
	}
	args = append(args, b.bytes(rec.text), "r", rec.typ, "m", b.bytes(rec.key), "d", b.bytes(rec.micros), "i", rec.id.Bytes(),
		"f", b.bytes(rec.tenant), "p", b.bytes(rec.data), "k", b.bytes(rec.change))
	return redis.NewCmd(context.Background(), args...)
}

// timersPage is how many timers DueTimers returns at most, and timersTurn how many entries or timers a script that writes takes: Redis answers
// nobody else meanwhile, for some 10 microseconds each, and events of changes are to be a millisecond on their way.
const (
	timersPage = 64
	timersTurn = 24
)

// timerBuckets begins the scripts of timers. Rules have numbers of their own here, short ones. A rule's sorted set, and the hash
// that a member is in, are on the slot of the keys that their names begin with: of a million timers some 60 are in each hash,
// fewer than a listpack holds. KEYS: the token, the numbers of rules, the beginnings of the names of the sorted sets and of the hashes.
// Of timers that have failed see failedtimers.go.
const timerBuckets = `
local numbers = {}
local function number(rule)
  numbers[rule] = numbers[rule] or redis.call('HGET', KEYS[2], rule)
  return numbers[rule]
end
local function sorted(rule) return KEYS[3] .. (number(rule) or '') end
local failed, failures = KEYS[3] .. 'failed', KEYS[3] .. 'failures'
local function heal(id)
  if redis.call('ZREM', failed, id) == 1 then redis.call('HDEL', failures, id) end
end
local function place(rule, member)
  local field = (number(rule) or '') .. ':' .. member
  return KEYS[4] .. string.format('%x', math.floor(tonumber(string.sub(redis.sha1hex(field), 1, 4), 16) / 4)), field
end
`

// fencedTimers begins the scripts of who captures: they do nothing under an older token. ARGV: the token; 0: none was taken.
const fencedTimers = `
if tonumber(ARGV[1]) > 0 and tonumber(redis.call('GET', KEYS[1]) or '0') ~= tonumber(ARGV[1]) then return redis.error_reply('FENCED by another token') end
` + timerBuckets

// applyTimersScript applies entries, and returns whether there may be more. KEYS: behind the others, the stream. The first write is
// one that a full Redis allows: see ackScript. It frees more than it takes. A row's former key may have another row by now, where
// the primary key is deferrable: what was set in the same transaction stays, and if nobody has that key any more, it is found out when it is due.
var applyTimersScript = redis.NewScript(fencedTimers + `
redis.call('XDEL', KEYS[5], '0-1')
local most = tonumber(ARGV[2])
local page, ids, left = redis.call('XRANGE', KEYS[5], '-', '+', 'COUNT', most), {}, false
local some = redis.call('ZCARD', failed) > 0
local function wanted(how, rule, member, due, had)
  local is = number(rule) and redis.call('HEXISTS', place(rule, member)) == 1
  if how == 'p' then return had or is end
  if how == 'n' then return not is end
  return how ~= 't' or not is or tonumber(redis.call('ZSCORE', sorted(rule), member)) ~= tonumber(due)
end
local function healed(hash, field)
  local was = some and redis.call('HGET', hash, field)
  if was then heal(string.sub(was, 1, 16)) end
end
for i, entry in ipairs(page) do
  local f = entry[2]
  local rule, member, due, id, former, how, key = f[2], f[4], f[6], f[8], f[10], f[12], f[14]
  if how == 'a' then
    local all = number(rule) and redis.call('ZRANGE', sorted(rule), 0, most - 1) or {}
    for _, m in ipairs(all) do
      local hash, field = place(rule, m)
      healed(hash, field)
      redis.call('HDEL', hash, field)
    end
    if #all > 0 then redis.call('ZREM', sorted(rule), unpack(all)) end
    left = #all == most
    if left then break end
  else
    local had = false
    if former ~= '' and number(rule) then
      local hash, field = place(rule, former)
      local was = redis.call('HGET', hash, field)
      had = was and true
      if was and string.sub(was, 1, 8) ~= string.sub(id, 1, 8) then
        redis.call('ZREM', sorted(rule), former)
        healed(hash, field)
        redis.call('HDEL', hash, field)
      end
    end
    if due == '' then
      if number(rule) then
        local hash, field = place(rule, member)
        redis.call('ZREM', sorted(rule), member)
        healed(hash, field)
        redis.call('HDEL', hash, field)
      end
    elseif wanted(how, rule, member, due, had) then
      if not number(rule) then redis.call('HSET', KEYS[2], rule, redis.call('HLEN', KEYS[2])) end
      redis.call('ZADD', sorted(rule), due, member)
      local hash, field = place(rule, member)
      healed(hash, field)
      redis.call('HSET', hash, field, id .. key)
    end
  end
  ids[#ids + 1] = entry[1]
end
if #ids > 0 then redis.call('XDEL', KEYS[5], unpack(ids)) end
if left or #page == most then return 1 end
return 0`)

// timerKeys are the keys of a script of timers, and who runs it.
func (q *Queue) timerKeys(ctx context.Context) (redis.Scripter, []string, error) {
	addr, err := q.masterOf(ctx, q.keys.timers())
	token := q.keys.token()
	if q.cluster != nil {
		token = q.keys.tokenOf("")
	}
	return q.timing.to(addr), []string{token, q.keys.timerRules(), q.keys.timersDue(), q.keys.timersSet()}, err
}

func timersError(err error, what string) error {
	if err != nil && isReply(err) && errors.Is(err, redis.Nil) {
		err = nil
	}
	return annotate(fenced(err), "%s", what)
}

// ApplyTimers applies all that was appended for timers. Only who captures may call it: its errors are ErrFenced,
// ErrRestarted, ErrUnreachable or another.
func (q *Queue) ApplyTimers(ctx context.Context) error {
	run, keys, err := q.timerKeys(ctx)
	keys = append(keys, q.keys.timers())
	for more := 1; err == nil && more > 0; {
		more, err = applyTimersScript.Run(ctx, run, keys, q.Token(), timersTurn).Int()
	}
	return timersError(err, "set timers")
}
