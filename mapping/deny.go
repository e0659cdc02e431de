package mapping

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// denied is a column that no payload may hold.
type denied struct {
	text   string
	table  cdc.Name
	column string
}

func (d denied) mistake(hint, format string, args ...any) *strictyaml.Error {
	return &strictyaml.Error{File: "privacy.deny: " + d.text, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// hiddenColumns are the columns that a mask or a hash hides, and that no
// payload, key or tenant shows as they are. A condition that names one does not
// show it.
func hiddenColumns(uses []use) map[string]bool {
	hidden := map[string]bool{}
	for _, u := range uses {
		if u.Hidden {
			hidden[u.Name] = true
		}
	}
	for _, u := range uses {
		if u.shown && !u.Hidden {
			delete(hidden, u.Name)
		}
	}
	return hidden
}

// parseDenied reads table.column or schema.table.column.
func parseDenied(s string) (denied, *strictyaml.Error) {
	d := denied{text: s}
	tokens, _ := expr.Tokens(s) // ParseName refuses a quote that does not end
	last := -1
	for _, t := range tokens {
		if t.Is(".") {
			last = t.Start
		}
	}
	if last < 0 {
		return d, d.mistake("write table.column", "the table is missing")
	}
	column, err := cdc.ParseName(s[last+1:])
	if err != nil {
		return d, d.mistake("", "%v", err)
	}
	table, err := cdc.ParseName(strings.TrimSpace(s[:last]))
	if err != nil {
		return d, d.mistake("", "%v", err)
	}
	d.table, d.column = table, column.Name
	return d, nil
}

// denyLookup refuses a lookup that shows a column of privacy.deny: where the
// server says that a column of the result is one, and where the query names one
// in a select list, inside of a function or a subquery too. What a view or a
// function of the database shows is not checked.
func (b *binder) denyLookup(ctx context.Context, l *boundLookup, on *cdc.Table) error {
	if len(b.denied) == 0 {
		return nil
	}
	shown := map[string]bool{}
	for _, o := range l.origins {
		of := b.denied[o.table]
		if of == nil {
			continue
		}
		column, err := b.attribute(ctx, o)
		if err != nil {
			return err
		}
		if text := of[column]; text != "" && !shown[text] {
			shown[text] = true
			b.denyMistake(l, mention(l.sql, "", column), column, text)
		}
	}
	q := lookupNames{binder: b, lookup: l, on: on, shown: shown}
	return q.check(ctx)
}

func (b *binder) denyMistake(l *boundLookup, offset int, column, text string) {
	b.mistake(l.value, max(offset, 0), "remove it from the lookup, or from privacy.deny", "lookup %s shows column %q, which must not be sent: privacy.deny has %s", l.name, column, text)
}

// attribute is the name of a column.
func (b *binder) attribute(ctx context.Context, o columnOrigin) (string, error) {
	var name string
	err := b.conn.QueryRow(ctx, "select attname::text from pg_catalog.pg_attribute where attrelid = $1 and attnum = $2", o.table, o.attribute).Scan(&name)
	if err != nil {
		return "", fmt.Errorf("read the column behind a lookup: %w", err)
	}
	return name, nil
}

// lookupNames checks the names in the select lists of a lookup.
type lookupNames struct {
	*binder
	lookup *boundLookup
	on     *cdc.Table // the rule's
	shown  map[string]bool
	tokens expr.TokenList
	// tables are those behind from and join, by alias and name.
	tables map[string]*cdc.Table
}

func (q *lookupNames) check(ctx context.Context) error {
	q.tokens, _ = expr.Tokens(q.lookup.sql) // Parse has refused what has an error
	if err := q.findTables(ctx); err != nil {
		return err
	}
	// Whether what is named is shown, for each parenthesis that is open.
	shows := []bool{false}
	for i, t := range q.tokens {
		top := len(shows) - 1
		switch {
		case t.Is("("):
			shows = append(shows, shows[top])
		case t.Is(")") && top > 0:
			shows = shows[:top]
		case t.Is("select"):
			shows[top] = true
		case slices.ContainsFunc([]string{"from", "where", "group", "having", "order", "limit", "offset", "filter", "on"}, t.Is):
			shows[top] = false
		case shows[top]:
			q.checkShown(i)
		}
	}
	return nil
}

// findTables resolves the names after from and join. What is no table is
// skipped: a subquery, a function, a common table expression.
func (q *lookupNames) findTables(ctx context.Context) error {
	q.tables = map[string]*cdc.Table{}
	for i, t := range q.tokens {
		before := q.tokens.At(i - 1)
		if !t.IsName() || !before.Is("from") && !before.Is("join") && !before.Is("only") {
			continue
		}
		name, next := cdc.Name{Name: t.Text}, i+1
		if q.tokens.At(next).Is(".") && q.tokens.At(next+1).IsName() {
			name, next = cdc.Name{Schema: name.Name, Name: q.tokens.At(next + 1).Text}, next+2
		}
		found, err := q.table(ctx, name)
		if err != nil {
			return err
		}
		if found == nil {
			continue
		}
		q.tables[name.Name] = found
		if q.tokens.At(next).Is("as") {
			next++
		}
		if alias := q.tokens.At(next); alias.IsName() {
			q.tables[alias.Text] = found
		}
	}
	return nil
}

// checkShown checks one token of a select list.
func (q *lookupNames) checkShown(i int) {
	t, before, after := q.tokens.At(i), q.tokens.At(i-1), q.tokens.At(i+1)
	switch {
	case t.Is("*"):
		q.star(i, before)
	case !t.IsName() || after.Is(".") || before.Is("as"):
	case before.Is(".") && (q.tokens.At(i-2).Is("new") || q.tokens.At(i-2).Is("old")):
		q.deny(i, q.on, t.Text)
	case before.Is("."):
		q.deny(i, q.tables[q.tokens.At(i-2).Text], t.Text)
	case q.tables[t.Text] != nil && !after.Is("("):
		q.wholeRow(i, q.tables[t.Text])
	default:
		for _, table := range q.tables {
			q.deny(i, table, t.Text)
		}
	}
}

// star is * or t.* in a select list; in count(*) and 2 * 3 it is neither.
func (q *lookupNames) star(i int, before expr.Token) {
	switch {
	case before.Is("."):
		q.wholeRow(i, q.tables[q.tokens.At(i-2).Text])
	case before.Is("select") || before.Is(","):
		for _, t := range q.tables {
			q.wholeRow(i, t)
		}
	}
}

func (q *lookupNames) deny(i int, t *cdc.Table, column string) {
	if t == nil {
		return
	}
	text := q.denied[t.Relation.OID][column]
	if text == "" || q.shown[text] {
		return
	}
	q.shown[text] = true
	q.denyMistake(q.lookup, q.tokens[i].Start, column, text)
}

func (q *lookupNames) wholeRow(i int, t *cdc.Table) {
	if t == nil {
		return
	}
	for _, column := range slices.Sorted(maps.Keys(q.denied[t.Relation.OID])) {
		q.deny(i, t, column)
	}
}
