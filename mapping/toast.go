package mapping

import (
	"slices"

	"gancho/cdc"
)

// When a row is longer than rowTarget, PostgreSQL moves its longest values out of line until
// it is not; a value of at most inlineSize bytes stays. An update that does not touch a value
// out of line does not send it.
// https://www.postgresql.org/docs/current/storage-toast.html
const (
	rowTarget  = 2032
	inlineSize = 24
	rowHeader  = 32
	alignment  = 7
)

// unbounded is more bytes than a row can have in line.
const unbounded = 1 << 20

// outOfLine reports whether values of the column may be stored out of line. Shorter ones are
// moved only once all longer ones are, so that what counts of these is as long as it.
func outOfLine(rel *cdc.Relation, column int) bool {
	own, fixed := largest(&rel.Columns[column])
	if fixed || own <= inlineSize {
		return false
	}
	total := rowHeader + len(rel.Columns)/8
	for i := range rel.Columns {
		size, fixed := largest(&rel.Columns[i])
		if !fixed {
			size = min(size, own)
		}
		total += size + alignment
	}
	return total > rowTarget
}

// fixedSizes are the bytes of types that are always in line.
var fixedSizes = map[string]int{
	"bool": 1, "char": 1, "int2": 2, "int4": 4, "int8": 8, "oid": 4, "float4": 4, "float8": 8, "date": 4, "time": 8, "timetz": 16,
	"timestamp": 8, "timestamptz": 8, "interval": 16, "uuid": 16, "money": 8, "name": 64, "macaddr": 8, "macaddr8": 8, "inet": 24, "cidr": 24,
	"point": 16, "lseg": 32, "box": 32, "line": 24, "circle": 24, "pg_lsn": 8, "xid": 4, "cid": 4, "tid": 8,
}

// largest is how many bytes a value of the column may have; fixed: all are in line.
func largest(c *cdc.Column) (size int, fixed bool) {
	t, mod := c.Type, c.TypeMod
	for t.Kind == cdc.KindDomain && t.Elem != nil {
		if mod < 0 {
			mod = t.TypeMod
		}
		t = t.Elem
	}
	if t.Kind == cdc.KindEnum {
		return 8, true
	}
	if t.Schema != "pg_catalog" || t.Kind != cdc.KindBase {
		return unbounded, false
	}
	if size, ok := fixedSizes[t.Name]; ok {
		return size, true
	}
	if mod < 4 {
		return unbounded, false
	}
	switch t.Name {
	case "numeric": // two bytes for four digits
		return int((mod-4)>>16)/2 + 16, true
	case "varchar", "bpchar": // four bytes for a character
		return 4*int(mod-4) + 4, false
	}
	if slices.Contains([]string{"bit", "varbit"}, t.Name) {
		return int(mod)/8 + 16, false
	}
	return unbounded, false
}
