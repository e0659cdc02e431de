package bridge

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/internal/retry"
)

// The record of an open backfill, in Redis.
type readRecord struct {
	Tables []uint32 `json:"tables"` // by OID
}

// recorded reads the record; nil: no backfill is open.
func (r *reads) recorded(ctx context.Context) ([]uint32, error) {
	return waitFor(ctx, r.Log, "redis", func() ([]uint32, error) {
		text, err := r.queue.Reads(ctx)
		if err != nil || text == "" {
			return nil, err
		}
		var record readRecord
		if err := json.Unmarshal([]byte(text), &record); err != nil {
			return nil, fmt.Errorf("read which tables a backfill reads: %w", err)
		}
		return record.Tables, nil
	})
}

// known returns the tables of an open backfill, for a stream that starts; nil: none is open.
func (r *reads) known(ctx context.Context) ([]uint32, error) {
	recorded, err := r.recorded(ctx)
	if want := r.want.Load(); err == nil && recorded == nil && want != nil {
		return *want, r.record(ctx, *want) // Redis has lost it
	}
	return recorded, err
}

// record writes the record; nil: no backfill is open.
func (r *reads) record(ctx context.Context, tables []uint32) error {
	text := ""
	if tables != nil {
		encoded, err := json.Marshal(readRecord{tables})
		if err != nil {
			return err
		}
		text = string(encoded)
	}
	_, err := waitFor(ctx, r.Log, "redis", func() (struct{}, error) { return struct{}{}, r.queue.RecordReads(ctx, text) })
	return err
}

// opened opens a backfill of tables: their changes are kept from then on.
func (r *reads) opened(ctx context.Context, tables []uint32) error {
	if now := r.want.Load(); now != nil && !slices.Equal(*now, tables) {
		if err := r.closed(ctx); err != nil {
			return err
		}
	}
	if err := r.record(ctx, tables); err != nil {
		return err
	}
	if r.want.Load() == nil {
		r.want.Store(&tables)
	}
	return nil
}

// closed ends what opened has begun, once the stream has all that was written for it and Redis
// all that it led to. Nobody writes any more.
func (r *reads) closed(ctx context.Context) error {
	slot, err := waitFor(ctx, r.Log, "source", func() (cdc.Slot, error) { return r.gauge.Measure(ctx) })
	if err != nil {
		return err
	}
	r.nudge(ctx)
	if _, err := r.await(ctx, func(p *readProgress) bool { return p.handled >= slot.Current }); err != nil {
		return err
	}
	if err := r.noteFault(ctx); err != nil {
		return err
	}
	for r.reader.Confirmed() < slot.Current {
		if r.release(slot.Current) { // again when the stream has begun anew meanwhile, by the record
			r.nudge(ctx)
		}
		if err := retry.Wait(ctx, jobPause); err != nil {
			return err
		}
	}
	r.release(slot.Current)
	return r.record(ctx, nil)
}

// noteFault stores where the job of a message with a fault goes on: what is closed is confirmed, and the stream does not
// repeat the message to a process that comes later. That of the open backfill, if there is one, learns of it as ever.
func (r *reads) noteFault(ctx context.Context) error {
	r.mu.Lock()
	h := r.progress.faulty
	r.mu.Unlock()
	if h == nil || h.Before == nil {
		return nil
	}
	return r.stored(ctx, func(ctx context.Context) error { return r.jobStore.ReturnBackfill(ctx, h.Job, h.Round, *h.Before) })
}

// release has no table used any more, if the stream has come as far as a position since it began. It reports
// whether tables were used until now.
func (r *reads) release(upTo cdc.LSN) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.progress.handled < upTo {
		return false
	}
	return r.want.Swap(nil) != nil
}

// nudge has the stream move on: an idle server says how far it is only now and then, which has to do
// where this fails.
func (r *reads) nudge(ctx context.Context) {
	rows, err := cdc.OpenRows(ctx, r.Source, "")
	if err == nil {
		defer rows.Close(ctx)
		err = rows.Mark(ctx, func(string) (cdc.Message, error) { return cdc.Message{Prefix: r.prefix() + ".nudge"}, nil })
	}
	if err != nil {
		r.Log.Debug().Err(err).Msg("the stream was not nudged; it says by itself how far it is")
	}
}

// tendEvery is the time between two looks whether a job sees to the open backfill, abandonedAfter
// how many that have not seen one close it.
const (
	tendEvery      = time.Second
	abandonedAfter = 3
)

// tend closes a backfill that is open and that no job sees to: it was paused or canceled while the
// process that did it was not there. It would keep positions from being confirmed.
func (r *reads) tend(ctx context.Context) error {
	for alone := 0; ; {
		if err := retry.Wait(ctx, tendEvery); err != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
		alone++
		if r.want.Load() == nil || r.owner.Load() || !r.reader.Streaming() {
			alone = 0
		}
		if alone < abandonedAfter || !r.owner.CompareAndSwap(false, true) {
			continue
		}
		alone = 0
		if err := r.closed(ctx); err != nil && ctx.Err() == nil {
			r.Log.Warn().Err(err).Msg("a backfill that has ended cannot be closed yet; until then no position is confirmed")
		}
		r.owner.Store(false)
	}
}
