package queue

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// An endpoint belongs to the process whose claim is in the key `fence`, until
// that claim's score in the sorted set `leases`, the time in ms at which it
// expires by Redis's clock. A claim is unique, and whoever writes results shows
// that the fence is still its own. Comparing claims, rather than counting tokens
// up, holds even when Redis loses its last second, and with it the newest count.
//
// One sorted set has all claims of a server, so one ZADD renews all leases of a
// process; a key that expires for each endpoint took a command for each. (In a
// cluster an endpoint has a set of its own: a script's keys are of one slot.)
// The set also has the processes, as members without a hyphen.
//
// Versions before this one had a key `lease` for each endpoint; while one is
// there, the endpoint is not free.
//
// The scripts write something that a full Redis allows first, for the reason
// that ackScript gives.

// luaNow begins scripts that compare times, with fractions of a millisecond: of two extensions
// in the same one, the second would otherwise look as if it had changed nothing.
const luaNow = `
local t = redis.call('TIME')
local now = t[1] * 1000 + t[2] / 1000
`

// acquireScript takes the lease when nobody has it: 1, else 0. Without an Overflow (ARGV[3] is
// 0) it leaves an endpoint alone of whose backlog a part is there: 2. KEYS: leases, fence, lease
// of older versions, state.
var acquireScript = redis.NewScript(luaNow + `
local last = redis.call('GET', KEYS[2])
local expires = last and redis.call('ZSCORE', KEYS[1], last)
if expires and tonumber(expires) > now or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
if ARGV[3] == '0' and (redis.call('HGET', KEYS[4], 'overflow') or '') ~= '' then return 2 end
redis.call('ZREM', KEYS[1], last or '')
redis.call('ZADD', KEYS[1], now + ARGV[2], ARGV[1])
redis.call('SET', KEYS[2], ARGV[1])
return 1`)

// acquireElsewhere is the answer of acquireScript when a part of the backlog is elsewhere.
const acquireElsewhere = 2

// extendScript extends the leases that are in the set, even expired ones that
// nobody has taken, and returns how many. All that a quiet process runs, it
// calls as little as possible.
var extendScript = redis.NewScript(luaNow + `
local args = {}
for i = 2, #ARGV do
  args[2 * i - 3], args[2 * i - 2] = now + ARGV[1], ARGV[i]
end
local n = redis.pcall('ZADD', KEYS[1], 'XX', 'CH', unpack(args))
if type(n) == 'table' then
  redis.call('ZREM', KEYS[1], '')
  n = redis.call('ZADD', KEYS[1], 'XX', 'CH', unpack(args))
end
return n`)

// inspectScript renews leases, and reads what their owners have to know: whether
// there are entries after their cursors, and the endpoints' states. A lease that
// has left the set is restored when the fence is still the owner's, or was lost.
// Keys that are not ours concern their endpoint alone: its lease is kept, and the
// reader says what is wrong.
//
// Keys: the set, the fences, and of each endpoint its streams and its state.
var inspectScript = redis.NewScript(luaNow + `
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
local n, args, out = (#KEYS - 1) / 4, {}, {}
local fences = redis.call('MGET', unpack(KEYS, 2, n + 1))
for i = 1, n do
  local claim, key = ARGV[3 * i - 1], n + 3 * i - 1
  if fences[i] and fences[i] ~= claim then
    redis.call('ZREM', KEYS[1], claim)
    out[i] = {0}
  else
    if not fences[i] then redis.call('SET', KEYS[i + 1], claim) end
    args[#args + 1] = now + ARGV[1]
    args[#args + 1] = claim
    local more = redis.pcall('XRANGE', KEYS[key], ARGV[3 * i], '+', 'COUNT', 1)
    local aside = redis.pcall('XRANGE', KEYS[key + 1], ARGV[3 * i + 1], '+', 'COUNT', 1)
    local state = redis.pcall('HMGET', KEYS[key + 2], 'paused', 'hold', 'unblock', 'forgotten', 'overflow')
    if more.err or aside.err or state.err then
      out[i] = {1}
    else
      out[i] = {1, #more, #aside, state[1] or '', state[2] or '', state[3] or '', state[4] or '', state[5] or ''}
    end
  end
end
if #args > 0 then redis.call('ZADD', KEYS[1], unpack(args)) end
return out`)

