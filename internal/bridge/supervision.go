package bridge

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"gancho/internal/systemd"
)

// statusEvery is how often the service manager's status line follows what /readyz says, at most: to
// ask costs the servers what /readyz does.
const statusEvery = 10 * time.Second

// supervision tells the service manager how the process is. The process counts as started when it
// serves its health: a source that is down while the machine boots must not fail the service, and
// the status says what is waited for.
type supervision struct {
	service *systemd.Notifier
	refused atomic.Bool // the last reload was

	mu     sync.Mutex
	bridge *bridge // guarded by mu, which is held while it is asked; nil: there is none now
}

// watch makes a bridge the one that is reported of; nil: none, and the one before may be closed.
func (s *supervision) watch(b *bridge) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.bridge = b
}

// run reports until the context ends. The watchdog is for a process that hangs: that a part waits
// for its server is none of its business, but asking every part takes its locks.
func (s *supervision) run(ctx context.Context) {
	every := statusEvery
	if w := s.service.Watchdog(); w > 0 {
		every = min(every, w/2)
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	for last := ""; ; {
		line := s.status(ctx)
		if line != last {
			s.service.Status(line)
			last = line
		}
		s.service.Alive()
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func (s *supervision) status(ctx context.Context) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := "ready"
	if s.bridge == nil {
		line = "starting"
	} else {
		s.bridge.measure(ctx)
		if err := s.bridge.ready(); err != nil {
			line = err.Error()
		}
	}
	if s.refused.Load() {
		line += "; the last reload was refused, see the journal"
	}
	return line
}

// begin starts to report, and returns what ends that: the process stops.
func (s *supervision) begin(ctx context.Context) (end func()) {
	if s.service == nil {
		return func() {}
	}
	running, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	s.service.Ready()
	go func() {
		defer close(ended)
		s.run(running)
		s.service.Stopping()
	}()
	return func() {
		cancel()
		<-ended
	}
}

// reloading runs a reload.
func (s *supervision) reloading(reload func() error) error {
	s.service.Reloading()
	err := reload()
	s.refused.Store(err != nil)
	s.service.Ready()
	return err
}
