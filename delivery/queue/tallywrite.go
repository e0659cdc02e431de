package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
)

// TallyAge is how long counts are kept.
const TallyAge = 35 * 24 * time.Hour

// beginTallyScript begins a turn of counting, and returns its number and up to where was counted.
// What it writes first, a full Redis allows, for the reason that ackScript gives. KEYS: the record.
var beginTallyScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
redis.call('HSETNX', KEYS[1], 'since', ARGV[1])
return {redis.call('HINCRBY', KEYS[1], 'turn', 1), redis.call('HGET', KEYS[1], 'counted') or ''}`)

// tallyScript adds counts, once however often it is sent: 1; 0: another process counts now; -1: Redis has
// not counted up to where these begin. KEYS: the record, the intervals. ARGV: the turn, where they begin and
// end, the age of an interval in ms, the epoch, the first and last LSN of each interval; and of each count its key,
// field and number.
var tallyScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local record = redis.call('HMGET', KEYS[1], 'turn', 'counted')
if record[1] ~= ARGV[1] then return 0 end
if record[2] == ARGV[3] then return 1 end
if (record[2] or '') ~= ARGV[2] then return -1 end
local at = 6
for i = 2, #KEYS do
  redis.call('HSETNX', KEYS[i], 'first:' .. ARGV[5], ARGV[at])
  redis.call('HSET', KEYS[i], 'last:' .. ARGV[5], ARGV[at + 1])
  at = at + 2
end
for i = at, #ARGV, 3 do redis.call('HINCRBY', KEYS[tonumber(ARGV[i])], ARGV[i + 1], ARGV[i + 2]) end
for i = 2, #KEYS do
  if redis.call('PTTL', KEYS[i]) < 0 then redis.call('PEXPIRE', KEYS[i], ARGV[4]) end
end
redis.call('HSET', KEYS[1], 'counted', ARGV[3])
return 1`)

// tallyRecord is the key of the record of counting: turn, counted (<epoch>:<LSN>), since (µs).
// All keys of what is counted at the capture are on the source's Cluster slot.
func (k keyspace) tallyRecord() string { return k.of(k.source(), "tally") }

// tallyInterval is the key of the counts of an interval, by <epoch>:<rule>:<count>, and
// <epoch>:<rule>:to:<endpoint>; first:<epoch> and last:<epoch> are the LSNs of commits.
func (k keyspace) tallyInterval(n int64) string {
	return k.of(k.source(), "tally:"+strconv.FormatInt(n, 10))
}

// endpointTally is the key of the counts of what became of an endpoint's events of an interval, by
// <epoch>:<rule>:<Fate>.
func (k keyspace) endpointTally(endpoint string, n int64) string {
	return k.of(endpoint, "tally:"+strconv.FormatInt(n, 10))
}

// BeginTally has the changes that are read from now on counted, from where counting has got to:
// call it with each Take, from the goroutine that captures. What was counted and not
// written is written first. Another process that counted is refused from now on. An error is worth repeating.
func (q *Queue) BeginTally(ctx context.Context) error {
	t := &q.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	source := q.sources.current.Load()
	if source == nil {
		return errNotClaimed
	}
	if err := t.writeLocked(ctx); err != nil && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrRestarted) {
		return err
	}
	reply, err := beginTallyScript.Run(ctx, q.client, []string{q.keys.tallyRecord()}, time.Now().UnixMicro()).Slice()
	if err != nil {
		return annotate(err, "begin to count changes")
	}
	t.drop()
	t.turn, _ = reply[0].(int64)
	t.written, _ = reply[1].(string)
	t.epoch, t.ready, t.writing, t.floor = source.epoch, nil, nil, 0
	var epoch uint16
	var lsn uint64
	if _, err := fmt.Sscanf(t.written, "%d:%d", &epoch, &lsn); err == nil && epoch == t.epoch {
		t.floor = cdc.LSN(lsn)
	}
	return nil
}

// writeTally writes the counts of all transactions that are complete. Without an error, what was
// Reached before the call is in Redis.
func (q *Queue) writeTally(ctx context.Context) error {
	t := &q.tally
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.writeLocked(ctx)
}

