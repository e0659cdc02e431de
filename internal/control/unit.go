package control

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/presets"
	"gancho/internal/state"
)

// UnitView is what a unit, which is a tenant, has set on its vendor's screen: an endpoint for each address.
type UnitView struct {
	Screen string `json:"screen"`
	Tenant string `json:"tenant"`
	// Active: some address gets events, or a new one would.
	Active    bool      `json:"active"`
	Addresses []Address `json:"addresses"`
	// Leaving are addresses that were removed, whose queued events are still delivered or kept.
	Leaving []Address `json:"leaving,omitempty"`
}

// Address is where a unit gets some of the screen's actions.
type Address struct {
	Endpoint string `json:"endpoint"`
	// URL without what may keep others out (***).
	URL string `json:"url"`
	// Actions are the names of those that it gets, in the screen's order.
	Actions []string `json:"actions"`
	State   string   `json:"state"`
	Queued  int64    `json:"queued"`
	// Last is the last attempt at it.
	Last *state.LastAttempt `json:"last,omitempty"`
	// View is its endpoint.
	View EndpointView `json:"-"`
}

// UnitChange is a change of a unit's addresses. Those that it does not name stay as they are.
type UnitChange struct {
	// Tenant is the unit; empty: the actor's.
	Tenant    string
	Addresses []AddressChange
	// State is the one of the named addresses afterwards, active or inactive: without any, of all. Empty: they keep theirs, and new ones
	// are as the others.
	State string
	// Removed is what becomes of events that are queued for an address that is removed: RemovedDeliver, RemovedDrop or RemovedKeep. Empty:
	// a change that removes such an address is refused, as an InvalidError with the Code CodeQueued.
	Removed string
}

// AddressChange is what an address is to be.
type AddressChange struct {
	// Endpoint is its endpoint; empty: it is new, or is found by its URL.
	Endpoint string
	// URL is the new one. Empty, or as UnitView has it: that of the endpoint.
	URL string
	// Actions are all that it gets; none: it is removed.
	Actions []string
}

// What becomes of the queue of an address that is removed.
const (
	RemovedDeliver = "deliver" // it is delivered, and then the endpoint is gone with the next change
	RemovedDrop    = "drop"
	RemovedKeep    = "keep" // it is kept, paused
)

// Codes of problems that the console says in words of its own, besides those of endpoint.URLFault.
const (
	CodeQueued       = "queued"
	CodeUnresolvable = "unresolvable" // the host of a URL does not exist
	CodeHidden       = "hidden"       // a URL has ***, which stands for nothing
	CodeMissing      = "missing"      // a URL is
)

// noEvents is the pattern of an endpoint that gets nothing more: no event has this name.
const noEvents = "-"

// unit finds screen and tenant for an actor, whose role covers what is needed.
func (s *Service) unit(a Actor, needs state.Role, screen, tenant string) (*presets.Screen, string, error) {
	if _, err := s.stored(a, needs); err != nil {
		return nil, "", err
	}
	i := slices.IndexFunc(s.Screens, func(p presets.Screen) bool { return p.Name == screen })
	if i < 0 {
		return nil, "", state.ErrNotFound
	}
	tenant, err := a.unitTenant(tenant)
	return &s.Screens[i], tenant, err
}

// unitTenant is the tenant that is meant.
func (a Actor) unitTenant(tenant string) (string, error) {
	switch {
	case a.Tenant != "" && tenant != "" && tenant != a.Tenant:
		return "", state.ErrNotFound
	case a.Tenant != "":
		return a.Tenant, nil
	case tenant == "":
		return "", invalid("/tenant", "write the id of a unit, as events have it", "no unit is named")
	}
	return tenant, nil
}

