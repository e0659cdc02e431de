package queue

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"gancho/cdc"
	"gancho/delivery/webhook"
)

// Source is where the capture reads, as the server reports it at the start.
type Source struct {
	SystemID, Database, Slot string
	Timeline                 int32
	// History is where the server left its former timelines; "": it is on its first, or not known.
	History string
	// SlotCreated: the slot was created just now.
	SlotCreated bool
	// Diverged: the server's WAL has something else where a transaction was read.
	Diverged bool
	// LSNs in bytes: the slot's, and the end of the server's WAL; Current 0: it is
	// known not to be before the record.
	ConfirmedFlush, Current uint64
	// Last is what somebody else remembers of the last claim, should Redis have lost
	// it; nil: nothing.
	Last *Claimed
}

// Claimed is as whose a queue was claimed: what tells sources apart, their epoch, and the
// numbers of its rules (NumberRules).
type Claimed struct {
	Source
	Epoch   uint16
	Numbers map[string]int
}

// Claimed returns as whose this process has claimed the queue, for somebody else to
// remember; nil before Claim. The numbers are of all rules when NumberRules has been called.
func (q *Queue) Claimed() *Claimed {
	s := &q.sources
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.claimed == nil {
		return nil
	}
	return &Claimed{Source: s.claimed.Source, Epoch: s.claimed.epoch, Numbers: maps.Clone(s.numbers)}
}

// WebhookID is that of a change's n-th event, as this process has claimed the queue.
func (q *Queue) WebhookID(p cdc.Position, n int) (string, error) {
	c := q.sources.current.Load()
	if c == nil {
		return "", errNotClaimed
	}
	id, err := NewID(c.epoch, p, n)
	if err != nil {
		return "", err
	}
	return id.WebhookID(c.source), nil
}

// id is the first part of webhook-ids: short, and different for different sources.
func (s Source) id() string {
	sum := sha256.Sum256([]byte(s.SystemID + "\x00" + s.Database + "\x00" + s.Slot))
	return hex.EncodeToString(sum[:webhook.SourceDigits/2])
}

// SourceChangedError reports that the queue was filled from elsewhere, so that
// positions may have gone back, and changes in between may never have been read.
type SourceChangedError struct {
	Changes []string // what is different, for people
	// Recorded is the position, in bytes, up to which the queue's source had been
	// read, if all that is different is that Current is before it; else 0. Where
	// another process captures, it may only have moved on since Current was read.
	Recorded uint64
	// Another: the queue is filled from another slot or database.
	Another bool
	// Gap is of what changes may be missing.
	Gap Gap
}

// Error says what has changed, what that means, and how to go on.
func (e *SourceChangedError) Error() string {
	return fmt.Sprintf("claim queue: the source has changed: %s; changes that committed %s may be missing, or come again. "+
		"Run gancho recover, which records the gap and says how to close it, or, to go on without that, once: gancho run --accept-source",
		strings.Join(e.Changes, "; "), e.Gap.Between())
}

// sourceRecord is the identity of the queue's source, kept beside it. There is
// one per queue, not one per source: a stream takes ids of one source only,
// and a changed system has to be recognised, not mistaken for a new one.
type sourceRecord struct {
	Source
	epoch     uint16
	confirmed uint64 // 0: unknown
	// footprint is of the newest transaction that was confirmed in this epoch; zero: none is known.
	footprint cdc.Footprint
	// stuck is a transaction that the server cannot send, and skip the one that is to be stepped over.
	stuck *Stuck
	skip  cdc.LSN
	open  *Gap // what is known of a gap that no claim has ended yet
}

// sources are where the queue's events come from, now and in former epochs.
type sources struct {
	client redis.UniversalClient
	key    string // of the record

	current atomic.Pointer[claim] // nil before Claim

	mu      sync.Mutex
	claimed *sourceRecord     // nil before Claim; guarded by mu
	names   map[uint16]string // by epoch; guarded by mu
	numbers map[string]int    // of rules, in claimed's epoch; guarded by mu
}

// claim is what identifies events of this process's capture.
type claim struct {
	epoch     uint16
	source    string
	confirmed uint64 // the slot's LSN
}

