package cdc

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
)

// uniqueIndex is an index that can be a table's replica identity: valid, unique at any
// time, of all rows, and of columns that are never null and that the stream carries.
// https://www.postgresql.org/docs/current/sql-altertable.html#SQL-ALTERTABLE-REPLICA-IDENTITY
type uniqueIndex struct {
	Name    string
	Primary bool
	Columns []string
}

// maxKeyBytes is how long the values of a new index may be together. PostgreSQL refuses an
// INSERT whose values do not fit in a third of a page.
const maxKeyBytes = 1000

// LeastIdentity returns the statements that make the old values of the columns of a table
// known without REPLICA IDENTITY FULL: its primary key or a unique index as identity, which
// is created if there is none. Other values of the old row are then not sent. It returns none
// if no index can do it, or if statements of the application would then fail. The columns of
// the present identity stay in it, because other subscribers may need them.
func LeastIdentity(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string, t *Table, columns []string) ([]Statement, error) {
	wanted := slices.Clone(columns)
	for _, c := range t.Relation.Columns {
		if c.Key && !slices.Contains(wanted, c.Name) {
			wanted = append(wanted, c.Name)
		}
	}
	indexes, err := uniqueIndexes(ctx, conn, encoding, t)
	if err != nil || len(indexes) == 0 || t.Kind != 'r' || t.Relation.ReplicaIdentity == 'f' {
		return nil, err
	}
	for _, index := range indexes {
		if !contains(index.Columns, wanted) {
			continue
		}
		statement := IdentityIndex(t.Relation.TableName(), index.Name, index.Columns)
		if index.Primary {
			statement = identityStatement(t.Relation.TableName(), "DEFAULT")
			statement.key = index.Columns
		}
		if safe, err := identitySafe(ctx, conn, encoding, publication, t, index.Columns); err != nil || safe {
			return []Statement{statement}, err
		}
	}
	return newIdentity(ctx, conn, encoding, publication, t, indexes, wanted)
}

// newIdentity is LeastIdentity with an index that does not exist yet: the columns of one that
// does, so that no statement of the application can violate it, and what they lack.
func newIdentity(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string, t *Table, indexes []uniqueIndex, wanted []string) ([]Statement, error) {
	for _, base := range indexes {
		key := slices.Clone(base.Columns)
		for _, column := range wanted {
			if !slices.Contains(key, column) {
				key = append(key, column)
			}
		}
		may, err := indexable(ctx, conn, encoding, t, key)
		if err == nil && may {
			may, err = identitySafe(ctx, conn, encoding, publication, t, key)
		}
		if err != nil {
			return nil, err
		}
		if may {
			table := t.Relation.TableName()
			name, err := freeIndexName(ctx, conn, encoding, t)
			if err != nil {
				return nil, err
			}
			return []Statement{CreateIdentityIndex(table, name, key), IdentityIndex(table, name, key)}, nil
		}
	}
	return nil, nil
}

// indexName is the name of a new index for the identity of a table.
func indexName(table string) string {
	const suffix = "_gancho_identity"
	for len(table)+len(suffix) > maxIdentifier {
		table = strings.ToValidUTF8(table[:len(table)-1], "")
	}
	return table + suffix
}

// freeIndexName is the name for a new index. What an interrupted creation has left of one is
// replaced, and does not count.
func freeIndexName(ctx context.Context, conn *pgx.Conn, encoding Encoding, t *Table) (string, error) {
	for n := 1; ; n++ {
		name := indexName(t.Relation.Name)
		if n > 1 {
			digits := strconv.Itoa(n)
			name = name[:min(len(name), maxIdentifier-len(digits))] + digits
		}
		var taken bool
		err := conn.QueryRow(ctx, `
			select exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
				where n.nspname = $1 and c.relname = $2 and not exists (select from pg_catalog.pg_index i where i.indexrelid = c.oid and i.indrelid = $3 and not i.indisvalid))`,
			encoding.Encode(t.Relation.Schema), encoding.Encode(name), t.Relation.OID).Scan(&taken)
		if err != nil {
			return "", fmt.Errorf("look for a name for an index of %s: %w", t.Relation.TableName(), err)
		}
		if !taken {
			return name, nil
		}
	}
}

// IdentityIndex makes an index, which has these columns, a table's replica identity.
func IdentityIndex(table Name, index string, columns []string) Statement {
	s := identityStatement(table, "USING INDEX "+QuoteIdentifier(index))
	s.key = columns
	return s
}

