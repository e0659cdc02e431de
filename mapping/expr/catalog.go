package expr

import (
	"cmp"
	_ "embed"
	"strconv"
	"strings"
	"sync"

	"gancho/cdc"
)

// catalogText is the part of pg_type, pg_cast, pg_operator and pg_proc that
// decides what an expression means. It also has what we cannot evaluate, because
// PostgreSQL's rules choose among all candidates: among fewer, the choice could
// be another. TestCatalog compares it with a server.
//
//	t oid name category preferred element array typtype volatility of input and output
//	c source target context method function volatility
//	o operator left right result function volatility
//	f name arguments result strict variadic volatility defaults
//
//go:embed catalog.txt
var catalogText string

// typeInfo is what pg_type says beyond cdc.Type.
type typeInfo struct {
	typ       *cdc.Type
	category  byte
	preferred bool
	array     uint32 // the array type's OID, 0 without one
	pseudo    bool
	volatile  string // of the input and the output function: i or s each
}

// castRow is a row of pg_cast.
type castRow struct {
	context byte // i implicit, a assignment, e explicit
	method  byte // f function, b binary, i by text
	fn      string
	stable  bool // the function depends on the session, so that it is not folded
}

// candidate is an operator or a function, as PostgreSQL's resolution sees it.
type candidate struct {
	name     string // of the function: the key of implementations with its arguments
	args     []*cdc.Type
	result   *cdc.Type
	variadic bool
	stable   bool // as in castRow
}

// key names the candidate in the table of implementations, as int4pl(int4,int4).
func (c *candidate) key() string {
	return c.name + "(" + strings.Join(mapped(c.args, func(t *cdc.Type) string { return t.Name }), ",") + ")"
}

type catalog struct {
	types     map[uint32]*typeInfo
	byName    map[string]*typeInfo
	casts     map[[2]uint32]castRow
	prefix    map[string][]*candidate
	infix     map[string][]*candidate
	functions map[string][]*candidate
}

// OIDs that the language treats specially.
const (
	oidBool        = 16
	oidBytea       = 17
	oidInt8        = 20
	oidInt2        = 21
	oidInt2vector  = 22
	oidInt4        = 23
	oidText        = 25
	oidOidvector   = 30
	oidJSON        = 114
	oidFloat4      = 700
	oidFloat8      = 701
	oidUnknown     = 705
	oidMoney       = 790
	oidCIDR        = 650
	oidInet        = 869
	oidBpchar      = 1042
	oidVarchar     = 1043
	oidDate        = 1082
	oidTime        = 1083
	oidTimestamp   = 1114
	oidTimestamptz = 1184
	oidInterval    = 1186
	oidNumeric     = 1700
	oidUUID        = 2950
	oidJSONB       = 3802
	oidAny         = 2276
)

// pg is the catalogue; it is read at the first use and never changes.
var pg = sync.OnceValue(func() *catalog {
	c := &catalog{
		types: map[uint32]*typeInfo{}, byName: map[string]*typeInfo{}, casts: map[[2]uint32]castRow{},
		prefix: map[string][]*candidate{}, infix: map[string][]*candidate{}, functions: map[string][]*candidate{},
	}
	elems := map[*cdc.Type]uint32{}
	for line := range strings.Lines(catalogText) {
		f := strings.Fields(line)
		switch f[0] {
		case "t":
			c.addType(f, elems)
		case "c":
			c.casts[[2]uint32{c.byName[f[1]].typ.OID, c.byName[f[2]].typ.OID}] = castRow{f[3][0], f[4][0], f[5], f[6] != "i"}
		case "o":
			cand := &candidate{name: f[5], result: c.byName[f[4]].typ, stable: f[6] != "i"}
			if f[2] == "-" {
				cand.args = []*cdc.Type{c.byName[f[3]].typ}
				c.prefix[f[1]] = append(c.prefix[f[1]], cand)
			} else {
				cand.args = []*cdc.Type{c.byName[f[2]].typ, c.byName[f[3]].typ}
				c.infix[f[1]] = append(c.infix[f[1]], cand)
			}
		case "f":
			c.addFunction(f)
		}
	}
	for t, oid := range elems {
		t.Elem = c.types[oid].typ
	}
	return c
})

