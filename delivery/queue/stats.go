package queue

import (
	"context"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// Stats is what the queue holds of one endpoint.
type Stats struct {
	Endpoint string `json:"-"`
	// Backlog is how many events wait, those in flight included, and Oldest when
	// the first of them was committed (zero when none waits).
	Backlog int64     `json:"queued"`
	Oldest  time.Time `json:"oldest,omitzero"`
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
	// Failing is since when every attempt has failed; zero: the last succeeded,
	// or there was none.
	Failing time.Time `json:"failing_since,omitzero"`
	// Down is since when only probes are sent, because every event fails; zero:
	// they are not.
	Down time.Time `json:"-"`
	// Owned: a process delivers to it.
	Owned bool `json:"delivering"`
	// LogEntries and LogRecords are what waits in the log of attempts, in
	// entries and attempts; LogLost is how many attempts were never stored,
	// because too many waited.
	LogEntries int64 `json:"-"`
	LogRecords int64 `json:"log_waiting,omitempty"`
	LogLost    int64 `json:"log_lost,omitempty"`
}

// statsScript gathers what Redis holds of an endpoint, without any payload.
var statsScript = redis.NewScript(`
local oldest = ''
local n = redis.call('XLEN', KEYS[1])
if n > 0 then
  local fields = redis.call('XRANGE', KEYS[1], '-', '+', 'COUNT', 1)[1][2]
  for i = 1, #fields, 2 do
    if fields[i] == 'c' then oldest = fields[i + 1] end
  end
end
local s = redis.call('HMGET', KEYS[5], 'paused', 'since', 'hold', 'failing', 'open', 'log_records', 'log_lost')
for i = 1, 7 do s[i] = s[i] or '' end
local failed, blocked, entries = redis.call('ZCARD', KEYS[3]), 0, 0
if failed > 0 then blocked = redis.call('ZCOUNT', KEYS[3], '+inf', '+inf') end
if s[6] ~= '' and s[6] ~= '0' then entries = redis.call('XLEN', KEYS[6]) end
return {n, oldest, redis.call('XLEN', KEYS[2]), failed, blocked, redis.call('XLEN', KEYS[4]), entries, unpack(s)}`)

// Stats returns what the queue holds of each of the endpoints, in their order,
// in one round trip.
func (q *Queue) Stats(ctx context.Context, endpoints []string) ([]Stats, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
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
	if len(fields) != 14 {
		return Stats{}, errEntry
	}
	count := func(i int) int64 { n, _ := fields[i].(int64); return n }
	text := func(i int) string { s, _ := fields[i].(string); return s }
	number := func(i int) int64 { n, _ := strconv.ParseInt(text(i), 10, 64); return n } // what is not there is 0
	s := Stats{
		Endpoint: endpoint, Backlog: count(0), Replays: count(2), Retrying: count(3) - count(4), Blocked: count(4), Dead: count(5),
		LogEntries: count(6), Owned: owned, Suspension: suspensionOf(text(7), text(8), text(9)),
		Failing: parseMillis(text(10)), Down: parseMillis(text(11)), LogRecords: number(12), LogLost: number(13),
	}
	var err error
	if text(1) != "" {
		s.Oldest, err = parseMicros(text(1))
	}
	return s, err
}
