package bridge

import (
	"time"

	"gancho/mapping"
)

const (
	// chunkRecords is how many records are allocated at once, when they are needed.
	chunkRecords = 1 << 10
	// memberChunk is that of one of several sources, of which most have few.
	memberChunk = 1 << 7
	// recordVerdicts is how many verdicts are in a record; what has more takes several.
	recordVerdicts = 4
)

// verdictRecord is what is remembered of a change, in 64 bytes. Key and tenant are hashes,
// 0 where they are not known.
type verdictRecord struct {
	commit, ordinal, key, tenant uint64
	micros                       int64
	table                        uint32
	settings                     uint16
	op                           uint8 // with opNet
	n                            uint8
	verdicts                     [recordVerdicts]mapping.Verdict
}

const (
	opNet = 1 << 7
	opAll = opNet - 1
)

// verdictRing has the newest records. Its owner has the lock.
type verdictRing struct {
	kept   uint64 // how many records are, a multiple of chunk
	chunk  uint64 // how many records are allocated at once
	chunks [][]verdictRecord
	next   uint64 // how many records there have been
	// made is the time of the newest commit whose record had to make room, in microseconds.
	made int64
}

func newVerdictRing(chunk, kept uint64) verdictRing {
	return verdictRing{kept: kept, chunk: chunk, chunks: make([][]verdictRecord, kept/chunk)}
}

func (g *verdictRing) add(r *verdictRecord) {
	at := g.next % g.kept
	chunk := &g.chunks[at/g.chunk]
	if *chunk == nil {
		*chunk = make([]verdictRecord, g.chunk)
	}
	slot := &(*chunk)[at%g.chunk]
	if g.next >= g.kept {
		g.made = max(g.made, slot.micros)
	}
	*slot = *r
	g.next++
}

// madeRoom is the time of the newest commit whose record had to make room; zero: none had to.
func (g *verdictRing) madeRoom() time.Time {
	if g.made == 0 {
		return time.Time{}
	}
	return time.UnixMicro(g.made).UTC()
}

// each calls yield with every record of a ring that is kept by now, the oldest first. Capture
// waits until one chunk is copied, and for no call of yield.
func (v *verdicts) each(g *verdictRing, yield func(*verdictRecord)) {
	piece := make([]verdictRecord, 0, g.chunk)
	v.mu.Lock()
	last := g.next
	v.mu.Unlock()
	for seq := uint64(0); seq < last; {
		v.mu.Lock()
		if g.next > g.kept {
			seq = max(seq, g.next-g.kept)
		}
		end := min(last, (seq/g.chunk+1)*g.chunk)
		piece = piece[:0]
		if seq < end {
			at := seq % g.chunk
			piece = append(piece, g.chunks[seq%g.kept/g.chunk][at:at+end-seq]...)
		}
		v.mu.Unlock()
		seq = max(seq, end)
		for i := range piece {
			yield(&piece[i])
		}
	}
}