// Claim says whose events will be appended, and returns their epoch: 1 at first,
// the same as before for the same source. Call it when the slot is found or
// created, before the first Append. For another system, timeline, database or slot, a slot
// that was recreated, or one that somebody else has moved on, it returns a
// *SourceChangedError, unless accept is set: then the epoch rises by one.
func (q *Queue) Claim(ctx context.Context, s Source, accept bool) (uint16, error) {
	q.appender.forgetRegistered() // another process may have captured, and dropped queues, since
	q.sources.mu.Lock()
	defer q.sources.mu.Unlock()
	old, err := q.sources.readLocked(ctx)
	if err != nil {
		return 0, annotate(err, "claim queue")
	}
	next := &sourceRecord{Source: s, confirmed: s.ConfirmedFlush}
	found := old
	if old == nil {
		if next.epoch, err = q.firstEpoch(ctx); err != nil {
			return 0, annotate(err, "claim queue")
		}
		old = q.remembered(s, next.epoch)
	}
	switch old {
	case nil:
		if !s.SlotCreated {
			q.log.Warn().Str("slot", s.Slot).Stringer("confirmed", cdc.LSN(s.ConfirmedFlush)).
				Msg("redis knows nothing of this slot, which was there before: right for a new slot, but if gancho has used it, " +
					"this is another redis or an emptied one, and what was queued there is not delivered from here")
		}
	default:
		changed := old.compare(s)
		if changed != nil && !accept {
			return 0, changed
		}
		next.epoch = old.epoch
		if changed == nil && next.History == "" {
			next.History = old.History
		}
		if changed != nil {
			changes := changed.Changes
			next.epoch++
			next.open = &changed.Gap
			q.log.Warn().Strs("changes", changes).Uint16("epoch", next.epoch).Msg("changed source accepted")
		}
	}
	if next.epoch > maxEpoch {
		return 0, fmt.Errorf("claim queue: the source has changed %d times, which is all that fits; when everything is delivered, start with an empty Redis "+
			"and, with a state database, without its row of the slot: delete from gancho.sources where slot = '%s'", maxEpoch, strings.ReplaceAll(s.Slot, "'", "''"))
	}
	if err := q.sources.writeLocked(ctx, found, next); err != nil {
		return 0, annotate(err, "claim queue")
	}
	err = q.sealServers(ctx)
	if q.cluster != nil && errors.Is(err, ErrUnreachable) {
		// The masters are those that Open has found, and one may never be one again.
		// Nothing was appended since: whichever there are now can be accepted.
		if err = q.checkServers(ctx); err == nil {
			q.confirmer.conns.keep(q.servers.masters())
			err = q.sealServers(ctx)
		}
	}
	if err == nil {
		q.appender.mu.Lock()
		err = q.fillHolesLocked(ctx, next.epoch, s.ConfirmedFlush)
		q.appender.mu.Unlock()
	}
	// A server that was restarted just now is sealed when it is accepted.
	if err != nil && !errors.Is(err, ErrRestarted) {
		return 0, fmt.Errorf("claim queue: %w", err)
	}
	q.sources.claimed, q.sources.numbers = next, map[string]int{}
	if s.Last != nil && s.Last.Epoch == next.epoch {
		maps.Copy(q.sources.numbers, s.Last.Numbers)
	}
	q.sources.names[next.epoch] = s.id()
	q.sources.current.Store(&claim{next.epoch, s.id(), s.ConfirmedFlush})
	return next.epoch, nil
}

// remembered is what is known of a record that Redis has lost, unless its streams know of
// a newer epoch; first is the epoch for a source of which nothing is known.
func (q *Queue) remembered(s Source, first uint16) *sourceRecord {
	if s.Last == nil || s.Last.Epoch == 0 || first > s.Last.Epoch+1 {
		return nil
	}
	q.log.Error().Uint16("epoch", s.Last.Epoch).Str("slot", s.Slot).
		Msg("redis has lost what it knew of this slot: events that were queued there and confirmed to the source may be lost; " +
			"restore redis's data, or send those changes by hand. The epoch is the state database's, so that webhook-ids stay the same")
	r := &sourceRecord{Source: s.Last.Source, epoch: s.Last.Epoch}
	if !s.SlotCreated { // the slot itself knows
		r.confirmed = s.ConfirmedFlush
	}
	return r
}

