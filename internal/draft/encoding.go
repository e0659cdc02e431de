package draft

import (
	"context"
	"fmt"
	"slices"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// GuessEncoding guesses what the text of a database is written in whose own encoding is SQL_ASCII, by its
// names and by what statistics know of its values. Empty: it is another one, which the server converts, or
// nothing is outside of ASCII, which unknown says.
func GuessEncoding(ctx context.Context, conn *pgx.Conn) (guess cdc.Encoding, unknown bool, err error) {
	var encoding string
	if err := conn.QueryRow(ctx, "select pg_catalog.getdatabaseencoding()::text").Scan(&encoding); err != nil {
		return "", false, fmt.Errorf("read the database's encoding: %w", err)
	}
	if encoding != "SQL_ASCII" {
		return "", false, nil
	}
	rows, _ := conn.Query(ctx, `
		select pg_catalog.convert_to(s.text, 'SQL_ASCII') from (
			select n.nspname::text from pg_catalog.pg_namespace n
			union all select c.relname::text from pg_catalog.pg_class c
			union all select a.attname::text from pg_catalog.pg_attribute a
			union all select e.enumlabel::text from pg_catalog.pg_enum e
			union all select t.most_common_vals::text from pg_catalog.pg_stats t where t.schemaname not in ('pg_catalog', 'information_schema')
			union all select t.histogram_bounds::text from pg_catalog.pg_stats t where t.schemaname not in ('pg_catalog', 'information_schema')
		) s(text) where s.text ~ '[^\x01-\x7f]' limit 1000`) // CollectRows returns its error
	texts, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	if err != nil {
		return "", false, fmt.Errorf("read names for the database's encoding: %w", err)
	}
	guess = guessed(texts)
	return guess, guess == "", nil
}

// guessed is what most texts are written in: some may be from another client. "": none has a letter outside of ASCII.
func guessed(texts [][]byte) cdc.Encoding {
	valid, invalid := 0, 0
	for _, text := range texts {
		text = whole(text)
		switch outside := func(b byte) bool { return b >= utf8.RuneSelf }; {
		case !slices.ContainsFunc(text, outside):
		case utf8.Valid(text):
			valid++
		default:
			invalid++
		}
	}
	switch {
	case invalid > valid:
		return cdc.Win1252 // latin1 has no letter that it lacks
	case valid > 0:
		return cdc.UTF8
	}
	return ""
}

// longestName is NAMEDATALEN - 1, in bytes. Under SQL_ASCII the server cuts a longer name between any two of them.
const longestName = 63

// whole is a text without the part of a letter that may be left at the end of a name.
func whole(text []byte) []byte {
	if len(text) != longestName {
		return text
	}
	for i := longestName - 1; i > longestName-utf8.UTFMax; i-- {
		if utf8.RuneStart(text[i]) {
			if !utf8.FullRune(text[i:]) {
				return text[:i]
			}
			break
		}
	}
	return text
}
