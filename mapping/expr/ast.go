package expr

import "strings"

// node is a piece of the syntax tree, before names and types are known.
type node interface {
	// span is the piece's place in the source, in bytes.
	span() (off, end int)
}

// place is the span of a node.
type place struct{ off, end int }

func (p place) span() (int, int) { return p.off, p.end }

type literalKind uint8

const (
	litString literalKind = iota
	litNumber             // digits, perhaps with a sign, a point and an exponent
	litNull
	litTrue
	litFalse
)

type literal struct {
	place
	kind literalKind
	text string
}

// ident is one name; quoted ones have kept their case.
type ident struct {
	place
	text   string
	quoted bool
}

// columnRef is a, new.a or lookup.a. Longer paths are refused later.
type columnRef struct {
	place
	path []ident
	star bool // a.*
}

// rowExpr is row(a, b) and (a, b).
type rowExpr struct {
	place
	list []node
}

// unary is a prefix operator other than not.
type unary struct {
	place
	op string
	x  node
}

// binary is an infix operator; opPlace is the place of the operator alone.
type binary struct {
	place
	op      string
	opPlace place
	l, r    node
}

// logic is "and" or "or".
type logic struct {
	place
	or   bool
	l, r node
}

type negation struct {
	place
	x node
}

// isTest is x is [not] null, true, false or unknown.
type isTest struct {
	place
	x    node
	test string
	not  bool
}

// distinct is l is [not] distinct from r.
type distinct struct {
	place
	l, r node
	not  bool
}

type inList struct {
	place
	x    node
	list []node
	not  bool
}

type between struct {
	place
	x, lo, hi node
	not       bool
	symmetric bool
}

type like struct {
	place
	x, pattern, escape node // escape may be nil
	not, ilike         bool
}

// quantified is x op any(array) or x op all(array).
type quantified struct {
	place
	op      string
	opPlace place
	all     bool
	x, arr  node
}

type caseWhen struct{ cond, result node }

type caseExpr struct {
	place
	arg   node // nil in the searched form
	whens []caseWhen
	other node // nil without else
}

// typeName is a type as written.
type typeName struct {
	place
	schema string
	name   string // pg_type's own name where the grammar has another: int4 for integer
	mods   []string
	array  bool
}

// cast is x::t, cast(x as t) and t 'x'.
type cast struct {
	place
	x node
	t typeName
}

// call is a function call, or a form of SQL's that means one.
type call struct {
	place
	name ident
	args []node
	bare bool // current_date and its like, without parentheses
}

type arrayExpr struct {
	place
	list []node
}

type subscript struct {
	place
	x, index node
}

// atZone is x at time zone z.
type atZone struct {
	place
	x, zone node
}

// collated is x collate "C".
type collated struct {
	place
	x    node
	path []ident
}

// quoteLiteral writes a string so that it reads back the same in one line.
func quoteLiteral(s string) string {
	if !strings.ContainsAny(s, "\n\r") {
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	}
	return "E'" + strings.NewReplacer("'", "''", `\`, `\\`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

func quoteIdent(id ident) string {
	if !id.quoted {
		return id.text
	}
	return quoteName(id.text)
}

func quoteName(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }
