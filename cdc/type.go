package cdc

// TypeKind is the sort of a PostgreSQL type, from pg_type.typtype and typcategory.
type TypeKind uint8

// The kinds of types.
const (
	KindUnknown TypeKind = iota // not (or no longer) in the catalogue
	KindBase
	KindDomain
	KindEnum
	KindArray
	KindRange
	KindMultirange
	KindComposite
)

// Type is a PostgreSQL type, resolved from the catalogue. It is immutable and
// shared.
type Type struct {
	OID          uint32
	Schema, Name string // pg_type's own names: int4, not integer
	Kind         TypeKind
	// Elem is the type below: a domain's base (which may be a domain again),
	// an array's element, a range's or multirange's subtype.
	Elem *Type
	// TypeMod is a domain's typtypmod, -1 without one.
	TypeMod int32
	// Labels are an enum's labels in their sort order.
	Labels []string
	// Fields are a composite's attributes in order.
	Fields []Field
	// Delim separates an array's elements in text form: ',' for all but box.
	Delim byte
}

// Field is one attribute of a composite type.
type Field struct {
	Name string
	Type *Type
}

// Base returns the type with all domains stripped.
func (t *Type) Base() *Type {
	for t.Kind == KindDomain && t.Elem != nil {
		t = t.Elem
	}
	return t
}

// volatile reports whether the catalogue may say something new about the type
// without a new OID: labels and fields can be added.
func (t *Type) volatile() bool {
	switch t.Kind {
	case KindUnknown, KindEnum, KindComposite:
		return true
	}
	return t.Elem != nil && t.Elem.volatile()
}
