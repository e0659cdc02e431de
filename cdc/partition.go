package cdc

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Under publish_via_partition_root a partition's changes come as the root's,
// but their old rows are what the partition's own replica identity covers: a
// new partition does not inherit FULL. The columns outside of it are then sent
// as null, or no old row is sent at all, in messages that look like the root's.
//
// The stream itself shows it: before a partition's first change of the session,
// and again after it was altered, the server describes the root, then the
// partition, then sends the change as the root's. These descriptions are of the
// change's time. The catalogue's are not: there the partition may have been
// altered or dropped meanwhile, or not be visible yet.
//
// The stream does not show which partition a later change came from. One
// partition that is weaker than its root therefore makes all null old values of
// the root unknown.

// describe notes a table that the server has described.
func (d *decoder) describe(rel *Relation) { d.outer, d.inner = d.inner, rel }

// locate returns the relation of a row that follows descriptions: two of them,
// of the row's table and of another, are those of a root and its partition.
func (d *decoder) locate(rel *Relation) *Relation {
	root, part := d.outer, d.inner
	d.outer, d.inner = nil, nil
	if root == nil || root.OID != rel.OID || part.OID == rel.OID {
		return rel
	}
	switch {
	case part.weakerThan(root):
		if d.weaker[root.OID] == nil {
			d.weaker[root.OID] = make(map[uint32]*Relation)
		}
		d.weaker[root.OID][part.OID] = part
	case d.weaker[root.OID][part.OID] == nil:
		return rel
	default:
		delete(d.weaker[root.OID], part.OID)
		delete(d.warned, part.OID)
		d.log.Info().Stringer("table", root.TableName()).Stringer("partition", part.TableName()).Msg("partition now covers the replica identity of its table")
	}
	return d.publish(root)
}

// weakerThan reports whether a column of the root's replica identity is not in
// the partition's.
func (r *Relation) weakerThan(root *Relation) bool {
	return slices.ContainsFunc(root.Columns, func(c Column) bool { return c.Key && !r.hasKey(c.Name) })
}

func (r *Relation) hasKey(name string) bool {
	i := r.Column(name)
	return i >= 0 && r.Columns[i].Key
}

// publish makes the relation, less what its partitions do not send, that of the
// changes to come. An equal one keeps its pointer.
func (d *decoder) publish(rel *Relation) *Relation {
	if parts := d.weaker[rel.OID]; len(parts) > 0 {
		root := *rel
		rel = &root
		rel.Columns = slices.Clone(root.Columns)
		for _, part := range parts {
			rel.Weaker = append(rel.Weaker, part.TableName())
			for i := range rel.Columns {
				rel.Columns[i].Key = rel.Columns[i].Key && part.hasKey(rel.Columns[i].Name)
			}
		}
		slices.SortFunc(rel.Weaker, func(a, b Name) int {
			return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
		})
	}
	if old := d.kept[rel.OID]; old != nil && old.equal(rel) {
		rel = old
	}
	d.relations[rel.OID], d.kept[rel.OID] = rel, rel
	return rel
}

// warn logs each weaker partition once, at an update or delete: to a table of
// which only inserts are published it makes no difference.
func (d *decoder) warn(root *Relation) {
	for _, oid := range slices.Sorted(maps.Keys(d.weaker[root.OID])) {
		if d.warned[oid] {
			continue
		}
		d.warned[oid] = true
		part := d.weaker[root.OID][oid].TableName()
		d.log.Error().Stringer("table", root.TableName()).Stringer("partition", part).Stringer("lsn", d.tx.Commit).
			Str("fix", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL", part)).
			Msg("partition has a weaker replica identity than its table; old values that it does not send are unknown")
	}
}
