package bridge

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"github.com/rs/zerolog"
	"golang.org/x/sync/errgroup"

	"gancho/cdc"
	"gancho/delivery/dispatch"
	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/doctor"
	"gancho/internal/retry"
	"gancho/internal/servercert"
	"gancho/internal/state"
	"gancho/internal/systemd"
	"gancho/internal/tracing"
	"gancho/mapping"
)

// Definitions are what may change while the bridge runs.
type Definitions struct {
	Rules *mapping.Rules
	// Endpoints are those of the file.
	Endpoints []*endpoint.Endpoint
	// Tracing is where spans go; its zero value: nowhere.
	Tracing tracing.Collector
}

// StateOptions are what the bridge needs of Gancho's own database.
type StateOptions struct {
	DSN     string
	Keyring *state.Keyring
	// KeepEvents is how long events are kept for resends, KeepLog how long the
	// delivery log is; 0: they are not.
	KeepEvents, KeepLog time.Duration
	// KeepChanges keeps beside each event the change that it was made of, encrypted.
	KeepChanges bool
	// KeepAnswers says of which attempts the log has the answer.
	KeepAnswers webhook.Keeps
	// KeepDead is how long dead letters are kept after their last attempt; 0: for ever.
	KeepDead time.Duration
}

// Options are everything the bridge needs to know.
type Options struct {
	Source    cdc.Options
	LookupDSN string // of what rules look up
	// Sources are the databases that are read instead of Source, of which the DSN, the slot
	// and LookupDSN then do not matter; nil: there is one source, as Source says.
	Sources           *Sources
	TransactionMemory int64          // bytes of one transaction that wait in memory for its commit
	Location          *time.Location // of the source's timestamps without time zone
	AcceptSource      bool           // start a new epoch when the source is another one
	// Queue says where Redis is and how far to trust it; its endpoints and its
	// log are the bridge's business.
	Queue queue.Options
	// MaxMemoryPercent is how much of its maxmemory Redis may use before capture waits; 0 or 100:
	// until it refuses.
	MaxMemoryPercent int
	// KeepParked is how long changes stay parked after their commit; 0: for ever.
	KeepParked time.Duration
	Capture    bool // read the source and fill the queues
	Deliver    bool // empty the queues
	Listen     string
	// MetricsListen is where the metrics are, and only there; empty: on Listen.
	// MetricsToken is what they ask for; empty: nothing.
	MetricsListen, MetricsToken string
	// Certificate is the one of Listen and MetricsListen; nil: they speak plain HTTP.
	Certificate *servercert.Certificate
	// Console is the pages for people, on a listener of their own; nil: there are none.
	Console *ConsoleOptions
	// Quotas bound what tenants use. Requests is how many requests to the API of a
	// tenant, or of a token without one, are carried out at once, TotalRequests how many
	// of all; 0: the API's defaults.
	Quotas                  control.Quotas
	Requests, TotalRequests int
	Shutdown                time.Duration // how long requests in flight may take at the end
	// Version is Gancho's, Revision the commit that it was built from.
	Version, Revision string
	// ConfigFile is the path of gancho.yaml, for people.
	ConfigFile string
	Log        zerolog.Logger
	// LagWarning is the WAL held for the slot, in bytes, from which on operators
	// are warned.
	LagWarning int64
	// WALBudget is the WAL held for the slot, in bytes, that the source can bear; 0: there is no
	// budget. DropOverBudget gives the slot up beyond it.
	WALBudget      int64
	DropOverBudget bool
	// State is nil when there is none: then the endpoints are those of the file,
	// dead letters stay in Redis, and there is no log and no API.
	State *StateOptions
	// Mails are who is told of trouble by e-mail; nil: nobody.
	Mails *Mails
	// ConsoleURL is where people reach the console, such as https://webhooks.example.com; empty:
	// what they are told has no link.
	ConsoleURL string
	// Doctor looks at everything that Gancho stands on, for the API; of several sources at all ("") or one. Nil: the API has none.
	Doctor func(ctx context.Context, source string) (doctor.Report, error)
	// Service is the service manager that has started the process; nil: none has. The caller closes it.
	Service *systemd.Notifier
	// Load reads the definitions: once at the start, and at every Reload.
	Load   func() (*Definitions, error)
	Reload <-chan os.Signal
}

