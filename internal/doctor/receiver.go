package doctor

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"time"

	"gancho/cdc"
	"gancho/delivery/endpoint"
	"gancho/internal/state"
)

const (
	// reachTimeout bounds the connection to a receiver; reachAtOnce are made at once.
	reachTimeout = 5 * time.Second
	reachAtOnce  = 16
	// certificateWarning and certificateProblem are what is left of a certificate's life.
	// Who renews automatically does so with more than two weeks left.
	certificateWarning = 14 * 24 * time.Hour
	certificateProblem = 3 * 24 * time.Hour
)

// state looks at the state database, and returns its endpoints.
func (x *examination) state(ctx context.Context) []*endpoint.Endpoint {
	if x.State == nil {
		x.skip("state.reachable", "state", "there is no state.key, and so no state database")
		return nil
	}
	asking, cancel := context.WithTimeout(ctx, 2*connectTimeout)
	defer cancel()
	store, err := x.State(asking)
	if err != nil {
		f := cdc.Finding{ID: "state.reachable", Severity: cdc.SeverityProblem, Where: "state", Title: oneLine(err), Why: "stored endpoints are not known; dead letters and the log wait", Remedy: "check state.dsn (source.dsn without it), and that its server runs"}
		if errors.Is(err, state.ErrSchema) {
			f.ID, f.Remedy = "state.schema", "run gancho migrate, or gancho run --create"
		}
		x.add(f)
		return nil
	}
	defer store.Close()
	x.say(cdc.SeverityOK, "state.reachable", "state", "the state database answers, and its schema is up to date")
	rows, err := store.EndpointsOf(asking, "")
	if err != nil && rows == nil {
		x.add(cdc.Finding{ID: "state.reachable", Severity: cdc.SeverityProblem, Where: "state", Title: oneLine(err), Why: "stored endpoints are not known"})
		return nil
	}
	return x.stored(rows)
}

// stored are the endpoints of rows that can be read.
func (x *examination) stored(rows []state.Endpoint) []*endpoint.Endpoint {
	var out []*endpoint.Endpoint
	sealed := false
	for i := range rows {
		row := &rows[i]
		if slices.ContainsFunc(x.Endpoints, func(e *endpoint.Endpoint) bool { return e.Name == row.Name }) {
			continue // the file's is delivered to
		}
		var ep endpoint.Endpoint
		var err error
		if row.Sealed != nil {
			err = row.Sealed
		} else if ep, err = endpoint.Parse(row.Name, row.Document); err == nil {
			ep.State = row.State
			for _, s := range row.Secrets {
				ep.Secrets = append(ep.Secrets, s.Secret)
			}
			out = append(out, &ep)
			continue
		}
		sealed = true
		x.add(cdc.Finding{
			ID: "state.key", Severity: cdc.SeverityProblem, Where: "endpoint " + row.Name, Title: "its stored settings cannot be read: " + oneLine(err),
			Why: "its events are queued and not sent", Remedy: "put the key that has encrypted them back into state.key, or add the endpoint again",
		})
	}
	if !sealed {
		x.say(cdc.SeverityOK, "state.key", "state", "state.key reads all %d stored endpoints", len(rows))
	}
	return out
}

// receivers connects to the receivers of all endpoints.
func (x *examination) receivers(ctx context.Context, stored []*endpoint.Endpoint) {
	all := slices.Concat(x.Endpoints, stored)
	if x.Sender == nil || len(all) == 0 {
		x.skip("endpoint.reachable", "endpoints", "there are no endpoints")
		return
	}
	slots := make(chan struct{}, reachAtOnce)
	var each sync.WaitGroup
	for _, ep := range all {
		if ep.State == endpoint.Inactive {
			x.skip("endpoint.reachable", "endpoint "+ep.Name, "it is inactive")
			continue
		}
		slots <- struct{}{}
		each.Go(func() {
			defer func() { <-slots }()
			x.receiver(ctx, ep)
		})
	}
	each.Wait()
}

func (x *examination) receiver(ctx context.Context, ep *endpoint.Endpoint) {
	where := "endpoint " + ep.Name
	limited, cancel := context.WithTimeout(ctx, reachTimeout)
	defer cancel()
	r, err := x.Sender.Reach(limited, ep)
	if r.Pair != nil {
		x.lasts("endpoint.client_certificate", where, "its client certificate", "", r.Pair.NotAfter, noDeliveries)
	}
	if err != nil {
		if ctx.Err() != nil {
			x.skip("endpoint.reachable", where, "there was no time left for it")
			return
		}
		x.add(cdc.Finding{
			ID: "endpoint.reachable", Severity: cdc.SeverityProblem, Where: where, Title: "its receiver cannot be reached: " + oneLine(err),
			Why: "its events wait in the queue and are retried", Remedy: "see gancho endpoints show " + ep.Name + ", and try gancho endpoints test " + ep.Name,
		})
		return
	}
	how := cmp.Or(r.TLS, "without TLS")
	if r.Proxy != "" {
		how += ", through the proxy " + r.Proxy
	}
	x.say(cdc.SeverityOK, "endpoint.reachable", where, "its receiver answers at %s (%s)", r.Address, how)
	if at, subject := r.Expires(); !at.IsZero() {
		x.lasts("endpoint.certificate", where, "a certificate of its receiver", subject, at, noDeliveries)
	}
}

// noDeliveries is what comes of a certificate that has expired at a receiver.
const noDeliveries = "deliveries fail from then on"

// lasts says how long a certificate is still valid, and what happens then.
func (x *examination) lasts(id, where, what, subject string, until time.Time, then string) {
	left := time.Until(until)
	f := cdc.Finding{ID: id, Severity: cdc.SeverityOK, Where: where}
	name := strings.TrimSpace(what + " " + subject)
	f.Title = fmt.Sprintf("%s expires in %s (%s)", name, span(left), until.UTC().Format(time.DateOnly))
	switch {
	case left < 0:
		f.Severity, f.Title = cdc.SeverityProblem, fmt.Sprintf("%s has expired on %s", name, until.UTC().Format(time.DateOnly))
	case left < certificateProblem:
		f.Severity = cdc.SeverityProblem
	case left < certificateWarning:
		f.Severity = cdc.SeverityWarning
	}
	if f.Severity != cdc.SeverityOK {
		f.Why, f.Remedy = then, "have it renewed"
	}
	x.add(f)
}
