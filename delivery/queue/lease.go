package queue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"
)

// An endpoint belongs to the process whose claim is in the key `lease`, which
// expires, and in the key `fence`, which does not: a claim is unique, and
// whoever writes results shows that the fence is still its own. Comparing
// claims, rather than counting tokens up, holds even when Redis loses its last
// second, and with it the newest count.
//
// The scripts write something that changes nothing first, for the reason that
// ackScript gives.

// acquireScript takes the lease when nobody has it.
var acquireScript = redis.NewScript(`
redis.call('XDEL', KEYS[3], '0-0')
if not redis.call('SET', KEYS[1], ARGV[1], 'NX', 'PX', ARGV[2]) then return 0 end
redis.call('SET', KEYS[2], ARGV[1])
return 1`)

// renewScript extends the lease, even one that has expired when nobody has
// taken it since. It also tells what the owner has to know from time to time:
// whether there are entries after its cursors, and the endpoint's state.
var renewScript = redis.NewScript(`
redis.call('XDEL', KEYS[3], '0-0')
local lease, fence = redis.call('GET', KEYS[1]), redis.call('GET', KEYS[2])
if lease ~= ARGV[1] and (lease or (fence and fence ~= ARGV[1])) then return {0} end
redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])
if fence ~= ARGV[1] then redis.call('SET', KEYS[2], ARGV[1]) end
local more = #redis.call('XRANGE', KEYS[3], ARGV[3], '+', 'COUNT', 1)
local aside = #redis.call('XRANGE', KEYS[5], ARGV[4], '+', 'COUNT', 1)
local state = redis.call('HMGET', KEYS[4], 'paused', 'hold', 'unblock')
return {1, more, aside, state[1] or '', state[2] or '', state[3] or ''}`)

// releaseScript gives the lease back. The fence goes too, or a renewal that is
// on its way would take the lease again.
var releaseScript = redis.NewScript(`
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('DEL', KEYS[1])
redis.call('SET', KEYS[2], 'released')
return 1`)

// heartbeatScript registers the process, forgets those not heard of for a
// lease's time, and returns how many are alive. The clock is Redis's.
var heartbeatScript = redis.NewScript(`
local t = redis.call('TIME')
local now = t[1] * 1000 + math.floor(t[2] / 1000)
redis.call('ZREMRANGEBYSCORE', KEYS[1], '-inf', now - ARGV[2])
redis.call('ZADD', KEYS[1], now, ARGV[1])
return redis.call('ZCARD', KEYS[1])`)

func (q *Queue) leaseKeys(endpoint string) []string {
	return []string{q.keys.lease(endpoint), q.keys.fence(endpoint), q.keys.events(endpoint), q.keys.state(endpoint), q.keys.side(endpoint)}
}

// briefly bounds calls that go to several servers: one that hangs must not
// cost the leases on the others, which are renewed in time with both bounds.
func (q *Queue) briefly(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	if q.ring == nil {
		return ctx, func() {}
	}
	return context.WithTimeout(ctx, max(d, time.Second))
}

// acquire takes leases in one round trip, and returns those owners whose it has
// got, in their places; of those whose server does not answer, none. The error
// is the first of them.
func (q *Queue) acquire(ctx context.Context, ttl time.Duration, of []*Owner) ([]*Owner, error) {
	replies := q.runEach(ctx, acquireScript, len(of), func(i int) ([]string, []any) {
		return q.leaseKeys(of[i].endpoint), []any{of[i].claim, ttl.Milliseconds()}
	})
	out := make([]*Owner, len(of))
	var first error
	for i, reply := range replies {
		got, err := reply.Int()
		if err != nil && first == nil {
			first = fmt.Errorf("acquire endpoint %q: %w", of[i].endpoint, unreachable(err))
		}
		if err == nil && got == 1 {
			out[i] = of[i]
		}
	}
	return out, first
}

