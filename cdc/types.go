package cdc

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/jackc/pgx/v5"
)

// querier is what resolving needs of a connection.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// Types is a cache of types by OID, filled from the catalogue. A type keeps its
// pointer as long as the catalogue says the same about it. Safe for use by
// several goroutines.
type Types struct {
	mu    sync.RWMutex
	known map[uint32]resolved
}

type resolved struct {
	row typeRow
	typ *Type
}

// NewTypes returns an empty cache.
func NewTypes() *Types { return &Types{known: make(map[uint32]resolved)} }

// Lookup returns the type with the OID, or nil when it has not been loaded.
func (t *Types) Lookup(oid uint32) *Type {
	t.mu.RLock()
	defer t.mu.RUnlock()
	return t.known[oid].typ
}

// Preload loads, in one query, every type of the database but the row types of
// its tables.
func (t *Types) Preload(ctx context.Context, q querier) error {
	rows, err := queryTypes(ctx, q, `
		left join pg_catalog.pg_class c on c.oid = t.typrelid
		left join pg_catalog.pg_type e on e.oid = t.typelem
		left join pg_catalog.pg_class ec on ec.oid = e.typrelid
		where coalesce(c.relkind, 'c') = 'c' and coalesce(ec.relkind, 'c') = 'c'`)
	if err != nil {
		return fmt.Errorf("load types: %w", err)
	}
	return t.load(ctx, q, rows, nil)
}

// Load reads the types with these OIDs, and those they are made of, from the
// catalogue, even when they are known: an enum may have new labels, a composite
// new fields. An OID that the catalogue does not have becomes a type of KindUnknown.
func (t *Types) Load(ctx context.Context, q querier, oids ...uint32) error {
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
		more, err := queryTypes(ctx, q, `where t.oid = any($1::oid[])`, want)
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
	typ := &Type{OID: oid, Schema: row.Schema, Name: row.Name, Kind: row.kind(), TypeMod: row.TypeMod, Labels: row.Labels, Delim: row.Delim}
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
	if old := b.known[oid]; old.typ != nil && old.row.equal(row) && sameParts(old.typ, typ) {
		b.done[oid] = old.typ
	}
	return b.done[oid]
}

func sameParts(a, b *Type) bool {
	return a.Elem == b.Elem && slices.Equal(a.Fields, b.Fields)
}

// typeRow is what the catalogue says about a type.
type typeRow struct {
	OID          uint32
	Schema, Name string
	Typtype      string // pg_type.typtype, "" when the type does not exist
	Array        bool
	Elem         uint32 // see Type.Elem, 0 without one
	TypeMod      int32
	Delim        byte
	Labels       []string
	FieldNames   []string
	FieldTypes   []uint32
}

func (r typeRow) kind() TypeKind {
	switch {
	case r.Array:
		return KindArray
	case r.Typtype == "d":
		return KindDomain
	case r.Typtype == "e":
		return KindEnum
	case r.Typtype == "r":
		return KindRange
	case r.Typtype == "m":
		return KindMultirange
	case r.Typtype == "c":
		return KindComposite
	case r.Typtype == "":
		return KindUnknown
	}
	return KindBase
}

func (r typeRow) references() []uint32 {
	if r.Elem == 0 {
		return r.FieldTypes
	}
	return append([]uint32{r.Elem}, r.FieldTypes...)
}

func (r typeRow) equal(o typeRow) bool {
	return r.Schema == o.Schema && r.Name == o.Name && r.Typtype == o.Typtype && r.Array == o.Array &&
		r.Elem == o.Elem && r.TypeMod == o.TypeMod && r.Delim == o.Delim && slices.Equal(r.Labels, o.Labels) &&
		slices.Equal(r.FieldNames, o.FieldNames) && slices.Equal(r.FieldTypes, o.FieldTypes)
}

// queryTypes reads rows of pg_type. An array is what array_out prints, which
// leaves out the vectors of the catalogue and types with a subscript only.
func queryTypes(ctx context.Context, q querier, condition string, args ...any) (map[uint32]typeRow, error) {
	rows, err := q.Query(ctx, `
		select t.oid, n.nspname::text, t.typname::text, t.typtype::text, t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc,
			case when t.typoutput = 'pg_catalog.array_out'::pg_catalog.regproc then t.typelem
				when t.typtype = 'd' then t.typbasetype
				when t.typtype in ('r', 'm') then coalesce((select r.rngsubtype from pg_catalog.pg_range r
					where r.rngtypid = t.oid or r.rngmultitypid = t.oid), 0)
				else 0 end,
			t.typtypmod, t.typdelim::text,
			case when t.typtype = 'e' then (select array_agg(e.enumlabel::text order by e.enumsortorder)
				from pg_catalog.pg_enum e where e.enumtypid = t.oid) end,
			case when t.typtype = 'c' then (select array_agg(a.attname::text order by a.attnum) from pg_catalog.pg_attribute a
				where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end,
			case when t.typtype = 'c' then (select array_agg(a.atttypid order by a.attnum) from pg_catalog.pg_attribute a
				where a.attrelid = t.typrelid and a.attnum > 0 and not a.attisdropped) end
		from pg_catalog.pg_type t join pg_catalog.pg_namespace n on n.oid = t.typnamespace `+condition, args...)
	if err != nil {
		return nil, err
	}
	found := make(map[uint32]typeRow)
	var r typeRow
	var delim string
	_, err = pgx.ForEachRow(rows, []any{&r.OID, &r.Schema, &r.Name, &r.Typtype, &r.Array, &r.Elem, &r.TypeMod, &delim,
		&r.Labels, &r.FieldNames, &r.FieldTypes}, func() error {
		r.Delim = ','
		if delim != "" {
			r.Delim = delim[0]
		}
		found[r.OID] = r
		r = typeRow{}
		return nil
	})
	return found, err
}
