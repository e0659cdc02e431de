package expr

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/internal/pgtext"
)

// Settings are the properties of the source database that decide what an
// expression means.
type Settings struct {
	// Location is the session's TimeZone; nil is UTC.
	Location *time.Location
	// Collation and CType are pg_database.datcollate and datctype.
	Collation, CType string
	// Provider is pg_database.datlocprovider: "c" (also when empty) for libc,
	// "i" for ICU, "b" for the builtin provider.
	Provider string
	// Encoding is the server's, by pg_encoding_to_char; empty is UTF8. Under
	// SQL_ASCII every byte is a character: text that is converted from a single-byte
	// encoding on its way here needs that encoding instead.
	Encoding string
	// DateOrder is that of DateStyle: how 01/02/2026 is read. Unknown, it is refused.
	DateOrder pgtext.DateOrder
	// Monetary is lc_monetary; empty is C. Values have the form of C in any case.
	Monetary string
	// CheckZone compares the rules of a time zone that an expression names with
	// the server's, and returns what differs. Nil: they are the same.
	CheckZone func(*time.Location) error
	// Secrets are the keys of hmac(), by name.
	Secrets map[string][]byte
}

// Scope is what an expression may name.
type Scope struct {
	Relation *cdc.Relation
	// Old and New say which rows every operation of the rule has. Naming the
	// other is an error, as it is in CREATE TRIGGER.
	Old, New bool
	// Insert, Update and Delete are the rule's operations. A bare x is new.x,
	// or old.x when the rule is for delete only.
	Insert, Update, Delete bool
	Settings               Settings
	// Computed says which of Relation's columns are values that a query has computed; nil: none.
	Computed []bool
	// Lookups are rows from elsewhere, whose columns are named lookup.column;
	// at most MaxLookups.
	Lookups []Lookup
	// Generated: the table has generated columns that Relation has not.
	Generated bool
	// Early: the expression is evaluated before the lookups are read, so that
	// naming one is an error.
	Early bool
	// Collation returns a column's own collation (pg_attribute.attcollation) and
	// whether it is deterministic (pg_collation.collisdeterministic). The name is
	// empty when the column has the database's. Nil: every column has it.
	Collation func(column int) (name string, deterministic bool)
}

// Lookup describes the row that a query finds for a change.
type Lookup struct {
	Name    string
	Columns []cdc.Column
	// Computed says which of the columns are not columns of a table; nil: none.
	Computed []bool
}

// computes reports whether the term is another value than that of a column of a table:
// a choice among columns is none.
func (s *Scope) computes(t *term) bool {
	choices := t.args
	switch t.op {
	case opColumn:
		computed := s.Computed
		if t.lookup > 0 {
			computed = s.Lookups[t.lookup-1].Computed
		}
		return t.column < len(computed) && computed[t.column]
	case opRelabel, opCoalesce, opExtreme:
	case opNullIf:
		choices = t.args[:1]
	case opCase, opSwitch:
		choices = nil
		list := t.args
		if t.op == opSwitch {
			list = list[1:]
		}
		for i, a := range list {
			if i%2 == 1 || i == len(list)-1 {
				choices = append(choices, a)
			}
		}
	default:
		return !t.isNullConst()
	}
	return slices.ContainsFunc(choices, s.computes)
}

// Error is one mistake in an expression. Offset and Length are in bytes of the
// source, so that the caller can compute a position in its file.
type Error struct {
	Offset, Length int
	Message, Hint  string
	// Unsupported: PostgreSQL may accept it. Syntax that is not read here is that, too.
	Unsupported bool
}

// Error returns the message and the hint, without the position.
func (e *Error) Error() string {
	if e.Hint == "" {
		return e.Message
	}
	return e.Message + "; " + e.Hint
}

// Errors are the mistakes found in one expression, in source order.
type Errors []*Error

// Error returns the messages, joined.
func (e Errors) Error() string {
	return strings.Join(mapped(e, (*Error).Error), "\n")
}

// Unwrap gives errors.As access to each mistake.
func (e Errors) Unwrap() []error {
	return mapped(e, func(err *Error) error { return err })
}

// UnknownError reports that the result depends on a column whose value the server
// did not send, so that it is neither a value nor null.
type UnknownError struct {
	Column string
	Old    bool
	State  cdc.State // Missing, Unchanged or Invalid
}

// Error names the column and why its value is not known.
func (e *UnknownError) Error() string {
	row := "new"
	if e.Old {
		row = "old"
	}
	switch e.State {
	case cdc.Invalid:
		return fmt.Sprintf("read %s.%s: its bytes are no text in source.encoding; correct the row, or the setting", row, e.Column)
	case cdc.Unchanged:
		return fmt.Sprintf("read %s.%s: the server did not send this unchanged large value; set REPLICA IDENTITY FULL on the table", row, e.Column)
	}
	return fmt.Sprintf("read %s.%s: the server did not send this column; set REPLICA IDENTITY FULL on the table", row, e.Column)
}

