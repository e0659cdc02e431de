package draft

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// table is a table or view of the database at hand.
type table struct {
	cdc.Name
	oid uint32
	// visible: the name alone finds it. unqualified: and it says enough, because no other schema
	// has a table of this name, or the schema is public.
	visible, unqualified bool
	columns              []*column
	// kind and persistence are pg_class.relkind and relpersistence, identity is
	// relreplident.
	kind, persistence, identity string
	// root is the topmost table of which this is a partition, else nil.
	root *table
	// key identifies a row, nil without one: the primary key, or the columns of a
	// unique index, whose name is keyIndex then.
	key      []string
	keyIndex string
	// generatedKey is the primary key if a column of it is generated: old rows in the
	// stream do not have it.
	generatedKey []string
	// identified: PostgreSQL accepts updates and deletes when they are published.
	identified bool
	// alike is how many tables have this one's name and columns, each in a schema of its own.
	alike      int
	references []*reference
	// guessed are what names say that the table refers to, without a foreign key.
	guessed  []*reference
	activity activity
	readable bool // the role has SELECT on it
}

// activity is what the table's counters say since they were last reset. Those of
// a partitioned table are the sums of its partitions'.
type activity struct{ rows, inserts, updates, deletes int64 }

func (a *activity) add(b activity) {
	a.rows, a.inserts, a.updates, a.deletes = a.rows+b.rows, a.inserts+b.inserts, a.updates+b.updates, a.deletes+b.deletes
}

func (a activity) changes() int64 { return a.inserts + a.updates + a.deletes }

// column is a column of a table.
type column struct {
	name string
	// kind is the type as PostgreSQL writes it, base the name of the type that a
	// domain is over, else its own.
	kind, base string
	notNull    bool
	generated  bool
	formula    string // of a generated one
	array      bool
	labels     []string // of an enum
	// values are the few that the column has, the most frequent first: the enum's
	// labels, those of a check constraint, or those that statistics know.
	values []string
}

// reference is a foreign key, or what would be one: columns of the table, and those that they refer to.
type reference struct {
	columns, keys []string
	to            *table
	guessed       bool
}

// written is the table's name as a rule has it.
func (t *table) written() string {
	if t.unqualified {
		return cdc.QuoteIdentifier(t.Name.Name)
	}
	return t.Name.String()
}

func (t *table) columnNames() []string {
	names := make([]string, len(t.columns))
	for i, c := range t.columns {
		names[i] = c.name
	}
	return names
}

func (t *table) column(name string) *column {
	if i := slices.IndexFunc(t.columns, func(c *column) bool { return c.name == name }); i >= 0 {
		return t.columns[i]
	}
	return nil
}

// loadTables reads all tables and views, in one query for each part: a database
// may have thousands.
func loadTables(ctx context.Context, conn *pgx.Conn, encoding cdc.Encoding) ([]*table, error) {
	l := &loader{conn: conn, encoding: encoding, byOID: map[uint32]*table{}}
	for _, step := range []func(context.Context) error{l.loadClasses, l.loadColumns, l.loadKeys, l.loadReferences} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	named, shaped := map[string]int{}, map[string]int{}
	shape := func(t *table) string { return t.Name.Name + "\n" + strings.Join(t.columnNames(), "\n") }
	for _, t := range l.tables {
		if t.root != nil {
			t.root.activity.add(t.activity)
		}
		named[t.Name.Name]++
		shaped[shape(t)]++
	}
	names := newByName(l.tables)
	for _, t := range l.tables {
		t.unqualified = t.visible && (t.Schema == "public" || named[t.Name.Name] == 1)
		t.alike = shaped[shape(t)]
		names.guessReferences(t)
	}
	return l.tables, nil
}

type loader struct {
	conn     *pgx.Conn
	encoding cdc.Encoding
	tables   []*table
	byOID    map[uint32]*table
}

// each runs a query and calls a function with every row, whose values are in the places.
func (l *loader) each(ctx context.Context, what, sql string, places []any, row func()) error {
	rows, _ := l.conn.Query(ctx, sql) // ForEachRow returns its error
	_, err := pgx.ForEachRow(rows, places, func() error {
		row()
		return nil
	})
	if err != nil {
		return fmt.Errorf("read %s: %w", what, err)
	}
	return nil
}

// ours is an SQL condition on pg_class c and pg_namespace n: what an application may have made.
const ours = `c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname not in ('information_schema', 'gancho') and n.nspname !~ '^pg_(catalog|toast)'`

func (l *loader) loadClasses(ctx context.Context) error {
	var t table
	var root *uint32
	roots := map[*table]uint32{}
	err := l.each(ctx, "tables", `
		select c.oid, `+l.encoding.SQL("n.nspname::text")+`, `+l.encoding.SQL("c.relname::text")+`, coalesce(`+cdc.Found("c.relname")+` = c.oid, false) as visible,
			c.relkind::text, c.relpersistence::text, c.relreplident::text,
			case when c.relispartition then pg_catalog.pg_partition_root(c.oid)::oid end,
			pg_catalog.has_table_privilege(c.oid, 'SELECT'), greatest(case when c.relkind in ('r', 'm') then c.reltuples else 0 end, 0)::int8,
			pg_catalog.pg_stat_get_tuples_inserted(c.oid), pg_catalog.pg_stat_get_tuples_updated(c.oid), pg_catalog.pg_stat_get_tuples_deleted(c.oid)
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where `+ours+`
		order by visible desc, c.relkind in ('r', 'p') desc, 2, 3`,
		[]any{
			&t.oid, &t.Schema, &t.Name.Name, &t.visible, &t.kind, &t.persistence, &t.identity, &root, &t.readable,
			&t.activity.rows, &t.activity.inserts, &t.activity.updates, &t.activity.deletes,
		}, func() {
			found := t
			found.identified = t.identity == "f" && t.kind == "r"
			l.tables = append(l.tables, &found)
			l.byOID[t.oid] = &found
			if root != nil {
				roots[&found] = *root
			}
		})
	for t, root := range roots {
		t.root = l.byOID[root]
	}
	return err
}

