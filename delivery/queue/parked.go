package queue

import (
	"context"
	"fmt"
	"slices"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"

	"github.com/redis/go-redis/v9"
)

// ParkedChange is a change that no event could be made of, or, with the operation "timer", a timer whose event could not be computed when it was due.
type ParkedChange struct {
	ID ID `json:"id"`
	// WebhookID is what the event would have had; empty: the source's name is not known.
	WebhookID string `json:"webhook_id,omitempty"`
	Type      string `json:"event,omitempty"`
	Rule      string `json:"rule"`
	Table     string `json:"table"`
	Operation string `json:"operation"`
	// Reason is why the last redrive, or else the capture, could make no event of it.
	Reason string    `json:"reason"`
	Time   time.Time `json:"time"` // the commit's; of a timer, when it was due
	// RowKey is the primary key of a timer's row, columns joined by commas.
	RowKey string `json:"row_key,omitempty"`
	// Row is JSON: the columns that the rule names. Where there is a Change, it is in there.
	Row []byte `json:"-"`
	// Change is what a redrive needs, encrypted; nil: it was not kept, for the reason in Unkept.
	Change     []byte `json:"-"`
	Redrivable bool   `json:"redrivable"`
	Unkept     string `json:"unkept,omitempty"`
	// Subject stands for the tenant and the key that its event would have had; empty: not known.
	Subject string `json:"-"`

	identity string    // of a timer's rule
	failed   time.Time // when a timer has failed, which may be long after it was due; zero: it is a change
}

// TimerRule is the rule of a timer that is parked, as [mapping.Timer] has it; empty: it is a change that is parked.
func (p *ParkedChange) TimerRule() string { return p.identity }

// size is what it takes in memory, in bytes.
func (p *ParkedChange) size() int { return len(p.Row) + len(p.Change) }

// unkeptBefore is why a change of an older version was not kept.
const unkeptBefore = "it was parked by a version of Gancho that kept no rows"

// ParkedFilter chooses parked changes; its parts are joined by "and", and an empty part
// chooses all.
type ParkedFilter struct {
	IDs        []ID
	WebhookIDs []string
	Events     []string  // patterns with *
	Rule       string    // empty: any
	Reason     string    // empty: any
	From, To   time.Time // commit time; To is exclusive
	Last       ID        // none is after it; zero: there is no last one
}

func (f *ParkedFilter) chooses(p *ParkedChange) bool {
	return (len(f.IDs) == 0 || slices.Contains(f.IDs, p.ID)) &&
		(len(f.WebhookIDs) == 0 || slices.Contains(f.WebhookIDs, p.WebhookID)) &&
		(len(f.Events) == 0 || endpoint.CoveredBy(f.Events, p.Type)) &&
		(f.Rule == "" || f.Rule == p.Rule) && (f.Reason == "" || f.Reason == p.Reason) &&
		!p.Time.Before(f.From) && (f.To.IsZero() || p.Time.Before(f.To)) &&
		(f.Last.IsZero() || p.ID.Compare(f.Last) <= 0)
}

// parkedPage is the most parked changes that one call reads or drops.
const parkedPage = 500

// parkedScript returns parked changes as XRANGE does, but no more of them when they have a
// MiB together. KEYS: the parked changes. ARGV: from, to, how many at most, and whether with
// their rows; without them, only the first byte of each says that it is there.
const parkedScript = `
local out, bytes, from = {}, 0, ARGV[1]
while #out < tonumber(ARGV[3]) and bytes < 1048576 do
  local some = redis.call('XRANGE', KEYS[1], from, ARGV[2], 'COUNT', 4)
  if #some == 0 then break end
  for _, entry in ipairs(some) do
    local fields = entry[2]
    for i = 1, #fields, 2 do
      bytes = bytes + #fields[i + 1]
      if ARGV[4] == '0' and (fields[i] == 'row' or fields[i] == 'change') then fields[i + 1] = string.sub(fields[i + 1], 1, 1) end
    end
    out[#out + 1] = entry
  end
  from = '(' .. some[#some][1]
end
return out`

// Parked returns up to n of the parked changes that the filter chooses, in commit order,
// after an id (zero: from the first), without their rows. It reads all up to the last one.
func (q *Queue) Parked(ctx context.Context, f ParkedFilter, after ID, n int) ([]ParkedChange, error) {
	out := []ParkedChange{}
	err := q.eachParked(ctx, f, after, false, func(p *ParkedChange) bool {
		p.Row, p.Change = nil, nil
		out = append(out, *p)
		return len(out) < n
	})
	return out, err
}

// ParkedPage is Parked with the rows; it ends with the change that exceeds a number of bytes.
func (q *Queue) ParkedPage(ctx context.Context, f ParkedFilter, after ID, n, bytes int) ([]ParkedChange, error) {
	out := []ParkedChange{}
	err := q.eachParked(ctx, f, after, true, func(p *ParkedChange) bool {
		out = append(out, *p)
		bytes -= p.size()
		return len(out) < n && bytes > 0
	})
	return out, err
}

