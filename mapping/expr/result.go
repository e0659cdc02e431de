package expr

import (
	"slices"

	"gancho/cdc"
)

// Fact is what is certain of a column of the row.
type Fact struct {
	// NotNull: it is never null.
	NotNull bool
	// Values are the texts of the only values that it has besides null; nil: it may have any.
	Values []string
}

// Result says what an expression may be, whatever the row.
type Result struct {
	Type    *cdc.Type
	TypeMod int32
	// Nullable: it may be null.
	Nullable bool
	// Fails: it may fail for the values of a row.
	Fails bool
	// Values are the texts of the only values that it has besides null; nil: it may have any.
	Values []string
	// Wall: a timestamp without time zone is not known to be local in the source's zone, and
	// has no offset (pgtext.JSONOptions.Wall).
	Wall bool
	// Hidden: every column of it is named only within mask_... (), last4() and hmac().
	Hidden bool
}

// Result analyses the expression, given what is certain of the columns of both rows. Those
// of lookups may always be null.
func (e *Expr) Result(fact func(old bool, column int) Fact) Result {
	a := analysis{fact: fact, machine: NewMachine(Settings{})}
	out := Result{
		Type: e.typ, TypeMod: e.root.typmod, Wall: e.wall, Nullable: a.nullable(e.root), Fails: a.fails(e.root),
		Hidden: len(e.columns)+len(e.lookups) > 0 &&
			!slices.ContainsFunc(e.columns, func(c Column) bool { return !c.Hidden }) &&
			!slices.ContainsFunc(e.lookups, func(c LookupColumn) bool { return !c.Hidden }),
	}
	if values, ok := a.values(e.root); ok {
		slices.Sort(values)
		out.Values = slices.Compact(values)
	}
	return out
}

type analysis struct {
	fact    func(old bool, column int) Fact
	machine *Machine // prints constants
}

func (a *analysis) anyNullable(terms []*term) bool { return slices.ContainsFunc(terms, a.nullable) }

// nullable reports whether the term may be null: where it is not certain, it may.
func (a *analysis) nullable(t *term) bool {
	switch t.op {
	case opConst:
		return t.isNullConst()
	case opColumn:
		return t.lookup > 0 || !a.fact(t.old, t.column).NotNull
	case opNull, opTruth, opDistinct, opChanged, opArray:
		return false
	case opAnd, opOr, opNot, opByOp, opRelabel, opText:
		return a.anyNullable(t.args)
	case opElements:
		return a.nullable(t.args[0])
	case opCase, opSwitch:
		return a.anyNullable(t.results())
	case opCoalesce, opExtreme:
		return !slices.ContainsFunc(t.args, func(arg *term) bool { return !a.nullable(arg) })
	case opQuantified:
		return a.anyNullable(t.args) || !t.args[1].isConst() || slices.ContainsFunc(elementsOf(t.args[1]), func(v value) bool { return v.state != stateKnown })
	case opCall:
		return a.callNullable(t)
	}
	return true
}

// nullReturning are the functions that may be null although no argument is: what is not
// there has none, and neither have parts of an infinite time.
var nullReturning = []string{
	"array_length", "array_lower", "array_ndims", "array_position", "array_upper", "date_part", "extract", "time", "timetz", "to_char", "substring",
	"json_array_element", "json_array_element_text", "json_object_field", "json_object_field_text",
	"jsonb_array_element", "jsonb_array_element_text", "jsonb_object_field", "jsonb_object_field_text", "jsonb_extract_path", "jsonb_extract_path_text",
	"json_extract_path", "json_extract_path_text",
}

func (a *analysis) callNullable(t *term) bool {
	switch {
	case t.function == "concat" || t.function == "num_nulls" || t.function == "num_nonnulls":
		return false
	case t.function == "concat_ws":
		return a.nullable(t.args[0])
	case t.impl.lax || t.function == "":
		return true
	}
	return slices.Contains(nullReturning, t.function) || a.anyNullable(t.args)
}

// elementsOf are those of a constant array.
func elementsOf(t *term) []value {
	if t.lit.arr == nil || t.lit.arr.sent != nil {
		return []value{{}} // not read: one may be null
	}
	return t.lit.arr.elems
}

