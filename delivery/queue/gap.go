package queue

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
	"gancho/internal/retry"
)

// Gap is about changes that make no events, because they were lost to the stream or stepped over. Times
// are zero where they are not known.
type Gap struct {
	// ID tells gaps apart: the epoch that begins behind it, or the position that was stepped over.
	ID string `json:"id"`
	// Reason is one of the Slot reasons of package cdc, or one below.
	Reason string `json:"reason"`
	Detail string `json:"detail"`
	Slot   string `json:"slot"`
	// From and To are positions: changes that committed at or after From and before To are missing, or
	// some of them are. To is empty while nobody has accepted the gap. FromTime is the commit time of the
	// newest transaction that was read before.
	From     string    `json:"from"`
	FromTime time.Time `json:"from_time,omitzero"`
	To       string    `json:"to,omitempty"`
	ToTime   time.Time `json:"to_time,omitzero"`
	// Recorded is when the gap was first noticed.
	Recorded time.Time `json:"recorded"`
	// Epoch begins behind the gap; 0: it is open, or inside of an epoch.
	Epoch uint16 `json:"epoch,omitempty"`
}

// Reasons of gaps beside those of a slot that is lost.
const (
	GapRecreated   = "slot_recreated" // or somebody else has read from it
	GapRestored    = "restored"       // the server was taken back to an earlier state
	GapTimeline    = "timeline"
	GapElsewhere   = "other_source" // another server, database or slot
	GapBudget      = "wal_budget"   // the slot was given up rather than fill the disk
	GapUnprintable = "unprintable"  // stepped over, because the server cannot send it
)

// Between says of which positions and times changes are missing, as far as that is known.
func (g *Gap) Between() string {
	at := func(position string, t time.Time) string {
		switch {
		case t.IsZero():
			return position
		case position == "":
			return t.UTC().Format(time.RFC3339)
		}
		return position + " (" + t.UTC().Format(time.RFC3339) + ")"
	}
	if g.Reason == GapUnprintable {
		return "in the transaction at " + at(g.From, g.FromTime)
	}
	if g.Again() {
		return "after " + g.To + " and before " + g.From
	}
	from := "at an unknown time"
	if g.From != "" {
		from = "after " + at(g.From, g.FromTime)
	}
	if g.To == "" {
		return from
	}
	return from + " and before " + at(g.To, g.ToTime)
}

// Again reports whether the slot goes on before the position up to which everything was read: what
// committed in between comes again, or does not exist any more, and nothing is missing.
func (g *Gap) Again() bool {
	from, err1 := cdc.ParseLSN(g.From)
	to, err2 := cdc.ParseLSN(g.To)
	return err1 == nil && err2 == nil && to < from
}

// gap is what a source that has changed leaves out.
func (r *sourceRecord) gap(s Source, changes []string) Gap {
	g := Gap{ID: strconv.Itoa(int(r.epoch) + 1), Reason: r.reason(s), Detail: strings.Join(changes, "; "), Slot: r.Slot, Recorded: now(), Epoch: r.epoch + 1}
	if r.open != nil { // somebody has noticed before, and knew why
		g.Reason, g.Detail, g.Recorded = r.open.Reason, r.open.Detail, r.open.Recorded
	}
	if r.confirmed != 0 {
		g.From, g.FromTime = cdc.LSN(r.confirmed).String(), r.footprint.Time
	}
	if s.ConfirmedFlush != 0 {
		g.To, g.ToTime = cdc.LSN(s.ConfirmedFlush).String(), now()
	}
	return g
}

func now() time.Time { return time.Now().UTC().Truncate(time.Millisecond) }

// Stuck is a transaction that the server cannot send, where its stream ends at every start.
type Stuck struct {
	Commit string `json:"commit"` // its position
	Where  string `json:"where"`
	Why    string `json:"why"`
}

// readGap reads what the record's fields have of gaps.
func (r *sourceRecord) readGap(fields map[string]string) error {
	if text := fields["footprint"]; text != "" {
		if err := json.Unmarshal([]byte(text), &r.footprint); err != nil {
			return fmt.Errorf("footprint: %w", err)
		}
	}
	if text := fields["stuck"]; text != "" {
		if err := json.Unmarshal([]byte(text), &r.stuck); err != nil {
			return fmt.Errorf("stuck: %w", err)
		}
	}
	if text := fields["gap"]; text != "" {
		if err := json.Unmarshal([]byte(text), &r.open); err != nil {
			return fmt.Errorf("gap: %w", err)
		}
	}
	if text := fields["skip"]; text != "" {
		n, err := strconv.ParseUint(text, 10, 64)
		if err != nil {
			return fmt.Errorf("skip: %w", err)
		}
		r.skip = cdc.LSN(n)
	}
	return nil
}

