package mapping

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// piece is a part of a batch's text that is copied from the lookup's.
type piece struct{ at, from, to int }

// edit is what a batch has instead of a part of the lookup's text.
type edit struct {
	start, end int
	text       string
}

// arguments are the columns of the change that the query names, and what else it takes
// from it, each once.
func (l *lookup) arguments() []sqlParam {
	var out []sqlParam
	add := func(p sqlParam) {
		if argument(out, &p) < 0 {
			out = append(out, p)
		}
	}
	for _, p := range l.params {
		if p.row == nil {
			add(p)
		}
		for _, column := range p.row {
			add(column)
		}
	}
	return out
}

func argument(all []sqlParam, p *sqlParam) int {
	return slices.IndexFunc(all, func(o sqlParam) bool { return o.local() == p.local() })
}

// inBatch is what a batch has in the place of a parameter.
func inBatch(arguments []sqlParam, p *sqlParam) string {
	if p.row == nil {
		return "_g._c" + strconv.Itoa(argument(arguments, p)+1)
	}
	if p.spread {
		return strings.Join(mapped(p.row, func(column sqlParam) string { return inBatch(arguments, &column) }), ", ")
	}
	// By name, through JSON, so that the table may get more columns, which are null then.
	// That of the null row is there for the error when it has lost one, or its type is
	// another. Functions with a list of arguments would have at most 100.
	row := "null::" + quoted(p.rowType.Schema) + "." + quoted(p.rowType.Name)
	members := mapped(p.row, func(column sqlParam) string {
		value := fmt.Sprintf("coalesce(%s, (%s).%s)::pg_catalog.text", inBatch(arguments, &column), row, quoted(column.column))
		if base := column.typ.Base(); base.Schema != "pg_catalog" || base.Name != "json" && base.Name != "jsonb" {
			value = "pg_catalog.to_json(" + value + ")::pg_catalog.text"
		}
		return fmt.Sprintf("pg_catalog.concat(%s, coalesce(%s, 'null'))", literal(jsonString(column.column)+":"), value)
	})
	return fmt.Sprintf("pg_catalog.json_populate_record(%s, pg_catalog.concat('{', pg_catalog.array_to_string(array[%s], ','), '}')::pg_catalog.json)", row, strings.Join(members, ", "))
}

// batchSQL wraps the query so that it runs for many changes at once. The inner
// query stays a subquery, which makes it a single SELECT: PostgreSQL has no
// other statement there. The edits are made besides those for its arguments.
func (l *lookup) batchSQL(edits []edit) (string, []piece) {
	if l.scheduled {
		return l.scheduledSQL(time.Unix(0, 0), edits, nil, " limit 0")
	}
	arguments := l.arguments()
	edits = slices.Clone(edits)
	for _, p := range l.params {
		edits = append(edits, edit{p.start, p.end, inBatch(arguments, &p)})
	}
	var b strings.Builder
	b.WriteString("select _g._n, _r.* from (select n as _n")
	for i, a := range arguments {
		fmt.Fprintf(&b, ", %s as _c%d", a.value("c"+strconv.Itoa(i+1)), i+1)
	}
	b.WriteString(" from unnest(")
	for i := range arguments {
		if i > 0 {
			b.WriteString(", ")
		}
		fmt.Fprintf(&b, "$%d::text[]", i+1)
	}
	if len(arguments) == 0 {
		b.WriteString("array['']")
	}
	b.WriteString(") with ordinality as _u(")
	for i := range max(1, len(arguments)) {
		fmt.Fprintf(&b, "c%d, ", i+1)
	}
	b.WriteString("n)) _g ")
	join, on := "left join lateral (\n", "\n) _r on true"
	if l.expression != nil { // which has one row
		join, on = "cross join lateral (\n", "\n) _r"
	}
	b.WriteString(join)
	pieces := l.copySQL(&b, edits)
	b.WriteString(on)
	return b.String(), pieces
}

// copySQL copies the query with edits, which it sorts.
func (l *lookup) copySQL(b *strings.Builder, edits []edit) []piece {
	slices.SortFunc(edits, func(a, b edit) int { return a.start - b.start })
	var pieces []piece
	from := 0
	copyTo := func(to int) {
		pieces = append(pieces, piece{b.Len(), from, to})
		b.WriteString(l.sql[from:to])
	}
	for _, e := range edits {
		copyTo(e.start)
		pieces = append(pieces, piece{b.Len(), e.start, e.start})
		b.WriteString(e.text)
		from = e.end
	}
	copyTo(len(l.sql))
	return pieces
}

// offset is where a byte of a batch's text stands in the lookup's, -1 if in none.
func offset(pieces []piece, at int) int {
	found := -1
	for _, p := range pieces {
		if at >= p.at {
			found = min(p.from+at-p.at, p.to)
		}
	}
	return found
}

// describe prepares a batch, whose names resolve along the path. Nothing of it runs.
func describe(ctx context.Context, conn *pgx.Conn, path, batch string) (fields []pgconn.FieldDescription, err error) {
	err = enter(ctx, conn, path, func() error {
		d, err := conn.PgConn().Prepare(ctx, "", batch, nil)
		if err == nil {
			fields = d.Fields
		}
		return err
	})
	return fields, err
}

// tryBatch runs a batch for no change: only then does the server check privileges, and
// that nothing is written or locked. What it calls may run.
func tryBatch(ctx context.Context, conn *pgx.Conn, path, batch string, arguments int) error {
	return enter(ctx, conn, path, func() error {
		return conn.PgConn().ExecParams(ctx, batch, emptyArrays(arguments), nil, nil, nil).Read().Err
	})
}

// emptyArrays are arguments for no change.
func emptyArrays(n int) [][]byte { return slices.Repeat([][]byte{[]byte("{}")}, n) }

// byteOffset turns a number of characters into one of bytes.
func byteOffset(s string, characters int) int {
	at := 0
	for range characters {
		_, n := utf8.DecodeRuneInString(s[at:])
		at += n
	}
	return at
}
