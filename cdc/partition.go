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
// The stream itself tells: before a partition's first change of the session,
// and again after it was altered, the server describes the root, then the
// partition, then sends the change as the root's. This is of the change's time,
// which a look into the catalogue would not be: there the partition may be
// altered or gone by now, or not visible yet.
//
// Which partition a later change came from is not told, so that one that is
// weaker than its root makes all null old values of the root unknown.

// describe notes a table that the server has described.
func (d *decoder) describe(rel *Relation) { d.outer, d.inner = d.inner, rel }

// locate looks at a row of a table that comes behind descriptions: two of them,
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
		delete(d.told, part.OID)
		d.log.Info().Stringer("table", root.TableName()).Stringer("partition", part.TableName()).Msg("partition has the replica identity of its table now")
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

// publish makes the relation, less what its partitions do not send, the one
// that changes have. It keeps the pointer of one that is the same.
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
		if d.told[oid] {
			continue
		}
		d.told[oid] = true
		part := d.weaker[root.OID][oid].TableName()
		d.log.Error().Stringer("table", root.TableName()).Stringer("partition", part).Stringer("lsn", d.tx.Commit).
			Str("fix", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL", part)).
			Msg("partition has a weaker replica identity than its table; old values that it does not send are unknown")
	}
}
