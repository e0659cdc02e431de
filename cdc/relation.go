package cdc

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
)

// Relation is a table as a Relation message of the stream, or the catalogue,
// describes it. It is immutable; a schema change makes a new one.
type Relation struct {
	OID             uint32
	Schema, Name    string
	ReplicaIdentity byte // d default, n nothing, f full, i index (pg_class.relreplident)
	Columns         []Column
	// Weaker are the partitions whose replica identity covers less than the
	// table's own, by name; nil when there are none. Old rows come as the
	// partition's identity has them, so that Key is then what all cover.
	Weaker []Name
}

// Column is one column of a relation, in the order of the tuples.
type Column struct {
	Name string
	// Key: part of the replica identity (under FULL: every column), and of
	// those of the partitions in Relation.Weaker.
	Key bool
	// Type is never nil. One that is not in the catalogue any more has KindUnknown.
	Type    *Type
	TypeMod int32 // atttypmod, -1 without one
}

// Column returns the index of the named column, or -1.
func (r *Relation) Column(name string) int {
	return slices.IndexFunc(r.Columns, func(c Column) bool { return c.Name == name })
}

// TableName returns the relation's name.
func (r *Relation) TableName() Name { return Name{Schema: r.Schema, Name: r.Name} }

// KeepsKey reports whether an update that came without an old row left the
// column as it was: the server sends the old row when the replica identity
// changed, and under FULL always, so that an update without it happened in a
// partition with another identity.
func (r *Relation) KeepsKey(column int) bool {
	return r.Columns[column].Key && (r.ReplicaIdentity != 'f' || r.Weaker != nil)
}

// equal reports whether both describe the same table in the same way.
func (r *Relation) equal(o *Relation) bool {
	return r.OID == o.OID && r.Schema == o.Schema && r.Name == o.Name && r.ReplicaIdentity == o.ReplicaIdentity &&
		slices.Equal(r.Columns, o.Columns) && slices.Equal(r.Weaker, o.Weaker)
}

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
