package queue

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/jsontext"
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

// Part is what a job sends again in one call.
type Part struct {
	Job             string // the job's name, unique over time
	After, Position string // where the job was before the part, and where it is after it
	Messages        []webhook.Message
	// First: they are sent for the first time, and so without the header webhook-replay.
	First bool
}

// jobAge is how long Redis remembers where an endpoint's jobs are.
const jobAge = 7 * 24 * time.Hour

// partScript appends a part's messages if the job is where the part begins, and returns where
// it is then. KEYS: the side stream, the jobs' positions.
var partScript = redis.NewScript(`
local at = redis.call('HGET', KEYS[2], ARGV[1]) or ''
if at ~= ARGV[2] then return at end
local i = 5
while i <= #ARGV do
  local n = tonumber(ARGV[i])
  redis.call('XADD', KEYS[1], '*', unpack(ARGV, i + 1, i + n))
  i = i + n + 1
end
redis.call('HSET', KEYS[2], ARGV[1], ARGV[3])
redis.call('PEXPIRE', KEYS[2], ARGV[4])
return ARGV[3]`)

// ReplayPart queues events to be sent to the endpoint again, with their webhook-ids
// and, unless it is for the first time, the header webhook-replay, and wakes its owner. It queues all of them or,
// with an error (ErrFull, ErrUnreachable or another), none; after a lost answer
// they may be queued nevertheless. Calling it again, in another process too, is
// harmless: Redis keeps the position with the events, and appends nothing when the job is
// not where the part begins. It returns where the job is then; empty: that is not
// known. A few hundred events at a time hold Redis up least.
//
// When it returns, Redis has the events, and may not have synced them to its
// disk: see Durably.
func (q *Queue) ReplayPart(ctx context.Context, endpoint string, p *Part) (position string, err error) {
	if err = q.register(ctx, endpoint); err == nil {
		args := []any{p.Job, p.After, p.Position, jobAge.Milliseconds()}
		for i := range p.Messages {
			fields := sideFields(&p.Messages[i], !p.First)
			args = append(append(args, len(fields)), fields...)
		}
		position, err = partScript.Run(ctx, q.client, []string{q.keys.side(endpoint), q.keys.jobs(endpoint)}, args...).Text()
	}
	if err == nil && position == p.Position {
		q.wakeSide(ctx, endpoint)
	}
	return position, annotate(err, "queue %d events for endpoint %q again", len(p.Messages), endpoint)
}

// JobPosition returns where a job is, as ReplayPart does.
func (q *Queue) JobPosition(ctx context.Context, endpoint, job string) (string, error) {
	position, err := q.client.HGet(ctx, q.keys.jobs(endpoint), job).Result()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return position, annotate(err, "read how far job %s of endpoint %q is", job, endpoint)
}

// ForgetJob forgets where a job is that has ended.
func (q *Queue) ForgetJob(ctx context.Context, endpoint, job string) error {
	return annotate(q.client.HDel(ctx, q.keys.jobs(endpoint), job).Err(), "forget job %s of endpoint %q", job, endpoint)
}

// Durably calls write, and returns when what it has written for the endpoint is on
// Redis's disk and with its replicas: for events whose only other copy is to be deleted.
// It takes up to a second, one and a half and more where WAITAOF is not to be trusted; the events are
// sent meanwhile. It returns write's error, or ErrUnreachable, also when Redis was
// restarted meanwhile or another took its place: then what was written may be lost, and is
// to be written again, by one that does not write it twice. Redis's settings are read each
// time; those that lose events are ErrUnreachable too, before write is called.
func (q *Queue) Durably(ctx context.Context, endpoint string, write func() error) error {
	addr, err := q.masterOf(ctx, q.keys.side(endpoint))
	if err != nil {
		return err
	}
	before, err := q.keptBy(ctx, addr)
	if err != nil {
		return err
	}
	if err := write(); err != nil {
		return err
	}
	offset, err := q.sync(ctx, addr, endpoint, before.mode)
	var proof fsyncProof
	for err == nil {
		var now keeper
		asked := time.Now()
		if now, err = q.keptBy(ctx, addr); err != nil {
			break
		}
		if q.servers.of(now.info) != q.servers.of(before.info) {
			return fmt.Errorf("%w: it was restarted or replaced before what was written was on its disk", ErrUnreachable)
		}
		if now.mode != before.mode || now.fsync != before.fsync {
			return &notReadyError{fmt.Errorf("appendfsync was changed from %s to %s", before.fsync, now.fsync)}
		}
		var done bool
		if done, err = now.safe(offset, asked, &proof); done {
			return nil
		}
		if err == nil {
			err = retry.Wait(ctx, recordEvery)
		}
	}
	return annotate(err, "wait for redis's disk")
}

// keeper is a server and how it keeps what it is given.
type keeper struct {
	info
	mode  durability
	fsync fsync
}

