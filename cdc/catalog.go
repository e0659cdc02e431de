package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Table is what the catalogue says about a table that a rule names.
type Table struct {
	// Relation is the table as the stream will describe it when all its
	// columns are published: without dropped and without generated columns.
	Relation *Relation
	// Kind is pg_class.relkind: r table, p partitioned table, v view,
	// m materialized view, f foreign table.
	Kind byte
	// Persistence is pg_class.relpersistence: p permanent, u unlogged, t temporary.
	Persistence byte
	// PrimaryKey is its columns in the order of the key, nil without one.
	PrimaryKey []string
	// Generated are the generated columns with their formulas as PostgreSQL
	// prints them. The stream does not carry them before PostgreSQL 18, nor
	// there unless the publication says so.
	Generated map[string]string
	// Collations are those of the columns that have another than the database's.
	Collations map[string]Collation
	// NotNull are the columns that no row of the table has null.
	NotNull map[string]bool
	// Checks are the conditions of CHECK constraints that every row fulfils, or leaves null,
	// as PostgreSQL prints them.
	Checks []string
	// DomainChecks are those of the columns' domains, which name the column's value VALUE.
	DomainChecks map[string][]string
	// PartitionRoot is the topmost table of which this is a partition, else
	// the zero Name. Under publish_via_partition_root the stream knows only the root.
	PartitionRoot Name
	// Refused says of which tables, this one or its partitions, PostgreSQL would
	// refuse an UPDATE or DELETE if Gancho published those of this one. Empty:
	// publishing them is safe. A partitioned table needs a primary key for that,
	// because its next partition inherits no other identity.
	Refused []Hazard
	// Inherited: other tables, which are not partitions, inherit from it. Their
	// changes arrive under their own names.
	Inherited bool
	// Memberships are the publications that have the table, by name.
	Memberships []Membership
}

// Collation is a column's own collation.
type Collation struct {
	Schema, Name string // pg_collation.collname
	// Deterministic: texts are equal only if their bytes are.
	Deterministic bool
}

// Settings are facts about the source's server and database.
type Settings struct {
	Version          int // server_version_num, 150004 for 15.4
	Encoding         string
	Collation, Ctype string
	WALLevel         string
	Standby          bool // the server is one, and can be read from 16 on
	// MoneyDigits is the number of decimal digits of money under the
	// database's lc_monetary. The stream prints money under lc_monetary C,
	// which has 2; where this is another number the point stands elsewhere.
	MoneyDigits int
}

// LoadSettings reads the settings of the connection's database.
func LoadSettings(ctx context.Context, conn *pgx.Conn) (Settings, error) {
	var s Settings
	err := conn.QueryRow(ctx, `
		select current_setting('server_version_num')::int, pg_encoding_to_char(encoding), datcollate::text, datctype::text,
			current_setting('wal_level'), pg_is_in_recovery(), scale(1::money::numeric)
		from pg_catalog.pg_database where datname = current_database()`).
		Scan(&s.Version, &s.Encoding, &s.Collation, &s.Ctype, &s.WALLevel, &s.Standby, &s.MoneyDigits)
	if err != nil {
		return s, fmt.Errorf("read settings of the source: %w", err)
	}
	return s, nil
}

// PartitionTree is an SQL subquery: the table whose oid the expression root is, and its
// partitions, as rows of oid and level, 0 of the table itself. Unlike
// pg_partition_tree it locks none of them.
func PartitionTree(root string) string {
	return `(with recursive tree(oid, level) as (
			select ` + root + `, 0
			union all
			select i.inhrelid, tree.level + 1 from tree join pg_catalog.pg_inherits i on i.inhparent = tree.oid
			join pg_catalog.pg_class part on part.oid = i.inhrelid and part.relispartition)
		select oid, level from tree)`
}

// PartitionKey returns the columns by which a partitioned table, or a partition of it
// that is partitioned itself, is partitioned. Columns within expressions are left out.
func PartitionKey(ctx context.Context, conn *pgx.Conn, encoding Encoding, t *Table) ([]string, error) {
	rows, _ := conn.Query(ctx, `
		select distinct `+encoding.sql("a.attname::text")+`
		from `+PartitionTree("$1::oid")+` tree join pg_catalog.pg_partitioned_table p on p.partrelid = tree.oid
		join pg_catalog.pg_attribute a on a.attrelid = p.partrelid and a.attnum = any(p.partattrs::int2[]) order by 1`, t.Relation.OID)
	columns, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read partition key of %s: %w", t.Relation.TableName(), unreadable(err))
	}
	return columns, nil
}

