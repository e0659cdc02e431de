package bridge

import (
	"context"
	"time"

	"gancho/cdc"
)

// Shortened is what sources have failed with, in one line.
var Shortened = shortened

// Uncounted asks at a source whether the commits before a time, in so long from now by its clock, are all counted, and returns whether a closing waits
// for its slot.
func Uncounted(ctx context.Context, dsn, slot string, in time.Duration) (bool, error) {
	gauge := cdc.NewSlotGauge(dsn, slot)
	defer gauge.Close(context.WithoutCancel(ctx))
	mark, err := gauge.Mark(ctx)
	if err != nil {
		return false, err
	}
	c := newClosings(&bridge{gauge: gauge})
	counted, err := c.counted(ctx, mark.At.Add(in-afterMidnight))
	return c.uncounted && !counted, err
}

// MeasuresOverOwn reports whether a source is measured over a connection of its own, and whether over that of all later, when the last look at its server's counters has failed,
// or not.
func MeasuresOverOwn(failing bool) (own, sharedLater bool) {
	f, members := fakeFleet(1, 1)
	members[0].server.failing = failing
	shared := cdc.NewSlotGauge("", "")
	half := &bridge{Options: f.Options, gauge: shared}
	end := members[0].useOwnGauge(half)
	own = half.gauge != shared
	end()
	return own, half.gauge == shared
}
