package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"
	"unique"

	"github.com/redis/go-redis/v9"
)

// ErrNotClaimed says that nobody has told whose events the queue has.
var ErrNotClaimed = errors.New("the queue has not been claimed; call Claim first")

type appender struct {
	// conns has one connection to each master; they refuse to talk to a server of
	// another identity than the one that was accepted.
	conns  *connections
	parked *stream // takes what no event could be made of
	timers *stream // takes what changes mean for timers: see timers.go

	token atomic.Uint64 // the newest that Take has taken, 0 before; see fence.go

	mu       sync.Mutex           // held by Append, AcceptRestart and Take
	checked  map[string]time.Time // when a master's identity was checked, by address; guarded by mu
	commands commandPool          // guarded by mu
	chains   map[string]*chain    // by key; guarded by mu

	streamsMu sync.Mutex
	streams   map[string]*stream // by endpoint; guarded by streamsMu
}

// stream is one that Append writes. What changes is guarded by the appender's mu.
type stream struct {
	endpoint string // empty: the parked changes, or those of timers
	key      string
	old      string // has the stream while it is cut
	chain    string // key of the chain
	slot     uint16 // of a cluster
	// last is the newest id that this process has appended since it last
	// accepted the server; zero: unknown.
	last       ID
	registered bool // the endpoint's name is among EndpointNames
	// Of the batch that is being appended:
	touched    bool
	published  bool  // for owners in other processes
	batch      []int // indices of its records
	refused    int   // as already there
	prev, next ID
}

// newStream returns an endpoint's stream; empty: that of the parked changes. All of a server have the same chain, and so its key once.
func (k *keyspace) newStream(endpoint string) *stream {
	tag, key := endpoint, k.events(endpoint)
	if endpoint == "" {
		tag, key = k.parked(), k.parked()
	}
	s := &stream{endpoint: endpoint, key: key, old: k.of(tag, "cut"), chain: unique.Make(k.of("", "chain")).Value(), slot: slotOf(key)}
	if k.cluster {
		s.chain = k.of(tag, "chain")
	}
	return s
}

// newTimers returns the stream of what changes mean for timers. In a cluster it is on the slot of the parked changes.
func (k *keyspace) newTimers() *stream {
	s := k.newStream("")
	s.key, s.old = k.timers(), k.of(k.parked(), "timers-cut")
	return s
}

func (a *appender) stream(endpoint string, k *keyspace) *stream {
	a.streamsMu.Lock()
	defer a.streamsMu.Unlock()
	s, ok := a.streams[endpoint]
	if !ok {
		s = k.newStream(endpoint)
		a.streams[endpoint] = s
	}
	return s
}

// restartLocked forgets what was known of servers that were restarted.
func (a *appender) restartLocked(masters []string) {
	a.conns.keep(masters)
	clear(a.checked)
	a.streamsMu.Lock()
	defer a.streamsMu.Unlock()
	for _, s := range a.streams {
		s.last, s.registered = ID{}, false
	}
	a.parked.last, a.timers.last = ID{}, ID{}
}

// forgetRegistered has the endpoints' names registered, and their streams created, again:
// one was removed.
func (a *appender) forgetRegistered() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.streamsMu.Lock()
	defer a.streamsMu.Unlock()
	for _, s := range a.streams {
		s.last, s.registered = ID{}, false
	}
	a.parked.last, a.timers.last = ID{}, ID{}
}

// Append appends all of the batch, or returns an error: ErrRestarted, ErrFenced, ErrStaleBatch, ErrFull,
// ErrUnreachable or another. Then nothing of it has been appended, or, in a
// cluster, to some streams all and to the others nothing. All but ErrRestarted, ErrFenced and
// ErrStaleBatch are to be answered by appending the same batch again, and never by going on
// to the next: once a newer event is in a stream, Redis never accepts an older one.
//
// The batch is one MULTI/EXEC, or one for each slot, so a server that is full
// refuses it as a whole when the first command is queued, and a connection that
// breaks inside leaves nothing. (A Lua script does the same; measured, it costs as much in sum and
// a third more in Redis, which is the part that endpoints share.)
//
// After a lost answer the batch may have been executed, or be executed still,
// out of the old connection's buffer. Appending it again is safe either way:
// ids only rise, so whichever comes second is refused entry by entry as
// already there, and so is all of it when newer batches came in between.
func (q *Queue) Append(ctx context.Context, b *Batch) error {
	if len(b.destinations) == 0 {
		return nil
	}
	a := &q.appender
	a.mu.Lock()
	defer a.mu.Unlock()
	if b.token != a.token.Load() {
		return ErrStaleBatch
	}
	touched := a.prepareLocked(b) // pooled commands outlive the call; go-redis takes the context from Process
	defer func() {
		for _, s := range touched {
			s.touched, s.published = false, false
		}
	}()
	execute := q.execute
	if q.cluster != nil {
		execute = q.executeInSlots
	}
	err := q.registerStreams(ctx, touched, b.token)
	if err == nil {
		err = execute(ctx, b, touched)
	}
	if err != nil {
		a.unsureLocked()
		return fmt.Errorf("append %d events: %w", len(b.destinations), err)
	}
	local := q.local.Load()
	for _, s := range touched {
		s.last = s.next
		if local != nil && s.endpoint != "" {
			(*local).Offer(&Appended{Endpoint: s.endpoint, stream: s, batch: b, source: q.sources.current.Load().source})
		}
	}
	// An endpoint that was given to another process meanwhile has got none of it.
	q.wakeOthers(ctx, q.client, q.ownedElsewhere(touched))
	return nil
}

