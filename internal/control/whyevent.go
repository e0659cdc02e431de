package control

import (
	"context"
	"errors"
	"slices"
	"strings"

	"gancho/delivery/queue"
	"gancho/internal/state"
)

// whyEvent is Why by a webhook-id. Of several sources all are asked, unless the actor's is known or one is named; where none has anything of it, the delivery log,
// which keeps also what is of a source that is none any more.
func (s *Service) whyEvent(ctx context.Context, a Actor, q WhyQuestion) (WhyView, error) {
	if s.EachSource == nil {
		return s.eventHere(ctx, a, q)
	}
	v := newEventView(q)
	v.Capturing = true
	type answer struct {
		source string
		view   WhyView
	}
	var all []answer
	ask := func(of *Service) error {
		view, err := of.eventHere(ctx, a, q)
		all = append(all, answer{of.SourceName, view})
		return err
	}
	var err error
	if own := a.source(); own != "" {
		err = s.Of(ctx, a, own, ask)
	} else {
		err = gather(ctx, s, func(of *Service) (answer, error) {
			view, err := of.eventHere(ctx, a, q)
			return answer{of.SourceName, view}, err
		}, func(one answer) { all = append(all, one) })
	}
	if err != nil {
		return WhyView{}, err
	}
	slices.SortFunc(all, func(a, b answer) int { return strings.Compare(a.source, b.source) })
	for i := range all {
		one := &all[i].view
		v.add(all[i].source, one)
		if len(one.Changes) > 0 && v.Table == "" {
			v.Table = one.Table
		}
		v.OfSources = append(v.OfSources, one.OfSources...)
		v.SourcesUnread = append(v.SourcesUnread, one.SourcesUnread...)
	}
	if len(v.Changes) == 0 {
		err = s.addLogged(ctx, a, &v)
	}
	return v, err
}

func newEventView(q WhyQuestion) WhyView {
	return WhyView{WebhookID: q.WebhookID, KeyColumns: []string{}, Rules: []WhyTableRule{}, Changes: []WhyChange{}}
}

// eventHere is whyEvent at one source. What of it is remembered comes first; what is not is looked for where events and changes wait, and in the delivery
// log. Of several sources it is looked for in those alone that the webhook-id may be of.
func (s *Service) eventHere(ctx context.Context, a Actor, q WhyQuestion) (WhyView, error) {
	v := newEventView(q)
	remembers := false
	if s.Verdicts != nil {
		switch found, err := s.Verdicts(q); {
		case err == nil:
			v, remembers = found, true
		case !errors.As(err, new(*ElsewhereError)):
			return WhyView{}, err
		}
	}
	if len(v.Changes) > 0 {
		return v, s.joinEvent(ctx, a, &v)
	}
	mine, err := s.names(ctx, q.WebhookID)
	if err := v.withoutQueue(err); err != nil {
		return WhyView{}, err
	}
	several := s.SourceName != ""
	if mine && several {
		v.OfSources = []string{s.SourceName}
		if !remembers {
			v.SourcesUnread = []string{s.SourceName}
		}
	}
	if several && !mine && !v.QueueUnread {
		return v, nil
	}
	if mine {
		if err := v.withoutQueue(s.addQueued(ctx, a, &v)); err != nil {
			return WhyView{}, err
		}
	}
	if len(v.Changes) == 0 {
		return v, s.addLogged(ctx, a, &v)
	}
	return v, s.joinEvent(ctx, a, &v)
}

// names reports whether a webhook-id is of the source, as far as its queue knows.
func (s *Service) names(ctx context.Context, id string) (bool, error) {
	if s.Queue == nil {
		return false, s.QueueDown
	}
	return s.Queue.Names(ctx, id)
}

// joinEvent is join for a view of an event, of which the row's other changes are left out.
func (s *Service) joinEvent(ctx context.Context, a Actor, v *WhyView) error {
	if err := s.join(ctx, a, v); err != nil {
		return err
	}
	if err := v.withoutQueue(s.addParkedTimer(ctx, a, v)); err != nil {
		return err
	}
	v.endTimers()
	for i := range v.Changes {
		c := &v.Changes[i]
		c.Source = s.SourceName
		c.Rules = slices.DeleteFunc(c.Rules, func(r WhyRule) bool { return r.WebhookID != v.WebhookID })
	}
	v.Changes = slices.DeleteFunc(v.Changes, func(c WhyChange) bool { return len(c.Rules) == 0 })
	return nil
}

