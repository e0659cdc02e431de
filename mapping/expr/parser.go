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

// parser is a precedence climber over gram.y's a_expr and b_expr.
type parser struct {
	toks  []token
	pos   int
	depth int
}

// syntaxError carries a mistake from deep in the grammar up to parse.
type syntaxError struct{ err *Error }

// parse turns source into a tree. foldAccents is lexer.foldAccents.
func parse(src string, foldAccents bool) (node, *Error) {
	lx := &lexer{src: src, foldAccents: foldAccents}
	toks, err := lx.tokens()
	if err != nil {
		return nil, err
	}
	p := &parser{toks: toks}
	n, fault := p.expr(0)
	if fault == nil && p.peek().kind != tokEnd {
		fault = p.unexpected("")
	}
	if fault != nil {
		return nil, fault.err
	}
	return n, nil
}

func (p *parser) peek() token { return p.toks[p.pos] }

func (p *parser) peekAt(n int) token { return p.toks[min(p.pos+n, len(p.toks)-1)] }

func (p *parser) next() token {
	t := p.toks[p.pos]
	if t.kind != tokEnd {
		p.pos++
	}
	return t
}

// prevEnd is where the last token taken ends.
func (p *parser) prevEnd() int {
	if p.pos == 0 {
		return 0
	}
	return p.toks[p.pos-1].end
}

func (p *parser) from(off int) place { return place{off, p.prevEnd()} }

func (p *parser) isWord(word string) bool {
	t := p.peek()
	return t.kind == tokWord && t.text == word
}

func (p *parser) isWordAt(n int, word string) bool {
	t := p.peekAt(n)
	return t.kind == tokWord && t.text == word
}

func (p *parser) takeWord(words ...string) bool {
	for i, w := range words {
		if !p.isWordAt(i, w) {
			return false
		}
	}
	p.pos += len(words)
	return true
}

func (p *parser) isPunct(s string) bool {
	t := p.peek()
	return t.kind == tokPunct && t.text == s
}

func (p *parser) takePunct(s string) bool {
	if !p.isPunct(s) {
		return false
	}
	p.pos++
	return true
}

func (p *parser) needPunct(s string) *syntaxError {
	if p.takePunct(s) {
		return nil
	}
	return p.unexpected(fmt.Sprintf("write %q here", s))
}

func (p *parser) needWord(word string) *syntaxError {
	if p.takeWord(word) {
		return nil
	}
	return p.unexpected(fmt.Sprintf("write %q here", word))
}

// unexpected is the error for the token at hand.
func (p *parser) unexpected(hint string) *syntaxError {
	t := p.peek()
	if t.kind == tokEnd {
		if hint == "" {
			hint = "a value is missing"
		}
		return p.fault(t, hint, "expression ends too early")
	}
	return p.fault(t, hint, "syntax error at %q", t.text)
}

func (p *parser) fault(t token, hint, format string, args ...any) *syntaxError {
	return &syntaxError{&Error{Offset: t.off, Length: max(t.end-t.off, 1), Message: fmt.Sprintf(format, args...), Hint: hint}}
}

func (p *parser) enter() *syntaxError {
	p.depth++
	if p.depth > maxDepth {
		return p.fault(p.peek(), "split the rule", "expression nests too deeply")
	}
	return nil
}

// expr parses an a_expr whose operators all bind at least as tightly as loosest.
func (p *parser) expr(loosest int) (node, *syntaxError) {
	if fault := p.enter(); fault != nil {
		return nil, fault
	}
	defer func() { p.depth-- }()
	start := p.peek().off
	left, fault := p.prefix(false)
	if fault != nil {
		return nil, fault
	}
	for {
		bind := p.infixBinding()
		if bind < loosest || bind == 0 {
			return left, nil
		}
		var open bool // the operator ends in an operand, so its level counts
		if left, open, fault = p.infix(start, left, bind); fault != nil {
			return nil, fault
		}
		if open && bind >= bindIs && bind <= bindRange && p.infixBinding() == bind {
			return nil, p.unexpected("use parentheses: comparisons do not chain")
		}
	}
}

