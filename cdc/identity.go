package cdc

import (
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
	isNew   bool // it is to be created, and has no name before nameNew
}

// maxKeyBytes is how long the values of a new index may be together. PostgreSQL refuses an
// INSERT whose values do not fit in a third of a page.
const maxKeyBytes = 1000

// Needed is a table and the columns whose old values its rules need.
type Needed struct {
	Table   *Table
	Columns []string
}

// LeastIdentities returns, for each table, the statements that make the old values of the columns
// known without REPLICA IDENTITY FULL: its primary key or a unique index as identity, which
// is created if there is none. Other values of the old row are then not sent. A table has none
// if no index can do it, or if statements of the application would then fail. The columns of
// the present identity stay in it, because other subscribers may need them. No table is twice
// among them.
func LeastIdentities(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string, needed []Needed) ([][]Statement, error) {
	s := identitySearch{conn: conn, encoding: encoding, publication: publication, chosen: make([]*uniqueIndex, len(needed))}
	for i, n := range needed {
		if n.Table.Kind == 'r' && n.Table.Relation.ReplicaIdentity != 'f' {
			s.searched = append(s.searched, &searched{table: n.Table, chosen: &s.chosen[i]})
		}
	}
	err := s.candidates(ctx, needed)
	for err == nil && len(s.searched) > 0 {
		err = s.try(ctx)
	}
	if err == nil {
		err = s.nameNew(ctx, needed)
	}
	if err != nil {
		return nil, err
	}
	out := make([][]Statement, len(needed))
	for i, index := range s.chosen {
		if index != nil {
			out[i] = index.identify(needed[i].Table.Relation.TableName())
		}
	}
	return out, nil
}

// identitySearch is one search of LeastIdentities, which asks about all tables at once.
type identitySearch struct {
	conn        *pgx.Conn
	encoding    Encoding
	publication string
	chosen      []*uniqueIndex // by table
	searched    []*searched    // the tables without one yet
}

// searched is a table with the indexes that are left to try, the best first.
type searched struct {
	table   *Table
	indexes []uniqueIndex
	chosen  **uniqueIndex
}

// identify are the statements that make an index the identity, and before that the index.
func (u *uniqueIndex) identify(table Name) []Statement {
	switch {
	case u.Primary:
		statement := identityStatement(table, "DEFAULT")
		statement.key = u.Columns
		return []Statement{statement}
	case u.isNew:
		return []Statement{CreateIdentityIndex(table, u.Name, u.Columns), IdentityIndex(table, u.Name, u.Columns)}
	}
	return []Statement{IdentityIndex(table, u.Name, u.Columns)}
}

// candidates finds what to try: the indexes that have the columns, then those with the columns of
// an index, so that no statement of the application can violate them, and what it lacks.
func (s *identitySearch) candidates(ctx context.Context, needed []Needed) error {
	all, err := uniqueIndexes(ctx, s.conn, s.encoding, oidsOf(s.searched))
	if err != nil {
		return err
	}
	for _, of := range s.searched {
		wanted := []string{}
		for _, n := range needed {
			if n.Table == of.table {
				wanted = slices.Clone(n.Columns)
			}
		}
		for _, c := range of.table.Relation.Columns {
			if c.Key && !slices.Contains(wanted, c.Name) {
				wanted = append(wanted, c.Name)
			}
		}
		indexes := all[of.table.Relation.OID]
		for _, index := range indexes {
			if contains(index.Columns, wanted) {
				of.indexes = append(of.indexes, index)
			}
		}
		for _, index := range indexes {
			key := slices.Clone(index.Columns)
			for _, column := range wanted {
				if !slices.Contains(key, column) {
					key = append(key, column)
				}
			}
			of.indexes = append(of.indexes, uniqueIndex{Columns: key, isNew: true})
		}
	}
	s.next()
	return nil
}

// next leaves out tables for which nothing is left to try.
func (s *identitySearch) next() {
	s.searched = slices.DeleteFunc(s.searched, func(of *searched) bool { return len(of.indexes) == 0 || *of.chosen != nil })
}

// try tries the next index of each table: whether it can be created, and whether no statement of
// the application would fail if it were the identity and the publication had the table.
func (s *identitySearch) try(ctx context.Context) error {
	may, err := indexable(ctx, s.conn, s.encoding, s.searched)
	if err != nil {
		return err
	}
	ours, err := findPublication(ctx, s.conn, s.publication, operations{true, true, true, true})
	if err != nil {
		return err
	}
	ours.ops.Update, ours.ops.Delete = true, true
	given := assumption{publications: []*publication{ours}, identities: identities{keys: map[uint32][]string{}}}
	for i, of := range s.searched {
		if may[i] {
			given.of = append(given.of, of.table)
			given.identities.keys[of.table.Relation.OID] = of.indexes[0].Columns
		}
	}
	refused := map[uint32][]Hazard{}
	if ours.add = given.of; len(given.of) > 0 {
		found, err := hazards(ctx, s.conn, s.encoding, s.publication, given)
		if err != nil {
			return err
		}
		refused = refusing(found, func(*Hazard) bool { return true })
	}
	for i, of := range s.searched {
		if may[i] && len(refused[of.table.Relation.OID]) == 0 {
			*of.chosen = &of.indexes[0]
		}
		of.indexes = of.indexes[1:]
	}
	s.next()
	return nil
}

// indexName is the name of a new index for the identity of a table.
func indexName(table string) string {
	const suffix = "_gancho_identity"
	for len(table)+len(suffix) > maxIdentifier {
		table = strings.ToValidUTF8(table[:len(table)-1], "")
	}
	return table + suffix
}

