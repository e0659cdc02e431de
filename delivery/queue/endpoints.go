package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"time"

	"gancho/delivery/endpoint"

	"github.com/redis/go-redis/v9"
)

// Stats is what the queue holds of one endpoint.
type Stats struct {
	Endpoint string `json:"-"`
	// Backlog is how many events wait, those in flight included, and Oldest when
	// the first of them was committed (zero when none waits).
	Backlog int64     `json:"queued"`
	Oldest  time.Time `json:"oldest,omitzero"`
	// Bytes is about how much memory of Redis the events of both streams take, 0 where
	// Redis does not say; and what Overflowed ones take in the state database.
	Bytes int64 `json:"queued_bytes,omitempty"`
	// Overflowed is how many of the Backlog are in the state database, because it is, or was, over
	// its quota, and OverflowedBytes their size.
	Overflowed      int64 `json:"overflowed,omitempty"`
	OverflowedBytes int64 `json:"overflowed_bytes,omitempty"`
	// Replays is how many entries of the side stream wait: events to be sent
	// again, and operational events.
	Replays int64 `json:"replays,omitempty"`
	// Retrying is how many of both have failed and wait for another attempt,
	// Blocked how many wait for somebody to act (on_exhausted: block).
	Retrying int64 `json:"retrying,omitempty"`
	Blocked  int64 `json:"blocked,omitempty"`
	// Dead is how many dead letters have not been stored elsewhere yet.
	Dead int64 `json:"dead,omitempty"`
	Suspension
	// Failing is since when every attempt has failed, or zero.
	Failing time.Time `json:"failing_since,omitzero"`
	// Down is since when only probes are sent, because every event fails, or zero.
	Down time.Time `json:"-"`
	// Owned: a process delivers to it.
	Owned bool `json:"delivering"`
	// LogEntries and LogRecords (attempts) wait in the log; LogLost attempts were
	// never stored, because too many waited.
	LogEntries int64 `json:"-"`
	LogRecords int64 `json:"log_waiting,omitempty"`
	LogLost    int64 `json:"log_lost,omitempty"`
	// Closing is the newest closing, if that was incomplete; of several sources the newest of these.
	Closing *IncompleteClosing `json:"incomplete_closing,omitempty"`
}

// Add adds what another queue holds of the same endpoint.
func (to *Stats) Add(s *Stats) {
	earliest := func(a, b time.Time) time.Time {
		if a.IsZero() || !b.IsZero() && b.Before(a) {
			return b
		}
		return a
	}
	to.Backlog, to.Bytes, to.Replays = to.Backlog+s.Backlog, to.Bytes+s.Bytes, to.Replays+s.Replays
	to.Overflowed, to.OverflowedBytes = to.Overflowed+s.Overflowed, to.OverflowedBytes+s.OverflowedBytes
	to.Retrying, to.Blocked, to.Dead = to.Retrying+s.Retrying, to.Blocked+s.Blocked, to.Dead+s.Dead
	to.LogEntries, to.LogRecords, to.LogLost = to.LogEntries+s.LogEntries, to.LogRecords+s.LogRecords, to.LogLost+s.LogLost
	to.Oldest, to.Failing, to.Down = earliest(to.Oldest, s.Oldest), earliest(to.Failing, s.Failing), earliest(to.Down, s.Down)
	to.Owned = to.Owned || s.Owned
	if to.Reason == "" {
		to.Suspension = s.Suspension
	}
	switch {
	case s.Closing == nil:
	case to.Closing == nil:
		to.Closing = s.Closing
	default:
		shown := *to.Closing
		if cmp.Or(cmp.Compare(s.Closing.Day, shown.Day), cmp.Compare(shown.Source, s.Closing.Source)) > 0 {
			shown = *s.Closing
		}
		shown.Others = to.Closing.Others + s.Closing.Others + 1
		to.Closing = &shown
	}
}

// statsScript gathers what Redis holds of an endpoint, without any payload.
var statsScript = redis.NewScript(luaNaming + `
local oldest = ''
local n = redis.call('XLEN', KEYS[1])
if n > 0 then oldest = naming(redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]) end
local bytes, aside = 0, redis.call('XLEN', KEYS[2])
local function measure(key)
  local m = redis.pcall('MEMORY', 'USAGE', key)
  if type(m) == 'number' then bytes = bytes + m end
end
if n > 0 then measure(KEYS[1]) end
if aside > 0 then measure(KEYS[2]) end
local s = redis.call('HMGET', KEYS[5], 'paused', 'since', 'hold', 'failing', 'open', 'log_records', 'log_lost', 'overflow', '` + incompleteClosing + `')
for i = 1, 9 do s[i] = s[i] or '' end
local failed, blocked, entries = redis.call('ZCARD', KEYS[3]), 0, 0
if failed > 0 then blocked = redis.call('ZCOUNT', KEYS[3], '+inf', '+inf') end
if s[6] ~= '' and s[6] ~= '0' then entries = redis.call('XLEN', KEYS[6]) end
return {n, oldest, aside, failed, blocked, redis.call('XLEN', KEYS[4]), entries, bytes, unpack(s)}`)

