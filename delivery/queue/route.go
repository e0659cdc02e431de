package queue

import (
	"slices"
	"strings"

	"gancho/delivery/endpoint"
)

// maxRoutes bounds the router's memory: beyond it, everything is forgotten.
const maxRoutes = 1 << 16

// router says which endpoints get an event. It remembers its answers, and one
// that it remembers costs no allocation. It belongs to one goroutine.
type router struct {
	endpoints []*endpoint.Endpoint
	of        map[string][]int // the endpoints with this tenant among theirs, in order
	reading   []int            // those that are limited to sources, and not to tenants, in order
	types     map[string]*route
	size      int // lists remembered
}

// routes are the endpoints as Add sees them. The router is the batch builder's.
type routes struct {
	router  *router
	streams []*stream // by the router's index
}

type route struct {
	// everyone are those that get the event whatever its tenant.
	everyone []int
	// byTenant are they and those of the tenant; nil when nobody cares for the tenant.
	byTenant map[string][]int
}

// newRouter returns a router of the endpoints, which are not to be changed any more. Inactive endpoints get nothing, paused ones do.
func newRouter(eps []*endpoint.Endpoint) *router {
	r := &router{endpoints: eps, of: map[string][]int{}, types: map[string]*route{}}
	for i, e := range eps {
		if limited(e) && len(e.Tenants) == 0 {
			r.reading = append(r.reading, i)
		}
		for _, t := range e.Tenants {
			if of := r.of[t]; len(of) == 0 || of[len(of)-1] != i { // one may be named twice
				r.of[t] = append(of, i)
			}
		}
	}
	return r
}

// match returns the indices, in newRouter's slice, of the endpoints that get
// the event, in order. An event without a tenant goes only to endpoints that
// are not limited to tenants or sources. The slice is the router's: it is not to be changed.
func (r *router) match(eventType string, tenant []byte) []int {
	if known := r.types[eventType]; known != nil {
		if known.byTenant == nil {
			return known.everyone
		}
		if list, ok := known.byTenant[string(tenant)]; ok {
			return list
		}
	}
	if r.size >= maxRoutes {
		clear(r.types)
		r.size = 0
	}
	known := r.types[eventType]
	if known == nil {
		known = r.route(eventType)
	}
	if known.byTenant == nil {
		return known.everyone
	}
	list := slices.Clone(known.everyone)
	source := sourceOf(string(tenant))
	for _, some := range [][]int{r.of[string(tenant)], r.reading} {
		for _, i := range some {
			if e := r.endpoints[i]; Refuses(e, eventType) == "" && e.Reads(source) {
				list = append(list, i)
			}
		}
	}
	slices.Sort(list)
	known.byTenant[string(tenant)] = list
	r.size++
	return list
}

func (r *router) route(eventType string) *route {
	known := &route{}
	for i, e := range r.endpoints {
		switch {
		case Refuses(e, eventType) != "":
		case !limited(e):
			known.everyone = append(known.everyone, i)
		case known.byTenant == nil:
			known.byTenant = map[string][]int{}
		}
	}
	r.types[eventType] = known
	r.size++
	return known
}

// sourceOf is the source that a tenant is of, where there are several: tenants begin with it.
func sourceOf(tenant string) string {
	source, _, _ := strings.Cut(tenant, "/")
	return source
}

// TakesSource reports whether the endpoint may get events of a source, one of several.
func TakesSource(e *endpoint.Endpoint, source string) bool {
	return e.Reads(source) && (len(e.Tenants) == 0 || slices.ContainsFunc(e.Tenants, func(t string) bool { return sourceOf(t) == source }))
}

// limited: not all tenants' events are for the endpoint.
func limited(e *endpoint.Endpoint) bool { return len(e.Tenants)+len(e.Sources) > 0 }

// takes reports whether the endpoint gets events of the tenant.
func takes(e *endpoint.Endpoint, tenant string) bool {
	return (len(e.Tenants) == 0 || slices.Contains(e.Tenants, tenant)) && e.Reads(sourceOf(tenant))
}

// Why an endpoint does not get an event.
const (
	RefusedInactive = "inactive" // its state
	RefusedEvent    = "event"    // none of its patterns
	RefusedTenant   = "tenant"   // none of its tenants
)

// Refuses is why the endpoint gets no events of the type, whatever their tenant:
// RefusedInactive or RefusedEvent; "": it gets them.
func Refuses(e *endpoint.Endpoint, eventType string) string {
	switch {
	case !Chooses(e.Events, eventType):
		return RefusedEvent
	case e.State == endpoint.Inactive:
		return RefusedInactive
	}
	return ""
}

// Routed returns the names of the endpoints that get a rule's event.
func Routed(endpoints []*endpoint.Endpoint, eventType string, tenant []byte) []string {
	var out []string
	for _, i := range newRouter(endpoints).match(eventType, tenant) {
		out = append(out, endpoints[i].Name)
	}
	return out
}

// OperationalPrefix begins the names of Gancho's own events, which no rule makes or routes.
const OperationalPrefix = "gancho."

// Subscribed returns the names of the endpoints that get an operational event:
// those with a pattern that covers it and itself begins with OperationalPrefix.
// An endpoint that takes everything has not asked for these. The tenants are
// those that the event is about; an endpoint that is limited to tenants or sources gets it
// only if they are all among its own. Inactive endpoints get nothing.
func Subscribed(endpoints []*endpoint.Endpoint, eventType string, tenants ...string) []string {
	var out []string
	for _, e := range endpoints {
		asked := slices.ContainsFunc(e.Events, func(p string) bool {
			return strings.HasPrefix(p, OperationalPrefix) && endpoint.Covers(p, eventType)
		})
		if asked && e.State != endpoint.Inactive && (!limited(e) || within(tenants, e)) {
			out = append(out, e.Name)
		}
	}
	return out
}

// within reports whether there are some tenants, and the endpoint takes events of all of them.
func within(tenants []string, e *endpoint.Endpoint) bool {
	return len(tenants) > 0 && !slices.ContainsFunc(tenants, func(t string) bool { return !takes(e, t) })
}

// Chooses reports whether one of the patterns covers the event's name, or there are none.
func Chooses(patterns []string, event string) bool {
	return len(patterns) == 0 || endpoint.CoveredBy(patterns, event)
}

// Router finds the endpoints that get rules' events, as an append does. It belongs to one
// goroutine.
type Router struct{ router *router }

// NewRouter returns a Router for the endpoints.
func NewRouter(endpoints []*endpoint.Endpoint) *Router { return &Router{newRouter(endpoints)} }

// Match returns the indices of the endpoints that get the event, in order. The slice is
// the Router's: it is not to be changed.
func (r *Router) Match(eventType string, tenant []byte) []int {
	return r.router.match(eventType, tenant)
}
