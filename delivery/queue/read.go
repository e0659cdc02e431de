package queue

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"gancho/delivery/webhook"

	"github.com/redis/go-redis/v9"
)

// Entry is an event as a stream holds it.
type Entry struct {
	ID  ID
	Msg *webhook.Message
}

// readScript reads up to a number of entries, and stops when they have grown
// beyond a number of bytes: a page of the same number of entries may be
// hundreds of times larger than the one before, and would have to fit into
// memory here. It starts with few, for the same reason. The first element of
// the answer is 1 when nothing comes after the page.
var readScript = redis.NewScript(`
local count, budget = tonumber(ARGV[2]), tonumber(ARGV[3])
local out, n, bytes, from, step = {0}, 0, 0, ARGV[1], 4
while n < count and bytes < budget do
  local want = math.min(step, count - n)
  local page = redis.call('XRANGE', KEYS[1], from, '+', 'COUNT', want)
  for i = 1, #page do
    local fields = page[i][2]
    for j = 2, #fields, 2 do bytes = bytes + #fields[j] end
    n = n + 1
    out[n + 1] = page[i]
  end
  if #page < want then
    out[1] = 1
    break
  end
  from = '(' .. page[#page][1]
  step = math.max(1, math.min(step * 2, math.floor((budget - bytes) * n / (bytes + 1))))
end
return out`)

// Read returns the entries of one of the endpoint's streams that come after an
// id, at most count of them, and about budget bytes; end: there are no more. The first
// part of the main one may be in the Overflow.
func (o *Owner) Read(ctx context.Context, side bool, after ID, count, budget int) (page []Entry, end bool, err error) {
	if side {
		return o.readStream(ctx, true, after, count, budget)
	}
	return o.readMain(ctx, after, count, budget)
}

func (o *Owner) readStream(ctx context.Context, side bool, after ID, count, budget int) (page []Entry, end bool, err error) {
	q, endpoint := o.q, o.endpoint
	key := q.keys.events(endpoint)
	if side {
		key = q.keys.side(endpoint)
	}
	reply, err := readScript.Run(ctx, q.client, []string{key}, from(after), count, budget).Slice()
	if err != nil {
		return nil, false, annotate(err, "read events of endpoint %q", endpoint)
	}
	last, _ := reply[0].(int64)
	page = make([]Entry, 0, len(reply)-1)
	for _, raw := range reply[1:] {
		e, err := q.decode(ctx, raw)
		if err != nil {
			return nil, false, fmt.Errorf("read events of endpoint %q: %w", endpoint, err)
		}
		page = append(page, e)
	}
	return page, last == 1, nil
}

// from is where to read on after an id. No entry has the zero one.
func from(id ID) string { return "(" + id.String() }

// Fetch reads one event again. It returns nil when the event does not exist any more.
func (o *Owner) Fetch(ctx context.Context, id ID) (*webhook.Message, error) { return o.fetch(ctx, id) }

func (o *Owner) fetchStream(ctx context.Context, id ID) (*webhook.Message, error) {
	q, endpoint, text := o.q, o.endpoint, id.String()
	reply, err := q.client.Do(ctx, "XRANGE", q.keys.stream(endpoint, id), text, text).Slice()
	if err == nil && len(reply) == 0 {
		return nil, nil
	}
	var e Entry
	if err == nil {
		e, err = q.decode(ctx, reply[0])
	}
	return e.Msg, annotate(err, "read event %s of endpoint %q", text, endpoint)
}

var errEntry = errors.New("an entry is not one that Gancho has written; another program uses the same keys, give it another queue.prefix")

func (q *Queue) decode(ctx context.Context, raw any) (Entry, error) {
	pair, ok := raw.([]any)
	if !ok || len(pair) != 2 {
		return Entry{}, errEntry
	}
	text, ok1 := pair[0].(string)
	fields, ok2 := pair[1].([]any)
	if !ok1 || !ok2 {
		return Entry{}, errEntry
	}
	id, err := ParseID(text)
	if err != nil {
		return Entry{}, err
	}
	m := &webhook.Message{}
	for i := 0; i+1 < len(fields); i += 2 {
		if err := fill(m, fields[i], fields[i+1]); err != nil {
			return Entry{}, err
		}
	}
	return Entry{id, m}, q.identify(ctx, id, m)
}

