package bridge

import (
	"context"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/state"
	"gancho/mapping"
)

// RowSink takes what rows lead to.
type RowSink interface {
	mapping.Sink
	// Flush takes note of what it has got.
	Flush(context.Context) error
}

// MapRows gives the sink what a backfill would send, and changes nothing. It returns how many rows were read, and of
// which events they may be.
func MapRows(ctx context.Context, o cdc.Options, rules *mapping.Ruleset, lookup *mapping.Source, f *state.Filter, sink RowSink) (read int64, events []string, err error) {
	tables, err := readTables(rules, f, false)
	if err != nil {
		return 0, nil, err
	}
	rows, err := cdc.OpenRows(ctx, o, rules.Path())
	if err != nil {
		return 0, nil, err
	}
	defer rows.Close(ctx)
	m := rowMapping{
		rows: rows, reader: cdc.NewReader(o, &cdc.Source{}), mapper: mapping.NewMapper(rules, nil, mapping.WithSource(lookup)), filter: f, sink: sink,
	}
	for i := range tables {
		n, err := m.table(ctx, &tables[i])
		read += n
		if err != nil {
			return read, nil, err
		}
		events = append(events, tables[i].Events...)
	}
	return read, events, nil
}

// rowMapping maps rows as a backfill does.
type rowMapping struct {
	rows   *cdc.RowReader
	reader *cdc.Reader
	mapper *mapping.Mapper
	filter *state.Filter
	sink   RowSink
}

// table maps the rows of a table, chunk by chunk.
func (m *rowMapping) table(ctx context.Context, t *mapping.ReadTable) (read int64, err error) {
	q := &cdc.RowQuery{Table: t.Table, Columns: t.Columns, Where: m.filter.Where}
	var after [][]byte
	var text []byte
	for limit := firstChunk; ; limit = min(2*limit, compareRows) {
		var chunk cdc.Chunk
		if chunk, text, err = m.rows.Read(ctx, q, after, limit, text[:0]); err != nil {
			return read, rowsRefused(t, err)
		}
		m.rows.Discard(ctx)
		read += int64(chunk.Read)
		if chunk.Rows > 0 {
			if err := m.chunk(ctx, text); err != nil {
				return read, err
			}
		}
		if chunk.Read < limit {
			return read, nil
		}
		after = chunk.Last
	}
}

// compareRows is how many rows are read and mapped at once.
const compareRows = 1000

func (m *rowMapping) chunk(ctx context.Context, text []byte) error {
	err := m.reader.DecodeRows(ctx, &cdc.Transaction{}, text, func(c *cdc.Change) error {
		err := m.mapper.Read(c, func(event string) bool { return queue.Chooses(m.filter.Events, event) }, m)
		if err == nil && m.mapper.Full() {
			err = m.mapper.Resolve(ctx, m)
		}
		return err
	})
	if err == nil {
		err = m.mapper.Resolve(ctx, m)
	}
	if err == nil {
		err = m.sink.Flush(ctx)
	}
	return err
}

// Event implements mapping.Sink.
func (m *rowMapping) Event(e *mapping.Event) error {
	if m.filter.Tenant != nil && *m.filter.Tenant != string(e.Tenant) {
		return nil
	}
	return m.sink.Event(e)
}

// Park implements mapping.Sink.
func (m *rowMapping) Park(p *mapping.Parked) error { return m.sink.Park(p) }
