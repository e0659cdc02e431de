package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Membership is a table's place in one publication.
type Membership struct {
	Publication                      string
	Insert, Update, Delete, Truncate bool
	ViaRoot                          bool
	// Columns are the published columns; nil means all (and always before PostgreSQL 15).
	Columns []string
	// Filtered: it has a row filter.
	Filtered bool
}

// memberships is an SQL subquery: the places of tables in publications, as the view
// pg_publication_tables has them, of the tables whose oids the subquery tables returns.
// That view, and pg_get_expr, open the tables, and so wait for one that the application
// has to itself, while this reads the catalogue alone. Its columns are pub, name, ins, upd, del,
// tru, viaroot, relid; entry, the oid of the table's own entry, null without one; columns, text[],
// null without a column list; and, empty without a row filter, filtered, the columns that it
// uses, and filter, which is another text for another filter.
func (e Encoding) memberships(version int, tables string) string {
	inSchema, columns, filtered, filter := "false", "null::text[]", "''", "''"
	if version >= 150000 { // these came with it
		inSchema = "exists (select from pg_catalog.pg_publication_namespace s where s.pnpubid = p.oid and s.pnnspid = %s.relnamespace)"
		columns = "case when r.prattrs is not null then array(select " + e.SQL("a.attname::text") + ` from pg_catalog.pg_attribute a
			where a.attrelid = c.oid and a.attnum = any(r.prattrs) order by a.attnum) end`
		// Where in the text of a statement a part of the filter stood is not what it says.
		filter = "coalesce(hashtextextended(regexp_replace(r.prqual::text, ':\\w*location -?\\d+', '', 'g'), 0)::text, '')"
		filtered = "coalesce((select string_agg(" + e.SQL("a.attname::text") + `, ', ' order by a.attnum) from pg_catalog.pg_attribute a where a.attrelid = c.oid
			and a.attnum in (select m[1]::int2 from regexp_matches(r.prqual::text, ':varattno (\d+)', 'g') m)), '')`
	}
	of := func(alias string) string { return strings.ReplaceAll(inSchema, "%s", alias) }
	const publishable = "relkind in ('r', 'p') and %s.relpersistence = 'p'"
	is := func(alias string) string { return alias + "." + strings.ReplaceAll(publishable, "%s", alias) }
	// Each part of has is an index scan per table and publication: PostgreSQL expects a
	// thousand rows of pg_partition_ancestors, and would read pg_class for each in a join.
	return `(
		select p.oid as pub, p.pubname::text as name, p.pubinsert as ins, p.pubupdate as upd, p.pubdelete as del, p.pubtruncate as tru, p.pubviaroot as viaroot,
			c.oid as relid, e.oid as entry, ` + columns + ` as columns, ` + filtered + ` as filtered, ` + filter + ` as filter
		from (select * from pg_catalog.pg_class where oid in (` + tables + `) offset 0) c cross join pg_catalog.pg_publication p -- no other table is looked at
		cross join lateral (select array(select relid from pg_catalog.pg_partition_ancestors(c.oid) where relid <> c.oid) as above) root
		left join pg_catalog.pg_publication_rel e on e.prpubid = p.oid and e.prrelid = c.oid
		left join pg_catalog.pg_publication_rel r on r.oid = e.oid and not ` + of("c") + ` -- its schema brings all columns and rows
		cross join lateral (select -- whether the publication has the table itself, and one of which it is a partition
			e.oid is not null or ` + is("c") + ` and ` + of("c") + ` as itself,
			root.above <> '{}' and (exists (select from pg_catalog.pg_publication_rel x where x.prpubid = p.oid and x.prrelid = any(root.above))
				or exists (select from pg_catalog.pg_class t where t.oid = any(root.above) and ` + is("t") + ` and ` + of("t") + `)) as above
		) has
		where case
			when p.puballtables then ` + is("c") + ` and c.oid >= 16384 and case when p.pubviaroot then not c.relispartition else c.relkind = 'r' end
			when p.pubviaroot then has.itself and not has.above
			else c.relkind <> 'p' and (has.itself or has.above) end)`
}

// loadMemberships returns the places of the tables whose oids the subquery returns, by table and by
// publication's name.
func loadMemberships(ctx context.Context, conn *pgx.Conn, e Encoding, tables string, args ...any) (map[uint32][]Membership, error) {
	found := map[uint32][]Membership{}
	var oid uint32
	var m Membership
	rows, _ := conn.Query(ctx, `select relid, name, ins, upd, del, tru, viaroot, columns, filter <> '' from `+e.memberships(serverVersion(conn), tables)+` m order by 2`, args...)
	_, err := pgx.ForEachRow(rows, []any{&oid, &m.Publication, &m.Insert, &m.Update, &m.Delete, &m.Truncate, &m.ViaRoot, &m.Columns, &m.Filtered}, func() error {
		next := m
		next.Columns = slices.Clone(m.Columns)
		found[oid] = append(found[oid], next)
		return nil
	})
	return found, err
}

// rowFilter says that a publication has a row filter that uses these columns. Its text
// cannot be printed without opening the table.
func rowFilter(publication, columns string) string {
	text := fmt.Sprintf("publication %s has a row filter", QuoteIdentifier(publication))
	if columns != "" {
		text += " on " + columns
	}
	return text
}
