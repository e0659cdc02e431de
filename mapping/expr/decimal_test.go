package expr_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"gancho/mapping/expr"
)

// TestDecimal: what is computed with a wide numeric's digits is what its number gives.
func TestDecimal(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed(t), 1))
	number := func() string {
		digits := make([]byte, 1+r.IntN([...]int{4, 60, 90}[r.IntN(3)]))
		pool := [...]string{"0123456789", "9", "0159"}[r.IntN(3)]
		for i := range digits {
			digits[i] = pool[r.IntN(len(pool))]
		}
		s := string(digits)
		switch r.IntN(5) {
		case 0:
			s = "0." + strings.Repeat("0", r.IntN(60)) + s
		case 1, 2:
			point := r.IntN(len(s))
			s = s[:point] + "." + s[point:]
		}
		return [...]string{"", "-"}[r.IntN(2)] + s
	}
	for range 10_000 {
		if err := expr.SameNumeric(number(), number(), int32(r.IntN(80)-30)); err != nil {
			t.Fatal(err)
		}
	}
}
