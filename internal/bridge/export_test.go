package bridge

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"regexp"
	"strings"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/tracing"
	"gancho/mapping"
)

// Roster is the roster, for tests.
type Roster struct{ *roster }

// NewRoster returns an empty roster.
func NewRoster(log zerolog.Logger) Roster { return Roster{newRoster(log)} }

// SetFile replaces the endpoints of the file by these.
func (r Roster) SetFile(endpoints ...*endpoint.Endpoint) { r.setFile(endpoints) }

// SetStored replaces the endpoints of the store.
func (r Roster) SetStored(rows ...state.Endpoint) {
	known := make([]*state.Known, len(rows))
	for i := range rows {
		known[i] = state.NewKnown(rows[i])
	}
	r.setStored(known)
}

// SetFields sets the fields of tenants.
func (r Roster) SetFields(all ...state.TenantFields) { r.setFields(all) }

// All are the endpoints as they are to be treated.
func (r Roster) All() []*endpoint.Endpoint { return r.all() }

// Stage is the stage, for tests.
type Stage struct{ *stage }

// NewStage returns an empty stage before a queue.
func NewStage(q *queue.Queue) Stage { return Stage{newStage(q, nil, newMetrics(), zerolog.Nop())} }

// ParkedRoom sets how many more bytes of parked rows are kept.
func (s Stage) ParkedRoom(bytes int64) { s.parkedRoom.Store(bytes) }

// Seal is seal with a key.
func (s Stage) Seal(keys *state.Keyring, p *mapping.Parked) (mapping.Parked, error) {
	s.keys = keys
	return s.seal(p)
}

// Add stages an event.
func (s Stage) Add(e *mapping.Event) error {
	return s.within(func() error { return sink(s).Event(e) })
}

// Run appends until the context ends.
func (s Stage) Run(ctx context.Context) error { return s.run(ctx) }

// InFlight reports whether a batch is on its way.
func (s Stage) InFlight() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.spare == nil
}

// Rewind drops what is staged.
func (s Stage) Rewind() { s.rewind() }

// Settled waits until what is staged has been appended or dropped.
func (s Stage) Drained(ctx context.Context) error { return s.drained(ctx) }

// Fills reports whether a log of one record fills a batch.
func Fills(record queue.LogRecord) bool {
	batch := &recordBatch{recorder: newRecorder(newBridge(Options{Log: zerolog.Nop(), State: &StateOptions{KeepEvents: 1, KeepLog: 1}}, &Definitions{}))}
	batch.add("crm", []queue.LogEntry{{Records: []queue.LogRecord{record}}})
	return batch.full()
}

