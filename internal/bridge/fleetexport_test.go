package bridge

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
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

// Woken returns how many of two sources are to be looked at because the endpoints have changed.
func Woken(before, after []endpoint.Endpoint) (n int) {
	f, members := fakeFleet(1, 2)
	f.updateLocked(*shared(before))
	for _, m := range members {
		m.woken = false
	}
	f.updateLocked(*shared(after))
	for _, m := range members {
		if m.woken {
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

// WokenSession returns what a source's session has to do, and whether events of it are to move to the state database, after its queue was woken.
func WokenSession(why queue.Wake) (needs, looks, moves bool) {
	f, members := fakeFleet(1, 1)
	f.State = &StateOptions{}
	m := members[0]
	f.queues = map[string]*member{"gancho:a": m}
	f.woken("gancho:a", why)
	return len(m.needs) == 1, len(m.looks) == 1, time.Since(m.moving) < movingFor
}

// WokenGrant returns how a source without a session is looked at whose queue was woken: read, or looked at alone, or not at all. due: it is to be read,
// too. crowded: another source has the only place.
func WokenGrant(due, crowded bool) (read, looked bool) {
	f, members := fakeFleet(1, 2)
	f.bridge.house = newHouse(&f.Options, &Definitions{})
	f.endpoints.Store(&[]*endpoint.Endpoint{})
	f.Queue.URL = "redis://127.0.0.1:1" // its session waits
	m, now := members[0], time.Now()
	m.server.watch = cdc.NewActivityWatch("")
	m.end, m.woken, members[1].visited = nil, true, now
	if !due {
		m.visited = now
	}
	if crowded {
		members[1].place = &grant{end: func() {}, since: now}
		f.placed++
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.assign(ctx, now)
	f.mu.Lock()
	if p := m.place; p != nil {
		read, looked = !p.look, p.look
	}
	f.mu.Unlock()
	cancel()
	f.sessions.Wait()
	m.server.watch.Close(context.Background())
	if f.looking > 0 || f.placed > 0 && !crowded {
		return true, true // a place is not given back
	}
	return read, looked
}

// ClosedStats returns what counts as the backlog of a source whose queue does not answer, and held so many events when it was read last.
func ClosedStats(ctx context.Context, redis string, held int64) (int64, error) {
	f, members := fakeFleet(1, 1)
	f.bridge.house = newHouse(&f.Options, &Definitions{})
	q, err := queue.Open(ctx, queue.Options{URL: redis, Logger: zerolog.Nop()})
	if err != nil {
		return 0, err
	}
	m := members[0]
	m.active = &bridge{house: f.house, queue: q, member: m}
	m.stats = []queue.Stats{{Endpoint: "crm", Backlog: held}}
	all := []queue.Stats{{Endpoint: "crm"}}
	err = q.Close()
	f.addStats(ctx, all)
	return all[0].Backlog, err
}

// UnreadProblem returns why a source is shown as not read, which is so because of the cause, after its slot holds more WAL than the budget, and was to be
// dropped at another DSN.
func UnreadProblem(ctx context.Context, s Source, dropAt, redis string, claimed queue.Source, cause error) (problem error, err error) {
	f, members := fakeFleet(1, 1)
	f.bridge.house = newHouse(&f.Options, &Definitions{})
	f.WALBudget, f.DropOverBudget = 1, true
	m := members[0]
	m.Source, m.server.dsn, m.server.watch = s, dropAt, cdc.NewActivityWatch(s.DSN)
	defer m.server.watch.Close(ctx)
	b := m.half()
	if b.queue, err = queue.Open(ctx, queue.Options{URL: redis, Prefix: s.QueuePrefix, Logger: zerolog.Nop()}); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, b.queue.Close()) }()
	if _, err := b.queue.Claim(ctx, claimed, false); err != nil {
		return nil, err
	}
	f.refuse(m, cause)
	m.judgeUnread(ctx, b)
	return m.problem, nil
}

// Recalled reports whether what is remembered of a source in one epoch is in the other.
func Recalled(before, now uint16) bool {
	_, members := fakeFleet(1, 1)
	first, _ := members[0].remember(&mapping.Ruleset{}, cdc.Identity{}, "id", before, 0)
	second, _ := members[0].remember(&mapping.Ruleset{}, cdc.Identity{}, "id", now, 0)
	return first == second
}

// CapturedStats returns what counts as the backlog of a source of a process that captures alone, after its session has looked at the queue, and whether that
// stays open until others have delivered it.
func CapturedStats(ctx context.Context, q *queue.Queue, state endpoint.State) (backlog int64, waits bool, err error) {
	f, members := fakeFleet(1, 1)
	f.bridge.house = newHouse(&f.Options, &Definitions{})
	f.endpoints.Store(&[]*endpoint.Endpoint{{Name: "crm", State: state}})
	m := members[0]
	waits, err = m.waits(ctx, &bridge{house: f.house, queue: q, member: m})
	all := []queue.Stats{{Endpoint: "crm"}}
	f.addStats(ctx, all)
	return all[0].Backlog, waits, err
}

// FleetReady is readiness of a process of several sources while nobody moves the backlog of one.
func FleetReady(captures bool) error {
	f, _ := fakeFleet(1, 1)
	f.bridge.house, f.bridge.health = newHouse(&f.Options, &Definitions{}), &health{}
	f.captures, f.listed, f.house.fleet = captures, true, f
	f.health.queue.Store(true)
	f.excesses.stuck.moves = map[string]*pendingMove{"loja_1" + ofSource + "crm": {until: time.Now()}}
	return f.bridge.ready()
}

// DueWhileVisiting reports whether a source that has given up its place is due again before its visit has ended.
func DueWhileVisiting() (visiting, ended bool) {
	_, members := fakeFleet(1, 1)
	m := members[0]
	m.visiting = true
	visiting = m.dueLocked(time.Now())
	m.visiting = false
	return visiting, m.dueLocked(time.Now())
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
