package expr

import "slices"

// primary parses a c_expr without its postfix operators.
func (p *parser) primary() (node, *syntaxError) {
	t := p.peek()
	switch t.kind {
	case tokString:
		p.next()
		return &literal{p.from(t.off), litString, t.text}, nil
	case tokInteger, tokNumber:
		p.next()
		return &literal{p.from(t.off), litNumber, t.text}, nil
	case tokPunct:
		if t.text == "(" {
			return p.parentheses()
		}
	case tokWord:
		return p.wordForms(t)
	case tokQuoted:
		return p.name()
	}
	return nil, p.unexpected("")
}

func (p *parser) parentheses() (node, *syntaxError) {
	open := p.next()
	if p.isWord("select") || p.isWord("with") {
		return nil, p.fault(p.peek(), "use a lookup", "subqueries are not supported")
	}
	n, fault := p.expr(0)
	if fault != nil {
		return nil, fault
	}
	if p.isPunct(",") {
		return nil, p.fault(open, "compare the columns one by one", "row values are not supported")
	}
	if fault := p.needPunct(")"); fault != nil {
		return nil, fault
	}
	if p.isPunct(".") {
		return nil, p.fault(p.peek(), "use the whole value", "fields of composite values are not supported")
	}
	return n, nil
}

// wordForms parses what begins with an unquoted word.
func (p *parser) wordForms(t token) (node, *syntaxError) {
	switch t.text {
	case "null":
		p.next()
		return &literal{p.from(t.off), litNull, ""}, nil
	case "true":
		p.next()
		return &literal{p.from(t.off), litTrue, ""}, nil
	case "false":
		p.next()
		return &literal{p.from(t.off), litFalse, ""}, nil
	case "case":
		return p.caseForm()
	case "cast":
		return p.castForm()
	case "array":
		return p.arrayForm()
	case "current_date", "current_timestamp", "localtimestamp", "current_time", "localtime":
		p.next()
		if p.isPunct("(") {
			return nil, p.fault(p.peek(), "use date_trunc to drop fractions of a second", "%s takes no precision here", t.text)
		}
		return &call{p.from(t.off), ident{p.from(t.off), t.text, false}, nil, true}, nil
	case "not":
		return nil, p.unexpected("put parentheses around the negation")
	}
	if n, fault := p.typedLiteral(); n != nil || fault != nil {
		return n, fault
	}
	if open := p.peekAt(1); open.kind == tokPunct && open.text == "(" {
		switch t.text {
		case "extract", "position", "substring", "trim", "overlay", "coalesce", "greatest", "least", "nullif":
			return p.keywordCall(t)
		case "exists":
			return nil, p.fault(t, "use a lookup", "subqueries are not supported")
		}
	}
	return p.name()
}

// typedLiteral parses t 'x', if that is what stands here.
func (p *parser) typedLiteral() (node, *syntaxError) {
	start := p.pos
	off := p.peek().off
	var t typeName
	switch word := p.peek().text; {
	case isTypeKeyword(word):
		var fault *syntaxError
		if t, fault = p.typeName(); fault != nil || t.array || p.peek().kind != tokString {
			p.pos = start // it may still be a column or a function of that name
			return nil, nil
		}
	case p.peekAt(1).kind == tokString && !isReserved(word) && !isColumnKeyword(word):
		p.next()
		t = typeName{place: p.from(off), name: word}
	default:
		return nil, nil
	}
	s := p.next()
	text := &literal{p.from(s.off), litString, s.text}
	if t.name == "interval" {
		if w := p.peek(); w.kind == tokWord && slices.Contains([]string{"year", "month", "day", "hour", "minute", "second"}, w.text) {
			return nil, p.fault(w, "write the unit in the string: interval '1 day'", "interval fields are not supported")
		}
	}
	return &cast{p.from(off), text, t}, nil
}

