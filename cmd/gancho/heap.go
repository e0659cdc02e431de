package main

import (
	"os"
	"runtime"
)

// heapFloor is memory that the garbage collector takes for used, and that nobody touches, so that the system gives none. A bridge has some 6 MB in
// use, and the collector would run whenever as much again was allocated: several times a second under load, for a
// quarter of the bridge's processor time. (A higher GOGC would multiply what a large heap takes, too.)
const heapFloor = 16 << 20

// raiseHeapFloor has the collector run less often while little is in use, until lower is called. Who sets GOGC decides alone.
func raiseHeapFloor() (lower func()) {
	if os.Getenv("GOGC") != "" {
		return func() {}
	}
	floor := make([]byte, heapFloor)
	return func() { runtime.KeepAlive(&floor[0]) }
}
