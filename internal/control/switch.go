package control

import (
	"context"
	"errors"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

// Activate lets an endpoint be queued for and sent to, also after it was paused
// by itself, and gives its failed events one more attempt at once. It works for
// an endpoint of the file that is active there. Needs Operator.
func (s *Service) Activate(ctx context.Context, a Actor, name string) (EndpointView, error) {
	if err := a.may(state.Operator); err != nil {
		return EndpointView{}, err
	}
	e, err := s.find(ctx, a, name)
	if err != nil {
		return EndpointView{}, err
	}
	switch {
	case e.file == nil:
		stored, err := s.Store.SetEndpointState(ctx, a.Name, name, endpoint.Active)
		if err != nil {
			return EndpointView{}, err
		}
		e.stored = &stored
	case e.file.State != endpoint.Active:
		return EndpointView{}, &ReadOnlyError{Endpoint: name}
	}
	resumed, err := s.Queue.Resume(ctx, name)
	if err != nil {
		return EndpointView{}, err
	}
	// Whoever activates an endpoint says that it is mended: what has failed does
	// not wait for its step, which may be a day away.
	hastened, err := s.Queue.Hasten(ctx, name)
	if err != nil {
		return EndpointView{}, err
	}
	if (resumed || hastened > 0) && e.file != nil && s.Store != nil {
		// The store's own endpoints have theirs from SetEndpointState.
		c := state.Change{Actor: a.Name, Action: "endpoint.activate", Object: "endpoint/" + name}
		if t := e.file.Tenants; len(t) == 1 {
			c.Tenant = t[0]
		}
		if err := s.Store.Record(ctx, c); err != nil {
			return EndpointView{}, err
		}
	}
	return e.view(), nil
}

// Pause keeps an endpoint's events in its queue. Needs Operator.
func (s *Service) Pause(ctx context.Context, a Actor, name string) (EndpointView, error) {
	return s.setState(ctx, a, state.Operator, name, endpoint.Paused)
}

// Deactivate queues nothing more for an endpoint: what is committed from now on
// never reaches it. What is queued stays, and is not sent. Needs Admin.
func (s *Service) Deactivate(ctx context.Context, a Actor, name string) (EndpointView, error) {
	return s.setState(ctx, a, state.Admin, name, endpoint.Inactive)
}

func (s *Service) setState(ctx context.Context, a Actor, needs state.Role, name string, to endpoint.State) (EndpointView, error) {
	if err := a.may(needs); err != nil {
		return EndpointView{}, err
	}
	if _, err := s.findStored(ctx, a, name); err != nil {
		return EndpointView{}, err
	}
	e, err := s.Store.SetEndpointState(ctx, a.Name, name, to)
	if err != nil {
		return EndpointView{}, err
	}
	return storedView(e), nil
}

// Rotation is a new signing key for an endpoint.
type Rotation struct {
	// Secret is the new key; nil: one is made.
	Secret *endpoint.Secret
	// Ed25519 makes the key that is made an ed25519 one.
	Ed25519 bool
	// Overlap is how long the keys before it sign beside it; 0: they stop at once.
	Overlap time.Duration
}

// MaxOverlap bounds Rotation.Overlap.
const MaxOverlap = 90 * 24 * time.Hour

// Rotate gives an endpoint a new signing key. The answer holds the key when it
// was made, this once. Needs Admin.
func (s *Service) Rotate(ctx context.Context, a Actor, name string, r Rotation) (CreatedView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return CreatedView{}, err
	}
	if _, err := s.findStored(ctx, a, name); err != nil {
		return CreatedView{}, err
	}
	if r.Overlap < 0 || r.Overlap > MaxOverlap {
		return CreatedView{}, invalid("/overlap", "write a duration such as 24h, or 0 to stop the old key at once", "the overlap must be from 0 to %d days", MaxOverlap/(24*time.Hour))
	}
	var view CreatedView
	key := r.Secret
	if key == nil {
		made := makeSecret(r.Ed25519)
		key, view.Secret, view.Public = &made, made.Reveal(), made.Public()
	}
	e, err := store.RotateSecret(ctx, a.Name, name, *key, r.Overlap)
	if err != nil {
		return CreatedView{}, err
	}
	view.Endpoint = storedView(e)
	for _, k := range e.Secrets {
		if k.Expires.After(view.Until) {
			view.Until = k.Expires
		}
	}
	return view, nil
}

// Remove deletes an endpoint and its keys. Its queue is kept, unless dropQueue:
// then a bridge deletes it once nothing is routed there any more. With dropQueue
// it also takes an endpoint that is gone, and whose queue was kept. Needs Admin.
func (s *Service) Remove(ctx context.Context, a Actor, name string, dropQueue bool) (RemovedView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return RemovedView{}, err
	}
	view := RemovedView{Name: name, Dropped: dropQueue}
	_, err = s.findStored(ctx, a, name)
	view.Orphaned = errors.Is(err, state.ErrNotFound) && dropQueue && a.Tenant == ""
	var sealed *state.KeyError
	unreadable := errors.As(err, &sealed) && a.Tenant == "" // what can still be done with it
	if err != nil && !view.Orphaned && !unreadable {
		return RemovedView{}, err
	}
	stats, errQueue := s.Queue.Stats(ctx, []string{name})
	if errQueue != nil {
		return RemovedView{}, errQueue
	}
	view.Queued = stats[0].Backlog + stats[0].Replays
	switch {
	case view.Orphaned && view.Queued == 0:
		return RemovedView{}, err
	case view.Orphaned:
		return view, store.DropQueue(ctx, a.Name, name)
	}
	return view, store.RemoveEndpoint(ctx, a.Name, name, dropQueue)
}
