package control

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"gancho/delivery/endpoint"
	"gancho/internal/presets"
	"gancho/internal/state"
)

// ChangeUnit changes addresses of a unit on a screen: all in one transaction, with one entry of the audit log, or none. The
// settings of new endpoints are the screen's. Mistakes are an InvalidError whose pointers are /addresses/0/url and so on. Needs Admin.
func (s *Service) ChangeUnit(ctx context.Context, a Actor, screen string, c UnitChange) (UnitView, error) {
	p, tenant, err := s.unit(a, state.Admin, screen, c.Tenant)
	if err != nil {
		return UnitView{}, err
	}
	if err := c.check(p); err != nil {
		return UnitView{}, err
	}
	rows, err := s.Store.EndpointsOf(ctx, tenant)
	if err != nil && !isSealed(err) {
		return UnitView{}, err
	}
	own := s.ownOf(p, rows)
	if err := s.checkAddresses(ctx, p, own, c.Addresses); err != nil {
		return UnitView{}, err
	}
	queued, err := s.queuedFor(ctx, own, &c)
	if err != nil {
		return UnitView{}, err
	}
	var plan unitPlan
	entry := state.Change{Actor: a.Name, Action: "unit.edit", Object: "screen/" + screen}
	err = s.Store.Within(state.Limits{Room: s.roomFor([]string{tenant})}).ChangeEndpoints(ctx, tenant, entry, func(now []state.Endpoint) (state.EndpointPlan, error) {
		plan = unitPlan{service: s, actor: a, screen: p, tenant: tenant, change: &c, queued: queued, own: s.ownOf(p, now)}
		return plan.make()
	})
	if err != nil {
		return UnitView{}, err
	}
	for _, name := range plan.activated {
		if _, _, err := s.resume(ctx, name); err != nil {
			return UnitView{}, err
		}
	}
	return s.Unit(ctx, a, screen, tenant)
}

// check finds what is wrong whatever there is.
func (c *UnitChange) check(p *presets.Screen) error {
	var wrong problems
	known := p.Actions()
	for i := range c.Addresses {
		for j, name := range c.Addresses[i].Actions {
			if !slices.ContainsFunc(known, func(a presets.Action) bool { return a.Name == name }) {
				wrong.add(fmt.Sprintf("addresses/%d/actions/%d", i, j), "see the screen's actions", "the screen has no such action")
			}
		}
	}
	if !slices.Contains([]string{"", endpoint.Active.String(), endpoint.Inactive.String()}, c.State) {
		wrong.add("state", "write active or inactive", "there is no such state")
	}
	if !slices.Contains([]string{"", RemovedDeliver, RemovedDrop, RemovedKeep}, c.Removed) {
		wrong.add("removed", "write deliver, drop or keep", "this is nothing that can become of queued events")
	}
	return wrong.err()
}

// queuedFor counts what is queued for addresses that are removed or leave: the others' queues are of no interest.
func (s *Service) queuedFor(ctx context.Context, own []found, c *UnitChange) (map[string]int64, error) {
	var names []string
	for _, e := range own {
		gone := slices.ContainsFunc(c.Addresses, func(ch AddressChange) bool { return ch.Endpoint == e.Name && len(ch.Actions) == 0 })
		if gone || isLeaving(eventsOf(&e)) {
			names = append(names, e.Name)
		}
	}
	queued := map[string]int64{}
	if len(names) == 0 {
		return queued, nil
	}
	stats, err := s.queueStats(ctx, names)
	for i := range stats {
		queued[names[i]] = queuedAt(&stats[i])
	}
	return queued, err
}

// unitPlan turns a change of addresses into one of endpoints.
type unitPlan struct {
	service *Service
	actor   Actor
	screen  *presets.Screen
	tenant  string
	change  *UnitChange
	queued  map[string]int64 // of endpoints that are removed or leave
	own     []found

	out       state.EndpointPlan
	activated []string // endpoints that were not active
}

// wanted is what an endpoint is to be; of a new one before is nil.
type wanted struct {
	before  *found
	url     string // "": as it is
	actions []string
	at      int // of the change
}

