package control

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/delivery/queue"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
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

// Held is HeldBytes; 0 where it is not known.
func (s *Source) Held() int64 {
	if s.HeldBytes == nil {
		return 0
	}
	return *s.HeldBytes
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

// Of calls a function with the Service of the one of several sources that the actor names. For a tenant those of others do not exist: the error is
// state.ErrNotFound then. Needs Viewer.
func (s *Service) Of(ctx context.Context, a Actor, source string, do func(*Service) error) error {
	if err := a.may(state.Viewer); err != nil {
		return err
	}
	if s.OfSource == nil {
		return wrongSource("leave it out", "there is one source only")
	}
	if own := a.source(); own != "" && own != source {
		return state.ErrNotFound
	}
	known, err := s.OfSource(ctx, source, do)
	switch {
	case known || err != nil:
		return err
	case a.Tenant != "":
		return state.ErrNotFound
	}
	names, err := s.sourceNames(ctx)
	if err != nil {
		return err
	}
	if closest := strictyaml.Closest(source, names); closest != "" {
		return wrongSource(fmt.Sprintf("did you mean %q?", closest), "there is no source %q", source)
	}
	return wrongSource(fmt.Sprintf("there are %d, such as %s", len(names), someSources(names)), "there is no source %q", source)
}

// SourceOf is the one of several sources whose tenant it is.
func SourceOf(tenant string) string {
	name, _, _ := strings.Cut(tenant, "/")
	return name
}

// source is the one of several whose tenant the actor's is; empty: it sees all.
func (a Actor) source() string { return SourceOf(a.Tenant) }

// namedSources are how many sources an error names.
const namedSources = 5

// whichSource returns an *InvalidError where this process reads several sources, for what is of one of them alone.
func (s *Service) whichSource(ctx context.Context) error {
	if s.EachSource == nil {
		return nil
	}
	names, err := s.sourceNames(ctx)
	if err != nil {
		return err
	}
	return wrongSource("name one", "it is not said of which source; there are %d, such as %s", len(names), someSources(names))
}

func someSources(names []string) string {
	return strings.Join(names[:min(len(names), namedSources)], ", ")
}

func wrongSource(hint, format string, args ...any) error {
	return &InvalidError{Problems: []Problem{{Parameter: "source", Message: fmt.Sprintf(format, args...), Hint: hint}}}
}

// sourceNames are those of the sources, sorted.
func (s *Service) sourceNames(ctx context.Context) ([]string, error) {
	all, err := s.Sources(ctx)
	if err != nil {
		return nil, err
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	slices.Sort(names)
	return names, nil
}

// ownSource is what chooses, in filters, the source that the Service is of; nil: it is of no one of several.
func (s *Service) ownSource() []string {
	if s.SourceName == "" {
		return nil
	}
	return []string{s.SourceName}
}

// inSource is the name of something in the audit log that there may be in several sources.
func (s *Service) inSource(name string) string {
	if s.SourceName == "" {
		return name
	}
	return s.SourceName + "/" + name
}

// under is inSource of all that there is of a kind.
func (s *Service) under(kind string) string {
	if s.SourceName == "" {
		return kind
	}
	return kind + "/" + s.SourceName
}

// elsewhere is the error of what only a process that captures can do: which source is meant, where this one has several.
func (s *Service) elsewhere(ctx context.Context) error {
	return cmp.Or(s.whichSource(ctx), error(&ElsewhereError{}))
}

// gather calls a function with the Service of each source, or with this one where there is one source, and adds what it returns, one after the other.
func gather[T any](ctx context.Context, s *Service, read func(*Service) (T, error), add func(T)) error {
	if s.EachSource == nil {
		found, err := read(s)
		if err == nil {
			add(found)
		}
		return err
	}
	var turn sync.Mutex
	return s.EachSource(ctx, func(of *Service) error {
		found, err := read(of)
		if err != nil {
			return fmt.Errorf("source %s: %w", of.SourceName, err)
		}
		turn.Lock()
		defer turn.Unlock()
		add(found)
		return nil
	})
}

// everyQueue calls a function with the Queue, and with those of all sources, one after the other. It ends with the error of the
// Queue, or with all those of the sources.
func (s *Service) everyQueue(ctx context.Context, do func(source string, q *queue.Queue) error) error {
	if err := s.unreachable(); err != nil {
		return err
	}
	if err := do("", s.Queue); err != nil || s.EachSource == nil {
		return err
	}
	var turn sync.Mutex
	return s.EachSource(ctx, func(of *Service) error {
		if err := of.unreachable(); err != nil {
			return err
		}
		turn.Lock()
		defer turn.Unlock()
		return do(of.SourceName, of.Queue)
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

// queueStats returns what the queues hold of endpoints, of all sources.
func (s *Service) queueStats(ctx context.Context, endpoints []string) ([]queue.Stats, error) {
	if err := s.unreachable(); err != nil {
		return nil, err
	}
	stats, err := s.Queue.Stats(ctx, endpoints)
	if err == nil && s.AddStats != nil {
		s.AddStats(ctx, stats)
	}
	return stats, err
}

// resume ends an automatic suspension of an endpoint, and has failed events be sent immediately, of all sources.
func (s *Service) resume(ctx context.Context, endpoint string) (resumed bool, hastened int, err error) {
	if err = s.unreachable(); err != nil {
		return false, 0, err
	}
	if resumed, err = s.Queue.Resume(ctx, endpoint); err != nil {
		return resumed, 0, err
	}
	if hastened, err = s.Queue.Hasten(ctx, endpoint); err != nil || s.ResumeSources == nil {
		return resumed, hastened, err
	}
	also, more, err := s.ResumeSources(ctx, endpoint)
	return resumed || also, hastened + more, err
}
