package strictyaml

import "strings"

// Closest returns the candidate that a person most likely meant by name, or
// "" when none is near: the nearest in spelling, else the only one that begins
// with the name.
func Closest(name string, candidates []string) string {
	if c := Nearest(name, candidates); c != "" {
		return c
	}
	longer := ""
	for _, c := range candidates {
		if len(name) > 2 && strings.HasPrefix(strings.ToLower(c), strings.ToLower(name)) {
			if longer != "" {
				return ""
			}
			longer = c
		}
	}
	return longer
}

// Nearest returns the candidate that is spelt most like name, or "": at most a
// third of the characters may differ, and a difference of case alone always
// matches.
func Nearest(name string, candidates []string) string {
	wanted := []rune(strings.ToLower(name))
	best, bestDistance := "", 1+max(1, len(wanted)/3)
	for _, c := range candidates {
		if strings.EqualFold(c, name) {
			return c
		}
		letters := []rune(strings.ToLower(c))
		if max(len(letters)-len(wanted), len(wanted)-len(letters)) >= bestDistance {
			continue // a long text is not compared letter by letter
		}
		if d := distance(wanted, letters); d < bestDistance {
			best, bestDistance = c, d
		}
	}
	return best
}

// distance is the optimal string alignment distance: insertions, deletions,
// substitutions and exchanges of neighbours, the commonest slip, cost 1.
func distance(a, b []rune) int {
	rows := make([][]int, len(a)+1)
	for i := range rows {
		rows[i] = make([]int, len(b)+1)
		rows[i][0] = i
	}
	for j := range b {
		rows[0][j+1] = j + 1
	}
	for i := 1; i <= len(a); i++ {
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			rows[i][j] = min(rows[i-1][j]+1, rows[i][j-1]+1, rows[i-1][j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				rows[i][j] = min(rows[i][j], rows[i-2][j-2]+1)
			}
		}
	}
	return rows[len(a)][len(b)]
}
