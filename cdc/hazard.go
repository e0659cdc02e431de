package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Hazard is something about a table of Gancho's publications that hurts without
// an error here: PostgreSQL refuses the application's own UPDATE or DELETE of it,
// or its rows are not in the stream.
type Hazard struct {
	// Table holds the rows: the table of a rule, a partition or a child of it.
	Table  Name
	Reason HazardReason
	// Publication is the one that has the reason. It may be another tool's: all
	// publications of a database count.
	Publication string
	// Update, Delete: which statements are refused. None for a table whose rows
	// are not in the stream.
	Update, Delete bool
	// Columns are those that the reason is about.
	Columns []string

	parent Name // whose child the table is
	full   bool // the table has REPLICA IDENTITY FULL
	keyed  bool // it has a primary key that can be its replica identity
	// fullIsSafe, defaultIsSafe: REPLICA IDENTITY FULL, or DEFAULT, would make no
	// statement of it fail.
	fullIsSafe, defaultIsSafe bool
	virtual                   bool   // Columns can be in no publication
	foreign                   bool   // Publication is not Gancho's
	of                        uint32 // the table that was asked about: Table, or one of which it is a partition
}

// HazardReason is why a statement is refused, or rows are not in the stream.
type HazardReason string

// PostgreSQL refuses statements for the first four (CheckCmdReplicaIdentity in
// its source). The rows of a table with one of the others are not in the stream.
const (
	HazardIdentity  HazardReason = "identity"  // it has no replica identity
	HazardGenerated HazardReason = "generated" // the identity has generated columns that are not published (18 and newer)
	HazardColumns   HazardReason = "columns"   // the column list lacks columns of the identity (15 and newer)
	HazardFilter    HazardReason = "filter"    // the row filter uses columns outside of the identity (15 and newer)

	HazardUnlogged HazardReason = "unlogged" // a partition that is not in the WAL
	HazardForeign  HazardReason = "foreign"  // a partition that another server holds
	HazardChild    HazardReason = "child"    // it inherits from a table of the publications, and is in none of them
	HazardAlone    HazardReason = "alone"    // it inherits from a table whose rules do not apply to it
)

// RefusesStatements reports whether the application's statements fail.
func (h *Hazard) RefusesStatements() bool { return h.Update || h.Delete }

// Publishable reports whether the publication need only publish stored generated
// columns (18 and newer) for the reason to go.
func (h *Hazard) Publishable() bool { return h.Reason == HazardGenerated && !h.virtual }

// String says what happens and why.
func (h *Hazard) String() string {
	switch h.Reason {
	case HazardUnlogged:
		return fmt.Sprintf("%s, a part of %s, is unlogged: its rows are not in the WAL and make no events", h.Table, h.parent)
	case HazardForeign:
		return fmt.Sprintf("%s, a part of %s, is a foreign table: its rows are not in this server's WAL and make no events", h.Table, h.parent)
	case HazardChild:
		return fmt.Sprintf("%s inherits from %s and was not there when the rules were loaded, or is in no publication of gancho: its rows make no events", h.Table, h.parent)
	case HazardAlone:
		return fmt.Sprintf("%s inherits from %s, and the rules there are of one table (children, collapse, root_only): its rows make no events", h.Table, h.parent)
	}
	return fmt.Sprintf("PostgreSQL refuses the application's %s of %s, because publication %s publishes the table and %s", h.statements(), h.Table, QuoteIdentifier(h.Publication), h.Why())
}

// Why is the reason for which PostgreSQL refuses statements, in words that
// follow the publication's name.
func (h *Hazard) Why() string {
	columns := strings.Join(quoteIdentifiers(h.Columns), ", ")
	switch {
	case h.Reason == HazardGenerated && !h.Publishable():
		return fmt.Sprintf("its replica identity covers virtual generated columns, which cannot be published (%s)", columns)
	case h.Reason == HazardGenerated:
		return fmt.Sprintf("its replica identity covers generated columns, which the publication leaves out (%s)", columns)
	case h.Reason == HazardColumns && h.full:
		return "its column list there cannot cover REPLICA IDENTITY FULL"
	case h.Reason == HazardColumns:
		return fmt.Sprintf("its column list there lacks columns of the replica identity (%s)", columns)
	case h.Reason == HazardFilter:
		return fmt.Sprintf("its row filter there uses columns outside of the replica identity (%s)", columns)
	}
	return "it has no replica identity"
}

