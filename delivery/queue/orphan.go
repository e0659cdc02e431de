package queue

import (
	"context"
	"errors"
	"slices"
	"strings"
	"time"

	"gancho/delivery/endpoint"

	"github.com/redis/go-redis/v9"
)

// register adds endpoints to the set of those that have, or had, something in
// Redis, before anything is appended to their streams.
func (q *Queue) register(ctx context.Context, endpoints ...any) error {
	cmd := q.client.SAdd(ctx, q.keys.endpoints(), endpoints...)
	return appendError([]redis.Cmder{cmd}, cmd.Err())
}

// EndpointNames returns the names, in order, of all endpoints that have
// something in Redis, whether they are configured or not, and of some that had.
// The first call of a process scans the keys, for what older versions have left;
// later ones cost one command.
func (q *Queue) EndpointNames(ctx context.Context) ([]string, error) {
	if !q.scanned.Load() {
		if err := q.registerFound(ctx); err != nil {
			return nil, annotate(err, "list endpoints in redis")
		}
		q.scanned.Store(true)
	}
	names, err := q.client.SMembers(ctx, q.keys.endpoints()).Result()
	slices.Sort(names)
	return names, annotate(err, "list endpoints in redis")
}

// registerFound registers the endpoints whose streams there are.
func (q *Queue) registerFound(ctx context.Context) error {
	var found []any // some of them more than once
	err := q.scan(ctx, escapeGlob(q.keys.prefix)+":{*}:*", func(key string) error {
		name, what, _ := strings.Cut(strings.TrimPrefix(key, q.keys.prefix+":{"), "}:")
		if slices.Contains([]string{"q", "x", "log", "dead"}, what) {
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
func (q *Queue) Orphans(ctx context.Context, known []endpoint.Endpoint) (map[string]int64, error) {
	names, err := q.EndpointNames(ctx)
	if err != nil {
		return nil, err
	}
	names = slices.DeleteFunc(names, func(name string) bool {
		return slices.ContainsFunc(known, func(e endpoint.Endpoint) bool { return e.Name == name })
	})
	orphans := map[string]int64{}
	if len(names) == 0 {
		return orphans, nil
	}
	pipe := q.client.Pipeline()
	for _, name := range names {
		pipe.XLen(ctx, q.keys.events(name))
	}
	replies, err := pipe.Exec(ctx)
	if err != nil {
		return nil, annotate(err, "count orphaned events")
	}
	for i, reply := range replies {
		if n := reply.(*redis.IntCmd).Val(); n > 0 {
			orphans[names[i]] = n
		}
	}
	return orphans, nil
}

// ErrBusy says that a process still has the endpoint's lease. Try again: it
// releases the lease when it learns that the endpoint was removed, or the lease
// expires.
var ErrBusy = errors.New("a process still delivers to the endpoint; try again in some seconds")

// dropScript leaves a fence behind, for a while, that keeps a stale owner out.
var dropScript = redis.NewScript(luaNow + `
local claim = redis.call('GET', KEYS[2])
local expires = claim and redis.call('ZSCORE', KEYS[1], claim)
if expires and tonumber(expires) > now or redis.call('EXISTS', KEYS[3]) == 1 then return 0 end
redis.call('ZREM', KEYS[1], claim or '')
redis.call('UNLINK', unpack(KEYS, 3))
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
		k.attempts(endpoint), k.dead(endpoint), k.state(endpoint), k.log(endpoint),
	}
	dropped, err := dropScript.Run(ctx, q.client, keys, dropFence.Milliseconds()).Int()
	if err == nil && dropped == 0 {
		err = ErrBusy
	}
	if err == nil {
		q.appender.forgetRegistered()
		err = q.client.SRem(ctx, k.endpoints(), endpoint).Err()
	}
	return annotate(err, "drop the queue of endpoint %q", endpoint)
}
