package expr_test

import (
	"fmt"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"gancho/internal/testservers"
	"gancho/mapping/expr"
)

// TestGrowth: 16 times the input takes at most 16 times the steps, and nowhere near
// the 256 times that a quadratic algorithm would take in time. It measures the time of
// this thread's processor, which other processes do not change.
func TestGrowth(t *testing.T) {
	const small, factor, tolerance, runs, stepsPerByte = 4_000, 16, 6, 4, 32
	const tick = 10 * time.Millisecond // of some kernels' clocks
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	list := func(form string, first, step int) func(n int) string {
		return func(n int) string {
			var b strings.Builder
			for i := range n / 4 { // an element takes several bytes
				fmt.Fprintf(&b, ","+form, first+step*i)
			}
			return "{" + b.String()[1:] + "}"
		}
	}
	digits := func(prefix string) func(n int) string {
		return func(n int) string { return prefix + strings.Repeat("7193", n/2) }
	}
	never := func(int) string { return "0" }
	numeric, fraction := digits(""), func(n int) string { return digits("1.")(n / 8) }
	type operands struct{ a, b func(n int) string }
	even := list("%d", 1_000_000, 2)
	scope := texts()
	machine := expr.NewMachine(scope.Settings)
	forms := map[string]operands{
		"a::int[] = b::int[]":                              {even, even},
		"b::int = any(a::int[])":                           {even, never},
		"b::numeric <> all(a::numeric[])":                  {list("%d.50", 1, 1), never},
		"array_to_string(a::int[], b)":                     {even, never},
		"a::int[]::text[]::text":                           {even, never},
		"a::numeric = b::numeric":                          {numeric, numeric},
		"a::numeric between b::numeric and 5":              {numeric, never},
		"a::numeric + b::numeric":                          {numeric, fraction},
		"a::numeric - b::numeric":                          {fraction, numeric},
		"a::numeric * 3":                                   {numeric, never},
		"a::numeric / 7":                                   {numeric, never},
		"a::numeric % 7":                                   {numeric, never},
		"div(a::numeric, 7)":                               {numeric, never},
		"3 / a::numeric":                                   {numeric, never},
		"a::numeric / b::numeric":                          {numeric, numeric},
		"a::numeric % (b::numeric - 1)":                    {numeric, numeric},
		"div(b::numeric, a::numeric - 1)":                  {numeric, numeric},
		"-abs(a::numeric)":                                 {numeric, never},
		"round(a::numeric, -5)":                            {numeric, never},
		"ceil(a::numeric) - floor(a::numeric)":             {fraction, never},
		"a::numeric::text || sign(a::numeric)":             {numeric, never},
		"greatest(a::numeric, b::numeric) is null":         {numeric, fraction},
		"a::numeric is distinct from round(b::numeric, 2)": {numeric, fraction},
	}
	for _, src := range testservers.Sample(slices.Sorted(maps.Keys(forms))) {
		of := forms[src]
		e, err := expr.Compile(src, scope)
		if err != nil {
			t.Errorf("%s: %v", src, err)
			continue
		}
		took := func(n, runs int) time.Duration {
			a, b := of.a(n), of.b(n)
			change := inserted(scope, a, b, "")
			expr.WithBudget(machine, 1<<30, int64(stepsPerByte*(len(a)+len(b))))
			var out []byte
			began := threadTime(t)
			for range runs {
				machine.Load(change)
				if out, _, err = machine.AppendText(out[:0], e); err != nil {
					t.Fatalf("%s: %v", src, err)
				}
			}
			return threadTime(t) - began
		}
		if many, large := took(small, factor*runs), took(factor*small, runs); large > tolerance*(many+tick) {
			t.Errorf("%s: took %v, and %v for the same input in pieces of a %dth", src, large, many, factor)
		}
	}
}

// threadTime is the processor time that this thread has taken.
func threadTime(t *testing.T) time.Duration {
	t.Helper()
	var at unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &at); err != nil {
		t.Fatal(err)
	}
	return time.Duration(at.Nano())
}