// LastParked returns the newest id of a change that has been parked; zero: none was.
func (q *Queue) LastParked(ctx context.Context) (ID, error) {
	id, err := q.lastID(ctx, q.keys.parked())
	return id, annotate(err, "read the last parked change")
}

// LastParkedID returns the last id of what is parked, or was: of a change or a timer; zero: nothing was.
func (q *Queue) LastParkedID(ctx context.Context) (ID, error) {
	last, err := q.LastParked(ctx)
	if err != nil {
		return last, err
	}
	ids, _ := q.keys.failedKeys()
	text, err := q.client.Do(ctx, "ZREVRANGEBYLEX", ids, "+", "-", "LIMIT", 0, 1).StringSlice()
	if err == nil && len(text) > 0 {
		if id := IDFromBytes([]byte(text[0])); id.Compare(last) > 0 {
			last = id
		}
	}
	return last, annotate(err, "read the last parked timer")
}

// CountParked returns how many parked changes the filter chooses. It reads them.
func (q *Queue) CountParked(ctx context.Context, f ParkedFilter) (int64, error) {
	var n int64
	err := q.eachParked(ctx, f, ID{}, false, func(*ParkedChange) bool { n++; return true })
	return n, err
}

// EachParked calls do with each parked change that the filter chooses, in commit order and
// without its row. It reads all of them.
func (q *Queue) EachParked(ctx context.Context, f ParkedFilter, do func(*ParkedChange)) error {
	return q.eachParked(ctx, f, ID{}, false, func(p *ParkedChange) bool {
		p.Row, p.Change = nil, nil
		do(p)
		return true
	})
}

// eachParked calls do with each parked change that the filter chooses, with or without its
// row, until it returns false.
func (q *Queue) eachParked(ctx context.Context, f ParkedFilter, after ID, rows bool, do func(*ParkedChange) bool) error {
	last := f.Last
	if len(f.IDs) > 0 {
		last = slices.MaxFunc(f.IDs, ID.Compare)
		if first := slices.MinFunc(f.IDs, ID.Compare); !first.IsZero() && first.Before().Compare(after) > 0 {
			after = first.Before()
		}
	}
	changes := parkedPages{after: after, read: func(after ID) ([]ParkedChange, error) { return q.readParked(ctx, after, last, rows) }}
	timers := parkedPages{after: after, read: func(after ID) ([]ParkedChange, error) { return q.readFailed(ctx, after, last) }}
	for {
		p, err := changes.first()
		if err != nil {
			return err
		}
		timer, err := timers.first()
		if err != nil {
			return err
		}
		of := &changes
		if p == nil || timer != nil && timer.ID.Compare(p.ID) < 0 {
			p, of = timer, &timers
		}
		if p == nil {
			return nil
		}
		of.pass()
		if f.chooses(p) && !do(p) {
			return nil
		}
	}
}

// parkedPages goes through what is parked in one place, in the order of the ids.
type parkedPages struct {
	read  func(after ID) ([]ParkedChange, error)
	after ID
	page  []ParkedChange
	end   bool
}

// first returns the next one; nil: there is none.
func (p *parkedPages) first() (*ParkedChange, error) {
	if len(p.page) == 0 && !p.end {
		var err error
		if p.page, err = p.read(p.after); err != nil {
			return nil, err
		}
		p.end = len(p.page) == 0
	}
	if p.end {
		return nil, nil //nolint:nilnil // there is none
	}
	return &p.page[0], nil
}

// pass goes on to the one behind the first.
func (p *parkedPages) pass() { p.after, p.page = p.page[0].ID, p.page[1:] }

// readParked reads some of the parked changes after an id, up to the last (zero: up to all
// of them); none: there are none.
func (q *Queue) readParked(ctx context.Context, after, last ID, rows bool) ([]ParkedChange, error) {
	entries, err := q.parkedEntries(ctx, after, last, rows)
	if err != nil || len(entries) == 0 {
		return nil, annotate(err, "read parked changes")
	}
	ids := make([]string, len(entries))
	for i := range entries {
		ids[i] = entries[i].ID
	}
	reasons, err := q.client.HMGet(ctx, q.keys.reasons(), ids...).Result()
	if err != nil {
		return nil, annotate(err, "read why changes are still parked")
	}
	out := make([]ParkedChange, len(entries))
	for i := range entries {
		if out[i], err = q.parkedChange(ctx, &entries[i]); err != nil {
			return nil, fmt.Errorf("read parked change %s: %w", entries[i].ID, err)
		}
		if reason, ok := reasons[i].(string); ok {
			out[i].Reason = reason
		}
	}
	return out, nil
}