func (u *unitPlan) make() (state.EndpointPlan, error) {
	all, err := u.wanted()
	if err != nil {
		return u.out, err
	}
	for i := range all {
		if err := u.carry(&all[i]); err != nil {
			return u.out, err
		}
	}
	for i := range u.own {
		e := &u.own[i]
		named := slices.ContainsFunc(all, func(w wanted) bool { return w.before == e })
		n, counted := u.queued[e.Name]
		switch leaves := isLeaving(eventsOf(e)); {
		case named:
		case leaves && counted && n == 0:
			u.out.Remove = append(u.out.Remove, e.Name) // all is delivered
		case leaves || len(u.change.Addresses) > 0 || u.change.State == "":
		case e.Sealed != nil:
			return u.out, e.Sealed
		default:
			u.switchTo(e, e.Document, e.Public)
		}
	}
	return u.out, nil
}

// wanted joins what the change says of one endpoint.
func (u *unitPlan) wanted() ([]wanted, error) {
	var all []wanted
	// Those with an endpoint first: what they say of it holds, and the others add to that.
	order := make([]int, len(u.change.Addresses))
	for i := range order {
		order[i] = i
	}
	slices.SortStableFunc(order, func(a, b int) int {
		isNew := func(i int) int { return len(u.change.Addresses[i].Endpoint) }
		return cmp.Compare(min(1, isNew(b)), min(1, isNew(a)))
	})
	for _, i := range order {
		c := u.change.Addresses[i]
		w := wanted{url: c.URL, actions: c.Actions, at: i}
		if c.Endpoint != "" {
			if w.before = u.named(c.Endpoint); w.before == nil {
				return nil, state.ErrNotFound
			}
			if c.URL == publicOf(w.before).URL {
				w.url = ""
			}
		} else if w.before = u.withURL(c.URL); w.before != nil {
			w.url = ""
		}
		same := slices.IndexFunc(all, func(o wanted) bool {
			return w.before != nil && o.before == w.before || w.before == nil && o.before == nil && o.url == w.url
		})
		switch {
		case same >= 0:
			all[same].actions = append(slices.Clone(all[same].actions), w.actions...)
		case c.Endpoint == "" && w.before != nil: // it keeps what it has
			w.actions = append(actionsOf(u.screen, eventsOf(w.before)), w.actions...)
			all = append(all, w)
		default:
			all = append(all, w)
		}
	}
	return all, nil
}

func (u *unitPlan) named(name string) *found {
	i := slices.IndexFunc(u.own, func(e found) bool { return e.Name == name })
	if i < 0 {
		return nil
	}
	return &u.own[i]
}

func (u *unitPlan) withURL(url string) *found {
	for i := range u.own {
		if e, err := u.service.delivered(u.own[i]); err == nil && u.own[i].Sealed == nil && e.URL == url {
			return &u.own[i]
		}
	}
	return nil
}

// carry plans what becomes of one endpoint.
func (u *unitPlan) carry(w *wanted) error {
	switch {
	case w.before == nil && len(w.actions) == 0:
		return nil // a new address without actions is none
	case w.before == nil:
		return u.add(w)
	case len(w.actions) == 0:
		return u.remove(w.before)
	case w.before.Sealed != nil:
		return w.before.Sealed
	}
	before, err := u.service.delivered(*w.before)
	if err != nil {
		return err
	}
	patch := map[string]any{"events": chosenEvents(u.screen, before.Events, w.actions)}
	if w.url != "" && w.url != before.URL {
		patch["url"] = w.url
	}
	text, err := json.Marshal(patch)
	if err != nil {
		return err
	}
	merged, err := patched(&w.before.Endpoint, text, u.actor.pinned())
	if err != nil {
		return atAddress(err, w.at)
	}
	ep, err := parse("", merged, false)
	if err != nil {
		return atAddress(err, w.at)
	}
	if err := u.allowed(&ep, &before); err != nil {
		return atAddress(err, w.at)
	}
	u.switchTo(w.before, ep.Document(), ep.Public())
	return nil
}

