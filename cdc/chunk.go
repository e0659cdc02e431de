package cdc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/internal/retry"
)

// ErrNoKey is a table whose rows cannot be read in chunks: it has no primary key.
var ErrNoKey = errors.New("it has no primary key")

// RowQuery says which rows of a table are read, and what of them.
type RowQuery struct {
	Table *Table
	// Columns are those that are read, beside the primary key and the replica identity.
	Columns []string
	// Where is an SQL expression over the table's columns, which may be written as new.column, too;
	// empty: all rows are read.
	Where string

	types []uint32 // of the columns of the last result, by OID
}

// needed reports, by the index of the relation's column, whether it is read.
func (q *RowQuery) needed() []bool {
	t := q.Table
	out := make([]bool, len(t.Relation.Columns))
	for i, c := range t.Relation.Columns {
		identity := c.Key && t.Relation.ReplicaIdentity != 'f'
		out[i] = identity || slices.Contains(q.Columns, c.Name) || slices.Contains(t.PrimaryKey, c.Name)
	}
	return out
}

// from is the table with the name by which Where may call its rows. Rows of tables that inherit
// from it are theirs, those of its partitions its own.
func (q *RowQuery) from() string {
	only := "only "
	if q.Table.Kind == 'p' {
		only = ""
	}
	return only + q.Table.Relation.TableName().String() + " as new"
}

// chunk is the statement that reads up to limit rows behind a key, in the order of the key: the
// columns of the key, whether Where is true, and, where it is, the columns that are needed.
func (q *RowQuery) chunk(after bool, limit int) string {
	keys := make([]string, len(q.Table.PrimaryKey))
	params := make([]string, len(keys))
	for i, name := range q.Table.PrimaryKey {
		keys[i], params[i] = "new."+QuoteIdentifier(name), fmt.Sprintf("$%d", i+1)
	}
	list := slices.Clone(keys)
	join := ""
	hit := "true"
	if q.Where != "" {
		// OFFSET keeps the server from evaluating the expression for each column.
		join, hit = " cross join lateral (select (\n"+q.Where+"\n) is true as hit offset 0) chosen", "chosen.hit"
	}
	list = append(list, hit)
	for i, needed := range q.needed() {
		if !needed {
			continue
		}
		column := "new." + QuoteIdentifier(q.Table.Relation.Columns[i].Name)
		if q.Where != "" {
			column = "case when chosen.hit then " + column + " end"
		}
		list = append(list, column)
	}
	where := ""
	if after {
		where = " where (" + strings.Join(keys, ", ") + ") > (" + strings.Join(params, ", ") + ")"
	}
	return fmt.Sprintf("select %s from %s%s%s order by %s limit %d", strings.Join(list, ", "), q.from(), join, where, strings.Join(keys, ", "), limit)
}

// ErrAltered is of a table that was altered: the result has other columns than before; the table is to be loaded again.
var ErrAltered = errors.New("the table was altered meanwhile")

// Chunk is what one transaction has read.
type Chunk struct {
	// Snapshot is the pg_snapshot that saw the rows, XID the transaction's id.
	Snapshot, XID string
	// Read counts the rows that were read, Rows those that Where chose.
	Read, Rows int
	// Last is the key of the last row that was read; nil: none was.
	Last [][]byte
}

// RowReader reads rows that are there already, chunk by chunk, and writes them into the WAL as
// messages, so that the stream has them in their place among the changes. Its session prints
// values as the stream does. It belongs to one goroutine.
type RowReader struct {
	conn     *pgx.Conn
	encoding Encoding
	each     string
}

const (
	// chunkTimeout bounds the statement that reads a chunk, chunkLockTimeout its wait for the
	// table, which others would wait behind.
	chunkTimeout, chunkLockTimeout = "60s", "5s"
	// ChunkIdle bounds how long the transaction of a chunk waits for its Emit: the server then
	// ends it, so that one of a process that hangs does not appear long after.
	ChunkIdle = 5 * time.Second
	// xactWait is the time between two looks at a transaction that has not ended.
	xactWait = 20 * time.Millisecond
	// xactPatience is how long one is waited for before somebody has to know of it: one that hangs in its commit, for a synchronous
	// standby, the server does not end.
	xactPatience = ChunkIdle + time.Second
)

