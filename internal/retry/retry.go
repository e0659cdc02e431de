// Package retry waits between the attempts of what may succeed later.
//
// It holds no goroutine and no timer after it has returned, and knows nothing
// of errors: who calls decides which of them are worth another attempt.
package retry

import (
	"context"
	"math/rand/v2"
	"time"
)

// Wait returns nil after d, or the context's error when that ends first.
func Wait(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-timer.C:
		return nil
	}
}

// Backoff is how long to wait between attempts: Min after the first failure in
// a row, twice as long after each further one, at most Max. Jitter makes each
// wait up to half as long again, so that what failed together does not return
// together.
type Backoff struct{ Min, Max time.Duration }

// Delay returns the wait after the n-th failure in a row, from 1: between
// Min·2ⁿ⁻¹ (at most Max) and 1.5 times that.
func (b Backoff) Delay(n int) time.Duration {
	d := b.Min
	for ; n > 1 && d < b.Max; n-- {
		d *= 2
	}
	d = min(d, b.Max)
	return d + rand.N(d/2+1)
}

// Do calls try until it succeeds, again says that another attempt is pointless
// (then try's error is returned), or the context ends (then the context's is).
// again is called with each failure; it is the place to log it.
func Do[T any](ctx context.Context, b Backoff, try func() (T, error), again func(error) bool) (T, error) {
	for n := 1; ; n++ {
		v, err := try()
		if err == nil {
			return v, nil
		}
		if ctx.Err() == nil && !again(err) {
			return v, err
		}
		if err := Wait(ctx, b.Delay(n)); err != nil {
			return v, err
		}
	}
}
