package expr

import "gancho/cdc"

// isRow reports (a, b), row(...), and a whole row of the change: old, old.* and those
// of new.
func (c *checker) isRow(n node) bool {
	if _, is := n.(*rowExpr); is {
		return true
	}
	_, whole := c.wholeRow(n)
	return whole
}

// wholeRow reports old, new, old.* and new.*.
func (c *checker) wholeRow(n node) (old, whole bool) {
	ref, ok := n.(*columnRef)
	if !ok || len(ref.path) != 1 || !ref.star && !c.isWholeRow(ref.path[0]) || ref.path[0].text != "old" && ref.path[0].text != "new" {
		return false, false
	}
	return ref.path[0].text == "old", true
}

// fields are the terms of a row, nil after an error.
func (c *checker) fields(n node) []*term {
	if _, whole := c.wholeRow(n); whole {
		return c.wholeFields(n)
	}
	row, ok := n.(*rowExpr)
	if !ok {
		return nil
	}
	var terms []*term
	failed := false
	for _, field := range row.list {
		if ref, ok := field.(*columnRef); ok && ref.star {
			all := c.wholeFields(field)
			terms, failed = append(terms, all...), failed || all == nil
			continue
		}
		t := c.check(field)
		terms, failed = append(terms, t), failed || t == nil
	}
	if len(terms) == 0 && !failed {
		c.errorAt(placeOf(n), "name columns", "a row without columns cannot be compared")
	}
	if failed {
		return nil
	}
	return terms
}

// wholeFields are the columns of a whole row.
func (c *checker) wholeFields(n node) []*term {
	old, whole := c.wholeRow(n)
	switch {
	case !whole:
		c.errorAt(placeOf(n), "name the columns", "only old.* and new.* can be written")
		return nil
	case c.scope.Relation == nil:
		c.errorAt(placeOf(n), "", "the expression has no table, so it has no rows")
		return nil
	case old && !c.scope.Old || !old && !c.scope.New:
		c.errorAt(placeOf(n), "write a rule for each operation", "%s", c.rowMessage(old))
		return nil
	}
	var terms []*term
	for i := range c.scope.Relation.Columns {
		terms = append(terms, c.columnTerm(placeOf(n), i, old))
		c.named[len(c.named)-1].Whole = true
	}
	return terms
}

// pairs are the fields of two rows that are compared. Both are row constructors or
// both are whole rows: PostgreSQL compares the former by the operator, field by field,
// and the latter by record_eq, to which nulls are equal.
func (c *checker) pairs(p place, l, r node) (left, right []*term, whole bool) {
	_, wholeLeft := c.wholeRow(l)
	_, wholeRight := c.wholeRow(r)
	if !c.isRow(l) || !c.isRow(r) || wholeLeft != wholeRight {
		c.errorAt(p, "write row(...) on both sides, or compare the columns one by one", "a row can be compared only with a row of the same form here")
		return nil, nil, false
	}
	left, right = c.fields(l), c.fields(r)
	if left == nil || right == nil {
		return nil, nil, false
	}
	if len(left) != len(right) {
		c.errorAt(p, "", "unequal number of entries in row expressions")
		return nil, nil, false
	}
	return left, right, wholeLeft
}

// compareRows is make_row_comparison_op, and record_eq of whole rows.
func (c *checker) compareRows(op string, opPlace, p place, l, r node) *term {
	left, right, whole := c.pairs(p, l, r)
	if left == nil {
		return nil
	}
	switch op {
	case "=", "<>":
		if whole {
			t := c.distinctFields(p, left, right)
			if op == "=" {
				t = c.simple(opNot, p, c.fold(t))
			}
			return t
		}
		join := opAnd
		if op == "<>" {
			join = opOr
		}
		var parts []*term
		for i := range left {
			parts = append(parts, c.fold(c.operator(op, opPlace, p, left[i], right[i])))
		}
		if len(parts) == 1 {
			return parts[0]
		}
		return c.simple(join, p, parts...)
	case "<", "<=", ">", ">=":
		if !whole {
			return c.orderRows(op, opPlace, p, left, right)
		}
	}
	return c.errorAt(opPlace, "compare the columns one by one", "operator %s of rows is not supported", op)
}

