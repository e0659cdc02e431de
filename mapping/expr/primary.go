package expr

import "strings"

// primary parses a c_expr without its postfix operators.
func (p *parser) primary() node {
	t := p.peek()
	switch t.kind {
	case tokString:
		p.next()
		return &literal{p.from(t.Start), litString, t.Text}
	case tokInteger, tokNumber:
		p.next()
		return &literal{p.from(t.Start), litNumber, t.Text}
	case tokPunct:
		if t.Text == "(" {
			return p.parentheses()
		}
	case tokWord:
		return p.wordForms(t)
	case tokQuoted:
		return p.name()
	}
	return p.unexpected("")
}

func (p *parser) parentheses() node {
	open := p.next()
	p.subquery()
	n := p.expr(0)
	if p.accept(",") {
		list := append([]node{n}, p.exprList()...)
		p.need(")")
		return &rowExpr{p.from(open.Start), list}
	}
	p.need(")")
	if p.is(".") {
		return p.fault(p.peek(), "use the whole value", "fields of composite values are not supported")
	}
	return n
}

// wordForms parses what begins with an unquoted word.
func (p *parser) wordForms(t Token) node {
	switch t.Text {
	case "null", "true", "false":
		p.next()
		return &literal{p.from(t.Start), map[string]literalKind{"null": litNull, "true": litTrue, "false": litFalse}[t.Text], ""}
	case "case":
		return p.caseForm()
	case "cast":
		return p.castForm()
	case "array":
		return p.arrayForm()
	case "current_date", "current_timestamp", "localtimestamp", "current_time", "localtime":
		p.next()
		if p.is("(") {
			return p.fault(p.peek(), "use date_trunc to drop fractions of a second", "%s takes no precision here", t.Text)
		}
		return &call{p.from(t.Start), ident{p.from(t.Start), t.Text, false}, nil, true}
	case "not":
		return p.unexpected("put parentheses around the negation")
	}
	if n := p.typedLiteral(); n != nil {
		return n
	}
	if p.isAt(1, "(") {
		switch t.Text {
		case "extract", "position", "substring", "trim", "overlay", "coalesce", "greatest", "least", "nullif":
			return p.keywordCall(t)
		case "row":
			p.next()
			p.need("(")
			var list []node
			if !p.is(")") {
				list = p.exprList()
			}
			p.need(")")
			return &rowExpr{p.from(t.Start), list}
		case "exists":
			return p.fault(t, "use a lookup", "subqueries are not supported")
		}
	}
	return p.name()
}

// typedLiteral parses t 'x'; it returns nil when something else is next.
func (p *parser) typedLiteral() node {
	off := p.peek().Start
	var t typeName
	switch word := p.peek().Text; {
	case listed(typeWords, word):
		start := *p
		if t = p.typeName(); t.array || p.peek().kind != tokString {
			*p = start // it may still be a column or a function of that name
			return nil
		}
	case p.peekAt(1).kind == tokString && !listed(reservedWords, word) && !listed(columnWords, word):
		p.next()
		t = typeName{place: p.from(off), name: word}
	default:
		return nil
	}
	s := p.next()
	text := &literal{p.from(s.Start), litString, s.Text}
	if w := p.peek(); t.name == "interval" && w.kind == tokWord && listed(" year month day hour minute second ", w.Text) {
		if p.next(); strings.Trim(s.Text, "0123456789") != "" || s.Text == "" || p.is("to") || p.is("(") {
			return p.fault(w, "write the units in the string: interval '1 day 02:00'", "interval fields of other than a whole number are not supported")
		}
		text.text += " " + w.Text // a whole number is of the field, and loses nothing
		text.place = p.from(s.Start)
	}
	return &cast{p.from(off), text, t}
}

// name parses a column reference or a function call.
func (p *parser) name() node {
	first := p.peek()
	isCall := p.isAt(1, "(")
	if first.kind == tokWord {
		switch {
		case listed(reservedWords, first.Text), isCall && listed(columnWords, first.Text):
			return p.unexpected("")
		case !isCall && listed(functionWords, first.Text):
			return p.unexpected(`quote it if it is a column: "` + first.Text + `"`)
		}
	}
	path := []ident{p.ident()}
	for p.accept(".") {
		t := p.peek()
		if t.kind == tokOp && t.Text == "*" {
			if len(path) > 1 {
				return p.unexpected("write a column's name")
			}
			p.next()
			return &columnRef{p.from(first.Start), path, true}
		}
		if t.kind != tokWord && t.kind != tokQuoted {
			return p.unexpected("write a column's name")
		}
		path = append(path, p.ident())
	}
	if !p.is("(") {
		return &columnRef{p.from(first.Start), path, false}
	}
	if len(path) == 2 && path[0].text == "pg_catalog" {
		path = path[1:]
	}
	if len(path) > 1 {
		return p.fault(first, "use PostgreSQL's own functions", "functions of a schema are not supported")
	}
	args := p.callArgs()
	return &call{p.from(first.Start), path[0], args, false}
}