// registerStreams registers the endpoints that get this process's first events, before the token is
// compared: see fence.go.
func (q *Queue) registerStreams(ctx context.Context, touched []*stream, token uint64) error {
	var names []any
	for _, s := range touched {
		if s.endpoint != "" && !s.registered {
			names = append(names, s.endpoint)
		}
	}
	if len(names) == 0 {
		return nil
	}
	if err := q.register(ctx, names...); err != nil {
		return err
	}
	if q.cluster != nil {
		if err := q.comparesToken(ctx, token); err != nil {
			return err
		}
	}
	for _, s := range touched {
		s.registered = true
	}
	return nil
}

func (a *appender) prepareLocked(b *Batch) []*stream {
	touched := a.commands.touched[:0]
	a.commands.reset()
	for _, t := range b.destinations {
		s, rec := t.stream, &b.records[t.record]
		if !s.touched {
			s.touched, s.batch, s.refused, s.prev = true, s.batch[:0], 0, s.last
			touched = append(touched, s)
		}
		s.next = rec.id
		s.batch = append(s.batch, t.record)
		// A stream that has vanished is not created again beyond what was in it.
		exists := !s.last.IsZero()
		if rec.timer {
			a.commands.queue = append(a.commands.queue, timerCommand(s.key, exists, b, rec))
			continue
		}
		if p := rec.parked; p != nil {
			args := []any{"XADD", s.key}
			if exists {
				args = append(args, "NOMKSTREAM")
			}
			args = append(args, b.bytes(rec.text), "t", p.Type, "r", p.Rule, "c", b.bytes(rec.micros),
				"table", p.Table, "op", p.Op.String(), "reason", p.Reason)
			for _, f := range []struct {
				name  string
				value []byte
			}{{"row", b.bytes(rec.data)}, {"change", b.bytes(rec.change)}, {"unkept", []byte(p.Unkept)}, {"subject", []byte(p.Subject)}} {
				if len(f.value) > 0 {
					args = append(args, f.name, f.value)
				}
			}
			a.commands.queue = append(a.commands.queue, redis.NewCmd(context.Background(), args...))
			continue
		}
		a.commands.addEvent(s.key, exists, b, rec)
	}
	a.commands.touched = touched
	return touched
}

func (q *Queue) execute(ctx context.Context, b *Batch, touched []*stream) error {
	a := &q.appender
	pool, server := &a.commands, a.conns.to("")
	if time.Since(a.checked[""]) > recheckAfter {
		if err := q.recheck(ctx, "", server); err != nil {
			return err
		}
		a.checked[""] = time.Now()
	}
	added, chain := len(pool.queue), a.chainLocked(touched[0])
	link := chain.link(touched[0].chain)
	pool.queue = append(pool.queue, link)
	if names := q.ownedElsewhere(touched); names != "" {
		pool.queue = append(pool.queue, redis.NewCmd(ctx, "PUBLISH", q.keys.wake(), names))
	}
	pipe, token := server.Pipeline(), b.token
	_ = pipe.Process(ctx, redis.NewCmd(ctx, "MULTI")) // these only queue
	_ = pipe.BatchProcess(ctx, pool.queue...)
	exec := pipe.Do(ctx, "EXEC")
	var now *redis.StringCmd
	if token != 0 { // for the next batch
		_ = pipe.Do(ctx, "WATCH", q.keys.token())
		now = pipe.Get(ctx, q.keys.token())
	}
	_, _ = pipe.Exec(ctx) // each command has its error
	if now != nil {
		if err := newest(now, token); err != nil {
			a.conns.keep(nil) // the next connection finds out
			if errors.Is(exec.Err(), redis.Nil) {
				return unreachable(err)
			}
		}
	}
	replies, err := exec.Slice()
	if err != nil {
		delete(a.checked, "")
		if errors.Is(err, redis.Nil) {
			return errTokenWritten
		}
		return appendError(pool.queue, err)
	}
	for i, reply := range replies[:added] {
		err, failed := reply.(error)
		switch {
		case reply == nil:
			return q.vanished(b.destinations[i].stream)
		case !failed:
		case refusedAsKnown(err):
			b.destinations[i].stream.refused++
		default:
			delete(a.checked, "")
			return unreachable(err)
		}
	}
	chain.linked(replies[added])
	return nil
}

