package queue

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Reads returns what RecordReads wrote last in the epoch of Claim, "" when that was nothing.
func (q *Queue) Reads(ctx context.Context) (string, error) {
	c := q.sources.current.Load()
	if c == nil {
		return "", ErrNotClaimed
	}
	fields, err := q.client.HMGet(ctx, q.keys.source(), "epoch_of_reads", "reads").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", annotate(err, "read which tables a backfill reads")
	}
	if fields[0] != strconv.Itoa(int(c.epoch)) {
		return "", nil
	}
	text, _ := fields[1].(string)
	return text, nil
}

// recordReadsScript is as recordTablesScript.
var recordReadsScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return -1 end
if epoch ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'epoch_of_reads', ARGV[1], 'reads', ARGV[2])
return 1`)

// RecordReads keeps, beside the source's identity, which tables a backfill reads: the process that
// captures next must know it before it reads the stream.
func (q *Queue) RecordReads(ctx context.Context, text string) error {
	c := q.sources.current.Load()
	if c == nil {
		return ErrNotClaimed
	}
	written, err := recordReadsScript.Run(ctx, q.client, []string{q.keys.source()}, strconv.Itoa(int(c.epoch)), text).Int()
	switch {
	case err != nil:
	case written < 0:
		err = &LostError{"the record of the source"}
	case written == 0:
		err = ErrClaimLost
	}
	return annotate(err, "record which tables a backfill reads")
}

// Waiting returns how many events the streams of the endpoints have in Redis, in their order.
func (q *Queue) Waiting(ctx context.Context, endpoints []string) ([]int64, error) {
	if len(endpoints) == 0 {
		return nil, nil
	}
	pipe := q.client.Pipeline()
	counts := make([]*redis.IntCmd, len(endpoints))
	for i, name := range endpoints {
		counts[i] = pipe.XLen(ctx, q.keys.events(name))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, annotate(err, "count queued events")
	}
	out := make([]int64, len(endpoints))
	for i, count := range counts {
		out[i] = count.Val()
	}
	return out, nil
}