// releaseScript gives the lease back, and the fence, or a renewal on its way would take it again.
var releaseScript = redis.NewScript(`
redis.call('ZREM', KEYS[1], ARGV[1])
if redis.call('GET', KEYS[2]) == ARGV[1] then redis.call('SET', KEYS[2], 'released') end
return 1`)

// LeaseMost is the longest time for which a process may take a lease, or be registered. What ends later was written before Redis's clock was
// set back.
const LeaseMost = 30 * time.Second

// freeScript returns, for each endpoint, 1 when nobody has its lease. One that ends later than any can was taken before this server's clock
// was set back, and its process may be dead: it ends after LeaseMost (ARGV[1]), unless it is renewed, which gives it a time by the clock as it
// is. Keys: the set, the fences, and the leases of older versions.
var freeScript = redis.NewScript(luaNow + `
local n, out = (#KEYS - 1) / 2, {}
local claims = redis.call('MGET', unpack(KEYS, 2, n + 1))
for i = 1, n do claims[i] = claims[i] or '' end
local expires = redis.call('ZMSCORE', KEYS[1], unpack(claims))
local old = redis.call('MGET', unpack(KEYS, n + 2))
for i = 1, n do
  out[i] = 1
  if old[i] or expires[i] and tonumber(expires[i]) > now then out[i] = 0 end
  if expires[i] and tonumber(expires[i]) > now + ARGV[1] then
    redis.call('ZREM', KEYS[1], '')
    redis.call('ZADD', KEYS[1], 'XX', now + ARGV[1], claims[i])
  end
end
return out`)

// countScript registers the process, forgets expired ones, and returns how many are alive. What ends later than anything can ends after
// LeaseMost (ARGV[3]): see freeScript.
var countScript = redis.NewScript(luaNow + `
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now)
redis.call('ZADD', KEYS[1], now + ARGV[1], ARGV[2])
local all, n = redis.call('ZRANGE', KEYS[1], 0, -1, 'WITHSCORES'), 0
for i = 1, #all, 2 do
  local member = all[i]
  if tonumber(all[i + 1]) > now + ARGV[3] then redis.call('ZADD', KEYS[1], 'XX', now + ARGV[3], member) end
  if not string.find(member, '-', 1, true) then n = n + 1 end
end
return n`)

// leaseGroup is endpoints whose leases are in one set, by their places in a list.
type leaseGroup struct {
	key string
	of  []int
}

// leaseGroupMost bounds what one script does while nothing else is served.
const leaseGroupMost = 256

// leaseGroups divides endpoints into those that one script may work on.
func (q *Queue) leaseGroups(n int, endpoint func(i int) string) []leaseGroup {
	all, most := make([]int, n), leaseGroupMost
	for i := range all {
		all[i] = i
	}
	if q.cluster != nil {
		most = 1
	}
	var groups []leaseGroup
	for part := range slices.Chunk(all, most) {
		groups = append(groups, leaseGroup{q.leasesOf(endpoint(part[0])), part})
	}
	return groups
}

func (q *Queue) leasesOf(endpoint string) string {
	if q.cluster == nil {
		return q.keys.leases()
	}
	return q.keys.of(endpoint, "leases")
}

// Acquire takes leases for a time, in one round trip, and returns an owner for
// each of the endpoints that it has got, and nil for the others: of those whose
// server does not answer, none. The error is the first of them. A process without an
// Overflow gets none of which a part is there, and logs so once in a while.
func (w *Worker) Acquire(ctx context.Context, ttl time.Duration, endpoints []string) ([]*Owner, error) {
	owners, calls := make([]*Owner, len(endpoints)), make([]scriptCall, len(endpoints))
	for i, name := range endpoints {
		w.claims++
		owners[i] = &Owner{q: w.q, endpoint: name, claim: fmt.Sprintf("%s-%d", w.process, w.claims)}
		keys := []string{w.q.leasesOf(name), w.q.keys.fence(name), w.q.keys.lease(name), w.q.keys.state(name)}
		calls[i] = scriptCall{acquireScript, keys, []any{owners[i].claim, ttl.Milliseconds(), w.q.overflow != nil}}
	}
	var first error
	for i, reply := range w.q.runScripts(ctx, calls) {
		got, err := reply.Int()
		first = cmp.Or(first, annotate(err, "acquire endpoint %q", endpoints[i]))
		if got != 1 {
			owners[i] = nil
		}
		switch {
		case got == acquireElsewhere:
			w.leave(endpoints[i])
		case err == nil:
			delete(w.elsewhere, endpoints[i])
		}
	}
	return owners, first
}

// leaveAgain is how often it is logged that an endpoint is left to others.
const leaveAgain = 30 * time.Second

// leave notes that an endpoint is left to a process with an Overflow: perhaps there is none.
func (w *Worker) leave(endpoint string) {
	if now := time.Now(); now.Sub(w.elsewhere[endpoint]) >= leaveAgain {
		w.elsewhere[endpoint] = now
		w.q.log.Warn().Str("endpoint", endpoint).Msg("endpoint not delivered by this process: " + ErrNoOverflow.Error())
	}
}

// Free reports, for each endpoint, whether nobody is known to have its lease.
// With an error it reports those endpoints whose server has answered.
func (w *Worker) Free(ctx context.Context, endpoints []string) ([]bool, error) {
	groups, calls := w.q.freeCalls(endpoints)
	return freeOf(groups, w.q.runScripts(ctx, calls), len(endpoints))
}

func (q *Queue) freeCalls(endpoints []string) ([]leaseGroup, []scriptCall) {
	groups := q.leaseGroups(len(endpoints), func(i int) string { return endpoints[i] })
	calls := make([]scriptCall, len(groups))
	for g, group := range groups {
		keys, old := []string{group.key}, []string(nil)
		for _, i := range group.of {
			keys = append(keys, q.keys.fence(endpoints[i]))
			old = append(old, q.keys.lease(endpoints[i]))
		}
		calls[g] = scriptCall{freeScript, append(keys, old...), []any{LeaseMost.Milliseconds()}}
	}
	return groups, calls
}

func freeOf(groups []leaseGroup, replies []*redis.Cmd, n int) ([]bool, error) {
	out := make([]bool, n)
	var first error
	for g, reply := range replies {
		free, err := reply.BoolSlice()
		first = cmp.Or(first, annotate(err, "read leases"))
		for at, isFree := range free {
			out[groups[g].of[at]] = isFree
		}
	}
	return out, first
}

// Standing is what an owner learns when it renews its lease.
type Standing struct {
	Err   error // it is not known
	Owned bool
	// Inspected: what follows was read. A renewal usually extends the lease only.
	Inspected bool
	// There are entries after the cursors, in the main and the side stream.
	More, MoreAside bool

	Paused  string    // why; empty: it is not
	Hold    time.Time // nothing is to be sent before
	Unblock string    // changes when failed events were made due
	// Forgotten changes when events were removed that an owner may have in memory.
	Forgotten string
	// Elsewhere: a part of the backlog is in the Overflow, which this process does not have.
	Elsewhere bool

	marked bool // a part of the backlog is in the Overflow, says Redis
}

// Renewal is one owner's part of a renewal.
type Renewal struct {
	Owner      *Owner
	Main, Side ID // cursors
}

// Renew renews leases for a time, in one round trip, or two. Those on an
// unreachable server come back with its error; those on others are renewed. It
// returns the first error. The endpoints are inspected when the caller says so,
// when somebody has asked for it (WakeAll), and from time to time.
func (w *Worker) Renew(ctx context.Context, ttl time.Duration, of []Renewal, inspect bool) ([]Standing, error) {
	now := w.begin()
	groups := w.q.leaseGroups(len(of), func(i int) string { return of[i].Owner.endpoint })
	out := make([]Standing, len(of))
	all := inspect || w.inspected.stale(now, ttl)
	var err error
	if !all {
		groups, err = w.extend(ctx, ttl, of, out, groups)
	}
	if len(groups) > 0 {
		err = cmp.Or(err, w.inspect(ctx, ttl, of, out, groups))
	}
	switch {
	case err != nil:
		w.inspected = inspection{} // again with the next renewal
	case all:
		w.inspected = now
	}
	return out, err
}

