package bridge

import (
	"context"
	"errors"
	"strconv"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/retry"
)

const (
	// retainEvery is how often old dead letters and parked changes are looked for.
	retainEvery = time.Hour
	// retainNotice is how long before they are deleted that is announced.
	retainNotice = 7 * 24 * time.Hour
)

// retention is how long something is kept of which people have to be told before it goes.
type retention struct {
	kind string
	keep time.Duration // 0: for ever
	// expiring returns how many are from before a time, and which is the last.
	expiring func(ctx context.Context, before time.Time) (last string, n int64, err error)
	// expire deletes those up to one that are from before a time.
	expire func(ctx context.Context, last string, before time.Time) (int64, error)
}

func (b *bridge) deadRetention() retention {
	return retention{
		kind: queue.ExpiringDead, keep: b.State.KeepDead,
		expiring: func(ctx context.Context, before time.Time) (string, int64, error) {
			last, n, err := b.store.Expiring(ctx, before)
			return strconv.FormatInt(last, 10), n, err
		},
		expire: func(ctx context.Context, last string, before time.Time) (int64, error) {
			id, err := strconv.ParseInt(last, 10, 64)
			if err != nil {
				return 0, err
			}
			return b.store.ExpireDead(ctx, id, before)
		},
	}
}

func (b *bridge) parkedRetention() retention {
	return retention{
		kind: queue.ExpiringParked, keep: b.KeepParked,
		expiring: func(ctx context.Context, before time.Time) (string, int64, error) {
			last, n, err := b.queue.ExpiringParked(ctx, before)
			return last.String(), n, err
		},
		expire: func(ctx context.Context, last string, before time.Time) (int64, error) {
			id, err := queue.ParseID(last)
			if err != nil {
				return 0, err
			}
			n, err := b.queue.ExpireParked(ctx, id, before)
			return n, errors.Join(err, b.queue.ForgetReasons(ctx))
		},
	}
}

// retain deletes old dead letters and parked changes until the context ends, a week after
// it has announced it at the earliest. Several processes may do so at once.
func (b *bridge) retain(ctx context.Context) error {
	all := []retention{b.parkedRetention()}
	if b.State != nil {
		all = append(all, b.deadRetention())
	}
	for {
		wait := retainEvery
		for i := range all {
			if err := b.apply(ctx, &all[i], time.Now()); err != nil && ctx.Err() == nil {
				wait = time.Minute
				b.Log.Warn().Err(err).Str("kind", all[i].kind).Msg("what is kept for too long could not be looked for or deleted; trying again in a minute")
			}
		}
		if retry.Wait(ctx, wait) != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// apply deletes what was announced, if the time has come, and announces what is next.
func (b *bridge) apply(ctx context.Context, r *retention, now time.Time) error {
	if r.keep == 0 {
		return b.queue.EndExpiry(ctx, r.kind)
	}
	e, err := b.queue.Expiry(ctx, r.kind)
	if err != nil {
		return err
	}
	if e != nil {
		if now.Before(e.Due) {
			return nil
		}
		// What was announced and is to be kept longer by now stays.
		n, err := r.expire(ctx, e.UpTo, now.Add(-r.keep))
		b.metrics.expired.WithLabelValues(r.kind).Add(float64(n))
		if n > 0 {
			b.Log.Warn().Str("kind", r.kind).Int64("deleted", n).Time("announced", e.Announced).Dur("kept_for_ms", r.keep).Msg("old dead letters or parked changes deleted, as was announced")
		}
		if err != nil {
			return err
		}
		if err := b.queue.EndExpiry(ctx, r.kind); err != nil {
			return err
		}
	}
	last, n, err := r.expiring(ctx, now.Add(retainNotice-r.keep))
	if err != nil || n == 0 {
		return err
	}
	next := queue.Expiry{Announced: now.UTC().Truncate(time.Second), Due: now.Add(retainNotice).UTC().Truncate(time.Second), UpTo: last, Count: n}
	// The event first: who dies between the two announces again, and the event is the same.
	if err := b.announceExpiry(ctx, r.kind, &next); err != nil {
		return err
	}
	announced, err := b.queue.AnnounceExpiry(ctx, r.kind, next)
	if err == nil && announced {
		b.Log.Warn().Str("kind", r.kind).Int64("count", n).Time("due", next.Due).Msg(control.ExpiryText(r.kind, &next))
	}
	return err
}

// announceExpiry queues an event for whoever subscribes to it, once a day at most.
func (b *bridge) announceExpiry(ctx context.Context, kind string, e *queue.Expiry) error {
	return b.announce(ctx, eventExpiring, kind, nil, e.Due.Format(time.DateOnly), struct {
		Kind  string    `json:"kind"`
		Count int64     `json:"count"`
		Due   time.Time `json:"due"`
	}{kind, e.Count, e.Due})
}
