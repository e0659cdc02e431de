package bridge

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"os"

	"gancho/cdc"
)

// rowSpool holds the rows of a query in a temporary file without a name, so that the query ends as soon as the server has
// sent them: no transaction stays open, and no statement_timeout counts, while their events are queued.
type rowSpool struct {
	file   *os.File
	writer *bufio.Writer
	reader *bufio.Reader
	head   [binary.MaxVarintLen64]byte
	rows   int64
}

// spoolBuffer is what is written and read at once.
const spoolBuffer = 64 << 10

func newRowSpool() (*rowSpool, error) {
	file, err := os.CreateTemp("", "gancho-schedule-*")
	if err != nil {
		return nil, fmt.Errorf("keep the rows of a schedule: %w", err)
	}
	if err := os.Remove(file.Name()); err != nil { // it goes with the process
		return nil, errors.Join(err, file.Close())
	}
	return &rowSpool{file: file, writer: bufio.NewWriterSize(file, spoolBuffer)}, nil
}

func (s *rowSpool) close() { _ = s.file.Close() } // nobody reads it any more

// write appends a row.
func (s *rowSpool) write(row []cdc.Datum) error {
	s.rows++
	for _, d := range row {
		if err := s.writer.WriteByte(byte(d.State)); err != nil {
			return s.full(err)
		}
		n := binary.PutUvarint(s.head[:], uint64(len(d.Text)))
		if _, err := s.writer.Write(s.head[:n]); err != nil {
			return s.full(err)
		}
		if _, err := s.writer.Write(d.Text); err != nil {
			return s.full(err)
		}
	}
	return nil
}

func (s *rowSpool) full(err error) error {
	return fmt.Errorf("write the rows of a schedule to a temporary file: %w; make room in %s", err, os.TempDir())
}

// rewind begins to read.
func (s *rowSpool) rewind() error {
	if err := s.writer.Flush(); err != nil {
		return s.full(err)
	}
	if _, err := s.file.Seek(0, io.SeekStart); err != nil {
		return err
	}
	s.reader = bufio.NewReaderSize(s.file, spoolBuffer)
	return nil
}

// read returns the next row of so many columns, and how many bytes it takes; nil: there is none.
func (s *rowSpool) read(columns int) (row []cdc.Datum, size int, err error) {
	for i := range columns {
		state, err := s.reader.ReadByte()
		if i == 0 && errors.Is(err, io.EOF) {
			return nil, 0, nil
		}
		if err != nil {
			return nil, 0, fmt.Errorf("read the rows of a schedule: %w", err)
		}
		n, err := binary.ReadUvarint(s.reader)
		if err != nil {
			return nil, 0, fmt.Errorf("read the rows of a schedule: %w", err)
		}
		d := cdc.Datum{State: cdc.State(state), Text: make([]byte, n)}
		if _, err := io.ReadFull(s.reader, d.Text); err != nil {
			return nil, 0, fmt.Errorf("read the rows of a schedule: %w", err)
		}
		row, size = append(row, d), size+len(d.Text)
	}
	return row, size, nil
}