// OpenRows opens a session. The caller closes the reader. Names in [RowQuery.Where] resolve along
// the path.
func OpenRows(ctx context.Context, o Options, path string) (*RowReader, error) {
	conn, each, err := ConnectLikeStream(ctx, o.DSN, o.Encoding, path, map[string]string{
		"statement_timeout": chunkTimeout, "lock_timeout": chunkLockTimeout,
		"idle_in_transaction_session_timeout": fmt.Sprintf("%dms", ChunkIdle.Milliseconds()),
		// Else the message would reach the stream only with the next commit that is flushed.
		"synchronous_commit": "on",
	})
	if err != nil {
		return nil, fmt.Errorf("connect to the source to read its rows: %w", err)
	}
	r := &RowReader{conn: conn, encoding: o.Encoding, each: each}
	standby, err := ask(ctx, conn.PgConn(), "select pg_catalog.pg_is_in_recovery()")
	if err == nil && standby[0][0] == "t" {
		err = ErrStandby
	}
	if err != nil {
		r.Close(ctx)
		return nil, fmt.Errorf("read the rows of the source: %w", err)
	}
	return r, nil
}

// ErrStandby is of a standby: what is read has to be written into the WAL, and a standby writes none.
var ErrStandby = errors.New("source.dsn leads to a standby, which cannot write messages into the WAL; write the DSN of the primary")

// codeInvalidParameter is of a transaction that is not there yet.
const codeInvalidParameter = "22023"

// Close closes the session; a chunk that was not emitted is none.
func (r *RowReader) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	_ = r.conn.Close(ctx) // what was not committed does not count
}

// Closed reports whether the session has been lost.
func (r *RowReader) Closed() bool { return r.conn.IsClosed() }

// begin opens a transaction and returns what it sees and its id. A table is locked, as a query
// does, before the snapshot is taken: one that is rewritten or truncated meanwhile would seem
// empty to a snapshot from before.
func (r *RowReader) begin(ctx context.Context, q *RowQuery) (snapshot, xid string, err error) {
	sql := "begin isolation level repeatable read"
	if q != nil {
		sql += "; lock table " + strings.TrimSuffix(q.from(), " as new") + " in access share mode"
	}
	if r.each != "" {
		sql += "; " + r.each
	}
	sql += "; select pg_catalog.pg_current_snapshot()::pg_catalog.text, pg_catalog.pg_current_xact_id()::pg_catalog.text"
	results, err := r.conn.PgConn().Exec(ctx, r.encoding.Encode(sql)).ReadAll()
	if err != nil {
		r.rollback(ctx)
		return "", "", err
	}
	row := results[len(results)-1].Rows[0]
	return string(row[0]), string(row[1]), nil
}

// rollback ends an open transaction.
func (r *RowReader) rollback(ctx context.Context) {
	if r.conn.PgConn().TxStatus() != 'I' && !r.conn.IsClosed() {
		if _, err := r.conn.PgConn().Exec(context.WithoutCancel(ctx), "rollback").ReadAll(); err != nil {
			r.Close(ctx)
		}
	}
}

// Discard ends the transaction of a chunk that is not to be emitted.
func (r *RowReader) Discard(ctx context.Context) { r.rollback(ctx) }

// Read reads up to limit rows behind a key, nil: from the beginning, and appends those that Where
// chooses to dst, as [Reader.DecodeRows] reads them. Its transaction stays open: Emit or Discard
// end it. Which keys are behind which, the server decides, by the collations of their columns. Of a table that
// is locked it is a [*LockedError].
func (r *RowReader) Read(ctx context.Context, q *RowQuery, after [][]byte, limit int, dst []byte) (Chunk, []byte, error) {
	if len(q.Table.PrimaryKey) == 0 {
		return Chunk{}, dst, fmt.Errorf("read rows of %s: %w", q.Table.Relation.TableName(), ErrNoKey)
	}
	var chunk Chunk
	var err error
	chunk.Snapshot, chunk.XID, err = r.begin(ctx, q)
	if err == nil {
		dst, err = r.rows(ctx, q, after, limit, dst, &chunk)
	}
	if err != nil {
		r.rollback(ctx)
		err = lockedBy(ctx, r.conn, r.encoding, q.Table.Relation.OID, err)
		return Chunk{}, dst, fmt.Errorf("read rows of %s: %w", q.Table.Relation.TableName(), unreadable(withoutValue(err)))
	}
	return chunk, dst, nil
}

