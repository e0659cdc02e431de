package draft

import (
	"context"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// fewValues is how many values a column may have for them to be states.
const fewValues = 12

// loadValues finds the few values that columns of the table have: the labels of
// an enum, the list of a check constraint, what pg_stats knows. Statistics exist
// after ANALYZE, of columns that the role may read.
func loadValues(ctx context.Context, conn *pgx.Conn, encoding cdc.Encoding, t *table) error {
	for _, c := range t.columns {
		if len(c.labels) > 0 && len(c.labels) <= fewValues {
			c.values = c.labels
		}
	}
	rows, _ := conn.Query(ctx, `
		select `+encoding.SQL("a.attname::text")+`, `+encoding.SQL("pg_catalog.pg_get_constraintdef(k.oid)")+`, '{}'::text[]
		from pg_catalog.pg_constraint k join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = k.conkey[1]
		where k.conrelid = $1 and k.contype = 'c' and cardinality(k.conkey) = 1
		union all
		select `+encoding.SQL("s.attname::text")+`, '', (select coalesce(array_agg(`+encoding.SQL("v.text")+` order by v.i), '{}') from unnest(s.most_common_vals::text::text[]) with ordinality v(text, i))
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace join pg_catalog.pg_stats s on s.schemaname = n.nspname and s.tablename = c.relname
		where c.oid = $1 and s.n_distinct between 2 and $2 and s.null_frac < 1`, t.oid, fewValues)
	var name, check string
	var common []string
	_, err := pgx.ForEachRow(rows, []any{&name, &check, &common}, func() error {
		c := t.column(name)
		if c == nil || c.values != nil {
			return nil
		}
		values := slices.Clone(common)
		if check != "" {
			values = listed(check)
		}
		if len(values) >= 2 && len(values) <= fewValues {
			c.values = values
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("read the values of %s: %w", t.Name, err)
	}
	return nil
}

var (
	listOfTexts   = regexp.MustCompile(`^CHECK \(\(+"?[^"]+"?\)?(::[a-z ]+)? = ANY \(+ARRAY\[((?:'(?:[^']|'')*'::[a-z ]+(?:\([0-9]+\))?(?:, )?|\('[^']*'::[a-z ]+(?:\([0-9]+\))?\)::[a-z ]+(?:, )?)+)\]`)
	listOfNumbers = regexp.MustCompile(`^CHECK \(\("?[^"]+"? = ANY \(ARRAY\[([0-9, ]+)\]\)\)\)$`)
	aText         = regexp.MustCompile(`'((?:[^']|'')*)'::`)
)

// listed are the values of a constraint that says x in ('A', 'B'), nil if it says
// something else.
func listed(check string) []string {
	if m := listOfNumbers.FindStringSubmatch(check); m != nil {
		return strings.Split(m[1], ", ")
	}
	m := listOfTexts.FindStringSubmatch(check)
	if m == nil {
		return nil
	}
	var values []string
	for _, text := range aText.FindAllStringSubmatch(m[2], -1) {
		values = append(values, strings.ReplaceAll(text[1], "''", "'"))
	}
	return values
}

// state is a column whose changes are the steps of a row's life.
type state struct {
	column *column
	// literals are its values in SQL.
	literals []string
	score    int
}

// states are the likely ones, the likeliest first.
func (t *table) states() []state {
	named := func(c *column) bool {
		return slices.ContainsFunc(nameWords(c.name), func(w string) bool {
			return slices.Contains([]string{"status", "situacao", "sit", "state", "estado", "stage", "fase", "etapa", "aprovado", "ativo", "active", "phase", "tipo", "type"}, w)
		})
	}
	var out []state
	for _, c := range t.columns {
		s := state{column: c}
		_, hidden := c.personal()
		hidden = hidden || slices.ContainsFunc(nameWords(c.name), func(w string) bool {
			return slices.Contains([]string{"sexo", "genero", "sex", "gender", "uf"}, w) // no steps of a life
		})
		number := slices.Contains([]string{"int2", "int4", "int8", "numeric"}, c.base)
		_, _, send := leaf(c)
		switch {
		case len(c.values) == 0 || hidden || !send || c.array || slices.Contains(t.key, c.name) || t.refers(c.name) != nil:
			continue
		case len(c.labels) > 0:
			s.score = 2
		case isText(c):
			s.score = 1
		case number && named(c):
			s.score = 1
		default:
			continue
		}
		if named(c) {
			s.score += 2
		}
		for _, v := range c.values {
			if v == "" || len(v) > 40 || strings.ContainsFunc(v, func(r rune) bool { return !unicode.IsPrint(r) }) {
				s.literals = nil
				break
			}
			if number {
				s.literals = append(s.literals, v)
			} else {
				s.literals = append(s.literals, "'"+strings.ReplaceAll(v, "'", "''")+"'")
			}
		}
		if s.literals != nil {
			out = append(out, s)
		}
	}
	slices.SortStableFunc(out, func(a, b state) int { return b.score - a.score })
	return out[:min(3, len(out))]
}

// refers is the foreign key that a column alone is, nil if none.
func (t *table) refers(column string) *reference {
	for _, r := range t.references {
		if len(r.columns) == 1 && r.columns[0] == column {
			return r
		}
	}
	return nil
}
