package cdc

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// LoadTable reads a table or view from the catalogue, whose names have the encoding. Without a schema, it is
// the first of the name along DatabasePath. The error wraps
// [ErrNoTable] when it does not exist.
func LoadTable(ctx context.Context, conn *pgx.Conn, encoding Encoding, schema, name string) (*Table, error) {
	tables, err := LoadTables(ctx, conn, encoding, []Name{{schema, name}})
	if err != nil {
		return nil, err
	}
	if tables[0] == nil {
		return nil, fmt.Errorf("read table %s: %w", Name{schema, name}, ErrNoTable)
	}
	return tables[0], nil
}

// LoadTables is LoadTable for many names, in their order; nil: there is no such table. Names of one
// table have one Table. A database has thousands of tables, and its server may be far away: it
// takes as many statements for all as for one, and one more for each table with generated columns.
func LoadTables(ctx context.Context, conn *pgx.Conn, encoding Encoding, names []Name) ([]*Table, error) {
	l := &tableLoader{conn: conn, encoding: encoding, types: NewTypes(encoding), found: make([]*Table, len(names)), byOID: map[uint32]*Table{}}
	if err := l.load(ctx, names); err != nil {
		return nil, fmt.Errorf("read %s: %w", tablesOf(names), unreadable(err))
	}
	return l.found, nil
}

// relationOIDs are those of relations whose names have a schema, in their order; 0: there is none.
func relationOIDs(ctx context.Context, conn *pgx.Conn, encoding Encoding, names []Name) ([]uint32, error) {
	if len(names) == 0 {
		return nil, nil
	}
	schemas, relations := make([]string, len(names)), make([]string, len(names))
	for i, name := range names {
		schemas[i], relations[i] = encoding.Encode(name.Schema), encoding.Encode(name.Name)
	}
	rows, _ := conn.Query(ctx, `
		select coalesce(c.oid, 0) from unnest($1::text[], $2::text[]) with ordinality wanted(schema, name, n)
		left join pg_catalog.pg_namespace n on n.nspname = wanted.schema left join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = wanted.name
		order by wanted.n`, schemas, relations) // CollectRows returns its error
	return pgx.CollectRows(rows, pgx.RowTo[uint32])
}

func tablesOf(names []Name) string {
	if len(names) == 1 {
		return "table " + names[0].String()
	}
	return fmt.Sprintf("%d tables", len(names))
}

// tableLoader reads tables, one query for each part of all of them.
type tableLoader struct {
	conn     *pgx.Conn
	encoding Encoding
	types    *Types
	found    []*Table // by name, in the order of the names
	byOID    map[uint32]*Table
	oids     []uint32
}

