package mapping

import (
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// sqlParam is what a statement takes from the change: new.x or old.x, all columns of one
// of the two, or what the language evaluates itself.
type sqlParam struct {
	start, end int
	old        bool
	column     string
	// own is an expression of the language: now(), changed(x). Of a lookup there is none.
	own string
	// row are the columns of a whole row of the type rowType; spread: it stands where
	// SQL makes single columns of it.
	row     []sqlParam
	rowType cdc.Name
	spread  bool
	// typ is what the server takes it as; collation is the column's own, empty in lookups.
	typ       *cdc.Type
	collation cdc.Collation
}

// local is the parameter as an expression of the language.
func (p *sqlParam) local() string {
	switch {
	case p.own != "":
		return p.own
	case p.old:
		return "old." + quoted(p.column)
	}
	return "new." + quoted(p.column)
}

// value is the SQL of the parameter, of the name of its text form. Money has the form of
// lc_monetary C in the stream, whatever the session's is.
func (p *sqlParam) value(text string) string {
	if p.typ.Base().Name == "money" && p.typ.Base().Schema == "pg_catalog" {
		text = "pg_catalog.translate(" + text + ", '$,', '')::pg_catalog.numeric::pg_catalog.money"
	}
	cast := text + "::" + quoted(p.typ.Schema) + "." + quoted(p.typ.Name)
	if p.typ.Kind == cdc.KindDomain { // which may be NOT NULL: what was not sent is null, and not refused
		cast = "(select " + cast + " where " + text + " is not null)"
	}
	text = cast
	if p.collation.Name != "" {
		text += " collate " + p.collation.Schema + "." + quoted(p.collation.Name)
	}
	return text
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
