package queue

import (
	"context"
	"errors"
	"strconv"

	"github.com/redis/go-redis/v9"
)

// Tables returns what RecordTables wrote last in the epoch of Claim, "" when
// that was nothing.
func (q *Queue) Tables(ctx context.Context) (string, error) {
	c := q.sources.current.Load()
	if c == nil {
		return "", ErrNotClaimed
	}
	fields, err := q.client.HMGet(ctx, q.keys.source(), "epoch_of_tables", "tables").Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		return "", annotate(err, "read the record of the source's tables")
	}
	if fields[0] != strconv.Itoa(int(c.epoch)) {
		return "", nil
	}
	text, _ := fields[1].(string)
	return text, nil
}

// recordTablesScript refuses an epoch that is no longer the queue's, with -1 when
// there is none. What it writes first, a full Redis allows, for the reason that
// ackScript gives.
var recordTablesScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local epoch = redis.call('HGET', KEYS[1], 'epoch')
if not epoch then return -1 end
if epoch ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'epoch_of_tables', ARGV[1], 'tables', ARGV[2])
return 1`)

// RecordTables keeps, beside the source's identity, what the capture knows of
// the source's tables, for the next start.
func (q *Queue) RecordTables(ctx context.Context, text string) error {
	c := q.sources.current.Load()
	if c == nil {
		return ErrNotClaimed
	}
	written, err := recordTablesScript.Run(ctx, q.client, []string{q.keys.source()}, strconv.Itoa(int(c.epoch)), text).Int()
	switch {
	case err != nil:
	case written < 0:
		err = &LostError{"the record of the source"}
	case written == 0:
		err = ErrClaimLost
	}
	return annotate(err, "record the source's tables")
}
