package demo

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/receiver"
)

// receivers is the HTTP server that the demo's endpoints post to, a path each.
type receivers struct {
	server   *http.Server
	listener net.Listener
	arrivals map[string]*arrivals // by endpoint
	done     chan error           // what Serve returned
}

// newReceivers starts to listen on a free port. Close ends it.
func newReceivers(subscribers []subscriber, show func(*arrival)) (*receivers, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for webhooks: %w", err)
	}
	r := &receivers{listener: l, arrivals: map[string]*arrivals{}, done: make(chan error, 1)}
	mux := http.NewServeMux()
	for _, e := range subscribers {
		counted := newArrivals()
		r.arrivals[e.Name] = counted
		mux.Handle("/"+e.Name, receiver.New(receiver.Options{
			Secrets: []endpoint.Secret{e.Secret},
			Handle: func(d receiver.Delivery) {
				a := &arrival{d, e.Name}
				counted.add(a)
				show(a)
			},
		}))
	}
	r.server = &http.Server{Handler: mux, ReadHeaderTimeout: 10 * time.Second}
	go func() { r.done <- r.server.Serve(l) }()
	return r, nil
}

func (r *receivers) addr() string { return r.listener.Addr().String() }

// close stops listening, lets what is being received be answered for a moment,
// and returns when nothing of the server runs any more.
func (r *receivers) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	err := r.server.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, r.server.Close())
	}
	if served := <-r.done; !errors.Is(served, http.ErrServerClosed) {
		err = errors.Join(err, served)
	}
	if err != nil {
		return fmt.Errorf("stop receiving webhooks: %w", err)
	}
	return nil
}

// subscriber is one of the demo's subscribers.
type subscriber struct {
	Name   string
	Events string // a pattern, as in the configuration
	Tenant int    // 0: all
	Order  string // empty: by key
	Secret endpoint.Secret
}

// endpoints are one that takes everything and one that shows a subscription.
func endpoints() []subscriber {
	return []subscriber{
		{Name: "crm", Events: "*", Secret: endpoint.GenerateSecret()},
		{Name: "catraca-centro", Events: "acesso.*", Tenant: 1, Secret: endpoint.GenerateSecret()},
	}
}

// wants reports whether events of the kind go to the endpoint.
func (e *subscriber) wants(k Kind) bool {
	return strings.HasPrefix(k.Event, strings.TrimSuffix(e.Events, "*")) && (e.Tenant == 0 || e.Tenant == k.Tenant)
}

// share is the part of the counts that goes to the endpoint.
func (e *subscriber) share(c Counts) Counts {
	part := Counts{}
	for k, n := range c {
		if e.wants(k) {
			part[k] = n
		}
	}
	return part
}