// Unit returns what a unit has set on a screen. Needs Viewer.
func (s *Service) Unit(ctx context.Context, a Actor, screen, tenant string) (UnitView, error) {
	p, tenant, err := s.unit(a, state.Viewer, screen, tenant)
	if err != nil {
		return UnitView{}, err
	}
	rows, err := s.Store.EndpointsOf(ctx, tenant)
	if err != nil && !isSealed(err) {
		return UnitView{}, err
	}
	own := s.ownOf(p, rows)
	views := viewsOf(own)
	if err := s.addLive(ctx, a, views); err != nil && !errors.Is(err, queue.ErrUnreachable) {
		return UnitView{}, err
	}
	last, err := s.Store.LastAttempts(ctx, namesOf(own))
	if err != nil {
		return UnitView{}, err
	}
	v := UnitView{Screen: screen, Tenant: tenant, Active: unitActive(own), Addresses: []Address{}}
	for i, e := range own {
		ad := Address{Endpoint: e.Name, State: e.State.String(), View: views[i], Actions: []string{}, Queued: queuedAt(views[i].Live)}
		if at, ok := last[e.Name]; ok {
			ad.Last = &at
		}
		var leaving bool
		ad.URL, ad.Actions, leaving = publicAddress(p, &e)
		if leaving {
			v.Leaving = append(v.Leaving, ad)
		} else {
			v.Addresses = append(v.Addresses, ad)
		}
	}
	return v, nil
}

func queuedAt(live *queue.Stats) int64 {
	if live == nil {
		return 0
	}
	return live.Backlog + live.Replays
}

// ownOf are the endpoints that are a screen's, of those of one tenant.
func (s *Service) ownOf(p *presets.Screen, rows []state.Endpoint) []found {
	inFile := map[string]bool{}
	for _, f := range s.files() {
		inFile[f.Name] = true
	}
	var own []found
	for _, e := range rows {
		if strings.HasPrefix(e.Name, p.Name+"-") && !inFile[e.Name] {
			own = append(own, found{Endpoint: e})
		}
	}
	slices.SortFunc(own, func(a, b found) int { return cmp.Compare(a.ID, b.ID) }) // as they were added
	return own
}

// unitActive reports whether an endpoint more would be active: one is, or there are none.
func unitActive(own []found) bool {
	none := true
	for _, e := range own {
		if !isLeaving(eventsOf(&e)) {
			if none = false; e.State != endpoint.Inactive {
				return true
			}
		}
	}
	return none
}

// publicAddress is what is shown of an endpoint.
func publicAddress(p *presets.Screen, e *found) (url string, actions []string, leaving bool) {
	public := publicOf(e)
	return public.URL, actionsOf(p, public.Events), isLeaving(public.Events)
}

func eventsOf(e *found) []string { return publicOf(e).Events }

func isLeaving(events []string) bool { return slices.Equal(events, []string{noEvents}) }

// actionsOf are the actions all of whose events the patterns cover.
func actionsOf(p *presets.Screen, patterns []string) []string {
	names := []string{}
	for _, a := range p.Actions() {
		if !slices.ContainsFunc(a.Events, func(event string) bool { return !queue.Chooses(patterns, event) }) {
			names = append(names, a.Name)
		}
	}
	return names
}

// chosenEvents are the patterns of an endpoint that is to get these actions: what it has beside the screen's events stays.
func chosenEvents(p *presets.Screen, before, actions []string) []string {
	var chosen, all []string
	for _, a := range p.Actions() {
		all = append(all, a.Events...)
		if slices.Contains(actions, a.Name) {
			chosen = append(chosen, a.Events...)
		}
	}
	for _, pattern := range before {
		if pattern != noEvents && !slices.ContainsFunc(all, func(event string) bool { return queue.Chooses([]string{pattern}, event) }) {
			chosen = append(chosen, pattern)
		}
	}
	return chosen
}

// ScreenView is a vendor's screen as programs see it.
type ScreenView struct {
	Name   string         `json:"name"`
	Layout presets.Layout `json:"layout"`
	// Field is the extra field of a unit's requests that the screen creates.
	Field   string       `json:"field,omitempty"`
	Actions []ActionView `json:"actions"`
}

// ActionView is an action with its events.
type ActionView struct {
	Name   string   `json:"name"`
	Events []string `json:"events"`
}

// ScreenViews lists the screens that the configuration has. Needs Viewer.
func (s *Service) ScreenViews(_ context.Context, a Actor) ([]ScreenView, error) {
	if _, err := s.stored(a, state.Viewer); err != nil {
		return nil, err
	}
	var all []ScreenView
	for i := range s.Screens {
		p := &s.Screens[i]
		v := ScreenView{Name: p.Name, Layout: p.Layout, Field: p.Field}
		for _, action := range p.Actions() {
			v.Actions = append(v.Actions, ActionView{Name: action.Name, Events: action.Events})
		}
		all = append(all, v)
	}
	return all, nil
}
