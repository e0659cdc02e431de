package mapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// ErrKey is wrapped by the error for a text that is no primary key of the table.
var ErrKey = errors.New("this is no primary key of the table")

// ErrCondition is wrapped by the error for a RowQuery.Where that PostgreSQL does not take.
var ErrCondition = errors.New("PostgreSQL does not take the condition")

// RowQuery chooses existing rows of a table.
type RowQuery struct {
	Table *cdc.Table
	// Columns are those to read, of the table's relation; the others are missing.
	Columns []int
	// Where is an SQL condition; empty: all rows. It is run as it is, with the rights of
	// the role that reads for lookups.
	Where string
	// Limit is the most rows.
	Limit int64
}

// rowsPerFetch is how many rows are read at a time.
const rowsPerFetch = 500

// Rows reads existing rows of a table by a cursor, in one read-only transaction over a
// connection of its own, and calls each for every one, as rows of the table's relation.
// They are valid until it returns; its error ends the reading. Each statement has the
// statement_timeout of lookups. It returns the columns that the role may not read, which
// are missing in the rows. Errors hold no row data.
func (s *Source) Rows(ctx context.Context, rs *Ruleset, q RowQuery, each func(row []cdc.Datum) error) (unreadable []string, err error) {
	s.path = rs.path
	columns, unreadable, err := s.readable(ctx, q.Table, q.Columns)
	if err != nil {
		return nil, err
	}
	conn, settings, err := cdc.ConnectLikeStream(ctx, s.dsn, s.encoding, s.path, map[string]string{
		"statement_timeout": strconv.FormatInt(queryTimeout.Milliseconds(), 10) + "ms",
	})
	if err != nil {
		return nil, fmt.Errorf("read rows of %s: %w", q.Table.Relation.TableName(), err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }() // it ends the transaction, too
	sql := "declare gancho_rows no scroll cursor for " + selectRows(q.Table, columns)
	if q.Where != "" {
		sql += " where (" + q.Where + "\n)"
	}
	sql += " limit " + strconv.FormatInt(q.Limit, 10)
	for _, statement := range []string{"begin read only", settings, sql} {
		if statement == "" {
			continue
		}
		if _, err := conn.PgConn().ExecParams(ctx, s.encoding.Encode(statement), nil, nil, nil, nil).Close(); err != nil {
			return nil, q.failed(err)
		}
	}
	row := make([]cdc.Datum, len(q.Table.Relation.Columns))
	for n := rowsPerFetch; n == rowsPerFetch; {
		if n, err = s.fetch(ctx, conn, columns, row, each); err != nil {
			return nil, q.failed(err)
		}
	}
	return unreadable, nil
}

// fetch reads the next rows of the cursor, and returns how many there were.
func (s *Source) fetch(ctx context.Context, conn *pgx.Conn, columns []int, row []cdc.Datum, each func([]cdc.Datum) error) (n int, err error) {
	rows := conn.PgConn().ExecParams(ctx, "fetch "+strconv.Itoa(rowsPerFetch)+" from gancho_rows", nil, nil, nil, nil)
	var converted []byte
	for rows.NextRow() {
		n++
		if err != nil {
			continue
		}
		clear(row)
		converted = converted[:0]
		for i, text := range rows.Values()[:len(columns)] {
			d := &row[columns[i]]
			if *d = (cdc.Datum{State: cdc.Null}); text != nil {
				*d = cdc.Datum{State: cdc.Present, Text: text}
				converted = s.encoding.Convert(d, converted)
			}
		}
		if failed := each(row); failed != nil {
			err = &eachError{failed}
		}
	}
	_, failed := rows.Close()
	return n, errors.Join(err, failed)
}

// eachError is an error of who was given a row.
type eachError struct{ error }

// failed is an error of the query. What the statement itself or a value in it makes fail is
// in the condition: the rest of it is ours. PostgreSQL evaluates constants when it plans, and the rest
// row by row.
func (q *RowQuery) failed(err error) error {
	_, own := errors.AsType[*eachError](err)
	if fault := cdc.FaultOf(err); q.Where != "" && !own && (fault == cdc.FaultSchema || fault == cdc.FaultValue) {
		return fmt.Errorf("read rows of %s: %w: %w", q.Table.Relation.TableName(), ErrCondition, withoutData(err))
	}
	return rowsError(q.Table, err)
}

// rowsError is an error of reading rows, for people.
func rowsError(t *cdc.Table, err error) error {
	if own, ok := errors.AsType[*eachError](err); ok {
		return own.error
	}
	hint := refusalHint(err)
	switch {
	case hint != "":
		hint = "; " + hint
	case cdc.FaultOf(err) == cdc.FaultTimeout:
		hint = "; let the condition name columns that an index serves, or read fewer rows"
	}
	return fmt.Errorf("read rows of %s: %w%s", t.Relation.TableName(), withoutData(err), hint)
}

// readable parts columns of a table into those that the role may read and the names of
// the others.
func (s *Source) readable(ctx context.Context, t *cdc.Table, columns []int) (may []int, unreadable []string, err error) {
	var names []byte
	for _, i := range columns {
		names = appendElement(names, []byte(t.Relation.Columns[i].Name), false)
	}
	if names == nil {
		return nil, nil, nil
	}
	readable := map[string]bool{}
	err = s.Query(ctx, `select attname::text from pg_catalog.pg_attribute
		where attrelid = $1::oid and attname = any($2::text[]) and pg_catalog.has_column_privilege(attrelid, attnum, 'SELECT')`,
		[][]byte{[]byte(strconv.FormatUint(uint64(t.Relation.OID), 10)), append(names, '}')}, nil, func(row []cdc.Datum) error {
			readable[string(row[0].Text)] = true
			return nil
		})
	if err != nil {
		return nil, nil, fmt.Errorf("read what may be read of %s: %w", t.Relation.TableName(), err)
	}
	for _, i := range columns {
		if name := t.Relation.Columns[i].Name; readable[name] {
			may = append(may, i)
		} else {
			unreadable = append(unreadable, name)
		}
	}
	return may, unreadable, nil
}

// selectRows selects columns of a table, whose rows are those that the stream has under
// its name.
func selectRows(t *cdc.Table, columns []int) string {
	list := []string{"true"}
	if len(columns) > 0 {
		list = mapped(columns, func(i int) string { return quoted(t.Relation.Columns[i].Name) })
	}
	only := "only "
	if t.Kind == 'p' {
		only = ""
	}
	return "select " + strings.Join(list, ", ") + " from " + only + quoted(t.Relation.Schema) + "." + quoted(t.Relation.Name)
}

// keyCondition is the SQL condition that a row has the primary key, as a person has
// written it: columns joined by commas.
func (rs *Ruleset) keyCondition(t *cdc.Table, key string) (where string, args [][]byte, err error) {
	if len(t.PrimaryKey) == 0 {
		return "", nil, fmt.Errorf("%w: it has none, so that no row of it can be recognized", ErrKey)
	}
	parts := splitKey(key, len(t.PrimaryKey))
	if parts == nil {
		return "", nil, fmt.Errorf("%w: write the values of %s, joined by commas", ErrKey, strings.Join(t.PrimaryKey, ", "))
	}
	var conditions []string
	for i, column := range t.PrimaryKey {
		conditions = append(conditions, quoted(column)+" = $"+strconv.Itoa(i+1))
		args = append(args, []byte(parts[i]))
	}
	return strings.Join(conditions, " and "), args, nil
}

// splitKey takes a key of n columns apart; nil: it has another number of them.
func splitKey(key string, n int) []string {
	parts := strings.Split(key, ",")
	if n == 1 {
		parts = []string{key}
	}
	if len(parts) != n {
		return nil
	}
	return parts
}

// Unnamed are the columns of a table in privacy.deny that no rule names: what is kept of
// changes does not need them.
func (rs *Ruleset) Unnamed(rel *cdc.Relation) []int {
	var out []int
	for i, column := range rel.Columns {
		named := slices.ContainsFunc(rs.withChildren(), func(b *boundRule) bool {
			_, used := b.columns[column.Name]
			return b.table.Relation.OID == rel.OID && (used || b.watchAll.Valid())
		})
		if rs.denied[rel.OID][column.Name] != "" && !named {
			out = append(out, i)
		}
	}
	return out
}
