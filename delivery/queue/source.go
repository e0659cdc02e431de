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
	History cdc.History
	// SlotCreated: the slot was created just now.
	SlotCreated bool
	// Diverged: the server's WAL has something else where the newest transaction was read that was confirmed; Verified:
	// it has that. Neither: it could not be compared.
	Diverged, Verified bool
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
	c := &Claimed{Source: s.claimed.Source, Epoch: s.claimed.epoch, Numbers: maps.Clone(s.numbers)}
	c.Last = nil // that of the claim before
	return c
}

// WebhookID is that of a change's n-th event, as this process has claimed the queue.
func (q *Queue) WebhookID(p cdc.Position, n int) (string, error) {
	c := q.sources.current.Load()
	if c == nil {
		return "", ErrNotClaimed
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
	// Of a record that is to be written: follows is the timeline that this source continues after a promotion, 0:
	// there was none; left is behind what it has of that, 0: it has all that was read; passed says that stuck and skip are of
	// WAL that it does not have.
	follows int32
	left    cdc.LSN
	passed  bool
}

// sources are where the queue's events come from, now and in former epochs.
type sources struct {
	client redis.UniversalClient
	key    string // of the record
	tally  string // the key of the record of counting

	current atomic.Pointer[claim] // nil before Claim

	mu      sync.Mutex
	claimed *sourceRecord     // nil before Claim; guarded by mu
	names   map[uint16]string // by epoch; guarded by mu
	numbers map[string]int    // of rules, in claimed's epoch; guarded by mu
}

// claim is what identifies events of this process's capture.
type claim struct {
	epoch     uint16
	timeline  int32
	source    string
	confirmed uint64 // the slot's LSN
}

// superseded reports whether a record is of somebody who has claimed the queue since.
func (c *claim) superseded(r *sourceRecord) bool {
	return r.epoch > c.epoch || r.epoch == c.epoch && r.Timeline > c.timeline
}

// Claim says whose events will be appended, and returns their epoch: 1 at first,
// the same as before for the same source. Call it when the slot is found or
// created, before the first Append. For another system, timeline, database or slot, a slot
// that was recreated, or one that somebody else has moved on, it returns a
// *SourceChangedError, unless accept is set: then the epoch rises by one. A server that was promoted and has
// all that was read is the same source: see promotion.go.
func (q *Queue) Claim(ctx context.Context, s Source, accept bool) (uint16, error) {
	for attempts := 1; ; attempts++ {
		epoch, err := q.claimOnce(ctx, s, accept)
		if !errors.Is(err, errClaimedMeanwhile) || attempts == claimAttempts {
			return epoch, err
		}
	}
}

// claimAttempts is how often a claim is tried while others claim the queue at the same time.
const claimAttempts = 5

var errClaimedMeanwhile = errors.New("another process has claimed it at the same time; try again")

func (q *Queue) claimOnce(ctx context.Context, s Source, accept bool) (uint16, error) {
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
		if err := q.continueLocked(ctx, old, found, next, accept); err != nil {
			return 0, err
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
	next.follows, next.left, next.passed = 0, 0, false // this is done
	q.sources.claimed, q.sources.numbers = next, map[string]int{}
	if s.Last != nil && s.Last.Epoch == next.epoch {
		maps.Copy(q.sources.numbers, s.Last.Numbers)
	}
	q.sources.names[next.epoch] = s.id()
	q.sources.current.Store(&claim{next.epoch, s.Timeline, s.id(), s.ConfirmedFlush})
	return next.epoch, nil
}

// continueLocked decides how the next record goes on from the one before, which was found in Redis, or is
// what somebody else remembers: in the same epoch, or, when the source has changed and that is accepted, in another one.
func (q *Queue) continueLocked(ctx context.Context, old, found, next *sourceRecord, accept bool) error {
	p, err := q.findPromotion(ctx, old, next.Source, true)
	if err != nil {
		return annotate(err, "claim queue")
	}
	changed := old.compare(next.Source, p)
	if changed != nil && p != nil && found != nil { // or another process has followed it, and appended, since the record was read
		now, err := q.sources.readLocked(ctx)
		switch {
		case err != nil:
			return annotate(err, "claim queue")
		case now == nil || now.Timeline != found.Timeline || now.epoch != found.epoch:
			return fmt.Errorf("claim queue: %w", errClaimedMeanwhile)
		}
	}
	next.epoch = old.epoch
	switch {
	case changed != nil && !accept:
		return changed
	case changed != nil:
		next.epoch++
		next.open = &changed.Gap
		q.log.Warn().Strs("changes", changed.Changes).Uint16("epoch", next.epoch).Msg("changed source accepted")
	case p != nil:
		p.follow(old, next)
		// What was counted and not written would not fit behind left any more.
		if err := q.writeTally(ctx); err != nil && !errors.Is(err, ErrFenced) && !errors.Is(err, ErrRestarted) {
			return annotate(err, "claim queue")
		}
		if found == nil { // there is nothing in Redis that could be continued
			next.follows = 0
		}
		q.log.Warn().Int32("was", old.Timeline).Int32("timeline", next.Timeline).Stringer("left", p.left).Stringer("confirmed", cdc.LSN(next.confirmed)).
			Msg("the source was promoted, and has all that was read: capture goes on")
	}
	if changed == nil && next.History == "" {
		next.History = old.History
	}
	return nil
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
		Source: Source{SystemID: fields["system"], Database: fields["database"], Slot: fields["slot"], Timeline: int32(timeline), History: cdc.History(fields["history"])},
		epoch:  uint16(epoch), confirmed: confirmed,
	}
	if err := r.readGap(fields); err != nil {
		return nil, fmt.Errorf("read %s: %w", s.key, err)
	}
	return r, nil
}

// writeSourceScript refuses an epoch other than was read, or a timeline other than is continued: somebody
// has claimed the queue since. The position never goes back within an epoch, whoever writes it, but where a timeline is
// continued: there no position of the former one counts any more, and changes are counted again from where it was left. A new epoch is written
// with the gap before it, and knows no transaction of the ones before. A slot
// that was accepted leaves no gap open. What it writes
// first, a full Redis allows, for the reason that ackScript gives. One command writes the
// record: of a torn script's, some may be left.
var writeSourceScript = redis.NewScript(`
redis.call('HDEL', KEYS[1], '')
local epoch = redis.call('HGET', KEYS[1], 'epoch') or ''
if epoch ~= ARGV[1] then return 0 end
if ARGV[11] ~= '0' and redis.call('HGET', KEYS[1], 'timeline') ~= ARGV[11] then return 0 end
local counted = string.match(redis.call('HGET', KEYS[2], 'counted') or '', '^' .. ARGV[6] .. ':(%d+)$')
if ARGV[13] ~= '0' and counted and tonumber(counted) > tonumber(ARGV[13]) then
  redis.call('HSET', KEYS[2], 'counted', ARGV[6] .. ':' .. ARGV[13])
end
local before, confirmed = epoch == ARGV[6] and ARGV[11] == '0' and redis.call('HGET', KEYS[1], 'confirmed'), ARGV[8]
if before and tonumber(before) > tonumber(confirmed) then confirmed = before end
local record = {'system', ARGV[2], 'database', ARGV[3], 'slot', ARGV[4], 'timeline', ARGV[5],
  'epoch', ARGV[6], 'id:' .. ARGV[6], ARGV[7], 'confirmed', confirmed, 'history', ARGV[9]}
if epoch ~= ARGV[6] then
  redis.call('HDEL', KEYS[1], 'footprint', 'stuck', 'skip')
  if ARGV[10] ~= '' then table.insert(record, 'gap:' .. ARGV[6]) table.insert(record, ARGV[10]) end
end
redis.call('HSET', KEYS[1], unpack(record))
redis.call('HDEL', KEYS[1], 'gap')
if ARGV[12] ~= '0' then redis.call('HDEL', KEYS[1], 'stuck', 'skip') end
for i = 14, #ARGV, 2 do redis.call('HSETNX', KEYS[1], 'id:' .. ARGV[i], ARGV[i + 1]) end
return 1`)

func (s *sources) writeLocked(ctx context.Context, old, next *sourceRecord) error {
	expected := ""
	if old != nil {
		expected = strconv.Itoa(int(old.epoch))
	}
	args := []any{
		expected, next.SystemID, next.Database, next.Slot, int(next.Timeline), int(next.epoch), next.id(), strconv.FormatUint(next.confirmed, 10),
		string(next.History), "", int(next.follows), 0, strconv.FormatUint(uint64(next.left), 10),
	}
	if next.open != nil {
		text, err := json.Marshal(next.open)
		if err != nil {
			return err
		}
		args[9] = string(text)
	}
	if next.passed {
		args[11] = 1
	}
	for epoch, id := range s.names { // of former epochs, should Redis have lost them
		args = append(args, int(epoch), id)
	}
	written, err := writeSourceScript.Run(ctx, s.client, []string{s.key, s.tally}, args...).Int()
	if err == nil && written == 0 {
		err = errClaimedMeanwhile
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
