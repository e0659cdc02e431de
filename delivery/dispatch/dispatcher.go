package dispatch

import (
	"context"
	"reflect"
	"sync"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"

	"github.com/rs/zerolog"
)

// Defaults of DispatcherOptions.
const (
	DefaultLease        = 10 * time.Second
	DefaultDrainTimeout = 20 * time.Second
	DefaultWindowEvents = 1024
	DefaultWindowBytes  = 1 << 20
)

// DispatcherOptions are how a Dispatcher works; zero values are the defaults.
type Options struct {
	// Lease is how long after a process's death its endpoints stay its own. It
	// is renewed at a third of it.
	Lease time.Duration
	// DrainTimeout is how long requests in flight may take when Run ends.
	DrainTimeout time.Duration
	// WindowEvents and WindowBytes bound what is kept in memory of each
	// endpoint's backlog, in flight included, but for one event that may be
	// larger: large events are sent few at a time. The number is at least four
	// times the endpoint's concurrency.
	WindowEvents, WindowBytes int
	// Log puts a record of each attempt into the endpoint's log in Redis
	// (Queue.Log), from where it is to be stored and trimmed. With KeepEvents,
	// the record of an event's last attempt carries the event.
	Log, KeepEvents bool
	// Observe, when not nil, is called after each attempt, by many goroutines.
	Observe func(Attempt)
	// Notify, when not nil, is called with what somebody should know of an
	// endpoint, in order for each endpoint, and again after an error. It may take
	// its time: deliveries do not wait for it. Its context ends with the courier.
	Notify func(context.Context, Notice) error
	Logger zerolog.Logger
}

// Attempt is one attempt to deliver an event.
type Attempt struct {
	Endpoint, Type, ID string
	Outcome            webhook.Outcome
	Attempt            int // from 1; a probe of a dead endpoint does not count up
	// CommitToDelivered is the time from the commit to the answer.
	CommitToDelivered time.Duration
}

// sender makes one attempt, with one message or a list of them: *Sender does.
type sender interface {
	Send(ctx context.Context, ep *endpoint.Endpoint, m *webhook.Message) webhook.Outcome
	SendList(ctx context.Context, ep *endpoint.Endpoint, ms []*webhook.Message) webhook.Outcome
}

// Dispatcher sends the queue's events to those endpoints whose lease this
// process holds. Several processes share the endpoints of one queue.
type Dispatcher struct {
	worker *queue.Worker
	sender sender
	o      Options
	log    zerolog.Logger
	kick   chan struct{}

	mu        sync.RWMutex
	endpoints map[string]*endpoint.Endpoint
	couriers  map[string]*courier  // with a lease, or finishing
	retiring  map[string]bool      // those that are finishing
	unowned   map[string]time.Time // since when nobody was seen to have it
	processes int                  // that were alive at the last look
	unlearned bool                 // a courier could not take over what the last look has told
	running   sync.WaitGroup       // retirements
}

// NewDispatcher returns a dispatcher of the queue's events to the endpoints.
// One dispatcher per Queue may run.
func New(q *queue.Queue, s sender, endpoints []endpoint.Endpoint, o Options) *Dispatcher {
	setDefault(&o.Lease, DefaultLease)
	setDefault(&o.DrainTimeout, DefaultDrainTimeout)
	setDefault(&o.WindowEvents, DefaultWindowEvents)
	setDefault(&o.WindowBytes, DefaultWindowBytes)
	d := &Dispatcher{
		worker: q.Worker(), sender: s, o: o, log: o.Logger, kick: make(chan struct{}, 1),
		endpoints: map[string]*endpoint.Endpoint{}, couriers: map[string]*courier{}, retiring: map[string]bool{}, unowned: map[string]time.Time{},
	}
	d.Update(endpoints)
	return d
}

func setDefault[T ~int | ~int64](v *T, d T) {
	if *v <= 0 {
		*v = d
	}
}

// Run delivers until the context ends. Then it starts nothing new, lets the
// requests in flight finish for up to DrainTimeout, writes down what they came
// to, gives its leases back, and returns nil. While Redis does not answer, it
// waits. Run it once.
func (d *Dispatcher) Run(ctx context.Context) error {
	background := context.WithoutCancel(ctx)
	defer d.worker.Attach(d)()
	var listening sync.WaitGroup
	listening.Go(func() { d.worker.Listen(ctx, d.wake) })
	d.own(ctx, background)
	listening.Wait()

	for _, c := range d.owned() {
		d.retire(background, c, true)
	}
	d.running.Wait()
	bye, cancel := context.WithTimeout(background, leaveTimeout)
	defer cancel()
	if err := d.worker.Leave(bye); err != nil {
		d.log.Warn().Err(err).Msg("other processes learn of the end of this one only when its leases expire")
	}
	return nil
}

// Update takes changed endpoints over, at once.
func (d *Dispatcher) Update(endpoints []endpoint.Endpoint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	next := make(map[string]*endpoint.Endpoint, len(endpoints))
	for i := range endpoints {
		ep := endpoints[i].WithDefaults()
		if ep.Order == endpoint.OrderEndpoint {
			ep.Concurrency = 1
		}
		next[ep.Name] = &ep
		// A Sender knows endpoints by their address.
		if old := d.endpoints[ep.Name]; old != nil && reflect.DeepEqual(*old, ep) {
			next[ep.Name] = old
		}
	}
	d.endpoints = next
	for name, c := range d.couriers {
		if ep := next[name]; ep != nil && !d.retiring[name] {
			c.update(ep)
		}
	}
	d.look()
}

// wake has the endpoint's new events read; no endpoint: looks at everything.
func (d *Dispatcher) wake(endpoint string, side bool) {
	if endpoint == queue.WakeAll {
		d.look()
	} else if c := d.courier(endpoint); c != nil {
		c.wake(side)
	}
}

// look makes the owner look at everything now.
func (d *Dispatcher) look() {
	select {
	case d.kick <- struct{}{}:
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
	return c != nil && c.holds()
}

// Offer hands over what this process has appended to an endpoint's stream.
func (d *Dispatcher) Offer(a *queue.Appended) {
	if c := d.courier(a.Endpoint); c != nil {
		c.offer(a)
	}
}

// Owned are the endpoints that this process delivers to, by name.
func (d *Dispatcher) Owned() []string {
	couriers := d.owned()
	names := make([]string, len(couriers))
	for i, c := range couriers {
		names[i] = c.name
	}
	return names
}