// statsMany bounds the endpoints of one round trip of Stats: the answers of thousands, 2 KB each, are not to be in memory together.
const statsMany = 500

// Stats returns what the queue holds of each endpoint, in their order, in one round trip for 500 of them.
func (q *Queue) Stats(ctx context.Context, endpoints []string) ([]Stats, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	out := make([]Stats, 0, len(endpoints))
	for some := range slices.Chunk(endpoints, statsMany) {
		stats, err := q.statsOfSome(ctx, some)
		if err != nil {
			return nil, err
		}
		out = append(out, stats...)
	}
	return out, nil
}

func (q *Queue) statsOfSome(ctx context.Context, endpoints []string) ([]Stats, error) {
	calls := make([]scriptCall, len(endpoints))
	for i, name := range endpoints {
		k := q.keys
		calls[i] = scriptCall{script: statsScript, keys: []string{
			k.events(name), k.side(name), k.due(name), k.dead(name), k.state(name), k.log(name),
		}}
	}
	groups, leases := q.freeCalls(endpoints)
	replies := q.runScripts(ctx, append(calls, leases...))
	free, err := freeOf(groups, replies[len(calls):], len(endpoints))
	out := make([]Stats, len(endpoints))
	for i, reply := range replies[:len(calls)] {
		var fields []any
		if err == nil {
			fields, err = reply.Slice()
		}
		if err == nil {
			out[i], err = statsOf(endpoints[i], fields, !free[i])
		}
		if err != nil {
			return nil, annotate(err, "read the queue of endpoint %q", endpoints[i])
		}
	}
	return out, nil
}

func statsOf(endpoint string, fields []any, owned bool) (Stats, error) {
	if len(fields) != 17 {
		return Stats{}, errEntry
	}
	count := func(i int) int64 { n, _ := fields[i].(int64); return n }
	text := func(i int) string { s, _ := fields[i].(string); return s }
	number := func(i int) int64 { n, _ := strconv.ParseInt(text(i), 10, 64); return n } // what is not there is 0
	s := Stats{
		Endpoint: endpoint, Backlog: count(0), Replays: count(2), Retrying: count(3) - count(4), Blocked: count(4), Dead: count(5),
		LogEntries: count(6), Bytes: count(7), Owned: owned, Suspension: suspensionOf(text(8), text(9), text(10)),
		Failing: parseMillis(text(11)), Down: parseMillis(text(12)), LogRecords: number(13), LogLost: number(14),
		Closing: parseIncomplete(text(16)),
	}
	var err error
	if text(1) != "" {
		s.Oldest, err = parseMicros(text(1))
	}
	if over := parseMark(text(15)); over.Events > 0 {
		s.Overflowed, s.OverflowedBytes, s.Oldest = over.Events, over.Bytes, over.Oldest
		s.Backlog, s.Bytes = s.Backlog+over.Events, s.Bytes+over.Bytes
	}
	return s, err
}

// registerScript writes first what a full Redis allows, for the reason that ackScript gives.
var registerScript = redis.NewScript(`
redis.call('SREM', KEYS[1], '')
for i = 1, #ARGV do redis.call('SADD', KEYS[1], ARGV[i]) end
return 1`)

// register adds endpoints to the set of those that have, or had, something in
// Redis, before anything is appended to their streams.
func (q *Queue) register(ctx context.Context, endpoints ...any) error {
	return unreachable(registerScript.Run(ctx, q.client, []string{q.keys.endpoints()}, endpoints...).Err())
}

// EndpointNames returns, in order, all endpoints that have something in Redis,
// configured or not, and some that had. A process's first call scans the keys,
// for what older versions have left; later ones cost one command.
func (q *Queue) EndpointNames(ctx context.Context) ([]string, error) {
	if !q.scanned.Load() {
		if err := q.registerFound(ctx); err != nil {
			return nil, annotate(err, "list endpoints in redis")
		}
		q.scanned.Store(true)
	}
	return q.Registered(ctx)
}

// Registered is EndpointNames of a queue that no older version has used: it costs one command.
func (q *Queue) Registered(ctx context.Context) ([]string, error) {
	names, err := q.client.SMembers(ctx, q.keys.endpoints()).Result()
	slices.Sort(names)
	return names, annotate(err, "list endpoints in redis")
}

