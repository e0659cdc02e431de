package expr

import (
	"cmp"
	"fmt"
	"strings"
)

// Catalog is the embedded catalogue.
var Catalog = catalogText

// CaseIsSettled reports whether upper and lower of a character can be evaluated
// where letters are not only ASCII's.
var CaseIsSettled = caseIsSettled

// WithBudget returns the machine with less memory, in bytes, and fewer steps for every change.
func WithBudget(m *Machine, memory, steps int64) *Machine {
	m.limits = budget{memory, steps}
	m.budget = m.limits
	return m
}

// Reformat parses a source and writes its tree in a normal form, fully
// parenthesised, which compiles to the same thing.
func Reformat(src string) (string, error) {
	n, err := parse(src, false)
	if err != nil {
		return "", err
	}
	return format(n), nil
}

// format writes a tree in a normal form with all parentheses.
func format(n node) string {
	var p printer
	p.node(n)
	return p.b.String()
}

type printer struct{ b strings.Builder }

func (p *printer) write(parts ...string) {
	for _, s := range parts {
		p.b.WriteString(s)
	}
}

// group writes a tree with parentheses unless it needs none anywhere.
func (p *printer) group(n node) {
	switch n := n.(type) {
	case *columnRef, *call, *caseExpr, *arrayExpr, *rowExpr:
		p.node(n)
		return
	case *literal:
		if !strings.HasPrefix(n.text, "-") {
			p.node(n)
			return
		}
	}
	p.write("(")
	p.node(n)
	p.write(")")
}

func (p *printer) list(nodes []node) {
	for i, n := range nodes {
		if i > 0 {
			p.write(", ")
		}
		p.node(n)
	}
}

func (p *printer) node(n node) {
	switch n := n.(type) {
	case *literal:
		p.literal(n)
	case *columnRef:
		for i, id := range n.path {
			if i > 0 {
				p.write(".")
			}
			p.write(quoteIdent(id))
		}
		if n.star {
			p.write(".*")
		}
	case *collated:
		p.group(n.x)
		p.write(" collate ")
		for i, id := range n.path {
			if i > 0 {
				p.write(".")
			}
			p.write(quoteIdent(id))
		}
	case *rowExpr:
		p.write("row(")
		p.list(n.list)
		p.write(")")
	case *unary:
		p.write(n.op, " ")
		p.group(n.x)
	case *binary:
		p.infix(n.l, n.op, n.r)
	case *logic:
		op := "and"
		if n.or {
			op = "or"
		}
		p.infix(n.l, op, n.r)
	case *negation:
		p.write("not ")
		p.group(n.x)
	case *call:
		p.call(n)
	case *caseExpr:
		p.caseExpr(n)
	case *cast:
		p.write("cast(")
		p.node(n.x)
		p.write(" as ", n.t.sql(), ")")
	case *arrayExpr:
		p.write("array[")
		p.list(n.list)
		p.write("]")
	case *subscript:
		if _, ok := n.x.(*columnRef); ok {
			p.node(n.x)
		} else {
			p.write("(")
			p.node(n.x)
			p.write(")")
		}
		p.write("[")
		p.node(n.index)
		p.write("]")
	case *atZone:
		p.infix(n.x, "at time zone", n.zone)
	default:
		p.predicate(n)
	}
}

// predicate writes the forms that yield a boolean by keywords.
func (p *printer) predicate(n node) {
	switch n := n.(type) {
	case *isTest:
		p.group(n.x)
		p.write(" is ", notWord(n.not), n.test)
	case *distinct:
		p.infix(n.l, "is "+notWord(n.not)+"distinct from", n.r)
	case *inList:
		p.group(n.x)
		p.write(" ", notWord(n.not), "in (")
		p.list(n.list)
		p.write(")")
	case *between:
		p.group(n.x)
		p.write(" ", notWord(n.not), "between ")
		if n.symmetric {
			p.write("symmetric ")
		}
		p.group(n.lo)
		p.write(" and ")
		p.group(n.hi)
	case *like:
		op := "like"
		if n.ilike {
			op = "ilike"
		}
		p.infix(n.x, notWord(n.not)+op, n.pattern)
		if n.escape != nil {
			p.write(" escape ")
			p.group(n.escape)
		}
	case *quantified:
		p.group(n.x)
		if n.all {
			p.write(" ", n.op, " all(")
		} else {
			p.write(" ", n.op, " any(")
		}
		p.node(n.arr)
		p.write(")")
	}
}

