package cdc

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// A table can leave the stream while it is read, and the stream does not say so:
// it is dropped and created again, renamed away, moved to another schema, made a
// partition of another table or taken out of the publication, or the publication
// is narrowed. The catalogue does.

// Coverage is whether the stream carries what rules need of a table, by the
// catalogue.
type Coverage struct {
	Table Name
	OID   uint32 // 0: it does not exist
	// Missing is why the stream lacks changes that the rules need, and Fix what
	// to do about it; both are "" when it lacks none.
	Missing, Fix string
	// Places identify the table in each of Gancho's publications that has it. One is
	// another text when the table was created again, or was taken out and added again.
	Places []string
	// Whole and Listed are whether the publication of everything has it with all tables, of
	// the database or of a schema, or by its name.
	Whole, Listed bool
	// Filter says that there are row filters, "" without any. (A column list shows in the
	// stream.) FilterID is another text for others.
	Filter, FilterID string
}

// Coverages are those of several tables at one time.
type Coverages struct {
	// Current is the end of the server's WAL right after the catalogue was read.
	Current LSN
	Tables  []Coverage // in the order of the needs
	// Publication is the OID of the publication of everything, 0 if it does not exist.
	Publication uint32
	// Types is another text when the catalogue says something else about a type
	// that was asked for, or about an enum, and Identities when it does about the
	// replica identity of a partition of one of the tables.
	Types, Identities string
}

// ReadCoverage reads how Gancho's publications carry the needs, whose names have
// schemas, and how the composite types with these OIDs are defined. It runs one
// statement.
func ReadCoverage(ctx context.Context, conn *pgx.Conn, o Options, needs []TableNeed, composites []uint32) (Coverages, error) {
	var schemas, names []string
	for _, n := range needs {
		schemas, names = append(schemas, n.Schema), append(names, n.Name)
	}
	version := serverVersion(conn)
	rows, _ := conn.Query(ctx, `
		with wanted (n, oid, partitioned, is_partition) as materialized (
			select w.n, c.oid, c.relkind = 'p', c.relispartition from unnest($1::text[], $2::text[]) with ordinality w(schema, name, n)
			left join pg_catalog.pg_namespace s on s.nspname = w.schema
			left join pg_catalog.pg_class c on c.relnamespace = s.oid and c.relname = w.name
		), members as materialized (
			select m.*, `+o.Encoding.SQL("format('%I.%I', n.nspname, c.relname)")+` as tablename
			from `+o.Encoding.memberships(version, "select oid from wanted union select a.relid from wanted w, pg_catalog.pg_partition_ancestors(w.oid) a where w.is_partition")+` m
			join pg_catalog.pg_class c on c.oid = m.relid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
			where m.name = any($3))
		select coalesce(c.oid, 0), coalesce(case when c.is_partition then (select min(m.tablename) from pg_catalog.pg_partition_ancestors(c.oid) a
				join members m on m.relid = a.relid where m.viaroot and m.relid <> c.oid) end, ''),
			coalesce((select jsonb_agg(jsonb_build_object('Publication', m.name, 'Insert', m.ins, 'Update', m.upd, 'Delete', m.del, 'Truncate', m.tru,
					'FilterOn', m.filtered, 'Filter', m.filter, 'Place', coalesce(m.relid || '/' || m.entry, '')) order by m.name)
				from members m where m.relid = c.oid), '[]')::text,
			(select hashtextextended(coalesce((select string_agg(format('%s %s %s', e.enumtypid, e.enumsortorder, e.enumlabel), ',' order by e.oid)
					from pg_catalog.pg_enum e), '') || coalesce((select string_agg(format('%s %s %s %s', t.oid, a.attnum, a.attname, a.atttypid), ',' order by t.oid, a.attnum)
					from pg_catalog.pg_type t join pg_catalog.pg_attribute a on a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped
					where t.oid = any($4::oid[])), ''), 0))::text,
			coalesce(case when c.partitioned then (select hashtextextended(string_agg(format('%s %s', pc.oid, pc.relreplident), ',' order by pc.oid), 0)
				from `+PartitionTree("c.oid")+` p join pg_catalog.pg_class pc on pc.oid = p.oid where p.level > 0) end, 0)::text,
			coalesce((select oid from pg_catalog.pg_publication where pubname = $5), 0),
			(select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end)
		from wanted c order by c.n`, schemas, names, []string{o.Publication, o.insertPublication()}, composites, o.Publication)
	var c Coverages
	var oid uint32
	var root, members, identities string
	_, err := pgx.ForEachRow(rows, []any{&oid, &root, &members, &c.Types, &identities, &c.Publication, &c.Current}, func() error {
		var in []placed
		if err := json.Unmarshal([]byte(members), &in); err != nil {
			return err
		}
		c.Identities += identities + " "
		c.Tables = append(c.Tables, o.coverage(needs[len(c.Tables)], oid, root, in))
		return nil
	})
	if err != nil {
		return c, fmt.Errorf("read which tables the publications have: %w", unreadable(err))
	}
	return c, nil
}

// Coverage is [ReadCoverage] over the watch's connection.
func (w *CatalogWatch) Coverage(ctx context.Context, needs []TableNeed, composites []uint32) (c Coverages, err error) {
	err = w.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		c, err = ReadCoverage(ctx, conn, w.options, needs, composites)
		return err
	})
	return c, err
}

// placed is a membership with the OIDs of the table and of its entry; "" in a
// publication that has tables by other means than their names.
type placed struct {
	Membership
	Place            string
	FilterOn, Filter string // its columns, and what differs for another one
}

// coverage compares the memberships of a table with what is needed of it. root is
// the published table of which it is a partition.
func (o Options) coverage(need TableNeed, oid uint32, root string, in []placed) Coverage {
	c := Coverage{Table: Name{need.Schema, need.Name}, OID: oid}
	var have operations
	var filters, ids []string
	for _, m := range in {
		have = have.or(operations{m.Insert, m.Update, m.Delete, m.Truncate})
		c.Places = append(c.Places, m.Publication+" "+m.Place)
		if m.Publication == o.Publication {
			c.Whole, c.Listed = m.Place == "", m.Place != ""
		}
		if m.Filter != "" {
			filters, ids = append(filters, rowFilter(m.Publication, m.FilterOn)), append(ids, m.Filter)
		}
	}
	c.Filter, c.FilterID = strings.Join(filters, "; "), strings.Join(ids, " ")
	lacking := operations{need.Insert, need.Update, need.Delete, need.Truncate}.without(have)
	// In the wrong publication the application's own UPDATE would fail. Which is the
	// right one, the whole check decides: see preparation.place.
	const check = "run gancho check, which prints how"
	switch {
	case oid == 0:
		c.Missing, c.Fix = "it does not exist any more", "create it and publish it ("+check+"), or remove its rules"
	case root != "":
		c.Missing, c.Fix = fmt.Sprintf("it is a partition of %s, under whose name its changes are published", root), fmt.Sprintf("write its rules on %s", root)
	case len(in) == 0:
		c.Missing, c.Fix = fmt.Sprintf("it is not in publication %s or %s", QuoteIdentifier(o.Publication), QuoteIdentifier(o.insertPublication())), "publish it ("+check+")"
	case lacking != operations{}:
		names := make([]string, len(in))
		for i, m := range in {
			names[i] = QuoteIdentifier(m.Publication)
		}
		c.Missing = fmt.Sprintf("publication %s does not publish its %s", strings.Join(slices.Compact(names), " and "), lacking)
		c.Fix = "publish that as well (" + check + ")"
	}
	return c
}