func (q *Queue) registerFound(ctx context.Context) error {
	var found []any // some of them more than once
	err := q.scan(ctx, escapeGlob(q.keys.prefix)+":{*}:*", func(key string) error {
		name, what, _ := strings.Cut(strings.TrimPrefix(key, q.keys.prefix+":{"), "}:")
		if slices.Contains([]string{"q", "cut", "x", "log", "dead"}, what) {
			found = append(found, name)
		}
		return nil
	})
	if err != nil || len(found) == 0 {
		return err
	}
	return q.register(ctx, found...)
}

// Orphans returns the endpoints that have queued events and are not among the
// given ones, with the number of those events.
func (q *Queue) Orphans(ctx context.Context, known []*endpoint.Endpoint) (map[string]int64, error) {
	names, err := q.EndpointNames(ctx)
	if err != nil {
		return nil, err
	}
	exists := make(map[string]bool, len(known))
	for i := range known {
		exists[known[i].Name] = true
	}
	names = slices.DeleteFunc(names, func(name string) bool { return exists[name] })
	orphans := map[string]int64{}
	if len(names) == 0 {
		return orphans, nil
	}
	pipe := q.client.Pipeline()
	counts, marks := make([]*redis.IntCmd, len(names)), make([]*redis.StringCmd, len(names))
	for i, name := range names {
		counts[i] = pipe.XLen(ctx, q.keys.events(name))
		marks[i] = pipe.HGet(ctx, q.keys.state(name), "overflow")
	}
	if _, err := pipe.Exec(ctx); err != nil && !errors.Is(err, redis.Nil) {
		return nil, annotate(err, "count orphaned events")
	}
	for i, count := range counts {
		over := parseMark(marks[i].Val())
		if n := count.Val() + over.Events; n > 0 {
			orphans[names[i]] = n
		}
	}
	return orphans, nil
}

// ErrBusy says that a process still has the endpoint's lease. Try again: it
// expires, or is released when its owner learns that the endpoint was removed.
var ErrBusy = errors.New("a process still delivers to the endpoint; try again in some seconds")

// dropScript leaves a fence behind, for a while, that keeps a stale owner out. What was waiting is counted as dropped in the
// same script, so that a crash leaves no difference. KEYS: the leases, the fence, what is deleted, and the counts of days.
// ARGV: the fence's age in ms, how many of the keys are deleted, the age of counts in ms, and of each count its key, field and number.
var dropScript = redis.NewScript(luaNow + `
local claim = redis.call('GET', KEYS[2])
local expires = claim and redis.call('ZSCORE', KEYS[1], claim)
if expires and tonumber(expires) > now or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('ZREM', KEYS[1], claim or '')
local deleted = tonumber(ARGV[2])
for i = 4, #ARGV, 3 do redis.call('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]) end
for i = 3 + deleted, #KEYS do redis.call('PEXPIRE', KEYS[i], ARGV[3]) end
redis.call('UNLINK', unpack(KEYS, 3, 2 + deleted))
redis.call('SET', KEYS[2], 'dropped', 'PX', ARGV[1])
return 1`)

// dropFence is how long a stale owner is kept out of an endpoint that was dropped.
const dropFence = 24 * time.Hour

// Drop deletes everything that Redis holds of the endpoint: what is queued,
// its dead letters and its log, as far as they have not been stored elsewhere.
// It returns ErrBusy while the endpoint's lease is held. Call it when no
// batch is routed to the endpoint any more. Dropping twice is harmless.
func (q *Queue) Drop(ctx context.Context, endpoint string) error {
	k := q.keys
	keys := []string{
		q.leasesOf(endpoint), k.fence(endpoint), k.lease(endpoint), k.events(endpoint), k.side(endpoint), k.due(endpoint),
		k.attempts(endpoint), k.dead(endpoint), k.state(endpoint), k.log(endpoint), k.jobs(endpoint), k.of(endpoint, "cut"),
	}
	lost := map[tallied]int64{}
	err := q.eachWaiting(ctx, endpoint, ID{}, func(id ID, committed time.Time) bool {
		lost[id.talliedIn(intervalOf(committed), FateDropped)]++
		return true
	})
	if err != nil {
		return err
	}
	args := []any{dropFence.Milliseconds(), len(keys) - 2, TallyAge.Milliseconds()}
	for t, n := range lost {
		number := keyNumber(&keys, t, func(interval int64) string { return k.endpointTally(endpoint, interval) })
		args = append(args, number, t.field(), n)
	}
	dropped, err := dropScript.Run(ctx, q.client, keys, args...).Int()
	if err == nil && dropped == 0 {
		err = ErrBusy
	}
	if err == nil && q.overflow != nil {
		err = q.overflow.Drop(ctx, endpoint)
	}
	if err == nil {
		q.appender.forgetRegistered()
		err = q.client.SRem(ctx, k.endpoints(), endpoint).Err()
	}
	return annotate(err, "drop the queue of endpoint %q", endpoint)
}
