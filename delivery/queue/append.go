package queue

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/redis/go-redis/v9"
)

var errNotClaimed = errors.New("the queue has not been claimed; call Claim first")

// stream is one stream that Append writes.
type stream struct {
	endpoint string // empty: the parked changes
	key      string
	slot     uint16 // of a cluster
	// last is the newest id that this process has appended since it last
	// accepted the server; zero: unknown. It is guarded by appendMu.
	last ID
	// Of the batch that is being appended, guarded by appendMu:
	touched    bool
	batch      []int // indices of its records
	refused    int   // as already there
	prev, next ID
}

func newStream(endpoint, key string) *stream {
	return &stream{endpoint: endpoint, key: key, slot: slotOf(key)}
}

func (q *Queue) stream(endpoint string) *stream {
	q.streamMu.Lock()
	defer q.streamMu.Unlock()
	s, ok := q.streams[endpoint]
	if !ok {
		s = newStream(endpoint, q.keys.events(endpoint))
		q.streams[endpoint] = s
	}
	return s
}

// Append appends all of the batch, or returns an error: ErrRestarted, ErrFull,
// ErrUnreachable or another. Then nothing of it has been appended, or, in a
// cluster, to some streams all and to the others nothing. All but ErrRestarted
// are to be answered by appending the same batch again, and never by going on
// to the next: once a newer event is in a stream, an older one is refused for ever.
//
// The batch is one MULTI/EXEC, or one for each slot, so a server that is full refuses it as a whole
// when the first command is queued, and a connection that breaks inside leaves
// nothing. (A Lua script does the same; measured, it costs as much in sum and
// a third more in Redis, which is the part that endpoints share.)
//
// After a lost answer the batch may have been executed, or be executed still,
// out of the old connection's buffer. Appending it again is safe either way:
// ids only rise, so whichever comes second is refused entry by entry as
// already there, and so is all of it when newer batches came between.
func (q *Queue) Append(ctx context.Context, b *Batch) error {
	if len(b.destinations) == 0 {
		return nil
	}
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	touched := q.prepare(b) //nolint:contextcheck // pooled commands outlive the call; go-redis takes the context from Process
	defer func() {
		for _, s := range touched {
			s.touched = false
		}
	}()
	execute := q.execute
	if q.ring != nil {
		execute = q.executeInSlots
	}
	if err := execute(ctx, b, touched); err != nil {
		return fmt.Errorf("append %d events: %w", len(b.destinations), err)
	}
	local := q.local.Load()
	for _, s := range touched {
		s.last = s.next
		if local != nil && s.endpoint != "" {
			(*local).Offer(&Appended{Endpoint: s.endpoint, stream: s, batch: b, source: q.source.Load().source})
		}
	}
	return nil
}

// prepare builds the commands, and returns the streams that they touch.
func (q *Queue) prepare(b *Batch) []*stream {
	touched := q.commands.touched[:0]
	q.commands.reset()
	for _, t := range b.destinations {
		s, rec := t.stream, &b.records[t.record]
		if !s.touched {
			s.touched, s.batch, s.refused, s.prev = true, s.batch[:0], 0, s.last
			touched = append(touched, s)
		}
		s.next = rec.id
		s.batch = append(s.batch, t.record)
		if rec.parked != nil {
			q.commands.add("XADD", s.key, b.bytes(rec.text), "t", rec.typ, "r", rec.rule, "c", b.bytes(rec.micros),
				"table", rec.parked.table, "op", rec.parked.op, "reason", rec.parked.reason, "row", b.bytes(rec.data))
			continue
		}
		q.commands.addEvent(s.key, b, rec)
	}
	q.commands.touched = touched
	return touched
}

func (q *Queue) execute(ctx context.Context, b *Batch, touched []*stream) error {
	added := q.commands.used
	if names := q.elsewhere(touched); names != "" {
		q.commands.queue = append(q.commands.queue, redis.NewCmd(ctx, "PUBLISH", q.keys.wake(), names))
	}
	commands := q.commands.list()
	var err error
	if len(commands) == 1 {
		err = q.writer.at("").Process(ctx, commands[0])
	} else {
		tx := q.writer.at("").TxPipeline()
		_ = tx.BatchProcess(ctx, commands...) // it only queues
		_, err = tx.Exec(ctx)
	}
	// Of a transaction that was executed, err is the first command's error.
	if err != nil && !refusedAsKnown(err) {
		return appendError(commands, err)
	}
	for i := range added {
		err := commands[i].Err()
		switch {
		case err == nil:
		case refusedAsKnown(err):
			b.destinations[i].stream.refused++
		default:
			return appendError(commands, err)
		}
	}
	return nil
}

