package expr

import (
	"errors"
	"hash"
	"math"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
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
	aux   int32  // numeric: special below; interval: months
	scale int32  // numeric: digits after the point; interval: days
	i     int64  // bool, integers, date, time, timestamps, money (cents), enum (position); float bits; numeric unscaled; interval microseconds
	s     []byte // text and all types that are kept as text; bytea's bytes
	big   *wide  // numeric: the unscaled value, when it does not fit i
	arr   *array
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

// evalFunc is a compiled term. It keeps no state: all that changes is in the
// machine.
type evalFunc func(m *Machine) value

// Machine evaluates compiled expressions over one change at a time, and reuses
// its memory. It belongs to one goroutine.
type Machine struct {
	settings Settings
	loc      *time.Location
	bytewise bool // the encoding is SQL_ASCII
	change   *cdc.Change
	turn     uint64             // of the change; a cell of another turn is stale
	rows     [sides][]cdc.Datum // new, old and those of lookups
	cells    [sides][]cell
	arena    []byte // results of text functions, until the next Load
	limits   budget // of a change
	budget          // what is left of them for the change at hand
	args     []value
	bound    value // the value of opBound
	err      *EvalError
	missing  *UnknownError
	macs     map[string]hash.Hash // by the secret's name
	digest   []byte
}

// MaxLookups is the largest number of lookups in a scope.
const MaxLookups = 64

// sides are the rows that a machine has: new, old and one for each lookup.
const sides = 2 + MaxLookups

// cell caches a column's parsed value.
type cell struct {
	turn uint64
	v    value
}

// maxArena is the largest arena that a machine keeps from one change to the next,
// in bytes.
const maxArena = 1 << 20

// unplaced is the offset of an error whose place the caller fills in.
const unplaced = -1

// NewMachine creates a machine for expressions compiled under the same settings.
func NewMachine(s Settings) *Machine {
	loc := s.Location
	if loc == nil {
		loc = time.UTC
	}
	return &Machine{settings: s, loc: loc, bytewise: s.bytewise(), limits: budget{maxMemory, maxSteps}, budget: budget{maxMemory, maxSteps}}
}

// Load sets the change that expressions are evaluated on. The machine refers to c
// and its buffers until the next call.
func (m *Machine) Load(c *cdc.Change) {
	m.change = c
	m.rows[0], m.rows[1] = c.New, c.Old
	m.turn++
	m.budget = m.limits
	if cap(m.arena) > maxArena {
		m.arena = nil
	}
	m.arena = m.arena[:0]
}

// LoadLookup sets the row of a lookup, by its index in Scope.Lookups, for the
// change that was loaded last. Call it once for each change. The machine refers to
// the row as Load refers to the change.
func (m *Machine) LoadLookup(lookup int, row []cdc.Datum) { m.rows[2+lookup] = row }

// Bool evaluates a boolean expression. When err is not nil, it is an
// *UnknownError or an *EvalError.
func (m *Machine) Bool(e *Expr) (val, null bool, err error) { return m.result(e.test(m)) }

func (m *Machine) result(x tri) (val, null bool, err error) {
	switch x {
	case triUnknown:
		return false, false, m.missing
	case triFailed:
		return false, false, m.err
	default:
		return x == triTrue, x == triNull, nil
	}
}

// Decide is Bool, and says which of Parts has made the condition false, or was the first
// null: -1, when it has none, or is true.
func (m *Machine) Decide(e *Expr) (val, null bool, part int, err error) {
	x, part := e.decide(m)
	val, null, err = m.result(x)
	return val, null, part, err
}

// decide is boolLogic of an AND, with the operand that decides.
func (e *Expr) decide(m *Machine) (r tri, decider int) {
	if e.parts == nil {
		return e.test(m), -1
	}
	r, decider = triTrue, -1
	for i := range e.parts {
		switch x := e.parts[i].test(m); {
		case x == triFalse || x == triFailed:
			return x, i
		case x > triTrue && (r == triTrue || x > r):
			r, decider = x, i
		}
	}
	return r, decider
}

// Sent returns an *UnknownError for the first of the columns whose value the server did
// not send.
func (m *Machine) Sent(columns []Column) error {
	for _, c := range columns {
		side := 0
		if c.Old {
			side = 1
		}
		if d := m.datum(side, c.Index); !d.Known() {
			return &UnknownError{Column: c.Name, Old: c.Old, State: d.State}
		}
	}
	return nil
}

// AppendText appends the result in PostgreSQL's text form. When err is not
// nil, it is an *UnknownError or an *EvalError.
func (m *Machine) AppendText(dst []byte, e *Expr) (out []byte, null bool, err error) {
	if c := e.root; c.op == opColumn && !e.zoned {
		if d := m.datum(c.side(), c.column); d.Known() {
			if !m.output(len(d.Text)) {
				return dst, false, m.failure(m.overMemory())
			}
			return append(dst, d.Text...), d.State == cdc.Null, nil
		}
	}
	v := e.eval(m)
	if v.state > stateKnown {
		return dst, false, m.failure(v)
	}
	if v.state == stateNull {
		return dst, true, nil
	}
	if failed, ok := m.canPrint(v); !ok {
		return dst, false, m.failure(failed)
	}
	if !m.output(e.out.size(v)) {
		return dst, false, m.failure(m.overMemory())
	}
	return e.out.print(m, dst, v), false, nil
}

// output takes the size of a result from the budget, unless it is small.
func (m *Machine) output(n int) bool { return n <= freeOutput || m.spend(n) }

// AppendJSON appends the result as pgtext.AppendJSON writes its type, null as
// "null". A bare column keeps its exact text, and only its timestamps are local in
// the source's time zone.
func (m *Machine) AppendJSON(dst []byte, e *Expr, o *pgtext.JSONOptions) ([]byte, error) {
	if c := e.root; c.op == opColumn {
		if d := m.datum(c.side(), c.column); d.State == cdc.Present {
			return m.json(dst, e, d.Text, o)
		}
	}
	v := e.eval(m)
	if v.state > stateKnown {
		return dst, m.failure(v)
	}
	if v.state == stateNull {
		return append(dst, "null"...), nil
	}
	if v = m.printed(e.out, v); v.state > stateKnown {
		return dst, m.failure(v)
	}
	return m.json(dst, e, v.s, o)
}

func (m *Machine) json(dst []byte, e *Expr, text []byte, o *pgtext.JSONOptions) ([]byte, error) {
	if o == nil {
		o = &pgtext.JSONOptions{}
	}
	o.Limit, o.Wall = int(m.memory), e.wall
	out, err := pgtext.AppendJSON(dst, e.typ, e.root.typmod, text, o)
	if err != nil {
		return dst, m.conversionError(err, 0)
	}
	m.output(len(out) - len(dst)) // within the limit
	return out, nil
}

// failure is the error behind a value that is unknown or failed.
func (m *Machine) failure(v value) error {
	if v.state == stateUnknown {
		return m.missing
	}
	m.placed(v, 0)
	return m.err
}

// fail records an error. The call's wrapper adds the place.
func (m *Machine) fail(code, message string) value {
	m.err = &EvalError{Code: code, Message: message, Offset: unplaced}
	return value{state: stateFailed}
}

// failWith records an error of pgtext, which knows its SQLSTATE.
func (m *Machine) failWith(err error) value {
	m.err = m.conversionError(err, unplaced)
	return value{state: stateFailed}
}

func (m *Machine) conversionError(err error, offset int) *EvalError {
	var known *pgtext.Error
	if errors.As(err, &known) {
		return &EvalError{Code: known.Code, Message: known.Message, Offset: offset}
	}
	return &EvalError{Code: "XX000", Message: err.Error(), Offset: offset}
}

// absent is the datum of a column that the change does not have.
var absent cdc.Datum

// datum returns a column of the new row (side 0) or the old one (side 1). What
// the change does not have is missing.
func (m *Machine) datum(side, column int) *cdc.Datum {
	if row := m.rows[side]; column < len(row) {
		return &row[column]
	}
	return m.withoutRow(side, column)
}

// withoutRow is datum for a row that was not sent: of an old version, the columns
// of the replica identity are those of the new one.
func (m *Machine) withoutRow(side, column int) *cdc.Datum {
	c := m.change
	if side == 1 && c != nil && c.Old == nil && c.Op == cdc.Update && c.Relation != nil && column < len(c.New) &&
		column < len(c.Relation.Columns) && c.Relation.KeepsKey(column) {
		return &c.New[column]
	}
	return &absent
}

// cell returns the cache for a column.
func (m *Machine) cell(side, column int) *cell {
	cells := m.cells[side]
	if column >= len(cells) {
		cells = append(cells, make([]cell, column+1-len(cells))...)
		m.cells[side] = cells
	}
	return &cells[column]
}

// now is the commit's time as a timestamp with time zone.
func (m *Machine) now() value {
	if m.change == nil || m.change.Tx == nil {
		return m.fail("XX000", "the change has no transaction and so no commit time")
	}
	return intValue(m.change.Tx.Time.UnixMicro() - epoch2000)
}

// epoch2000 is 2000-01-01 in microseconds of Unix time.
const epoch2000 = 946684800 * 1000000

// appended takes over out, the arena with a text appended, and returns the text.
// What may be long needs room first.
func (m *Machine) appended(out []byte) value {
	start := len(m.arena)
	if cap(out) != cap(m.arena) && !m.spend(cap(out)) {
		return m.overMemory()
	}
	m.arena = out
	return m.grown(start)
}

// textResult is appended for a function of pgtext that may fail.
func (m *Machine) textResult(out []byte, err error) value {
	if err != nil {
		return m.failWith(err)
	}
	return m.appended(out)
}

// grown is what was appended to the arena since start, as a text.
func (m *Machine) grown(start int) value {
	return textValue(m.arena[start:len(m.arena):len(m.arena)])
}
