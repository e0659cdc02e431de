package api

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"gancho/internal/control"
)

const (
	// waitersPerSlot is how many requests may wait for each that is in flight, slotTime
	// how long they do.
	waitersPerSlot = 4
	slotTime       = 10 * time.Second
)

// flights limits the requests in flight: of each tenant, whatever number of tokens it
// makes, of each token without a tenant, and of all together. A request too many waits a
// little: clients make several at once, and each of them is short.
type flights struct {
	what     string // they are, for people
	each     int
	total    chan struct{}
	patience time.Duration // of a request that waits

	mu sync.Mutex
	of map[string]*flight // guarded by mu; those that have requests
}

// flight are the requests of one tenant or token.
type flight struct {
	slots    chan struct{}
	requests int // in flight and waiting; guarded by flights.mu
}

func newFlights(what string, each, total int) *flights {
	return &flights{what: what, each: each, total: make(chan struct{}, total), patience: slotTime, of: map[string]*flight{}}
}

// owner is whose requests count together.
func owner(a control.Actor) string {
	if a.Tenant != "" {
		return "tenant " + a.Tenant
	}
	return a.Name
}

// enter waits until one of its owner's slots is free for a request, which keeps it until
// its answer is written. The error is a *problem.
func (f *flights) enter(ctx context.Context, whose string) (leave func(), err error) {
	own, ok := f.join(whose)
	if !ok {
		return nil, f.tooManyOf(whose)
	}
	if err := f.take(ctx, own.slots, f.tooManyOf(whose)); err != nil {
		f.part(whose, own)
		return nil, err
	}
	return func() {
		<-own.slots
		f.part(whose, own)
	}, nil
}

// begin waits until a request that has entered may be carried out, which takes one of the
// slots of all: neither its body nor its answer, which clients may send and read as slowly
// as they like, is transferred meanwhile. The error is a *problem.
func (f *flights) begin(ctx context.Context) (end func(), err error) {
	if err := f.take(ctx, f.total, f.tooMany()); err != nil {
		return nil, err
	}
	return func() { <-f.total }, nil
}

// take waits for one of the slots, or else returns the problem of who has waited too long.
func (f *flights) take(ctx context.Context, slots chan<- struct{}, late *problem) error {
	select {
	case slots <- struct{}{}:
		return nil
	default:
	}
	timer := time.NewTimer(f.patience)
	defer timer.Stop()
	select {
	case slots <- struct{}{}:
		return nil
	case <-timer.C:
		return late
	case <-ctx.Done():
		return ctx.Err()
	}
}

// join counts a request; it is refused when too many wait.
func (f *flights) join(whose string) (*flight, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	own, ok := f.of[whose]
	if !ok {
		own = &flight{slots: make(chan struct{}, f.each)}
		f.of[whose] = own
	}
	if own.requests >= f.each*(1+waitersPerSlot) {
		return nil, false
	}
	own.requests++
	return own, true
}

func (f *flights) part(whose string, own *flight) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if own.requests--; own.requests == 0 {
		delete(f.of, whose)
	}
}

// isBusy reports whether an error is of busy.
func isBusy(err error) bool {
	p, ok := errors.AsType[*problem](err)
	return ok && p.kind == kindBusy
}

func (f *flights) tooManyOf(whose string) *problem {
	return busy(fmt.Sprintf("Too many %s of %s are in flight: at most %d at once, and a few more wait. Wait for their answers.", f.what, whose, f.each))
}

func (f *flights) tooMany() *problem {
	return busy(fmt.Sprintf("Others' %s are in flight: at most %d of all together at once, and none has ended in time. Try again later.", f.what, cap(f.total)))
}

func busy(detail string) *problem {
	return &problem{kind: kindBusy, Detail: detail, header: http.Header{"Retry-After": {"1"}}}
}
