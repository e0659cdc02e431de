package dispatch

import (
	"cmp"
	"context"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"

	"github.com/rs/zerolog"
)

// Defaults of Options.
const (
	DefaultLease        = 10 * time.Second
	DefaultDrainTimeout = 20 * time.Second
	DefaultWindowEvents = 1024
	DefaultWindowBytes  = 1 << 20
)

// Options are how a Dispatcher works; zero values are the defaults.
type Options struct {
	// Lease, renewed at a third of it, is how long endpoints stay a dead process's own: at most queue.LeaseMost.
	Lease time.Duration
	// DrainTimeout is how long requests in flight may take at shutdown.
	DrainTimeout time.Duration
	// WindowEvents, at least four times the endpoint's concurrency, and
	// WindowBytes bound what is in memory of its backlog, events in flight
	// included; one event may be larger: large events are sent few at a time.
	WindowEvents, WindowBytes int
	// Log records each attempt in Redis (Queue.Log), from where it is to be stored and
	// trimmed; with KeepEvents, the last attempt's record contains the event.
	Log, KeepEvents bool
	// Observe, when not nil, is called after each attempt, by many goroutines.
	Observe func(Attempt)
	// Superseded, when not nil, is called for each event of an endpoint that is superseded (endpoint.Endpoint.Compact), by
	// many goroutines, and must not wait.
	Superseded func(endpoint string)
	// Notify, when not nil, is called with what somebody should know of an
	// endpoint, in order for each endpoint, and again after an error. Deliveries
	// do not wait for it. Its context ends when the endpoint's lease is given back.
	Notify func(context.Context, Notice) error
	// Governor, when not nil, keeps the endpoints' concurrency and rate together with other dispatchers.
	Governor *Governor
	Logger   zerolog.Logger
}

// Attempt is one attempt to deliver an event: what was sent, and its outcome.
type Attempt struct {
	Endpoint string
	Message  *webhook.Message // not to be changed
	Outcome  webhook.Outcome
	Number   int       // from 1; a probe has the number of the attempt that follows
	Ended    time.Time // when the outcome was known
	// First is when the event's first attempt has failed; zero: no attempt before this one has.
	First time.Time
	Dead  bool // the event is a dead letter now
	List  int  // how many events the request had; 1 is also a single event's
}

// CommitToDelivered is the time from the commit to the outcome.
func (a *Attempt) CommitToDelivered() time.Duration { return a.Ended.Sub(a.Message.Time) }

// sender makes one request, with one message or a list: *webhook.Sender does.
// Redial has the endpoint's next request make a new connection.
type sender interface {
	Send(ctx context.Context, ep *endpoint.Endpoint, m *webhook.Message) webhook.Outcome
	SendList(ctx context.Context, ep *endpoint.Endpoint, ms []*webhook.Message) webhook.Outcome
	Redial(ep *endpoint.Endpoint)
}

// Dispatcher delivers the queue's events to the endpoints whose leases this
// process has, which processes share. Its methods may be called concurrently.
type Dispatcher struct {
	means
	worker *queue.Worker
	rescan chan struct{} // has the leases renewed and balanced now

	updating sync.Mutex // one Update at a time

	mu        sync.RWMutex
	endpoints map[string]*endpoint.Endpoint // replaced as a whole, with updating held
	couriers  map[string]*courier           // with a lease, or finishing
	retiring  map[string]bool               // those that are finishing
	left      []string                      // see Left
	inactive  map[string]time.Time          // endpoints that are acquired until then for their events to be moved

	// Of the goroutine in own.
	unowned   map[string]time.Time // since when no process was seen to have it
	processes int                  // that were alive at the last rescan
	outdated  bool                 // a courier could not adopt what the last renewal has returned
	running   sync.WaitGroup       // retirements
	releasing atomic.Int64         // leases that are being given back now
}

