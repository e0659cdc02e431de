package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"strconv"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
)

// chain counts the transactions that append in two ways, both of them in each of these
// transactions: by one more, and by their number. Where the count is below the number, some
// are missing before the newest. Redis 7 and newer begin another append-only file with each
// rewrite, while the end of the one before is on its way to the disk. A power failure then may
// take that end and leave what is in the next file; Redis cuts the torn file and ends,
// for aof-load-truncated is about the last file only, but loads both when it is started
// again. A stream that has lost entries in the middle takes none there: their ids are below
// its last.
//
// A cluster has one for each endpoint, of which the first in a transaction is taken.
type chain struct {
	newest  uint64 // number of the newest transaction
	unsure  bool   // it, or another, may have been executed twice, or not at all
	command *redis.Cmd
	number  arg
}

// relinkScript counts a transaction after one of which it is not known whether it was executed:
// by as much more as makes the count its number. That is what the append-only file gets: of
// transactions that are lost before this one, the count stays below the number. Were the count
// set, it would hide them, those that had been executed before. The first write is one that a
// full Redis allows: see ackScript; deliveries wait until a hole is filled.
const relinkScript = `
redis.call('PERSIST', KEYS[1])
local count = redis.call('BITFIELD', KEYS[1], 'GET', 'i64', '#0')[1]
return redis.call('BITFIELD', KEYS[1], 'INCRBY', 'i64', '#0', ARGV[1] - count, 'SET', 'i64', '#1', ARGV[1])`

// next returns the number of the next transaction, and whether it is counted as relinkScript does.
func (c *chain) next() (number uint64, relink bool) {
	c.newest++
	relink, c.unsure = c.unsure, false
	return c.newest, relink
}

// link returns the command with which the next transaction is counted.
func (c *chain) link(key string) *redis.Cmd {
	number, relink := c.next()
	c.number.b = strconv.AppendUint(c.number.b[:0], number, 10)
	if relink {
		return redis.NewCmd(context.Background(), "EVAL", relinkScript, 1, key, &c.number)
	}
	if c.command == nil {
		c.command = redis.NewCmd(context.Background(), "BITFIELD", key, "INCRBY", "i64", "#0", 1, "SET", "i64", "#1", &c.number)
	}
	c.command.SetErr(nil)
	return c.command
}

// linked compares the count in the answer to link: a transaction whose answer was lost may have been
// executed after the one that repeats it, which counts it once too often; or, if it is itself one that
// makes the count even, sets both back. No hole gets here: Redis was restarted then, and refuses.
func (c *chain) linked(reply any) {
	if counts, ok := reply.([]any); ok && len(counts) > 0 {
		count, _ := counts[0].(int64)
		c.unsure = count != int64(c.newest)
	}
}

// chainLocked returns the chain that counts a transaction whose first stream is s.
func (a *appender) chainLocked(s *stream) *chain {
	c := a.chains[s.chain]
	if c == nil {
		c = &chain{}
		a.chains[s.chain] = c
	}
	return c
}

// unsureLocked says that transactions may have been executed that come again.
func (a *appender) unsureLocked() {
	for _, c := range a.chains {
		c.unsure = true
	}
}

// fillHolesLocked looks for transactions that are missing before newer ones. If there are any,
// it takes what is not before the confirmed LSN out of all streams: the capture reads it
// again from the source, and appends it in order.
func (q *Queue) fillHolesLocked(ctx context.Context, epoch uint16, confirmed uint64) error {
	streams, err := q.allStreams(ctx)
	if err != nil {
		return err
	}
	chains, holed, err := q.readChains(ctx, streams)
	if err != nil {
		return err
	}
	maps.Copy(q.appender.chains, chains)
	if !holed {
		return nil
	}
	q.log.Error().Stringer("confirmed", cdc.LSN(confirmed)).
		Msg("redis has lost events in the middle of its append-only file, as a power failure while it rewrites that file can do: " +
			"everything since the confirmed position is appended again, and some events are delivered again under the same webhook-id")
	for _, s := range streams {
		if err := q.cut(ctx, s, epoch, confirmed); err != nil {
			return err
		}
	}
	q.servers.generations.Add(1) // what was read is read again, also by other processes:
	for _, s := range streams {
		if s.endpoint == "" {
			continue
		}
		if err := rereadScript.Run(ctx, q.client, []string{q.keys.state(s.endpoint)}).Err(); err != nil {
			return err
		}
	}
	if err := q.client.Publish(ctx, q.keys.wake(), WakeAll).Err(); err != nil {
		return err
	}
	// Only now: an interrupted process leaves the holes to be found again.
	q.appender.unsureLocked()
	for _, s := range streams {
		if c := q.appender.chains[s.chain]; c.unsure {
			if err := q.client.Process(ctx, c.link(s.chain)); err != nil {
				return err
			}
		}
	}
	return nil
}