// restricted parses a b_expr: the low bound of between, which has no and, or,
// not, in, like, between.
func (p *parser) restricted(loosest int) (node, *syntaxError) {
	if fault := p.enter(); fault != nil {
		return nil, fault
	}
	defer func() { p.depth-- }()
	start := p.peek().off
	left, fault := p.prefix(true)
	if fault != nil {
		return nil, fault
	}
	for {
		bind := p.infixBinding()
		isDistinct := bind == bindIs && (p.isWordAt(1, "distinct") || p.isWordAt(1, "not") && p.isWordAt(2, "distinct"))
		ok := bind == bindCompare || bind >= bindOp && bind <= bindPower || isDistinct
		if !ok || bind < loosest {
			return left, nil
		}
		op := p.next()
		if isDistinct {
			not := p.takeWord("not")
			p.pos += 2 // distinct from
			right, fault := p.restricted(bindIs + 1)
			if fault != nil {
				return nil, fault
			}
			left = &distinct{p.from(start), left, right, not}
		} else {
			right, fault := p.restricted(bind + 1)
			if fault != nil {
				return nil, fault
			}
			left = &binary{p.from(start), op.text, place{op.off, op.end}, left, right}
		}
		if bind <= bindRange && p.infixBinding() == bind {
			return nil, p.unexpected("use parentheses: comparisons do not chain")
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
		switch t.text {
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
		switch t.text {
		case "or":
			return bindOr
		case "and":
			return bindAnd
		case "is", "isnull", "notnull":
			return bindIs
		case "between", "in", "like", "ilike", "similar":
			return bindRange
		case "not":
			n := p.peekAt(1)
			if n.kind == tokWord && (n.text == "between" || n.text == "in" || n.text == "like" || n.text == "ilike" || n.text == "similar") {
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

// infix parses what follows left. open tells that the form ends in an operand
// rather than in a keyword or a parenthesis.
func (p *parser) infix(start int, left node, bind int) (n node, open bool, fault *syntaxError) {
	t := p.peek()
	switch {
	case bind == bindOr || bind == bindAnd:
		p.next()
		right, fault := p.expr(bind + 1)
		return &logic{p.from(start), bind == bindOr, left, right}, true, fault
	case bind == bindIs:
		return p.isForms(start, left)
	case bind == bindRange:
		return p.rangeForms(start, left)
	case bind == bindAt:
		p.next()
		if !p.takeWord("time", "zone") {
			return nil, false, p.unexpected(`write "at time zone"`)
		}
		zone, fault := p.expr(bindAt + 1)
		return &atZone{p.from(start), left, zone}, true, fault
	case bind == bindCollate:
		return nil, false, p.fault(t, "leave it out: equality needs no collation", "COLLATE is not supported")
	}
	p.next()
	if bind == bindPostfix {
		to, fault := p.typeName()
		return &cast{p.from(start), left, to}, false, fault
	}
	at := place{t.off, t.end}
	if all, ok := p.quantifier(); ok {
		arr, fault := p.expr(0)
		if fault != nil {
			return nil, false, fault
		}
		if fault := p.needPunct(")"); fault != nil {
			return nil, false, fault
		}
		return &quantified{p.from(start), t.text, at, all, left, arr}, false, nil
	}
	right, fault := p.expr(bind + 1)
	return &binary{p.from(start), t.text, at, left, right}, true, fault
}

// quantifier takes "any (", "some (" or "all (".
func (p *parser) quantifier() (all, ok bool) {
	t := p.peek()
	if t.kind != tokWord || t.text != "any" && t.text != "some" && t.text != "all" {
		return false, false
	}
	if open := p.peekAt(1); open.kind != tokPunct || open.text != "(" {
		return false, false
	}
	p.pos += 2
	return t.text == "all", true
}

// isForms parses is [not] ..., isnull and notnull.
func (p *parser) isForms(start int, left node) (node, bool, *syntaxError) {
	if p.takeWord("isnull") {
		return &isTest{p.from(start), left, "null", false}, false, nil
	}
	if p.takeWord("notnull") {
		return &isTest{p.from(start), left, "null", true}, false, nil
	}
	p.next()
	not := p.takeWord("not")
	if p.takeWord("distinct", "from") {
		right, fault := p.expr(bindIs + 1)
		return &distinct{p.from(start), left, right, not}, true, fault
	}
	for _, test := range []string{"null", "true", "false", "unknown"} {
		if p.takeWord(test) {
			return &isTest{p.from(start), left, test, not}, false, nil
		}
	}
	return nil, false, p.unexpected("after is: [not] null, true, false, unknown or distinct from")
}

// rangeForms parses [not] between, in, like and ilike.
func (p *parser) rangeForms(start int, left node) (node, bool, *syntaxError) {
	not := p.takeWord("not")
	t := p.next()
	switch t.text {
	case "in":
		list, fault := p.parenthesised()
		return &inList{p.from(start), left, list, not}, false, fault
	case "like", "ilike":
		return p.likeForm(start, left, not, t.text == "ilike")
	case "between":
		return p.betweenForm(start, left, not)
	}
	return nil, false, p.fault(t, "use like or ~", "SIMILAR TO is not supported")
}

func (p *parser) likeForm(start int, left node, not, ilike bool) (node, bool, *syntaxError) {
	if all, ok := p.quantifier(); ok {
		word := "any"
		if all {
			word = "all"
		}
		return nil, false, p.fault(p.toks[p.pos-2], "write one like per pattern", "LIKE %s (...) is not supported", strings.ToUpper(word))
	}
	pattern, fault := p.expr(bindRange + 1)
	if fault != nil {
		return nil, false, fault
	}
	var escape node
	if p.takeWord("escape") {
		if escape, fault = p.expr(bindEscape + 1); fault != nil {
			return nil, false, fault
		}
	}
	return &like{p.from(start), left, pattern, escape, not, ilike}, true, nil
}

func (p *parser) betweenForm(start int, left node, not bool) (node, bool, *syntaxError) {
	symmetric := p.takeWord("symmetric")
	if !symmetric {
		p.takeWord("asymmetric")
	}
	lo, fault := p.restricted(0)
	if fault != nil {
		return nil, false, fault
	}
	if fault := p.needWord("and"); fault != nil {
		return nil, false, fault
	}
	hi, fault := p.expr(bindRange + 1)
	return &between{p.from(start), left, lo, hi, not, symmetric}, true, fault
}

// parenthesised parses (a, b, ...), at least one.
func (p *parser) parenthesised() ([]node, *syntaxError) {
	if fault := p.needPunct("("); fault != nil {
		return nil, fault
	}
	if p.isWord("select") || p.isWord("with") {
		return nil, p.fault(p.peek(), "use a lookup", "subqueries are not supported")
	}
	list, fault := p.exprList()
	if fault != nil {
		return nil, fault
	}
	return list, p.needPunct(")")
}

func (p *parser) exprList() ([]node, *syntaxError) {
	var list []node
	for {
		n, fault := p.expr(0)
		if fault != nil {
			return nil, fault
		}
		list = append(list, n)
		if !p.takePunct(",") {
			return list, nil
		}
	}
}

// prefix parses prefix operators and what they apply to.
func (p *parser) prefix(restricted bool) (node, *syntaxError) {
	t := p.peek()
	operand := func(bind int) (node, *syntaxError) {
		p.next()
		if restricted {
			return p.restricted(bind)
		}
		return p.expr(bind)
	}
	switch {
	case t.kind == tokWord && t.text == "not" && !restricted:
		x, fault := operand(bindNot)
		return &negation{p.from(t.off), x}, fault
	case t.kind == tokOp && (t.text == "-" || t.text == "+"):
		x, fault := operand(bindMinus)
		if fault != nil {
			return nil, fault
		}
		if lit, ok := x.(*literal); ok && t.text == "-" && lit.kind == litNumber {
			return &literal{p.from(t.off), litNumber, negate(lit.text)}, nil
		}
		return &unary{p.from(t.off), t.text, x}, nil
	case t.kind == tokOp:
		if infixOnly(t.text) {
			return nil, p.unexpected("")
		}
		x, fault := operand(bindOp + 1)
		return &unary{p.from(t.off), t.text, x}, fault
	}
	return p.postfix()
}

// infixOnly tells the operators that the grammar has no prefix form of.
func infixOnly(op string) bool {
	switch op {
	case "<", ">", "=", "<=", ">=", "<>", "*", "/", "%", "^":
		return true
	}
	return false
}

// negate is gram.y's doNegate: the sign becomes part of the constant, which
// makes -2147483648 an integer.
func negate(digits string) string {
	if s, ok := strings.CutPrefix(digits, "-"); ok {
		return s
	}
	return "-" + digits
}

// postfix parses an operand with its casts and subscripts.
func (p *parser) postfix() (node, *syntaxError) {
	start := p.peek().off
	inParentheses := p.isPunct("(")
	n, fault := p.primary()
	_, isColumn := n.(*columnRef)
	indexable := isColumn || inParentheses // the grammar takes no subscript elsewhere
	for fault == nil {
		switch {
		case p.peek().kind == tokCast:
			p.next()
			var t typeName
			t, fault = p.typeName()
			n, indexable = &cast{p.from(start), n, t}, false
		case p.isPunct("[") && indexable:
			p.next()
			var index node
			if index, fault = p.expr(0); fault != nil {
				break
			}
			if p.isPunct(":") {
				return nil, p.unexpected("name one element: array slices are not supported")
			}
			fault = p.needPunct("]")
			n = &subscript{p.from(start), n, index}
		default:
			return n, nil
		}
	}
	return nil, fault
}
