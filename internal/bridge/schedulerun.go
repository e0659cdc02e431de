package bridge

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/mapping"
)

const (
	// A part of a run is of so many rows, and of so many bytes of them.
	scheduledRows, scheduledBytes = 10_000, 4 << 20
	// endpointsAtOnce is for how many endpoints of a part one waits at once: each is a second or so, for Redis's disk.
	endpointsAtOnce = 32
)

// scheduledRun is a run of a schedule.
//
// Its query runs once for each attempt, and its rows are spooled. They become parts, one after the other: a part is stored in
// the state database, then queued for each endpoint, and once Redis has it on its disk, its rows are noted as sent. Whoever
// goes on after a death finds the part that may not be queued, queues what of it is missing, which Redis knows, and leaves
// out all rows that are noted, whatever has become of the others meanwhile.
type scheduledRun struct {
	*schedules
	rule *mapping.Scheduled
	of   state.Schedule
	due  time.Time
	part int64 // that was stored last
	// passed is how many scheduled times before it are not made up.
	passed int

	queried    time.Duration // how long a query ran that failed
	rows       int64
	uncomputed int64
	reason     string
}

// carryOut makes an attempt.
func (r *scheduledRun) carryOut(ctx context.Context) error {
	began := time.Now()
	if r.of.Due.IsZero() {
		if err := r.store.BeginRun(ctx, r.of.ID, r.due); err != nil {
			return err
		}
		r.part = 0
		r.tellPassed(r.rule, &r.of, r.passed)
	}
	pending, err := r.store.PendingPart(ctx, r.of.ID, r.due)
	if err == nil && pending != nil {
		r.part = pending.Number
		err = r.send(ctx, pending)
	}
	if err == nil {
		err = r.awaitRoom(ctx)
	}
	if err != nil {
		return err
	}
	spool, err := newRowSpool()
	if err != nil {
		return err
	}
	defer spool.close()
	source, reading := r.source(), time.Now()
	err = r.rule.Run(ctx, source, r.due, spool.write)
	source.Close(ctx)
	if err == nil {
		err = spool.rewind()
	} else {
		r.queried = time.Since(reading)
	}
	if err != nil {
		return err
	}
	r.rows = spool.rows
	if err := r.sendAll(ctx, spool); err != nil {
		return err
	}
	r.forget(ctx)
	end := state.ScheduledRun{Due: r.due, Took: time.Since(began), Rows: r.rows, Uncomputed: r.uncomputed, Reason: r.reason}
	if err := r.store.EndRun(ctx, r.of.ID, r.rule.Once(), &end); err != nil {
		return err
	}
	log := r.Log.Info()
	if r.uncomputed > 0 {
		log = r.Log.Warn().Int64("uncomputed", r.uncomputed).Str("reason", r.reason)
	}
	log.Str("event", r.rule.Event()).Time("scheduled", r.due).Int64("rows", r.rows).Dur("took_ms", end.Took).Msg("scheduled run ended")
	return nil
}

// sendAll sends the spooled rows in parts.
func (r *scheduledRun) sendAll(ctx context.Context, spool *rowSpool) error {
	source, err := r.queue.SourceID(ctx)
	if err != nil {
		return err
	}
	maker := &scheduledPart{scheduledRun: r, source: source, mapper: r.rule.NewMapper(r.due)}
	var rows [][]cdc.Datum // that are in no part yet
	for {
		for size, more := 0, len(rows) == 0; more && len(rows) < scheduledRows && size < scheduledBytes; {
			row, n, err := spool.read(r.rule.Columns())
			if err != nil {
				return err
			}
			if row == nil {
				break
			}
			rows, size = append(rows, row), size+n
		}
		if len(rows) == 0 {
			return nil
		}
		part, made, err := maker.make(ctx, rows)
		if err != nil {
			return err
		}
		rows = rows[made:]
		if len(part.Rows) == 0 {
			continue
		}
		if err := r.store.StorePart(ctx, r.of.ID, r.due, part); err != nil {
			return err
		}
		r.part = part.Number
		if err := r.send(ctx, part); err != nil {
			return err
		}
	}
}

// scheduledPart makes the parts of a run. It is the sink of its rows' events.
type scheduledPart struct {
	*scheduledRun
	source string
	mapper *mapping.ScheduledMapper

	identity []byte
	digest   [sha256.Size]byte // of the row at hand
	part     *state.ScheduledPart
	size     int // of its events
}