// Write writes rows as the recorder does, and returns how many were left out.
func Write(ctx context.Context, rows []int, to func(context.Context, []int) error) (refused float64, err error) {
	b := newBridge(Options{Log: zerolog.Nop()}, &Definitions{})
	err = write(ctx, newRecorder(b), rows, to)
	families, gatherErr := b.metrics.registry.Gather()
	if gatherErr != nil {
		return 0, gatherErr
	}
	for _, f := range families {
		if f.GetName() == "gancho_records_refused_total" {
			refused = f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	return refused, err
}

// shared are endpoints as the parts of a bridge share them.
func shared(endpoints []endpoint.Endpoint) *[]*endpoint.Endpoint {
	all := queuetest.Endpoints(endpoints...)
	return &all
}

// Fit reports whether the job may send to its endpoint, with these endpoints.
func Fit(job state.Job, endpoints ...endpoint.Endpoint) error {
	b := newBridge(Options{Log: zerolog.Nop()}, &Definitions{})
	b.endpoints.Store(shared(endpoints))
	return newJobs(b).fit(&job)
}

// GivesPlace reports whether a job gives its place to another one after its turn, while
// the process has so many jobs fewer than it can have.
func GivesPlace(free int, afterTurn bool) bool {
	j := newJobs(newBridge(Options{Log: zerolog.Nop()}, &Definitions{}))
	for range cap(j.slots) - free {
		j.slots <- struct{}{}
	}
	turn := time.Now().Add(time.Hour)
	if afterTurn {
		turn = time.Now().Add(-time.Second)
	}
	return j.turnIsOver(turn)
}

// ParkedTurns reports whether a job of parked changes that is at work gives its place to
// another one of its kind, if one waits, after its turn and before; and whether one that waits
// for that gives its place to other jobs when all are taken.
func ParkedTurns(ctx context.Context, waits bool) (after, before, waiting bool) {
	j := newJobs(newBridge(Options{Log: zerolog.Nop()}, &Definitions{}))
	over := time.Now().Add(-time.Second)
	if waits {
		j.parkedWaiting.Add(1)
	}
	after, before = j.parkedTurnIsOver(over), j.parkedTurnIsOver(time.Now().Add(time.Hour))
	for range cap(j.slots) {
		j.slots <- struct{}{}
	}
	j.parked <- struct{}{} // another one is at work
	waiting = errors.As(j.beginParked(ctx, over), new(*turnOverError))
	return after, before, waiting
}

// PagesAtOnce is how many jobs of a process are sending a page.
const PagesAtOnce = pagesAtOnce

// RunJobs works on the store's jobs until the context ends.
func RunJobs(ctx context.Context, store *state.Store, q *queue.Queue, log zerolog.Logger, endpoints ...endpoint.Endpoint) error {
	b := newBridge(Options{Log: log}, &Definitions{})
	b.jobStore, b.queue = store, q
	b.endpoints.Store(shared(endpoints))
	return newJobs(b).run(ctx)
}

// PageSize is pageSize.
func PageSize(job state.Job) int { return pageSize(&job) }

// Tables is a record of the tables, for tests.
type Tables struct{ record tableRecord }

// Compare takes what the catalogue says, and returns the gaps as texts.
func (t *Tables) Compare(c cdc.Coverages) []string {
	var out []string
	for _, g := range t.record.compare(c) {
		out = append(out, fmt.Sprintf("%s %s %s %s", g.table, g.from, g.to, g.reason))
	}
	t.record.LSN = c.Current
	return out
}

// OldForm makes the record one of a version whose row filters read otherwise.
func (t *Tables) OldForm() { t.record.Form = 0 }

// Attempt is an attempt, for tests.
type Attempt struct{ attempt }

// Due is attempt.due.
func (a *Attempt) Due(at string) bool { return a.due(at) }

// NewServer returns the server of a handler, with the limits of a connection.
func NewServer(handler http.Handler) *http.Server { return newServer(handler, zerolog.Nop()) }

// LimitListener returns a listener that keeps so many connections.
func LimitListener(l net.Listener, limit int, turnedAway func()) net.Listener {
	return limitListener(l, limit, turnedAway)
}

// ConnState tells a connection what its server does with it.
var ConnState = connState

// HoldConnection keeps the connection of a request until it is released.
var HoldConnection = holdConnection

// ConnectionLimit is how many connections the main listener keeps, Descriptors how many
// the process may have open.
func ConnectionLimit() int { return connectionLimit(maxConnections) }

// Descriptors is how many descriptors the process may have open.
func Descriptors() int { return descriptors() }

// MetricsAtOnce is how many answers with metrics are made at once.
const MetricsAtOnce = metricsAtOnce

// MetricsHandler answers with a new bridge's metrics, which need the token.
func MetricsHandler(token string) http.Handler {
	b := newBridge(Options{Log: zerolog.Nop(), MetricsToken: token}, &Definitions{})
	return b.metricsHandler()
}

// Verdicts is the memory of verdicts, for tests.
type Verdicts struct{ *verdicts }

// NewVerdicts has room for so many records of changes, and one chunk of those of rows read.
func NewVerdicts(kept uint64) Verdicts { return Verdicts{newVerdicts(kept, chunkRecords)} }

// Use has what follows judged by these rules and offered to these endpoints.
func (v Verdicts) Use(rules *mapping.Ruleset, endpoints ...endpoint.Endpoint) {
	v.use(rules)
	v.offer(*shared(endpoints))
}

// Offer has what follows offered to these endpoints.
func (v Verdicts) Offer(endpoints ...endpoint.Endpoint) { v.offer(*shared(endpoints)) }

// Each calls yield for each record.
func (v Verdicts) Each(yield func()) { v.each(&v.changes, func(*verdictRecord) { yield() }) }

// Read has the rows that follow be those of a backfill, for an endpoint and a tenant.
func (v Verdicts) Read(job int64, endpoint string, tenant *string) {
	v.read(&readHeader{Job: job, Endpoint: endpoint, Tenant: tenant})
}

// Began says that all is observed from now on.
func (v Verdicts) Began(at time.Time) { v.began(at) }

// Tally counts what became of changes, by the numbers of rules.
func (v Verdicts) Tally() (map[int]control.RuleTally, time.Time) { return v.tally() }

// TableOf finds a table of rules, or else one of others.
func TableOf(texts []mapping.RuleText, name string, others ...cdc.Name) (cdc.Name, uint32, error) {
	return tableOf(texts, name, others...)
}

// HeldEndpoint is what is known of an endpoint whose settings cannot be decrypted.
func HeldEndpoint(row *state.Endpoint) endpoint.Endpoint { return heldEndpoint(state.NewKnown(*row)) }

// Answer is answer, with webhook-ids that have the position and the rule's number.
func (v Verdicts) Answer(q control.WhyQuestion) (control.WhyView, error) {
	return v.answer(q, testWebhookID)
}

// AnswerEvent is answerEvent, for a source of the id 01234567 in its first epoch.
func (v Verdicts) AnswerEvent(q control.WhyQuestion) (control.WhyView, error) {
	return v.answerEvent(q, func(p cdc.Position, n int) (string, error) {
		id, err := queue.NewID(1, p, n)
		return id.WebhookID("01234567"), err
	})
}

func testWebhookID(p cdc.Position, n int) (string, error) {
	return fmt.Sprintf("%d-%d-%d", p.Commit, p.Ordinal, n), nil
}

// RecordSize is what a record takes, in bytes; VerdictsKept is how many a bridge keeps.
const (
	RecordSize   = unsafe.Sizeof(verdictRecord{})
	VerdictsKept = verdictsKept
	ChunkRecords = chunkRecords
	ReadsKept    = readsKept
	RulesKept    = rulesKept
	RostersKept  = rostersKept
)

// StuckMoves are the endpoints whose events nobody moves, for tests.
type StuckMoves struct{ moves stuckMoves }

// Measure measures the backlogs, of which those of keep are to move, and returns which are stuck.
func (s *StuckMoves) Measure(now time.Time, keep map[string]int64, stats ...queue.Stats) map[string]bool {
	stuck := s.moves.among(stats, now)
	s.moves.asked(stats, keep, now)
	return stuck
}

// Err says which endpoints are stuck.
func (s *StuckMoves) Err() error { return s.moves.err() }

// StuckAfter is how long an endpoint is asked in vain, StuckAgain how long it is left alone then.
const (
	StuckAfter = stuckAfter
	StuckAgain = stuckAgain
)

// PageSlots are the slots of jobs that send a page.
type PageSlots struct{ *pageSlots }

// NewPageSlots returns so many.
func NewPageSlots(slots int) PageSlots { return PageSlots{newPageSlots(slots)} }

// Take waits for one.
func (p PageSlots) Take(ctx context.Context, tenant string) error { return p.take(ctx, tenant) }

// Give gives one back.
func (p PageSlots) Give(tenant string) { p.give(tenant) }

// Waiting is how many jobs wait.
func (p PageSlots) Waiting() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.waiting)
}

