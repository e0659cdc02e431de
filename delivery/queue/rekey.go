package queue

import (
	"context"
	"crypto/rand"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"
)

// rekeyed is the stream that RekeyParked writes, on the slot of parked.
func (k keyspace) rekeyed(run string) string {
	return k.prefix + ":{" + k.parked() + "}:rekeyed:" + run
}

// rekeyAge is how long Redis keeps what a RekeyParked that died has written. One that lives
// extends it with each page; when a page takes longer, it finds its stream lost, and says so.
const rekeyAge = 2 * time.Minute

// replaceParkedScript puts a stream in place of the parked changes if it has the same:
// "done", else "more" (some were parked since), "fewer" (some were removed since) or "lost"
// (a Redis that was restarted or took another's place lacks its end). The last id, up to
// which nothing is appended again, stays. KEYS: the parked changes, the stream. ARGV: its last id.
var replaceParkedScript = redis.NewScript(`
local function last(key)
  local info = redis.call('XINFO', 'STREAM', key)
  for i = 1, #info, 2 do
    if info[i] == 'last-generated-id' then return info[i + 1] end
  end
end
if redis.call('EXISTS', KEYS[1], KEYS[2]) < 2 or last(KEYS[2]) ~= ARGV[1] then return 'lost' end
if #redis.call('XRANGE', KEYS[1], '(' .. ARGV[1], '+', 'COUNT', 1) > 0 then return 'more' end
if redis.call('XLEN', KEYS[1]) ~= redis.call('XLEN', KEYS[2]) then return 'fewer' end
redis.call('XSETID', KEYS[2], last(KEYS[1]))
redis.call('PERSIST', KEYS[2])
redis.call('RENAME', KEYS[2], KEYS[1])
return 'done'`)

// RekeyParked encrypts parked changes again: reseal changes Change and Subject of one, and
// reports whether it did. It writes all of them to another stream, which takes their place at
// the end, so that Redis has nothing left of the old encryption but in its files; until then
// Redis needs twice the memory of them. Nothing is replaced if nothing was encrypted again, or
// with an error (ErrFull, ErrUnreachable, or reseal's). What is parked or removed meanwhile
// is not lost, nor comes back. It returns how many were encrypted again.
func (q *Queue) RekeyParked(ctx context.Context, reseal func(*ParkedChange) (bool, error)) (n int64, err error) {
	r := rekeying{Queue: q, to: q.keys.rekeyed(rand.Text()), reseal: reseal}
	defer func() {
		err = annotate(err, "encrypt parked changes again")
		if n == 0 {
			_ = q.client.Unlink(context.WithoutCancel(ctx), r.to).Err() // else Redis does so in two minutes
		}
	}()
	for {
		if err := r.copy(ctx); err != nil {
			return 0, err
		}
		if r.changed == 0 { // perhaps because the call before has not waited to its end
			return 0, q.parkedDurably(ctx)
		}
		state, err := replaceParkedScript.Run(ctx, q.client, []string{q.keys.parked(), r.to}, r.last.String()).Text()
		if err != nil {
			return 0, err
		}
		switch state {
		case "done":
			return r.changed, q.parkedDurably(ctx)
		case "lost":
			return 0, fmt.Errorf("%w: it was restarted or replaced meanwhile; run this again", ErrUnreachable)
		case "fewer":
			if err := r.prune(ctx); err != nil {
				return 0, err
			}
		}
	}
}

// parkedDurably returns when the parked changes are on Redis's disk as they are: until then a
// restart may bring those back that need a former key.
func (q *Queue) parkedDurably(ctx context.Context) error {
	err := q.Durably(ctx, q.keys.parked(), func() error { return nil }) // a hash tag on their slot
	if err != nil {
		err = fmt.Errorf("%w; keep all keys, and run this again", err)
	}
	return err
}

// rekeying is the state of a RekeyParked.
type rekeying struct {
	*Queue
	to      string
	reseal  func(*ParkedChange) (bool, error)
	last    ID // the last that was copied
	changed int64
}

// copy copies what follows the last one that was copied.
func (r *rekeying) copy(ctx context.Context) error {
	for {
		entries, err := r.parkedEntries(ctx, r.last, ID{}, true)
		if err != nil || len(entries) == 0 {
			return err
		}
		pipe := r.client.Pipeline()
		for i := range entries {
			fields, err := r.fields(ctx, &entries[i])
			if err != nil {
				return err
			}
			pipe.XAdd(ctx, &redis.XAddArgs{Stream: r.to, ID: entries[i].ID, Values: fields})
		}
		pipe.PExpire(ctx, r.to, rekeyAge)
		if _, err := pipe.Exec(ctx); err != nil {
			return err
		}
	}
}

// fields are those of an entry, encrypted again if they have to be.
func (r *rekeying) fields(ctx context.Context, e *redis.XMessage) ([]any, error) {
	p, err := r.parkedChange(ctx, e)
	if err != nil {
		return nil, err
	}
	if len(p.Change) > 0 {
		changed, err := r.reseal(&p)
		if err != nil {
			return nil, err
		}
		if changed {
			r.changed++
			e.Values["change"] = string(p.Change)
			if p.Subject != "" {
				e.Values["subject"] = p.Subject
			}
		}
	}
	r.last = p.ID
	var fields []any
	for name, value := range e.Values {
		fields = append(fields, name, value)
	}
	return fields, nil
}

// pruneParkedScript removes from a copy those of its next entries that are parked no longer,
// and returns the last that it has looked at; "": there are none. The rows stay in Redis.
// KEYS: the parked changes, the copy. ARGV: where to begin, how many, how long to keep the copy.
var pruneParkedScript = redis.NewScript(`
local at = ''
for _, entry in ipairs(redis.call('XRANGE', KEYS[2], ARGV[1], '+', 'COUNT', ARGV[2])) do
  at = entry[1]
  if #redis.call('XRANGE', KEYS[1], at, at) == 0 then redis.call('XDEL', KEYS[2], at) end
end
redis.call('PEXPIRE', KEYS[2], ARGV[3])
return at`)

// prunePage is how many entries of a copy, each of up to some MiB, one call looks at.
const prunePage = 16

// prune removes from the copy what is parked no longer.
func (r *rekeying) prune(ctx context.Context) error {
	for from := "-"; ; {
		at, err := pruneParkedScript.Run(ctx, r.client, []string{r.keys.parked(), r.to}, from, prunePage, rekeyAge.Milliseconds()).Text()
		if err != nil || at == "" {
			return err
		}
		from = "(" + at
	}
}