// writeLocked returns ErrFenced and a *LostError where these counts cannot be added any more: their
// transactions are read again.
func (t *Tally) writeLocked(ctx context.Context) error {
	for t.turn != 0 && (t.writing != nil || t.ready != nil) {
		if t.writing == nil {
			t.writing, t.ready = t.ready, nil
			t.writeTo = fmt.Sprintf("%d:%d", t.epoch, t.readyTo)
		}
		keys, args := t.commandLocked()
		done, err := tallyScript.Run(ctx, t.q.client, keys, args...).Int()
		switch {
		case err != nil:
			return annotate(err, "count changes")
		case done == 0:
			return ErrFenced
		case done < 0:
			t.q.servers.generations.Add(1)
			return &LostError{"what was counted"}
		}
		t.writing, t.written = nil, t.writeTo
	}
	return nil
}

// commandLocked returns the keys and arguments that write what is written.
func (t *Tally) commandLocked() (keys []string, args []any) {
	keys = []string{t.q.keys.tallyRecord()}
	args = []any{t.turn, t.written, t.writeTo, TallyAge.Milliseconds(), int(t.epoch)}
	spans := map[int64]tallyCell{}
	for key, c := range t.writing {
		s := spans[key.interval]
		s.span(c)
		spans[key.interval] = s
	}
	at := map[int64]int{}
	for interval, s := range spans {
		keys = append(keys, t.q.keys.tallyInterval(interval))
		at[interval] = len(keys)
		args = append(args, s.first, s.last)
	}
	for key, c := range t.writing {
		n := at[key.interval]
		rule := strconv.Itoa(int(t.epoch)) + ":" + strconv.Itoa(int(key.rule)) + ":"
		for i, number := range c.n {
			if number != 0 {
				args = append(args, n, rule+countNames[i], number)
			}
		}
		for name, number := range c.to {
			if number != 0 {
				args = append(args, n, rule+"to:"+name, number)
			}
		}
	}
	return keys, args
}

// Fate is what became of an event that was given to an endpoint.
type Fate string

// The fates of events.
const (
	FateDelivered Fate = "delivered"
	FateDead      Fate = "dead"
	FateDropped   Fate = "dropped" // erased by forget, or with the endpoint's queue
)

// tallied is what Redis needs to count events that leave the queue: the key's number in the script, and the field.
type tallied struct {
	interval int64
	field    string
}

// field is that of a rule's events with a fate.
func (id ID) field(f Fate) string {
	return strconv.Itoa(int(id.Epoch())) + ":" + strconv.Itoa(id.N()) + ":" + string(f)
}

// appendCounted appends the ids of the main stream by what they count for: the number of groups, and of each
// its key's number (0: it is not counted), its field, the number of ids and these. keys get those of the intervals.
func (o *Owner) appendCounted(args []any, r *Results, keys *[]string, of func(interval int64) string) []any {
	groups := map[tallied][]ID{}
	for _, ids := range [][]ID{r.Done, r.Clean} {
		for _, id := range ids {
			if !id.FromSide() {
				group := o.talliedAs(r, id, FateDelivered)
				groups[group] = append(groups[group], id)
			}
		}
	}
	args = append(args, len(groups))
	for group, ids := range groups {
		args = append(args, keyNumber(keys, group, of), group.field, len(ids))
		for _, id := range ids {
			args = append(args, id.String())
		}
	}
	return args
}

// talliedAs is what an event counts for; the zero one: nobody has said when it was committed, or it is of
// the Overflow, which has counted it. Of that Redis may have restored a copy.
func (o *Owner) talliedAs(r *Results, id ID, f Fate) tallied {
	interval, known := r.committed[id]
	if !known || id.FromSide() || !o.InStream(id) {
		return tallied{}
	}
	return tallied{interval, id.field(f)}
}

// keyNumber is the number of the key of an interval, which it adds if it is not there.
func keyNumber(keys *[]string, t tallied, of func(interval int64) string) int {
	if t.field == "" {
		return 0
	}
	key := of(t.interval)
	if i := slices.Index(*keys, key); i >= 0 {
		return i + 1
	}
	*keys = append(*keys, key)
	return len(*keys)
}

// tallyOfEntry is what an entry of the main stream counts for; the zero one: it is none of ours.
func tallyOfEntry(id, micros string, f Fate) tallied {
	parsed, err := ParseID(id)
	if err != nil {
		return tallied{}
	}
	committed, err := parseMicros(micros)
	if err != nil {
		return tallied{}
	}
	return tallied{intervalOf(committed), parsed.field(f)}
}
