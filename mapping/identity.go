package mapping

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// missingIdentity says how to make the server send the values that it did not.
func (b *boundRule) missingIdentity(rel *cdc.Relation) string {
	switch {
	case rel.Weaker != nil:
		return "the table has a partition with less replica identity than its own (a new one has the default); " + remedy{statements: fullStatements(rel.Weaker)}.line()
	case rel.ReplicaIdentity == 'f':
		return fmt.Sprintf("%s has REPLICA IDENTITY FULL, so one of its partitions does not have it; run gancho check, which names it", rel.TableName())
	}
	if b.full.empty() { // it had FULL when the rules were loaded
		return remedy{statements: fullStatements([]cdc.Name{rel.TableName()})}.line()
	}
	return b.full.line()
}

// fullStatements make the server send whole old rows of the tables.
func fullStatements(tables []cdc.Name) []cdc.Statement {
	return mapped(tables, func(table cdc.Name) cdc.Statement {
		s := cdc.IdentityFull(table)
		s.Why = fullCost
		return s
	})
}

const fullCost = "it raises the WAL of the table's updates and deletes by about 40 %"

// checkIdentity checks that the server sends the old values that a rule needs,
// and that publishing the table does not make the application's own statements fail:
// https://www.postgresql.org/docs/current/logical-replication-publication.html#LOGICAL-REPLICATION-PUBLICATION-REPLICA-IDENTITY
func (b *binder) checkIdentity(ctx context.Context, bound *boundRule, uses []use) error {
	t, r := bound.table, bound.rule
	if bound.seen&setOf(cdc.Update, cdc.Delete) != 0 && len(t.Refused) > 0 {
		return b.refused(ctx, r.tableValue, t)
	}
	reason, place, offset := "", strictyaml.Value{}, -1
	for _, u := range uses {
		if reason == "" && (u.needed || u.ofDeleted() && !t.Relation.Columns[u.Index].Key) {
			reason, place, offset = fmt.Sprintf("%s needs the old value of column %q", u.path, u.Name), u.value, u.offset()
		}
	}
	if r.previous && reason == "" {
		reason, place = "previous needs the old row", r.value
	}
	bound.needsOld = reason
	if reason == "" {
		b.noteLeftOut(bound, uses)
		return nil
	}
	if !bound.full.empty() {
		f := b.propose("identity.missing", place, offset, bound.full, "%s, which the server sends only under REPLICA IDENTITY FULL", reason)
		b.identityOf(f, t)
	}
	return nil
}

// refused is the mistake of a rule for updates or deletes that cannot be published.
func (b *binder) refused(ctx context.Context, place strictyaml.Value, t *cdc.Table) error {
	name := t.Relation.TableName()
	var tables []cdc.Name
	for _, h := range t.Refused {
		if h.Reason == cdc.HazardGenerated {
			f := h.Finding()
			b.propose("publication.refused."+string(h.Reason), place, -1, remedy{f.Statements, f.Remedy}, "with the updates or deletes of table %s published, the application's own UPDATE and DELETE of %s would fail, because %s", name, h.Table, h.Why())
			return nil
		}
		tables = append(tables, h.Table)
	}
	fix := words("add a primary key: ALTER TABLE %s ADD PRIMARY KEY (...);", name)
	if t.Kind != 'p' {
		full, err := b.makeFull(ctx, t, tables)
		if err != nil {
			return err
		}
		fix = remedy{full.statements, strings.TrimSuffix("or add a primary key, or "+full.words, ", or ")}
		if len(full.statements) == 0 {
			fix.words = "add a primary key, or " + full.words
		}
	}
	f := b.propose("identity.none", place, -1, fix, "table %s has no replica identity: with its updates or deletes published, the application's own UPDATE and DELETE of %s would fail",
		name, joinNames(tables))
	f.Table = name.String()
	b.identityOf(f, t)
	return nil
}

// ofDeleted: the rule does not work without the value of a deleted row. Only its payload
// may lack one.
func (u *use) ofDeleted() bool { return u.group == groupDelete && !u.leaf }

// identityOf notes that a mistake is a table's replica identity.
func (b *binder) identityOf(f *cdc.Finding, t *cdc.Table) {
	if b.lacksIdentity == nil {
		b.lacksIdentity = map[*cdc.Finding]*cdc.Table{}
	}
	b.lacksIdentity[f] = t
}

