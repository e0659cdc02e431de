package cdc

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/jackc/pgx/v5"
)

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
	// Of a base type that is not PostgreSQL's own: the extension that it belongs to,
	// if any; whether its values are text, to which it converts by itself without a
	// function (pg_cast); and whether it has an operator = of its own.
	Extension      string
	IsText, Equals bool
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

// Alterable reports whether the catalogue may say something new about the type
// without a new OID, of which the stream has no word: ALTER TYPE can add and
// rename labels and fields, and drop fields.
func (t *Type) Alterable() bool {
	switch t.Kind {
	case KindUnknown, KindEnum, KindComposite:
		return true
	}
	return t.Elem != nil && t.Elem.Alterable()
}

// querier is what resolving needs of a connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Types is a cache of types by OID, filled from the catalogue. A type keeps its
// pointer as long as the catalogue says the same about it. Safe for use by
// several goroutines.
type Types struct {
	encoding Encoding // of the names in the catalogue
	// loading holds one signal from the first query of a load to its end: the last one has read last.
	loading chan struct{}
	mu      sync.RWMutex
	known   map[uint32]resolved
	// version rises when the catalogue says something else about a known type.
	version atomic.Uint64
}

type resolved struct {
	row typeRow
	typ *Type
}

// NewTypes returns an empty cache, for a database whose names have the encoding.
func NewTypes(encoding Encoding) *Types {
	return &Types{encoding: encoding, loading: make(chan struct{}, 1), known: make(map[uint32]resolved)}
}

// lock waits for a load of another goroutine, whose connection may be dead, no
// longer than the context lasts.
func (t *Types) lock(ctx context.Context) error {
	select {
	case t.loading <- struct{}{}:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for another load of types: %w", ctx.Err())
	}
}

func (t *Types) unlock() { <-t.loading }

// Lookup returns the type with the OID, or nil when it has not been loaded.
func (t *Types) Lookup(oid uint32) *Type {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[oid].typ
}

// composites returns the composite types that are known, the row types of tables
// included.
func (t *Types) composites() []uint32 {
	t.mu.RLock()
	defer t.mu.RUnlock()
	var oids []uint32
	for oid, r := range t.known {
		if r.typ.Kind == KindComposite {
			oids = append(oids, oid)
		}
	}
	slices.Sort(oids)
	return oids
}

// Preload loads every type of the database, of the row types of its tables those
// that are known.
func (t *Types) Preload(ctx context.Context, q querier) error {
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	rows, err := queryTypes(ctx, q, t.encoding, `
		left join pg_catalog.pg_class c on c.oid = t.typrelid
		left join pg_catalog.pg_type e on e.oid = t.typelem
		left join pg_catalog.pg_class ec on ec.oid = e.typrelid
		where coalesce(c.relkind, 'c') = 'c' and coalesce(ec.relkind, 'c') = 'c'`)
	if err != nil {
		return fmt.Errorf("load types: %w", err)
	}
	return t.load(ctx, q, rows, t.composites())
}

// Load reads the types with these OIDs, and those they are made of, from the
// catalogue, even when they are known: an enum may have new labels, a composite
// new fields. An OID that the catalogue does not have becomes a type of KindUnknown.
func (t *Types) Load(ctx context.Context, q querier, oids ...uint32) error {
	if err := t.lock(ctx); err != nil {
		return err
	}
	defer t.unlock()
	return t.load(ctx, q, make(map[uint32]typeRow), oids)
}

