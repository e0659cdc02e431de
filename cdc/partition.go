package cdc

import (
	"cmp"
	"errors"
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
// A root that is altered alone is not described again. That its replica identity
// became FULL, or no longer is, shows in its old rows, which then are marked
// otherwise than its description says.
//
// The stream does not show which partition a later change came from. One
// partition that is weaker than its root therefore makes all null old values of
// the root unknown.
//
// A partition without changes is not described again either. So when its root has
// become another and it would be weaker by a description of an earlier transaction,
// the stream starts again with the transaction at hand: all descriptions are then of
// that transaction or later, which is also why it happens once. See [Reader.Redescribe]
// for a partition that is altered while its root stays as it is.

// errRedescribe: the partitions have to be described again.
var errRedescribe = errors.New("descriptions of partitions are out of date")

// family is a partitioned table as it was described last, and its partitions,
// by OID; weaker are those that send less than the root.
type family struct {
	root          *Relation
	parts, weaker map[uint32]*Relation
	described     map[uint32]LSN // the commit LSN of the transaction that the partition's description came in
}

// describe takes a description of a table for the changes to come. Its error is
// errRedescribe.
func (d *decoder) describe(rel *Relation) error {
	if f := d.families[rel.OID]; f != nil {
		if err := d.compareAll(f, rel); err != nil {
			return err
		}
	}
	d.publish(rel)
	return nil
}

// locate returns the relation of a row that follows descriptions: two of them,
// of the row's table and of another, are those of a root and its partition.
func (d *decoder) locate(rel *Relation) *Relation {
	root, part := d.outer, d.inner
	d.outer, d.inner = nil, nil
	if root == nil || root.OID != rel.OID || part.OID == rel.OID {
		return rel
	}
	f := d.families[root.OID]
	if f == nil {
		f = &family{root: root, parts: make(map[uint32]*Relation), weaker: make(map[uint32]*Relation), described: make(map[uint32]LSN)}
		d.families[root.OID] = f
	}
	f.parts[part.OID], f.described[part.OID] = part, d.tx.Commit
	if !d.compare(f, part) {
		return rel
	}
	return d.publish(root)
}

// altered returns the relation of a root whose old rows show that its replica
// identity became FULL, or no longer is. Which columns an old row has then
// depends on the partitions alone. Its error is errRedescribe.
func (d *decoder) altered(rel *Relation) (*Relation, error) {
	f := d.families[rel.OID]
	if f == nil {
		return rel, nil // no server sends that
	}
	root := *f.root
	root.Columns = slices.Clone(root.Columns)
	for i := range root.Columns {
		root.Columns[i].Key = true
	}
	root.ReplicaIdentity = 'f'
	if rel.ReplicaIdentity == 'f' {
		root.ReplicaIdentity = 'd'
	}
	if err := d.compareAll(f, &root); err != nil {
		return nil, err
	}
	return d.publish(&root), nil
}

// compareAll compares the partitions with another description of their root,
// unless that names the same columns as the one before. Its error is errRedescribe.
func (d *decoder) compareAll(f *family, root *Relation) error {
	before := f.root
	f.root = root
	if slices.EqualFunc(before.Columns, root.Columns, func(a, b Column) bool { return a.Name == b.Name && a.Key == b.Key }) {
		return nil
	}
	for oid, part := range f.parts {
		if f.described[oid] != d.tx.Commit && part.weakerThan(root) {
			return errRedescribe
		}
	}
	for _, part := range f.parts {
		d.compare(f, part)
	}
	return nil
}

// weakened reports whether a partition makes old values of its root unknown.
func (d *decoder) weakened() bool {
	for _, f := range d.families {
		if len(f.weaker) > 0 {
			return true
		}
	}
	return false
}

// compare notes whether the partition sends less than its root, and reports
// whether the root's relation may be another by that.
func (d *decoder) compare(f *family, part *Relation) bool {
	switch {
	case part.weakerThan(f.root):
		f.weaker[part.OID] = part
	case f.weaker[part.OID] == nil:
		return false
	default:
		delete(f.weaker, part.OID)
		delete(d.warned, part.OID)
		d.log.Info().Stringer("table", f.root.TableName()).Stringer("partition", part.TableName()).Msg("partition now covers the replica identity of its table")
	}
	return true
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
// changes to come.
func (d *decoder) publish(rel *Relation) *Relation {
	if f := d.families[rel.OID]; f != nil && len(f.weaker) > 0 {
		root := *rel
		rel = &root
		rel.Columns = slices.Clone(root.Columns)
		for _, part := range f.weaker {
			rel.Weaker = append(rel.Weaker, part.TableName())
			for i := range rel.Columns {
				rel.Columns[i].Key = rel.Columns[i].Key && part.hasKey(rel.Columns[i].Name)
			}
		}
		slices.SortFunc(rel.Weaker, func(a, b Name) int {
			return cmp.Or(cmp.Compare(a.Schema, b.Schema), cmp.Compare(a.Name, b.Name))
		})
	}
	return d.store(d.refresh(rel))
}

// store makes the relation that of the changes to come. An equal one keeps its
// pointer.
func (d *decoder) store(rel *Relation) *Relation {
	if old := d.kept[rel.OID]; old != nil && old.equal(rel) {
		rel = old
	}
	d.relations[rel.OID], d.kept[rel.OID] = rel, rel
	return rel
}

// warn logs each weaker partition once, at an update or delete: to a table of
// which only inserts are published it makes no difference.
func (d *decoder) warn(root *Relation) {
	weaker := d.families[root.OID].weaker
	for _, oid := range slices.Sorted(maps.Keys(weaker)) {
		if d.warned[oid] {
			continue
		}
		d.warned[oid] = true
		part := weaker[oid].TableName()
		d.log.Error().Stringer("table", root.TableName()).Stringer("partition", part).Stringer("lsn", d.tx.Commit).
			Str("fix", fmt.Sprintf("ALTER TABLE %s REPLICA IDENTITY FULL", part)).
			Msg("partition has a weaker replica identity than its table; old values that it does not send are unknown")
	}
}