// elsewhere names, one per line, the endpoints that this process does not
// deliver to: those who do are told. Nobody is told what they know already.
func (q *Queue) elsewhere(touched []*stream) string {
	local := q.local.Load()
	var names []string
	for _, s := range touched {
		if s.endpoint != "" && (local == nil || !(*local).Owns(s.endpoint)) {
			names = append(names, s.endpoint)
		}
	}
	return strings.Join(names, "\n")
}

// refusedAsKnown reports whether Redis has refused an entry because its id is
// not above the stream's last: it is there already, or was, and was delivered.
func refusedAsKnown(err error) bool {
	return strings.Contains(err.Error(), "equal or smaller than the target stream")
}

// appendError says what an append that was refused means. A transaction is
// refused in general terms; why is with those commands that were not queued.
func appendError(commands []redis.Cmder, err error) error {
	for _, c := range commands {
		cause := c.Err()
		if cause == nil || !isReply(cause) || strings.HasPrefix(cause.Error(), "EXECABORT") {
			continue
		}
		if strings.HasPrefix(cause.Error(), "OOM") {
			return fmt.Errorf("%w (%w)", ErrFull, cause)
		}
		return unreachable(cause)
	}
	return unreachable(err)
}

// arg is a command's argument that go-redis writes without an allocation.
type arg struct{ b []byte }

// MarshalBinary is how go-redis gets at the bytes.
func (a *arg) MarshalBinary() ([]byte, error) { return a.b, nil }

// commandPool keeps XADD commands over batches: go-redis writes a command's
// arguments from the slice that it was made with, so the next event is
// appended by pointing the same arguments elsewhere.
type commandPool struct {
	events  [4][]*eventCommand // by which of previous and unchanged there are
	taken   [4]int
	queue   []redis.Cmder
	used    int
	touched []*stream
}

type eventCommand struct {
	cmd                                  *redis.Cmd
	key                                  string
	id, tenant, ordering, micros         arg
	typ, version, data, previous, absent arg
}

func (p *commandPool) reset() {
	clear(p.queue)
	p.taken, p.queue, p.used = [4]int{}, p.queue[:0], 0
}

func (p *commandPool) list() []redis.Cmder { return p.queue }

func (p *commandPool) add(args ...any) {
	p.queue = append(p.queue, redis.NewCmd(context.Background(), args...))
	p.used++
}

func (p *commandPool) addEvent(key string, b *Batch, rec *record) {
	kind := 0
	if rec.previous.from < rec.previous.to {
		kind |= 1
	}
	if rec.unchanged.from < rec.unchanged.to {
		kind |= 2
	}
	if p.taken[kind] == len(p.events[kind]) {
		p.events[kind] = append(p.events[kind], newEventCommand(kind))
	}
	c := p.events[kind][p.taken[kind]]
	p.taken[kind]++
	c.key = key
	c.id.b, c.micros.b = b.bytes(rec.text), b.bytes(rec.micros)
	c.tenant.b, c.ordering.b = b.bytes(rec.tenant), b.bytes(rec.key)
	c.typ.b = append(c.typ.b[:0], rec.typ...)
	c.version.b = append(c.version.b[:0], rec.version...)
	c.data.b, c.previous.b, c.absent.b = b.bytes(rec.data), b.bytes(rec.previous), b.bytes(rec.unchanged)
	c.cmd.SetErr(nil)
	p.queue = append(p.queue, c.cmd)
	p.used++
}

func newEventCommand(kind int) *eventCommand {
	c := &eventCommand{}
	args := []any{"XADD", &c.key, &c.id, "t", &c.typ, "k", &c.ordering, "n", &c.tenant, "c", &c.micros, "d", &c.data, "v", &c.version}
	if kind&1 != 0 {
		args = append(args, "p", &c.previous)
	}
	if kind&2 != 0 {
		args = append(args, "u", &c.absent)
	}
	c.cmd = redis.NewCmd(context.Background(), args...)
	return c
}
