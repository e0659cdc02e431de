package simulate

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"gancho/cdc"
)

// RecordingError reports a file that cannot be read as a recording, and why.
type RecordingError struct{ File, Problem string }

// Error names the file.
func (e *RecordingError) Error() string { return e.File + ": " + e.Problem }

// Recording is a recording that is being read.
type Recording struct {
	Header
	name      string
	file      *os.File
	in        *bufio.Reader
	body      bytes.Buffer // of the frame at hand
	relations []*cdc.Relation
	trailer   trailer
	tx        cdc.Transaction
	read      trailer // what was read so far
}

// maxFrame bounds a frame, in bytes: a row of PostgreSQL has less than 1 GiB in each value,
// and 2 GiB in all.
const maxFrame = 1 << 32

// OpenRecording opens a recording and reads its header. The error is a *RecordingError
// when the file is none.
func OpenRecording(path string) (*Recording, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, &RecordingError{path, "open the recording: " + err.Error()}
	}
	r := &Recording{name: path, file: file}
	if err := r.open(bufio.NewReader(file)); err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return r, nil
}

func (r *Recording) open(in *bufio.Reader) error {
	line, err := in.ReadString('\n')
	switch {
	case err != nil || !strings.HasPrefix(line, magic):
		return r.problem("this is no recording; gancho simulate --record writes one")
	case line != firstLine:
		version, _, _ := strings.Cut(strings.TrimPrefix(line, magic), ":")
		return r.problem("its format is version %q, and this gancho reads version %s: read it with the gancho that wrote it, or record again", version, format)
	}
	zip, err := gzip.NewReader(in)
	if err != nil {
		return r.broken(err)
	}
	r.in = bufio.NewReaderSize(zip, 64<<10)
	kind, err := r.next()
	if err != nil {
		return err
	}
	if kind != frameHeader || json.Unmarshal(r.body.Bytes(), &r.Header) != nil {
		return r.problem("its header cannot be read; the file is damaged")
	}
	return nil
}

// Close closes the file.
func (r *Recording) Close() error { return r.file.Close() }

func (r *Recording) problem(format string, args ...any) error {
	return &RecordingError{r.name, fmt.Sprintf(format, args...)}
}

// broken reports a file that ends too early, or is not as it was written.
func (r *Recording) broken(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return r.problem("the recording ends too early, after %d whole transactions: the process that wrote it was killed, or the copy is not complete; record or copy it again", r.read.Transactions)
	}
	if errors.Is(err, gzip.ErrChecksum) || errors.Is(err, gzip.ErrHeader) || strings.Contains(err.Error(), "flate") {
		return r.damaged()
	}
	return fmt.Errorf("read %s: %w", r.name, err)
}

func (r *Recording) damaged() error {
	return r.problem("the recording is damaged, behind %d whole transactions; record or copy it again", r.read.Transactions)
}

// next reads a frame into body.
func (r *Recording) next() (kind byte, err error) {
	size, err := binary.ReadUvarint(r.in)
	if err != nil {
		return 0, r.broken(err)
	}
	if size > maxFrame {
		return 0, r.damaged()
	}
	if kind, err = r.in.ReadByte(); err != nil {
		return 0, r.broken(err)
	}
	if r.body.Cap() > 1<<20 {
		r.body = bytes.Buffer{}
	}
	r.body.Reset()
	if _, err := io.CopyN(&r.body, r.in, int64(size)); err != nil {
		return 0, r.broken(err)
	}
	return kind, nil
}

// play gives the handler everything that was recorded.
func (r *Recording) play(h cdc.Handler) error {
	if err := h.Reset(); err != nil {
		return err
	}
	open := false
	for {
		kind, err := r.next()
		if err != nil {
			return err
		}
		c := &frameReader{rest: r.body.Bytes()}
		switch {
		case kind == frameRelation:
			err = r.relation(c)
		case kind == frameBegin && !open:
			open = true
			r.tx = cdc.Transaction{Commit: cdc.LSN(c.number()), Time: time.UnixMicro(c.signed()).UTC(), XID: uint32(c.number())}
			if err = r.whole(c); err == nil {
				err = h.Begin(&r.tx)
			}
		case kind == frameChange && open:
			err = r.change(c, h)
		case kind == frameEnd && open:
			open = false
			r.tx.End = cdc.LSN(c.number())
			if err = r.whole(c); err == nil {
				r.read.Transactions++
				err = h.Commit(&r.tx)
			}
		case kind == frameTrailer:
			return r.end(c)
		default:
			err = r.damaged()
		}
		if err != nil {
			return err
		}
	}
}