// Run runs the bridge until the context ends, then drains it and returns nil.
// Any other return is an error that a person has to act on. Nothing is lost by
// it, and the same command continues where this one stopped. A process that also delivers
// goes on with that while it may not capture, until somebody has acted: see refusal.
func Run(ctx context.Context, o Options) error {
	d, err := o.Load()
	if err != nil {
		return err
	}
	listening, err := o.listen(ctx)
	if err != nil {
		return err
	}
	defer listening.close()
	o.Log.Info().Str("listen", listening.main.Addr().String()).Msg("serving health and metrics")
	if listening.metrics != nil {
		o.Log.Info().Str("metrics_listen", listening.metrics.Addr().String()).Msg("serving metrics apart")
	}
	if listening.console != nil {
		o.Log.Info().Str("console_listen", listening.console.Addr().String()).Msg("serving the console")
	}
	metrics := newMetrics
	if o.Sources != nil {
		metrics = newHouseMetrics
	}
	counts := metrics()
	counts.build(o.Version, o.Revision)
	if o.Sources == nil {
		counts.registry.MustRegister(oneSource{})
	}
	supervised := &supervision{service: o.Service}
	defer supervised.begin(ctx)()
	traces := newTraces(&o, counts)
	traces.Use(d.Tracing)
	defer traces.begin(ctx)()
	var refused *refusal
	for {
		b := newBridge(o, d)
		b.metrics, b.supervised, b.traces = counts, supervised, traces // counters go on
		b.refuse(refused)
		err := b.live(ctx, listening)
		d = b.definitionsNow()
		switch next := new(refusal); {
		case ctx.Err() == nil && errors.As(err, &next) && o.Deliver:
			refused = next
			o.AcceptSource = false // it was meant for the source as it was then
			continue
		case ctx.Err() == nil && errors.Is(err, errSourceMoved):
			refused = nil
			continue
		case ctx.Err() == nil && outrun(err):
			o.Log.Warn().Err(err).Msg("the source or the queue is another than was claimed; capture begins again, and compares them")
			o.AcceptSource = false
			continue
		}
		if err != nil { // for those who collect the log: the command prints it as text
			o.Log.Error().Err(err).Msg("bridge ended")
		}
		return err
	}
}

// live runs the bridge once.
func (b *bridge) live(ctx context.Context, listening listeners) error {
	defer b.close()
	b.supervised.watch(b)
	defer b.supervised.watch(nil)
	group, running := errgroup.WithContext(ctx)
	group.Go(func() error { return b.serve(running, listening) })
	group.Go(func() error {
		err := b.open(running)
		switch {
		case running.Err() != nil:
			return nil //nolint:nilerr // stopped before it had begun
		case err != nil:
			return err
		}
		return b.run(running)
	})
	err := group.Wait()
	if over, ok := errors.AsType[*overBudgetError](err); ok && ctx.Err() == nil {
		return b.giveUp(ctx, over)
	}
	return err
}

// bridge is the running whole, of one source. Of several, each has one in the same house, with a queue of its own; and
// so has the house, for what is no source's.
type bridge struct {
	Options
	*house
	metrics *metrics
	health  *health
	// adopting is held while rules are bound and used, so that older ones do not come last.
	adopting sync.Mutex

	queue      *queue.Queue
	queueDown  error                // why there is none, of one that people ask about
	dispatcher *dispatch.Dispatcher // nil unless this process delivers
	capture    *capture             // nil unless it captures
	refused    *refusal             // why it does not, although it should; nil: it does, or should not
	member     *member              // of which it is; nil: there is one source, or it is the house's
	gauge      *cdc.SlotGauge
	catalog    *cdc.CatalogWatch

	store    *state.Store // nil without a state, as the recorder
	recorder *recorder
	// What the state may have of it, each of capacity 1.
	endpointsChanged, dropsChanged, jobsChanged chan struct{}

	measuring    sync.Mutex // one measurement at a time
	measured     time.Time  // guarded by measuring
	announcing   sync.Mutex // one announcement at a time
	lagAnnounced time.Time  // guarded by announcing
	// When the WAL budget was logged last, and which part of it was passed then, in percent.
	budgetLogged time.Time
	budgetPassed int64
	hazards      hazardWatch
}