// statements are those that fail.
func (h *Hazard) statements() string {
	switch {
	case h.Update && h.Delete:
		return "UPDATE and DELETE"
	case h.Update:
		return "UPDATE"
	}
	return "DELETE"
}

// Finding is the hazard with what to do about it: statements, each safe in itself, or an
// edit. A choice that costs another tool something stays in words.
func (h *Hazard) Finding() Finding {
	f := Finding{ID: "rows.unseen." + string(h.Reason), Severity: SeverityWarning, Title: h.String(), Where: "source"}
	if h.RefusesStatements() {
		f.ID, f.Severity = "application.refused."+string(h.Reason), SeverityProblem
	}
	f.Statements, f.Remedy = h.remedy()
	return f
}

// Fix is what to do, in one line.
func (h *Hazard) Fix() string {
	f := h.Finding()
	return f.Fix()
}

func (h *Hazard) remedy() ([]Statement, string) {
	publication := QuoteIdentifier(h.Publication)
	switch h.Reason {
	case HazardUnlogged:
		return []Statement{SetLogged(h.Table)}, "or ignore this if its rows do not matter"
	case HazardForeign:
		return nil, "write a rule in the database that holds it, or ignore this if its rows do not change"
	case HazardChild:
		return nil, fmt.Sprintf("run ALTER PUBLICATION ... ADD TABLE ONLY %s, as gancho check says, then restart gancho (SIGHUP reloads the rules); or restart it with gancho run --create; rows from before are not read", h.Table)
	case HazardAlone:
		return nil, fmt.Sprintf("write rules for %s, or ignore this if its rows do not matter", h.Table)
	case HazardGenerated:
		publish := strings.TrimSuffix(PublishGenerated(h.Publication).SQL, ";")
		switch {
		case h.Publishable() && !h.foreign:
			return []Statement{PublishGenerated(h.Publication)}, ""
		case h.Publishable() && h.full && h.defaultIsSafe:
			return nil, fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY DEFAULT ends it, and rules then have no old values; so does %s, and the subscribers of that publication, another tool's, then get the generated columns of all its tables, and fail where theirs do not have them as ordinary ones", h.Table, publish)
		case h.Publishable():
			return nil, fmt.Sprintf("%s ends it, but the subscribers of that publication, another tool's, then get the generated columns of all its tables, and fail where theirs do not have them as ordinary ones", publish)
		}
	case HazardColumns:
		switch {
		case !h.full:
			return nil, fmt.Sprintf("add them to the table's column list in publication %s", publication)
		case !h.defaultIsSafe:
			return nil, fmt.Sprintf("publish the table without a column list in publication %s", publication)
		}
	}
	switch {
	case h.keyed && h.defaultIsSafe && (h.full || h.Reason == HazardIdentity):
		return []Statement{identityStatement(h.Table, "DEFAULT")}, ""
	case h.fullIsSafe:
		return []Statement{IdentityFull(h.Table)}, ""
	case h.full || h.Reason == HazardIdentity:
		return nil, fmt.Sprintf("add a primary key, which must not be deferrable, and run ALTER TABLE %s REPLICA IDENTITY DEFAULT", h.Table)
	}
	return nil, fmt.Sprintf("take those columns out of the row filter in publication %s, or the table out of it", publication)
}

// assumption is what hazards takes for granted beside the catalogue.
type assumption struct {
	// publications are as they would be, each with the tables that it would have
	// beside those that it has.
	publications []*publication
	known        []Ruled // see Hazards
	// of limits the answer to tables and their partitions; nil: all tables.
	of []*Table
	// full: they would have REPLICA IDENTITY FULL.
	full bool
	// identities would be those of some tables besides.
	identities identities
	// next: the next partition counts, too, which inherits a primary key only.
	next bool
}