// identify sets what the message of an entry owes to the entry's id. The side
// stream's have brought their own webhook-ids.
func (q *Queue) identify(ctx context.Context, id ID, m *webhook.Message) error {
	if id.FromSide() {
		if m.Sequence == "" {
			m.Sequence = cmp.Or(sequenceOf(m.ID), id.Sequence())
		}
		return nil
	}
	source, err := q.sources.of(ctx, id.Epoch())
	if err != nil {
		return err
	}
	m.ID = id.WebhookID(source)
	m.Sequence = m.ID[len(source)+1:]
	return nil
}

// fill sets what a field of an entry says. It ignores fields of newer versions.
func fill(m *webhook.Message, field, text any) (err error) {
	name, ok1 := field.(string)
	value, ok2 := text.(string)
	if !ok1 || !ok2 {
		return errEntry
	}
	switch name {
	case "t":
		m.Type = value
	case "k":
		m.Key = value
	case "n":
		m.Tenant = value
	case "c":
		m.Time, err = parseMicros(value)
	case "d":
		m.Data = []byte(value)
	case "v":
		m.Version = value
	case "p":
		m.Previous = []byte(value)
	case "u":
		m.Unchanged = []byte(value)
	case "e":
		m.Errors = []byte(value)
	case "g":
		err = json.Unmarshal([]byte(value), &m.Tags)
	case "h":
		m.Change = []byte(value)
	case "o":
		m.Op = value
	case "l":
		m.Late, err = strconv.ParseInt(value, 10, 64)
	case "w":
		m.ID = value
	case "s":
		m.Sequence = value
	case "r":
		m.Replay = true
	}
	return err
}

// message returns, with its own memory, what a reader of the record's entry would get.
func (b *Batch) message(rec *record, source string) *webhook.Message {
	m := &webhook.Message{ID: rec.id.WebhookID(source), Type: rec.typ, Version: rec.version, Time: rec.time, Op: rec.op.String()}
	m.Sequence = m.ID[len(source)+1:]
	names := string(b.buf[rec.tenant.from:rec.key.to]) // they lie side by side
	m.Tenant, m.Key = names[:rec.tenant.to-rec.tenant.from], names[rec.tenant.to-rec.tenant.from:]
	body := append([]byte(nil), b.buf[rec.data.from:rec.errors.to]...)
	part := func(s span) []byte {
		from, to := s.from-rec.data.from, s.to-rec.data.from
		return body[from:to:to]
	}
	m.Data = part(rec.data)
	if rec.previous.from < rec.previous.to {
		m.Previous = part(rec.previous)
	}
	if rec.unchanged.from < rec.unchanged.to {
		m.Unchanged = part(rec.unchanged)
	}
	if rec.errors.from < rec.errors.to {
		m.Errors = part(rec.errors)
	}
	if rec.tags.from < rec.tags.to {
		_ = json.Unmarshal(b.bytes(rec.tags), &m.Tags) // an array of strings, as mapping has written it
	}
	if rec.change.from < rec.change.to {
		m.Change = bytes.Clone(b.bytes(rec.change))
	}
	return m
}

// Owner reads, and writes under its claim, the fencing token, as whoever has an
// endpoint's lease. Its methods may be called concurrently, but for Write and MoveOldest.
type Owner struct {
	q               *Queue
	endpoint, claim string
	over            overflowed
	whole           atomic.Uint64 // one more than the generation of Redis that was found without holes
}

// Generation counts the restarts of Redis that this process has noticed: what
// was read before it rose may have been lost since.
func (o *Owner) Generation() uint64 { return o.q.servers.generations.Load() }

// Load reads what the last owner has left: the endpoint's state, and failed events' attempts.
func (o *Owner) Load(ctx context.Context) (Condition, map[ID]Attempts, error) {
	s, err := o.q.loadCondition(ctx, o.endpoint)
	if err != nil {
		return Condition{}, nil, err
	}
	if err := o.loadOverflow(ctx, s.overflows); err != nil {
		return Condition{}, nil, err
	}
	retries, err := o.q.loadRetries(ctx, o.endpoint)
	return s, retries, err
}

// Release gives the lease back, and wakes the other processes.
func (o *Owner) Release(ctx context.Context) error {
	keys := []string{o.q.leasesOf(o.endpoint), o.q.keys.fence(o.endpoint)}
	err := releaseScript.Run(ctx, o.q.client, keys, o.claim).Err()
	if err == nil {
		err = o.q.client.Publish(ctx, o.q.keys.wake(), WakeAll).Err()
	}
	return annotate(err, "release endpoint %q", o.endpoint)
}
