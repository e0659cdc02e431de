package bridge

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/retry"
	"gancho/internal/state"
	"gancho/mapping"
)

const (
	// A backfill waits while Redis uses more than maxMemory of its limit, while the WAL that is not
	// confirmed is more than a part of source.lag_warning, or defaultLag without one: it looks every lagEvery.
	maxMemory  = 75 // percent
	lagPart    = 2
	defaultLag = 512 << 20 // bytes
	lagEvery   = time.Second
	// What is live waits behind what is queued. So as long as an active endpoint gets its events, the next chunk
	// waits until one of them has fewer than liveBacklog to deliver, and has as many rows, leastLive to mostLive, as
	// are delivered within drainTime of their append. With 16 at the least live events had 4 times the p99 that they have without a
	// backfill, with 6 2.1 times, with 4 1.4 times at half the rate (docs/performance.md).
	// From then on it looks every loadEvery.
	liveBacklog, leastLive, mostLive = 5, 5, 500
	drainTime, loadEvery             = time.Millisecond, 2 * time.Millisecond
	// A chunk that takes slowFactor times as long as the fastest, and more than slowChunk, is followed by as
	// long a pause: the source is busy with something else.
	slowFactor = 5
	slowChunk  = 200 * time.Millisecond
	// noteAfter is how long a wait is no news.
	noteAfter = 2 * time.Second
	// stillAfter is how long endpoints with a backlog deliver nothing until they are said to.
	stillAfter = 10 * time.Second
)

// pace is how fast a backfill reads: within its rate, and as long as nothing else has to wait for it.
type pace struct {
	*jobs
	job     *state.Job
	rows    int           // of the next chunk
	due     time.Time     // when it may begin
	fastest time.Duration // of a thousand rows
	looked  time.Time     // at Redis
	lagged  time.Time     // at the slot
	busy    string        // what was found then
	live    bool          // an active endpoint gets the events
	drains  int           // how many rows are delivered within drainTime
	full    bool          // each of them has enough to deliver
	names   string        // of them
	waiting []int64       // events for each
	moved   time.Time     // when one of them had fewer than before, or not enough
	events  []string      // that the rows lead to
	asked   *cdc.RowQuery
	of      *mapping.ReadTable
	buffer  []byte
}

func newPace(j *jobs, job *state.Job) *pace {
	return &pace{jobs: j, job: job, rows: firstChunk, drains: leastLive}
}

// query is the statement for a table.
func (p *pace) query(table *mapping.ReadTable, where string) *cdc.RowQuery {
	if p.of != table {
		p.of, p.asked = table, &cdc.RowQuery{Table: table.Table, Columns: table.Columns, Where: where}
	}
	return p.asked
}

// forget has the next statement be made anew: its table was altered.
func (p *pace) forget() { p.of = nil }

// limit is how many rows the next chunk reads.
func (p *pace) limit(filtered bool) int {
	most := chunkRows
	if filtered {
		most = scanRows
	}
	if p.live {
		most = min(most, p.drains)
	}
	if p.job.Rate > 0 {
		most = min(most, max(1, int(p.job.Rate)))
	}
	return min(p.rows, most)
}

// free reports whether the next chunk may begin right away, as far as is known now.
func (p *pace) free() bool {
	return !p.live && p.job.Rate == 0 && p.busy == "" && time.Now().After(p.due)
}

// took notes what a chunk took.
func (p *pace) took(d time.Duration, rows, bytes int) {
	p.due = time.Now()
	if rows == 0 {
		return
	}
	p.rows = min(2*p.rows, max(1, rows*chunkBytes/max(bytes, 1)), scanRows)
	if p.job.Rate > 0 {
		p.due = p.due.Add(time.Duration(float64(rows) / p.job.Rate * float64(time.Second)))
	}
	each := d * 1000 / time.Duration(rows)
	if p.fastest == 0 || each < p.fastest {
		p.fastest = each
	}
	if d > slowChunk && each > slowFactor*p.fastest {
		p.due = p.due.Add(d)
	}
}

// tooMany returns half as many rows as the source could not read in time; the chunks to come begin with that.
func (p *pace) tooMany(limit int) int {
	p.rows = max(1, limit/2)
	return p.rows
}

