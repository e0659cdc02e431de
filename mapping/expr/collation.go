package expr

// collatedColumn finds a column of the term that has a collation of its own, with
// preference for a nondeterministic one.
func (c *checker) collatedColumn(t *term) (column, collation string, deterministic bool) {
	if c.scope.Collation == nil {
		return "", "", true
	}
	if t.lookup > 0 {
		return "", "", true // its collation is not known, nor is that of a table's expression
	}
	if t.op == opColumn || t.op == opChanged {
		name, ok := c.scope.Collation(t.column)
		return t.name, name, ok || name == ""
	}
	deterministic = true
	for _, a := range t.args {
		if col, name, ok := c.collatedColumn(a); name != "" && (deterministic || !ok) {
			column, collation, deterministic = col, name, ok
		}
	}
	return column, collation, deterministic
}

// ownCollation refuses what depends on order or case for a column whose
// collation is not the database's.
func (c *checker) ownCollation(t *term) *Error {
	column, collation, _ := c.collatedColumn(t)
	if collation == "" {
		return nil
	}
	return refusal(t, "the result depends on collation "+collation+" of column "+column+", which the rules do not know", "compare with =")
}

// collationProblem refuses to compare texts under a nondeterministic
// collation, where even equality is the collation's.
func (c *checker) collationProblem(t *term) *Error {
	for _, a := range t.args {
		if category(a.typ) != 'S' {
			continue
		}
		if column, collation, deterministic := c.collatedColumn(a); !deterministic {
			return refusal(t, "column "+column+" has the nondeterministic collation "+collation+", which the rules do not know", "use the column as it is")
		}
	}
	return nil
}