// whole reports a frame that was not what its kind says.
func (r *Recording) whole(c *frameReader) error {
	if c.failed || len(c.rest) > 0 {
		return r.damaged()
	}
	return nil
}

// end checks that all is there.
func (r *Recording) end(c *frameReader) error {
	if json.Unmarshal(c.rest, &r.trailer) != nil || r.trailer.Transactions != r.read.Transactions || r.trailer.Changes != r.read.Changes {
		return r.damaged()
	}
	if _, err := r.in.ReadByte(); !errors.Is(err, io.EOF) {
		return r.damaged()
	}
	return nil
}

func (r *Recording) relation(c *frameReader) error {
	n, rel := c.number(), new(cdc.Relation)
	if c.failed || n != uint64(len(r.relations)) || json.Unmarshal(c.rest, rel) != nil {
		return r.damaged()
	}
	for _, column := range rel.Columns {
		if column.Type == nil {
			return r.damaged()
		}
	}
	r.relations = append(r.relations, rel)
	return nil
}

// maxStale is more often than a mapper asks for types, once for each that does not fit.
const maxStale = 1000

func (r *Recording) change(c *frameReader, h cdc.Handler) error {
	n, op := c.number(), c.number()
	change := cdc.Change{Position: cdc.Position{Commit: r.tx.Commit, Ordinal: c.number()}, Tx: &r.tx, Op: cdc.Op(op)}
	if c.failed || n >= uint64(len(r.relations)) || op < uint64(cdc.Insert) || op > uint64(cdc.Truncate) {
		return r.damaged()
	}
	change.Relation = r.relations[n]
	change.New, change.Old = c.row(len(change.Relation.Columns)), c.row(len(change.Relation.Columns))
	rows := change.Op == cdc.Truncate || change.Op == cdc.Delete && change.Old != nil || change.Op < cdc.Delete && change.New != nil
	if err := r.whole(c); err != nil || !rows {
		return r.damaged()
	}
	r.read.Changes++
	err := h.Change(&change)
	for i := 0; i < maxStale && errors.Is(err, cdc.ErrStaleTypes); i++ {
		err = h.Change(&change) // the types are those of the time: there are no others
	}
	return err
}

// frameReader reads the parts of a frame; after a part that is not there it has failed.
type frameReader struct {
	rest   []byte
	failed bool
}

func (c *frameReader) number() uint64 {
	v, n := binary.Uvarint(c.rest)
	if n <= 0 {
		c.failed = true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

func (c *frameReader) signed() int64 {
	v, n := binary.Varint(c.rest)
	if n <= 0 {
		c.failed = true
		return 0
	}
	c.rest = c.rest[n:]
	return v
}

// row reads a row of so many columns; nil: there is none.
func (c *frameReader) row(columns int) []cdc.Datum {
	n := c.number()
	if n == 0 || c.failed {
		return nil
	}
	if n-1 != uint64(columns) {
		c.failed = true
		return nil
	}
	row := make([]cdc.Datum, columns)
	for i := range row {
		if len(c.rest) == 0 || cdc.State(c.rest[0]) > cdc.Invalid {
			c.failed = true
			return nil
		}
		row[i].State, c.rest = cdc.State(c.rest[0]), c.rest[1:]
		if row[i].State != cdc.Present && row[i].State != cdc.Invalid {
			continue
		}
		size := c.number()
		if c.failed || size > uint64(len(c.rest)) {
			c.failed = true
			return nil
		}
		row[i].Text, c.rest = c.rest[:size:size], c.rest[size:]
	}
	return row
}
