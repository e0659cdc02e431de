package bridge

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/retry"
)

// server is a cluster of databases.
type server struct {
	watch     *cdc.ActivityWatch
	complaint complaint
	// What follows is guarded by the fleet's mu.
	dsn      string           // where it is asked
	sessions int              // of its sources
	failing  bool             // the last look at the counters has failed
	current  cdc.LSN          // 0: not known
	read     time.Time        // when it was
	written  map[string]int64 // nil: not known
	held     map[string]int64 // by slot
	heldAt   time.Time
}

// has reports whether the cluster has a database, as far as is known.
func (s *server) has(database string) bool {
	_, has := s.written[database]
	return has || s.written == nil
}

// newMemberLocked returns a source that is not known yet.
func (f *fleet) newMemberLocked(s Source) (*member, error) {
	config, err := pgx.ParseConfig(s.DSN)
	if err != nil {
		return nil, fmt.Errorf("list the sources: the DSN of %q cannot be read", s.Name) // the error may have its password
	}
	at, dsn := fmt.Sprintf("%s:%d", config.Host, config.Port), s.DSN
	if f.o.Cluster != nil {
		at, dsn = "", f.o.Cluster()
	}
	of := f.servers[at]
	if of == nil {
		of = &server{watch: cdc.NewActivityWatch(dsn), dsn: dsn, complaint: complaint{
			log:    f.Log.With().Str("server", at).Logger(),
			failed: "the counters of the databases cannot be read; sources are visited by time alone", again: "the counters of the databases are read again",
		}}
		f.servers[at] = of
	}
	return newMember(f, s, config.Database, of), nil
}

// watchActivity keeps what is known of the servers until the context ends.
func (f *fleet) watchActivity(ctx context.Context) error {
	for {
		servers, left := f.tendServers()
		for _, s := range left {
			s.watch.Close(ctx)
		}
		var all sync.WaitGroup
		for _, s := range servers {
			all.Go(func() { f.readActivity(ctx, s) })
		}
		all.Wait()
		if retry.Wait(ctx, activityEvery) != nil {
			return nil //nolint:nilerr // the end that was asked for
		}
	}
}

// tendServers returns the servers, each of which is to be asked at the DSN of a source that there is, and those that were
// left by their sources.
func (f *fleet) tendServers() (all, left []*server) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dsns := map[*server][]string{}
	for _, m := range f.members {
		dsns[m.server] = append(dsns[m.server], m.DSN)
	}
	for at, s := range f.servers {
		of := dsns[s]
		if len(of) == 0 && s.sessions == 0 {
			delete(f.servers, at)
			left = append(left, s)
			continue
		}
		switch {
		case f.o.Cluster != nil:
			s.dsn = f.o.Cluster()
		case len(of) > 0 && !slices.Contains(of, s.dsn):
			s.dsn = slices.Min(of)
		}
		all = append(all, s)
	}
	return all, left
}

func (f *fleet) readActivity(ctx context.Context, s *server) {
	ctx, cancel := context.WithTimeout(ctx, activityTimeout)
	defer cancel()
	f.mu.Lock()
	dsn := s.dsn
	f.mu.Unlock()
	var a cdc.Activity
	err := s.watch.Use(ctx, dsn)
	if err == nil {
		a, err = s.watch.Read(ctx)
	}
	if err != nil {
		f.mu.Lock()
		s.failing, s.current = true, 0
		f.mu.Unlock()
		if !errors.Is(ctx.Err(), context.Canceled) {
			s.complaint.about(err)
		}
		return
	}
	s.complaint.over()
	f.mu.Lock()
	now, woken := time.Now(), false
	s.failing, s.current, s.read, s.written = false, a.Current, now, a.Written
	for _, m := range f.members {
		if m.server == s {
			woken = m.noteWrittenLocked(a.Written, now) || woken
		}
	}
	due := now.Sub(s.heldAt) >= heldEvery
	f.mu.Unlock()
	if woken {
		signal(f.wake)
	}
	if !due {
		return
	}
	held, err := s.watch.HeldWAL(ctx)
	if err != nil {
		return // the next look at the counters says so
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	s.held, s.heldAt = held, now
	for _, m := range f.members {
		if m.server == s {
			m.judgeHeldLocked(now)
		}
	}
}
