package expr

import (
	"hash/maphash"
	"math/big"
	"math/bits"

	"gancho/cdc"
)

// elementType compares the elements of arrays.
type elementType struct {
	eq equality
	// hash is the same for equal values. It is nil for types whose equality has no
	// simple hash or may fail: each element of one array is compared with each of the
	// other's, as PostgreSQL does for every type.
	hash func(v value) uint64
}

// containing is an implementation of @>, <@ or &&.
func containing(f func(m *Machine, a, b *array, t *elementType) value) *impl {
	return bound(func(c *checker, t *term) (*impl, *Error) {
		eq, err := elementEquality(c, t)
		elem := &elementType{eq, elementHash(t.args[0].typ.Base().Elem)}
		return two(func(m *Machine, a, b value) value { return f(m, a.arr, b.arr, elem) }), err
	})
}

// contains is a @> b: every element of b equals one of a; a null equals none. If not
// all must, it is b && a. Elements of a are compared with one of b after the other, as
// PostgreSQL does, until a hash table of them would have taken as long.
func (t *elementType) contains(m *Machine, a, b *array, all bool) value {
	if failed, ok := m.readElements(a); !ok {
		return failed
	}
	const perElement, fewElements = 32, 8 // steps that the table takes, and when it is not worth it
	var table []int32
	left := m.steps - int64(perElement*len(a.elems))
	for elems := b.reader(); ; {
		want, more := elems.next(m)
		if !more {
			return boolValue(all)
		}
		r := boolValue(false)
		switch {
		case want.state == stateFailed:
			return want
		case want.state == stateNull:
		case t.hash == nil || m.steps > left || len(a.elems) <= fewElements:
			r = t.scan(m, a.elems, want)
		default:
			if table == nil {
				var failed value
				if table, failed = t.table(m, a.elems); table == nil {
					return failed
				}
			}
			i := t.slot(m, table, a.elems, want)
			if i < 0 {
				return m.overSteps()
			}
			r = boolValue(table[i] != 0)
		}
		if r.state != stateKnown || r.isTrue() != all {
			return r
		}
	}
}

// scan reports whether a value equals an element.
func (t *elementType) scan(m *Machine, elems []value, want value) value {
	for _, e := range elems {
		if !m.step(weight(e)) {
			return m.overSteps()
		}
		if e.state == stateNull {
			continue
		}
		if r := t.eq(m, e, want); !r.isFalse() {
			return r
		}
	}
	return boolValue(false)
}

// table is a hash table of the elements that are not null: 0, or the position of an
// element and 1. It is nil when the budget does not allow it.
func (t *elementType) table(m *Machine, elems []value) (table []int32, failed value) {
	size := 1 << bits.Len(uint(2*len(elems))) // less than half of it is used
	if !m.spend(4 * size) {
		return nil, m.overMemory()
	}
	table = make([]int32, size)
	for i, e := range elems {
		if e.state == stateNull {
			continue
		}
		s := t.slot(m, table, elems, e)
		if s < 0 {
			return nil, m.overSteps()
		}
		if table[s] == 0 {
			table[s] = int32(i + 1)
		}
	}
	return table, value{}
}

// slot finds the place in the table of an element equal to a value, or the empty one
// where it would be. It is negative when there are no steps left: a row may be made so
// that many of its elements have the same hash.
func (t *elementType) slot(m *Machine, table []int32, elems []value, want value) int {
	mask := len(table) - 1
	if !m.step(weight(want)) {
		return -1
	}
	for i := int(t.hash(want)) & mask; ; i = (i + 1) & mask {
		if table[i] == 0 {
			return i
		}
		e := elems[table[i]-1]
		if !m.step(weight(e)) {
			return -1
		}
		if t.eq(m, e, want).isTrue() {
			return i
		}
	}
}

// elementHash is the hash of a type's values, or nil.
func elementHash(t *cdc.Type) func(v value) uint64 {
	seed := maphash.MakeSeed()
	number := func(i uint64) uint64 { return maphash.Comparable(seed, i) }
	switch t.Base().OID {
	case oidInt2, oidInt4, oidInt8, oidBool, oidMoney, oidDate, oidTime, oidTimestamp, oidTimestamptz:
		return func(v value) uint64 { return number(uint64(v.i)) }
	case oidFloat4, oidFloat8:
		return func(v value) uint64 {
			f := v.float()
			if f != f || f == 0 { // NaN has many forms, 0 two
				return 0
			}
			return number(uint64(v.i))
		}
	case oidText, oidVarchar, oidUUID, oidBytea:
		return func(v value) uint64 { return maphash.Bytes(seed, v.s) }
	case oidBpchar:
		return func(v value) uint64 { return maphash.Bytes(seed, trimEnd(v.s)) }
	case oidNumeric:
		return func(v value) uint64 { return number(numericResidue(v)) }
	}
	return nil
}

// The numbers' hash is that of their remainder in the field of residues of a prime,
// which is the same for 1.5 and 1.50: the unscaled value times the inverse of ten to
// the power of the scale.
const (
	residuePrime = 1<<61 - 1
	inverseOfTen = 2075258708292324556 // times 10 it is 1
)

func numericResidue(v value) uint64 {
	if v.aux != finite {
		return uint64(v.aux)
	}
	r := v.i % residuePrime
	if v.big != nil {
		r = new(big.Int).Rem(v.big.int(), big.NewInt(residuePrime)).Int64()
	}
	if r < 0 {
		r += residuePrime
	}
	product := uint64(r)
	for n, power := v.scale, uint64(inverseOfTen); n > 0; n >>= 1 {
		if n&1 != 0 {
			product = mulResidue(product, power)
		}
		power = mulResidue(power, power)
	}
	return product
}

func mulResidue(a, b uint64) uint64 {
	hi, lo := bits.Mul64(a, b)
	_, r := bits.Div64(hi, lo, residuePrime)
	return r
}
