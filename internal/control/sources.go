package control

import (
	"cmp"
	"context"
	"slices"
	"time"
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
	// Problem is why it is refused, or what it waits for; empty: nothing is wrong.
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
}

// SourcesView is the sources of a process; none: it reads one, which is not one of several.
type SourcesView struct {
	Sources []Source `json:"sources"`
}

// SourcesNow returns the sources of this process, those for which most WAL is held first.
func (s *Service) SourcesNow(ctx context.Context) (SourcesView, error) {
	view := SourcesView{Sources: []Source{}}
	if s.Sources == nil {
		return view, nil
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