func (q *Queue) parkedEntries(ctx context.Context, after, last ID, rows bool) ([]redis.XMessage, error) {
	to := "+"
	if !last.IsZero() {
		to = last.String()
	}
	cmd := redis.NewXMessageSliceCmd(ctx, "EVAL", parkedScript, 1, q.keys.parked(), from(after), to, parkedPage, rows)
	_ = q.client.Process(ctx, cmd) // the command has the error
	return cmd.Result()
}

func (q *Queue) parkedChange(ctx context.Context, e *redis.XMessage) (ParkedChange, error) {
	field := func(name string) string { s, _ := e.Values[name].(string); return s }
	p := ParkedChange{
		Type: field("t"), Rule: field("r"), Table: field("table"), Operation: field("op"), Reason: field("reason"),
		Row: []byte(field("row")), Change: []byte(field("change")), Unkept: field("unkept"),
		Subject: field("subject"),
	}
	if p.Redrivable = len(p.Change) > 0 && p.Unkept == ""; !p.Redrivable && p.Unkept == "" {
		p.Unkept = unkeptBefore
	}
	var err error
	if p.ID, err = ParseID(e.ID); err != nil {
		return p, err
	}
	if p.Time, err = parseMicros(field("c")); err != nil {
		return p, err
	}
	p.WebhookID, err = q.parkedWebhookID(ctx, p.ID)
	return p, err
}

// parkedWebhookID is the webhook-id of what is parked; empty: the name of its source is not known.
func (q *Queue) parkedWebhookID(ctx context.Context, id ID) (string, error) {
	source, err := q.sources.of(ctx, id.Epoch())
	switch {
	case err == nil:
		return id.WebhookID(source), nil
	case isWayError(err):
		return "", unreachable(err)
	}
	return "", nil
}

// Unparked is a parked change of which there is an event now, or none any more.
type Unparked struct {
	ID ID
	// Endpoints get the message; none: the change is only removed.
	Endpoints []string
	Message   webhook.Message
}

// unparkScript appends the message to the side streams, and removes the change, unless that
// has been done. KEYS: the parked changes, the reasons, the side streams; the first write
// is one that a full Redis refuses.
var unparkScript = redis.NewScript(`
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
for i = 3, #KEYS do redis.call('XADD', KEYS[i], '*', unpack(ARGV, 2)) end
redis.call('XDEL', KEYS[1], ARGV[1])
redis.call('HDEL', KEYS[2], ARGV[1])
return 1`)

// unparkInSlotScript appends the message to one side stream, once: Redis keeps the mark
// with it, until the change is removed. KEYS: the side stream, the jobs' positions.
var unparkInSlotScript = redis.NewScript(`
if redis.call('HSETNX', KEYS[2], ARGV[1], '1') == 1 then redis.call('XADD', KEYS[1], '*', unpack(ARGV, 3)) end
redis.call('PEXPIRE', KEYS[2], ARGV[2])
return 1`)

// whichParkedScript returns those of the ids that are parked. KEYS: the parked changes.
var whichParkedScript = redis.NewScript(`
local parked = {}
for _, id in ipairs(ARGV) do
  if #redis.call('XRANGE', KEYS[1], id, id) > 0 then parked[#parked + 1] = id end
end
return parked`)

// dropParkedScript removes parked changes. KEYS: they, the reasons.
var dropParkedScript = redis.NewScript(`
redis.call('HDEL', KEYS[2], unpack(ARGV))
return redis.call('XDEL', KEYS[1], unpack(ARGV))`)

// Unpark queues the events of parked changes, as events that are sent again, and removes
// the changes, each in the transaction that queues its event: whatever answers are lost and
// processes die, one is queued once. In a cluster the endpoints are on several servers:
// then the events of all of them are made durable, each endpoint getting its own once, and the changes are
// removed after that. An error (ErrFull, ErrUnreachable or another) may leave part of them done:
// at least the first so many that it returns. Call it again with the others.
func (q *Queue) Unpark(ctx context.Context, changes []Unparked) (done int, err error) {
	var endpoints []string
	for i := range changes {
		for _, e := range changes[i].Endpoints {
			if !slices.Contains(endpoints, e) {
				endpoints = append(endpoints, e)
			}
		}
	}
	if len(endpoints) > 0 {
		names := make([]any, len(endpoints))
		for i, e := range endpoints {
			names[i] = e
		}
		err = q.register(ctx, names...)
	}
	switch {
	case err != nil:
	case q.cluster != nil:
		if err = q.unparkInSlots(ctx, endpoints, changes); err == nil {
			done = len(changes)
		}
	default:
		for done < len(changes) {
			if err = q.unpark(ctx, &changes[done]); err != nil {
				break
			}
			done++
		}
	}
	for _, e := range endpoints {
		q.wakeSide(ctx, e)
	}
	return done, annotate(err, "queue the events of %d parked changes", len(changes))
}