// identities are replica identities that tables would have: the OIDs of those with FULL, and
// the columns of the others.
type identities struct {
	full []uint32
	keys map[uint32][]string
}

// Ruled is a table that rules need.
type Ruled struct {
	OID uint32
	// Alone: its rules do not apply to the tables that inherit from it.
	Alone bool
}

// Hazards returns the hazards of the tables in the publication and in its
// [InsertPublication], by table. With the rules' tables, which may be
// published later, it has theirs too; what inherits from one of them and is not
// among them makes no events even if it is published. The catalogue's names have the
// encoding. It is one statement, which locks nothing.
func Hazards(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string, known ...Ruled) ([]Hazard, error) {
	return hazards(ctx, conn, encoding, publication, assumption{known: known})
}

// HazardsUnderFull returns why statements of the application would fail, by table, if
// tables were in the publication and they, with their partitions, had REPLICA
// IDENTITY FULL; none: it is safe.
func HazardsUnderFull(ctx context.Context, conn *pgx.Conn, encoding Encoding, name string, tables []*Table) (map[uint32][]Hazard, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	ours, err := findPublication(ctx, conn, name, operations{true, true, true, true})
	if err != nil {
		return nil, err
	}
	ours.add = tables
	found, err := hazards(ctx, conn, encoding, name, assumption{publications: []*publication{ours}, of: tables, full: true})
	return refusing(found, func(*Hazard) bool { return true }), err
}

// refusing are the hazards that refuse statements and are kept, by the table that was asked about.
func refusing(found []Hazard, keep func(*Hazard) bool) map[uint32][]Hazard {
	out := map[uint32][]Hazard{}
	for _, h := range found {
		if h.RefusesStatements() && keep(&h) {
			out[h.of] = append(out[h.of], h)
		}
	}
	return out
}

// RefusedNow returns why statements of the application on the tables, and their partitions,
// fail, whichever publication is the reason. It sees what its own transaction has done.
func RefusedNow(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string, tables []Name) ([]Hazard, error) {
	oids, err := relationOIDs(ctx, conn, encoding, tables)
	if err != nil {
		return nil, fmt.Errorf("find tables: %w", err)
	}
	oids = slices.DeleteFunc(oids, func(oid uint32) bool { return oid == 0 })
	if len(oids) == 0 {
		return nil, nil
	}
	given := assumption{}
	for _, oid := range oids {
		given.of, given.known = append(given.of, &Table{Relation: &Relation{OID: oid}}), append(given.known, Ruled{OID: oid})
	}
	found, err := hazards(ctx, conn, encoding, publication, given)
	return slices.DeleteFunc(found, func(h Hazard) bool { return !h.RefusesStatements() }), err
}

// RefusedAnywhere returns why statements of the application fail now, on whichever table that
// any publication of the database has, another tool's too. It is two statements, which lock
// nothing.
func RefusedAnywhere(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string) ([]Hazard, error) {
	schemas := ""
	if serverVersion(conn) >= 150000 {
		schemas = "or exists (select from pg_catalog.pg_publication_namespace n where n.pnnspid = c.relnamespace)"
	}
	rows, _ := conn.Query(ctx, `
		select c.oid from pg_catalog.pg_class c
		where c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.oid >= 16384 and (exists (select from pg_catalog.pg_publication where puballtables)
			or exists (select from pg_catalog.pg_publication_rel r where r.prrelid = c.oid) `+schemas+`)`, pgx.QueryExecModeExec)
	published, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t Ruled, err error) { return t, row.Scan(&t.OID) })
	if err != nil {
		return nil, fmt.Errorf("read which tables are published: %w", err)
	}
	found, err := hazards(ctx, conn, encoding, publication, assumption{known: published})
	return slices.DeleteFunc(found, func(h Hazard) bool { return !h.RefusesStatements() }), err
}

// refusals are the statements, by table, that would fail if the publication had the tables,
// or their next partitions, beside what it has, and tables the given identities.
func refusals(ctx context.Context, conn *pgx.Conn, encoding Encoding, pub publication, tables []*Table, given identities) (map[uint32][]Hazard, error) {
	if len(tables) == 0 {
		return nil, nil
	}
	pub.add = tables
	found, err := hazards(ctx, conn, encoding, pub.name, assumption{publications: []*publication{&pub}, of: tables, next: true, identities: given})
	return refusing(found, func(h *Hazard) bool { return h.Publication == pub.name }), err
}