// orderRows is RowCompareExpr: the first fields that differ decide, and a null among
// those before makes it null.
func (c *checker) orderRows(op string, opPlace, p place, left, right []*term) *term {
	last := len(left) - 1
	t := c.fold(c.operator(op, opPlace, p, left[last], right[last]))
	for i := last - 1; i >= 0 && t != nil; i-- {
		same := c.fold(c.operator("=", opPlace, p, left[i], right[i]))
		differ := c.fold(c.operator(op[:1], opPlace, p, left[i], right[i]))
		t = c.fold(c.simple(opCase, p, same, t, differ))
	}
	return t
}

// distinctRows is is [not] distinct from of rows.
func (c *checker) distinctRows(n *distinct) *term {
	row, other := n.l, n.r
	if isNullLiteral(row) {
		row, other = other, row
	}
	if _, whole := c.wholeRow(row); whole && isNullLiteral(other) {
		if c.fields(row) == nil {
			return nil
		}
		t := constant(boolValue(!n.not), builtin(oidBool), n.place) // a row of nulls is a row
		t.vars = true
		return t
	}
	left, right, _ := c.pairs(n.place, n.l, n.r)
	if left == nil {
		return nil
	}
	t := c.distinctFields(n.place, left, right)
	if n.not {
		t = c.simple(opNot, n.place, c.fold(t))
	}
	return t
}

func (c *checker) distinctFields(p place, left, right []*term) *term {
	var parts []*term
	for i := range left {
		l, r := left[i], right[i]
		part, err := c.attempt(func() *term { return c.distinctTerms(p, l, r, false) })
		if err != nil {
			if l.op == opColumn && r.op == opColumn && l.column == r.column {
				return c.errorAt(p, "compare the columns that matter, or write watch: all", "column %q of type %s cannot be compared here", l.name, typeTitle(l.typ))
			}
			return c.report(err)
		}
		parts = append(parts, c.fold(part))
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return c.simple(opOr, p, parts...)
}

// nullRow is is [not] null of a row: whether all of its fields are null, or none is.
func (c *checker) nullRow(n *isTest) *term {
	if n.test != "null" {
		return c.errorAt(n.place, "write a comparison", "the argument of IS %s must be boolean, not a row", n.test)
	}
	if _, whole := c.wholeRow(n.x); whole && c.scope.Generated {
		return c.errorAt(n.place, "name the columns", "the table has generated columns, which the stream does not carry")
	}
	var parts []*term
	for _, f := range c.fields(n.x) {
		t := c.simple(opNull, n.place, c.decide(f))
		if t != nil {
			t.negate, t.test = n.not, testDatum
		}
		parts = append(parts, c.fold(t))
	}
	switch len(parts) {
	case 0:
		return nil
	case 1:
		return parts[0]
	}
	return c.simple(opAnd, n.place, parts...)
}

// operation is op and tg_op: the change's operation, in lower case as in the events'
// envelope, or in upper case as in a trigger.
func (c *checker) operation(id ident) *term {
	of := func(op cdc.Op) string {
		if id.text == "tg_op" {
			return triggerOps[op]
		}
		return op.String()
	}
	var names [cdc.Schedule + 1][]byte
	var only cdc.Op
	n := 0
	for op, has := range map[cdc.Op]bool{cdc.Insert: c.scope.Insert, cdc.Update: c.scope.Update, cdc.Delete: c.scope.Delete} {
		names[op] = []byte(of(op))
		if has {
			only, n = op, n+1
		}
	}
	for _, op := range []cdc.Op{cdc.Read, cdc.Timer, cdc.Schedule} {
		names[op] = names[cdc.Insert] // a row that is read is taken as if it were inserted
	}
	switch n {
	case 0:
		only = cdc.Truncate
		fallthrough
	case 1:
		t := constant(textValue([]byte(of(only))), builtin(oidText), id.place)
		t.vars = true
		return t
	}
	t := newTerm(opCall, builtin(oidText), id.place)
	t.vars, t.stable = true, true
	t.impl = &impl{none: func(m *Machine) value { return textValue(names[m.change.Op]) }}
	return t
}

// triggerOps are the values of TG_OP.
var triggerOps = map[cdc.Op]string{cdc.Insert: "INSERT", cdc.Update: "UPDATE", cdc.Delete: "DELETE", cdc.Truncate: "TRUNCATE"}
