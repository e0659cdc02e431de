package expr_test

import (
	"math/rand/v2"
	"strings"
	"testing"
)

// TestGrammarDifferential generates sentences without parentheses, right and wrong
// ones, and expects PostgreSQL's precedence and PostgreSQL's refusals.
func TestGrammarDifferential(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed(t), 3))
	s := openSource(t, "C.UTF-8", r, rowsPerSource)
	d := newDifferential(t, s)
	for range 60 {
		var batch []generated
		for range 150 {
			if s := sentence(r); !strings.Contains(s, "--") { // a comment
				batch = append(batch, generated{sql: s})
			}
		}
		d.run(t, batch)
	}
	for reason, src := range d.reasons {
		if !strings.Contains(reason, "every row would fail") && !strings.Contains(reason, "is not supported") {
			t.Errorf("refused here, accepted by PostgreSQL: %s: %.200s", src, reason)
		}
	}
	if d.pairs < 3000 {
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
		b.WriteString(pick("new.i4", "new.i2", "1", "-2", "3", "new.b", "old.b", "true", "null", "new.t", "'a'", "2.5", "(1)", "new.n122", "new.ai[1]", "case when new.b then 1 end", "'t'"))
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