// Reached is how far a source was read, as the queue remembers it.
type Reached struct {
	Source Source
	Epoch  uint16
	// Confirmed is the position up to which everything was read; 0: it is not known.
	Confirmed cdc.LSN
	// Footprint is of a transaction before it; zero: none is known.
	Footprint cdc.Footprint
	// Stuck is the transaction at which the stream ends; nil: none, or it was passed.
	Stuck *Stuck
	// Skip is the position of the transaction that is to be stepped over; 0: none is.
	Skip cdc.LSN
	// Open is what was noticed of a gap that nobody has accepted yet.
	Open *Gap
}

// GapBy is the gap that a reason leaves behind what was read; one that is open keeps its own.
func (r *Reached) GapBy(reason, detail string) Gap {
	record := sourceRecord{Source: r.Source, epoch: r.Epoch, confirmed: uint64(r.Confirmed), footprint: r.Footprint}
	if r.Open != nil {
		reason, detail = r.Open.Reason, r.Open.Detail
	}
	return record.openGap(reason, detail)
}

// Missing says from when on changes are missing while nothing is read.
func (r *Reached) Missing() string {
	g := Gap{FromTime: r.Footprint.Time}
	if r.Confirmed != 0 {
		g.From = r.Confirmed.String()
	}
	return g.Between()
}

// Reached reads how far the queue's source was read, whoever captures; nil: nothing is known.
func (q *Queue) Reached(ctx context.Context) (*Reached, error) {
	r, err := q.recorded(ctx)
	if err != nil || r == nil {
		return nil, err
	}
	out := &Reached{Source: r.Source, Epoch: r.epoch, Confirmed: cdc.LSN(r.confirmed), Footprint: r.footprint, Skip: r.skip, Open: r.open}
	out.Source.ConfirmedFlush = r.confirmed
	if r.stuck != nil {
		if at, err := cdc.ParseLSN(r.stuck.Commit); err == nil && at >= out.Confirmed {
			out.Stuck = r.stuck
		}
	}
	return out, nil
}

func (q *Queue) recorded(ctx context.Context) (*sourceRecord, error) {
	q.sources.mu.Lock()
	defer q.sources.mu.Unlock()
	r, err := q.sources.readLocked(ctx)
	return r, annotate(err, "read the source's record")
}

// Recognise compares a source with what the queue knows of it, and changes nothing: its error is a
// *SourceChangedError, or says that another process has claimed the queue since this one did.
func (q *Queue) Recognise(ctx context.Context, s Source) error {
	r, err := q.recorded(ctx)
	if err != nil || r == nil {
		return err
	}
	if c := q.sources.current.Load(); c != nil && c.superseded(r) {
		return ErrClaimLost
	}
	// Redis may have lost what this process knows, and will be given it again.
	r.confirmed = max(r.confirmed, q.confirmer.confirmed.Load())
	p, err := q.findPromotion(ctx, r, s, false)
	if err != nil {
		return annotate(err, "recognise the source")
	}
	if changed := r.compare(s, p); changed != nil {
		return changed
	}
	return nil
}