// compare returns what is different about a source, and of what changes may be missing
// therefore; nil: nothing is.
func (r *sourceRecord) compare(s Source) *SourceChangedError {
	changes := r.changes(s)
	if len(changes) == 0 {
		return nil
	}
	changed := &SourceChangedError{Changes: changes, Another: r.Slot != s.Slot || r.Database != s.Database, Gap: r.gap(s, changes)}
	if len(changes) == 1 && r.endsBefore(s) {
		changed.Recorded = r.confirmed
	}
	return changed
}

// endsBefore reports whether the server's WAL, as far as s knows it, ends before
// the recorded position.
func (r *sourceRecord) endsBefore(s Source) bool {
	return !s.SlotCreated && s.Current > 0 && s.Current < r.confirmed
}

// changes lists why s may not be the source that the record describes.
func (r *sourceRecord) changes(s Source) []string {
	var out []string
	differs := func(what, old, now string) {
		if old != now {
			out = append(out, fmt.Sprintf("%s was %s and is %s", what, old, now))
		}
	}
	differs("system identifier", r.SystemID, s.SystemID)
	differs("database", strconv.Quote(r.Database), strconv.Quote(s.Database))
	differs("slot", strconv.Quote(r.Slot), strconv.Quote(s.Slot))
	differs("timeline", strconv.Itoa(int(r.Timeline)), strconv.Itoa(int(s.Timeline)))
	if r.otherHistory(s) {
		differs("history of the timeline, as timeline@position where it was left,", r.History, s.History)
	}
	if s.Diverged {
		out = append(out, fmt.Sprintf("the server's WAL does not have the transaction that was read at %s: it was restored to an earlier state, and has written as much since",
			r.footprint.Commit))
	}
	switch {
	case s.SlotCreated && r.confirmed == 0:
		out = append(out, fmt.Sprintf("slot %q was recreated at %s, and redis no longer knows up to where the one before had been read", s.Slot, cdc.LSN(s.ConfirmedFlush)))
	case s.SlotCreated:
		out = append(out, fmt.Sprintf("slot %q was recreated at %s, and the queue's source had been read up to %s",
			s.Slot, cdc.LSN(s.ConfirmedFlush), cdc.LSN(r.confirmed)))
	case r.endsBefore(s):
		// It would write its next changes under positions that are in use.
		out = append(out, fmt.Sprintf("the server's WAL ends at %s, before %s, up to which it had been read: it was restored to an earlier state",
			cdc.LSN(s.Current), cdc.LSN(r.confirmed)))
	case s.ConfirmedFlush > r.confirmed:
		// We record a position before we confirm it, so it was not us.
		out = append(out, fmt.Sprintf("slot %q stands at %s, beyond %s where we left it: it was recreated, or somebody else has read from it",
			s.Slot, cdc.LSN(s.ConfirmedFlush), cdc.LSN(r.confirmed)))
	}
	return out
}

func (s *sources) readLocked(ctx context.Context) (*sourceRecord, error) {
	fields, err := s.client.HGetAll(ctx, s.key).Result()
	if err != nil || fields["epoch"] == "" {
		return nil, err
	}
	timeline, err1 := strconv.ParseInt(fields["timeline"], 10, 32)
	epoch, err2 := strconv.ParseUint(fields["epoch"], 10, 16)
	confirmed, err3 := strconv.ParseUint(fields["confirmed"], 10, 64)
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.key, err)
	}
	for name, source := range fields {
		if e, ok := strings.CutPrefix(name, "id:"); ok {
			n, err := strconv.ParseUint(e, 10, 16)
			if err != nil {
				return nil, fmt.Errorf("read %s: %w", s.key, err)
			}
			s.names[uint16(n)] = source
		}
	}
	r := &sourceRecord{
		Source: Source{SystemID: fields["system"], Database: fields["database"], Slot: fields["slot"], Timeline: int32(timeline), History: fields["history"]},
		epoch:  uint16(epoch), confirmed: confirmed,
	}
	if err := r.readGap(fields); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.key, err)
	}
	return r, nil
}