// nameNew names the indexes that are to be created. What an interrupted creation has left of one is
// replaced, and its name is not taken.
func (s *identitySearch) nameNew(ctx context.Context, needed []Needed) error {
	var unnamed []int
	for i, index := range s.chosen {
		if index != nil && index.isNew {
			unnamed = append(unnamed, i)
		}
	}
	for n := 1; len(unnamed) > 0; n++ {
		var schemas, names []string
		var oids []uint32
		for _, i := range unnamed {
			relation := needed[i].Table.Relation
			name := indexName(relation.Name)
			if n > 1 {
				digits := strconv.Itoa(n)
				name = name[:min(len(name), maxIdentifier-len(digits))] + digits
			}
			s.chosen[i].Name = name
			schemas, names, oids = append(schemas, s.encoding.Encode(relation.Schema)), append(names, s.encoding.Encode(name)), append(oids, relation.OID)
		}
		rows, _ := s.conn.Query(ctx, `
			select w.n::int - 1 from unnest($1::text[], $2::text[], $3::oid[]) with ordinality w(space, name, of, n)
			where exists (select from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
				where n.nspname = w.space and c.relname = w.name and not exists (select from pg_catalog.pg_index i where i.indexrelid = c.oid and i.indrelid = w.of and not i.indisvalid))
			order by 1`, schemas, names, oids)
		taken, err := pgx.CollectRows(rows, pgx.RowTo[int])
		if err != nil {
			return fmt.Errorf("look for names for indexes: %w", err)
		}
		for i, at := range taken {
			taken[i] = unnamed[at]
		}
		unnamed = taken
	}
	return nil
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

func oidsOf(tables []*searched) []uint32 {
	oids := make([]uint32, len(tables))
	for i, of := range tables {
		oids[i] = of.table.Relation.OID
	}
	return oids
}

// uniqueIndexes returns the indexes that can be the identity, by table, the best first.
func uniqueIndexes(ctx context.Context, conn *pgx.Conn, encoding Encoding, tables []uint32) (map[uint32][]uniqueIndex, error) {
	indexes := map[uint32][]uniqueIndex{}
	var oid uint32
	var index uniqueIndex
	rows, _ := conn.Query(ctx, `
		select i.indrelid, `+encoding.SQL("c.relname::text")+`, i.indisprimary, array_agg(`+encoding.SQL("a.attname::text")+` order by k.n)
		from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indexrelid
		cross join unnest(i.indkey::int2[]) with ordinality k(attnum, n)
		join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
		where i.indrelid = any($1::oid[]) and k.n <= i.indnkeyatts
			and i.indisunique and i.indimmediate and i.indisvalid and i.indisready and i.indislive and i.indpred is null and i.indexprs is null
		group by i.indrelid, c.relname, i.indisprimary, i.indnkeyatts
		having bool_and(`+columnNotNull+` and a.attgenerated = '') and count(*) = i.indnkeyatts
		order by i.indrelid, not i.indisprimary, i.indnkeyatts, c.relname collate "C"`, tables) // ForEachRow returns its error
	_, err := pgx.ForEachRow(rows, []any{&oid, &index.Name, &index.Primary, &index.Columns}, func() error {
		found := index
		found.Columns = slices.Clone(index.Columns)
		indexes[oid] = append(indexes[oid], found)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read unique indexes: %w", unreadable(err))
	}
	return indexes, nil
}

// indexable reports, by table, whether a unique index can have the columns of the next to try, which
// one that exists does: they are never null, the stream carries them, they have an order, and their
// values are short enough for any row.
func indexable(ctx context.Context, conn *pgx.Conn, encoding Encoding, tables []*searched) ([]bool, error) {
	may := make([]bool, len(tables))
	var places []int32
	var oids []uint32
	var names []string
	for i, of := range tables {
		if may[i] = !of.indexes[0].isNew; may[i] {
			continue
		}
		for _, column := range of.indexes[0].Columns {
			places, oids, names = append(places, int32(i)), append(oids, of.table.Relation.OID), append(names, encoding.Encode(column))
		}
	}
	if len(names) == 0 {
		return may, nil
	}
	rows, _ := conn.Query(ctx, `
		select w.place from unnest($1::int[], $2::oid[], $3::text[]) w(place, relation, name)
		left join (
			select a.attrelid, a.attname, `+columnNotNull+` as attnotnull, a.attgenerated,
				case when t.typlen > 0 then t.typlen when a.atttypmod > 4 and t.typname in ('varchar', 'bpchar') then 4 * (a.atttypmod - 4)
					when a.atttypmod > 4 and t.typname = 'numeric' then ((a.atttypmod - 4) >> 16) & 65535 end as bytes,
				t.typname = 'varchar' or exists (select from pg_catalog.pg_opclass o join pg_catalog.pg_am m on m.oid = o.opcmethod
					where m.amname = 'btree' and o.opcdefault and o.opcintype = t.oid) as ordered
			from pg_catalog.pg_attribute a join pg_catalog.pg_type t on t.oid = a.atttypid
			where a.attrelid = any($2::oid[]) and a.attnum > 0 and not a.attisdropped
		) a on a.attrelid = w.relation and a.attname::text = w.name
		group by w.place
		having count(*) <= 32 and bool_and(coalesce(a.attnotnull and a.attgenerated = '' and a.bytes is not null and a.ordered, false)) and sum(a.bytes) <= $4`,
		places, oids, names, maxKeyBytes)
	found, err := pgx.CollectRows(rows, pgx.RowTo[int])
	if err != nil {
		return nil, fmt.Errorf("read columns that an index would have: %w", unreadable(err))
	}
	for _, i := range found {
		may[i] = true
	}
	return may, nil
}

func contains(all, some []string) bool {
	return !slices.ContainsFunc(some, func(s string) bool { return !slices.Contains(all, s) })
}