// EvalError is an error of evaluation, where PostgreSQL would raise one. It never
// has row data.
type EvalError struct {
	Code    string // the SQLSTATE that PostgreSQL would give
	Message string
	Offset  int // in the expression's source
}

// Error returns the message with its SQLSTATE.
func (e *EvalError) Error() string { return e.Message + " (SQLSTATE " + e.Code + ")" }

// Column is a column that an expression names.
type Column struct {
	Old   bool
	Index int // in Scope.Relation.Columns
	Name  string
	// Hidden: it is named only within mask_... (), last4() and hmac().
	Hidden bool
	// Whole: it is named only as a part of old or new, whatever columns the table has.
	Whole bool
}

// LookupColumn is a column of a lookup that an expression names.
type LookupColumn struct {
	Lookup, Index int  // in Scope.Lookups, and in its Columns
	Hidden        bool // as in Column
}

// Expr is a compiled expression. It is immutable: any number of machines may
// evaluate it at the same time.
type Expr struct {
	root    *term
	eval    evalFunc
	test    testFunc // of a boolean expression
	parts   []part   // the operands of a condition that is an AND; nil: it is none
	out     *codec
	zoned   bool // the text form depends on the session's time zone, which is not the stream's
	wall    bool // pgtext.JSONOptions.Wall: only a column's timestamps are known to be local in the source's zone
	typ     *cdc.Type
	columns []Column
	lookups []LookupColumn
	needOld bool
}

// Compile parses and checks an expression. The error is an Errors with every
// mistake found.
func Compile(src string, s *Scope) (*Expr, error) { return compile(src, s, false) }

// CompileBool compiles an expression that must be boolean, as WHEN does.
func CompileBool(src string, s *Scope) (*Expr, error) { return compile(src, s, true) }

func compile(src string, s *Scope, mustBeBool bool) (*Expr, error) {
	tree, err := parse(src, s.Settings.foldsAccents())
	if err != nil {
		err.Unsupported = true
		return nil, Errors{err}
	}
	c := &checker{scope: s, machine: NewMachine(s.Settings)}
	root := c.check(tree)
	if mustBeBool {
		root = c.boolean(root, "the condition")
	} else {
		root = c.decide(root)
	}
	root = c.fold(root)
	if len(c.errs) > 0 {
		slices.SortStableFunc(c.errs, func(a, b *Error) int { return cmp.Compare(a.Offset, b.Offset) })
		return nil, c.errs
	}
	if root == nil {
		return nil, errors.New("check the expression: no result; report this as a bug")
	}
	e := &Expr{root: root, typ: root.typ, columns: c.columns(), lookups: c.lookups, needOld: c.needOld}
	e.eval, e.out, e.zoned = generate(root), codecOf(root.typ), showsZone(root.typ)
	e.wall = s.computes(root)
	if root.typ.Base().OID == oidBool {
		e.test = generateBool(root)
		if root.op == opAnd {
			e.parts = mapped(root.args, func(t *term) part { return part{generateBool(t), t.off} })
		}
	}
	return e, nil
}

// part is an operand of the AND at the top of a condition.
type part struct {
	test   testFunc
	offset int
}

// Parts are the places of the operands of the AND at the top of a condition, as offsets
// in its source; nil: it is no AND. One conjunct of the source may be several of them
// (BETWEEN), and a constant one is none.
func (e *Expr) Parts() []int { return mapped(e.parts, func(p part) int { return p.offset }) }

// Type is the result's type. A string literal, or null, is text.
func (e *Expr) Type() *cdc.Type { return e.typ }

// Columns returns every column that the expression names, old rows last,
// sorted by index and without repetition.
func (e *Expr) Columns() []Column { return slices.Clone(e.columns) }

// Bare returns the column of the row that the expression is; false: it is more.
func (e *Expr) Bare() (Column, bool) {
	if e.root.op != opColumn || e.root.lookup > 0 || len(e.columns) != 1 {
		return Column{}, false
	}
	return e.columns[0], true
}

// Lookups returns the columns of lookups that the expression names, as often as
// it does.
func (e *Expr) Lookups() []LookupColumn { return slices.Clone(e.lookups) }

// NeedsOld reports whether the expression uses values of the old row.
func (e *Expr) NeedsOld() bool { return e.needOld }

// CheckSyntax parses an expression without looking at any table. The error is
// an Errors.
func CheckSyntax(src string) error {
	if _, err := parse(src, false); err != nil {
		return Errors{err}
	}
	return nil
}
