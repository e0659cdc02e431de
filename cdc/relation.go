package cdc

import "slices"

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
