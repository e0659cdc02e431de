package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/internal/state"
	"gancho/mapping"
)

// sentChunk is a chunk that is in the stream.
type sentChunk struct {
	seq  int64
	to   state.BackfillPlace // behind its rows
	upTo cdc.LSN             // it ends before that; 0: it is not known yet
}

// chunk reads the next rows of a table and puts them into the stream.
func (b *backfill) chunk(ctx context.Context, table *mapping.ReadTable) error {
	if b.job.Endpoint != "" {
		if err := b.receives(b.job.Endpoint); err != nil {
			return err
		}
	}
	most := chunksAhead
	if b.pace.live {
		most = 1
	}
	if round := b.cursor.Round; len(b.ahead) >= most {
		if err := b.taken(ctx, most-1); err != nil || b.cursor.Round != round {
			return err
		}
	}
	if err := b.pace.wait(ctx, b); err != nil {
		return err
	}
	limit := b.pace.limit(b.job.Filter.Where != "")
	var chunk cdc.Chunk
	err := b.connected(ctx, func() (err error) {
		chunk, err = b.put(ctx, table, &limit)
		if !unreachable(err) {
			return err
		}
		if cdc.FaultOf(err) == cdc.FaultTimeout {
			limit = b.pace.tooMany(limit)
		}
		return b.delayed(ctx, err)
	})
	if errors.Is(err, cdc.ErrAltered) {
		return b.altered(ctx, table)
	}
	if err != nil {
		return b.again(ctx, err)
	}
	b.metrics.jobEvents.WithLabelValues(string(b.job.Kind)).Add(float64(chunk.Read))
	if chunk.Read < limit {
		b.cursor.Done = append(slices.Clone(b.cursor.Done), b.cursor.Table)
		b.cursor.Table, b.cursor.After = "", nil
		return b.advance(ctx)
	}
	return nil
}

// put is one attempt at a chunk, of as many rows as the limit then says. What it has committed is in the cursor.
func (b *backfill) put(ctx context.Context, table *mapping.ReadTable, limit *int) (cdc.Chunk, error) {
	if b.cursor.Next != nil { // an attempt before this one has failed
		emitted, err := b.emitted(ctx)
		if err != nil {
			return cdc.Chunk{}, err
		}
		read := int(b.cursor.Next.Rows)
		if emitted {
			b.committed()
			return cdc.Chunk{Read: read}, nil
		}
		b.cursor.Next = nil
	}
	chunk, err := b.read(ctx, table, limit)
	if err != nil {
		return chunk, err
	}
	if chunk.Rows == 0 { // there is nothing to send
		b.rows.Discard(ctx)
		b.cursor.Rows += int64(chunk.Read)
		if chunk.Last != nil {
			b.cursor.After = chunk.Last
		}
		return chunk, b.advance(ctx)
	}
	h := b.header(chunk.Snapshot)
	before := b.cursor.BackfillPlace
	h.XID, h.Key, h.Before = chunk.XID, table.Table.PrimaryKey, &before
	m, err := b.reads.seal(h, b.pace.buffer)
	if err == nil {
		b.cursor.Next = &state.BackfillChunk{XID: chunk.XID, Claim: h.Claim, Seq: h.Seq, Last: chunk.Last, Rows: int64(chunk.Read)}
		err = b.announce(ctx)
	}
	if err != nil {
		b.rows.Discard(ctx)
		return chunk, err
	}
	if err := b.rows.Emit(ctx, m); err != nil {
		return chunk, err
	}
	b.committed()
	return chunk, nil
}

// recall finds out what became of the chunk of which an earlier process did not learn it.
func (b *backfill) recall(ctx context.Context) error {
	if b.cursor.Next == nil {
		return nil
	}
	var emitted bool
	err := b.connected(ctx, func() (err error) {
		emitted, err = b.emitted(ctx)
		return err
	})
	if err != nil {
		return b.again(ctx, err)
	}
	if emitted {
		b.cursor = after(b.cursor)
	}
	b.cursor.Next = nil
	return b.advance(ctx)
}