// allowed refuses a tenant what only the operator may set. What the screen sets holds for any address, what an operator has set besides
// for the one address only.
func (u *unitPlan) allowed(ep, before *endpoint.Endpoint) error {
	p := &u.screen.Endpoint
	switch {
	case u.actor.Tenant == "":
	case ep.URL == before.URL:
		if err := reserved(ep, before); err != nil {
			return err
		}
	case ep.AllowHTTP != p.AllowHTTP || ep.Proxy != p.Proxy || !slices.Equal(ep.AllowPrivate, p.AllowPrivate):
		return invalid("/url", "ask the operator of Gancho to change it", "this address has settings of the operator that hold for it alone")
	}
	return u.service.Quotas.checkSize(ep, before)
}

// switchTo changes an endpoint, and its state when the change says one.
func (u *unitPlan) switchTo(e *found, document, public json.RawMessage) {
	after := e.Endpoint
	after.Document, after.Public = document, public
	switch {
	case u.change.State == endpoint.Active.String(), u.change.State == "" && isLeaving(eventsOf(e)) && unitActive(u.own):
		after.State = endpoint.Active
		u.activated = append(u.activated, e.Name)
	case u.change.State == endpoint.Inactive.String(), isLeaving(eventsOf(e)):
		after.State = endpoint.Inactive
	}
	if after.State != e.State || string(after.Document) != string(e.Document) {
		u.out.Change = append(u.out.Change, after)
	}
}

func (u *unitPlan) add(w *wanted) error {
	ep := u.screen.Endpoint.WithDefaults()
	ep.URL, ep.Tenants, ep.Events = w.url, []string{u.tenant}, chosenEvents(u.screen, nil, w.actions)
	ep, err := parse("", ep.Document(), false) // what one key means for another
	if err != nil {
		return atAddress(err, w.at)
	}
	if err := u.service.Quotas.checkSize(&ep, nil); err != nil {
		return err
	}
	ep.State = endpoint.Inactive
	if u.change.State == endpoint.Active.String() || u.change.State == "" && unitActive(u.own) {
		ep.State = endpoint.Active
	}
	u.out.Add = append(u.out.Add, state.PlannedEndpoint{
		Endpoint: state.Endpoint{Name: unitEndpoint(u.screen, u.tenant), Tenants: ep.Tenants, State: ep.State, Document: ep.Document(), Public: ep.Public()},
		Secrets:  []endpoint.Secret{endpoint.GenerateSecret()},
	})
	return nil
}

// unitEndpoint is a new name, which nothing has had: the screen, what of the tenant a name may have, and chance.
func unitEndpoint(p *presets.Screen, tenant string) string {
	slug := strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= '0' && r <= '9' {
			return r
		}
		return -1
	}, strings.ToLower(tenant))
	id := make([]byte, 4)
	_, _ = rand.Read(id) // never fails
	return fmt.Sprintf("%s-%s-%s", p.Name, slug[:min(len(slug), 20)], hex.EncodeToString(id))
}

// remove plans the end of an endpoint, when nothing is queued; otherwise what the change says about that.
func (u *unitPlan) remove(e *found) error {
	if u.queued[e.Name] == 0 {
		u.out.Remove = append(u.out.Remove, e.Name)
		return nil
	}
	to := endpoint.Active
	switch u.change.Removed {
	case "":
		err := invalid("/removed", "write deliver, drop or keep", "events are queued for an address that is removed")
		return withCode(err, CodeQueued)
	case RemovedDrop:
		u.out.Drop = append(u.out.Drop, e.Name)
		return nil
	case RemovedKeep:
		to = endpoint.Paused
	}
	if e.Sealed != nil {
		return e.Sealed
	}
	merged, err := patched(&e.Endpoint, json.RawMessage(`{"events":["`+noEvents+`"]}`), nil)
	if err != nil {
		return err
	}
	ep, err := parse("", merged, false)
	if err != nil {
		return err
	}
	after := e.Endpoint
	after.State, after.Document, after.Public = to, ep.Document(), ep.Public()
	if to == endpoint.Active {
		u.activated = append(u.activated, e.Name)
	}
	u.out.Change = append(u.out.Change, after)
	return nil
}

// atAddress puts the problems of an endpoint's document where the change has its address.
func atAddress(err error, i int) error {
	if e, ok := err.(*InvalidError); ok { //nolint:errorlint // parse and the checks return it as it is
		for j := range e.Problems {
			e.Problems[j].Pointer = fmt.Sprintf("/addresses/%d%s", i, e.Problems[j].Pointer)
		}
	}
	return err
}