// Reads is capture's part of a backfill of the slot gancho, for tests.
type Reads struct{ *reads }

// ReadHeader begins a message of a backfill.
type ReadHeader = readHeader

// NewReads makes events by rules; the database knows their types.
func NewReads(q *queue.Queue, keys *state.Keyring, dsn string, rules *mapping.Ruleset, log zerolog.Logger) Reads {
	b := newBridge(Options{Log: log, Source: cdc.Options{Slot: "gancho", DSN: dsn, Log: log}, State: &StateOptions{Keyring: keys}}, &Definitions{})
	c := &capture{
		bridge: b, stage: newStage(q, nil, b.metrics, log), mapper: mapping.NewMapper(rules, nil),
		reader: cdc.NewReader(b.Source, nil), resolve: func() error { return nil }, verdicts: newVerdicts(16, 16),
	}
	c.verdicts.use(rules)
	c.reads = newReads(c)
	return Reads{c.reads}
}

// Open keeps the changes of tables from the next transaction on.
func (r Reads) Open(tables ...uint32) { r.want.Store(&tables) }

// Seal returns a message of rows.
func (r Reads) Seal(h ReadHeader, rows []byte) (cdc.Message, error) { return r.seal(&h, rows) }

// Transaction is one of the stream.
func (r Reads) Transaction(ctx context.Context, tx *cdc.Transaction, changes []*cdc.Change, messages ...cdc.Message) error {
	r.begin(tx)
	for _, c := range changes {
		r.change(c)
	}
	for _, m := range messages {
		if err := r.message(ctx, tx, m); err != nil {
			return err
		}
	}
	r.commit(tx)
	return nil
}