// emitted reports whether the next chunk is in the stream, once its transaction has ended. That the server says so is not
// enough: a crash loses a transaction of which nothing was written yet, and gives its id to somebody else's. So capture has to
// have taken the chunk before a mark behind it. One that was confirmed, and is not repeated, is read again in that doubt.
func (b *backfill) emitted(ctx context.Context) (bool, error) {
	next := b.cursor.Next
	committed, err := b.rows.Committed(ctx, next.XID)
	if err != nil || !committed {
		return false, err
	}
	if err := b.markOnce(ctx); err != nil {
		return false, err
	}
	p, err := b.seen(ctx, b.seq)
	h := p.chunk
	return err == nil && h != nil && h.Job == b.job.ID && h.Claim == next.Claim && h.Seq == next.Seq, err
}

// read reads a chunk into the pace's buffer, and has the one behind it read meanwhile if nothing is to wait for this one.
func (b *backfill) read(ctx context.Context, table *mapping.ReadTable, limit *int) (chunk cdc.Chunk, err error) {
	var took time.Duration
	if n := b.later.taken(ctx, b, table, b.cursor.After); n != nil {
		chunk, took, *limit = n.chunk, n.took, n.limit
	} else {
		began := time.Now()
		chunk, b.pace.buffer, err = b.rows.Read(ctx, b.pace.query(table, b.job.Filter.Where), b.cursor.After, *limit, b.pace.buffer[:0])
		took = time.Since(began)
	}
	if err != nil {
		return chunk, err
	}
	b.pace.took(took, chunk.Read, len(b.pace.buffer))
	if chunk.Read == *limit && b.pace.free() {
		b.later.begin(ctx, b, table, chunk.Last, b.pace.limit(b.job.Filter.Where != ""))
	}
	return chunk, nil
}

// after is where a backfill is when the next chunk is in the stream.
func after(c state.BackfillCursor) state.BackfillCursor {
	c.Rows += c.Next.Rows
	if c.Next.Last != nil {
		c.After = c.Next.Last
	}
	c.Next = nil
	return c
}

// committed notes that the next chunk is in the stream.
func (b *backfill) committed() {
	b.cursor, b.marked, b.unsaved = after(b.cursor), time.Now(), true
	b.ahead = append(b.ahead, sentChunk{seq: b.seq, to: b.cursor.BackfillPlace})
}

// altered goes on with a table that was altered: by the rules as they are bound to it then.
func (b *backfill) altered(ctx context.Context, table *mapping.ReadTable) error {
	b.Log.Info().Int64("job", b.job.ID).Stringer("table", table.Table.Relation.TableName()).Msg("a table was altered while its rows were read; the rules are bound to it again")
	if err := b.capture.adoptAgain(ctx); err != nil {
		return err
	}
	b.pace.forget()
	return nil
}

// again goes back to the rows that capture could not take, if reading them again helps.
func (b *backfill) again(ctx context.Context, err error) error {
	fault := new(faultError)
	if !errors.As(err, &fault) {
		return err
	}
	h := fault.of
	if h.Before != nil && h.Job == b.job.ID {
		b.cursor.BackfillPlace, b.cursor.Next = *h.Before, nil
	}
	b.cursor.Round = max(b.cursor.Round, h.Round) + 1
	b.ahead = nil
	if err := b.advance(ctx); err != nil { // before what comes behind them is confirmed
		return err
	}
	b.reads.forget(h)
	if !errors.Is(fault.error, mapping.ErrOverlayFull) {
		return fmt.Errorf("%w; nothing behind the last rows that were sent is lost: correct that, then run gancho backfill resume %d, which goes on there", fault.error, b.job.ID)
	}
	b.Log.Warn().Err(fault.error).Int64("job", b.job.ID).Msg("rows of a backfill are read again")
	return b.mark(ctx)
}

// taken waits until at most so many of the chunks ahead have not been taken by capture. Maybe they are to be read again.
func (b *backfill) taken(ctx context.Context, most int) error {
	if _, err := b.seen(ctx, b.ahead[len(b.ahead)-most-1].seq); err != nil {
		return b.again(ctx, err)
	}
	return nil
}