// leastIdentities has an index as the replica identity where the mistakes have FULL, and the
// rules of the table need no more: FULL writes whole old rows.
func (b *binder) leastIdentities(ctx context.Context, rs *Ruleset) error {
	if b.saved != nil {
		return nil
	}
	var needed []cdc.Needed
	place := map[uint32]int{} // in needed; -1: whole rows are
	for _, t := range b.lacksIdentity {
		if _, known := place[t.Relation.OID]; known {
			continue
		}
		place[t.Relation.OID] = -1
		if columns, whole := b.oldColumns(rs, t); !whole {
			place[t.Relation.OID] = len(needed)
			needed = append(needed, cdc.Needed{Table: t, Columns: columns})
		}
	}
	least, err := cdc.LeastIdentities(ctx, b.conn, b.options.Encoding, b.options.Publication, needed)
	if err != nil {
		return err
	}
	for f, t := range b.lacksIdentity {
		var statements []cdc.Statement
		if i := place[t.Relation.OID]; i >= 0 {
			statements = least[i]
		}
		if len(statements) == 0 {
			continue
		}
		if len(f.Statements) == 0 { // FULL was refused, and the words are about that
			f.Remedy = ""
		}
		f.Statements = statements
		for e, proposed := range b.proposed {
			if proposed == f {
				e.Hint = f.FixBelow()
			}
		}
	}
	return nil
}

// oldColumns are the columns of a table whose old values its rules need; whole: of rows that
// are updated, for which no index is enough.
func (b *binder) oldColumns(rs *Ruleset, t *cdc.Table) (columns []string, whole bool) {
	for _, r := range slices.Concat(rs.rules, rs.heirs) {
		if r.table.Relation.OID != t.Relation.OID {
			continue
		}
		uses := b.uses[r]
		if r.inherits != nil {
			uses = b.uses[r.inherits]
		}
		whole = whole || r.previous
		for _, u := range uses {
			whole = whole || u.needed
			if u.ofDeleted() {
				columns = append(columns, u.Name)
			}
		}
	}
	for _, c := range b.children {
		if c.table.Relation.OID == t.Relation.OID {
			columns, whole = append(columns, c.columns...), whole || c.whole
		}
	}
	slices.Sort(columns)
	return slices.Compact(columns), whole
}

// childOf is a table of children, with what its deleted rows must have: columns, or whole rows.
type childOf struct {
	table   *cdc.Table
	columns []string
	whole   bool
}

// full says how to make the server send whole old rows of the table, empty when
// it does.
func (b *binder) full(ctx context.Context, t *cdc.Table) (remedy, error) {
	if b.saved != nil && t.Kind == 'p' {
		return remedy{}, nil // its partitions are not in the file
	}
	without, err := withoutFull(ctx, b.conn, t)
	if err != nil || len(without) == 0 {
		return remedy{}, err
	}
	return b.makeFull(ctx, t, without)
}

// makeFull says how to give the tables, t or its partitions, REPLICA IDENTITY FULL,
// or why that would make the application's own statements fail.
func (b *binder) makeFull(ctx context.Context, t *cdc.Table, tables []cdc.Name) (remedy, error) {
	if b.saved != nil {
		return remedy{statements: fullStatements(tables)}, nil
	}
	if _, known := b.underFull[t.Relation.OID]; !known { // a partitioned table
		if err := b.loadUnderFull(ctx, []*cdc.Table{t}); err != nil {
			return remedy{}, err
		}
	}
	ours := func(publication string) bool {
		return publication == b.options.Publication || publication == cdc.InsertPublication(b.options.Publication)
	}
	first := map[string]cdc.Statement{}
	for _, h := range b.underFull[t.Relation.OID] {
		if !h.Publishable() || !ours(h.Publication) {
			return words("do without it: under REPLICA IDENTITY FULL the application's own UPDATE and DELETE of %s would fail, because publication %s publishes the table and %s",
				h.Table, cdc.QuoteIdentifier(h.Publication), h.Why()), nil
		}
		first[h.Publication] = cdc.PublishGenerated(h.Publication)
	}
	var statements []cdc.Statement
	for _, publication := range slices.Sorted(maps.Keys(first)) {
		statements = append(statements, first[publication])
	}
	return remedy{statements: append(statements, fullStatements(tables)...)}, nil
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
		from `+cdc.PartitionTree("$1::oid")+` p join pg_catalog.pg_class c on c.oid = p.oid
		join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relreplident <> 'f' and (c.relkind <> 'p' or p.level = 0) order by p.level, 1, 2`, t.Relation.OID)
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
		b.noteFull("identity.deleted", bound, "a deleted row is sent without %s: the payload will lack what depends on it, named in unchanged", strings.Join(missing, ", "))
	}
}

// noteFull is a note about what REPLICA IDENTITY FULL would change.
func (b *binder) noteFull(id string, bound *boundRule, format string, args ...any) {
	b.note(id, bound.rule, bound.full, format, args...)
}

func joinNames(names []cdc.Name) string { return strings.Join(mapped(names, cdc.Name.String), ", ") }
