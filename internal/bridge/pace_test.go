package bridge_test

import (
	"testing"

	"gancho/internal/bridge"
)

// TestPace: chunks shrink at once to a few rows where live events would wait for them, and grow slowly
// to as many as it delivers in time.
func TestPace(t *testing.T) {
	t.Parallel()
	const least, most = 5, 500
	size, late := most, 0
	for ; size > least; size = bridge.NextDrains(size, false) {
		late++
	}
	if size != least || late > 7 {
		t.Errorf("after %d chunks that were late: %d rows", late, size)
	}
	for range 200 {
		next := bridge.NextDrains(size, true)
		if next < min(size+1, most) || next > size+size/8+1 || next > most {
			t.Fatalf("%d rows, then %d", size, next)
		}
		size = next
	}
	if size != most {
		t.Errorf("at the end %d rows", size)
	}
	// An endpoint that delivers 24 in time gets no chunk that is much larger, and not many fewer.
	size = least
	var largest, sum int
	for range 100 {
		largest, sum = max(largest, size), sum+size
		size = bridge.NextDrains(size, size <= 24)
	}
	if largest > 28 || sum < 16*100 {
		t.Errorf("at most %d rows, %d in 100 chunks", largest, sum)
	}
}
