package mapping

import (
	"context"
	"fmt"
	"slices"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// rowOps are the operations that make up a transaction's net effect.
func rowOps() opSet { return setOf(cdc.Insert, cdc.Update, cdc.Delete) }

// checkTransaction checks the keys of a per-transaction rule against each other.
func (r *rule) checkTransaction(on, children, root strictyaml.Value) {
	if !r.perTransaction() || r.ops == 0 {
		return
	}
	if r.ops.has(cdc.Truncate) {
		on.Errorf("write a rule of its own for truncate", "%s is about rows, and a truncate has none", r.waitsFor())
	}
	if children.Valid() && !r.ops.has(cdc.Update) {
		children.Errorf("add update", "a change of a child counts as an update of its parent, and the rule is on %s", r.ops)
	}
	if root.Valid() && !r.ops.has(cdc.Delete) {
		root.Errorf("remove it, or add delete", "root_only is about deletes, and the rule is on %s", r.ops)
	}
	if children.Valid() && root.Valid() {
		root.Errorf("write two rules", "a rule cannot have both children and root_only")
	}
}

// bindTransaction checks what a per-transaction rule needs of its tables. It adds
// to the columns that the rule uses, and so comes before those are checked.
func (b *binder) bindTransaction(ctx context.Context, bound *boundRule, c *compiler) error {
	if bound.seen = bound.ops; !bound.perTransaction() {
		return nil
	}
	t, r := bound.table, bound.rule
	name := t.Relation.TableName()
	switch {
	case len(t.PrimaryKey) > 0:
		bound.seen |= rowOps()
		for _, column := range t.PrimaryKey {
			c.uses = append(c.uses, b.identityUse(t, column, r))
		}
	case r.ops != setOf(cdc.Insert) || r.waitsFor() != "collapse":
		b.mistake(r.tableValue, -1, "add a primary key, or remove "+r.waitsFor(), "%s needs a primary key to tell rows apart, and table %s has none", r.waitsFor(), name)
		bound.seen = setOf(cdc.Insert) // so that no mistake follows from this one
		return nil
	}
	grouped := len(r.collapse) > 0 && !r.collapsesRows(bound.orderingKey())
	if grouped && r.waitsFor() != "collapse" {
		b.mistake(r.collapse[0].value, -1, "remove collapse, or name the primary key", "with %s, collapse can be by the primary key only", r.waitsFor())
	}
	b.bindRootOnly(bound, c)
	return b.bindChildren(ctx, bound, c)
}

// identityUse is the dependence on a column of the primary key, which must be
// in the replica identity.
func (b *binder) identityUse(t *cdc.Table, column string, r *rule) use {
	u := use{value: r.value, path: r.waitsFor(), group: groupDelete}
	u.Name, u.Index, u.Old = column, t.Relation.Column(column), true
	return u
}

func (b *binder) bindChildren(ctx context.Context, bound *boundRule, c *compiler) error {
	for i, ref := range bound.rule.children {
		key := names(ref.key)
		if len(key) == 0 {
			key = bound.table.PrimaryKey
		}
		if i == 0 {
			bound.familyKey = key
			for _, name := range key {
				c.joinColumn(columnRef{ref.value, name}, "children.key", groupWrite)
			}
		} else if !slices.Equal(key, bound.familyKey) {
			b.mistake(ref.value, -1, "write two rules", "the children of a rule must refer to the same columns of their parent")
		}
		child, err := b.bindChild(ctx, bound, ref, key)
		if err != nil {
			return err
		}
		if child != nil {
			bound.children = append(bound.children, child)
		}
	}
	return nil
}

// bindChild checks one child table. It returns nil with a mistake.
func (b *binder) bindChild(ctx context.Context, bound *boundRule, ref *childRef, key []string) (*boundChild, error) {
	t, err := b.existing(ctx, ref.table, ref.tableValue.MistakeHere)
	if err != nil || t == nil {
		return nil, err
	}
	name := t.Relation.TableName()
	b.children = append(b.children, childOf{t, slices.Concat(names(ref.parent), t.PrimaryKey), len(ref.watch) > 0})
	switch {
	case !b.publishable(ref.tableValue, t):
		return nil, nil
	case name == bound.table.Relation.TableName():
		b.mistake(ref.tableValue, -1, "write a rule for its own changes", "table %s cannot be its own child", name)
		return nil, nil
	case len(t.PrimaryKey) == 0:
		b.mistake(ref.tableValue, -1, "add a primary key", "children need a primary key to tell rows apart, and table %s has none", name)
		return nil, nil
	case len(t.Refused) > 0:
		return nil, b.refused(ctx, ref.tableValue, t)
	case len(key) != len(ref.parent):
		b.mistake(ref.value, -1, "name as many columns on both sides", "children.parent has %s for a key of %s", columnCount(len(ref.parent)), columnCount(len(key)))
		return nil, nil
	}
	if t.Inherited {
		b.note("inheritance.children", bound.rule, words("write rules for those tables"), "changes of tables that inherit from it do not count as changes of the parent: children are of one table")
	}
	pseudo := &boundRule{rule: bound.rule, table: t, columns: map[string]*cdc.Type{}, denied: b.deniedOf(t), seen: rowOps()}
	child := &boundChild{boundRule: pseudo, owner: bound, parent: names(ref.parent), watch: names(ref.watch)}
	cc := &compiler{relation: t.Relation, generated: t.Generated}
	for i, column := range ref.parent {
		mine, theirs := cc.find(column), bound.table.Relation.Column(key[i])
		if mine >= 0 && theirs >= 0 {
			b.checkComparable(column.value, t.Relation.Columns[mine], bound.table.Relation.Columns[theirs])
		}
	}
	for _, column := range ref.watch {
		i := cc.find(column)
		if i < 0 {
			continue
		}
		if problem := b.settings.KeyProblem(t.Relation.Columns[i].Type); problem != "" {
			b.mistake(column.value, -1, "leave the column out", "column %q: %s", column.name, problem)
		}
	}
	b.errors = append(b.errors, cc.mistakes...)
	for _, column := range slices.Concat(child.parent, child.watch, t.PrimaryKey) {
		if i := t.Relation.Column(column); i >= 0 {
			pseudo.columns[column] = t.Relation.Columns[i].Type
		}
	}
	return child, b.checkChildIdentity(ctx, child, ref)
}

// checkChildIdentity: a deleted row must say whose child it was, and one that
// is compared must be sent whole.
func (b *binder) checkChildIdentity(ctx context.Context, child *boundChild, ref *childRef) error {
	fix, err := b.full(ctx, child.table)
	if err != nil || fix.empty() {
		return err
	}
	child.full = fix
	name := child.table.Relation.TableName()
	for _, column := range slices.Concat(ref.parent, columnRefsOf(ref.value, child.table.PrimaryKey)) {
		i := child.table.Relation.Column(column.name)
		if i >= 0 && !child.table.Relation.Columns[i].Key {
			f := b.propose("identity.missing", column.value, -1, fix, "a deleted row of %s is sent without column %q, which says whose child it was; the server sends it only under REPLICA IDENTITY FULL", name, column.name)
			b.identityOf(f, child.table)
			return nil
		}
		if b.lacksPartition(fix, child.table, column.name, column.value, -1, fmt.Sprintf("a deleted row needs column %q, which says whose child it was", column.name)) {
			return nil
		}
	}
	if len(ref.watch) > 0 {
		b.propose("identity.missing", ref.watch[0].value, -1, fix, "children.watch needs the old values of %s, which the server sends only under REPLICA IDENTITY FULL", name)
		return nil
	}
	b.note("identity.children", child.rule, fix, "an update that changes nothing, or a row deleted and inserted again as it was, counts as a change of its parent: the server does not send its old values")
	return nil
}

func columnRefsOf(v strictyaml.Value, columns []string) []columnRef {
	return mapped(columns, func(name string) columnRef { return columnRef{v, name} })
}

func columnCount(n int) string {
	if n == 1 {
		return "1 column"
	}
	return fmt.Sprintf("%d columns", n)
}