// extend extends leases, and returns those groups of which not all were in their
// set. What could not be asked is in the standings.
func (w *Worker) extend(ctx context.Context, ttl time.Duration, of []Renewal, out []Standing, groups []leaseGroup) (rest []leaseGroup, first error) {
	calls := make([]scriptCall, len(groups))
	for g, group := range groups {
		args := []any{ttl.Milliseconds()}
		for _, i := range group.of {
			args = append(args, of[i].Owner.claim)
		}
		if group.key == w.q.keys.leases() && g == 0 {
			args = append(args, w.process)
		}
		calls[g] = scriptCall{extendScript, []string{group.key}, args}
	}
	for g, reply := range w.q.runScripts(ctx, calls) {
		n, err := reply.Int()
		err = annotate(err, "renew leases")
		first = cmp.Or(first, err)
		members := len(calls[g].args) - 1
		if err == nil && n != members {
			rest = append(rest, groups[g])
			continue
		}
		if err == nil && members > len(groups[g].of) {
			w.extended = time.Now()
		}
		for _, i := range groups[g].of {
			out[i] = Standing{Err: err, Owned: err == nil}
		}
	}
	return rest, first
}

// inspect renews the leases of the groups and reads the rest of the standings.
func (w *Worker) inspect(ctx context.Context, ttl time.Duration, of []Renewal, out []Standing, groups []leaseGroup) (first error) {
	k, calls := w.q.keys, make([]scriptCall, len(groups))
	for g, group := range groups {
		keys, more, args := []string{group.key}, []string(nil), []any{ttl.Milliseconds()}
		for _, i := range group.of {
			name := of[i].Owner.endpoint
			keys = append(keys, k.fence(name))
			more = append(more, k.events(name), k.side(name), k.state(name))
			args = append(args, of[i].Owner.claim, from(of[i].Main), from(of[i].Side))
		}
		calls[g] = scriptCall{inspectScript, append(keys, more...), args}
	}
	for g, reply := range w.q.runScripts(ctx, calls) {
		standings, err := reply.Slice()
		err = annotate(err, "renew leases")
		first = cmp.Or(first, err)
		for at, i := range groups[g].of {
			if out[i].Err = err; err == nil {
				fields, _ := standings[at].([]any)
				out[i] = standingOf(fields)
				of[i].Owner.compareMark(&out[i])
			}
		}
	}
	return first
}

func standingOf(fields []any) Standing {
	number := func(i int) int64 { n, _ := fields[i].(int64); return n }
	text := func(i int) string { s, _ := fields[i].(string); return s }
	if len(fields) < 8 { // the rest could not be read
		return Standing{Owned: len(fields) > 0 && number(0) == 1}
	}
	return Standing{
		Owned: number(0) == 1, Inspected: true, More: number(1) > 0, MoreAside: number(2) > 0,
		Paused: text(3), Hold: parseMillis(text(4)), Unblock: text(5), Forgotten: text(6), marked: text(7) != "",
	}
}

// parseMillis reads a time in ms since 1970; anything else is the zero time.
func parseMillis(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

// Heartbeat keeps the process registered for a time, and returns how many
// processes are. They are counted again when there were others, when somebody has
// asked for it (WakeAll), as one that joins or leaves does, and from time to time.
// It also inspects all masters, each time where a replica may take their place, else
// from time to time and when somebody has asked for it: see inspectMasters.
func (w *Worker) Heartbeat(ctx context.Context, ttl time.Duration) (processes int, err error) {
	if at := w.begin(); w.q.promotable() || w.identified.stale(at, ttl) {
		if err := w.q.inspectMasters(ctx); err != nil {
			return 0, err
		}
		w.identified = at
	}
	now, keys := w.begin(), []string{w.q.keys.leases()}
	if w.processes == 1 && !w.counted.stale(now, ttl) {
		if now.at.Sub(w.extended) < ttl/6 { // a renewal has just done it
			return 1, nil
		}
		n, err := extendScript.Run(ctx, w.q.client, keys, ttl.Milliseconds(), w.process).Int()
		if err == nil && n == 1 {
			return 1, nil
		}
	}
	n, err := countScript.Run(ctx, w.q.client, keys, ttl.Milliseconds(), w.process, LeaseMost.Milliseconds()).Int()
	if err != nil {
		return 0, annotate(err, "register process")
	}
	w.counted, w.processes = now, max(n, 1)
	return w.processes, nil
}
