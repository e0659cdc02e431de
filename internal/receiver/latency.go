package receiver

import (
	"math"
	"time"
)

// Latencies counts durations in buckets that are 3 % wide, from 1 µs to over a
// year, so that a receiver may run for days in the same memory. The zero value
// is empty. Its methods are one goroutine's at a time.
type Latencies struct {
	buckets [1100]int
	n       int
	longest time.Duration
}

const bucketRatio = 1.03

// Add counts one duration. What is below a microsecond counts as one.
func (l *Latencies) Add(d time.Duration) {
	i := int(math.Log(max(1, float64(d.Nanoseconds())/1e3)) / math.Log(bucketRatio))
	l.buckets[min(i, len(l.buckets)-1)]++
	l.n++
	l.longest = max(l.longest, d)
}

// Merge adds what the other has counted.
func (l *Latencies) Merge(other *Latencies) {
	for i, n := range other.buckets {
		l.buckets[i] += n
	}
	l.n += other.n
	l.longest = max(l.longest, other.longest)
}

// Quantile is the duration that the given part (0 to 1) of all did not exceed,
// to 3 %; 0 of none.
func (l *Latencies) Quantile(q float64) time.Duration {
	rest := int(math.Ceil(q * float64(l.n)))
	for i, n := range l.buckets {
		if rest -= n; rest <= 0 && l.n > 0 {
			upper := time.Duration(math.Pow(bucketRatio, float64(i+1)) * 1e3)
			return min(upper, l.longest)
		}
	}
	return l.longest
}

// Count is how many durations were counted.
func (l *Latencies) Count() int { return l.n }

// Longest is the greatest duration counted.
func (l *Latencies) Longest() time.Duration { return l.longest }
