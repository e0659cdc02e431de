package queue_test

import (
	"errors"
	"testing"

	"gancho/delivery/queue"
)

// A sentinel that was cut off leads nowhere, when those that know more do not
// answer for a moment.
func TestSentinelsThatMissedAFailover(t *testing.T) {
	t.Parallel()
	var s queue.Sentinels
	for i, step := range []struct {
		answers []string
		epochs  []uint64
		want    string // empty: ErrUnreachable
	}{
		{[]string{"a", "a", "a"}, []uint64{1, 1, 1}, "a"},
		{[]string{"a", "b", "b"}, []uint64{1, 2, 2}, "b"},
		{[]string{"a", "", ""}, []uint64{1, 0, 0}, ""},
		{[]string{"", "", "b"}, []uint64{0, 0, 2}, "b"},
		{[]string{"", "", ""}, []uint64{0, 0, 0}, ""},
		{[]string{"c", "c", ""}, []uint64{0, 0, 0}, "c"}, // learned again
		{[]string{"c", "", ""}, []uint64{0, 0, 0}, "c"},
	} {
		got, err := s.Choose(step.answers, step.epochs)
		if got != step.want || (err != nil) != (step.want == "") || err != nil && !errors.Is(err, queue.ErrUnreachable) {
			t.Errorf("step %d: chose %q, %v, want %q", i, got, err, step.want)
		}
	}
}