func (c *catalog) addType(f []string, elems map[*cdc.Type]uint32) {
	t := &cdc.Type{OID: number(f[1]), Schema: "pg_catalog", Name: f[2], Kind: cdc.KindBase, TypeMod: -1, Delim: ','}
	info := &typeInfo{typ: t, category: f[3][0], preferred: f[4] == "1", array: number(f[6]), pseudo: f[7] == "p", volatile: f[8]}
	switch {
	case info.category == 'A':
		t.Kind = cdc.KindArray
		elems[t] = number(f[5])
	case f[7] == "r":
		t.Kind = cdc.KindRange
	case f[7] == "m":
		t.Kind = cdc.KindMultirange
	}
	if t.Name == "box" || t.Name == "_box" {
		t.Delim = ';'
	}
	c.types[t.OID] = info
	c.byName[t.Name] = info
}

func (c *catalog) addFunction(f []string) {
	cand := &candidate{name: f[1], result: c.byName[f[3]].typ, variadic: f[5] == "1", stable: f[6] != "i"}
	if f[2] != "-" {
		for name := range strings.SplitSeq(f[2], ",") {
			cand.args = append(cand.args, c.byName[name].typ)
		}
	}
	c.functions[f[1]] = append(c.functions[f[1]], cand)
}

// number reads a number of the embedded catalogue, which is known to be one.
func number(s string) uint32 {
	n, _ := strconv.ParseUint(s, 10, 32)
	return uint32(n)
}

// builtin returns a type of pg_catalog by its OID.
func builtin(oid uint32) *cdc.Type { return pg().types[oid].typ }

// kindCategories are the categories of users' types.
var kindCategories = map[cdc.TypeKind]byte{
	cdc.KindEnum: 'E', cdc.KindArray: 'A', cdc.KindComposite: 'C', cdc.KindRange: 'R', cdc.KindMultirange: 'R',
}

// category is pg_type.typcategory of a type, domains stripped.
func category(t *cdc.Type) byte {
	t = t.Base()
	if info := pg().types[t.OID]; info != nil {
		return info.category
	}
	if isTextLike(t) {
		return 'S'
	}
	return cmp.Or(kindCategories[t.Kind], 'U')
}

func preferred(t *cdc.Type) bool {
	info := pg().types[t.OID]
	return info != nil && info.preferred
}

// isForeign reports types that the catalogue here does not know: those of
// extensions, and those that no longer exist.
func isForeign(t *cdc.Type) bool {
	t = t.Base()
	switch t.Kind {
	case cdc.KindEnum, cdc.KindRange, cdc.KindMultirange, cdc.KindComposite:
		return false
	case cdc.KindArray:
		return t.Elem == nil || isForeign(t.Elem)
	}
	return pg().types[t.OID] == nil && !isTextLike(t)
}

// titles are the types that people write otherwise than pg_type.
var titles = map[uint32]string{
	oidInt2: "smallint", oidInt4: "integer", oidInt8: "bigint", oidFloat4: "real", oidFloat8: "double precision", oidBool: "boolean",
	oidBpchar: "character", oidVarchar: "character varying", oidTimestamp: "timestamp without time zone",
	oidTimestamptz: "timestamp with time zone",
}

// typeTitle is the type as people write it.
func typeTitle(t *cdc.Type) string {
	if t.Kind == cdc.KindArray && t.Elem != nil {
		return typeTitle(t.Elem) + "[]"
	}
	return cmp.Or(titles[t.OID], t.Name)
}

// stableText reports whether a type's text form depends on the session, in
// reading or in printing.
func stableText(t *cdc.Type, printing bool) bool {
	info := pg().types[t.Base().OID]
	if info == nil {
		return true // enums and arrays of them read the catalogue
	}
	if printing {
		return info.volatile[1] != 'i'
	}
	return info.volatile[0] != 'i'
}

// Builtin returns a type of pg_catalog by its name in pg_type; nil: there is none.
func Builtin(name string) *cdc.Type {
	if info := pg().byName[name]; info != nil && !info.pseudo {
		return info.typ
	}
	return nil
}
