package simulate

import (
	"bufio"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"time"

	"gancho/cdc"
	"gancho/mapping"
)

// A recording begins with a line for people. The rest is gzip of frames, each a length,
// a kind and a body: the header, then relations before their first change, transactions
// with their changes, and the trailer, without which the recording is not whole.
const (
	magic     = "gancho recording "
	format    = "1"
	firstLine = magic + format + ": whole rows of a database, with personal data; keep it as you keep the database\n"
)

// The kinds of frames.
const (
	frameHeader   = 'H' // JSON
	frameRelation = 'R' // number, JSON
	frameBegin    = 'B' // commit LSN, time in microseconds, xid
	frameChange   = 'C' // relation's number, operation, ordinal, rows
	frameEnd      = 'E' // end LSN
	frameTrailer  = 'Z' // JSON
)

// Header is where a recording comes from.
type Header struct {
	Version  string    `json:"gancho"`
	SystemID string    `json:"system_id"`
	Database string    `json:"database"`
	Started  time.Time `json:"started"`
}

// trailer ends a recording.
type trailer struct {
	Ended        time.Time `json:"ended"`
	Transactions int64     `json:"transactions"`
	Changes      int64     `json:"changes"`
}

// Recorder writes a recording. Whole rows are in it, but for columns in privacy.deny that
// no rule names.
type Recorder struct {
	file      *os.File
	zip       *gzip.Writer
	out       *bufio.Writer
	rules     []*mapping.Ruleset
	relations map[*cdc.Relation]int
	// hidden are the columns of a relation that are left out.
	hidden map[*cdc.Relation][]int
	frame  []byte
	trailer
	err error
}

// NewRecorder creates the file, which must not exist, readable for its owner alone. The
// rules say what is left out.
func NewRecorder(path string, header Header, rules ...*mapping.Ruleset) (*Recorder, error) {
	file, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if errors.Is(err, os.ErrExist) {
		return nil, fmt.Errorf("%s exists, and a recording does not overwrite anything; name another file, or remove it", path)
	}
	if err != nil {
		return nil, fmt.Errorf("create the recording: %w", err)
	}
	if _, err := file.WriteString(firstLine); err != nil {
		return nil, errors.Join(fmt.Errorf("write the recording: %w", err), file.Close())
	}
	zip, err := gzip.NewWriterLevel(file, gzip.BestSpeed)
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	r := &Recorder{file: file, zip: zip, out: bufio.NewWriterSize(zip, 64<<10), rules: rules, relations: map[*cdc.Relation]int{}, hidden: map[*cdc.Relation][]int{}}
	r.document(frameHeader, nil, header)
	return r, r.err
}

// Close ends the recording; without it the file cannot be read. The error is the first of
// all.
func (r *Recorder) Close() error {
	r.Ended = time.Now().UTC()
	r.document(frameTrailer, nil, r.trailer)
	return errors.Join(r.err, r.out.Flush(), r.zip.Close(), r.file.Close())
}

// discard removes a recording of nothing.
func (r *Recorder) discard() error { return errors.Join(r.file.Close(), os.Remove(r.file.Name())) }

func (r *Recorder) begin(tx *cdc.Transaction) error {
	r.start()
	r.number(uint64(tx.Commit))
	r.frame = binary.AppendVarint(r.frame, tx.Time.UnixMicro())
	r.number(uint64(tx.XID))
	return r.write(frameBegin)
}

func (r *Recorder) commit(tx *cdc.Transaction) error {
	r.Transactions++
	r.start()
	r.number(uint64(tx.End))
	return r.write(frameEnd)
}

func (r *Recorder) change(c *cdc.Change) error {
	r.Changes++
	n, known := r.relations[c.Relation]
	if !known {
		n = len(r.relations)
		r.relations[c.Relation] = n
		r.hidden[c.Relation] = r.unnamed(c.Relation)
		r.document(frameRelation, binary.AppendUvarint(nil, uint64(n)), c.Relation)
	}
	r.start()
	r.number(uint64(n))
	r.number(uint64(c.Op))
	r.number(c.Ordinal)
	for _, row := range [][]cdc.Datum{c.New, c.Old} {
		r.row(row, r.hidden[c.Relation])
	}
	return r.write(frameChange)
}

// unnamed are the columns that no set of rules needs and that must not be sent.
func (r *Recorder) unnamed(rel *cdc.Relation) []int {
	var out []int
	for i, rules := range r.rules {
		columns := rules.Unnamed(rel)
		if i > 0 {
			columns = slices.DeleteFunc(columns, func(c int) bool { return !slices.Contains(out, c) })
		}
		out = columns
	}
	return out
}

func (r *Recorder) row(row []cdc.Datum, hidden []int) {
	if row == nil {
		r.number(0)
		return
	}
	r.number(uint64(len(row)) + 1)
	for i, d := range row {
		if slices.Contains(hidden, i) {
			d = cdc.Datum{State: cdc.Missing}
		}
		r.frame = append(r.frame, byte(d.State))
		if d.State == cdc.Present || d.State == cdc.Invalid {
			r.number(uint64(len(d.Text)))
			r.frame = append(r.frame, d.Text...)
		}
	}
}

func (r *Recorder) start()          { r.frame = r.frame[:0] }
func (r *Recorder) number(n uint64) { r.frame = binary.AppendUvarint(r.frame, n) }

// document writes a frame of JSON.
func (r *Recorder) document(kind byte, before []byte, v any) {
	text, err := json.Marshal(v)
	if err != nil {
		r.err = errors.Join(r.err, err)
		return
	}
	r.frame = append(append(r.frame[:0], before...), text...)
	_ = r.write(kind) // it is in r.err
}

// write writes the frame.
func (r *Recorder) write(kind byte) error {
	if r.err != nil {
		return r.err
	}
	var head [binary.MaxVarintLen64 + 1]byte
	n := binary.PutUvarint(head[:], uint64(len(r.frame)))
	head[n] = kind
	_, err := r.out.Write(head[:n+1])
	if err == nil {
		_, err = r.out.Write(r.frame)
	}
	if err != nil {
		r.err = fmt.Errorf("write the recording: %w", err)
	}
	if cap(r.frame) > 1<<20 {
		r.frame = nil
	}
	return r.err
}