// Seen is the claim and the number of the newest message that was accepted, and the fault, if there is one.
func (r Reads) Seen() (claim, seq int64, fault error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress.claim, r.progress.seq, r.progress.fault
}

// Took reports whether the newest message was accepted.
func (r Reads) Took() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.progress.took
}

// Staged is how many events wait to be appended.
func (r Reads) Staged() int { return r.stage.open.Len() }

// FaultIsPast reports whether a backfill in a round passes over the fault of a message.
func FaultIsPast(job, round int64, h ReadHeader) bool {
	return (&backfill{job: &state.Job{ID: job}, cursor: state.BackfillCursor{Round: round}}).past(&h)
}

// NewIdleReads is that of a stream that nobody reads.
func NewIdleReads() Reads {
	return Reads{newReads(&capture{bridge: newBridge(Options{Log: zerolog.Nop()}, &Definitions{}), reader: cdc.NewReader(cdc.Options{}, &cdc.Source{})})}
}

// Reset begins the stream anew, with the tables that Redis has on record.
func (r Reads) Reset(record []uint32) { r.reset(record) }

// Reached is how far the stream has come.
func (r Reads) Reached(lsn cdc.LSN) { r.keepalive(lsn) }

// Release has no table used any more, if the stream has come as far.
func (r Reads) Release(upTo cdc.LSN) bool { return r.release(upTo) }

// UpTo is how much of what was mapped is reported as reached.
func (r Reads) UpTo(mapped cdc.LSN) cdc.LSN { return r.upTo(mapped) }

// Stored writes to the state database for an open backfill; left: it was unreachable, and the job is left for later.
func Stored(ctx context.Context, write func(context.Context) error) (left bool, err error) {
	err = newBridge(Options{Log: zerolog.Nop()}, &Definitions{}).stored(ctx, write)
	over := new(turnOverError)
	return errors.As(err, &over), err
}

// WarnOfBacklogs has people be told of the backlogs of endpoints, as often as it is called.
func WarnOfBacklogs(q *queue.Queue, endpoints ...endpoint.Endpoint) (again func(context.Context)) {
	b, w := newBridge(Options{Log: zerolog.Nop()}, &Definitions{}), &warned{backlogs: map[string]bool{}}
	b.ConsoleURL = "https://webhooks.example.com"
	b.queue = q
	b.endpoints.Store(shared(endpoints))
	return func(ctx context.Context) { b.warnOfBacklogs(ctx, w) }
}

// SchedulesWorld is what schedules run in, for tests.
type SchedulesWorld struct {
	Store     *state.Store
	Queue     *queue.Queue
	Endpoints []endpoint.Endpoint
	Rules     *mapping.Ruleset
	Source    string // its DSN
	Slot      string
	Location  *time.Location
	// MaxMemoryPercent is of Redis's memory; Read is how often the source was read.
	MaxMemoryPercent int
	Read             *atomic.Int64
	Now              func() time.Time
	Log              zerolog.Logger
}

