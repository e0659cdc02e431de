package mapping

import (
	"context"
	"maps"
	"slices"

	"gancho/cdc"
)

// A table may have heirs: those that inherit from it (INHERITS, the partitioning
// of PostgreSQL 9 and of pg_partman's old type). A query of the table shows their
// rows, but the stream has their changes under their own names. A rule on the
// table therefore applies to its heirs, except to those that have rules of their
// own and to what inherits from these, and a truncate is an event of the table itself
// only.

// follow binds the rules on tables with heirs to these.
func (b *binder) follow(ctx context.Context, rs *Ruleset) error {
	var heirs []*boundRule
	for _, bound := range rs.rules {
		if !bound.table.Inherited {
			continue
		}
		tables, err := b.heirs(ctx, bound, rs)
		if err != nil {
			return err
		}
		for _, t := range tables {
			heir, err := b.bindHeir(ctx, bound, t)
			if err != nil {
				return err
			}
			heirs = append(heirs, heir)
		}
	}
	for _, heir := range heirs {
		name := heir.table.Relation.TableName()
		rs.byTable[name] = append(rs.byTable[name], heir)
	}
	rs.heirs = heirs
	return nil
}

// heirs are the tables that the rule is to follow.
func (b *binder) heirs(ctx context.Context, bound *boundRule, rs *Ruleset) ([]*cdc.Table, error) {
	parent := bound.table.Relation
	ruled := make([]uint32, len(rs.rules))
	for i, r := range rs.rules {
		ruled[i] = r.table.Relation.OID
	}
	names, err := b.heirNames(ctx, parent, ruled)
	if err != nil {
		return nil, err
	}
	var own []cdc.Name
	names = slices.DeleteFunc(names, func(n cdc.Name) bool {
		if len(rs.byTable[n]) > 0 {
			own = append(own, n)
		}
		return len(rs.byTable[n]) > 0
	})
	if len(own) > 0 {
		b.note("inheritance.own_rules", bound.rule, words("leave it so, or remove those rules"), "the rule does not apply to rows of %s, which inherit from the table and have rules of their own", joinNames(own))
	}
	if len(names) > 0 && (bound.perTransaction() || bound.after != nil) {
		key := "after"
		if bound.perTransaction() {
			key = bound.waitsFor()
		}
		b.note("inheritance.one_table", bound.rule, words("write rules for them, or remove %s", key), "the rule does not apply to rows of %s, which inherit from the table: a rule with %s is of one table", joinNames(names), key)
		return nil, nil
	}
	if err := b.load(ctx, names); err != nil {
		return nil, err
	}
	var tables []*cdc.Table
	for _, n := range names {
		if t := b.tables[n]; t != nil { // it was dropped meanwhile
			tables = append(tables, t)
			b.saving.addHeir(parent.OID, n)
		}
	}
	return tables, nil
}

// heirNames are the tables that inherit from one, but for those below others that rules name.
func (b *binder) heirNames(ctx context.Context, parent *cdc.Relation, ruled []uint32) ([]cdc.Name, error) {
	if b.saved != nil {
		return b.saved.heirs(parent.TableName()), nil
	}
	return queryNames(ctx, b.conn, "read what inherits from "+parent.TableName().String(), `
		with recursive heir(oid) as (
			select inhrelid from pg_catalog.pg_inherits where inhparent = $1
			union select i.inhrelid from heir h join pg_catalog.pg_inherits i on i.inhparent = h.oid where h.oid <> all($2))
		select n.nspname::text, c.relname::text from heir join pg_catalog.pg_class c using (oid) join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind = 'r' and c.relpersistence = 'p' order by 1, 2`, parent.OID, ruled)
}

// bindHeir is the rule as one of the heir.
func (b *binder) bindHeir(ctx context.Context, parent *boundRule, t *cdc.Table) (*boundRule, error) {
	full, err := b.full(ctx, t)
	if err != nil {
		return nil, err
	}
	rule, table, heir := *parent.rule, *t, *parent
	heir.rule, heir.table, heir.full, heir.inherits = &rule, &table, full, parent
	heir.allowed = b.allowed[t.Relation.OID]
	table.PrimaryKey = parent.table.PrimaryKey // it is not inherited, and what orders the parent's events orders these
	heir.denied = maps.Clone(parent.denied)
	for column := range b.denied[t.Relation.OID] {
		heir.denied[column] = true
	}
	rule.ops &^= setOf(cdc.Truncate)
	heir.seen &^= setOf(cdc.Truncate)
	var uses []use
	for _, u := range b.uses[parent] {
		u.Index = t.Relation.Column(u.Name)
		if u.Index < 0 {
			continue // generated in the heir, and not sent: the plan says so
		}
		uses = append(uses, u)
	}
	return &heir, b.checkIdentity(ctx, &heir, uses)
}