func (q *Queue) unpark(ctx context.Context, u *Unparked) error {
	keys := []string{q.keys.parked(), q.keys.reasons()}
	for _, e := range u.Endpoints {
		keys = append(keys, q.keys.side(e))
	}
	return unparkScript.Run(ctx, q.client, keys, append([]any{u.ID.String()}, sideFields(&u.Message, true)...)...).Err()
}

// stillParkedOf returns those of the changes that are parked.
func (q *Queue) stillParkedOf(ctx context.Context, changes []Unparked) ([]Unparked, error) {
	ids := make([]any, len(changes))
	for i := range changes {
		ids[i] = changes[i].ID.String()
	}
	parked, err := whichParkedScript.Run(ctx, q.client, []string{q.keys.parked()}, ids...).StringSlice()
	return slices.DeleteFunc(slices.Clone(changes), func(u Unparked) bool { return !slices.Contains(parked, u.ID.String()) }), err
}

func (q *Queue) unparkInSlots(ctx context.Context, endpoints []string, changes []Unparked) error {
	changes, err := q.stillParkedOf(ctx, changes) // the marks of the others may have gone
	if err != nil || len(changes) == 0 {
		return err
	}
	mark := func(id ID) string { return "parked " + id.String() }
	for _, e := range endpoints {
		err := q.Durably(ctx, e, func() error {
			for i := range changes {
				u := &changes[i]
				if !slices.Contains(u.Endpoints, e) {
					continue
				}
				args := append([]any{mark(u.ID), jobAge.Milliseconds()}, sideFields(&u.Message, true)...)
				if err := unparkInSlotScript.Run(ctx, q.client, []string{q.keys.side(e), q.keys.jobs(e)}, args...).Err(); err != nil {
					return unreachable(err)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}
	ids, marks := make([]ID, len(changes)), make([]string, len(changes))
	for i := range changes {
		ids[i], marks[i] = changes[i].ID, mark(changes[i].ID)
	}
	if _, err := q.DropParked(ctx, ids); err != nil {
		return err
	}
	for _, e := range endpoints {
		_ = q.client.HDel(ctx, q.keys.jobs(e), marks...).Err() // else Redis forgets them in a week
	}
	return nil
}

// DropParked removes parked changes and timers, and returns how many there were.
func (q *Queue) DropParked(ctx context.Context, ids []ID) (int64, error) {
	var dropped int64
	for part := range slices.Chunk(ids, parkedPage) {
		args := make([]any, len(part))
		for i, id := range part {
			args[i] = id.String()
		}
		n, err := dropParkedScript.Run(ctx, q.client, []string{q.keys.parked(), q.keys.reasons()}, args...).Int64()
		if err != nil {
			return dropped, annotate(err, "drop parked changes")
		}
		dropped += n
	}
	n, err := q.dropTimers(ctx, ids)
	return dropped + n, annotate(err, "drop parked timers")
}

// stillParkedScript keeps a new reason of a change that is parked. KEYS: the parked
// changes, the reasons.
var stillParkedScript = redis.NewScript(`
if #redis.call('XRANGE', KEYS[1], ARGV[1], ARGV[1]) == 0 then return 0 end
return redis.call('HSET', KEYS[2], ARGV[1], ARGV[2])`)

// StillParked says why a change is parked still.
func (q *Queue) StillParked(ctx context.Context, id ID, reason string) error {
	err := stillParkedScript.Run(ctx, q.client, []string{q.keys.parked(), q.keys.reasons()}, id.String(), reason).Err()
	return annotate(err, "say why change %s is still parked", id)
}

// forgetReasonsScript removes the reasons of those of the changes that are no longer parked.
var forgetReasonsScript = redis.NewScript(`
for _, id in ipairs(ARGV) do
  if #redis.call('XRANGE', KEYS[1], id, id) == 0 then redis.call('HDEL', KEYS[2], id) end
end
return 1`)

// ForgetReasons removes what StillParked has kept of changes that have been removed
// otherwise than by Unpark and DropParked, such as by their age.
func (q *Queue) ForgetReasons(ctx context.Context) error {
	keys := []string{q.keys.parked(), q.keys.reasons()}
	for cursor := uint64(0); ; {
		fields, next, err := q.client.HScan(ctx, q.keys.reasons(), cursor, "", parkedPage).Result()
		var ids []any
		for i := 0; i < len(fields); i += 2 { // each is followed by its value
			ids = append(ids, fields[i])
		}
		if err == nil && len(ids) > 0 {
			err = forgetReasonsScript.Run(ctx, q.client, keys, ids...).Err()
		}
		if err != nil || next == 0 {
			return annotate(err, "forget why changes were parked")
		}
		cursor = next
	}
}