// Run runs what is due until the context ends.
func (w *SchedulesWorld) Run(ctx context.Context) error {
	b := newBridge(Options{Log: w.Log, Location: w.Location, MaxMemoryPercent: w.MaxMemoryPercent}, &Definitions{})
	b.store, b.queue = w.Store, w.Queue
	b.endpoints.Store(shared(w.Endpoints))
	b.Source.Slot = w.Slot
	s := b.schedulesOf(w.Rules.Schedules, func() *mapping.Source {
		w.Read.Add(1)
		return mapping.NewSource(w.Source, "", w.Log)
	}, func() bool { return true })
	if w.Now != nil {
		s.now = w.Now
	}
	return s.run(ctx)
}

// SourceClock is sourceClock.
type SourceClock = sourceClock

// NewSourceClock is one that was read now.
func NewSourceClock(at time.Time) *SourceClock { return &sourceClock{at, time.Now()} }

// Now is now.
func (c *sourceClock) Now() (time.Time, bool) { return c.now() }

// NewTimers are timers without a source.
func NewTimers() *timers { return &timers{} }

// NewStuckTimers are timers of no rules, of which some may be stuck.
func NewStuckTimers() *timers {
	c := &capture{bridge: newBridge(Options{Log: zerolog.Nop()}, &Definitions{}), stage: &stage{timers: make(chan struct{}, 1)}}
	c.bound.Store(&mapping.Ruleset{})
	return &timers{capture: c, stuck: map[string]*stuckRule{}, sticks: make(chan struct{}, 1)}
}

// Stick is stick, Unstick is unstick, and Release release.
func (t *timers) Stick(rule string, err error) { t.stick(rule, err) }
func (t *timers) Unstick(rule string)          { t.unstick(rule) }
func (t *timers) Release()                     { t.release() }

// Trouble is what readiness says of the timers.
func (t *timers) Trouble() error {
	if stuck := t.timersTrouble.Load(); stuck != nil {
		return stuck.err
	}
	return nil
}

// Sequences is sequences.
func (t *timers) Sequences(at time.Time, n int) uint64 { return t.sequences(at, n) }

// ScheduledRows and ScheduledBytes bound a part of a run.
const (
	ScheduledRows  = scheduledRows
	ScheduledBytes = scheduledBytes
)

// Recent is recent, with webhook-ids as Answer makes them.
func (v Verdicts) Recent(rule string, n int) (control.RecentChanges, error) {
	return v.recent(rule, n, testWebhookID)
}

// Described are the metrics that /metrics may show, by their names, with their labels.
func Described() map[string][]string {
	m := newMetrics()
	m.build("", "")
	m.registry.MustRegister(oneSource{})
	all := make(chan *prometheus.Desc)
	go func() {
		m.registry.Describe(all)
		close(all)
	}()
	// A Desc gives its name and labels in its text only.
	text := regexp.MustCompile(`^Desc\{fqName: "([^"]*)", .*, variableLabels: \{([^}]*)\}\}$`)
	described := map[string][]string{}
	for d := range all {
		if m := text.FindStringSubmatch(d.String()); m != nil {
			described[m[1]] = strings.Split(m[2], ",")
		}
	}
	return described
}

// NextDrains is nextDrains.
func NextDrains(drains int, inTime bool) int { return nextDrains(drains, inTime) }

// Traces makes spans of attempts, which end when they are flushed.
type Traces struct {
	traces
	end func()
}

// NewTraces returns traces that go to a collector.
func NewTraces(ctx context.Context, url string) Traces {
	t := newTraces(&Options{Version: "1", Log: zerolog.Nop()}, newMetrics())
	t.Use(tracing.Collector{URL: url, Sample: 1})
	return Traces{t, t.begin(ctx)}
}

// Flush sends what was made.
func (t Traces) Flush() { t.end() }

// Attempt makes the spans of an attempt.
func (t Traces) Attempt(a dispatch.Attempt) { t.attempt(a) }

// Traceparent is the header of a request.
func (t Traces) Traceparent(ms ...*webhook.Message) string { return t.traceparent(ms) }
