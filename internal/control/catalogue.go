package control

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/internal/contract"
	"gancho/internal/jsonschema"
	"gancho/internal/state"
	"gancho/mapping"
)

// EventContract is an event as its receivers get it.
type EventContract struct {
	mapping.EventType
	// Schema is the JSON Schema of a request's body in the format of endpoints that set none, Sample such a body
	// without data of any row. Both are missing where the process that answers does not capture, and so does not
	// know the source.
	Schema json.RawMessage `json:"schema,omitempty"`
	Sample json.RawMessage `json:"sample,omitempty"`
	// Hidden are the paths of data that are masked or hashed.
	Hidden []string `json:"hidden,omitempty"`
	// Endpoints are those that take the event and that the actor may see, by name, with their states.
	Endpoints []EventTaker `json:"endpoints"`
}

// EventTaker is an endpoint that takes an event.
type EventTaker struct {
	Name  string `json:"name"`
	State string `json:"state"` // active, paused or inactive: that one takes nothing new
}

// EventContract describes the event of a name: state.ErrNotFound when no rule makes it. A tenant is told of no
// endpoints but its own; of several sources it is that of its own. Needs Viewer.
func (s *Service) EventContract(ctx context.Context, a Actor, name string) (out EventContract, err error) {
	own := a.source()
	if s.OfSource == nil || own == "" {
		return s.eventContract(ctx, a, name)
	}
	known, err := s.OfSource(ctx, own, func(of *Service) (err error) {
		out, err = of.eventContract(ctx, a, name)
		return err
	})
	if !known && err == nil {
		return s.eventContract(ctx, a, name) // of which it is not known how its columns are
	}
	return out, err
}

func (s *Service) eventContract(ctx context.Context, a Actor, name string) (EventContract, error) {
	types, err := s.EventTypes(ctx, a)
	if err != nil {
		return EventContract{}, err
	}
	i := slices.IndexFunc(types, func(t mapping.EventType) bool { return t.Name == name })
	if i < 0 {
		return EventContract{}, state.ErrNotFound
	}
	out := EventContract{EventType: types[i], Endpoints: []EventTaker{}}
	known, err := s.known(ctx, a)
	if err != nil {
		return EventContract{}, err
	}
	for i := range known {
		chosen, err := known[i].chooses()
		if err != nil {
			return EventContract{}, err
		}
		if queue.Chooses(chosen, name) {
			out.Endpoints = append(out.Endpoints, EventTaker{known[i].Name, known[i].State.String()})
		}
	}
	if s.Contract == nil {
		return out, nil
	}
	events := s.Contract()
	if i = slices.IndexFunc(events, func(e contract.Event) bool { return e.Name == name }); i < 0 || len(events[i].Variants) == 0 {
		return out, nil // the rules were loaded meanwhile
	}
	plain := &endpoint.Endpoint{}
	if out.Schema, err = jsonschema.Encode(events[i].Schema(plain)); err != nil {
		return EventContract{}, err
	}
	_, out.Sample = events[i].Sample(plain)
	out.Hidden = events[i].Hidden()
	return out, nil
}

// chooses are the patterns of the events that the endpoint takes; none: all.
func (f *found) chooses() ([]string, error) {
	if f.file != nil {
		return f.file.Events, nil
	}
	var document struct{ Events []string }
	if err := json.Unmarshal(f.Public, &document); err != nil {
		return nil, fmt.Errorf("read the events of endpoint %q: %w", f.Name, err)
	}
	return document.Events, nil
}
