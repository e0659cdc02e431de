package expr

import (
	"unsafe"

	"gancho/internal/pgtext"
)

const valueSize = int(unsafe.Sizeof(value{}))

// The budget of one change, over all rules and expressions: a row must neither
// exhaust the bridge's memory nor stop the stream. What exceeds it is an
// EvalError, so that the change is parked with the reason.
const (
	// maxMemory bounds what evaluation allocates, results included, in bytes.
	// PostgreSQL allows 1 GB for each value.
	maxMemory = 256 << 20
	// maxSteps bounds the work that can exceed the size of the operands, such as
	// an array's elements times those of another. A step is about 3 ns.
	maxSteps = 1 << 30
	// freeOutput is what one result may have without being counted, in bytes:
	// the number of results is that of the rules' expressions.
	freeOutput = 4 << 10
)

// budget is what is left for the change at hand.
type budget struct{ memory, steps int64 }

// spend takes n bytes of memory from the budget, or nothing if so many are not left.
func (b *budget) spend(n int) bool {
	if int64(n) > b.memory {
		return false
	}
	b.memory -= int64(n)
	return true
}

// step takes n steps from the budget.
func (b *budget) step(n int) bool {
	b.steps -= int64(n)
	return b.steps >= 0
}

func (m *Machine) overMemory() value { return m.failWith(pgtext.ErrTooLong) }

func (m *Machine) overSteps() value {
	return m.fail("54000", "the expressions need too much work for this change")
}

// minArena is the size of a machine's first arena, in bytes.
const minArena = 1 << 10

// room makes room for n more bytes in the arena. Values that refer to the arena
// keep what they refer to. It is false when the budget does not allow so much.
func (m *Machine) room(n int) bool {
	if cap(m.arena)-len(m.arena) >= n {
		return true
	}
	size := max(n, min(2*cap(m.arena), maxArena), minArena)
	if !m.spend(size) {
		return false
	}
	m.arena = make([]byte, 0, size)
	return true
}

// printed returns the text form of a known value.
func (m *Machine) printed(c *codec, v value) value {
	if c.plain {
		return v
	}
	if failed, ok := m.canPrint(v); !ok {
		return failed
	}
	if !m.room(c.size(v)) {
		return m.overMemory()
	}
	return m.appended(c.print(m, m.arena, v))
}

// canPrint takes from the budget what printing a value takes besides the result.
func (m *Machine) canPrint(v value) (failed value, ok bool) {
	if v.big != nil && !hasDigits(v) && !m.spend(bigScratch(v.big.length())) {
		return m.overMemory(), false
	}
	if v.arr != nil {
		if failed, ok = m.readElements(v.arr); !ok {
			return failed, false
		}
		for _, e := range v.arr.elems {
			if failed, ok = m.canPrint(e); !ok {
				return failed, false
			}
		}
	}
	return value{}, true
}

// size bounds the length of a known value's text form.
func (c *codec) size(v value) int {
	if c.plain {
		return len(v.s)
	}
	n := shortForm + 2*len(v.s) // bytea has two digits for each byte
	if v.big != nil {
		n += v.big.length() + int(v.scale)
	}
	if v.arr != nil {
		for _, e := range v.arr.elems {
			n += 2*c.elem.size(e) + len(`"",`) // each byte may need an escape
		}
		n += len("{}")*len(v.arr.dims)*max(1, len(v.arr.elems)) + len(v.arr.dims)*len("[-2147483648:-2147483648]")
	}
	return n
}

// shortForm bounds the text form of a number or time of fixed size.
const shortForm = 64

// elements allocates an array's elements.
func (m *Machine) elements(n int) ([]value, bool) {
	if !m.spend(n * valueSize) {
		return nil, false
	}
	return make([]value, n), true
}

// withElement appends an element to an array that is being read.
func (m *Machine) withElement(elems []value, v value) ([]value, bool) {
	if len(elems) < cap(elems) {
		return append(elems, v), true
	}
	size := max(2*len(elems), 8)
	if !m.spend(size * valueSize) {
		return nil, false
	}
	grown := make([]value, len(elems), size)
	copy(grown, elems)
	return append(grown, v), true
}
