package mapping

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"gancho/cdc"
)

// denyLookup refuses a lookup that shows a column of privacy.deny: where the
// server says that a column of the result is one, and where the query names one
// in a select list, inside of a function or a subquery too. What a view or a
// function of the database shows is not seen.
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
			b.denyMistake(l, mention(l.sql, column), column, text)
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

// lookupNames looks at the names in the select lists of a lookup.
type lookupNames struct {
	*binder
	lookup *boundLookup
	on     *cdc.Table // the rule's
	shown  map[string]bool
	tokens []sqlToken
	// tables are those behind from and join, by alias and name.
	tables map[string]*cdc.Table
}

// word is a token's text, folded as SQL folds it; "" outside of the query.
func (q *lookupNames) word(i int) string {
	if i < 0 || i >= len(q.tokens) {
		return ""
	}
	t := q.tokens[i]
	text := q.lookup.sql[t.start:t.end]
	if t.kind == sqlQuoted {
		return strings.ReplaceAll(text[1:len(text)-1], `""`, `"`)
	}
	return strings.ToLower(text)
}

func (q *lookupNames) named(i int) bool {
	return i >= 0 && i < len(q.tokens) && (q.tokens[i].kind == sqlWord || q.tokens[i].kind == sqlQuoted)
}

func (q *lookupNames) check(ctx context.Context) error {
	tokens, fault := scanSQL(q.lookup.sql)
	if fault != nil {
		return nil // Parse has refused it
	}
	q.tokens = tokens
	if err := q.findTables(ctx); err != nil {
		return err
	}
	// Whether what is named is shown, for each parenthesis that is open.
	shows := []bool{false}
	for i, t := range tokens {
		top := len(shows) - 1
		switch word := q.word(i); {
		case t.kind == sqlSymbol && word == "(":
			shows = append(shows, shows[top])
		case t.kind == sqlSymbol && word == ")" && top > 0:
			shows = shows[:top]
		case t.kind == sqlWord && word == "select":
			shows[top] = true
		case t.kind == sqlWord && slices.Contains([]string{"from", "where", "group", "having", "order", "limit", "offset", "filter", "on"}, word):
			shows[top] = false
		case shows[top]:
			q.look(i)
		}
	}
	return nil
}

// findTables resolves the names after from and join. What is no table is
// skipped: a subquery, a function, a common table expression.
func (q *lookupNames) findTables(ctx context.Context) error {
	q.tables = map[string]*cdc.Table{}
	for i := range q.tokens {
		if before := q.word(i - 1); !q.named(i) || before != "from" && before != "join" && before != "only" {
			continue
		}
		name, next := cdc.Name{Name: q.word(i)}, i+1
		if q.word(next) == "." && q.named(next+1) {
			name, next = cdc.Name{Schema: name.Name, Name: q.word(next + 1)}, next+2
		}
		t, err := q.table(ctx, name)
		if err != nil {
			return err
		}
		if t == nil {
			continue
		}
		q.tables[name.Name] = t
		if q.word(next) == "as" {
			next++
		}
		if q.named(next) {
			q.tables[q.word(next)] = t
		}
	}
	return nil
}

// look checks one token of a select list.
func (q *lookupNames) look(i int) {
	word, before, after := q.word(i), q.word(i-1), q.word(i+1)
	switch {
	case word == "*" && q.tokens[i].kind == sqlSymbol:
		q.star(i, before)
	case !q.named(i) || after == "." || before == "as" && q.tokens[i-1].kind == sqlWord:
	case before == "." && slices.Contains([]string{"new", "old"}, q.word(i-2)):
		q.deny(i, q.on, word)
	case before == ".":
		q.deny(i, q.tables[q.word(i-2)], word)
	case q.tables[word] != nil && after != "(":
		q.wholeRow(i, q.tables[word])
	default:
		for _, t := range q.tables {
			q.deny(i, t, word)
		}
	}
}

// star is * or t.* in a select list; in count(*) and 2 * 3 it is neither.
func (q *lookupNames) star(i int, before string) {
	switch {
	case before == ".":
		q.wholeRow(i, q.tables[q.word(i-2)])
	case before == "select" || before == ",":
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
	q.denyMistake(q.lookup, q.tokens[i].start, column, text)
}

func (q *lookupNames) wholeRow(i int, t *cdc.Table) {
	if t == nil {
		return
	}
	for _, column := range slices.Sorted(maps.Keys(q.denied[t.Relation.OID])) {
		q.deny(i, t, column)
	}
}