// name parses a column reference or a function call.
func (p *parser) name() (node, *syntaxError) {
	first := p.peek()
	follow := p.peekAt(1)
	isCall := follow.kind == tokPunct && follow.text == "("
	if first.kind == tokWord {
		switch {
		case isReserved(first.text), isCall && isColumnKeyword(first.text):
			return nil, p.unexpected("")
		case !isCall && isFunctionKeyword(first.text):
			return nil, p.unexpected(`quote it if it is a column: "` + first.text + `"`)
		}
	}
	path := []ident{p.ident()}
	for p.takePunct(".") {
		t := p.peek()
		if t.kind == tokOp && t.text == "*" {
			return nil, p.fault(t, "name the columns", "%s.* is not supported", first.text)
		}
		if t.kind != tokWord && t.kind != tokQuoted {
			return nil, p.unexpected("write a column's name")
		}
		path = append(path, p.ident())
	}
	if !p.isPunct("(") {
		return &columnRef{p.from(first.off), path}, nil
	}
	if len(path) == 2 && path[0].text == "pg_catalog" {
		path = path[1:]
	}
	if len(path) > 1 {
		return nil, p.fault(first, "use PostgreSQL's own functions", "functions of a schema are not supported")
	}
	args, fault := p.callArgs()
	return &call{p.from(first.off), path[0], args, false}, fault
}

func (p *parser) ident() ident {
	t := p.next()
	return ident{place{t.off, t.end}, t.text, t.kind == tokQuoted}
}

// callArgs parses (a, b, ...), perhaps empty.
func (p *parser) callArgs() ([]node, *syntaxError) {
	if fault := p.needPunct("("); fault != nil {
		return nil, fault
	}
	if p.takePunct(")") {
		return nil, nil
	}
	switch t := p.peek(); {
	case t.kind == tokOp && t.text == "*", t.kind == tokWord && (t.text == "distinct" || t.text == "all"):
		return nil, p.fault(t, "a rule sees one row at a time", "aggregates are not supported")
	case t.kind == tokWord && t.text == "variadic":
		return nil, p.fault(t, "write the arguments one by one", "VARIADIC is not supported")
	}
	args, fault := p.exprList()
	if fault != nil {
		return nil, fault
	}
	return args, p.needPunct(")")
}

func (p *parser) caseForm() (node, *syntaxError) {
	start := p.next().off
	n := &caseExpr{}
	var fault *syntaxError
	if !p.isWord("when") {
		if n.arg, fault = p.expr(0); fault != nil {
			return nil, fault
		}
	}
	for p.takeWord("when") {
		var w caseWhen
		if w.cond, fault = p.expr(0); fault != nil {
			return nil, fault
		}
		if fault := p.needWord("then"); fault != nil {
			return nil, fault
		}
		if w.result, fault = p.expr(0); fault != nil {
			return nil, fault
		}
		n.whens = append(n.whens, w)
	}
	if len(n.whens) == 0 {
		return nil, p.unexpected(`write "when"`)
	}
	if p.takeWord("else") {
		if n.other, fault = p.expr(0); fault != nil {
			return nil, fault
		}
	}
	if fault := p.needWord("end"); fault != nil {
		return nil, fault
	}
	n.place = p.from(start)
	return n, nil
}

func (p *parser) castForm() (node, *syntaxError) {
	start := p.next().off
	if fault := p.needPunct("("); fault != nil {
		return nil, fault
	}
	x, fault := p.expr(0)
	if fault != nil {
		return nil, fault
	}
	if fault := p.needWord("as"); fault != nil {
		return nil, fault
	}
	t, fault := p.typeName()
	if fault != nil {
		return nil, fault
	}
	fault = p.needPunct(")")
	return &cast{p.from(start), x, t}, fault
}

func (p *parser) arrayForm() (node, *syntaxError) {
	start := p.next().off
	if p.isPunct("(") {
		return nil, p.fault(p.peek(), "use a lookup", "subqueries are not supported")
	}
	if fault := p.needPunct("["); fault != nil {
		return nil, fault
	}
	n := &arrayExpr{}
	if !p.isPunct("]") {
		if p.isPunct("[") {
			return nil, p.fault(p.peek(), "write it as a string: '{{1,2},{3,4}}'::integer[]", "nested arrays are not supported here")
		}
		var fault *syntaxError
		if n.list, fault = p.exprList(); fault != nil {
			return nil, fault
		}
	}
	fault := p.needPunct("]")
	n.place = p.from(start)
	return n, fault
}

