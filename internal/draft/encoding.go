package draft

import (
	"context"
	"fmt"
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
	for _, text := range texts {
		if !utf8.Valid(text) {
			return cdc.Win1252, false, nil // latin1 has no letter that it lacks
		}
	}
	if len(texts) == 0 {
		return "", true, nil
	}
	return cdc.UTF8, false, nil
}