func newBridge(o Options, d *Definitions) *bridge {
	captures := o.Capture
	if o.Sources != nil {
		o.Capture = false // its sources do
	}
	b := newHalf(o, newHouse(&o, d))
	b.metrics = newMetrics()
	b.health.waitsFor("the state database")
	b.gauge = cdc.NewSlotGauge(o.Source.DSN, o.Source.Slot)
	if o.Sources != nil {
		b.fleet = newFleet(b, captures)
	}
	return b
}

// newHalf returns a bridge in a house, without metrics and a gauge.
func newHalf(o Options, h *house) *bridge {
	b := &bridge{
		Options: o, house: h, health: &health{delivers: o.Deliver, captures: o.Capture},
		endpointsChanged: make(chan struct{}, 1), dropsChanged: make(chan struct{}, 1), jobsChanged: make(chan struct{}, 1),
	}
	b.hazards = hazardWatch{wake: make(chan struct{}, 1), complaint: complaint{
		log: o.Log, failed: "the hazards of the source cannot be read; statements of the application that fail, or rows that make no events, are not noticed", again: "the hazards of the source are read again",
	}}
	b.catalog = cdc.NewCatalogWatch(o.Source)
	if o.State != nil {
		b.recorder = newRecorder(b)
	}
	return b
}

// open connects to everything and checks it, so that a bridge that starts is
// one that can work.
func (b *bridge) open(ctx context.Context) error {
	err := b.openState(ctx)
	if err != nil {
		return err
	}
	all := b.roster.all()
	b.endpoints.Store(&all)
	b.health.waitsFor("redis")
	if b.queue, err = b.openQueue(ctx); err != nil {
		return err
	}
	b.sender = webhook.NewSender(b.senderOptions())
	if b.Deliver {
		b.dispatcher = dispatch.New(b.queue, b.sender, all, b.dispatcherOptions())
	}
	if b.Capture {
		b.health.waitsFor("the source")
		if b.capture, err = b.openCapture(ctx); err != nil {
			return err
		}
	}
	b.health.waiting.Store(nil)
	return nil
}

// keyring is the state's; nil without one.
func (b *bridge) keyring() *state.Keyring {
	if b.State == nil {
		return nil
	}
	return b.State.Keyring
}

func (b *bridge) senderOptions() webhook.Options {
	o := webhook.Options{
		Version: b.Version, Logger: b.Log, Traceparent: b.traces.traceparent,
		Title: func(event string) string { return b.definitionsNow().Rules.Title(event) },
	}
	if b.State != nil && b.State.KeepLog > 0 {
		o.Keep, o.KeepRequests = b.State.KeepAnswers, b.State.KeepEvents > 0
	}
	return o
}

func (b *bridge) dispatcherOptions() dispatch.Options {
	o := dispatch.Options{Logger: b.Log, DrainTimeout: b.Shutdown, Observe: b.observe, Superseded: b.metrics.supersede, Notify: b.notify}
	if b.fleet != nil {
		o.Governor = b.fleet.governor
	}
	if b.State != nil {
		o.Log = b.State.KeepLog > 0 || b.State.KeepEvents > 0
		o.KeepEvents = b.State.KeepEvents > 0
		o.Observe = func(a dispatch.Attempt) {
			b.observe(a)
			b.recorder.mark(a.Endpoint)
		}
	}
	return o
}

// observe counts and traces an attempt.
func (b *bridge) observe(a dispatch.Attempt) {
	b.metrics.attempt(a)
	b.traces.attempt(a)
}

// close releases what open has opened.
func (b *bridge) close() {
	if b.sender != nil {
		b.sender.Close()
	}
	b.closeSource()
	for _, s := range []*state.Store{b.overflowStore, b.consoleStore, b.tokenStore, b.apiStore, b.jobStore, b.store} {
		if s != nil {
			s.Close()
		}
	}
	b.gauge.Close(context.Background())
}

// closeSource releases what is of a source alone.
func (b *bridge) closeSource() {
	if b.queue != nil {
		_ = b.queue.Close() // everything that matters has been acknowledged by Redis
	}
	b.catalog.Close(context.Background())
}

