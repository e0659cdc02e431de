package receiver

import (
	"fmt"
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
	if s.latencies.Count() > 0 {
		fmt.Fprintf(&b, "; commit to arrival: p50 %s, p99 %s", Short(s.Quantile(0.5)), Short(s.Quantile(0.99)))
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
