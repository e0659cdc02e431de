package state

import (
	"bytes"
	"context"
	"encoding/binary"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// copier copies rows into the columns of a table.
type copier func(ctx context.Context, tx pgx.Tx, table pgx.Identifier, columns string) error

// copyValues copies n rows, whose values pgx encodes as the columns' types ask for.
func copyValues(n int, row func(int) []any) copier {
	return func(ctx context.Context, tx pgx.Tx, table pgx.Identifier, columns string) error {
		_, err := tx.CopyFrom(ctx, table, strings.Split(columns, ", "), pgx.CopyFromSlice(n, func(i int) ([]any, error) { return row(i), nil }))
		return err
	}
}

// copyData copies rows that are encoded already: a quarter of what pgx takes for it, which asks for the columns' types each time.
func copyData(data []byte) copier {
	return func(ctx context.Context, tx pgx.Tx, table pgx.Identifier, columns string) error {
		_, err := tx.Conn().PgConn().CopyFrom(ctx, bytes.NewReader(data), "copy "+table.Sanitize()+" ("+columns+") from stdin binary")
		return err
	}
}

// copySignature begins the data of a binary COPY, without flags and extension:
// https://www.postgresql.org/docs/current/sql-copy.html, "Binary Format".
const copySignature = "PGCOPY\n\xff\r\n\x00" + "\x00\x00\x00\x00" + "\x00\x00\x00\x00"

// copyRows is such data. The methods append a field each, in the order of the columns.
type copyRows []byte

// row begins a row of so many fields.
func (d *copyRows) row(fields uint16) { *d = binary.BigEndian.AppendUint16(*d, fields) }

// end returns the data with its trailer.
func (d *copyRows) end() []byte { return binary.BigEndian.AppendUint16(*d, 0xffff) }

func (d *copyRows) size(n int) { *d = binary.BigEndian.AppendUint32(*d, uint32(n)) }

func (d *copyRows) null() { *d = binary.BigEndian.AppendUint32(*d, 0xffffffff) }

func (d *copyRows) text(s string) {
	d.size(len(s))
	*d = append(*d, s...)
}

// bytes appends null for nil.
func (d *copyRows) bytes(b []byte) {
	if b == nil {
		d.null()
		return
	}
	d.size(len(b))
	*d = append(*d, b...)
}

func (d *copyRows) int4(n int) {
	d.size(4)
	*d = binary.BigEndian.AppendUint32(*d, uint32(int32(n)))
}

func (d *copyRows) int8(n int64) {
	d.size(8)
	*d = binary.BigEndian.AppendUint64(*d, uint64(n))
}

func (d *copyRows) bool(b bool) {
	d.size(1)
	if b {
		*d = append(*d, 1)
		return
	}
	*d = append(*d, 0)
}

// time appends a timestamptz: microseconds since the beginning of 2000.
func (d *copyRows) time(t time.Time) {
	const epoch = 946_684_800_000_000
	d.int8(t.UnixMicro() - epoch)
}

// texts appends an array of texts, null for none.
func (d *copyRows) texts(all []string) {
	if len(all) == 0 {
		d.null()
		return
	}
	const header, textOID = 20, 25
	n := header
	for _, s := range all {
		n += 4 + len(s)
	}
	d.size(n)
	for _, v := range [...]int{1, 0, textOID, len(all), 1} { // dimensions, whether there are nulls, the type, the length, the lower bound
		d.size(v)
	}
	for _, s := range all {
		d.text(s)
	}
}
