package queue

import (
	"context"
	"fmt"

	"gancho/cdc"
)

// A promotion begins another timeline. The promoted server has all WAL of the one before up to where it left
// that, and nothing behind it: replication is asynchronous, as a rule, so that the end may be missing. When
// everything that was read is before that place, the positions go on rising, and so does the epoch's
// capture. Else events of transactions that do not exist any more are queued or delivered, under
// positions that the promoted server gives to others: Redis would refuse those as known. That is a changed source.

// promotion is how a record's source is another timeline that continues its own.
type promotion struct {
	left cdc.LSN // where the server left the record's timeline
	lost cdc.LSN // of a transaction behind that, which was read and which the server does not have; 0: there is none
	// through: this server was read as a standby, and through its promotion, so that it has what was read behind left.
	through bool
}

// promoted returns where the server left the record's timeline, if it is that source, promoted.
func (r *sourceRecord) promoted(s Source) (left cdc.LSN, ok bool) {
	if r.SystemID != s.SystemID || r.Database != s.Database || r.Slot != s.Slot || s.Timeline <= r.Timeline {
		return 0, false
	}
	return s.History.Left(r.Timeline, r.History)
}

// findPromotion finds out whether the server that was promoted has all that was read; nil: nobody has
// promoted the record's source. fence keeps whoever reads the former primary still, and does not know, from appending
// behind the answer.
func (q *Queue) findPromotion(ctx context.Context, r *sourceRecord, s Source, fence bool) (*promotion, error) {
	left, ok := r.promoted(s)
	if !ok {
		return nil, nil
	}
	if fence {
		if _, err := q.raiseToken(ctx); err != nil {
			return nil, err
		}
	}
	newest, err := q.newestCommit(ctx, r.epoch)
	if err != nil {
		return nil, err
	}
	p := &promotion{left: left}
	if newest = max(newest, r.footprint.Commit); newest >= left { // the record there is of the new timeline
		// A stream outlives the promotion of the standby that it is of. What was read behind the newest transaction that
		// was confirmed is of the same stream, or of one that was compared with that.
		if p.through = s.Verified && r.footprint.Commit >= left; !p.through {
			p.lost = newest
		}
	}
	return p, nil
}

// newestCommit is the commit LSN of the newest transaction of an epoch that has anything in the streams, or
// has had; 0: none has.
func (q *Queue) newestCommit(ctx context.Context, epoch uint16) (cdc.LSN, error) {
	streams, err := q.allStreams(ctx)
	if err != nil {
		return 0, err
	}
	var newest ID
	for _, s := range streams {
		for _, key := range []string{s.key, s.old} {
			id, err := q.lastID(ctx, key)
			if err != nil {
				return 0, err
			}
			if id.Compare(newest) > 0 {
				newest = id
			}
		}
	}
	if q.overflow != nil {
		heads, err := q.overflow.Heads(ctx)
		if err != nil {
			return 0, err
		}
		for _, h := range heads {
			if h.End.Compare(newest) > 0 {
				newest = h.End
			}
		}
	}
	if newest.Epoch() != epoch {
		return 0, nil
	}
	return newest.Position().Commit, nil
}

// follow makes what is written of a source that was promoted, and has all that was read. A position of
// which the promoted server has nothing, because the former primary has reported it while it was idle, goes
// back to where the timelines part: what is committed there now has to be read.
func (p *promotion) follow(old, next *sourceRecord) {
	next.follows = old.Timeline
	if p.through {
		next.confirmed = max(next.confirmed, old.confirmed)
		return
	}
	next.left = p.left
	next.confirmed = max(next.confirmed, min(old.confirmed, uint64(p.left)))
	next.passed = old.skip >= p.left || old.stuck != nil && old.stuck.behind(p.left)
}

// behind reports whether the transaction is not before a position.
func (s *Stuck) behind(lsn cdc.LSN) bool {
	at, err := cdc.ParseLSN(s.Commit)
	return err != nil || at >= lsn
}

// describe says what the promoted server lacks.
func (p *promotion) describe(was, is int32) string {
	return fmt.Sprintf("timeline was %d and is %d, which begins at %s: the promoted server lacks the transaction at %s, which was read of the former primary, and maybe others behind %s "+
		"(synchronized_standby_slots, from PostgreSQL 17 on, keeps gancho from reading what the standby lacks)", was, is, p.left, p.lost, p.left)
}