// addParkedTimer adds that the event's timer is parked.
func (s *Service) addParkedTimer(ctx context.Context, a Actor, v *WhyView) error {
	for i := range v.Changes {
		for j := range v.Changes[i].Rules {
			r := &v.Changes[i].Rules[j]
			if r.WebhookID != v.WebhookID || r.Outcome != WhyTimerSet || r.Sent() {
				continue
			}
			parked, err := s.parkedEvent(ctx, v.WebhookID)
			if err != nil || parked == nil {
				return err
			}
			if r.TimerParked = true; a.Tenant == "" {
				r.Parked = parked.Reason
			}
		}
	}
	return nil
}

// parkedEvent is the parked change, or timer, whose event would have the webhook-id; nil: there is none.
func (s *Service) parkedEvent(ctx context.Context, webhookID string) (*queue.ParkedChange, error) {
	if s.Queue == nil {
		return nil, s.QueueDown
	}
	_, id, err := queue.ParseWebhookID(webhookID)
	if err != nil {
		return nil, err
	}
	rows, err := s.Queue.Parked(ctx, queue.ParkedFilter{IDs: []queue.ID{id}, Last: id}, id.Before(), 1)
	if err != nil || len(rows) == 0 {
		return nil, err
	}
	return &rows[0], nil
}

// addQueued adds an event that waits for endpoints, or a change that is parked, of which this process remembers nothing.
func (s *Service) addQueued(ctx context.Context, a Actor, v *WhyView) error {
	_, id, err := queue.ParseWebhookID(v.WebhookID)
	if err != nil {
		return err
	}
	found, err := s.Queue.Find(ctx, id)
	if err != nil {
		return err
	}
	own, err := s.known(ctx, a)
	if err != nil {
		return err
	}
	c := WhyChange{Position: id.Position().Commit.String(), Ordinal: id.Position().Ordinal, Source: s.SourceName}
	r := WhyRule{Outcome: WhyEvent, WebhookID: v.WebhookID, EndpointsUnknown: true}
	for _, e := range found {
		if a.Tenant != "" && (e.Message.Tenant != a.Tenant || !slices.Contains(namesOf(own), e.Endpoint)) {
			continue
		}
		c.Time, r.Event = e.Message.Time, e.Message.Type
		r.Endpoints = append(r.Endpoints, WhyEndpoint{Endpoint: e.Endpoint, Tenants: endpointTenants(own, e.Endpoint)})
	}
	if len(r.Endpoints) == 0 {
		if a.Tenant != "" { // of what is parked it is not known whose it is
			return nil
		}
		parked, err := s.parkedEvent(ctx, v.WebhookID)
		if err != nil || parked == nil {
			return err
		}
		c.Time, c.Op, r.Outcome, r.Event, r.Rule, r.Parked, r.EndpointsUnknown = parked.Time, parked.Operation, WhyParked, parked.Type, parked.Rule, parked.Reason, false
		v.Table = parked.Table
	}
	c.Rules = []WhyRule{r}
	v.Changes = append(v.Changes, c)
	return nil
}

func endpointTenants(known []found, name string) []string {
	for i := range known {
		if known[i].Name == name {
			return known[i].Tenants
		}
	}
	return nil
}

// addLogged adds an event of which the delivery log alone knows: of each source that it has attempts of.
func (s *Service) addLogged(ctx context.Context, a Actor, v *WhyView) error {
	attempts, err := s.attempts(ctx, a, []string{v.WebhookID})
	if err != nil {
		return err
	}
	several := s.EachSource != nil || s.SourceName != ""
	of := map[string]int{} // by source, in Changes
	for i := range attempts {
		at, source := &attempts[i], ""
		if several {
			source = SourceOf(at.Tenant)
		}
		n, known := of[source]
		if !known {
			n = len(v.Changes)
			of[source] = n
			c := WhyChange{Source: source, Time: at.Committed, Rules: []WhyRule{{Event: at.Event, Outcome: WhyEvent, WebhookID: v.WebhookID, EndpointsUnknown: true}}}
			if _, id, err := queue.ParseWebhookID(v.WebhookID); err == nil {
				c.Position, c.Ordinal = id.Position().Commit.String(), id.Position().Ordinal
			}
			v.Changes = append(v.Changes, c)
		}
		v.Changes[n].Rules[0].addAttempt(at)
	}
	for i := range v.Changes {
		v.Changes[i].Rules[0].sortAttempts()
	}
	slices.SortFunc(v.Changes, func(a, b WhyChange) int { return strings.Compare(a.Source, b.Source) })
	return nil
}

// attempts are those of events that the delivery log has.
func (s *Service) attempts(ctx context.Context, a Actor, webhookIDs []string) (all []state.Attempt, err error) {
	for cursor := ""; ; {
		page, err := s.Deliveries(ctx, a, state.Filter{Webhooks: webhookIDs, Sources: s.ownSource()}, cursor, MaxPage)
		if err != nil {
			return nil, err
		}
		if all, cursor = append(all, page.Items...), page.Next; cursor == "" {
			return all, nil
		}
	}
}
