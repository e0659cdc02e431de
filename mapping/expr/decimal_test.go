package expr_test

import (
	"math/big"
	"math/rand/v2"
	"strings"
	"testing"

	"gancho/internal/testservers"
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
	for range testservers.Cases(5_000) {
		if err := expr.SameNumeric(number(), number(), int32(r.IntN(80)-30)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNearQuotient: a quotient of few digits that lies on the border of two results, or as
// near to it as it can.
func TestNearQuotient(t *testing.T) {
	t.Parallel()
	r := rand.New(rand.NewPCG(seed(t), 2))
	for range testservers.Cases(800) {
		digits := []byte(strings.Repeat([...]string{"9", "3", "10"}[r.IntN(3)], 50+r.IntN(100)))
		for range r.IntN(5) {
			digits[r.IntN(len(digits))] = byte('1' + r.IntN(9))
		}
		divisor, _ := new(big.Int).SetString(string(digits), 10)
		// The quotient is 1 and this many halves of the last digit of the scale, 16.
		quotient := big.NewInt(1e17 + 5*int64(r.IntN(1000)))
		dividend := new(big.Int).Mul(divisor, quotient)
		dividend.Add(dividend, big.NewInt(int64(r.IntN(3)-1)))
		a, b := dividend.String(), divisor.String()+strings.Repeat("0", [...]int{0, 17, 17}[r.IntN(3)])
		if err := expr.SameNumeric([...]string{"", "-"}[r.IntN(2)]+a, b, 0); err != nil {
			t.Fatal(err)
		}
	}
}