// load completes rows with the types wanted and all that they refer to, then
// publishes what has changed.
func (t *Types) load(ctx context.Context, q querier, rows map[uint32]typeRow, want []uint32) error {
	for _, row := range rows {
		want = append(want, row.references()...)
	}
	for {
		want = slices.DeleteFunc(want, func(oid uint32) bool { _, ok := rows[oid]; return ok })
		if len(want) == 0 {
			break
		}
		more, err := queryTypes(ctx, q, t.encoding, `where t.oid = any($1::oid[])`, want)
		if err != nil {
			return fmt.Errorf("load types: %w", err)
		}
		for _, oid := range want {
			row, ok := more[oid]
			if !ok {
				row = typeRow{OID: oid} // not in the catalogue any more
			}
			rows[oid] = row
		}
		want = want[:0:0]
		for _, row := range more {
			want = append(want, row.references()...)
		}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	b := typeBuilder{rows: rows, known: t.known, done: make(map[uint32]*Type, len(rows))}
	for oid := range rows {
		b.build(oid)
	}
	for oid, typ := range b.done {
		if old := t.known[oid].typ; old != nil && old != typ {
			t.version.Add(1)
		}
		t.known[oid] = resolved{row: rows[oid], typ: typ}
	}
	return nil
}

// typeBuilder turns catalogue rows into types, bottom up.
type typeBuilder struct {
	rows  map[uint32]typeRow
	known map[uint32]resolved
	done  map[uint32]*Type
}

func (b *typeBuilder) build(oid uint32) *Type {
	if typ, ok := b.done[oid]; ok {
		return typ
	}
	row := b.rows[oid]
	typ := &Type{OID: oid, Schema: row.Schema, Name: row.Name, Kind: row.kind(), TypeMod: row.TypeMod, Labels: row.Labels,
		Extension: row.Extension, IsText: row.IsText, Equals: row.Equals}
	typ.Delim = (row.Delim + ",")[0]
	// PostgreSQL refuses types that contain themselves, so that the entry
	// below is only ever met again if the catalogue is damaged.
	b.done[oid] = typ
	if row.Elem != 0 {
		typ.Elem = b.build(row.Elem)
		if typ.Kind == KindArray {
			typ.Delim = typ.Elem.Delim // array_out takes the element's
		}
	}
	for i, name := range row.FieldNames {
		typ.Fields = append(typ.Fields, Field{Name: name, Type: b.build(row.FieldTypes[i])})
	}
	old := b.known[oid]
	if old.typ != nil && reflect.DeepEqual(old.row, row) && old.typ.Elem == typ.Elem && slices.Equal(old.typ.Fields, typ.Fields) {
		b.done[oid] = old.typ
	}
	return b.done[oid]
}

// typeRow is what the catalogue says about a type, in the order of queryTypes.
type typeRow struct {
	OID          uint32
	Schema, Name string
	Typtype      string // pg_type.typtype, "" when the type does not exist
	Array        bool
	Elem         uint32 // see Type.Elem, 0 without one
	TypeMod      int32
	Delim        string // one character
	Labels       []string
	FieldNames   []string
	FieldTypes   []uint32
	Extension    string
	IsText       bool
	Equals       bool
}

func (r typeRow) kind() TypeKind {
	if r.Array {
		return KindArray
	}
	kinds := map[string]TypeKind{"d": KindDomain, "e": KindEnum, "r": KindRange, "m": KindMultirange, "c": KindComposite, "": KindUnknown}
	if kind, ok := kinds[r.Typtype]; ok {
		return kind
	}
	return KindBase
}

func (r typeRow) references() []uint32 {
	if r.Elem == 0 {
		return r.FieldTypes
	}
	return append([]uint32{r.Elem}, r.FieldTypes...)
}

// queryTypes reads rows of pg_type. An array is what array_out prints, which
// leaves out the vectors of the catalogue and types with a subscript only; a
// domain over one prints by it, too, and is a domain.
func queryTypes(ctx context.Context, q querier, e Encoding, condition string, args ...any) (map[uint32]typeRow, error) {
	rows, _ := q.Query(ctx, `
		select t.oid, `+e.SQL("n.nspname::text")+`, `+e.SQL("t.typname::text")+`, t.typtype::text, t.typtype <> 'd' and t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc,
			case when t.typtype = 'd' then t.typbasetype
				when t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc then t.typelem
				when t.typtype in ('r', 'm') then coalesce((select r.rngsubtype from pg_catalog.pg_range r
					where r.rngtypid = t.oid or r.rngmultitypid = t.oid), 0)
				else 0 end,
			t.typtypmod, t.typdelim::text,
			case when t.typtype = 'e' then (select array_agg(`+e.SQL("e.enumlabel::text")+` order by e.enumsortorder)
				from pg_catalog.pg_enum e where e.enumtypid = t.oid) end,
			case when t.typtype = 'c' then (select array_agg(`+e.SQL("a.attname::text")+` order by a.attnum) from pg_catalog.pg_attribute a
				where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end,
			case when t.typtype = 'c' then (select array_agg(a.atttypid order by a.attnum) from pg_catalog.pg_attribute a
				where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end,
			case when t.typtype = 'b' and n.nspname <> 'pg_catalog' then coalesce((select e.extname::text
				from pg_catalog.pg_depend d join pg_catalog.pg_extension e on e.oid = d.refobjid
				where d.classid = 'pg_catalog.pg_type'::pg_catalog.regclass and d.objid = t.oid
					and d.refclassid = 'pg_catalog.pg_extension'::pg_catalog.regclass and d.deptype = 'e'), '') else '' end,
			t.typtype = 'b' and n.nspname <> 'pg_catalog' and exists (select from pg_catalog.pg_cast p
				where p.castsource = t.oid and p.casttarget = 'pg_catalog.text'::pg_catalog.regtype and p.castmethod = 'b' and p.castcontext = 'i'),
			t.typtype = 'b' and n.nspname <> 'pg_catalog' and exists (select from pg_catalog.pg_operator o
				where o.oprname = '=' and o.oprleft = t.oid and o.oprright = t.oid)
		from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace `+condition, args...)
	list, err := pgx.CollectRows(rows, pgx.RowToStructByPos[typeRow])
	found := make(map[uint32]typeRow, len(list))
	for _, r := range list {
		found[r.OID] = r
	}
	return found, unreadable(err)
}