// withoutValue keeps of an error about a value what has none in it.
func withoutValue(err error) error {
	if FaultOf(err) != FaultValue {
		return err
	}
	return &pgconn.PgError{Severity: "ERROR", Code: SQLState(err), Message: "the server refuses a value of a row"}
}

func (r *RowReader) rows(ctx context.Context, q *RowQuery, after [][]byte, limit int, dst []byte, chunk *Chunk) ([]byte, error) {
	dst = AppendTable(dst, q.Table.Relation)
	needed, keys := q.needed(), len(q.Table.PrimaryKey)
	result := r.conn.PgConn().ExecParams(ctx, r.encoding.Encode(q.chunk(after != nil, limit)), after, nil, nil, nil)
	if !q.same(result.FieldDescriptions()) {
		_, err := result.Close()
		return dst, cmp.Or(err, ErrAltered)
	}
	for result.NextRow() {
		values := result.Values()
		chunk.Read++
		chunk.Last = chunk.Last[:0]
		for _, v := range values[:keys] {
			chunk.Last = append(chunk.Last, slices.Clone(v))
		}
		if string(values[keys]) != "t" {
			continue
		}
		chunk.Rows++
		values = values[keys+1:]
		for _, read := range needed {
			if !read {
				dst = append(dst, missingDatum)
				continue
			}
			dst = appendDatum(dst, values[0])
			values = values[1:]
		}
	}
	_, err := result.Close()
	return dst, err
}

// same reports whether a result has the types of the one before it.
func (q *RowQuery) same(fields []pgconn.FieldDescription) bool {
	types := make([]uint32, len(fields))
	for i := range fields {
		types[i] = fields[i].DataTypeOID
	}
	if len(fields) > 0 && q.types == nil {
		q.types = types
	}
	return len(fields) == 0 || slices.Equal(types, q.types)
}

// Emit writes a message into the transaction that Read has opened, and commits it. After an error
// it may have done so; see Committed.
func (r *RowReader) Emit(ctx context.Context, m Message) error {
	return r.emit(ctx, m)
}

// Mark writes a message in a transaction of its own. It is of what the transaction sees, a pg_snapshot.
func (r *RowReader) Mark(ctx context.Context, of func(snapshot string) (Message, error)) error {
	snapshot, _, err := r.begin(ctx, nil)
	if err != nil {
		return fmt.Errorf("mark the stream: %w", err)
	}
	m, err := of(snapshot)
	if err != nil {
		r.rollback(ctx)
		return err
	}
	return r.emit(ctx, m)
}

func (r *RowReader) emit(ctx context.Context, m Message) error {
	const text, bytea = 25, 17 // their OIDs
	_, err := r.conn.PgConn().ExecParams(ctx, "select pg_catalog.pg_logical_emit_message(true, $1, $2)",
		[][]byte{[]byte(m.Prefix), m.Content}, []uint32{text, bytea}, []int16{0, 1}, nil).Close()
	if err == nil {
		_, err = r.conn.PgConn().Exec(ctx, "commit").ReadAll()
	}
	if err != nil {
		r.rollback(ctx)
		return fmt.Errorf("write rows into the stream: %w%s", err, emitRemedy(err))
	}
	return nil
}

// emitRemedy says what lets a role write messages: everyone may, unless somebody has revoked it.
func emitRemedy(err error) string {
	if FaultOf(err) == FaultDenied {
		return "; run GRANT EXECUTE ON FUNCTION pg_catalog.pg_logical_emit_message(boolean, text, bytea) TO the role of source.dsn"
	}
	return ""
}

