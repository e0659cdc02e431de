package expr

import "strings"

// closest returns the name nearest to what was written, if one is near enough
// to be meant.
func closest(written string, names []string) (string, bool) {
	if len(written) > 63 { // PostgreSQL's names are not longer
		return "", false
	}
	best, distance := "", len(written)/3+2
	for _, name := range names {
		if d := editDistance(strings.ToLower(written), strings.ToLower(name)); d < distance {
			best, distance = name, d
		}
	}
	return best, best != ""
}

// editDistance counts insertions, deletions, replacements and swaps of
// neighbours.
func editDistance(a, b string) int {
	ra, rb := []rune(a), []rune(b)
	var before []int
	row := make([]int, len(rb)+1)
	for j := range row {
		row[j] = j
	}
	for i := range ra {
		next := make([]int, len(rb)+1)
		next[0] = i + 1
		for j := range rb {
			cost := 1
			if ra[i] == rb[j] {
				cost = 0
			}
			next[j+1] = min(row[j]+cost, row[j+1]+1, next[j]+1)
			if i > 0 && j > 0 && ra[i] == rb[j-1] && ra[i-1] == rb[j] {
				next[j+1] = min(next[j+1], before[j-1]+1)
			}
		}
		before, row = row, next
	}
	return row[len(rb)]
}
