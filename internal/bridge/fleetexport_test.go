package bridge

import (
	"context"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/state"
)

// Places gives places to sources that all need one, and returns how many of those whose last visit has failed, and of the
// others, have got one.
func Places(streams, failed, others int) (ofFailed, ofOthers int) {
	f, members := fakeFleet(streams, failed+others)
	now := time.Now()
	for i, m := range members {
		if i < failed {
			m.problem = errNoStream
			m.visited = now.Add(-2 * f.o.VisitEvery) // before the others
		} else {
			m.visited = now.Add(-f.o.VisitEvery)
		}
	}
	f.assign(context.Background(), now)
	for i, m := range members {
		switch {
		case m.place == nil:
		case i < failed:
			ofFailed++
		default:
			ofOthers++
		}
	}
	return ofFailed, ofOthers
}

// Visited reports whether a source whose visit is due is visited, when all was read up to confirmed, and its server has said so long
// ago that its WAL ends at current; 0: it does not say.
func Visited(confirmed, current cdc.LSN, ago time.Duration) bool {
	f, members := fakeFleet(1, 1)
	m, now := members[0], time.Now()
	m.visited, m.confirmed = now.Add(-f.o.VisitEvery), confirmed
	m.server.current, m.server.read = current, now.Add(-ago)
	return m.dueLocked(now)
}

// Woken returns how many of two sources are to be read because the endpoints have changed.
func Woken(before, after []endpoint.Endpoint) (n int) {
	f, members := fakeFleet(1, 2)
	f.updateLocked(before)
	for _, m := range members {
		m.due = time.Time{}
	}
	f.updateLocked(after)
	for _, m := range members {
		if !m.due.IsZero() {
			n++
		}
	}
	return n
}

// Tended returns at which of its sources' DSNs a server is asked after these were replaced; "": it is asked no more.
func Tended(before, after []string) string {
	f, _ := fakeFleet(1, 0)
	at := &server{}
	f.servers["db:5432"] = at
	for _, dsns := range [][]string{before, after} {
		f.members = map[string]*member{}
		for _, dsn := range dsns {
			f.members[dsn] = newMember(f, Source{Name: dsn, DSN: dsn}, "", at)
		}
		if all, _ := f.tendServers(); len(all) == 0 {
			return ""
		}
	}
	return at.dsn
}

// JobTurns has 8 sources that are written to hold all places for so long, the first of them a little longer and with a job, and others wait. It returns
// how many keep their places, and whether a job was interrupted, whose source is due then.
func JobTurns(held time.Duration, jobs int) (keep int, interrupted bool) {
	f, members := fakeFleet(8, 12)
	now := time.Now()
	for i, m := range members[:8] {
		m.place = &grant{end: func() {}, reached: true, since: now.Add(-held)}
		m.visited, m.lively, m.began = now, now, now.Add(-time.Minute)
		f.placed++
		if i < jobs {
			m.place.since = m.place.since.Add(-time.Millisecond)
			m.jobs.Add(1)
		}
	}
	f.assign(context.Background(), now)
	for _, m := range members[:8] {
		if !m.place.ending {
			keep++
			continue
		}
		working := m.jobs.Load() > 0
		m.jobs.Store(0)
		f.vacate(m, m.place)
		interrupted = interrupted || working
		if m.dueLocked(time.Now()) != working {
			return -1, false
		}
	}
	return keep, interrupted
}

// BusyKept has sources that are written to all the time hold places for so long, and others that were written to once, just now, all the rest of 8,
// while more wait. It returns how many of the first, and of all, keep theirs.
func BusyKept(busy int, held time.Duration) (ofBusy, all int) {
	f, members := fakeFleet(8, 12)
	now := time.Now()
	for i, m := range members[:8] {
		m.place = &grant{end: func() {}, reached: true, since: now}
		m.visited, m.lively, m.began = now, now, now
		f.placed++
		if i < busy {
			m.place.since, m.began = now.Add(-held), now.Add(-time.Hour)
		}
	}
	f.assign(context.Background(), now)
	for i, m := range members[:8] {
		if !m.place.ending {
			all++
			if i < busy {
				ofBusy++
			}
		}
	}
	return ofBusy, all
}

// QuestionHolds asks a source a question, and reports whether the end of its session would wait for the answer.
func QuestionHolds(ctx context.Context, redis string) (holds bool, err error) {
	f, members := fakeFleet(1, 1)
	f.listed = true
	f.Queue.URL, f.State = redis, &StateOptions{}
	f.bridge.house = newHouse(&f.Options, &Definitions{})
	f.apiStore, f.overflowStore = &state.Store{}, &state.Store{}
	f.house.fleet = f
	m := members[0]
	m.server.watch = cdc.NewActivityWatch("")
	defer m.server.watch.Close(ctx)
	asked := false
	err = f.eachSource(ctx, func(*control.Service) error {
		asked = true
		if holds = !m.using.TryLock(); !holds {
			m.using.Unlock()
		}
		return nil
	})
	if err == nil && !asked {
		err = errNoStream
	}
	return holds, err
}

// fakeFleet is a fleet whose sources have sessions that do nothing.
func fakeFleet(streams, n int) (f *fleet, members []*member) {
	f = newFleet(&bridge{Options: Options{Sources: &Sources{Streams: streams}, Log: zerolog.Nop()}, house: &house{}}, true)
	for i := range n {
		m := newMember(f, Source{Name: fmt.Sprint(i)}, "", &server{})
		m.end = func() {}
		f.members[m.Name] = m
		members = append(members, m)
	}
	return f, members
}
