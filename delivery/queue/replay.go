package queue

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/retry"

	"github.com/redis/go-redis/v9"
)

// An endpoint's side stream takes what is not from the WAL: events that are sent again,
// and operational events. Its ids are Redis's own, <ms>-<n>, whose epoch's bits are 0:
// no event of the WAL has one, and what goes by ids serves both streams.

// FromSide reports whether the id is of an entry of the side stream.
func (id ID) FromSide() bool { return id.Epoch() == 0 }

// stream is the key of the stream that the entry is in.
func (k keyspace) stream(endpoint string, id ID) string {
	if id.FromSide() {
		return k.side(endpoint)
	}
	return k.events(endpoint)
}

// Replay queues events to be sent to the endpoint again, with their webhook-ids
// and the header webhook-replay, and wakes its owner. It queues all of them or,
// with an error (ErrFull, ErrUnreachable or another), none; after a lost answer
// they may be queued nevertheless, so that repeating the call sends them twice.
// A few hundred at a time hold Redis up least.
//
// When it returns, Redis has the events, and may not have synced them to its
// disk: see ReplayDurably.
func (q *Queue) Replay(ctx context.Context, endpoint string, messages []webhook.Message) error {
	return annotate(q.appendSide(ctx, q.client, endpoint, messages, true), "queue %d events for endpoint %q again", len(messages), endpoint)
}

// ReplayDurably is Replay that returns when the events are on Redis's disk and
// with its replicas: for events whose only other copy is to be deleted. It takes
// up to a second, two and more where WAITAOF is not to be trusted; they are sent
// meanwhile.
// It returns ErrUnreachable, too, when Redis was restarted meanwhile or another
// took its place: then the events may be lost, and are to be queued again.
func (q *Queue) ReplayDurably(ctx context.Context, endpoint string, messages []webhook.Message) error {
	return annotate(q.appendDurably(ctx, endpoint, messages), "queue %d events for endpoint %q again", len(messages), endpoint)
}

func (q *Queue) appendDurably(ctx context.Context, endpoint string, messages []webhook.Message) error {
	addr, err := q.masterOf(ctx, q.keys.side(endpoint))
	if err != nil {
		return err
	}
	conn := q.nodes.to(addr).Conn() // one connection: WAITAOF is about its own writes
	defer func() { _ = conn.Close() }()
	before, err := serverInfo(ctx, conn)
	if err != nil {
		return err
	}
	if err := q.appendSide(ctx, conn, endpoint, messages, true); err != nil {
		return err
	}
	since := time.Now()
	if q.confirmer.kept.Load().mode == durableByWait {
		if err := awaitAOF(ctx, conn); err != nil {
			return err
		}
	}
	offset := int64(-1)
	for {
		got, err := serverInfo(ctx, q.nodes.to(addr))
		if err != nil {
			return err
		}
		if q.servers.of(got) != q.servers.of(before) {
			return fmt.Errorf("%w: it was restarted or replaced before the events were on its disk", ErrUnreachable)
		}
		if offset < 0 {
			if offset, err = got.replicationOffset(); err != nil {
				return err
			}
		}
		if done, err := q.safe(got, offset, since); err != nil || done {
			return err
		}
		if err := retry.Wait(ctx, recordEvery); err != nil {
			return err
		}
	}
}

// safe reports whether what a server had written at a time, and up to an offset
// of its replication, is on its disk and with its replicas.
func (q *Queue) safe(got info, offset int64, since time.Time) (bool, error) {
	for _, o := range replicaOffsets(got) {
		if o < offset {
			return false, nil
		}
	}
	if q.confirmer.kept.Load().mode != durableByAge {
		return true, nil
	}
	synced, err := q.synced(got)
	return synced && time.Since(since) > durableAge, err
}

// ReplayBacklog returns how many entries of the endpoint's side stream wait:
// events to be sent again, and operational events.
func (q *Queue) ReplayBacklog(ctx context.Context, endpoint string) (int64, error) {
	n, err := q.client.XLen(ctx, q.keys.side(endpoint)).Result()
	return n, annotate(err, "count the replays of endpoint %q", endpoint)
}

// Announce queues an event of Gancho's own for each of the endpoints, which
// Subscribed has chosen. Its ID is the webhook-id; its Sequence, when empty,
// is made of the time at which it was queued. An error names the first
// endpoint for which it was not queued; for those before it, it was.
func (q *Queue) Announce(ctx context.Context, endpoints []string, m webhook.Message) error {
	for _, name := range endpoints {
		if err := q.appendSide(ctx, q.client, name, []webhook.Message{m}, false); err != nil {
			return fmt.Errorf("announce %s to endpoint %q: %w", m.Type, name, err)
		}
	}
	return nil
}

// transactor is a client, or one connection of it.
type transactor interface{ TxPipeline() redis.Pipeliner }

func (q *Queue) appendSide(ctx context.Context, to transactor, endpoint string, messages []webhook.Message, replay bool) error {
	if len(messages) == 0 {
		return nil
	}
	if err := q.register(ctx, endpoint); err != nil {
		return err
	}
	key := q.keys.side(endpoint)
	commands := make([]redis.Cmder, len(messages))
	for i := range messages {
		commands[i] = redis.NewStringCmd(ctx, sideEntry(key, &messages[i], replay)...)
	}
	tx := to.TxPipeline()
	_ = tx.BatchProcess(ctx, commands...) // it only queues
	if _, err := tx.Exec(ctx); err != nil {
		return appendError(commands, err)
	}
	q.wakeSide(ctx, endpoint)
	return nil
}

// sideEntry is the command that appends a message. What the main stream's
// entries say by their ids is said by fields here.
func sideEntry(key string, m *webhook.Message, replay bool) []any {
	args := []any{
		"XADD", key, "*", "t", m.Type, "k", m.Key, "n", m.Tenant, "c", strconv.FormatInt(m.Time.UnixMicro(), 10),
		"d", m.Data, "v", m.Version, "w", m.ID,
	}
	optional := func(name string, value []byte) {
		if len(value) > 0 {
			args = append(args, name, value)
		}
	}
	optional("p", m.Previous)
	optional("u", m.Unchanged)
	if m.Sequence != "" && m.Sequence != sequenceOf(m.ID) {
		args = append(args, "s", m.Sequence)
	}
	if replay {
		args = append(args, "r", "1")
	}
	return args
}

// sequenceOf returns the sequence in a WAL event's webhook-id, or nothing for another.
func sequenceOf(webhookID string) string {
	if _, _, err := ParseWebhookID(webhookID); err != nil {
		return ""
	}
	return webhookID[webhook.SourceDigits+1:]
}

// sideMark follows the names of endpoints that have something new in their
// side streams, in what is published.
const sideMark = "\x00"

// wakeSide wakes whoever delivers to the endpoint.
func (q *Queue) wakeSide(ctx context.Context, endpoint string) {
	if local := q.local.Load(); local != nil && (*local).Owns(endpoint) {
		(*local).Offer(&Appended{Endpoint: endpoint, Side: true})
		return
	}
	q.wakeOthers(ctx, q.client, endpoint+sideMark)
}
