package testservers

import "testing"

// sampled is of how many cases the race detector sees one.
const sampled = 4

// Cases returns how many of n generated cases a test runs: all, or a quarter with the
// race detector, which makes a computation of one goroutine several times as expensive
// and sees the same in each case. `make test-whole` runs all.
func Cases(n int) int {
	if raced {
		return (n + sampled - 1) / sampled
	}
	return n
}

// Sample returns which cases of a table a test runs: all, or each fourth with the race
// detector, as Cases says.
func Sample[T any](all []T) []T {
	if !raced {
		return all
	}
	var some []T
	for i := 0; i < len(all); i += sampled {
		some = append(some, all[i])
	}
	return some
}

// Whole skips a test with the race detector that costs much there and shows it nothing which
// other tests do not: a bridge under load, a count of what is done in quiet, or one client's
// tour of what others ask for, too. `make test-whole` runs it.
func Whole(t testing.TB) {
	t.Helper()
	if raced {
		t.Skip("it costs much with the race detector, and other tests show that as much: make test-whole runs it without")
	}
}
