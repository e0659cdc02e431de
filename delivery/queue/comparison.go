package queue

import (
	"fmt"
	"strconv"
	"strings"

	"gancho/cdc"
)

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
	if e.Another {
		return fmt.Sprintf("claim queue: it is another bridge's: %s; one queue serves one slot. Give this bridge a queue of its own: another queue.prefix, "+
			"or another Redis database, such as redis://host:6379/1. If this slot takes the place of the other one, run gancho recover", strings.Join(e.Changes, "; "))
	}
	return fmt.Sprintf("claim queue: the source has changed: %s; changes that committed %s may be missing, or come again. "+
		"Run gancho recover, which records the gap and says how to close it, or, to go on without that, once: gancho run --accept-source",
		strings.Join(e.Changes, "; "), e.Gap.Between())
}

// OfAnother returns the error of a bridge whose slot and database are others than those that the queue was
// filled from; nil: they are the same.
func (r *Reached) OfAnother(slot, database string) error {
	record, now := sourceRecord{Source: r.Source, epoch: r.Epoch, confirmed: uint64(r.Confirmed)}, r.Source
	now.Slot, now.Database = slot, database
	now.ConfirmedFlush, now.Current, now.SlotCreated, now.Diverged = uint64(r.Confirmed), 0, false, false
	if changed := record.compare(now, nil); changed != nil {
		return changed
	}
	return nil
}

// compare returns what is different about a source, and of what changes may be missing
// therefore; nil: nothing is. p is how it was promoted; nil: it was not.
func (r *sourceRecord) compare(s Source, p *promotion) *SourceChangedError {
	if p != nil && p.lost == 0 {
		continued := *r
		continued.Timeline, continued.History = s.Timeline, s.History
		if !p.through {
			continued.confirmed = min(r.confirmed, uint64(p.left))
		}
		r = &continued
	}
	changes := r.changes(s, p)
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
func (r *sourceRecord) changes(s Source, p *promotion) []string {
	var out []string
	differs := func(what, old, now string) {
		if old != now {
			out = append(out, fmt.Sprintf("%s was %s and is %s", what, old, now))
		}
	}
	differs("system identifier", r.SystemID, s.SystemID)
	differs("database", strconv.Quote(r.Database), strconv.Quote(s.Database))
	differs("slot", strconv.Quote(r.Slot), strconv.Quote(s.Slot))
	if p != nil && p.lost != 0 { // what else is different follows from that
		return append(out, p.describe(r.Timeline, s.Timeline))
	}
	differs("timeline", strconv.Itoa(int(r.Timeline)), strconv.Itoa(int(s.Timeline)))
	if r.otherHistory(s) {
		differs("history of the timeline, as timeline@position where it was left,", string(r.History), string(s.History))
	}
	if s.Diverged {
		out = append(out, fmt.Sprintf("the server's WAL does not have the transaction that was read at %s: it was restored to an earlier state, and has written as much since",
			r.footprint.Commit))
	}
	switch {
	case s.SlotCreated && r.confirmed == s.ConfirmedFlush:
		// This claim comes again, because its answer was lost.
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

// reason is what a source's being different comes from.
func (r *sourceRecord) reason(s Source) string {
	switch {
	case r.SystemID != s.SystemID || r.Database != s.Database || r.Slot != s.Slot:
		return GapElsewhere
	case r.Timeline != s.Timeline || r.otherHistory(s):
		return GapTimeline
	case s.Diverged || r.endsBefore(s):
		return GapRestored
	}
	return GapRecreated
}

// otherHistory reports whether the timeline has another history; one that is not known is no other.
func (r *sourceRecord) otherHistory(s Source) bool {
	return r.Timeline == s.Timeline && r.History != "" && s.History != "" && r.History != s.History
}