// recheckAfter is how long a connection that appends is trusted. A demoted server
// keeps its connections; it refuses writes then, but accepts them when it is promoted
// again, without what it had been given last. No failover is there and back so soon.
const recheckAfter = time.Second

// recheckTimeout bounds the check before the first append in a while: the connection may
// have been dropped on its way, which nobody says.
const recheckTimeout = 2 * time.Second

// recheck asks a server that is about to be appended to who it is.
func (q *Queue) recheck(ctx context.Context, addr string, server *redis.Client) error {
	ctx, cancel := context.WithTimeout(ctx, recheckTimeout)
	defer cancel()
	_, err := q.servers.recognise(ctx, addr, server)
	return unreachable(err)
}

// vanished returns the error of a stream that was there. What this process has read of
// it before is read again.
func (q *Queue) vanished(s *stream) error {
	q.servers.generations.Add(1)
	switch s {
	case q.appender.timers:
		return &LostError{"the stream of timers"}
	case q.appender.parked:
		return &LostError{"the stream of parked changes"}
	}
	return &LostError{fmt.Sprintf("the queue of endpoint %q", s.endpoint)}
}

// ownedElsewhere names, one per line, the endpoints whose owners are to be woken: other
// processes, if that was not published for this batch yet.
func (q *Queue) ownedElsewhere(touched []*stream) string {
	local := q.local.Load()
	var names []string
	for _, s := range touched {
		if s.endpoint != "" && !s.published && (local == nil || !(*local).Owns(s.endpoint)) {
			s.published = true
			names = append(names, s.endpoint)
		}
	}
	return strings.Join(names, "\n")
}

// wakeOthers wakes owners in other processes. That it could not be done is no
// error: they inspect their streams from time to time.
func (q *Queue) wakeOthers(ctx context.Context, server redis.Cmdable, names string) {
	if names == "" {
		return
	}
	if err := server.Publish(ctx, q.keys.wake(), names).Err(); err != nil {
		q.log.Debug().Err(err).Str("endpoints", names).
			Msg("other processes were not woken: they find the new events when they inspect their streams")
	}
}

// refusedAsKnown reports whether Redis has refused an entry because its id is
// not above the stream's last: it is there already, or was, and was delivered.
func refusedAsKnown(err error) bool {
	return strings.Contains(err.Error(), "equal or smaller than the target stream")
}

// appendError says what a refused append means; nil stays nil. A transaction is refused
// in general terms; why is with those commands that were not queued.
func appendError(commands []redis.Cmder, err error) error {
	for _, c := range commands {
		cause := c.Err()
		if cause == nil || !isReply(cause) || strings.HasPrefix(cause.Error(), "EXECABORT") {
			continue
		}
		return unreachable(cause)
	}
	return unreachable(err)
}

// arg is a command's argument that go-redis writes without an allocation.
type arg struct{ b []byte }

// MarshalBinary is how go-redis gets at the bytes.
func (a *arg) MarshalBinary() ([]byte, error) { return a.b, nil }

// commandPool keeps XADD commands over batches: go-redis writes arguments from the
// slice that a command was made with, so the same ones are pointed at the next event.
type commandPool struct {
	events  [2][]*eventCommand // by whether the stream exists
	taken   [2]int
	queue   []redis.Cmder
	touched []*stream
}

type eventCommand struct {
	cmd       *redis.Cmd
	key       string
	id, entry arg
}

func (p *commandPool) reset() {
	clear(p.queue)
	p.taken, p.queue = [2]int{}, p.queue[:0]
}

func (p *commandPool) addEvent(key string, exists bool, b *Batch, rec *record) {
	kind := 0
	if exists {
		kind = 1
	}
	if p.taken[kind] == len(p.events[kind]) {
		p.events[kind] = append(p.events[kind], newEventCommand(exists))
	}
	c := p.events[kind][p.taken[kind]]
	p.taken[kind]++
	c.key, c.id.b, c.entry.b = key, b.bytes(rec.text), b.bytes(rec.entry)
	c.cmd.SetErr(nil)
	p.queue = append(p.queue, c.cmd)
}

func newEventCommand(exists bool) *eventCommand {
	c := &eventCommand{}
	args := []any{"XADD", &c.key}
	if exists {
		args = append(args, "NOMKSTREAM")
	}
	args = append(args, &c.id, packedField, &c.entry)
	c.cmd = redis.NewCmd(context.Background(), args...)
	return c
}
