package receiver

import (
	"fmt"
	"math"
	"net/http"
	"strings"
	"time"
)

// Summary counts what arrived.
type Summary struct {
	Received   int // events, or requests in format bare
	Accepted   int // answered 2xx
	Duplicates int
	OutOfOrder int
	Unverified int // answered 401
	Failed     int // answered otherwise, as the options say
	latencies  Latencies
}

func (s *Summary) add(d *Delivery) {
	s.Received++
	switch {
	case d.Accepted():
		s.Accepted++
	case d.Status == http.StatusUnauthorized:
		s.Unverified++
	default:
		s.Failed++
	}
	if d.Duplicate {
		s.Duplicates++
	}
	if d.OutOfOrder {
		s.OutOfOrder++
	}
	if d.Attempt == 1 && !d.Timestamp.IsZero() {
		s.latencies.Add(d.CommitToArrival)
	}
}

// Quantile is the delay from commit to first arrival that the given part (0 to
// 1) of the events did not exceed, to 3 %; 0 when none is known.
func (s *Summary) Quantile(q float64) time.Duration { return s.latencies.Quantile(q) }

// String is a line for people.
func (s *Summary) String() string { return s.Text(func(text string) string { return text }) }

// Text is String of texts in the reader's language, which say makes of their English.
func (s *Summary) Text(say func(string) string) string {
	var b strings.Builder
	b.WriteString(say(fmt.Sprintf("%d received", s.Received)) + ", " + say(fmt.Sprintf("%d accepted", s.Accepted)))
	for _, c := range []struct {
		n    int
		what string
	}{{s.Failed, "answered with failure"}, {s.Unverified, "with a wrong signature"}, {s.Duplicates, "seen before"}, {s.OutOfOrder, "out of order"}} {
		if c.n > 0 {
			b.WriteString(", " + say(fmt.Sprintf("%d %s", c.n, c.what)))
		}
	}
	if s.latencies.Count() > 0 {
		b.WriteString("; " + say(fmt.Sprintf("commit to arrival: p50 %s, p99 %s", Short(s.Quantile(0.5)), Short(s.Quantile(0.99)))))
	}
	return b.String()
}

// Short is a duration with about three digits.
func Short(d time.Duration) string {
	unit := time.Second
	for unit > time.Nanosecond && d.Abs() < unit*100 {
		unit /= 10
	}
	return d.Round(unit).String()
}

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