// keywordCall parses the functions that the grammar knows by name.
func (p *parser) keywordCall(t token) (node, *syntaxError) {
	name := p.ident()
	p.next() // (
	var args []node
	var fault *syntaxError
	switch t.text {
	case "extract":
		args, fault = p.extractArgs()
	case "position":
		args, fault = p.positionArgs()
	case "substring":
		args, fault = p.substringArgs()
	case "trim":
		name.text, args, fault = p.trimArgs()
	case "overlay":
		args, fault = p.overlayArgs()
	default:
		args, fault = p.exprList()
	}
	if fault != nil {
		return nil, fault
	}
	fault = p.needPunct(")")
	return &call{p.from(t.off), name, args, false}, fault
}

func (p *parser) extractArgs() ([]node, *syntaxError) {
	f := p.peek()
	if f.kind != tokWord && f.kind != tokString && f.kind != tokQuoted {
		return nil, p.unexpected("write a field: extract(year from dt)")
	}
	p.next()
	field := &literal{p.from(f.off), litString, f.text}
	if fault := p.needWord("from"); fault != nil {
		return nil, fault
	}
	x, fault := p.expr(0)
	return []node{field, x}, fault
}

func (p *parser) positionArgs() ([]node, *syntaxError) {
	sub, fault := p.restricted(0)
	if fault != nil {
		return nil, fault
	}
	if fault := p.needWord("in"); fault != nil {
		return nil, fault
	}
	s, fault := p.restricted(0)
	return []node{s, sub}, fault
}

func (p *parser) substringArgs() ([]node, *syntaxError) {
	args, fault := p.exprList()
	if fault != nil || len(args) > 1 {
		return args, fault
	}
	var from, length node
	for range 2 {
		switch {
		case from == nil && p.takeWord("from"):
			from, fault = p.expr(0)
		case length == nil && p.takeWord("for"):
			length, fault = p.expr(0)
		case p.isWord("similar"):
			return nil, p.unexpected("SIMILAR is not supported: use substring(x from n for m)")
		}
		if fault != nil {
			return nil, fault
		}
	}
	if length != nil && from == nil {
		off, end := args[0].span()
		from = &literal{place{off, end}, litNumber, "1"}
	}
	for _, n := range []node{from, length} {
		if n != nil {
			args = append(args, n)
		}
	}
	return args, nil
}

// trimArgs parses [both | leading | trailing] [chars] from x, which stands for
// a call of btrim, ltrim or rtrim.
func (p *parser) trimArgs() (name string, args []node, fault *syntaxError) {
	name = "btrim"
	switch {
	case p.takeWord("both"):
	case p.takeWord("leading"):
		name = "ltrim"
	case p.takeWord("trailing"):
		name = "rtrim"
	}
	if p.takeWord("from") {
		args, fault = p.exprList()
		return name, args, fault
	}
	if args, fault = p.exprList(); fault != nil || !p.isWord("from") {
		return name, args, fault
	}
	if len(args) > 1 {
		return name, nil, p.unexpected("")
	}
	p.next()
	chars := args[0]
	if args, fault = p.exprList(); fault != nil {
		return name, nil, fault
	}
	return name, append(args, chars), nil
}

func (p *parser) overlayArgs() ([]node, *syntaxError) {
	args, fault := p.exprList()
	if fault != nil || len(args) > 1 {
		return args, fault
	}
	for _, word := range []string{"placing", "from", "for"} {
		if word == "for" && !p.isWord("for") {
			break
		}
		if fault := p.needWord(word); fault != nil {
			return nil, fault
		}
		n, fault := p.expr(0)
		if fault != nil {
			return nil, fault
		}
		args = append(args, n)
	}
	return args, nil
}
