package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Under REPLICA IDENTITY FULL the server fetches all values of an old row into one tuple in memory, which may not have more
// than 1 GB: each UPDATE and DELETE of a row above that then fails (XX000, invalid memory alloc request size), also one that
// touches none of the large values. With a key as identity they work. No column has more than 1 GB, so that only a row of
// several large ones has. The server has no statistics of the size of such values: their average is that of the TOAST table.

// LargeRow is a table, or a partition, whose rows have so many large values that one of them may well have more than 1 GB.
type LargeRow struct {
	Table Name
	Bytes int64 // of large values in a row, on average, as they are stored
	Full  bool  // it has REPLICA IDENTITY FULL
}

// LargeRowBytes is how much of large values the rows have on average that are among them: where a row has a 32nd of
// 1 GB on average, and compressed, some have all of it.
const LargeRowBytes = 32 << 20

// LargeRows returns those among the tables and their partitions. It is one query, which opens their TOAST tables, and so
// waits for whoever rewrites one of them (VACUUM FULL), as long as the transaction's lock_timeout allows: then the error's SQLState is CodeLockNotAvailable.
func LargeRows(ctx context.Context, q pgx.Tx, encoding Encoding, tables []Name) ([]LargeRow, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	var schemas, names []string
	for _, t := range tables {
		schemas, names = append(schemas, encoding.Encode(t.Schema)), append(names, encoding.Encode(t.Name))
	}
	rows, _ := q.Query(ctx, `
		with recursive part(oid) as (
			select c.oid from unnest($1::text[], $2::text[]) o(space, name) join pg_catalog.pg_namespace n on n.nspname = o.space join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = o.name
			union
			select i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.oid join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition
		), large as (
			select n.nspname, c.relname, c.relreplident = 'f' as is_full, pg_catalog.pg_relation_size(c.reltoastrelid)::float8 as bytes,
				case when c.reltuples > 0 then c.reltuples::float8 else pg_catalog.pg_stat_get_live_tuples(c.oid)::float8 end as tuples
			from part join pg_catalog.pg_class c on c.oid = part.oid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
			where c.relkind = 'r' and c.reltoastrelid <> 0
				and (select count(*) from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped and a.attlen = -1 and a.attstorage <> 'p') > 1
		)
		select `+encoding.SQL("nspname::text")+`, `+encoding.SQL("relname::text")+`, (bytes / tuples)::int8, is_full
		from large where tuples > 0 and bytes / tuples >= $3 order by 1, 2`, pgx.QueryExecModeExec, schemas, names, int64(LargeRowBytes)) // CollectRows returns its error
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (l LargeRow, err error) {
		return l, row.Scan(&l.Table.Schema, &l.Table.Name, &l.Bytes, &l.Full)
	})
	if err != nil {
		return nil, fmt.Errorf("read how large rows are: %w", unreadable(err))
	}
	return found, nil
}
