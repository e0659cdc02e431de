package main

import (
	"runtime"
	"runtime/metrics"
	"testing"
)

// TestHeapFloor: while little is in use the collector waits for twice the floor, and no longer than that afterwards, or where GOGC is set.
func TestHeapFloor(t *testing.T) {
	goal := func() uint64 {
		runtime.GC()
		sample := []metrics.Sample{{Name: "/gc/heap/goal:bytes"}}
		metrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	t.Setenv("GOGC", "")
	before := goal()
	lower := raiseHeapFloor()
	if with := goal(); with < before+heapFloor {
		t.Errorf("the heap may grow to %d bytes, %d without the floor", with, before)
	}
	lower()
	if after := goal(); after > before+heapFloor {
		t.Errorf("the heap may still grow to %d bytes, %d before", after, before)
	}
	t.Setenv("GOGC", "100")
	before = goal()
	defer raiseHeapFloor()()
	if with := goal(); with > before+heapFloor {
		t.Errorf("with GOGC set the heap may grow to %d bytes, %d before", with, before)
	}
}
