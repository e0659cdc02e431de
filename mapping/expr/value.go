package expr

import (
	"math"
	"math/big"
)

// state says whether a value is known at run time.
type state uint8

const (
	stateNull state = iota
	stateKnown
	stateUnknown // depends on a column that was not sent: Machine.missing says which
	stateFailed  // Machine.err says why
)

// value is one value at run time, of any type; the compiled code knows which.
// It is passed by value, in registers, so that evaluation needs no heap.
type value struct {
	state state
	aux   int32    // numeric: special below; interval: months
	scale int32    // numeric: digits after the point; interval: days
	i     int64    // bool, integers, date, time, timestamps, money (cents), enum (position); float bits; numeric unscaled; interval microseconds
	s     []byte   // text and all types that are kept as text; bytea's bytes
	big   *big.Int // numeric: the unscaled value, when it does not fit i; never changed
	arr   *array
}

// array is an array's value, row by row.
type array struct {
	dims, lower []int
	elems       []value
}

// Values of value.aux for a numeric, in their order.
const (
	minusInfinity int32 = iota - 1
	finite
	plusInfinity
	notANumber
)

func boolValue(b bool) value {
	v := value{state: stateKnown}
	if b {
		v.i = 1
	}
	return v
}

func intValue(i int64) value { return value{state: stateKnown, i: i} }

func textValue(s []byte) value { return value{state: stateKnown, s: s} }

func floatValue(f float64) value {
	return value{state: stateKnown, i: int64(math.Float64bits(f))}
}

func (v value) float() float64 { return math.Float64frombits(uint64(v.i)) }

func (v value) known() bool { return v.state == stateKnown }

func (v value) isTrue() bool { return v.state == stateKnown && v.i != 0 }

func (v value) isFalse() bool { return v.state == stateKnown && v.i == 0 }
