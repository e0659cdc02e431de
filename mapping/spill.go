package mapping

import (
	"bufio"
	"bytes"
	"cmp"
	"container/heap"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

const (
	// keptMemory is what a sorter keeps from one transaction to the next, in bytes.
	keptMemory = 1 << 20
	// runBuffer is read ahead of each run while runs are merged, in bytes.
	runBuffer = 32 << 10
	// recordSize is what a record takes besides its bytes.
	recordSize = 24
)

// sorter sorts records by their keys, which must be unique. Past half of its
// limit it writes them to a temporary file as a sorted run and begins another:
// the other half is for the growth of its memory.
type sorter struct {
	limit   int
	arena   []byte
	records []record
	file    *os.File
	written int64
	runs    []int64 // where each begins in the file
}

// record is a key and a value, one behind the other in the arena.
type record struct {
	prefix uint64 // the key's first bytes, which mostly decide
	offset int
	key    uint32
	value  uint32
}

// push makes a record of what was appended to the arena since start. Its key
// has the given length.
func (s *sorter) push(start, key int) error {
	var first [8]byte
	copy(first[:], s.arena[start:start+key])
	s.records = append(s.records, record{binary.BigEndian.Uint64(first[:]), start, uint32(key), uint32(len(s.arena) - start - key)})
	if len(s.arena)+recordSize*len(s.records) < s.limit/2 {
		return nil
	}
	if err := s.spill(); err != nil {
		return fmt.Errorf("write a large transaction to a temporary file: %w; make room in %s, or raise mapping.transaction_memory", err, os.TempDir())
	}
	return nil
}

// spilled reports whether records are in the file.
func (s *sorter) spilled() bool { return s.file != nil }

// sort brings the records in memory into order.
func (s *sorter) sort() {
	slices.SortFunc(s.records, func(a, b record) int {
		if a.prefix != b.prefix {
			return cmp.Compare(a.prefix, b.prefix)
		}
		return bytes.Compare(s.arena[a.offset:a.offset+int(a.key)], s.arena[b.offset:b.offset+int(b.key)])
	})
}

// spill writes what is in memory as a run. The file's name is removed immediately,
// so that the file disappears with the process.
func (s *sorter) spill() error {
	if s.file == nil {
		file, err := os.CreateTemp("", "gancho-transaction-*")
		if err != nil {
			return err
		}
		s.file = file
		if err := os.Remove(file.Name()); err != nil {
			return err
		}
	}
	s.sort()
	w := bufio.NewWriterSize(io.NewOffsetWriter(s.file, s.written), 256<<10)
	s.runs = append(s.runs, s.written)
	var head [2 * binary.MaxVarintLen32]byte
	for _, r := range s.records {
		h := binary.AppendUvarint(binary.AppendUvarint(head[:0], uint64(r.key)), uint64(r.value))
		body := s.arena[r.offset : r.offset+int(r.key+r.value)]
		if _, err := w.Write(h); err != nil {
			return err
		}
		if _, err := w.Write(body); err != nil {
			return err
		}
		s.written += int64(len(h) + len(body))
	}
	s.arena, s.records = s.arena[:0], s.records[:0]
	return w.Flush()
}

// each calls yield for every record in the order of the keys. The slices are
// valid until yield returns, or until reset when nothing was spilled.
func (s *sorter) each(yield func(key, value []byte) error) error {
	if s.file != nil {
		return s.eachSpilled(yield)
	}
	s.sort()
	for _, r := range s.records {
		split, end := r.offset+int(r.key), r.offset+int(r.key+r.value)
		if err := yield(s.arena[r.offset:split:split], s.arena[split:end:end]); err != nil {
			return err
		}
	}
	return nil
}

func (s *sorter) eachSpilled(yield func(key, value []byte) error) error {
	const reading = "read a large transaction from its temporary file: %w"
	if len(s.records) > 0 {
		if err := s.spill(); err != nil {
			return fmt.Errorf("write a large transaction to a temporary file: %w", err)
		}
	}
	s.arena, s.records = nil, nil
	var merged merge
	for i, start := range s.runs {
		end := s.written
		if i+1 < len(s.runs) {
			end = s.runs[i+1]
		}
		r := &runReader{from: bufio.NewReaderSize(io.NewSectionReader(s.file, start, end-start), runBuffer)}
		if err := r.next(); err != nil {
			return fmt.Errorf(reading, err)
		}
		merged = append(merged, r)
	}
	heap.Init(&merged)
	for len(merged) > 0 {
		r := merged[0]
		if err := yield(r.body[:r.key], r.body[r.key:]); err != nil {
			return err
		}
		switch err := r.next(); {
		case errors.Is(err, io.EOF):
			heap.Pop(&merged)
		case err != nil:
			return fmt.Errorf(reading, err)
		default:
			heap.Fix(&merged, 0)
		}
	}
	return nil
}

// reset discards all records.
func (s *sorter) reset() {
	if s.file != nil {
		_ = s.file.Close() // it has no name and no reader
		s.file = nil
	}
	s.written, s.runs = 0, s.runs[:0]
	s.arena, s.records = s.arena[:0], s.records[:0]
	if cap(s.arena) > keptMemory {
		s.arena = nil
	}
	if cap(s.records)*recordSize > keptMemory {
		s.records = nil
	}
}

// runReader is the next record of a run.
type runReader struct {
	from *bufio.Reader
	body []byte
	key  int
}

// next reads a record; its error is io.EOF after the last one.
func (r *runReader) next() error {
	key, err := binary.ReadUvarint(r.from)
	if err != nil {
		return err
	}
	value, err := binary.ReadUvarint(r.from)
	if err != nil {
		return io.ErrUnexpectedEOF
	}
	r.key = int(key)
	r.body = slices.Grow(r.body[:0], int(key+value))[:key+value]
	if _, err = io.ReadFull(r.from, r.body); errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// merge is a heap of runs by their next keys.
type merge []*runReader

func (m merge) Len() int { return len(m) }
func (m merge) Less(i, j int) bool {
	return bytes.Compare(m[i].body[:m[i].key], m[j].body[:m[j].key]) < 0
}
func (m merge) Swap(i, j int) { m[i], m[j] = m[j], m[i] }

// Push implements heap.Interface.
func (m *merge) Push(x any) { *m = append(*m, x.(*runReader)) } //nolint:forcetypeassert // only runs are pushed

// Pop implements heap.Interface.
func (m *merge) Pop() any {
	last := (*m)[len(*m)-1]
	*m = (*m)[:len(*m)-1]
	return last
}
