package expr_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"gancho/internal/testservers"
)

// TestGrammarDifferential generates sentences without parentheses, right and wrong
// ones, and expects PostgreSQL's precedence and PostgreSQL's refusals.
func TestGrammarDifferential(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed(t), 3))
	s := openSource(t, "C.UTF-8", r, rowsPerSource)
	d := newDifferential(t, s)
	for range testservers.Cases(60) {
		var batch []generated
		for range 150 {
			if s := sentence(r); !strings.Contains(s, "--") { // a comment
				batch = append(batch, generated{sql: s})
			}
		}
		d.run(t, batch)
	}
	for reason, src := range d.reasons {
		if !strings.Contains(reason, "every row would fail") && !strings.Contains(reason, "is not supported") && !strings.Contains(reason, "a row can") {
			t.Errorf("refused here, accepted by PostgreSQL: %s: %.200s", src, reason)
		}
	}
	if d.pairs < testservers.Cases(3000) {
		t.Errorf("only %d pairs were compared", d.pairs)
	}
}

// sentence is a chain of operands and operators.
func sentence(r *rand.Rand) string {
	pick := func(list ...string) string { return list[r.IntN(len(list))] }
	var b strings.Builder
	operand := func() {
		for r.IntN(5) == 0 {
			b.WriteString(pick("not ", "not ", "- ", "+ ", "-"))
		}
		b.WriteString(pick("new.i4", "new.i2", "1", "-2", "3", "new.b", "old.b", "true", "null", "new.t", "'a'", "2.5", "(1)", "new.n122", "new.ai[1]", "case when new.b then 1 end", "'t'", "(new.i4, 1)"))
		for r.IntN(6) == 0 {
			b.WriteString(pick("::text", "::int", "::numeric", " is null", " is not null", " is true", " isnull", " notnull", " in (1, 2)", " not in (3)", "::bool", " is not unknown"))
		}
	}
	operand()
	for range 1 + r.IntN(4) {
		b.WriteString(pick(" + ", " - ", "-", " * ", " / ", " % ", " = ", " <> ", " != ", " < ", ">=", " and ", " or ", " and ", " or ", " || ", " like ", " not like ", " is distinct from ", " is not distinct from ",
			" between 1 and ", " not between -1 and ", " between symmetric 2 and ", " between 1 + 1 and ", " ~~ ", " = any(new.ai) = ", " <> all(array[1,2]) or ", " and not ", "=-", "*-", " between new.i2 = 1 and ", " is distinct from - "))
		operand()
	}
	return b.String()
}

// TestWholeRows compares whole rows: equal ones, null ones, and some that differ in one
// column.
func TestWholeRows(t *testing.T) {
	t.Parallel()
	const unlike = "j, r, rz, mz, cp" // of types that are not compared here
	drop := "alter table %s drop column " + strings.ReplaceAll(unlike, ", ", ", drop column ") + ";"
	const same = `delete from n where id < 3; insert into n select * from o where id < 2; insert into n (id) values (2); update n set t = 'depois' from o where n.id = o.id and n.id = 1`
	s := openSourceAs(t, "C.UTF-8", rand.New(rand.NewPCG(seed(t), 4)), rowsPerSource, strings.ReplaceAll(drop, "%s", "o")+strings.ReplaceAll(drop, "%s", "n"), same)
	d := newDifferential(t, s)
	var batch []generated
	for _, form := range []string{
		"old is distinct from new", "old.* is distinct from new.*", "new is not distinct from old", "old = new", "new.* <> old.*", "new is null", "old is null", "old.* is not null", "new isnull", "new.* notnull", "old is distinct from null", "null is not distinct from new",
		"row(old.*) is distinct from row(new.*)", "row(new.i4, old.*) = row(old.i4, new.*)", "(new.*, 1) <> (old.*, new.i4)", "row(old.*) = row(new.*)", "row(new.*) is null", "row(old.*, null) is not null", "new = new", "new is distinct from new", "old.* = old", "not new = old",
		"new.i4 > 0 or old is distinct from new", "row(new.*) < row(old.*)", "old < new", "new is true", "row(new.*) = new", "new.id = old", "row(new.id, o.*) = new", "old is not distinct from new is true", "(old is distinct from new) = (row(old.*) <> row(new.*))",
	} {
		batch = append(batch, generated{sql: form})
	}
	d.run(t, batch)
	if d.refused != 3 { // whose order is not known here
		t.Errorf("%d were refused: %v", d.refused, d.reasons)
	}
}