// writeSourceScript refuses an epoch other than was read: somebody has claimed the queue
// since. The position never goes back within an epoch, whoever writes it; a new epoch is written
// with the gap before it, and knows no transaction of the ones before. A slot
// that was accepted leaves no gap open. What it writes
// first, a full Redis allows, for the reason that ackScript gives. One command writes the
// record: of a torn script's, some may be left.
var writeSourceScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
if epoch ~= ARGV[1] then return 0 end
local before, confirmed = epoch == ARGV[6] and redis.call('HGET', KEYS[1], 'confirmed'), ARGV[8]
if before and tonumber(before) > tonumber(confirmed) then confirmed = before end
local record = {'system', ARGV[2], 'database', ARGV[3], 'slot', ARGV[4], 'timeline', ARGV[5],
  'epoch', ARGV[6], 'id:' .. ARGV[6], ARGV[7], 'confirmed', confirmed, 'history', ARGV[9]}
if epoch ~= ARGV[6] then
  redis.call('HDEL', KEYS[1], 'footprint', 'stuck', 'skip')
  if ARGV[10] ~= '' then table.insert(record, 'gap:' .. ARGV[6]) table.insert(record, ARGV[10]) end
end
redis.call('HSET', KEYS[1], unpack(record))
redis.call('HDEL', KEYS[1], 'gap')
for i = 11, #ARGV, 2 do redis.call('HSETNX', KEYS[1], 'id:' .. ARGV[i], ARGV[i + 1]) end
return 1`)

func (s *sources) writeLocked(ctx context.Context, old, next *sourceRecord) error {
	expected := ""
	if old != nil {
		expected = strconv.Itoa(int(old.epoch))
	}
	args := []any{
		expected, next.SystemID, next.Database, next.Slot, int(next.Timeline), int(next.epoch), next.id(), strconv.FormatUint(next.confirmed, 10),
		next.History, "",
	}
	if next.open != nil {
		text, err := json.Marshal(next.open)
		if err != nil {
			return err
		}
		args[len(args)-1] = string(text)
	}
	for epoch, id := range s.names { // of former epochs, should Redis have lost them
		args = append(args, int(epoch), id)
	}
	written, err := writeSourceScript.Run(ctx, s.client, []string{s.key}, args...).Int()
	if err == nil && written == 0 {
		err = errors.New("another process has claimed it at the same time; try again")
	}
	return err
}

// firstEpoch is 1, or, when the record was lost but streams or the Overflow were not, one more
// than their newest epoch: their last ids would make every event look like a duplicate.
func (q *Queue) firstEpoch(ctx context.Context) (uint16, error) {
	newest := uint16(0)
	read := func(key string) error {
		id, err := q.lastID(ctx, key)
		newest = max(newest, id.Epoch())
		return err
	}
	if err := read(q.keys.parked()); err != nil {
		return 0, err
	}
	if err := q.scan(ctx, escapeGlob(q.keys.prefix)+":{*}:q", read); err != nil {
		return 0, err
	}
	if q.overflow == nil {
		return newest + 1, nil
	}
	heads, err := q.overflow.Heads(ctx) // of which all positions up to the end count as known
	for _, h := range heads {
		newest = max(newest, h.End.Epoch())
	}
	return newest + 1, err
}

// lastID returns the newest id that has been in a stream; zero: there is no stream.
func (q *Queue) lastID(ctx context.Context, key string) (ID, error) {
	s, err := q.client.XInfoStream(ctx, key).Result()
	if err != nil {
		if isReply(err) && !isWayError(err) {
			err = nil
		}
		return ID{}, err
	}
	return ParseID(s.LastGeneratedID)
}

func escapeGlob(s string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(s)
}

// of returns an epoch's source; a worker that captures nothing learns it from the record.
func (s *sources) of(ctx context.Context, epoch uint16) (string, error) {
	if c := s.current.Load(); c != nil && c.epoch == epoch {
		return c.source, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.names[epoch] == "" {
		if _, err := s.readLocked(ctx); err != nil {
			return "", err
		}
	}
	if name := s.names[epoch]; name != "" {
		return name, nil
	}
	return "", fmt.Errorf("read %s: epoch %d is not in it, so the webhook-ids of its events are unknown; start the capture once", s.key, epoch)
}