// results are those of CASE.
func (t *term) results() []*term {
	list := t.args
	if t.op == opSwitch {
		list = list[1:]
	}
	var out []*term
	for i, arg := range list {
		if i%2 == 1 || i == len(list)-1 {
			out = append(out, arg)
		}
	}
	return out
}

// fails reports whether evaluating the term may be an error: what only chooses among
// columns and constants is none.
func (a *analysis) fails(t *term) bool {
	switch t.op {
	case opConst, opColumn, opAnd, opOr, opNot, opNull, opTruth, opCase, opCoalesce, opRelabel, opChanged:
		return slices.ContainsFunc(t.args, a.fails)
	}
	return true
}

// values are the texts of all that a term may be besides null; false: they are not known.
func (a *analysis) values(t *term) ([]string, bool) {
	switch t.op {
	case opConst:
		return a.constant(t)
	case opColumn:
		if t.lookup > 0 {
			return nil, false
		}
		values := a.fact(t.old, t.column).Values
		return values, values != nil && oneText(t.typ)
	case opRelabel:
		return a.values(t.args[0])
	case opCase, opSwitch:
		return a.union(t.results())
	case opCoalesce:
		return a.union(t.args)
	}
	return nil, false
}

func (a *analysis) union(terms []*term) ([]string, bool) {
	var all []string
	for _, t := range terms {
		values, ok := a.values(t)
		if !ok {
			return nil, false
		}
		all = append(all, values...)
	}
	return all, true
}

// constant is the text of a constant of a type whose equal values have one text.
func (a *analysis) constant(t *term) ([]string, bool) {
	switch {
	case t.isNullConst():
		return []string{}, true
	case !oneText(t.typ):
		return nil, false
	}
	return []string{string(codecOf(t.typ).print(a.machine, nil, t.lit))}, true
}

// oneText: equal values of the type have one text.
func oneText(t *cdc.Type) bool {
	switch t.Base().OID {
	case oidText, oidVarchar, oidBpchar, oidInt2, oidInt4, oidInt8:
		return true
	}
	return false
}

// Allowed reads a condition such as that of a CHECK constraint, which no row has false: it
// returns, by column, the texts of the only values that it has in such a row besides null.
// It is empty where the condition is none that says that.
func (e *Expr) Allowed() map[int][]string {
	a := analysis{machine: NewMachine(Settings{})}
	out := map[int][]string{}
	parts := []*term{e.root}
	if e.root.op == opAnd {
		parts = e.root.args
	}
	for _, part := range parts {
		alternatives := []*term{part}
		if part.op == opOr {
			alternatives = part.args
		}
		if column, values, ok := a.alternatives(alternatives); ok {
			out[column] = values
		}
	}
	return out
}

// alternatives are the values of one column that several terms allow.
func (a *analysis) alternatives(terms []*term) (column int, values []string, ok bool) {
	column = -1
	for _, t := range terms {
		at, more, ok := a.allowed(t)
		if !ok || column >= 0 && at != column {
			return 0, nil, false
		}
		column, values = at, append(values, more...)
	}
	slices.Sort(values)
	return column, slices.Compact(values), true
}

// allowed reads column = constant, and column = any (constants).
func (a *analysis) allowed(t *term) (column int, values []string, ok bool) {
	if (t.op != opCall && (t.op != opQuantified || t.all)) || len(t.args) != 2 || !slices.Contains(equalities, t.function) {
		return 0, nil, false
	}
	of, constant := t.args[0], t.args[1]
	for of.op == opRelabel {
		of = of.args[0]
	}
	if of.op != opColumn || of.lookup > 0 || of.old || !oneText(of.typ) || !constant.isConst() || constant.isNullConst() {
		return 0, nil, false
	}
	if t.op == opCall {
		values, ok = a.constant(constant)
		return of.column, values, ok
	}
	elem := constant.typ.Base().Elem
	if elem == nil || !oneText(elem) {
		return 0, nil, false
	}
	for _, v := range elementsOf(constant) {
		switch v.state {
		case stateKnown:
			values = append(values, string(codecOf(elem).print(a.machine, nil, v)))
		default:
			return 0, nil, false // an element that is null lets any value pass
		}
	}
	return of.column, values, true
}

// equalities are the functions of = for the types of oneText.
var equalities = []string{"texteq", "bpchareq", "int2eq", "int4eq", "int8eq", "int24eq", "int42eq", "int28eq", "int82eq", "int48eq", "int84eq"}
