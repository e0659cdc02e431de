package bridge

import (
	"context"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// readAhead reads the next chunk, in a session of its own, while the one before it is written into the stream.
//
// The snapshots of messages have to see more from one to the next, because capture forgets what one has seen: so a chunk
// that was read ahead is dropped before a message is written that has a newer one.
type readAhead struct {
	rows   *cdc.RowReader // nil: not connected
	buffer []byte
	next   *nextChunk // nil: none
}

// nextChunk is a chunk that is being read, or was read and is in an open transaction.
type nextChunk struct {
	table *mapping.ReadTable
	after [][]byte
	limit int
	stop  context.CancelFunc
	done  chan struct{} // closed when what follows is known
	began time.Time
	took  time.Duration
	chunk cdc.Chunk
	err   error
}

// stale is the age at which a chunk is read again: the server ends its transaction soon.
const stale = cdc.ChunkIdle / 2

// begin reads the chunk behind a key, in the background.
func (a *readAhead) begin(ctx context.Context, b *backfill, table *mapping.ReadTable, after [][]byte, limit int) {
	ctx, stop := context.WithCancel(ctx)
	n := &nextChunk{table: table, after: after, limit: limit, stop: stop, done: make(chan struct{}), began: time.Now()}
	a.next = n
	source, path, q := b.Source, b.capture.bound.Load().Path(), b.pace.query(table, b.job.Filter.Where)
	go func() {
		defer close(n.done)
		if a.rows == nil || a.rows.Closed() {
			if a.rows, n.err = cdc.OpenRows(ctx, source, path); n.err != nil {
				a.rows = nil
				return
			}
		}
		n.began = time.Now()
		n.chunk, a.buffer, n.err = a.rows.Read(ctx, q, after, limit, a.buffer[:0])
		n.took = time.Since(n.began)
	}()
}

// taken returns the chunk behind a key of a table, which then is b.rows' and in b.pace.buffer, if it was read ahead.
func (a *readAhead) taken(ctx context.Context, b *backfill, table *mapping.ReadTable, after [][]byte) *nextChunk {
	n := a.next
	if n == nil {
		return nil
	}
	<-n.done
	if n.err != nil || n.table != table || !slices.EqualFunc(n.after, after, slices.Equal) || time.Since(n.began) > stale {
		a.drop(ctx)
		return nil
	}
	a.next = nil
	n.stop()
	b.rows, a.rows = a.rows, b.rows
	b.pace.buffer, a.buffer = a.buffer, b.pace.buffer
	return n
}

// drop ends the transaction of what was read ahead.
func (a *readAhead) drop(ctx context.Context) {
	if a.next == nil {
		return
	}
	a.next.stop()
	<-a.next.done
	a.next = nil
	if a.rows != nil {
		a.rows.Discard(ctx)
	}
}

// close ends its session, too.
func (a *readAhead) close(ctx context.Context) {
	a.drop(ctx)
	if a.rows != nil {
		a.rows.Close(ctx)
		a.rows = nil
	}
}
