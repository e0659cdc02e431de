package dispatch

import "sync/atomic"

// memory is what the events that are to be delivered take, over all endpoints: bodies in lanes, those in flight included. Safe for
// concurrent use.
type memory struct{ events, bytes atomic.Int64 }

func (m *memory) hold(events, bytes int) {
	m.events.Add(int64(events))
	m.bytes.Add(int64(bytes))
}

// An endpoint may have as many events in memory as a part of what is free, as buffers are shared in switches (Choudhury and Hahne,
// "Dynamic Queue Length Thresholds"): few busy endpoints have full windows, many have equal ones, and nobody has to
// count them. With a limit divided by their number, whoever has filled a large window before the others came would exceed it.
const (
	memoryWindows = 16 // full ones, which are the limit of all endpoints together
	memoryPart    = 8  // of what is free; less would leave much unused, more make windows unequal while they fill
	leastBytes    = 16 // a window has at least one part in so many of its bytes
)

const (
	windowPerRequest = 4 // the least events in memory for each request in flight
	leastEvents      = 2 // of a stream: a page is read when there are less than half as many
)

// listedLocked is how many events the lists that are sent and read at a time have.
func (c *courier) listedLocked() int {
	if !takesLists(c.ep) {
		return 0
	}
	return 2 * c.ep.Batch.Max // the next one is read meanwhile
}

// fullWindowLocked is how many bodies, and how many bytes of them, may be in memory at the most.
func (c *courier) fullWindowLocked() (events, bytes int) {
	lists := c.listedLocked()
	return max(c.o.WindowEvents, windowPerRequest*c.ep.InFlight(), lists), c.o.WindowBytes + lists*messageOverhead
}

// windowLocked is how many bodies, and how many bytes of them, may be in memory of a stream now: of the main
// stream never so few that concurrency, or two lists, could not be reached, and of the side stream, which has a part of that, never so few
// that it would not be read. Lists keep all of their bytes, because what they wait for is the end of their room.
func (c *courier) windowLocked(f *feed) (events, bytes int) {
	lists := c.listedLocked()
	events, bytes = c.fullWindowLocked()
	free := memoryWindows*c.o.WindowEvents - int(c.memory.events.Load())
	events = min(events, max(free/memoryPart, windowPerRequest*c.ep.InFlight(), lists))
	if lists == 0 {
		free = memoryWindows*c.o.WindowBytes - int(c.memory.bytes.Load())
		bytes = min(bytes, max(free/memoryPart, c.o.WindowBytes/leastBytes))
	}
	return max(events/f.part(), leastEvents), bytes / f.part()
}
