package mapping

import (
	"slices"
	"strings"

	"gancho/mapping/expr"
)

// sqlParam is a column of the change in a statement: new.x or old.x.
type sqlParam struct {
	start, end int
	old        bool
	column     string
}

// parseLookupSQL checks that a text is one query, as far as its form tells, and
// finds the columns of the change in it. It returns the query's end, without a
// semicolon and what follows.
func parseLookupSQL(s string) (params []sqlParam, end int, fault *expr.Error) {
	fail := func(offset int, message, hint string) ([]sqlParam, int, *expr.Error) {
		return nil, 0, &expr.Error{Offset: offset, Message: message, Hint: hint}
	}
	tokens, fault := expr.Tokens(s)
	if fault != nil {
		return nil, 0, fault
	}
	for len(tokens) > 0 && tokens[len(tokens)-1].Is(";") {
		tokens = tokens[:len(tokens)-1]
	}
	if len(tokens) == 0 {
		return fail(0, "the query is empty", "write select ... from ... where id = new.cliente_id")
	}
	first := tokens[0]
	if !slices.ContainsFunc([]string{"select", "with", "values", "("}, first.Is) {
		return fail(first.Start, "a lookup is a query", "write select ... from ... where id = new.cliente_id")
	}
	depth := 0
	for i, t := range tokens {
		switch {
		case t.IsParameter():
			return fail(t.Start, t.Text+" has no value", "write new.column, or old.column")
		case t.Is(";"):
			return fail(t.Start, "a lookup is one query", "remove what follows the semicolon")
		case t.Is("("):
			depth++
		case t.Is(")"):
			if depth--; depth < 0 {
				return fail(t.Start, "this parenthesis closes nothing", "remove it")
			}
		case t.Is("new"), t.Is("old"):
			if tokens.At(i-1).Is(".") || !tokens.At(i+1).Is(".") {
				continue
			}
			column := tokens.At(i + 2)
			if !column.IsName() {
				return fail(t.Start, t.Text+". needs a column's name", "write "+t.Text+".column")
			}
			params = append(params, sqlParam{start: t.Start, end: column.End, old: t.Is("old"), column: column.Text})
		}
	}
	if depth > 0 {
		return fail(first.Start, "a parenthesis is not closed", "add )")
	}
	return params, tokens[len(tokens)-1].End, nil
}

// mention returns where a text first names a column, with the row before it
// ("old") where one is asked for; -1 if it does not.
func mention(text, row, column string) int {
	tokens, _ := expr.Tokens(text) // up to an error, which is reported elsewhere
	for i, t := range tokens {
		switch {
		case !t.IsName() || !strings.EqualFold(t.Text, column):
		case row == "":
			return t.Start
		case tokens.At(i-1).Is(".") && tokens.At(i-2).Is(row):
			return tokens[i-2].Start
		}
	}
	return -1
}