// make makes the part of those rows that have not been sent, and returns of how many of them it is: events may be much
// larger than their rows.
func (p *scheduledPart) make(ctx context.Context, rows [][]cdc.Datum) (*state.ScheduledPart, int, error) {
	p.size, p.part = 0, &state.ScheduledPart{Number: p.scheduledRun.part + 1}
	digests, hashes := make([][sha256.Size]byte, len(rows)), make([]state.RowHash, len(rows))
	for i, row := range rows {
		p.identity = p.rule.AppendIdentity(p.identity[:0], row)
		digests[i] = sha256.Sum256(p.identity)
		of := digests[i]
		if !p.rule.Once() { // known in this run only
			of = sha256.Sum256(fmt.Appendf(of[:], " %d", p.due.Unix()))
		}
		hashes[i] = state.RowHash(of[:len(state.RowHash{})])
	}
	sent, err := p.store.SentRows(ctx, p.of.ID, p.due, hashes)
	if err != nil {
		return nil, 0, err
	}
	for i, row := range rows {
		if p.size >= scheduledBytes {
			return p.part, i, nil
		}
		if sent[hashes[i]] {
			continue
		}
		before := len(p.part.Messages)
		p.digest = digests[i]
		if err := p.mapper.Map(row, p); err != nil {
			return nil, 0, fmt.Errorf("make the events of %s: %w", p.rule.Event(), err)
		}
		if len(p.part.Messages) > before {
			sent[hashes[i]] = true // equal rows are one
			p.part.Rows = append(p.part.Rows, hashes[i])
		}
	}
	return p.part, len(rows), nil
}

// Event adds the event of a row.
func (p *scheduledPart) Event(e *mapping.Event) error {
	m := state.ScheduledMessage{Payload: slices.Clone(e.Data), Message: webhook.Message{
		ID: p.webhookID(), Type: e.Type, Tenant: string(e.Tenant), Key: string(e.Key), Time: e.Time, Op: e.Op.String(), Version: e.Version,
	}}
	if len(e.Errors) > 0 {
		m.Failing = slices.Clone(e.Errors)
	}
	m.Data, m.Errors = m.Payload, m.Failing
	if len(e.Tags) > 0 {
		if err := json.Unmarshal(e.Tags, &m.Tags); err != nil {
			return err
		}
	}
	p.part.Messages = append(p.part.Messages, m)
	p.size += len(m.Payload)
	return nil
}

// webhookID is the same whenever the run is repeated. It is that of no change of the stream, and nothing counts it as one.
func (p *scheduledPart) webhookID() string {
	digest := sha256.Sum256(fmt.Appendf(nil, "schedule\x00%s\x00%s\x00%d\x00%x", p.source, p.rule.Event(), p.due.Unix(), p.digest))
	return "gancho-schedule-" + hex.EncodeToString(digest[:16])
}

// Park counts a row of which no event can be made. It is not noted as sent, so that the next run tries it again.
func (p *scheduledPart) Park(parked *mapping.Parked) error {
	if p.uncomputed++; p.uncomputed == 1 {
		p.reason = parked.Reason
	}
	return nil
}

// job names the run in Redis, where the positions of its parts are.
func (r *scheduledRun) job() string {
	return "schedule " + r.Source.Slot + " " + r.rule.Event() + " " + r.due.UTC().Format(time.RFC3339)
}

