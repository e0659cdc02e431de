package queue

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
)

// TallyAge is how long counts are kept.
const TallyAge = 14 * 24 * time.Hour

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

// endpointTally is the key of the counts of what became of an endpoint's events of the day of an interval, by
// <interval of the day>:<epoch>:<rule>:<Fate>.
func (k keyspace) endpointTally(endpoint string, n int64) string {
	return k.of(endpoint, "tally:"+strconv.FormatInt(n/intervalsPerDay, 10))
}

// tallyCommand is the keys and arguments of tallyScript.
type tallyCommand struct {
	keys []string
	args []any
	to   string // how far Redis has counted with it
}

// BeginTally has the changes that are read from now on counted, from where counting has got to:
// call it with each Take, from the goroutine that captures. What was counted and not
// written is written first. Another process that counted is refused from now on. An error is worth repeating.
func (q *Queue) BeginTally(ctx context.Context) error {
	t := &q.tally
	t.writing.Lock()
	defer t.writing.Unlock()
	source := q.sources.current.Load()
	if source == nil {
		return ErrNotClaimed
	}
	t.drop()
	if err := t.writeLocked(ctx); err != nil && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrRestarted) {
		return err
	}
	reply, err := beginTallyScript.Run(ctx, q.client, []string{q.keys.tallyRecord()}, time.Now().UnixMicro()).Slice()
	if err != nil {
		return annotate(err, "begin to count changes")
	}
	t.turn, _ = reply[0].(int64)
	t.written, _ = reply[1].(string)
	t.epoch, t.command, t.floor = source.epoch, nil, 0
	t.forget()
	if counted, err := parseCounted(t.written); err == nil && counted.Epoch() == t.epoch {
		t.floor = counted.Position().Commit
	}
	return nil
}

// forget drops what is complete and was not written: it is read again.
func (t *Tally) forget() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.cells)
	clear(t.recent)
	t.completeTo = 0
}

// writeTally writes the counts of all transactions that are complete. Without an error, what was
// Reached before the call is in Redis.
func (q *Queue) writeTally(ctx context.Context) error {
	t := &q.tally
	t.writing.Lock()
	defer t.writing.Unlock()
	return t.writeLocked(ctx)
}

// writeLocked returns ErrFenced and a *LostError where these counts cannot be added any more: their
// transactions are read again.
func (t *Tally) writeLocked(ctx context.Context) error {
	for t.turn != 0 {
		if t.command == nil {
			t.command = t.collect()
		}
		if t.command == nil {
			return nil
		}
		done, err := tallyScript.Run(ctx, t.q.client, t.command.keys, t.command.args...).Int()
		switch {
		case err != nil:
			return annotate(err, "count changes")
		case done == 0: // the process that captures now reads again what these counts are of
			t.turn, t.command = 0, nil
			t.forget()
			return ErrFenced
		case done < 0:
			t.q.servers.generations.Add(1)
			return &LostError{"what was counted"}
		}
		t.command, t.written = nil, t.command.to
	}
	return nil
}

// collect takes what is complete; nil: nothing is.
func (t *Tally) collect() *tallyCommand {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.completeTo == 0 {
		return nil
	}
	c := &tallyCommand{keys: []string{t.q.keys.tallyRecord()}, to: fmt.Sprintf("%d:%d", t.epoch, t.completeTo)}
	c.args = []any{t.turn, t.written, c.to, TallyAge.Milliseconds(), int(t.epoch)}
	t.completeTo = 0
	type span struct {
		key         int
		first, last cdc.LSN
	}
	spans := map[int64]*span{}
	var counts []any
	for key, cell := range t.cells {
		if cell.first == 0 {
			continue
		}
		s := spans[key.interval]
		if s == nil {
			c.keys = append(c.keys, t.q.keys.tallyInterval(key.interval))
			s = &span{len(c.keys), cell.first, cell.last}
			spans[key.interval] = s
		}
		s.first, s.last = min(s.first, cell.first), max(s.last, cell.last)
		rule := strconv.Itoa(int(t.epoch)) + ":" + strconv.Itoa(int(key.rule)) + ":"
		for i, n := range cell.n {
			if n != 0 {
				counts = append(counts, s.key, rule+countNames[i], n)
			}
		}
		for i := range cell.to {
			if to := &cell.to[i]; to.n != 0 {
				counts = append(counts, s.key, rule+"to:"+to.stream.endpoint, to.n)
				to.n = 0
			}
		}
		cell.n, cell.first = [ruleCounts]int64{}, 0
	}
	for _, s := range slices.SortedFunc(maps.Values(spans), func(a, b *span) int { return a.key - b.key }) {
		c.args = append(c.args, uint64(s.first), uint64(s.last))
	}
	c.args = append(c.args, counts...)
	return c
}

// Fate is what became of an event that was given to an endpoint.
type Fate string

// The fates of events.
const (
	FateDelivered Fate = "delivered"
	FateDead      Fate = "dead"
	FateDropped   Fate = "dropped" // erased by forget, or with the endpoint's queue
	// FateSuperseded: not sent, because a newer event of its key and name was there.
	FateSuperseded Fate = "superseded"
)

// tallied is what events that leave the queue are counted for; the zero one: they are not counted.
type tallied struct {
	interval int64
	epoch    uint16
	n        int // the event's number within its change
	fate     Fate
}

// talliedIn is what a rule's events with a fate count for in an interval.
func (id ID) talliedIn(interval int64, f Fate) tallied {
	return tallied{interval, id.Epoch(), id.N(), f}
}

// field is that of the count in Redis; "": it is not counted.
func (t tallied) field() string {
	if t == (tallied{}) {
		return ""
	}
	return fmt.Sprintf("%d:%d:%d:%s", t.interval%intervalsPerDay, t.epoch, t.n, t.fate)
}

// appendCounted appends the ids of the main stream by what they count for: the number of groups, and of each
// its key's number (0: it is not counted), its field, the number of ids and these. keys get those of the intervals.
func (o *Owner) appendCounted(args []any, texts *idTexts, r *Results, keys *[]string, of func(interval int64) string) []any {
	groups := map[tallied][]ID{}
	var last tallied // nearly all are of one group
	var same []ID
	group := func(ids []ID, f Fate) {
		for _, id := range ids {
			if id.FromSide() {
				continue
			}
			if as := o.talliedAs(r, id, f); as != last || same == nil {
				if same != nil {
					groups[last] = same
				}
				last, same = as, groups[as]
			}
			same = append(same, id)
		}
	}
	group(r.Done, FateDelivered)
	group(r.Clean, FateDelivered)
	group(r.Superseded, FateSuperseded)
	if same != nil {
		groups[last] = same
	}
	args = append(args, len(groups))
	for group, ids := range groups {
		args = append(args, keyNumber(keys, group, of), group.field(), len(ids))
		for _, id := range ids {
			args = append(args, texts.of(id))
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
	return id.talliedIn(interval, f)
}

// keyNumber is the number of the key of an interval, which it adds if it is not there.
func keyNumber(keys *[]string, t tallied, of func(interval int64) string) int {
	if t == (tallied{}) {
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
	return parsed.talliedIn(intervalOf(committed), f)
}