// run runs the parts until the context ends or one fails.
func (b *bridge) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	drained := make(chan struct{})
	group.Go(func() error { return b.monitor(ctx) })
	group.Go(func() error { return b.watchQuotas(ctx) })
	group.Go(func() error { return b.retain(ctx) })
	if b.Mails != nil {
		group.Go(func() error { return b.sendMails(ctx) })
	}
	if b.Capture {
		group.Go(func() error { return b.watchTrouble(ctx, &warned{}) })
	}
	group.Go(func() error { return b.reload(ctx) })
	if b.fleet != nil {
		group.Go(func() error { return b.fleet.run(ctx) })
	}
	b.runState(ctx, group, drained)
	group.Go(func() error {
		defer close(drained)
		if !b.Deliver {
			return nil
		}
		return b.dispatcher.Run(ctx)
	})
	if b.Capture {
		group.Go(func() error { return b.capture.run(ctx) })
		group.Go(func() error { return b.capture.watchTables(ctx) })
		group.Go(func() error { return b.capture.runTimers(ctx) })
		group.Go(func() error { return b.capture.reads.tend(ctx) })
		group.Go(func() error { return b.watchHazards(ctx) })
	} else if b.refused == nil {
		b.Log.Info().Msg("bridge is ready")
	} else {
		group.Go(func() error { return b.awaitRemedy(ctx) })
	}
	group.Go(func() error {
		<-ctx.Done()
		b.Log.Info().Msg("stopping: requests in flight may finish, a second signal kills")
		return nil
	})
	err := group.Wait()
	if err == nil {
		b.Log.Info().Msg("bridge stopped")
	}
	return err
}

// openQueue waits for Redis as long as it does not answer at all; what it
// answers and cannot be worked with is an error.
func (b *bridge) openQueue(ctx context.Context) (*queue.Queue, error) {
	return waitFor(ctx, b.Log, "redis", func() (*queue.Queue, error) {
		o := b.Queue
		o.Endpoints, o.Logger = b.endpointsNow(), b.Log
		o.Overflow = b.overflow()
		q, err := queue.Open(ctx, o)
		if err == nil && o.Overflow != nil && (b.member == nil || b.member.restored != q.History()) {
			err = q.RestoreOverflow(ctx)
			if err != nil {
				err = errors.Join(err, q.Close())
			}
		}
		if err == nil && b.member != nil {
			b.member.restored = q.History()
		}
		return q, err
	})
}

// overflow is where backlogs of the queue move; nil without a state database.
func (b *bridge) overflow() queue.Overflow {
	if b.State == nil {
		return nil
	}
	return b.overflowed()
}

// overflowed is what has moved from the queue to the state database.
func (b *bridge) overflowed() *state.Overflow {
	if b.member != nil {
		return b.overflowStore.OverflowOf(b.member.Slot)
	}
	return b.overflowStore.Overflow()
}

// patience is how long to wait between two attempts at what needs a server.
var patience = retry.Backoff{Min: 200 * time.Millisecond, Max: 5 * time.Second}

// waitFor calls try until it succeeds or fails for another reason than that the
// server is unreachable, as while a machine starts.
func waitFor[T any](ctx context.Context, log zerolog.Logger, server string, try func() (T, error)) (T, error) {
	var complained time.Time
	return retry.Do(ctx, patience, try, func(err error) bool {
		if !unreachable(err) {
			return false
		}
		if time.Since(complained) >= complainEvery {
			complained = time.Now()
			log.Warn().Err(err).Str("server", server).Msg(waitingFor(err))
		}
		return true
	})
}

// waitingFor says what an error means that may pass.
func waitingFor(err error) string {
	switch cdc.FaultOf(err) {
	case cdc.FaultTimeout:
		return "server took too long or canceled the statement; trying again"
	case cdc.FaultTransient:
		return "server refused in favor of another session; trying again"
	}
	return "server unreachable; waiting for it"
}

// unreachable reports whether a server is unreachable, or does not serve us now:
// one that starts, stops or is out of connections will be there later.
func unreachable(err error) bool {
	return errors.Is(err, queue.ErrUnreachable) || errors.Is(err, state.ErrUnreachable) || cdc.FaultOf(err).Passing()
}