// rereadScript has the endpoint's owner read again. Its first write is one that a full Redis
// allows: see ackScript.
var rereadScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
return redis.call('HINCRBY', KEYS[1], 'forgotten', 1)`)

// allStreams are those that Append may have written to.
func (q *Queue) allStreams(ctx context.Context) ([]*stream, error) {
	names, err := q.EndpointNames(ctx)
	streams := []*stream{q.appender.parked, q.appender.timers}
	for _, name := range names {
		streams = append(streams, q.appender.stream(name, &q.keys))
	}
	return streams, err
}

// readChains reads the streams' chains from Redis, and reports whether any has holes.
func (q *Queue) readChains(ctx context.Context, streams []*stream) (chains map[string]*chain, holed bool, err error) {
	pipe := q.client.Pipeline()
	replies := make(map[string]*redis.IntSliceCmd, len(streams))
	for _, s := range streams {
		if replies[s.chain] == nil {
			replies[s.chain] = pipe.BitFieldRO(ctx, s.chain, "i64", "#0", "i64", "#1")
		}
	}
	_, _ = pipe.Exec(ctx) // each command has its error
	chains = make(map[string]*chain, len(replies))
	for key, reply := range replies {
		got, err := reply.Result()
		if err != nil {
			return nil, false, fmt.Errorf("read %s: %w", key, err)
		}
		holed = holed || got[0] < got[1]
		chains[key] = &chain{newest: uint64(got[1]), unsure: got[0] > got[1]}
	}
	return chains, holed, nil
}

// checkHoles returns an error while appends may be missing from the endpoint's stream before
// newer ones, which are read when the capture has appended them. It asks once after each
// restart: no hole comes otherwise. What was read before it had none.
func (o *Owner) checkHoles(ctx context.Context) error {
	generation := o.Generation()
	if o.whole.Load() == generation+1 {
		return nil
	}
	_, holed, err := o.q.readChains(ctx, o.q.appender.sharing(o.q.appender.stream(o.endpoint, &o.q.keys)))
	switch {
	case err != nil:
		return annotate(err, "look for holes in the queue of endpoint %q", o.endpoint)
	case holed:
		return &notReadyError{errors.New("a power failure has taken events from the middle of its append-only file, and the capture has not appended them again yet; " +
			"does the process that captures run?")}
	}
	o.whole.Store(generation + 1)
	return nil
}

// sharing are the streams that are appended to in one transaction with a stream, and counted
// by the chain of any of them: of a cluster, those of its slot, else of one chain.
func (a *appender) sharing(s *stream) []*stream {
	a.streamsMu.Lock()
	defer a.streamsMu.Unlock()
	all := []*stream{s}
	for _, other := range a.streams {
		if other.chain != s.chain && other.slot == s.slot {
			all = append(all, other)
		}
	}
	return all
}

// cutScript moves a page of a stream's entries, up to an id, to a new one. The rest goes
// with the old stream, whose last id could not be lowered: from Redis 7.2 on, XSETID
// refuses an id below one that was deleted. What it writes first, a full Redis allows, for
// the reason that ackScript gives.
var cutScript = redis.NewScript(`
redis.call('XDEL', KEYS[1], '0-1')
local page = redis.call('XRANGE', KEYS[1], '-', ARGV[1], 'COUNT', ARGV[2])
if #page == 0 then
  redis.call('DEL', KEYS[1])
  return 0
end
local ids = {}
for i, entry in ipairs(page) do
  ids[i] = entry[1]
  redis.call('XADD', KEYS[2], entry[1], unpack(entry[2]))
end
redis.call('XDEL', KEYS[1], unpack(ids))
return #page`)

// cut takes out of a stream what is not before an LSN of an epoch.
func (q *Queue) cut(ctx context.Context, s *stream, epoch uint16, lsn uint64) error {
	const page = 500
	last := ID{hi: (uint64(epoch)<<lsnBits | lsn) - 1, lo: math.MaxUint64}
	newest, err := q.lastID(ctx, s.key)
	if err != nil {
		return err
	}
	if newest.Compare(last) > 0 {
		if err := q.client.Rename(ctx, s.key, s.old).Err(); err != nil {
			return err
		}
	}
	for moved := page; moved > 0; { // also what an interrupted cut has left
		if moved, err = cutScript.Run(ctx, q.client, []string{s.old, s.key}, last.String(), page).Int(); err != nil {
			return err
		}
	}
	return nil
}