// free reports, for each endpoint, whether nobody is known to have its lease.
// With an error it tells of those endpoints whose server has answered.
func (q *Queue) free(ctx context.Context, endpoints []string) ([]bool, error) {
	pipe := q.client.Pipeline()
	replies := make([]*redis.IntCmd, len(endpoints))
	for i, name := range endpoints {
		replies[i] = pipe.Exists(ctx, q.keys.lease(name))
	}
	_, err := pipe.Exec(ctx)
	out := make([]bool, len(endpoints))
	for i := range replies {
		out[i] = replies[i].Err() == nil && replies[i].Val() == 0
	}
	if err != nil {
		return out, fmt.Errorf("look for free endpoints: %w", unreachable(err))
	}
	return out, nil
}

// Standing is what an owner learns when it renews its lease.
type Standing struct {
	Err   error // it is not known
	Owned bool
	// There are entries after the cursors, in the main and the side stream.
	More, MoreAside bool

	Paused  string
	Hold    time.Time
	Unblock string
}

// Renewal is one owner's part of a renewal.
type Renewal struct {
	Owner      *Owner
	Main, Side ID // cursors
}

// renew renews leases in one round trip. Of several servers one may be away:
// the leases that are on it come back with its error; those on the others are
// renewed. The error that is returned is the first of them.
func (q *Queue) renew(ctx context.Context, ttl time.Duration, of []Renewal) ([]Standing, error) {
	replies := q.runEach(ctx, renewScript, len(of), func(i int) ([]string, []any) {
		r := &of[i]
		return q.leaseKeys(r.Owner.endpoint), []any{r.Owner.claim, ttl.Milliseconds(), from(r.Main), from(r.Side)}
	})
	out := make([]Standing, len(of))
	var first error
	for i, reply := range replies {
		fields, err := reply.Slice()
		if err != nil {
			out[i].Err = fmt.Errorf("renew leases: %w", unreachable(err))
			if first == nil {
				first = out[i].Err
			}
			continue
		}
		out[i] = standingOf(fields)
	}
	return out, first
}

func standingOf(fields []any) Standing {
	if owned, _ := fields[0].(int64); owned != 1 || len(fields) < 6 {
		return Standing{}
	}
	more, _ := fields[1].(int64)
	aside, _ := fields[2].(int64)
	s := Standing{Owned: true, More: more > 0, MoreAside: aside > 0}
	s.Paused, _ = fields[3].(string)
	hold, _ := fields[4].(string)
	s.Hold = parseHold(hold)
	s.Unblock, _ = fields[5].(string)
	return s
}

// parseHold reads a time in milliseconds; anything else holds nothing.
func parseHold(s string) time.Time {
	ms, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return time.Time{}
	}
	return time.UnixMilli(ms)
}

func (q *Queue) release(ctx context.Context, endpoint, claim string) error {
	if err := releaseScript.Run(ctx, q.client, q.leaseKeys(endpoint)[:2], claim).Err(); err != nil {
		return fmt.Errorf("release endpoint %q: %w", endpoint, unreachable(err))
	}
	return nil
}

// heartbeat says that the process lives and returns how many do.
func (q *Queue) heartbeat(ctx context.Context, process string, ttl time.Duration) (int, error) {
	n, err := heartbeatScript.Run(ctx, q.client, []string{q.keys.workers()}, process, ttl.Milliseconds()).Int()
	if err != nil {
		return 0, fmt.Errorf("register process: %w", unreachable(err))
	}
	return max(n, 1), nil
}

// WakeAll is what is published when owners should look at everything again;
// else it is the names of endpoints that have new events, one per line.
const WakeAll = ""

func (q *Queue) tellAll(ctx context.Context) error {
	if err := q.client.Publish(ctx, q.keys.wake(), WakeAll).Err(); err != nil {
		return fmt.Errorf("tell the other processes: %w", unreachable(err))
	}
	return nil
}

// leave unregisters the process and tells the others, who take its endpoints.
func (q *Queue) leave(ctx context.Context, process string) error {
	err := q.client.ZRem(ctx, q.keys.workers(), process).Err()
	if err == nil {
		err = q.client.Publish(ctx, q.keys.wake(), WakeAll).Err()
	}
	if err != nil {
		return fmt.Errorf("unregister process: %w", unreachable(err))
	}
	return nil
}