func (p *printer) infix(l node, op string, r node) {
	p.group(l)
	p.write(" ", op, " ")
	p.group(r)
}

func (p *printer) literal(n *literal) {
	switch n.kind {
	case litString:
		p.write(quoteLiteral(n.text))
	case litNumber:
		p.write(n.text)
	case litNull:
		p.write("null")
	case litTrue:
		p.write("true")
	case litFalse:
		p.write("false")
	}
}

func (p *printer) call(n *call) {
	switch {
	case n.bare:
		p.write(n.name.text)
		return
	case n.name.text == "position" && !n.name.quoted && len(n.args) == 2:
		p.write("position(")
		p.group(n.args[1])
		p.write(" in ")
		p.group(n.args[0])
		p.write(")")
		return
	case n.name.text == "extract" && !n.name.quoted && len(n.args) == 2:
		p.write("extract(")
		p.node(n.args[0])
		p.write(" from ")
		p.node(n.args[1])
		p.write(")")
		return
	}
	p.write(quoteIdent(n.name), "(")
	p.list(n.args)
	p.write(")")
}

func (p *printer) caseExpr(n *caseExpr) {
	p.write("case")
	if n.arg != nil {
		p.write(" ")
		p.group(n.arg)
	}
	for _, w := range n.whens {
		p.write(" when ")
		p.group(w.cond)
		p.write(" then ")
		p.group(w.result)
	}
	if n.other != nil {
		p.write(" else ")
		p.group(n.other)
	}
	p.write(" end")
}

func notWord(not bool) string {
	if not {
		return "not "
	}
	return ""
}

// sql writes the type so that it parses to itself.
func (t *typeName) sql() string {
	var b strings.Builder
	if t.schema != "" {
		b.WriteString(quoteName(t.schema) + ".")
	}
	b.WriteString(quoteName(t.name))
	if len(t.mods) > 0 {
		b.WriteString("(" + strings.Join(t.mods, ", ") + ")")
	}
	if t.array {
		b.WriteString("[]")
	}
	return b.String()
}

// SameNumeric evaluates the arithmetic of two numerics with their digits and with
// their numbers, and describes a difference.
func SameNumeric(a, b string, scale int32) error {
	x, codeX := parseNumeric([]byte(a))
	y, codeY := parseNumeric([]byte(b))
	if codeX+codeY != "" {
		return fmt.Errorf("read %s and %s: %s", a, b, codeX+codeY)
	}
	number := func(v value) value {
		if v.big != nil {
			v.big = &wide{number: v.big.int()}
		}
		return v
	}
	m := NewMachine(Settings{})
	for name, f := range map[string]func(x, y value) value{
		"+":     func(x, y value) value { return addNumeric(m, x, y) },
		"-":     func(x, y value) value { return subNumeric(m, x, y) },
		"*":     func(x, y value) value { return mulNumeric(m, x, y) },
		"/":     func(x, y value) value { return divNumeric(m, x, y) },
		"%":     func(x, y value) value { return modNumeric(m, x, y) },
		"div":   func(x, y value) value { return quotientNumeric(m, x, y) },
		"minus": func(x, _ value) value { return negNumeric(x) },
		"ceil":  func(x, _ value) value { return ceilNumeric(x, true) },
		"floor": func(x, _ value) value { return ceilNumeric(x, false) },
		"round": func(x, _ value) value { return roundNumeric(x, scale, false) },
		"trunc": func(x, _ value) value { return roundNumeric(x, scale, true) },
		"int8":  func(x, _ value) value { return numericToInt(m, x, 64) },
		"cmp":   func(x, y value) value { return intValue(int64(cmp.Compare(compareNumeric(x, y), 0))) },
		"count": func(x, _ value) value { return intValue(int64(decimalDigits(x))) },
	} {
		text := func(v value) string {
			if v.state == stateFailed {
				return m.err.Code
			}
			return string(appendNumeric(nil, v))
		}
		numbers := text(f(number(x), number(y)))
		for _, of := range [][2]value{{x, y}, {number(x), y}, {x, number(y)}} {
			if digits := text(f(of[0], of[1])); digits != numbers {
				return fmt.Errorf("%s %s %s at scale %d: %s, by the numbers %s", a, name, b, scale, digits, numbers)
			}
		}
	}
	if longer := roundNumeric(x, x.scale+max(scale, 0), false); compareNumeric(longer, x) != 0 {
		return fmt.Errorf("%s is not equal to itself with more zeros", a)
	}
	return nil
}