func (l *loader) loadColumns(ctx context.Context) error {
	var oid uint32
	var c column
	return l.each(ctx, "columns", `
		with recursive base(oid, over) as (
			select t.oid, t.oid from pg_catalog.pg_type t
			union all
			select b.oid, t.typbasetype from base b join pg_catalog.pg_type t on t.oid = b.over where t.typtype = 'd'
		)
		select a.attrelid, `+l.encoding.SQL("a.attname::text")+`, `+l.encoding.SQL("pg_catalog.format_type(a.atttypid, a.atttypmod)")+`, `+l.encoding.SQL("t.typname::text")+`, a.attnotnull, a.attgenerated <> '',
			t.typcategory = 'A', coalesce(case when a.attgenerated <> '' then `+l.encoding.SQL("pg_catalog.pg_get_expr(d.adbin, d.adrelid)")+` end, ''),
			(select array_agg(`+l.encoding.SQL("e.enumlabel::text")+` order by e.enumsortorder) from pg_catalog.pg_enum e where e.enumtypid = t.oid)
		from pg_catalog.pg_attribute a
		join pg_catalog.pg_class c on c.oid = a.attrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		left join pg_catalog.pg_attrdef d on d.adrelid = a.attrelid and d.adnum = a.attnum
		join base b on b.oid = a.atttypid join pg_catalog.pg_type t on t.oid = b.over and t.typtype <> 'd'
		where a.attnum > 0 and not a.attisdropped and `+ours+`
		order by a.attrelid, a.attnum`,
		[]any{&oid, &c.name, &c.kind, &c.base, &c.notNull, &c.generated, &c.array, &c.formula, &c.labels}, func() {
			found := c
			found.labels = slices.Clone(c.labels)
			if t := l.byOID[oid]; t != nil {
				t.columns = append(t.columns, &found)
			}
		})
}

// loadKeys finds the best key of each table: the primary key, the replica
// identity, the smallest unique index. One that is deferrable, partial, or over
// expressions or nulls, identifies no row. Before PostgreSQL 18 generated columns are not
// published, and old rows have no value of theirs; from 18 on they are if the publication
// says so, and if it does not, an identity with one makes UPDATE and DELETE fail. A key
// with one is the last choice for that.
func (l *loader) loadKeys(ctx context.Context) error {
	var oid uint32
	var name string
	var primary, identity, immediate, generated bool
	var columns []string
	return l.each(ctx, "keys", `
		select i.indrelid, `+l.encoding.SQL("x.relname::text")+`, i.indisprimary, i.indisreplident, i.indimmediate, k.generated, k.columns
		from pg_catalog.pg_index i
		join pg_catalog.pg_class c on c.oid = i.indrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		join pg_catalog.pg_class x on x.oid = i.indexrelid
		cross join lateral (
			select array_agg(`+l.encoding.SQL("a.attname::text")+` order by p.place) as columns, bool_and(a.attnotnull) as not_null, bool_or(a.attgenerated <> '') as generated
			from unnest(i.indkey::int2[]) with ordinality p(attnum, place)
			join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = p.attnum
			where p.place <= i.indnkeyatts
		) k
		where i.indisunique and i.indisvalid and i.indpred is null and i.indexprs is null and k.not_null and `+ours+`
			and (i.indisprimary or i.indimmediate and not k.generated)
		order by i.indrelid, k.generated, not i.indisprimary, not i.indisreplident, i.indnkeyatts, 2`,
		[]any{&oid, &name, &primary, &identity, &immediate, &generated, &columns}, func() {
			t := l.byOID[oid]
			if t == nil {
				return
			}
			if generated {
				t.generatedKey = slices.Clone(columns)
			}
			if t.key == nil {
				t.key = slices.Clone(columns)
				if !primary {
					t.keyIndex = name
				}
			}
			t.identified = t.identified || t.identity == "d" && primary && immediate && !generated || t.identity == "i" && identity && t.kind == "r"
		})
}

func (l *loader) loadReferences(ctx context.Context) error {
	var from, to uint32
	var columns, keys []string
	return l.each(ctx, "foreign keys", `
		select k.conrelid, k.confrelid,
			(select array_agg(`+l.encoding.SQL("a.attname::text")+` order by p.i) from unnest(k.conkey) with ordinality p(n, i) join pg_catalog.pg_attribute a on a.attrelid = k.conrelid and a.attnum = p.n),
			(select array_agg(`+l.encoding.SQL("a.attname::text")+` order by p.i) from unnest(k.confkey) with ordinality p(n, i) join pg_catalog.pg_attribute a on a.attrelid = k.confrelid and a.attnum = p.n)
		from pg_catalog.pg_constraint k where k.contype = 'f' and k.conparentid = 0
		order by k.conrelid, k.conkey, k.conname`,
		[]any{&from, &to, &columns, &keys}, func() {
			t, target := l.byOID[from], l.byOID[to]
			if t != nil && target != nil {
				t.references = append(t.references, &reference{columns: slices.Clone(columns), keys: slices.Clone(keys), to: target})
			}
		})
}
