package mapping

import (
	"slices"
	"strings"

	"gancho/cdc"
)

// When a row is longer than toastThreshold, PostgreSQL moves its longest values out of line until
// it is not longer than its target; a value of at most inlineSize bytes stays. An update that does
// not touch a value out of line does not send it. Values of the strategy main go last, and only
// until the row fits into a page; those of plain stay.
// https://www.postgresql.org/docs/current/storage-toast.html
//
// ALTER TABLE ... SET STORAGE and toast_tuple_target hold for rows that are written later. What is out
// of line stays there, so that a setting that keeps values in line proves nothing about the rows
// that are there: values may be out of line by the settings of now, and by those of the type.
const (
	toastThreshold = 2032
	pageTarget     = 8160
	inlineSize     = 24
	rowHeader      = 32
	alignment      = 7
)

// unbounded is more bytes than a row can have in line.
const unbounded = 1 << 20

// outOfLine reports whether values of the column may be stored out of line.
func outOfLine(t *cdc.Table, column int) bool {
	c := &t.Relation.Columns[column]
	size, fixed := largest(c)
	if fixed || size <= inlineSize {
		return false
	}
	target := toastThreshold
	if t.ToastTarget > 0 && t.ToastTarget < target {
		target = t.ToastTarget
	}
	s := strategies(t, c)
	switch {
	case strings.ContainsAny(s, "xe"):
		// The row is too long to begin with, and then still where longer values have been moved.
		return rowSize(t, unbounded, "") > toastThreshold && rowSize(t, size, "xe") > target
	case strings.Contains(s, "m"):
		return rowSize(t, size, "xem") > pageTarget
	}
	return false
}

// rowSize is how long a row may be of which values that are longer than one of own bytes, and have one of
// the strategies and no other, have been moved: shorter ones are moved only once all longer ones are,
// so that what counts of these is as long as it. Of the strategy main go those of the others before.
func rowSize(t *cdc.Table, own int, moved string) int {
	total := rowHeader + len(t.Relation.Columns)/8
	for i := range t.Relation.Columns {
		c := &t.Relation.Columns[i]
		size, fixed := largest(c)
		if s := strategies(t, c); !fixed && strings.Trim(s, moved) == "" {
			limit := own
			if strings.Contains(moved, "m") && !strings.Contains(s, "m") {
				limit = inlineSize
			}
			size = min(size, limit)
		}
		total += size + alignment
	}
	return total
}

// strategies are those that values of the column may have been stored with.
func strategies(t *cdc.Table, c *cdc.Column) string {
	own := "x"
	if base := c.Type.Base(); base.Schema == "pg_catalog" && base.Name == "numeric" {
		own = "m"
	}
	return own + t.Storage[c.Name]
}

// fixedSizes are the bytes of types whose values are always in line.
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
		return int((mod-4)>>16)/2 + 16, false
	case "varchar", "bpchar": // four bytes for a character
		return 4*int(mod-4) + 4, false
	}
	if slices.Contains([]string{"bit", "varbit"}, t.Name) {
		return int(mod)/8 + 16, false
	}
	return unbounded, false
}