// ListTables returns all tables and views outside PostgreSQL's own schemas, in
// order, for suggesting a close name. The catalogue's names have the encoding.
func ListTables(ctx context.Context, conn *pgx.Conn, encoding Encoding) ([]Name, error) {
	rows, _ := conn.Query(ctx, `
		select `+encoding.sql("n.nspname::text")+`, `+encoding.sql("c.relname::text")+`
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
		order by 1, 2`) // CollectRows returns its error, here and elsewhere
	names, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", unreadable(err))
	}
	return names, nil
}

// LoadTable reads a table or view from the catalogue, whose names have the encoding. Without a schema, it is
// the first of the name along DatabasePath. The error wraps
// [ErrNoTable] when it does not exist.
func LoadTable(ctx context.Context, conn *pgx.Conn, encoding Encoding, schema, name string) (*Table, error) {
	return loadTable(ctx, conn, NewTypes(encoding), Name{schema, name})
}

func loadTable(ctx context.Context, conn *pgx.Conn, types *Types, name Name) (*Table, error) {
	t, err := loadClass(ctx, conn, name)
	if err == nil {
		err = loadColumns(ctx, conn, types, t)
	}
	if err == nil {
		err = loadChecks(ctx, conn, types.encoding, t)
	}
	if err == nil {
		would := publication{viaRoot: true, stored: serverVersion(conn) >= 180000, ops: operations{true, true, true, true}}
		t.Refused, err = refusals(ctx, conn, types.encoding, would, t, identities{})
	}
	if err == nil {
		t.Memberships, err = loadMemberships(ctx, conn, types.encoding, t.Relation.TableName())
	}
	if err != nil {
		return nil, fmt.Errorf("read table %s: %w", name, err)
	}
	return t, nil
}

func loadClass(ctx context.Context, conn *pgx.Conn, name Name) (*Table, error) {
	t := &Table{Relation: &Relation{}, Generated: map[string]string{}, Collations: map[string]Collation{}, NotNull: map[string]bool{}}
	var kind, persistence, identity string
	var rootSchema, rootName *string
	err := conn.QueryRow(ctx, `
		select c.oid, n.nspname::text, c.relname::text, c.relkind::text, c.relpersistence::text, c.relreplident::text,
			rn.nspname::text, rc.relname::text, c.relkind = 'r' and c.relhassubclass
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		left join pg_catalog.pg_class rc on c.relispartition and rc.oid = pg_partition_root(c.oid)
		left join pg_catalog.pg_namespace rn on rn.oid = rc.relnamespace
		where c.relname = $2 and c.relkind in ('r', 'p', 'v', 'm', 'f')
			and case when $1 = '' then c.oid = `+Found("$2")+` else n.nspname = $1 end`, name.Schema, name.Name).
		Scan(&t.Relation.OID, &t.Relation.Schema, &t.Relation.Name, &kind, &persistence, &identity, &rootSchema, &rootName, &t.Inherited)
	if errors.Is(err, pgx.ErrNoRows) {
		return nil, ErrNoTable
	}
	if err != nil {
		return nil, err
	}
	t.Kind, t.Persistence, t.Relation.ReplicaIdentity = kind[0], persistence[0], identity[0]
	if rootSchema != nil && rootName != nil {
		t.PartitionRoot = Name{*rootSchema, *rootName}
	}
	return t, nil
}

// loadKeys reads the primary key into t and returns the columns of the replica identity.
func loadKeys(ctx context.Context, conn *pgx.Conn, e Encoding, t *Table) ([]string, error) {
	rows, _ := conn.Query(ctx, `
		select i.indisprimary, i.indisreplident, i.indimmediate, array_agg(`+e.sql("a.attname::text")+` order by k.n)
		from pg_catalog.pg_index i
		cross join unnest(i.indkey::int2[]) with ordinality k(attnum, n)
		join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum
		where i.indrelid = $1 and (i.indisprimary or i.indisreplident) and k.n <= i.indnkeyatts
		group by i.indexrelid, i.indisprimary, i.indisreplident, i.indimmediate`, t.Relation.OID)
	var primary, identity, immediate bool // a deferrable primary key is no replica identity
	var columns, keys []string
	_, err := pgx.ForEachRow(rows, []any{&primary, &identity, &immediate, &columns}, func() error {
		if primary {
			t.PrimaryKey = slices.Clone(columns)
		}
		if primary && immediate && t.Relation.ReplicaIdentity == 'd' || identity && t.Relation.ReplicaIdentity == 'i' {
			keys = slices.Clone(columns)
		}
		return nil
	})
	return keys, err
}

