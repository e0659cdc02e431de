package bridge

import (
	"context"
	"time"

	"gancho/delivery/queue"
)

const (
	// memoryEvery is the least time between two looks at Redis's memory while it has room.
	memoryEvery = 500 * time.Millisecond
	// memoryReserve is how much less of it must be used, in percent of maxmemory, before capture goes on.
	memoryReserve = 10
)

// memory keeps Redis from filling up with events: what retries, acknowledgements and other
// processes write has room meanwhile. It belongs to the goroutine that appends.
type memory struct {
	limit    int // in percent of maxmemory; 0 or 100: none
	measured time.Time
	paused   bool
}

// check returns a *queue.MemoryError while nothing is to be appended. What cannot be measured is no
// reason to wait: the append itself says that Redis is unreachable.
func (m *memory) check(ctx context.Context, s *stage) error {
	if m.limit <= 0 || m.limit >= 100 || !m.paused && time.Since(m.measured) < memoryEvery {
		return nil
	}
	used, err := s.queue.MemoryPercent(ctx)
	if err != nil {
		return nil //nolint:nilerr // as above
	}
	m.measured = time.Now()
	resume := m.limit - memoryReserve
	switch {
	case used >= m.limit && !m.paused:
		m.paused = true
		s.metrics.capturePaused.Set(1)
	case used <= resume && m.paused:
		m.paused = false
		s.metrics.capturePaused.Set(0)
	}
	if m.paused {
		return &queue.MemoryError{Percent: used, Resume: resume}
	}
	return nil
}
