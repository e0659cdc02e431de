package control

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// The states of a source of several.
const (
	SourceStreaming = "streaming" // it is read now
	SourceVisited   = "visited"   // it is read from time to time, and when it was written to
	SourceRefused   = "refused"   // it is not read: Problem says why
	SourceMissing   = "missing"   // its database is no longer there
)

// Source is one of several databases that a process reads.
type Source struct {
	Name  string `json:"name"`
	Slot  string `json:"slot"`
	State string `json:"state"`
	// Problem is why it is refused, or why what is read is not confirmed; empty: nothing is wrong.
	Problem string `json:"problem,omitempty"`
	// HeldBytes is how much WAL the server holds for the slot, as it was measured last; null: it
	// is not known.
	HeldBytes *int64 `json:"held_bytes"`
	// LastVisit is when it was last read up to where its WAL ended then, LastEvent when an event of it was
	// queued last, as far as this process knows; null: not yet.
	LastVisit *time.Time `json:"last_visit"`
	LastEvent *time.Time `json:"last_event"`
	// Backlog is how many of its events wait in the queues.
	Backlog int64 `json:"backlog"`
	// Parked is how many changes are parked, as it was counted when the source was read last.
	Parked int64 `json:"parked"`
}

// SourcesView is the sources of a process; none: it reads one, which is not one of several.
type SourcesView struct {
	Sources []Source `json:"sources"`
}

// SourcesNow returns the sources of this process, those for which most WAL is held first. Needs
// Viewer, of all tenants.
func (s *Service) SourcesNow(ctx context.Context, a Actor) (SourcesView, error) {
	view := SourcesView{Sources: []Source{}}
	if err := a.mayParked(state.Viewer); err != nil || s.Sources == nil {
		return view, err
	}
	all, err := s.Sources(ctx)
	if err != nil {
		return view, err
	}
	held := func(s Source) int64 {
		if s.HeldBytes == nil {
			return -1
		}
		return *s.HeldBytes
	}
	slices.SortFunc(all, func(a, b Source) int {
		return cmp.Or(cmp.Compare(held(b), held(a)), cmp.Compare(a.Name, b.Name))
	})
	view.Sources = append(view.Sources, all...)
	return view, nil
}

// apart returns an *ElsewhereError where this process reads several sources, for what is kept for each of them apart: the Queue has none
// of it, which would look as if there were none. run is the command that answers for one of them.
func (s *Service) apart(run string) error {
	if s.EachSource == nil {
		return nil
	}
	return &ElsewhereError{Run: run}
}

// elsewhere returns an *ElsewhereError; where this process reads several sources it names the command that answers for one of them.
func (s *Service) elsewhere(run string) error {
	return cmp.Or(s.apart(run), error(&ElsewhereError{}))
}

// everyQueue calls a function with the Queue, and with those of all sources, one after the other. It ends with the error of the
// Queue, or with all those of the sources.
func (s *Service) everyQueue(ctx context.Context, do func(source string, q *queue.Queue) error) error {
	if err := do("", s.Queue); err != nil || s.EachSource == nil {
		return err
	}
	var turn sync.Mutex
	return s.EachSource(ctx, func(source string, q *queue.Queue) error {
		turn.Lock()
		defer turn.Unlock()
		return do(source, q)
	})
}

// parkedOfSources is how many changes of several sources are parked, as it was counted when they were read last.
func (s *Service) parkedOfSources(ctx context.Context) (n int64, err error) {
	if s.EachSource == nil || s.Sources == nil {
		return 0, nil
	}
	all, err := s.Sources(ctx)
	for i := range all {
		n += all[i].Parked
	}
	return n, err
}

// Commands that answer for one of several sources.
const (
	runParked   = "gancho parked list --source NAME"
	runRedrive  = "gancho parked redrive --source NAME"
	runDrop     = "gancho parked drop --source NAME"
	runProve    = "gancho prove --source NAME"
	runRecover  = "gancho recover --list --source NAME"
	runBackfill = "gancho backfill --source NAME"
	runReplay   = "gancho replay --source NAME"
	runSimulate = "gancho simulate --source NAME"
	runWhy      = "gancho deliveries, and gancho parked list --source NAME"
)

// queueStats returns what the queues hold of endpoints, of all sources.
func (s *Service) queueStats(ctx context.Context, endpoints []string) ([]queue.Stats, error) {
	stats, err := s.Queue.Stats(ctx, endpoints)
	if err == nil && s.AddStats != nil {
		s.AddStats(ctx, stats)
	}
	return stats, err
}

// resume ends an automatic suspension of an endpoint, and has failed events be sent immediately, of all sources.
func (s *Service) resume(ctx context.Context, endpoint string) (resumed bool, hastened int, err error) {
	if resumed, err = s.Queue.Resume(ctx, endpoint); err != nil {
		return resumed, 0, err
	}
	if hastened, err = s.Queue.Hasten(ctx, endpoint); err != nil || s.ResumeSources == nil {
		return resumed, hastened, err
	}
	also, more, err := s.ResumeSources(ctx, endpoint)
	return resumed || also, hastened + more, err
}
