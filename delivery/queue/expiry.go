package queue

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// What the retention deletes.
const (
	ExpiringDead   = "dead_letters"
	ExpiringParked = "parked_changes"
)

// Expiry is a deletion that was announced. Redis keeps it, so that all processes keep to it.
type Expiry struct {
	Announced time.Time `json:"announced"`
	Due       time.Time `json:"due"` // not before
	// UpTo is the last of what was announced, as who announces identifies it.
	UpTo  string `json:"up_to"`
	Count int64  `json:"count"`
}

// Expiry returns the deletion of a kind that was announced; nil: none was.
func (q *Queue) Expiry(ctx context.Context, kind string) (*Expiry, error) {
	all, err := q.client.HGetAll(ctx, q.keys.expiry()).Result() // of two fields at most
	if err != nil {
		return nil, annotate(err, "read which deletions were announced")
	}
	if all[kind] == "" {
		return nil, nil //nolint:nilnil // none was announced
	}
	var e Expiry
	if err := json.Unmarshal([]byte(all[kind]), &e); err != nil {
		return nil, fmt.Errorf("read which deletions were announced: %w", err)
	}
	return &e, nil
}

// AnnounceExpiry keeps a deletion, unless one of the kind is announced: false.
func (q *Queue) AnnounceExpiry(ctx context.Context, kind string, e Expiry) (bool, error) {
	text, err := json.Marshal(e)
	if err != nil {
		return false, err
	}
	announced, err := q.client.HSetNX(ctx, q.keys.expiry(), kind, text).Result()
	return announced, annotate(err, "announce a deletion")
}

// EndExpiry removes what was announced: it was done, or is not to be.
func (q *Queue) EndExpiry(ctx context.Context, kind string) error {
	return annotate(q.client.HDel(ctx, q.keys.expiry(), kind).Err(), "end a deletion that was announced")
}

// ExpiringParked returns how many parked changes were committed before a time, or timers have failed before it, and the last of them.
func (q *Queue) ExpiringParked(ctx context.Context, before time.Time) (last ID, n int64, err error) {
	err = q.eachParked(ctx, ParkedFilter{To: before}, ID{}, false, func(p *ParkedChange) bool {
		if p.failed.Before(before) {
			last = p.ID
			n++
		}
		return true
	})
	return last, n, err
}

// ExpireParked removes the parked changes up to one that were committed before a time, and the timers that have failed
// before it, and returns how many.
func (q *Queue) ExpireParked(ctx context.Context, last ID, before time.Time) (int64, error) {
	var ids []ID
	err := q.eachParked(ctx, ParkedFilter{To: before}, ID{}, false, func(p *ParkedChange) bool {
		if p.ID.Compare(last) > 0 {
			return false
		}
		if p.failed.Before(before) {
			ids = append(ids, p.ID)
		}
		return true
	})
	if err != nil {
		return 0, err
	}
	return q.DropParked(ctx, ids)
}