// Committed reports whether a transaction of Read was committed, once it has ended: the session
// that it was of may have been lost in between. If not, it has left nothing. That it was is no proof: nothing of it is in the
// WAL before its Emit, so that a server that has crashed may have given its id to another transaction. The stream
// has the message then, or not. While the session still runs, it waits for xactPatience; the error says how to end that.
func (r *RowReader) Committed(ctx context.Context, xid string) (bool, error) {
	for began := time.Now(); ; {
		result := r.conn.PgConn().ExecParams(ctx, "select pg_catalog.pg_xact_status($1)::pg_catalog.text", [][]byte{[]byte(xid)}, nil, nil, nil).Read()
		if SQLState(result.Err) == codeInvalidParameter { // it is in the future of a server that has lost it
			return false, nil
		}
		if result.Err != nil {
			return false, fmt.Errorf("read the state of transaction %s: %w", xid, result.Err)
		}
		switch string(result.Rows[0][0]) {
		case "in progress":
		case "committed":
			return true, nil
		default:
			return false, nil
		}
		if time.Since(began) > xactPatience {
			return false, r.runningStill(ctx, xid)
		}
		if err := retry.Wait(ctx, xactWait); err != nil {
			return false, err
		}
	}
}

// runningStill says whose session a transaction is of that does not end: of a lost connection, as a rule, of which the server has not
// heard yet.
func (r *RowReader) runningStill(ctx context.Context, xid string) error {
	pid, since := "unknown", "an unknown time"
	result := r.conn.PgConn().ExecParams(ctx, `select pid::text, xact_start::text from pg_catalog.pg_stat_activity where backend_xid::text = ($1::pg_catalog.xid8::pg_catalog.xid)::text`,
		[][]byte{[]byte(xid)}, nil, nil, nil).Read()
	if result.Err != nil {
		return fmt.Errorf("read whose transaction %s is: %w", xid, result.Err)
	}
	if len(result.Rows) > 0 {
		pid, since = string(result.Rows[0][0]), string(result.Rows[0][1])
	}
	return &RunningError{XID: xid, PID: pid, Since: since}
}

// RunningError is of a transaction of [RowReader.Read], of a session that was lost, which the server has not ended.
type RunningError struct {
	XID   string
	PID   string // of the server's process; "unknown"
	Since string // as the server says it
}

// Error says what waits for it, and how to end it.
func (e *RunningError) Error() string {
	return fmt.Sprintf("transaction %s, in which rows were read over a connection that was lost, is in progress since %s in the server's process %s; "+
		"whether its rows are in the stream is known when it has ended: by itself when the server notices, or by SELECT pg_terminate_backend(%s)", e.XID, e.Since, e.PID, e.PID)
}

// Estimate returns about how many rows a table has, its partitions' included; -1: the server does not know.
func Estimate(ctx context.Context, conn *pgx.Conn, t *Table) (int64, error) {
	var rows int64
	err := conn.QueryRow(ctx, `select coalesce(sum(case when c.reltuples < 0 then null else c.reltuples end), -1)::bigint
		from `+PartitionTree("$1::oid")+` tree join pg_catalog.pg_class c on c.oid = tree.oid and c.relkind = 'r'`, t.Relation.OID).Scan(&rows)
	if err != nil {
		return 0, fmt.Errorf("estimate the rows of %s: %w", t.Relation.TableName(), err)
	}
	return rows, nil
}

// Count counts a table's rows within a time, as statement_timeout has it.
func Count(ctx context.Context, conn *pgx.Conn, t *Table, timeout string) (int64, error) {
	q := RowQuery{Table: t}
	var rows int64
	err := pgx.BeginTxFunc(ctx, conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "select pg_catalog.set_config('statement_timeout', $1, true)", timeout); err != nil {
			return err
		}
		return tx.QueryRow(ctx, "select count(*) from "+q.from()).Scan(&rows)
	})
	if err != nil {
		return 0, fmt.Errorf("count the rows of %s: %w", t.Relation.TableName(), err)
	}
	return rows, nil
}