// noteScript writes fields of the record if nobody has claimed the queue anew since it was read.
var noteScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
return 1`)

// note writes fields of an epoch's record, and returns when they are on the disk of Redis.
func (q *Queue) note(ctx context.Context, epoch uint16, fields ...any) error {
	args := append([]any{strconv.Itoa(int(epoch))}, fields...)
	addr, err := q.masterOf(ctx, q.keys.source())
	if err != nil {
		return err
	}
	conn := q.confirmer.conns.to(addr).Conn() // one connection: WAITAOF is about its own writes
	defer func() { _ = conn.Close() }()
	written, err := noteScript.Run(ctx, conn, []string{q.keys.source()}, args...).Int()
	switch {
	case err != nil:
		q.suspectCluster(ctx, err)
		return err
	case written == 0:
		return ErrClaimLost
	case q.confirmer.kept.Load().mode == durableByWait:
		return awaitAOF(ctx, conn)
	}
	// everysec: what is still there after two seconds was written before a server could have been
	// restarted in between.
	if err := retry.Wait(ctx, fsyncPause); err != nil {
		return err
	}
	there, err := q.client.HGet(ctx, q.keys.source(), fmt.Sprint(fields[0])).Result()
	if err == nil && there != fmt.Sprint(fields[1]) {
		err = errors.New("redis has lost it again; try again")
	}
	return err
}

// fsyncPause is how long a server under everysec may take to have a write on its disk.
const fsyncPause = 2 * time.Second

// ErrNoRecord says that the queue has never been claimed, or that Redis has lost everything.
var ErrNoRecord = errors.New("redis knows nothing of the source: nothing was read of it yet, or redis was emptied")

// OpenGap records why the changes after the confirmed position are about to be lost, durably,
// before whatever loses them is done: the claim that accepts the loss keeps the reason. One that is open stays. The error is
// ErrNoRecord where Redis knows nothing of the source: then the gap could not be seen afterwards.
func (q *Queue) OpenGap(ctx context.Context, reason, detail string) error {
	r, err := q.recorded(ctx)
	switch {
	case err != nil:
		return err
	case r == nil:
		return ErrNoRecord
	case r.open != nil:
		return nil
	}
	text, err := json.Marshal(r.openGap(reason, detail))
	if err != nil {
		return err
	}
	return annotate(q.note(ctx, r.epoch, "gap", string(text)), "record a gap")
}

func (r *sourceRecord) openGap(reason, detail string) Gap {
	g := Gap{ID: strconv.Itoa(int(r.epoch) + 1), Reason: reason, Detail: detail, Slot: r.Slot, Recorded: now(), FromTime: r.footprint.Time}
	if r.confirmed != 0 {
		g.From = cdc.LSN(r.confirmed).String()
	}
	return g
}

// NoteStuck records the transaction at which the stream ends.
func (q *Queue) NoteStuck(ctx context.Context, s Stuck) error {
	c := q.sources.current.Load()
	if c == nil {
		return ErrNotClaimed
	}
	text, err := json.Marshal(s)
	if err != nil {
		return err
	}
	return annotate(q.note(ctx, c.epoch, "stuck", string(text)), "record where the stream ends")
}

// Skip has the capture step over the transaction at which the stream ends, and records the gap that
// this leaves, both in one command. The error says where the stream ends when that is elsewhere.
func (q *Queue) Skip(ctx context.Context, at cdc.LSN) (Gap, error) {
	r, err := q.Reached(ctx)
	switch {
	case err != nil:
		return Gap{}, err
	case r == nil || r.Stuck == nil:
		return Gap{}, fmt.Errorf("the stream does not end at %s: nothing is known that the server cannot send; start the bridge, which names the position if there is one", at)
	case r.Stuck.Commit != at.String():
		return Gap{}, fmt.Errorf("the stream does not end at %s but at %s; only that transaction can be stepped over: gancho recover --skip %s", at, r.Stuck.Commit, r.Stuck.Commit)
	}
	g := Gap{ID: at.String(), Reason: GapUnprintable, Detail: r.Stuck.Why + ": a change of the transaction, " + r.Stuck.Where, Slot: r.Source.Slot,
		From: at.String(), To: (at + 1).String(), Recorded: now()}
	text, err := json.Marshal(&g)
	if err != nil {
		return Gap{}, err
	}
	err = q.note(ctx, r.Epoch, "skip", strconv.FormatUint(uint64(at), 10), "gap:"+strconv.Itoa(int(r.Epoch))+":"+at.String(), string(text))
	return g, annotate(err, "record what is stepped over")
}

// Gaps lists what is known to be missing, the newest first; an open one has no To.
func (q *Queue) Gaps(ctx context.Context) ([]Gap, error) {
	fields, err := q.client.HGetAll(ctx, q.keys.source()).Result()
	if err != nil {
		return nil, annotate(err, "list the gaps")
	}
	gaps := []Gap{}
	for name, text := range fields {
		if name != "gap" && !strings.HasPrefix(name, "gap:") {
			continue
		}
		var g Gap
		if err := json.Unmarshal([]byte(text), &g); err != nil {
			return nil, fmt.Errorf("list the gaps: read %s: %w", name, err)
		}
		gaps = append(gaps, g)
	}
	slices.SortFunc(gaps, func(a, b Gap) int { return cmp.Or(b.Recorded.Compare(a.Recorded), cmp.Compare(b.ID, a.ID)) })
	return gaps, nil
}

// Passed says that a transaction was read, before Appended says so of its End: one of those that are
// confirmed is recorded with the position, so that the source can be recognised by it.
func (q *Queue) Passed(f cdc.Footprint) { q.confirmer.trail.add(f) }

// trail are transactions that were read and are not yet recorded as confirmed, one for each
// trailEvery and the newest.
type trail struct {
	mu     sync.Mutex
	kept   []cdc.Footprint // guarded by mu
	newest cdc.Footprint   // guarded by mu
}

const trailEvery = 100 * time.Millisecond

func (t *trail) add(f cdc.Footprint) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if f.End <= t.newest.End { // it is read again
		t.kept = t.kept[:0]
	}
	if n := len(t.kept); n == 0 || f.Time.Sub(t.kept[n-1].Time) >= trailEvery || f.Time.Before(t.kept[n-1].Time) {
		t.kept = append(t.kept, f)
	}
	t.newest = f
}

// upTo returns the newest transaction that ends at or before a position, as the record has it, and
// forgets those before it; "": none is known.
func (t *trail) upTo(lsn uint64) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	var found cdc.Footprint
	n := 0
	for n < len(t.kept) && uint64(t.kept[n].End) <= lsn {
		found = t.kept[n]
		n++
	}
	t.kept = append(t.kept[:0], t.kept[max(0, n-1):]...)
	if t.newest.End != 0 && uint64(t.newest.End) <= lsn {
		found = t.newest
	}
	if found.End == 0 {
		return ""
	}
	text, err := json.Marshal(found)
	if err != nil {
		return "" // it has two numbers and a time
	}
	return string(text)
}
