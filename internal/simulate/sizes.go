package simulate

import (
	"maps"
	"math/bits"
	"slices"
)

// sizes counts sizes, in bytes. Those below exactSize are kept as they are; of larger ones
// seven binary digits, so that a quantile is at most 2 % too large.
type sizes struct {
	counts  map[int]int64
	n       int64
	largest int
}

const (
	exactSize  = 4096
	sizeDigits = 7
)

func (s *sizes) add(size int) {
	if s.counts == nil {
		s.counts = map[int]int64{}
	}
	s.n++
	s.largest = max(s.largest, size)
	if size >= exactSize {
		unit := 1 << (bits.Len(uint(size)) - sizeDigits)
		size = (size + unit - 1) / unit * unit
	}
	s.counts[size]++
}

// quantile returns the smallest size that the part of all is not above.
func (s *sizes) quantile(part float64) int {
	below := int64(0)
	for _, size := range slices.Sorted(maps.Keys(s.counts)) {
		below += s.counts[size]
		if float64(below) >= part*float64(s.n) {
			return min(size, s.largest)
		}
	}
	return 0
}
