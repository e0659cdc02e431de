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
	latency    histogram
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
		s.latency.add(d.CommitToArrival)
	}
}

// Quantile returns the delay from commit to first arrival that the share q of
// events did not exceed, to about 3 %; 0 when none is known.
func (s *Summary) Quantile(q float64) time.Duration { return s.latency.quantile(q) }

// String is a line for people.
func (s *Summary) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d received, %d accepted", s.Received, s.Accepted)
	for _, c := range []struct {
		n    int
		what string
	}{{s.Failed, "answered with failure"}, {s.Unverified, "with a wrong signature"}, {s.Duplicates, "seen before"}, {s.OutOfOrder, "out of order"}} {
		if c.n > 0 {
			fmt.Fprintf(&b, ", %d %s", c.n, c.what)
		}
	}
	if s.latency.n > 0 {
		fmt.Fprintf(&b, "; commit to arrival: p50 %s, p99 %s", short(s.Quantile(0.5)), short(s.Quantile(0.99)))
	}
	return b.String()
}

// A histogram of durations in buckets that grow by 3 %, from 1 µs to over a year.
const (
	histogramGrowth  = 1.03
	histogramBuckets = 1100
)

type histogram struct {
	n      int
	counts [histogramBuckets]int
}

func (h *histogram) add(d time.Duration) {
	bucket := 0
	if us := float64(d) / float64(time.Microsecond); us > 1 {
		bucket = min(int(math.Ceil(math.Log(us)/math.Log(histogramGrowth))), histogramBuckets-1)
	}
	h.counts[bucket]++
	h.n++
}

func (h *histogram) quantile(q float64) time.Duration {
	if h.n == 0 {
		return 0
	}
	rank := int(math.Ceil(q * float64(h.n)))
	for bucket, n := range h.counts {
		if rank -= n; rank <= 0 {
			return time.Duration(math.Pow(histogramGrowth, float64(bucket)) * float64(time.Microsecond))
		}
	}
	return 0
}

// short rounds a duration to about three digits.
func short(d time.Duration) string {
	unit := time.Second
	for unit > time.Nanosecond && d.Abs() < unit*100 {
		unit /= 10
	}
	return d.Round(unit).String()
}