// wait waits until the next chunk may begin. Meanwhile the backfill marks the stream, so that positions are
// confirmed.
func (p *pace) wait(ctx context.Context, b *backfill) error {
	began := time.Now()
	if p.live {
		if err := p.drain(ctx); err != nil {
			return err
		}
	}
	for {
		why := p.load(ctx)
		if why == "" || time.Since(began) > noteAfter {
			if err := p.note(ctx, why); err != nil {
				return err
			}
		}
		if !p.capturing() {
			return errCapturesNot
		}
		left := time.Until(p.due)
		if why == "" && left <= 0 && !p.full {
			return nil
		}
		if time.Since(b.marked) > markEvery {
			if err := b.mark(ctx); err != nil {
				return err
			}
		}
		if err := retry.Wait(ctx, loadEvery); err != nil {
			return err
		}
	}
}

// drain gives the endpoints drainTime, from when the last chunk's events are in Redis, and takes notice of whether that was enough.
func (p *pace) drain(ctx context.Context) error {
	queued, cancel := context.WithTimeout(ctx, markEvery)
	defer cancel()
	if err := p.capture.stage.drained(queued); err != nil {
		return ctx.Err() // why Redis takes no events is for load to say
	}
	if err := retry.Wait(ctx, drainTime); err != nil {
		return err
	}
	p.looked = time.Now()
	p.backlog(ctx)
	p.drains = nextDrains(p.drains, !p.full)
	return nil
}

// nextDrains is how many rows the next chunk has, when the last one of drains rows was delivered in time, or was not. It grows
// slowly: one that is too large is what live events wait for.
func nextDrains(drains int, inTime bool) int {
	if inTime {
		return min(drains+drains/8+1, mostLive)
	}
	return max(drains/2, leastLive)
}

// note stores what the job waits for, when that is something else.
func (p *pace) note(ctx context.Context, why string) error {
	if p.job.Waits == why {
		return nil
	}
	if why != "" {
		p.Log.Warn().Int64("job", p.job.ID).Str("reason", why).Msg("a backfill waits")
	}
	return p.stored(ctx, func(ctx context.Context) error { return p.store.NoteWait(ctx, p.job, why) })
}

// load returns what the backfill has to wait for; "": it may go on. What cannot be looked at now is
// no reason to.
func (p *pace) load(ctx context.Context) string {
	if over := p.excesses.over(p.tenantsOf(p.job.Endpoint)); len(over) > 0 {
		return (&control.QuotaError{Excess: over[0]}).Error()
	}
	if p.capture.stage.waits() != nil {
		return "redis does not take events"
	}
	if time.Since(p.lagged) > lagEvery {
		p.lagged, p.busy = time.Now(), p.servers(ctx)
	}
	if time.Since(p.looked) >= loadEvery {
		p.looked = time.Now()
		p.backlog(ctx)
	}
	if p.busy == "" && p.full && time.Since(p.moved) > stillAfter {
		return "no event is delivered to " + p.names + ": more rows are read when fewer than " + strconv.Itoa(liveBacklog) + " events wait for an endpoint; see gancho endpoints show"
	}
	return p.busy
}

// servers returns why the source, or Redis, is not to get more.
func (p *pace) servers(ctx context.Context) string {
	most := int64(defaultLag)
	if p.LagWarning > 0 {
		most = p.LagWarning / lagPart
	}
	if slot, err := p.gauge.Measure(ctx); err == nil && slot.UnconfirmedBytes > most {
		return "capture is behind the source: much WAL is not confirmed yet"
	}
	if used, err := p.queue.MemoryPercent(ctx); err == nil && used > maxMemory {
		return fmt.Sprintf("redis uses %d %% of its maxmemory", used)
	}
	return ""
}

// backlog looks how much the endpoints have to deliver.
func (p *pace) backlog(ctx context.Context) {
	var names []string
	for _, e := range p.endpointsNow() {
		if e.State == endpoint.Active && (p.job.Endpoint == "" || e.Name == p.job.Endpoint) && p.gets(e) {
			names = append(names, e.Name)
		}
	}
	waiting, err := p.queue.Waiting(ctx, names)
	p.live = len(names) > 0
	p.full = err == nil && p.live && slices.Min(waiting) >= liveBacklog
	of := strings.Join(names, ", ")
	if !p.full || of != p.names || fewer(waiting, p.waiting) {
		p.moved = time.Now()
	}
	p.names, p.waiting = of, waiting
}

// fewer reports whether one of the numbers is less than before, or cannot be compared.
func fewer(now, before []int64) bool {
	if len(now) != len(before) {
		return true
	}
	for i := range now {
		if now[i] < before[i] {
			return true
		}
	}
	return false
}

// gets reports whether one of the backfill's events may go to the endpoint.
func (p *pace) gets(e *endpoint.Endpoint) bool {
	for _, t := range p.events {
		if queue.Refuses(e, t) == "" {
			return true
		}
	}
	return false
}
