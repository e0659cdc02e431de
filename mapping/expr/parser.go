package expr

import (
	"fmt"
	"strings"
)

// The binding powers of gram.y, from the loosest up. Operators of one level
// associate to the left, but those from bindIs to bindRange do not associate.
const (
	bindOr = iota + 1
	bindAnd
	bindNot
	bindIs
	bindCompare // < > = <= >= <>
	bindRange   // between in like ilike
	bindEscape
	bindOp // all other operators
	bindAdd
	bindMul
	bindPower
	bindAt
	bindCollate
	bindMinus // unary
	bindPostfix
)

// maxDepth bounds nesting, so that no input exhausts the stack.
const maxDepth = 250

// parser is a precedence climber over gram.y's a_expr and b_expr. It keeps the
// first mistake and from then on sees nothing but the end of the source, so that
// only parse has to ask for mistakes.
type parser struct {
	toks  []Token
	pos   int
	depth int
	err   *Error
}

// parse turns source into a tree. foldAccents is lexer.foldAccents.
func parse(src string, foldAccents bool) (node, *Error) {
	lx := &lexer{src: src, foldAccents: foldAccents}
	toks, err := lx.tokens()
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	n := p.expr(0)
	if p.peek().kind != tokEnd {
		p.unexpected("")
	}
	if p.err != nil {
		return nil, p.err
	}
	return n, nil
}

func (p *parser) peek() Token { return p.toks[p.pos] }

func (p *parser) peekAt(n int) Token { return p.toks[min(p.pos+n, len(p.toks)-1)] }

func (p *parser) next() Token {
	t := p.toks[p.pos]
	if t.kind != tokEnd {
		p.pos++
	}
	return t
}

// from is the place from off to the end of the last token.
func (p *parser) from(off int) place {
	if p.pos == 0 {
		return place{off, 0}
	}
	return place{off, p.toks[p.pos-1].End}
}

func (p *parser) is(text string) bool { return p.isAt(0, text) }

// isAt reports whether the n-th token from here is the word or punctuation.
func (p *parser) isAt(n int, text string) bool {
	t := p.peekAt(n)
	return (t.kind == tokWord || t.kind == tokPunct) && t.Text == text
}

// accept moves past the words or punctuation if they are next.
func (p *parser) accept(texts ...string) bool {
	for i, s := range texts {
		if !p.isAt(i, s) {
			return false
		}
	}
	p.pos += len(texts)
	return true
}

func (p *parser) need(text string) {
	if !p.accept(text) {
		p.unexpected(fmt.Sprintf("write %q here", text))
	}
}

// unexpected reports the current token. The nil is for the caller to return.
func (p *parser) unexpected(hint string) node {
	t := p.peek()
	if t.kind != tokEnd {
		return p.fault(t, hint, "syntax error at %q", t.Text)
	}
	if hint == "" {
		hint = "a value is missing"
	}
	return p.fault(t, hint, "expression ends too early")
}

// fault keeps a mistake, unless there is one already, and skips the rest of the
// source. The nil is for the caller to return.
func (p *parser) fault(t Token, hint, format string, args ...any) node {
	if p.err == nil {
		p.err = &Error{Offset: t.Start, Length: max(t.End-t.Start, 1), Message: fmt.Sprintf(format, args...), Hint: hint}
		p.pos = len(p.toks) - 1
	}
	return nil
}

// enter counts a level of nesting; the function it returns leaves it.
func (p *parser) enter() (leave func()) {
	if p.depth++; p.depth > maxDepth {
		p.fault(p.peek(), "split the rule", "expression nests too deeply")
	}
	return func() { p.depth-- }
}

const chainHint = "use parentheses: comparisons do not chain"

// expr parses an a_expr whose operators all bind at least as tightly as loosest.
func (p *parser) expr(loosest int) node {
	defer p.enter()()
	start := p.peek().Start
	left := p.prefix(false)
	for {
		bind := p.infixBinding()
		if bind < loosest || bind == 0 {
			return left
		}
		var open bool // the operator ends in an operand, so its level counts
		left, open = p.infix(start, left, bind)
		if open && bind >= bindIs && bind <= bindRange && p.infixBinding() == bind {
			return p.unexpected(chainHint)
		}
	}
}