// keptBy asks a server how it keeps what it is given. A setting that loses events is a
// notReadyError with its name, unless that was accepted.
func (q *Queue) keptBy(ctx context.Context, addr string) (keeper, error) {
	got, err := serverInfo(ctx, q.nodes.to(addr))
	if err != nil {
		return keeper{}, unreachable(err)
	}
	k := keeper{info: got}
	if err = checkEviction(got); err == nil {
		k.mode, k.fsync, err = q.durabilityOf(ctx, addr, got)
		if q.volatile && errors.As(err, new(*SettingError)) {
			err = nil
		}
	}
	if errors.As(err, new(*SettingError)) {
		err = &notReadyError{err}
	}
	return k, err
}

// sync ends what was written to the endpoint's server with an EXEC, for the reason that
// sealServers gives, and returns the offset of its replication then. Where WAITAOF is
// trusted, it returns when all that is on the disk.
func (q *Queue) sync(ctx context.Context, addr, endpoint string, mode durability) (offset int64, err error) {
	conn := q.nodes.to(addr).WithTimeout(appendTimeout).Conn() // WAITAOF blocks, and is about its connection's writes
	defer func() { _ = conn.Close() }()
	if err := sealScript.Run(ctx, conn, []string{q.keys.of(endpoint, "seal")}).Err(); err != nil {
		return 0, err
	}
	got, err := serverInfo(ctx, conn)
	if err != nil {
		return 0, err
	}
	if mode == durableByWait {
		if err := awaitAOF(ctx, conn); err != nil {
			return 0, err
		}
	}
	return got.replicationOffset()
}

// safe reports whether what the server had written up to an offset of its replication is
// on its disk and with its replicas. The append-only file that it is writing may be its
// first, without which nothing is on its disk; WAITAOF knows that.
func (k *keeper) safe(offset int64, asked time.Time, proof *fsyncProof) (bool, error) {
	for _, o := range replicaOffsets(k.info) {
		if o < offset {
			return false, nil
		}
	}
	if k.mode == durableByLooks {
		if synced, err := proof.look(k.info, asked, k.fsync.pauses); !synced || err != nil {
			return false, err
		}
	}
	if k.mode == durableByWait {
		return true, nil
	}
	waits, err := awaitsRewrite(k.info)
	return !waits, err
}

// ReplayBacklog returns how many entries of the endpoint's side stream wait:
// events to be sent again, and operational events.
func (q *Queue) ReplayBacklog(ctx context.Context, endpoint string) (int64, error) {
	n, err := q.client.XLen(ctx, q.keys.side(endpoint)).Result()
	return n, annotate(err, "count the replays of endpoint %q", endpoint)
}

// TakesReplays returns why Redis would not take a replay to the endpoint now: ErrFull, ErrUnreachable or
// another error. It asks for one that changes nothing, so that nobody reads in vain what is to be
// replayed.
func (q *Queue) TakesReplays(ctx context.Context, endpoint string) error {
	err := q.client.XAdd(ctx, &redis.XAddArgs{Stream: q.keys.of(endpoint, "none"), NoMkStream: true, Values: []string{"f", ""}}).Err()
	if errors.Is(err, redis.Nil) {
		err = nil
	}
	return annotate(err, "replay to endpoint %q", endpoint)
}

// Announce queues an event of Gancho's own for each of the endpoints, which
// Subscribed has chosen. Its ID is the webhook-id; its Sequence, when empty,
// is made of the time at which it was queued. An error names the first
// endpoint for which it was not queued; for those before it, it was.
func (q *Queue) Announce(ctx context.Context, endpoints []string, m webhook.Message) error {
	for _, name := range endpoints {
		err := q.register(ctx, name)
		if err == nil {
			err = q.client.Do(ctx, append([]any{"XADD", q.keys.side(name), "*"}, sideFields(&m, false)...)...).Err()
		}
		if err != nil {
			return annotate(err, "announce %s to endpoint %q", m.Type, name)
		}
		q.wakeSide(ctx, name)
	}
	return nil
}

// sideFields are a message's fields and values. What the main stream's entries say by
// their ids is said by fields here.
func sideFields(m *webhook.Message, replay bool) []any {
	args := []any{
		"t", m.Type, "k", m.Key, "n", m.Tenant, "c", strconv.FormatInt(m.Time.UnixMicro(), 10),
		"d", m.Data, "v", m.Version, "w", m.ID,
	}
	optional := func(name string, value []byte) {
		if len(value) > 0 {
			args = append(args, name, value)
		}
	}
	optional("p", m.Previous)
	optional("u", m.Unchanged)
	optional("e", m.Errors)
	optional("o", []byte(m.Op))
	if m.Late != 0 {
		args = append(args, "l", m.Late)
	}
	if len(m.Tags) > 0 {
		args = append(args, "g", jsontext.AppendStrings(nil, m.Tags))
	}
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
