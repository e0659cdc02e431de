package mapping

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// What a query reads is in its query tree, as the server's analysis made it: for
// every table the columns that the role needs SELECT on, wherever in the query
// they stand, and every function and operator. debug_print_parse sends it to us, on
// a standby and without any privilege; it is also in the server's log. A temporary
// view, which would have it in pg_rewrite, needs a privilege and writes.
// https://www.postgresql.org/docs/current/runtime-config-logging.html#GUC-DEBUG-PRINT-PARSE

// reads is what a query reads and calls, without what is below its views and
// functions.
type reads struct {
	// columns are those that are read of each table, by pg_class.oid, as
	// pg_attribute.attnum; 0 is the whole row, and a system column is below it.
	columns map[uint32][]int
	// functions and operators, by oid, were found by their names; casts are
	// functions that the types of a value led to.
	functions, operators, casts []uint32
}

// firstColumn is what a set of columns is counted from: the number of a column
// minus FirstLowInvalidHeapAttributeNumber, the same in PostgreSQL 12 to 18.
const firstColumn = -7

// errTree: the server describes a query in another way than we know.
var errTree = errors.New("the server's description of the query cannot be read")

// parseTree reads a query tree, as nodeToString prints it: {NODE :field value ...},
// where a blank or bracket in a name has a backslash before it.
func parseTree(text string) (reads, error) {
	type node struct {
		relation           uint32
		columns            []int
		hasColumns         bool
		function, operator uint32
		cast               bool
	}
	out := reads{columns: map[uint32][]int{}}
	var stack []node
	field := ""
	nodes := 0
	for token := range treeTokens(text) {
		n := &node{}
		if len(stack) > 0 {
			n = &stack[len(stack)-1]
		}
		number, err := strconv.ParseInt(token, 10, 64)
		isNumber := err == nil
		oid := uint32(number) // of oids alone
		switch {
		case token == "{":
			stack, nodes, field = append(stack, node{}), nodes+1, ""
		case token == "}" && len(stack) == 0:
			return reads{}, errTree
		case token == "}":
			if n.relation != 0 && n.hasColumns {
				out.columns[n.relation] = append(out.columns[n.relation], n.columns...)
			}
			if n.function != 0 && n.cast {
				out.casts = append(out.casts, n.function)
			} else if n.function != 0 {
				out.functions = append(out.functions, n.function)
			}
			if n.operator != 0 {
				out.operators = append(out.operators, n.operator)
			}
			stack, field = stack[:len(stack)-1], ""
		case token[0] == ':':
			field = token
			n.hasColumns = n.hasColumns || field == ":selectedCols"
		case !isNumber:
		case field == ":relid":
			n.relation = oid
		case field == ":selectedCols":
			n.columns = append(n.columns, int(number)+firstColumn)
		case field == ":funcid" || field == ":aggfnoid" || field == ":winfnoid":
			n.function = oid
		case field == ":funcformat":
			n.cast = number == 1 || number == 2 // COERCE_EXPLICIT_CAST, COERCE_IMPLICIT_CAST
		case field == ":opno":
			n.operator = oid
		case field == ":opnos": // of a comparison of rows
			out.operators = append(out.operators, oid)
		}
	}
	if len(stack) > 0 || nodes == 0 {
		return reads{}, errTree
	}
	return out, nil
}

// treeTokens are the tokens of a tree, with the backslashes in them.
func treeTokens(text string) func(yield func(string) bool) {
	return func(yield func(string) bool) {
		start := -1
		flush := func(end int) bool {
			from := start
			start = -1
			return from < 0 || yield(text[from:end])
		}
		for i := 0; i < len(text); i++ {
			switch c := text[i]; c {
			case ' ', '\n', '\t':
				if !flush(i) {
					return
				}
			case '{', '}', '(', ')':
				if !flush(i) || !yield(text[i:i+1]) {
					return
				}
			default:
				if start < 0 {
					start = i
				}
				if c == '\\' {
					i++
				}
			}
		}
		flush(len(text))
	}
}

// treeLine is the length at which the server breaks the lines of a tree.
const treeLine = 78

// unbroken is a tree without its line breaks. Each replaced a blank, unless a line
// has none: then it may stand within a name.
func unbroken(text string) (string, error) {
	for line := range strings.SplitSeq(text, "\n") {
		if len(line) >= treeLine && !strings.Contains(line[1:], " ") {
			return "", fmt.Errorf("%w: a name in it is too long; give it a shorter alias", errTree)
		}
	}
	return strings.ReplaceAll(text, "\n", " "), nil
}

// readsOf returns what a statement reads, with names that resolve along the path.
// A mistake in it is a *pgconn.PgError.
func readsOf(ctx context.Context, conn *pgx.Conn, path, sql string) (out reads, err error) {
	err = enter(ctx, conn, path, func() error {
		if err := execute(ctx, conn, "set local debug_pretty_print = off; set local client_min_messages = log; set local debug_print_parse = on"); err != nil {
			return err
		}
		trees, err := parseNotices(ctx, conn.PgConn(), sql)
		if err != nil {
			return err
		}
		if len(trees) != 1 {
			return fmt.Errorf("%w: there are %d", errTree, len(trees))
		}
		text, err := unbroken(trees[0])
		if err == nil {
			out, err = parseTree(text)
		}
		return err
	})
	return out, err
}

// parseNotices has the server parse a statement, and returns the query trees that
// it sends meanwhile. They are notices, and those are given to a connection's
// handler alone, which is not ours.
func parseNotices(ctx context.Context, conn *pgconn.PgConn, sql string) (trees []string, err error) {
	conn.Frontend().SendParse(&pgproto3.Parse{Query: sql})
	conn.Frontend().SendSync(&pgproto3.Sync{})
	if err := conn.Frontend().Flush(); err != nil {
		return nil, err
	}
	var refused error
	for {
		message, err := conn.ReceiveMessage(ctx)
		if err != nil {
			return nil, err
		}
		switch m := message.(type) {
		case *pgproto3.NoticeResponse:
			if strings.HasPrefix(m.Detail, "{QUERY") {
				trees = append(trees, m.Detail)
			}
		case *pgproto3.ErrorResponse:
			refused = pgconn.ErrorResponseToPgError(m)
		case *pgproto3.ReadyForQuery:
			return trees, refused
		}
	}
}

// add adds what another query reads.
func (r *reads) add(o reads) {
	for relation, columns := range o.columns {
		r.columns[relation] = append(r.columns[relation], columns...)
	}
	r.functions = append(r.functions, o.functions...)
	r.operators = append(r.operators, o.operators...)
	r.casts = append(r.casts, o.casts...)
}

// called are all functions that it calls, and those behind operators, casts included.
func (r *reads) called() (functions, operators []uint32) {
	return slices.Concat(r.functions, r.casts), r.operators
}
