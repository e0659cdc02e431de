package mapping

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// fullStatement makes the server send whole old rows.
func fullStatement(table cdc.Name) string {
	return fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL;", table)
}

// missingIdentity says how to make the server send the values that it did not.
func (b *boundRule) missingIdentity(rel *cdc.Relation) string {
	switch {
	case rel.Weaker != nil:
		return fmt.Sprintf("the table has a partition with less replica identity than its own (a new one has the default); run: %s",
			fullStatements(rel.Weaker))
	case rel.ReplicaIdentity == 'f':
		return fmt.Sprintf("%s has REPLICA IDENTITY FULL, so one of its partitions does not have it; run gancho check, which names it", rel.TableName())
	}
	return "run: " + b.fullStatements()
}

// fullStatements makes the server send whole old rows of the rule's table and of
// all its partitions, of which each has its own replica identity.
func (b *boundRule) fullStatements() string {
	if len(b.withoutFull) == 0 { // it had FULL when the rules were loaded
		return fullStatement(b.table.Relation.TableName())
	}
	return fullStatements(b.withoutFull)
}

func fullStatements(tables []cdc.Name) string {
	return strings.Join(mapped(tables, fullStatement), " ")
}

const fullCost = "it raises the WAL of the table's updates and deletes by about 40 %"

// checkIdentity checks that the server sends the old values that a rule needs,
// and that publishing the table does not make the application's own statements fail:
// https://www.postgresql.org/docs/current/logical-replication-publication.html#LOGICAL-REPLICATION-PUBLICATION-REPLICA-IDENTITY
func (b *binder) checkIdentity(bound *boundRule, uses []use) {
	t, r := bound.table, bound.rule
	name := t.Relation.TableName()
	if bound.seen&setOf(cdc.Update, cdc.Delete) != 0 && len(t.WithoutIdentity) > 0 {
		fix := fmt.Sprintf("add a primary key, or run: %s (%s)", fullStatement(name), fullCost)
		if t.Kind == 'p' {
			fix = fmt.Sprintf("add a primary key: ALTER TABLE %s ADD PRIMARY KEY (...);", name)
		}
		b.mistake(r.tableValue, -1, fix, "table %s has no replica identity: with its updates or deletes published, the application's own UPDATE and DELETE of %s would fail",
			name, joinNames(t.WithoutIdentity))
		return
	}
	reason, place, offset := "", strictyaml.Value{}, -1
	for _, u := range uses {
		full := u.needed || u.group == groupDelete && !u.leaf && !t.Relation.Columns[u.Index].Key
		if full && reason == "" {
			reason, place, offset = fmt.Sprintf("%s needs the old value of column %q", u.path, u.Name), u.value, u.offset()
		}
	}
	if r.previous && reason == "" {
		reason, place = "previous needs the old row", r.value
	}
	if reason == "" {
		b.noteLeftOut(bound, uses)
		return
	}
	if len(bound.withoutFull) > 0 {
		b.mistake(place, offset, fmt.Sprintf("run: %s (%s)", bound.fullStatements(), fullCost), "%s, which the server sends only under REPLICA IDENTITY FULL", reason)
	}
}

// withoutFull returns the tables that hold the rows, the table itself or its
// partitions, and do not have REPLICA IDENTITY FULL: partitions have their own.
func withoutFull(ctx context.Context, conn *pgx.Conn, t *cdc.Table) ([]cdc.Name, error) {
	if t.Kind != 'p' {
		if t.Relation.ReplicaIdentity == 'f' {
			return nil, nil
		}
		return []cdc.Name{t.Relation.TableName()}, nil
	}
	return queryNames(ctx, conn, "read partitions of "+t.Relation.TableName().String(), `
		select n.nspname::text, c.relname::text
		from pg_partition_tree($1::oid::regclass) p join pg_catalog.pg_class c on c.oid = p.relid
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relreplident <> 'f' and (p.isleaf or p.level = 0) order by p.level, 1, 2`, t.Relation.OID)
}

// noteLeftOut reports what the payload of a deleted row will lack.
func (b *binder) noteLeftOut(bound *boundRule, uses []use) {
	t := bound.table
	if t.Relation.ReplicaIdentity == 'f' {
		return
	}
	var missing []string
	for _, u := range uses {
		if u.group == groupDelete && u.leaf && !t.Relation.Columns[u.Index].Key && !slices.Contains(missing, u.Name) {
			missing = append(missing, u.Name)
		}
	}
	if len(missing) > 0 {
		b.note(bound.rule, t, bound.fullStatements()+" ("+fullCost+")",
			"a deleted row is sent without %s: the payload will lack what depends on it, named in unchanged", strings.Join(missing, ", "))
	}
}

func joinNames(names []cdc.Name) string { return strings.Join(mapped(names, cdc.Name.String), ", ") }