// columnNotNull is SQL: whether no row has null in column a of pg_attribute. A constraint that is
// NOT VALID (since PostgreSQL 18) sets attnotnull, too, and says nothing of the rows before it.
const columnNotNull = `(a.attnotnull and not exists (select from pg_catalog.pg_constraint n
				where n.conrelid = a.attrelid and n.contype = 'n' and n.conkey = array[a.attnum] and not n.convalidated))`

func loadColumns(ctx context.Context, conn *pgx.Conn, types *Types, t *Table) error {
	keys, err := loadKeys(ctx, conn, types.encoding, t)
	if err != nil {
		return err
	}
	rows, _ := conn.Query(ctx, `
		select `+types.encoding.sql("a.attname::text")+`, a.atttypid, a.atttypmod, a.attgenerated <> '',
			coalesce(co.collnamespace::regnamespace::text, ''), coalesce(co.collname::text, ''), coalesce(co.collisdeterministic, true),
			`+columnNotNull+`
		from pg_catalog.pg_attribute a
		left join pg_catalog.pg_collation co on co.oid = a.attcollation and co.collprovider <> 'd'
		where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped order by a.attnum`, t.Relation.OID)
	var column Column
	var oid uint32
	var generated, anyGenerated bool
	var oids []uint32
	var collation Collation
	var notNull bool
	_, err = pgx.ForEachRow(rows, []any{&column.Name, &oid, &column.TypeMod, &generated, &collation.Schema, &collation.Name, &collation.Deterministic, &notNull}, func() error {
		if notNull {
			t.NotNull[column.Name] = true
		}
		if collation.Name != "" {
			t.Collations[column.Name] = collation
		}
		if generated {
			anyGenerated = true
			return nil
		}
		column.Key = t.Relation.ReplicaIdentity == 'f' || slices.Contains(keys, column.Name)
		t.Relation.Columns = append(t.Relation.Columns, column)
		oids = append(oids, oid)
		return nil
	})
	if err == nil && anyGenerated {
		err = loadFormulas(ctx, conn, types.encoding, t)
	}
	if err != nil {
		return unreadable(err)
	}
	if err := types.Load(ctx, conn, slices.Compact(slices.Sorted(slices.Values(oids)))...); err != nil {
		return err
	}
	for i := range t.Relation.Columns {
		t.Relation.Columns[i].Type = types.Lookup(oids[i])
	}
	return nil
}

// loadChecks reads the CHECK constraints that hold for all rows. A constraint's definition
// is printed without opening its table, for which pg_get_expr would wait.
func loadChecks(ctx context.Context, conn *pgx.Conn, e Encoding, t *Table) error {
	rows, _ := conn.Query(ctx, `
		with recursive of(attname, typ) as (
			select a.attname, a.atttypid from pg_catalog.pg_attribute a where a.attrelid = $1 and a.attnum > 0 and not a.attisdropped
			union all select of.attname, t.typbasetype from of join pg_catalog.pg_type t on t.oid = of.typ where t.typtype = 'd')
		select '', conname::text, `+e.sql("pg_get_constraintdef(oid)")+` from pg_catalog.pg_constraint where conrelid = $1 and contype = 'c' and convalidated
		union all select `+e.sql("of.attname::text")+`, conname::text, `+e.sql("pg_get_expr(conbin, 0)")+`
		from of join pg_catalog.pg_constraint on contypid = of.typ where contype = 'c' and convalidated order by 1, 2`, t.Relation.OID)
	var column, name, condition string
	_, err := pgx.ForEachRow(rows, []any{&column, &name, &condition}, func() error {
		if column == "" {
			condition = strings.TrimSuffix(strings.TrimPrefix(condition, "CHECK ("), " NO INHERIT")
			condition = strings.TrimSuffix(condition, ")")
			t.Checks = append(t.Checks, condition)
			return nil
		}
		if t.DomainChecks == nil {
			t.DomainChecks = map[string][]string{}
		}
		t.DomainChecks[column] = append(t.DomainChecks[column], condition)
		return nil
	})
	if err != nil {
		return unreadable(err)
	}
	return nil
}