func (p *parser) ident() ident {
	t := p.next()
	return ident{place{t.Start, t.End}, t.Text, t.kind == tokQuoted}
}

// callArgs parses (a, b, ...), perhaps empty.
func (p *parser) callArgs() []node {
	p.need("(")
	if p.accept(")") {
		return nil
	}
	switch t := p.peek(); {
	case t.kind == tokOp && t.Text == "*", p.is("distinct"), p.is("all"):
		p.fault(t, "a rule sees one row at a time", "aggregates are not supported")
	case p.is("variadic"):
		p.fault(t, "write the arguments one by one", "VARIADIC is not supported")
	}
	args := p.exprList()
	p.need(")")
	return args
}

func (p *parser) caseForm() node {
	start := p.next().Start
	n := &caseExpr{}
	if !p.is("when") {
		n.arg = p.expr(0)
	}
	for p.accept("when") {
		var w caseWhen
		w.cond = p.expr(0)
		p.need("then")
		w.result = p.expr(0)
		n.whens = append(n.whens, w)
	}
	if len(n.whens) == 0 {
		return p.unexpected(`write "when"`)
	}
	if p.accept("else") {
		n.other = p.expr(0)
	}
	p.need("end")
	n.place = p.from(start)
	return n
}

func (p *parser) castForm() node {
	start := p.next().Start
	p.need("(")
	x := p.expr(0)
	p.need("as")
	t := p.typeName()
	p.need(")")
	return &cast{p.from(start), x, t}
}

func (p *parser) arrayForm() node {
	start := p.next().Start
	if p.is("(") {
		return p.fault(p.peek(), "use a lookup", "subqueries are not supported")
	}
	p.need("[")
	n := &arrayExpr{}
	if p.is("[") {
		return p.fault(p.peek(), "write it as a string: '{{1,2},{3,4}}'::integer[]", "nested arrays are not supported here")
	}
	if !p.is("]") {
		n.list = p.exprList()
	}
	p.need("]")
	n.place = p.from(start)
	return n
}

// keywordCall parses the functions that the grammar knows by name.
func (p *parser) keywordCall(t Token) node {
	name := p.ident()
	p.next() // (
	var args []node
	switch t.Text {
	case "extract":
		args = p.extractArgs()
	case "position":
		args = p.positionArgs()
	case "substring":
		args = p.substringArgs()
	case "trim":
		name.text, args = p.trimArgs()
	case "overlay":
		args = p.overlayArgs()
	default:
		args = p.exprList()
	}
	p.need(")")
	return &call{p.from(t.Start), name, args, false}
}

func (p *parser) extractArgs() []node {
	f := p.peek()
	if f.kind != tokWord && f.kind != tokString && f.kind != tokQuoted {
		p.unexpected("write a field: extract(year from dt)")
	}
	p.next()
	field := &literal{p.from(f.Start), litString, f.Text}
	p.need("from")
	return []node{field, p.expr(0)}
}

func (p *parser) positionArgs() []node {
	sub := p.restricted(0)
	p.need("in")
	return []node{p.restricted(0), sub}
}

func (p *parser) substringArgs() []node {
	args := p.exprList()
	if len(args) > 1 {
		return args
	}
	var from, length node
	for range 2 {
		switch {
		case from == nil && p.accept("from"):
			from = p.expr(0)
		case length == nil && p.accept("for"):
			length = p.expr(0)
		case p.is("similar"):
			p.unexpected("SIMILAR is not supported: use substring(x from n for m)")
		}
	}
	if length != nil && from == nil {
		from = &literal{placeOf(args[0]), litNumber, "1"}
	}
	for _, n := range []node{from, length} {
		if n != nil {
			args = append(args, n)
		}
	}
	return args
}

// trimArgs parses [both | leading | trailing] [chars] from x, which is a call of
// btrim, ltrim or rtrim.
func (p *parser) trimArgs() (name string, args []node) {
	name = "btrim"
	switch {
	case p.accept("both"):
	case p.accept("leading"):
		name = "ltrim"
	case p.accept("trailing"):
		name = "rtrim"
	}
	if p.accept("from") {
		return name, p.exprList()
	}
	args = p.exprList()
	if !p.is("from") {
		return name, args
	}
	if len(args) > 1 {
		p.unexpected("")
	}
	p.next()
	return name, append(p.exprList(), args[0])
}

func (p *parser) overlayArgs() []node {
	args := p.exprList()
	if len(args) > 1 {
		return args
	}
	for _, word := range []string{"placing", "from", "for"} {
		if word == "for" && !p.is("for") {
			break
		}
		p.need(word)
		args = append(args, p.expr(0))
	}
	return args
}
