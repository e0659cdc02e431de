package mapping

import (
	"cmp"
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
		return fmt.Sprintf("table %s has REPLICA IDENTITY FULL, so one of its partitions does not have it; run gancho check, which names it", rel.TableName())
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
		for _, u := range uses {
			if u.ofDeleted() && b.lacksPartition(bound.full, t, u.Name, u.value, u.offset(), fmt.Sprintf("%s needs the old value of column %q", u.path, u.Name)) {
				break
			}
		}
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
	switch {
	case t.Kind == 'p' && !slices.Contains(tables, name): // it has one, which partitions do not use
		fix = remedy{}
		for _, h := range t.Refused {
			f := h.Finding()
			fix.statements, fix.words = append(fix.statements, f.Statements...), cmp.Or(fix.words, f.Remedy)
		}
	case t.Kind != 'p':
		full, err := b.makeFull(ctx, t, tables)
		if err != nil {
			return err
		}
		fix = remedy{full.statements, strings.TrimSuffix("or add a primary key, or "+full.words, ", or ")}
		if len(full.statements) == 0 {
			fix.words = "add a primary key, or " + full.words
		}
	}
	var f *cdc.Finding
	if t.Kind == 'p' && !slices.Contains(tables, name) {
		f = b.propose("identity.none", place, -1, fix, "partitions of table %s have no replica identity: with its updates or deletes published, the application's own UPDATE and DELETE of %s would fail", name, joinNames(tables))
	} else {
		f = b.propose("identity.none", place, -1, fix, "table %s has no replica identity: with its updates or deletes published, the application's own UPDATE and DELETE of %s would fail", name, joinNames(tables))
	}
	f.Table = name.String()
	b.identityOf(f, t)
	return nil
}

// lacksPartition: partitions, which have their own replica identity, do not send an old value that their table's has. It is
// a mistake, which it reports.
func (b *binder) lacksPartition(full remedy, t *cdc.Table, column string, place strictyaml.Value, offset int, reason string) bool {
	var parts []cdc.Name
	for _, part := range t.Weak {
		if slices.Contains(part.Lacks, column) {
			parts = append(parts, part.Name)
		}
	}
	if len(parts) == 0 {
		return false
	}
	f := b.propose("identity.missing", place, offset, full, "%s, which %s of table %s does not send: its replica identity is another", reason, joinNames(parts), t.Relation.TableName())
	b.identityOf(f, t)
	return true
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
	places := map[uint32][]int{} // in needed; none: whole rows are needed
	for _, t := range b.lacksIdentity {
		if _, known := places[t.Relation.OID]; known {
			continue
		}
		places[t.Relation.OID] = nil
		columns, whole := b.oldColumns(rs, t)
		if whole {
			continue
		}
		tables := []*cdc.Table{t}
		if t.Kind == 'p' {
			var err error
			if tables, columns, err = b.weakPartitions(ctx, t, columns); err != nil {
				return err
			}
		}
		for _, of := range tables {
			places[t.Relation.OID] = append(places[t.Relation.OID], len(needed))
			needed = append(needed, cdc.Needed{Table: of, Columns: columns})
		}
	}
	least, err := cdc.LeastIdentities(ctx, b.conn, b.options.Encoding, b.options.Publication, needed)
	if err != nil {
		return err
	}
	for f, t := range b.lacksIdentity {
		var statements []cdc.Statement
		for _, i := range places[t.Relation.OID] {
			if len(least[i]) == 0 {
				statements = nil
				break
			}
			statements = append(statements, least[i]...)
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

// weakPartitions are the partitions that send less of old rows than their table, and the columns that they are to send for the
// rules to have those that they need. None: the table itself does not send that.
func (b *binder) weakPartitions(ctx context.Context, t *cdc.Table, needed []string) (parts []*cdc.Table, columns []string, err error) {
	for _, c := range t.Relation.Columns {
		if c.Key && t.Relation.ReplicaIdentity != 'f' {
			columns = append(columns, c.Name)
		}
	}
	if slices.ContainsFunc(needed, func(name string) bool { return !slices.Contains(columns, name) }) {
		return nil, nil, nil
	}
	names := mapped(t.Weak, func(part cdc.WeakPartition) cdc.Name { return part.Name })
	if err := b.load(ctx, names); err != nil {
		return nil, nil, err
	}
	for _, name := range names {
		if part := b.tables[name]; part != nil { // else it was dropped a moment ago
			parts = append(parts, part)
		}
	}
	return parts, columns, nil
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
	var missing []string
	for _, u := range uses {
		sent := t.Relation.Columns[u.Index].Key && !slices.ContainsFunc(t.Weak, func(part cdc.WeakPartition) bool { return slices.Contains(part.Lacks, u.Name) })
		if u.group == groupDelete && u.leaf && !sent && !slices.Contains(missing, u.Name) {
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