// restricted parses a b_expr: the low bound of between, which has no and, or,
// not, in, like, between.
func (p *parser) restricted(loosest int) node {
	defer p.enter()()
	start := p.peek().Start
	left := p.prefix(true)
	for {
		bind := p.infixBinding()
		isDistinct := bind == bindIs && (p.isAt(1, "distinct") || p.isAt(1, "not") && p.isAt(2, "distinct"))
		ok := bind == bindCompare || bind >= bindOp && bind <= bindPower || isDistinct
		if !ok || bind < loosest {
			return left
		}
		op := p.next()
		if isDistinct {
			not := p.accept("not")
			p.next()
			p.need("from")
			right := p.restricted(bindIs + 1)
			left = &distinct{p.from(start), left, right, not}
		} else {
			right := p.restricted(bind + 1)
			left = &binary{p.from(start), op.Text, place{op.Start, op.End}, left, right}
		}
		if bind <= bindRange && p.infixBinding() == bind {
			return p.unexpected(chainHint)
		}
	}
}

// infixBinding is the binding power of the token at hand as an infix or
// postfix operator, 0 when it is none.
func (p *parser) infixBinding() int {
	t := p.peek()
	switch t.kind {
	case tokCast: // after a form that ends in a keyword or parenthesis: x is null::text
		return bindPostfix
	case tokOp:
		switch t.Text {
		case "<", ">", "=", "<=", ">=", "<>":
			return bindCompare
		case "+", "-":
			return bindAdd
		case "*", "/", "%":
			return bindMul
		case "^":
			return bindPower
		}
		return bindOp
	case tokWord:
		switch t.Text {
		case "or":
			return bindOr
		case "and":
			return bindAnd
		case "is", "isnull", "notnull":
			return bindIs
		case "between", "in", "like", "ilike", "similar":
			return bindRange
		case "not":
			if n := p.peekAt(1); n.kind == tokWord && listed(" between in like ilike similar ", n.Text) {
				return bindRange
			}
		case "at":
			return bindAt
		case "collate":
			return bindCollate
		}
	}
	return 0
}

// infix parses what follows left. open reports that the form ends in an operand
// rather than in a keyword or a parenthesis.
func (p *parser) infix(start int, left node, bind int) (n node, open bool) {
	t := p.peek()
	switch bind {
	case bindOr, bindAnd:
		p.next()
		right := p.expr(bind + 1)
		return &logic{p.from(start), bind == bindOr, left, right}, true
	case bindIs:
		return p.isForms(start, left)
	case bindRange:
		return p.rangeForms(start, left)
	case bindAt:
		p.next()
		if !p.accept("time", "zone") {
			return p.unexpected(`write "at time zone"`), false
		}
		zone := p.expr(bindAt + 1)
		return &atZone{p.from(start), left, zone}, true
	case bindCollate:
		p.next()
		var path []ident
		for {
			if w := p.peek(); w.kind != tokWord && w.kind != tokQuoted {
				return p.unexpected(`write the name of a collation: collate "C"`), false
			}
			path = append(path, p.ident())
			if !p.accept(".") {
				return &collated{p.from(start), left, path}, false
			}
		}
	}
	p.next()
	if bind == bindPostfix {
		to := p.typeName()
		return &cast{p.from(start), left, to}, false
	}
	at := place{t.Start, t.End}
	if all, ok := p.quantifier(); ok {
		arr := p.expr(0)
		p.need(")")
		return &quantified{p.from(start), t.Text, at, all, left, arr}, false
	}
	right := p.expr(bind + 1)
	return &binary{p.from(start), t.Text, at, left, right}, true
}

// quantifier accepts "any (", "some (" or "all (".
func (p *parser) quantifier() (all, ok bool) {
	t := p.peek()
	if t.kind != tokWord || !listed(" any some all ", t.Text) || !p.isAt(1, "(") {
		return false, false
	}
	p.pos += 2
	return t.Text == "all", true
}

// isForms parses is [not] ..., isnull and notnull.
func (p *parser) isForms(start int, left node) (n node, open bool) {
	word := p.next()
	if word.Text != "is" {
		return &isTest{p.from(start), left, "null", word.Text == "notnull"}, false
	}
	not := p.accept("not")
	if p.accept("distinct", "from") {
		right := p.expr(bindIs + 1)
		return &distinct{p.from(start), left, right, not}, true
	}
	for _, test := range []string{"null", "true", "false", "unknown"} {
		if p.accept(test) {
			return &isTest{p.from(start), left, test, not}, false
		}
	}
	return p.unexpected("after is: [not] null, true, false, unknown or distinct from"), false
}