// CreateIdentityIndex creates a unique index while the application writes. It runs outside
// of a transaction, and leaves an invalid index behind when it fails.
func CreateIdentityIndex(table Name, index string, columns []string) Statement {
	return about(Statement{
		SQL:  fmt.Sprintf("CREATE UNIQUE INDEX CONCURRENTLY %s ON %s (%s);", QuoteIdentifier(index), table, strings.Join(quoteIdentifiers(columns), ", ")),
		Undo: dropIndex(Name{table.Schema, index}), step: stepIndex,
	}, tableObject(table))
}

func dropIndex(index Name) string { return fmt.Sprintf("DROP INDEX CONCURRENTLY %s;", index) }

// uniqueIndexes returns the indexes that can be the identity, the best first.
func uniqueIndexes(ctx context.Context, conn *pgx.Conn, encoding Encoding, t *Table) ([]uniqueIndex, error) {
	rows, _ := conn.Query(ctx, `
		select `+encoding.sql("c.relname::text")+`, i.indisprimary, array_agg(`+encoding.sql("a.attname::text")+` order by k.n)
		from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
		cross join unnest(i.indkey::int2[]) with ordinality k(attnum, n)
		join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
		where i.indrelid = $1 and k.n <= i.indnkeyatts
			and i.indisunique and i.indimmediate and i.indisvalid and i.indisready and i.indislive and i.indpred is null and i.indexprs is null
		group by c.relname, i.indisprimary, i.indnkeyatts
		having bool_and(`+columnNotNull+` and a.attgenerated = '') and count(*) = i.indnkeyatts`, t.Relation.OID)
	indexes, err := pgx.CollectRows(rows, pgx.RowToStructByPos[uniqueIndex])
	if err != nil {
		return nil, fmt.Errorf("read the unique indexes of %s: %w", t.Relation.TableName(), unreadable(err))
	}
	slices.SortFunc(indexes, func(a, b uniqueIndex) int {
		if a.Primary != b.Primary {
			if a.Primary {
				return -1
			}
			return 1
		}
		return cmp.Or(cmp.Compare(len(a.Columns), len(b.Columns)), cmp.Compare(a.Name, b.Name))
	})
	return indexes, nil
}

// indexable reports whether a unique index can have the columns: they are never null, the
// stream carries them, they have an order, and their values are short enough for any row.
func indexable(ctx context.Context, conn *pgx.Conn, encoding Encoding, t *Table, columns []string) (bool, error) {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = encoding.Encode(c)
	}
	var may bool
	err := conn.QueryRow(ctx, `
		select count(*) = cardinality($2::text[]) and count(*) <= 32 and coalesce(bool_and(a.attnotnull and a.attgenerated = '' and a.bytes is not null and a.ordered), false) and sum(a.bytes) <= $3
		from (
			select a.attname, `+columnNotNull+` as attnotnull, a.attgenerated,
				case when t.typlen > 0 then t.typlen when a.atttypmod > 4 and t.typname in ('varchar', 'bpchar') then 4 * (a.atttypmod - 4)
					when a.atttypmod > 4 and t.typname = 'numeric' then ((a.atttypmod - 4) >> 16) & 65535 end as bytes,
				t.typname = 'varchar' or exists (select from pg_catalog.pg_opclass o join pg_catalog.pg_am m on m.oid = o.opcmethod
					where m.amname = 'btree' and o.opcdefault and o.opcintype = t.oid) as ordered
			from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
			where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped and a.attname::text = any($2::text[])
		) a`, t.Relation.OID, names, maxKeyBytes).Scan(&may)
	if err != nil {
		return false, fmt.Errorf("read columns of %s: %w", t.Relation.TableName(), unreadable(err))
	}
	return may, nil
}

// identitySafe reports whether no statement of the application would fail if the table had
// these columns as its identity, and the publication had the table.
func identitySafe(ctx context.Context, conn *pgx.Conn, encoding Encoding, name string, t *Table, key []string) (bool, error) {
	ours, err := findPublication(ctx, conn, name, operations{true, true, true, true})
	if err != nil {
		return false, err
	}
	ours.add, ours.ops.Update, ours.ops.Delete = []*Table{t}, true, true
	found, err := hazards(ctx, conn, encoding, name, assumption{
		publications: []*publication{ours}, of: t, identities: identities{keys: map[uint32][]string{t.Relation.OID: key}},
	})
	return err == nil && !slices.ContainsFunc(found, func(h Hazard) bool { return h.RefusesStatements() }), err
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
