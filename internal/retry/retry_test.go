package retry_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"gancho/internal/retry"
)

var errBusy = errors.New("busy")

func TestWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		if err := retry.Wait(t.Context(), time.Hour); err != nil || time.Since(began) != time.Hour {
			t.Errorf("waited %v: %v", time.Since(began), err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began = time.Now()
		if err := retry.Wait(ctx, time.Hour); !errors.Is(err, context.DeadlineExceeded) || time.Since(began) != time.Minute {
			t.Errorf("the context ended after a minute: %v after %v", err, time.Since(began))
		}
	})
}

func TestDelay(t *testing.T) {
	b := retry.Backoff{Min: 100 * time.Millisecond, Max: time.Second}
	for n, least := range map[int]time.Duration{
		0: 100 * time.Millisecond, 1: 100 * time.Millisecond, 2: 200 * time.Millisecond, 4: 800 * time.Millisecond,
		5: time.Second, 1 << 40: time.Second,
	} {
		seen := map[time.Duration]bool{}
		for range 100 {
			d := b.Delay(n)
			seen[d] = true
			if d < least || d > least+least/2 {
				t.Errorf("failure %d: %v, want %v and up to half more", n, d, least)
			}
		}
		if len(seen) == 1 {
			t.Errorf("failure %d: no jitter", n)
		}
	}
	if d := (retry.Backoff{}).Delay(3); d != 0 {
		t.Errorf("a zero backoff waits %v", d)
	}
}

func TestDo(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := retry.Backoff{Min: time.Second, Max: time.Second}
		var failures []error
		attempts := 0
		v, err := retry.Do(t.Context(), b, func() (string, error) {
			if attempts++; attempts < 3 {
				return "", errBusy
			}
			return "done", nil
		}, func(err error) bool { failures = append(failures, err); return true })
		if v != "done" || err != nil || len(failures) != 2 {
			t.Errorf("%q, %v after the failures %v", v, err, failures)
		}

		began := time.Now()
		_, err = retry.Do(t.Context(), b, func() (int, error) { return 0, errBusy }, func(error) bool { return false })
		if !errors.Is(err, errBusy) || time.Since(began) != 0 {
			t.Errorf("pointless: %v after %v", err, time.Since(began))
		}

		ctx, cancel := context.WithCancel(t.Context())
		_, err = retry.Do(ctx, b, func() (int, error) { cancel(); return 0, errBusy }, func(error) bool {
			t.Error("asked about a failure after the context's end")
			return false
		})
		if !errors.Is(err, context.Canceled) {
			t.Errorf("canceled: %v", err)
		}
	})
}

func ExampleDo() {
	attempts := 0
	answer, err := retry.Do(context.Background(), retry.Backoff{Min: time.Millisecond, Max: time.Second}, func() (int, error) {
		if attempts++; attempts < 3 {
			return 0, errBusy
		}
		return 42, nil
	}, func(err error) bool { return errors.Is(err, errBusy) })
	fmt.Println(answer, err, "after", attempts, "attempts")
	// Output: 42 <nil> after 3 attempts
}