// hazards is Hazards under an assumption.
func hazards(ctx context.Context, conn *pgx.Conn, encoding Encoding, name string, given assumption) ([]Hazard, error) {
	of := []uint32{} // not null
	for _, t := range given.of {
		of = append(of, t.Relation.OID)
	}
	var names, members []string
	var updates, deletes, viaRoots, stores []bool
	var oids []uint32
	for _, p := range given.publications {
		names, updates, deletes = append(names, p.name), append(updates, p.ops.Update), append(deletes, p.ops.Delete)
		viaRoots, stores = append(viaRoots, p.viaRoot), append(stores, p.stored)
		for _, t := range p.add {
			members, oids = append(members, p.name), append(oids, t.Relation.OID)
		}
	}
	known, alone := []uint32{}, []uint32{} // not null
	for _, t := range given.known {
		known = append(known, t.OID)
		if t.Alone {
			alone = append(alone, t.OID)
		}
	}
	keyed, keys := []uint32{}, []string{}
	for table, columns := range given.identities.keys {
		for _, column := range columns {
			keyed, keys = append(keyed, table), append(keys, encoding.Encode(column))
		}
	}
	rows, _ := conn.Query(ctx, hazardsQuery(serverVersion(conn), encoding),
		names, updates, deletes, viaRoots, stores, members, oids, []string{name, InsertPublication(name)}, of, serverVersion(conn), given.next, given.full, known, alone, append([]uint32{}, given.identities.full...), keyed, keys)
	found, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (h Hazard, err error) {
		err = row.Scan(&h.Table.Schema, &h.Table.Name, &h.Reason, &h.Publication, &h.Update, &h.Delete, &h.Columns,
			&h.parent.Schema, &h.parent.Name, &h.full, &h.keyed, &h.fullIsSafe, &h.defaultIsSafe, &h.virtual, &h.of)
		h.foreign = h.Publication != name && h.Publication != InsertPublication(name)
		return h, err
	})
	if err != nil {
		return nil, fmt.Errorf("read what publication %s does to statements of the application: %w", QuoteIdentifier(name), unreadable(err))
	}
	return found, nil
}