// New returns a dispatcher to the endpoints, which are not to be changed any more, and of which one may run per Queue.
func New(q *queue.Queue, s sender, endpoints []*endpoint.Endpoint, o Options) *Dispatcher {
	o.Lease = min(cmp.Or(max(o.Lease, 0), DefaultLease), queue.LeaseMost)
	o.DrainTimeout = cmp.Or(max(o.DrainTimeout, 0), DefaultDrainTimeout)
	o.WindowEvents = cmp.Or(max(o.WindowEvents, 0), DefaultWindowEvents)
	o.WindowBytes = cmp.Or(max(o.WindowBytes, 0), DefaultWindowBytes)
	d := &Dispatcher{
		means:  means{sender: s, o: o, log: o.Logger, classes: newClasses(), restAfter: restAfter},
		worker: q.Worker(), rescan: make(chan struct{}, 1),
		endpoints: map[string]*endpoint.Endpoint{}, couriers: map[string]*courier{}, retiring: map[string]bool{}, inactive: map[string]time.Time{}, unowned: map[string]time.Time{},
	}
	d.memory, d.gate = o.Governor.shared()
	d.Update(endpoints)
	return d
}

// Run delivers until the context ends. Then it starts nothing new, lets requests
// in flight finish for up to DrainTimeout, acknowledges their events, gives its
// leases back, and returns nil. While Redis is unreachable, it waits. Run it once.
func (d *Dispatcher) Run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	d.cancelable = func() (context.Context, context.CancelFunc) { return context.WithCancel(background) }
	defer d.worker.Attach(d)()
	var listening sync.WaitGroup
	listening.Go(func() { d.worker.Listen(ctx, d.wake, d.Overflow) })
	d.own(ctx, background)
	listening.Wait()

	for _, c := range d.owned() {
		d.retire(background, c, true)
	}
	d.running.Wait()
	bye, cancel := context.WithTimeout(background, leaveTimeout)
	defer cancel()
	if err := d.worker.Leave(bye); err != nil {
		d.log.Warn().Err(err).Msg("process not unregistered: the others get its endpoints when the leases expire")
	}
	return nil
}

// Update adopts changed endpoints immediately. Deliveries go on meanwhile: which of thousands are others is found out
// without a lock that they need.
func (d *Dispatcher) Update(endpoints []*endpoint.Endpoint) {
	d.updating.Lock()
	defer d.updating.Unlock()
	next := make(map[string]*endpoint.Endpoint, len(endpoints))
	for _, ep := range endpoints {
		ep = ep.Completed()
		next[ep.Name] = ep
		// A sender knows endpoints by their address.
		if old := d.endpoints[ep.Name]; old != nil && old.Equal(ep) {
			next[ep.Name] = old
		}
	}
	for _, c := range d.adopt(next) {
		c.update(next[c.name])
	}
	d.rescanLeases()
}

// adopt replaces the endpoints, and returns the couriers of those that are still there.
func (d *Dispatcher) adopt(next map[string]*endpoint.Endpoint) (known []*courier) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.endpoints = next
	maps.DeleteFunc(d.inactive, func(name string, _ time.Time) bool {
		return next[name] == nil || next[name].State != endpoint.Inactive
	})
	for name, c := range d.couriers {
		if next[name] != nil && !d.retiring[name] {
			known = append(known, c)
		}
	}
	return known
}

// wake has the endpoint's new events read, or all leases renewed and balanced.
func (d *Dispatcher) wake(endpoint string, side bool) {
	if endpoint == queue.WakeAll {
		d.rescanLeases()
	} else if c := d.courier(endpoint); c != nil {
		c.wake(side)
	}
}

func (d *Dispatcher) rescanLeases() {
	select {
	case d.rescan <- struct{}{}:
	default:
	}
}

func (d *Dispatcher) courier(name string) *courier {
	d.mu.RLock()
	defer d.mu.RUnlock()
	return d.couriers[name]
}

// Owns reports whether this process delivers to the endpoint.
func (d *Dispatcher) Owns(endpoint string) bool {
	c := d.courier(endpoint)
	return c != nil && c.owns()
}

// Offer admits what this process has appended to an endpoint's stream.
func (d *Dispatcher) Offer(a *queue.Appended) {
	if c := d.courier(a.Endpoint); c != nil {
		c.offer(a)
	}
}

// Owned returns the names of the endpoints that this process delivers to, sorted.
func (d *Dispatcher) Owned() []string {
	couriers := d.owned()
	names := make([]string, len(couriers))
	for i, c := range couriers {
		names[i] = c.name
	}
	return names
}