// send queues a part, and notes that its rows have been sent.
func (r *scheduledRun) send(ctx context.Context, part *state.ScheduledPart) error {
	if !r.leads() {
		return errCapturesNot
	}
	if err := r.awaitRoom(ctx); err != nil {
		return err
	}
	endpoints, tenants := r.endpointsNow(), map[string][]string{}
	chosen := map[string][]int{} // by endpoint, the events
	for i := range part.Messages {
		m := &part.Messages[i]
		to, known := tenants[m.Tenant]
		if !known {
			to = queue.Routed(endpoints, m.Type, []byte(m.Tenant))
			tenants[m.Tenant] = to
		}
		for _, name := range to {
			chosen[name] = append(chosen[name], i)
		}
	}
	group, within := errgroup.WithContext(ctx)
	group.SetLimit(endpointsAtOnce)
	for name, events := range chosen {
		group.Go(func() error {
			return r.queue.Durably(within, name, func() error { return r.queueTo(within, name, part, events) })
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	for i := range part.Messages {
		if len(tenants[part.Messages[i].Tenant]) > 0 {
			r.traces.made(&part.Messages[i].Message)
		}
	}
	if len(part.Messages) > 0 {
		r.metrics.events.WithLabelValues(r.rule.Event(), r.rule.Place()).Add(float64(len(part.Messages)))
	}
	return r.store.EndPart(ctx, r.of.ID, r.due, part)
}

// queueTo queues events of a part for an endpoint, those that Redis has not got: its position is that of the last event, the
// part's number and how many of the part's events there are up to it.
func (r *scheduledRun) queueTo(ctx context.Context, endpoint string, part *state.ScheduledPart, events []int) error {
	at, err := r.queue.JobPosition(ctx, endpoint, r.job())
	if err != nil {
		return err
	}
	for {
		var number int64
		var upTo int
		if at != "" {
			if _, err := fmt.Sscanf(at, "%d.%d", &number, &upTo); err != nil {
				return fmt.Errorf("read how far %s is for endpoint %q: it is not what Gancho has written there", r.job(), endpoint)
			}
		}
		if number < part.Number {
			upTo = 0
		}
		var messages []webhook.Message
		last := upTo
		for _, i := range events {
			if i >= upTo && len(messages) < replayPart {
				messages, last = append(messages, part.Messages[i].Message), i+1
			}
		}
		if len(messages) == 0 || number > part.Number {
			return nil
		}
		piece := queue.Part{Job: r.job(), After: at, Position: fmt.Sprintf("%d.%d", part.Number, last), Messages: messages, First: true}
		if at, err = r.queue.ReplayPart(ctx, endpoint, &piece); err != nil {
			return err
		}
		if at != piece.Position { // another process is at it, or has ended the run: what it has queued is not queued twice
			return state.ErrConflict
		}
	}
}

// awaitRoom waits until Redis takes events and has room for more than capture's acknowledgements: the source is not to be
// read in vain, and not once more for each attempt.
func (r *scheduledRun) awaitRoom(ctx context.Context) error {
	for paused := false; ; {
		err := r.room(ctx, paused)
		if err == nil {
			if paused {
				r.full.over()
				_ = r.store.FailRun(ctx, r.of.ID, r.due, "") // its end says so, too
			}
			return nil
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !paused { // people see why it does not go on
			_ = r.store.FailRun(ctx, r.of.ID, r.due, "it waits for redis: "+err.Error()) // it is logged
		}
		paused = true
		r.full.about(err)
		if err := retry.Wait(ctx, scheduleLook); err != nil {
			return err
		}
		if !r.leads() {
			return errCapturesNot
		}
	}
}

// room returns why Redis takes no events now. One that was full takes them again when memoryReserve is free, as of capture.
func (r *scheduledRun) room(ctx context.Context, paused bool) error {
	for _, e := range r.endpointsNow() {
		if queue.Refuses(e, r.rule.Event()) != "" {
			continue
		}
		if err := r.queue.TakesReplays(ctx, e.Name); err != nil {
			return err
		}
		break // of thousands one is enough
	}
	if r.MaxMemoryPercent <= 0 || r.MaxMemoryPercent >= 100 {
		return nil
	}
	used, err := r.queue.MemoryPercent(ctx)
	resume := r.MaxMemoryPercent - memoryReserve
	if err == nil && (used >= r.MaxMemoryPercent || paused && used > resume) {
		return &queue.MemoryError{Percent: used, Resume: resume}
	}
	return nil // what cannot be measured is no reason to wait: the queue says that it is unreachable
}

// forget has Redis forget the positions of the run, which it would in some days. A run that sent nothing has none.
func (r *scheduledRun) forget(ctx context.Context) {
	if r.part == 0 {
		return
	}
	for _, e := range r.endpointsNow() {
		if queue.Refuses(e, r.rule.Event()) != "" {
			continue
		}
		if err := r.queue.ForgetJob(ctx, e.Name, r.job()); err != nil {
			r.Log.Debug().Err(err).Str("endpoint", e.Name).Msg("the position of a scheduled run is forgotten later")
		}
	}
}