func (l *tableLoader) load(ctx context.Context, names []Name) error {
	if err := l.loadClasses(ctx, names); err != nil || len(l.byOID) == 0 {
		return err
	}
	l.oids = slices.Sorted(maps.Keys(l.byOID))
	for _, step := range []func(context.Context) error{l.loadColumns, l.loadStorage, l.loadChecks, l.loadRefused, l.loadWeak, l.loadMemberships} {
		if err := step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// each runs a query about the tables and calls a function with every row, whose values are in the places.
func (l *tableLoader) each(ctx context.Context, sql string, places []any, row func()) error {
	rows, _ := l.conn.Query(ctx, sql, l.oids) // ForEachRow returns its error
	_, err := pgx.ForEachRow(rows, places, func() error {
		row()
		return nil
	})
	return err
}

func (l *tableLoader) loadClasses(ctx context.Context, names []Name) error {
	schemas, relations := make([]string, len(names)), make([]string, len(names))
	for i, name := range names {
		schemas[i], relations[i] = name.Schema, name.Name
	}
	var n int
	var class Relation
	var kind, persistence, identity string
	var rootSchema, rootName *string
	var inherited bool
	rows, _ := l.conn.Query(ctx, `
		select wanted.n, c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
			rn.nspname::text, rc.relname::text, c.relkind = 'r' and c.relhassubclass
		from unnest($1::text[], $2::text[]) with ordinality wanted(schema, name, n)
		join pg_catalog.pg_class c on c.relname = wanted.name and c.relkind in ('r', 'p', 'v', 'm', 'f')
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		left join pg_catalog.pg_class rc on c.relispartition and rc.oid = pg_partition_root(c.oid)
		left join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace
		where case when wanted.schema = '' then c.oid = `+Found("wanted.name")+` else n.nspname = wanted.schema end`, schemas, relations)
	_, err := pgx.ForEachRow(rows, []any{&n, &class.OID, &class.Schema, &class.Name, &kind, &persistence, &identity, &rootSchema, &rootName, &inherited}, func() error {
		t := l.byOID[class.OID]
		if t == nil {
			relation := class
			relation.ReplicaIdentity = identity[0]
			t = &Table{
				Relation: &relation, Kind: kind[0], Persistence: persistence[0], Inherited: inherited,
				Generated: map[string]string{}, Collations: map[string]Collation{}, NotNull: map[string]bool{}, Storage: map[string]string{},
			}
			if rootSchema != nil && rootName != nil {
				t.PartitionRoot = Name{*rootSchema, *rootName}
			}
			l.byOID[class.OID] = t
		}
		l.found[n-1] = t
		return nil
	})
	return err
}

// loadKeys reads the primary keys and returns the columns of the replica identities that are indexes.
func (l *tableLoader) loadKeys(ctx context.Context) (map[uint32][]string, error) {
	keys := map[uint32][]string{}
	var oid uint32
	var primary, identity, immediate bool // a deferrable primary key is no replica identity
	var columns []string
	err := l.each(ctx, `
		select i.indrelid, i.indisprimary, i.indisreplident, i.indimmediate, array_agg(`+l.encoding.SQL("a.attname::text")+` order by k.n)
		from pg_catalog.pg_index i
		cross join unnest(i.indkey::int2[]) with ordinality k(attnum, n)
		join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
		where i.indrelid = any($1) and (i.indisprimary or i.indisreplident) and k.n <= i.indnkeyatts
		group by i.indrelid, i.indexrelid, i.indisprimary, i.indisreplident, i.indimmediate`,
		[]any{&oid, &primary, &identity, &immediate, &columns}, func() {
			t := l.byOID[oid]
			if primary {
				t.PrimaryKey = slices.Clone(columns)
			}
			if primary && immediate && t.Relation.ReplicaIdentity == 'd' || identity && t.Relation.ReplicaIdentity == 'i' {
				keys[oid] = slices.Clone(columns)
			}
		})
	return keys, err
}

// columnNotNull is SQL: whether no row has null in column a of pg_attribute. A constraint that is
// NOT VALID (since PostgreSQL 18) sets attnotnull, too, and says nothing of the rows before it.
const columnNotNull = `(a.attnotnull and not exists (select from pg_catalog.pg_constraint n
				where n.conrelid = a.attrelid and n.contype = 'n' and n.conkey = array[a.attnum] and not n.convalidated))`

func (l *tableLoader) loadColumns(ctx context.Context) error {
	keys, err := l.loadKeys(ctx)
	if err != nil {
		return err
	}
	var relation, oid uint32
	var column Column
	var generated, notNull bool
	var collation Collation
	types := map[uint32][]uint32{} // of the columns, by table
	formulas := map[uint32]bool{}
	err = l.each(ctx, `
		select a.attrelid, `+l.encoding.SQL("a.attname::text")+`, a.atttypid, a.atttypmod, a.attgenerated <> '',
			coalesce(co.collnamespace::regnamespace::text, ''), coalesce(co.collname::text, ''), coalesce(co.collisdeterministic, true),
			`+columnNotNull+`
		from pg_catalog.pg_attribute a
		left join pg_catalog.pg_collation co on co.oid = a.attcollation and co.collprovider <> 'd'
		where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped order by a.attrelid, a.attnum`,
		[]any{&relation, &column.Name, &oid, &column.TypeMod, &generated, &collation.Schema, &collation.Name, &collation.Deterministic, &notNull}, func() {
			t := l.byOID[relation]
			if notNull {
				t.NotNull[column.Name] = true
			}
			if collation.Name != "" {
				t.Collations[column.Name] = collation
			}
			if generated {
				formulas[relation] = true
				return
			}
			column.Key = t.Relation.ReplicaIdentity == 'f' || slices.Contains(keys[relation], column.Name)
			t.Relation.Columns = append(t.Relation.Columns, column)
			types[relation] = append(types[relation], oid)
		})
	for _, oid := range slices.Sorted(maps.Keys(formulas)) {
		if err == nil {
			err = loadFormulas(ctx, l.conn, l.encoding, l.byOID[oid])
		}
	}
	if err == nil {
		err = l.types.Load(ctx, l.conn, slices.Compact(slices.Sorted(slices.Values(slices.Concat(slices.Collect(maps.Values(types))...))))...)
	}
	if err != nil {
		return err
	}
	for oid, t := range l.byOID {
		for i := range t.Relation.Columns {
			t.Relation.Columns[i].Type = l.types.Lookup(types[oid][i])
		}
	}
	return nil
}

// loadStorage reads how the tables, and their partitions, which have their own settings,
// store values, where it is not as for their types.
func (l *tableLoader) loadStorage(ctx context.Context) error {
	var oid uint32
	var column, strategy string
	var target int
	return l.each(ctx, `
		with recursive part(root, oid) as (
			select oid, oid from unnest($1::oid[]) wanted(oid)
			union all
			select part.root, i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.oid
			join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition)
		select p.root, `+l.encoding.SQL("a.attname::text")+`, a.attstorage::text, 0
		from part p join pg_catalog.pg_attribute a on a.attrelid = p.oid join pg_catalog.pg_type t on t.oid = a.atttypid
		where a.attnum > 0 and not a.attisdropped and a.attstorage <> t.typstorage
		union
		select p.root, '', '', o.option_value::int
		from part p join pg_catalog.pg_class c on c.oid = p.oid cross join pg_catalog.pg_options_to_table(c.reloptions) o where o.option_name = 'toast_tuple_target'`,
		[]any{&oid, &column, &strategy, &target}, func() {
			t := l.byOID[oid]
			if column == "" {
				if t.ToastTarget == 0 || target < t.ToastTarget {
					t.ToastTarget = target
				}
				return
			}
			t.Storage[column] += strategy
		})
}

// loadChecks reads the CHECK constraints that hold for all rows. A constraint's definition
// is printed without opening its table, for which pg_get_expr would wait.
func (l *tableLoader) loadChecks(ctx context.Context) error {
	var oid uint32
	var column, name, condition string
	return l.each(ctx, `
		with recursive of(attrelid, attname, typ) as (
			select a.attrelid, a.attname, a.atttypid from pg_catalog.pg_attribute a where a.attrelid = any($1) and a.attnum > 0 and not a.attisdropped
			union all select of.attrelid, of.attname, t.typbasetype from of join pg_catalog.pg_type t on t.oid = of.typ where t.typtype = 'd')
		select conrelid, '', conname::text, `+l.encoding.SQL("pg_get_constraintdef(oid)")+` from pg_catalog.pg_constraint where conrelid = any($1) and contype = 'c' and convalidated
		union all select of.attrelid, `+l.encoding.SQL("of.attname::text")+`, conname::text, `+l.encoding.SQL("pg_get_expr(conbin, 0)")+`
		from of join pg_catalog.pg_constraint on contypid = of.typ where contype = 'c' and convalidated order by 1, 2, 3`,
		[]any{&oid, &column, &name, &condition}, func() {
			t := l.byOID[oid]
			if column == "" {
				condition = strings.TrimSuffix(strings.TrimPrefix(condition, "CHECK ("), " NO INHERIT")
				t.Checks = append(t.Checks, strings.TrimSuffix(condition, ")"))
				return
			}
			if t.DomainChecks == nil {
				t.DomainChecks = map[string][]string{}
			}
			t.DomainChecks[column] = append(t.DomainChecks[column], condition)
		})
}

// loadRefused finds what PostgreSQL would refuse if all were in a publication of Gancho.
func (l *tableLoader) loadRefused(ctx context.Context) error {
	would := publication{viaRoot: true, stored: serverVersion(l.conn) >= 180000, ops: operations{true, true, true, true}}
	refused, err := refusals(ctx, l.conn, l.encoding, would, slices.Collect(maps.Values(l.byOID)), identities{})
	for oid, t := range l.byOID {
		t.Refused = refused[oid]
	}
	return err
}

// loadWeak finds the partitions whose replica identity covers less than their table's.
func (l *tableLoader) loadWeak(ctx context.Context) error {
	var roots []uint32
	var names []string
	for _, oid := range l.oids {
		if t := l.byOID[oid]; t.Kind == 'p' {
			for _, c := range t.Relation.Columns {
				if c.Key {
					roots, names = append(roots, oid), append(names, l.encoding.Encode(c.Name))
				}
			}
		}
	}
	if len(roots) == 0 {
		return nil
	}
	var root uint32
	var part WeakPartition
	rows, _ := l.conn.Query(ctx, `
		with recursive part(root, oid) as (
			select distinct oid, oid from unnest($1::oid[]) wanted(oid)
			union all
			select part.root, i.inhrelid from part join pg_catalog.pg_inherits i on i.inhparent = part.oid
			join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition)
		select p.root, `+l.encoding.SQL("n.nspname::text")+`, `+l.encoding.SQL("c.relname::text")+`, array_agg(`+l.encoding.SQL("k.name")+` order by k.n)
		from part p join pg_catalog.pg_class c on c.oid = p.oid and c.relkind = 'r' and c.relreplident <> 'f' join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		join unnest($1::oid[], $2::text[]) with ordinality k(root, name, n) on k.root = p.root
		where not exists (
			select from pg_catalog.pg_index i join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
			where i.indrelid = c.oid and a.attname::text = k.name and case c.relreplident when 'd' then i.indisprimary and i.indimmediate when 'i' then i.indisreplident end)
		group by p.root, n.nspname, c.relname order by p.root, n.nspname, c.relname`, roots, names) // ForEachRow returns its error
	_, err := pgx.ForEachRow(rows, []any{&root, &part.Name.Schema, &part.Name.Name, &part.Lacks}, func() error {
		l.byOID[root].Weak = append(l.byOID[root].Weak, WeakPartition{part.Name, slices.Clone(part.Lacks)})
		return nil
	})
	return err
}

func (l *tableLoader) loadMemberships(ctx context.Context) error {
	found, err := loadMemberships(ctx, l.conn, l.encoding, "select unnest($1::oid[])", l.oids)
	for oid, t := range l.byOID {
		t.Memberships = found[oid]
	}
	return err
}
