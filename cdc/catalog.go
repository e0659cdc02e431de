package cdc

import (
	"context"
	"fmt"

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
	// Storage are the strategies (pg_attribute.attstorage: p plain, m main, e external, x extended)
	// that columns have, here or in a partition, and that are not those of their types.
	Storage map[string]string
	// ToastTarget is the smallest toast_tuple_target, in bytes, of the table and its partitions;
	// 0: none of them has one.
	ToastTarget int
	// PartitionRoot is the topmost table of which this is a partition, else
	// the zero Name. Under publish_via_partition_root the stream knows only the root.
	PartitionRoot Name
	// Refused says of which tables, this one or its partitions, PostgreSQL would
	// refuse an UPDATE or DELETE if Gancho published those of this one. Empty:
	// publishing them is safe. A partitioned table needs a primary key for that,
	// because its next partition inherits no other identity.
	Refused []Hazard
	// Weak are the partitions whose replica identity covers less than the table's own, by name.
	Weak []WeakPartition
	// Inherited: other tables, which are not partitions, inherit from it. Their
	// changes arrive under their own names.
	Inherited bool
	// Memberships are the publications that have the table, by name.
	Memberships []Membership
}

// WeakPartition is a partition whose old rows come without columns that its table's replica identity has.
type WeakPartition struct {
	Name  Name
	Lacks []string
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
		select distinct `+encoding.SQL("a.attname::text")+`
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
		select `+encoding.SQL("n.nspname::text")+`, `+encoding.SQL("c.relname::text")+`
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind in ('r', 'p', 'v', 'm', 'f') and n.nspname <> 'information_schema' and n.nspname !~ '^pg_'
		order by 1, 2`) // CollectRows returns its error, here and elsewhere
	names, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Name])
	if err != nil {
		return nil, fmt.Errorf("list tables: %w", unreadable(err))
	}
	return names, nil
}