// hazardsQuery is the statement of hazards: what PostgreSQL's RelationBuildPublicationDesc
// and CheckCmdReplicaIdentity find out about one table, for all of them.
func hazardsQuery(version int, e Encoding) string {
	lists, schemas, stored := "null::int2[], null::text", "", "false"
	if version >= 150000 {
		lists = "r.prattrs::int2[], r.prqual::text"
		schemas = `
			union all
			select p.pubname::text, c.oid, null, null from pg_catalog.pg_publication_namespace n
			join pg_catalog.pg_publication p on p.oid = n.pnpubid join pg_catalog.pg_class c on c.relnamespace = n.pnnspid`
	}
	if version >= 180000 {
		stored = "p.pubgencols = 's'"
	}
	return `
		with recursive publication as (
			select coalesce(a.name, p.pubname::text) as name, coalesce(p.puballtables, false) as everything, coalesce(a.updates, p.pubupdate) as updates,
				coalesce(a.deletes, p.pubdelete) as deletes, coalesce(a.via_root, p.pubviaroot) as via_root, coalesce(a.stored, ` + stored + `) as stored
			from pg_catalog.pg_publication p
			full join unnest($1::text[], $2::bool[], $3::bool[], $4::bool[], $5::bool[]) a(name, updates, deletes, via_root, stored) on a.name = p.pubname::text
		), part(oid, root) as ( -- the tables in question, with their partitions
			select distinct oid, oid from unnest($9::oid[]) asked(oid)
			union all
			select i.inhrelid, part.root from part join pg_catalog.pg_inherits i on i.inhparent = part.oid join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition
		), named as ( -- the tables that a publication names, with their column list and row filter
			select p.pubname::text as publication, r.prrelid as oid, ` + lists + `
			from pg_catalog.pg_publication_rel r join pg_catalog.pg_publication p on p.oid = r.prpubid ` + schemas + `
			union all
			select p.name, c.oid, null, null from publication p join pg_catalog.pg_class c on p.everything and c.relkind = 'r' and (cardinality($9) = 0 or c.oid in (select oid from part))
			union all
			select publication, oid, null, null from unnest($6::text[], $7::oid[]) a(publication, oid)
		), covered(publication, oid, level, named, list, filter) as ( -- with their partitions
			select n.publication, n.oid, 0, n.oid, n.prattrs, n.prqual from named n(publication, oid, prattrs, prqual)
			union all
			select v.publication, i.inhrelid, v.level + 1, v.named, v.list, v.filter
			from covered v join pg_catalog.pg_inherits i on i.inhparent = v.oid join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition
		), published as ( -- the topmost table of a partition decides via the root, else its own entry
			select distinct on (v.publication, v.oid) p.*, v.oid, v.named,
				case when p.via_root or v.level = 0 then v.list end as list, case when p.via_root or v.level = 0 then v.filter end as filter
			from covered v join publication p on p.name = v.publication
			order by v.publication, v.oid, case when p.via_root then -v.level else v.level end, v.list is null, v.filter is null
		), ruled(oid) as (
			select unnest($13::oid[])
			union
			select i.inhrelid from ruled r join pg_catalog.pg_inherits i on i.inhparent = r.oid join pg_catalog.pg_class c on c.oid = i.inhrelid and c.relispartition
		), ours as (
			select oid from published where name = any($8::text[])
			union select oid from ruled
		), relation as (
			select c.oid, c.relkind = 'p' as partitioned, c.relnamespace, c.relname,
				case when $12::bool or c.oid = any($15::oid[]) then 'f' when c.oid = any($16::oid[]) then 'i' else c.relreplident end as identity
			from ours join pg_catalog.pg_class c using (oid)
			where c.relkind in ('r', 'p') and c.relpersistence = 'p' and c.oid >= 16384 and (cardinality($9) = 0 or c.oid in (select oid from part))
		), described as (
			select r.*, k.keyed, coalesce((select jsonb_agg(a.name) from unnest($16::oid[], $17::text[]) a(oid, name) where a.oid = r.oid), k.key) as key, k.primary_key, g.stored as stored_columns, g.virtual
			from relation r
			left join lateral (
				select bool_or(i.indisprimary) as keyed, (array_agg(i.columns) filter (where i.indisprimary))[1] as primary_key,
					(array_agg(i.columns) filter (where case r.identity when 'd' then i.indisprimary when 'i' then i.indisreplident end))[1] as key
				from (
					select i.indisprimary, i.indisreplident, to_jsonb(array(
						select a.attname::text from unnest(i.indkey::int2[]) with ordinality k(attnum, n)
						join pg_catalog.pg_attribute a on a.attrelid = i.indrelid and a.attnum = k.attnum where k.n <= i.indnkeyatts)) as columns
					from pg_catalog.pg_index i
					where i.indrelid = r.oid and i.indisvalid and i.indisunique and i.indimmediate and i.indpred is null and (i.indisprimary or i.indisreplident)
				) i
			) k on true
			left join lateral (
				select array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = 's') as stored,
					array_agg(a.attname::text order by a.attnum) filter (where a.attgenerated = 'v') as virtual
				from pg_catalog.pg_attribute a where a.attrelid = r.oid and a.attnum > 0 and not a.attisdropped and a.attgenerated <> ''
			) g on true
		), exposed as (
			select d.*, p.name as publication, p.updates, p.deletes, p.stored, p.list is not null as listed,
				array(select jsonb_array_elements_text(d.key)) as key_columns, array(select jsonb_array_elements_text(d.primary_key)) as primary_columns,
				case when p.list is not null then array(
					select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = p.named and a.attnum = any(p.list)) end as listed_columns,
				case when p.filter is not null then array(
					select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = p.named and a.attnum in (
						select m[1]::int2 from regexp_matches(p.filter, ':varattno (\d+)', 'g') m)) end as filter_columns
			from described d join published p using (oid) where p.updates or p.deletes
		), checked as (
			select e.*,
				case when filter_columns is null or identity = 'f' or partitioned then '{}' else array(select unnest(filter_columns) except select unnest(key_columns)) end as outside,
				case when partitioned or not listed then '{}' else array(select unnest(key_columns) except select unnest(listed_columns)) end as unlisted,
				case when $10::int < 180000 or partitioned then '{}'
					when identity = 'f' then virtual || case when not stored then stored_columns end
					when listed or stored or stored_columns is null then '{}'
					else array(select unnest(key_columns) intersect select unnest(stored_columns)) end as unpublished,
				not partitioned and bool_and(not listed and ($10::int < 180000 or virtual is null and (stored or stored_columns is null))) over (partition by oid) as full_is_safe,
				not partitioned and coalesce(keyed, false) and bool_and((not listed or primary_columns <@ listed_columns) and (filter_columns is null or filter_columns <@ primary_columns)
					and ($10::int < 180000 or listed or stored or not coalesce(primary_columns && stored_columns, false))) over (partition by oid) as default_is_safe
			from exposed e
		), heir(oid, parent, alone) as ( -- whose rows are also those of a table in our publications
			select i.inhrelid, i.inhparent, ours.oid = any($14::oid[]) from ours join pg_catalog.pg_inherits i on i.inhparent = ours.oid
			where cardinality($13) = 0 or ours.oid in (select oid from ruled)
			union
			select i.inhrelid, i.inhparent, h.alone from heir h join pg_catalog.pg_inherits i on i.inhparent = h.oid
		), hazard as (
			select oid, null::oid as parent, publication, r.reason, updates, deletes, r.columns, identity = 'f' as is_full, coalesce(keyed, false) as keyed, full_is_safe, default_is_safe,
				coalesce(r.columns && virtual, false) as virtual
			from checked cross join lateral (values
				('identity', '{}'::text[], case when partitioned then $11::bool and keyed is not true else identity <> 'f' and key is null end),
				('generated', unpublished, unpublished <> '{}'),
				('columns', unlisted, unlisted <> '{}' or listed and identity = 'f' and not partitioned),
				('filter', outside, outside <> '{}')) r(reason, columns, holds)
			where r.holds
			union all
			select h.oid, h.parent, '', case when c.relkind = 'f' then 'foreign' when c.relpersistence = 'u' then 'unlogged' when h.alone then 'alone' else 'child' end, false, false, '{}', false, false, false, false, false
			from heir h join pg_catalog.pg_class c using (oid)
			where c.relkind in ('r', 'f') and cardinality($9) = 0 and (c.relkind = 'f' or c.relpersistence = 'u' or h.oid not in (select oid from ours)
				or cardinality($13) > 0 and h.oid not in (select oid from ruled))
		)
		select ` + e.SQL("n.nspname::text") + `, ` + e.SQL("c.relname::text") + `, h.reason, ` + e.SQL("h.publication") + `, h.updates, h.deletes,
			array(select ` + e.SQL("column_name") + ` from unnest(h.columns) with ordinality u(column_name, n) order by u.n),
			` + e.SQL("coalesce(pn.nspname, '')::text") + `, ` + e.SQL("coalesce(pc.relname, '')::text") + `, h.is_full, h.keyed, h.full_is_safe, h.default_is_safe, h.virtual, coalesce(part.root, 0)
		from hazard h left join part on part.oid = h.oid join pg_catalog.pg_class c on c.oid = h.oid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		left join pg_catalog.pg_class pc on pc.oid = h.parent left join pg_catalog.pg_namespace pn on pn.oid = pc.relnamespace
		order by 1, 2, 4, 3`
}

// Hazards is [Hazards] over the watch's connection.
func (w *CatalogWatch) Hazards(ctx context.Context, known ...Ruled) (found []Hazard, err error) {
	err = w.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		found, err = Hazards(ctx, conn, w.options.Encoding, w.options.Publication, known...)
		return err
	})
	return found, err
}