// rangeForms parses [not] between, in, like and ilike.
func (p *parser) rangeForms(start int, left node) (n node, open bool) {
	not := p.accept("not")
	switch t := p.next(); t.Text {
	case "in":
		list := p.parenthesised()
		return &inList{p.from(start), left, list, not}, false
	case "like", "ilike":
		return p.likeForm(start, left, not, t.Text == "ilike"), true
	case "between":
		return p.betweenForm(start, left, not), true
	default:
		return p.fault(t, "use like or ~", "SIMILAR TO is not supported"), false
	}
}

func (p *parser) likeForm(start int, left node, not, ilike bool) node {
	quantifier := p.peek()
	if all, ok := p.quantifier(); ok {
		word := map[bool]string{false: "ANY", true: "ALL"}[all]
		return p.fault(quantifier, "write one like per pattern", "LIKE %s (...) is not supported", word)
	}
	pattern := p.expr(bindRange + 1)
	var escape node
	if p.accept("escape") {
		escape = p.expr(bindEscape + 1)
	}
	return &like{p.from(start), left, pattern, escape, not, ilike}
}

func (p *parser) betweenForm(start int, left node, not bool) node {
	symmetric := p.accept("symmetric")
	if !symmetric {
		p.accept("asymmetric")
	}
	lo := p.restricted(0)
	p.need("and")
	hi := p.expr(bindRange + 1)
	return &between{p.from(start), left, lo, hi, not, symmetric}
}

// subquery refuses a subquery where one could begin.
func (p *parser) subquery() {
	if p.is("select") || p.is("with") {
		p.fault(p.peek(), "use a lookup", "subqueries are not supported")
	}
}

// parenthesised parses (a, b, ...), at least one.
func (p *parser) parenthesised() []node {
	p.need("(")
	p.subquery()
	list := p.exprList()
	p.need(")")
	return list
}

func (p *parser) exprList() []node {
	list := []node{p.expr(0)}
	for p.accept(",") {
		list = append(list, p.expr(0))
	}
	return list
}

// prefix parses prefix operators and what they apply to.
func (p *parser) prefix(restricted bool) node {
	t := p.peek()
	operand := func(bind int) node {
		p.next()
		if restricted {
			return p.restricted(bind)
		}
		return p.expr(bind)
	}
	switch {
	case p.is("not") && !restricted:
		x := operand(bindNot)
		return &negation{p.from(t.Start), x}
	case t.kind != tokOp:
		return p.postfix()
	case t.Text == "-" || t.Text == "+":
		x := operand(bindMinus)
		if lit, ok := x.(*literal); ok && t.Text == "-" && lit.kind == litNumber {
			return &literal{p.from(t.Start), litNumber, negate(lit.text)}
		}
		return &unary{p.from(t.Start), t.Text, x}
	case listed(" < > = <= >= <> * / % ^ ", t.Text): // without a prefix form in the grammar
		return p.unexpected("")
	}
	x := operand(bindOp + 1)
	return &unary{p.from(t.Start), t.Text, x}
}

// negate is gram.y's doNegate: the sign becomes part of the constant, so that
// -2147483648 is an integer.
func negate(digits string) string {
	if s, ok := strings.CutPrefix(digits, "-"); ok {
		return s
	}
	return "-" + digits
}

// postfix parses an operand with its casts and subscripts.
func (p *parser) postfix() node {
	start := p.peek().Start
	inParentheses := p.is("(")
	n := p.primary()
	_, isColumn := n.(*columnRef)
	indexable := isColumn || inParentheses // the grammar allows no subscript elsewhere
	for {
		switch {
		case p.peek().kind == tokCast:
			p.next()
			t := p.typeName()
			n, indexable = &cast{p.from(start), n, t}, false
		case indexable && p.accept("["):
			index := p.expr(0)
			if p.is(":") {
				return p.unexpected("name one element: array slices are not supported")
			}
			p.need("]")
			n = &subscript{p.from(start), n, index}
		default:
			return n
		}
	}
}
