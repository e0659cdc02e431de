package control

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"time"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// Activate queues for an endpoint and sends to it again, also after it was
// suspended automatically, and gives its failed events one more attempt
// immediately. It works for an endpoint of the file that is active there. Needs
// Operator.
func (s *Service) Activate(ctx context.Context, a Actor, name string) (EndpointView, error) {
	e, err := s.findFor(ctx, a, state.Operator, name)
	if err != nil {
		return EndpointView{}, err
	}
	switch {
	case e.file == nil:
		if e.Endpoint, err = s.Store.SetEndpointState(ctx, a.Name, name, endpoint.Active); err != nil {
			return EndpointView{}, err
		}
	case e.State != endpoint.Active:
		return EndpointView{}, &ReadOnlyError{Endpoint: name}
	}
	// Who activates an endpoint says that it is fixed: failed events do not wait
	// for the next step of their schedule, which may be a day away.
	resumed, hastened, err := s.resume(ctx, name)
	if err != nil {
		return EndpointView{}, err
	}
	if (resumed || hastened > 0) && e.file != nil && s.Store != nil {
		// For the store's endpoints SetEndpointState writes the entry.
		c := state.Change{Actor: a.Name, Action: "endpoint.activate", Object: "endpoint/" + name}
		if len(e.Tenants) == 1 {
			c.Tenant = e.Tenants[0]
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

// Deactivate queues nothing more for an endpoint: events committed from now on
// never reach it. Queued events stay, and are not sent. Needs Admin.
func (s *Service) Deactivate(ctx context.Context, a Actor, name string) (EndpointView, error) {
	return s.setState(ctx, a, state.Admin, name, endpoint.Inactive)
}

func (s *Service) setState(ctx context.Context, a Actor, needs state.Role, name string, to endpoint.State) (EndpointView, error) {
	if _, err := s.findStored(ctx, a, needs, name); err != nil {
		return EndpointView{}, err
	}
	return viewOf(s.Store.SetEndpointState(ctx, a.Name, name, to))
}

// Rotation is a new signing key for an endpoint.
type Rotation struct {
	// Secret is the new key; nil: one is generated, an ed25519 one when Ed25519 is
	// set.
	Secret  *endpoint.Secret
	Ed25519 bool
	// Overlap is how long the keys before it sign beside it, up to MaxOverlap; 0:
	// they stop immediately.
	Overlap time.Duration
}

// Rotate gives an endpoint a new signing key. The answer has the key when it was
// generated or given as a text, this once. Needs Admin.
func (s *Service) Rotate(ctx context.Context, a Actor, name string, r Rotation) (CreatedView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return CreatedView{}, err
	}
	before, err := s.findStored(ctx, a, state.Admin, name)
	if err != nil {
		return CreatedView{}, err
	}
	if r.Overlap < 0 || r.Overlap > MaxOverlap {
		return CreatedView{}, invalid("/overlap", "write a duration such as 24h, or 0 to stop the old key immediately", "the overlap must be from 0 to %d days", MaxOverlap/(24*time.Hour))
	}
	var view CreatedView
	key := r.Secret
	if key == nil {
		key = new(view.generate(r.Ed25519))
	} else if key.IsText() {
		view.show(*key)
	}
	if ep, err := s.delivered(found{Endpoint: before}); err == nil { // what cannot be read signs nothing
		if m := ep.CheckSecrets([]endpoint.Secret{*key}); m != nil {
			return CreatedView{}, invalid("/secret", m.Hint, "%s", m.Message)
		}
	}
	e, err := store.RotateSecret(ctx, a.Name, name, *key, r.Overlap)
	if errors.Is(err, state.ErrLimit) {
		err = tooManyKeys(before.Secrets)
	}
	if err != nil {
		return CreatedView{}, err
	}
	view.Endpoint = found{Endpoint: e}.view()
	for _, k := range e.Secrets {
		if k.Expires.After(view.Until) {
			view.Until = k.Expires
		}
	}
	return view, nil
}

// tooManyKeys refuses a key beside these, instead of stopping the oldest: receivers that still
// verify with that would refuse everything.
func tooManyKeys(keys []state.Secret) error {
	hint := "write 0, which stops the others immediately"
	var next time.Time
	for _, k := range keys {
		if !k.Expires.IsZero() && (next.IsZero() || k.Expires.Before(next)) {
			next = k.Expires
		}
	}
	if !next.IsZero() {
		hint = fmt.Sprintf("wait until one of them stops (the next at %s), or %s", next.Format(time.RFC3339), hint)
	}
	return invalid("/overlap", hint, "with the new key %d would sign, and at most %d may", len(keys)+1, endpoint.MaxKeys)
}

// Remove deletes an endpoint and its keys. Its queue is kept, unless dropQueue:
// then a bridge deletes it once no event is routed there any more. dropQueue also
// deletes the queue of an endpoint that was removed before. Needs Admin.
func (s *Service) Remove(ctx context.Context, a Actor, name string, dropQueue bool) (RemovedView, error) {
	store, err := s.stored(a, state.Admin)
	if err != nil {
		return RemovedView{}, err
	}
	view := RemovedView{Name: name, Dropped: dropQueue}
	_, err = s.findStored(ctx, a, state.Admin, name)
	view.Orphaned = errors.Is(err, state.ErrNotFound) && dropQueue && a.Tenant == ""
	unreadable := isSealed(err) && a.Tenant == "" // it can still be removed
	if err != nil && !view.Orphaned && !unreadable {
		return RemovedView{}, err
	}
	stats, errQueue := s.queueStats(ctx, []string{name})
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

// Tested is the action in the audit log of a test that was delivered.
const Tested = "endpoint.test"

// PingType is the type of the event that a test sends.
const PingType = "ping"

// Test sends a signed event of type ping to an endpoint, whatever its state,
// and returns the request and the answer; when that was delivered, with what the receiver said to the same
// event signed with another key, and sent to a path beside it. The queue is not touched; of a test that was delivered it is
// stored that the actor has tested it (audit log), and what the receiver said to wrong requests. Needs Operator.
func (s *Service) Test(ctx context.Context, a Actor, name string) (webhook.Exchange, error) {
	found, err := s.findFor(ctx, a, state.Operator, name)
	if err != nil {
		return webhook.Exchange{}, err
	}
	e, err := s.delivered(found)
	if err != nil {
		return webhook.Exchange{}, err
	}
	if e, err = s.withFields(ctx, e); err != nil {
		return webhook.Exchange{}, err
	}
	x := s.Sender.Probe(ctx, &e, ping(name, a.Tenant, time.Now().UTC()))
	if x.Outcome == webhook.Delivered.String() {
		x.Wrong = s.Sender.ProbeWrong(ctx, &e, ping(name, a.Tenant, time.Now().UTC()), &x)
	}
	if s.Store != nil && x.Outcome == webhook.Delivered.String() {
		if err := s.Store.RecordRead(ctx, state.Change{Actor: a.Name, Tenant: a.Tenant, Action: Tested, Object: "endpoint/" + name}); err != nil {
			return webhook.Exchange{}, err
		}
		if err := s.Store.SaveTest(ctx, name, found.Public, x.Wrong); err != nil {
			return webhook.Exchange{}, err
		}
	}
	if a.Tenant != "" {
		shown, err := s.shown(ctx, a)
		if err != nil {
			return webhook.Exchange{}, err
		}
		shown(name, x.Class, &x.Error, new(string))
		if x.Proxy = ""; e.Proxy != "" || len(e.AllowPrivate) > 0 {
			x.Address = "" // in the operator's network
		}
	}
	return x, nil
}

// ping is an event of no rule. Each has an id of its own, so that a receiver that
// drops duplicates accepts every one.
func ping(endpoint, tenant string, now time.Time) *webhook.Message {
	id := make([]byte, 12)
	_, _ = rand.Read(id) // never fails
	data, _ := json.Marshal(map[string]string{"endpoint": endpoint, "message": "a test of gancho; nothing has happened"})
	return &webhook.Message{
		ID: "ping_" + hex.EncodeToString(id), Type: PingType, Tenant: tenant, Time: now, Sequence: strconv.FormatInt(now.UnixMicro(), 10), Data: data,
	}
}
