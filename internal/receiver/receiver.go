package receiver

import (
	"cmp"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"sync"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/retry"
)

const (
	defaultRemember = 100_000
	defaultMaxBody  = 64 << 20
)

// ErrNotChecked is Delivery.Verified where the receiver has no secret.
var ErrNotChecked = errors.New("signature not checked: no secret given")

// Options are how the receiver behaves. The zero value accepts everything.
type Options struct {
	// Secrets verify signatures; a request that none verifies is answered 401.
	// None: nothing is verified.
	Secrets []endpoint.Secret
	// Status is the answer to what would be accepted; 0: 200.
	Status int
	// Answer is the body of the answers with that status. What the sender's
	// success rule wants to see, such as {"status":200}.
	Answer string
	// FailRate is the share of requests, from 0 to 1, answered 500 instead.
	FailRate float64
	// Delay is how long each answer takes.
	Delay time.Duration
	// Remember is how many ids and rows are remembered at least; 0: 100,000.
	Remember int
	// MaxBody is the largest body read, in bytes; 0: 64 MiB.
	MaxBody int64
	// Handle gets each event as it arrives, before the answer, one at a
	// time. May be nil. The delivery is the callee's.
	Handle func(Delivery)
}

// Delivery is one event that arrived.
type Delivery struct {
	ID string // webhook-id, or the event's own in a list
	// List is how many events the request has a list of; 0: it has none.
	List int
	// Type, Tenant, Sequence and Timestamp (of the commit) are known in all
	// formats but bare.
	Type, Tenant, Sequence string
	Timestamp              time.Time
	// Body is the request's, or the event's part of a list.
	Body []byte
	// Data is the event's data in JSON: of format form made into it, and all of
	// Body, whatever that is, in format bare.
	Data []byte
	// Verified is nil when a secret verified the signature.
	Verified error
	// Replay: it says that it is sent again on somebody's word.
	Replay bool
	// Attempt counts the arrivals of this id, from 1.
	Attempt int
	// Duplicate: the id had been accepted before. A repeat after a failure is none.
	Duplicate bool
	// OutOfOrder: on its first arrival, the event was older than one that had
	// been accepted for the same row, and is no replay. A row is known by its tenant, the type up to
	// its last dot and data.id; without data.id nothing is noticed.
	OutOfOrder bool
	// Status is the answer.
	Status  int
	Arrived time.Time
	// CommitToArrival is 0 where the commit's time is not known. It compares
	// two machines' clocks.
	CommitToArrival time.Duration
}

// Accepted reports whether the answer is 2xx.
func (d *Delivery) Accepted() bool { return d.Status/100 == 2 }

// Receiver is the handler. Safe for concurrent use.
type Receiver struct {
	options Options

	mu       sync.Mutex
	arrivals *recent[arrival] // by id
	newest   *recent[string]  // sequence by row
	summary  Summary
}

// arrival is what is remembered of an id.
type arrival struct {
	attempts int
	accepted bool
}

// New returns a receiver.
func New(o Options) *Receiver {
	o.Status = cmp.Or(o.Status, http.StatusOK)
	o.Remember = cmp.Or(max(o.Remember, 0), defaultRemember)
	o.MaxBody = cmp.Or(max(o.MaxBody, 0), defaultMaxBody)
	return &Receiver{options: o, arrivals: newRecent[arrival](o.Remember), newest: newRecent[string](o.Remember)}
}

// Summary returns the counts so far.
func (r *Receiver) Summary() Summary {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.summary
}

// ServeHTTP takes one webhook on any path; GET /healthz says that it would.
func (r *Receiver) ServeHTTP(w http.ResponseWriter, req *http.Request) {
	arrived := time.Now()
	if req.Method == http.MethodGet && req.URL.Path == "/healthz" { // of the bridge, too: gancho health --live
		_, _ = io.WriteString(w, "ok\n") // the client hung up
		return
	}
	if req.Method != http.MethodPost {
		w.Header().Set("Allow", http.MethodPost)
		http.Error(w, "this is a receiver of webhooks: POST one", http.StatusMethodNotAllowed)
		return
	}
	body, err := io.ReadAll(http.MaxBytesReader(w, req.Body, r.options.MaxBody))
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			http.Error(w, fmt.Sprintf("the body has more than %d bytes", large.Limit), http.StatusRequestEntityTooLarge)
		}
		return // otherwise the sender has disconnected
	}
	verified := ErrNotChecked
	if len(r.options.Secrets) > 0 {
		verified = webhook.Verify(r.options.Secrets, req.Header, body, arrived)
	}
	status, events := r.status(verified), read(req.Header, body, arrived)
	for i := range events {
		events[i].Verified, events[i].Status = verified, status
		events[i].Replay = req.Header.Get("webhook-replay") == "true"
		r.arrive(&events[i])
	}
	if r.options.Delay > 0 && retry.Wait(req.Context(), r.options.Delay) != nil {
		return // the sender has disconnected: this is not accepted
	}
	for i := range events {
		if events[i].Accepted() {
			r.accept(&events[i])
		}
	}
	w.WriteHeader(status)
	if status == r.options.Status {
		_, _ = io.WriteString(w, r.options.Answer) // fails where the status has no body, or the sender has disconnected
	}
}

func (r *Receiver) status(verified error) int {
	switch {
	case verified != nil && !errors.Is(verified, ErrNotChecked):
		return http.StatusUnauthorized
	case r.options.FailRate > 0 && rand.Float64() < r.options.FailRate:
		return http.StatusInternalServerError
	}
	return r.options.Status
}

// arrive fills in what only the memory knows, counts, and hands on.
func (r *Receiver) arrive(d *event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	d.Attempt = 1
	// Only what is verified, or cannot be, is remembered: others must not be
	// able to make a genuine event look like a repeat.
	if d.ID != "" && d.Status != http.StatusUnauthorized {
		seen, _ := r.arrivals.get(d.ID)
		d.Attempt, d.Duplicate = seen.attempts+1, seen.accepted
		seen.attempts++
		r.arrivals.put(d.ID, seen)
		if last, ok := r.newest.get(d.row); ok && d.row != "" && d.Attempt == 1 && !d.Replay {
			d.OutOfOrder = d.Sequence < last
		}
	}
	r.summary.add(&d.Delivery)
	if r.options.Handle != nil {
		r.options.Handle(d.Delivery)
	}
}

func (r *Receiver) accept(d *event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if d.ID != "" {
		seen, _ := r.arrivals.get(d.ID)
		seen.accepted = true
		r.arrivals.put(d.ID, seen)
	}
	if last, ok := r.newest.get(d.row); d.row != "" && (!ok || last < d.Sequence) {
		r.newest.put(d.row, d.Sequence)
	}
}

// recent is a map that remembers at least the last n keys put, and at most
// twice as many: when one generation is full, the one before it is dropped.
type recent[V any] struct {
	n             int
	young, former map[string]V
}

func newRecent[V any](n int) *recent[V] {
	return &recent[V]{n: n, young: map[string]V{}}
}

func (r *recent[V]) get(key string) (V, bool) {
	if v, ok := r.young[key]; ok {
		return v, true
	}
	v, ok := r.former[key]
	return v, ok
}

func (r *recent[V]) put(key string, v V) {
	if _, ok := r.young[key]; !ok && len(r.young) >= r.n {
		r.former, r.young = r.young, make(map[string]V, r.n)
	}
	r.young[key] = v
}
