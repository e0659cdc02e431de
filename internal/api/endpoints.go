package api

import (
	"context"
	"net/http"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/state"
)

// mediaPatch is the type of a merge patch (RFC 7396).
const mediaPatch = "application/merge-patch+json"

func (c *call) showEndpoint() (answer, error) {
	return endpointReply(c.control.Endpoint(c.ctx, c.actor, c.name()))
}

func (c *call) listKeys() (answer, error) {
	e, err := c.control.Settings(c.ctx, c.actor, c.name())
	return list(e.Keys, err)
}

// closing lists what an endpoint was given in a day.
func (c *call) closing() (answer, error) {
	type none struct{}
	return filtered("closings", func(*query) none { return none{} },
		func(s *control.Service, ctx context.Context, a control.Actor, _ none, cursor string, limit int) (control.Page[state.GivenEvent], error) {
			return s.Closing(ctx, a, c.name(), c.http.PathValue("day"), cursor, limit)
		})(c)
}

func (c *call) addEndpoint() (answer, error) {
	ed25519 := c.query.bool("ed25519")
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	if err := c.needBody("an endpoint"); err != nil {
		return answer{}, err
	}
	view, err := c.control.AddEndpoint(c.ctx, c.actor, control.NewEndpoint{Document: c.body, Ed25519: ed25519})
	if err != nil {
		return answer{}, err
	}
	return answer{
		status: http.StatusCreated, body: view, version: view.Endpoint.Version, location: root + "/endpoints/" + view.Endpoint.Name,
	}, nil
}

func (c *call) editEndpoint() (answer, error) {
	version, err := c.ifMatch()
	if err != nil {
		return answer{}, err
	}
	if err := c.needBody("a change"); err != nil {
		return answer{}, err
	}
	return endpointReply(c.control.EditEndpoint(c.ctx, c.actor, c.name(), control.Edit{Patch: c.body, Version: version}))
}

func (c *call) removeEndpoint() (answer, error) {
	drop := c.query.bool("drop_queue")
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	if err := c.precondition(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Remove(c.ctx, c.actor, c.name(), drop)
	return answer{body: view}, err
}

// switching handles what changes the state of an endpoint.
func switching(to func(*control.Service, context.Context, control.Actor, string) (control.EndpointView, error)) handle {
	return func(c *call) (answer, error) {
		if err := c.precondition(); err != nil {
			return answer{}, err
		}
		return endpointReply(to(c.control, c.ctx, c.actor, c.name()))
	}
}

func (c *call) rotateSecret() (answer, error) {
	rotation := control.Rotation{Overlap: control.DefaultOverlap}
	var secret, overlap string
	mistakes := decodeObject("", c.body,
		member{name: "secret", into: &secret, expects: "a text such as whsec_ and base64"},
		member{name: "ed25519", into: &rotation.Ed25519, expects: "true or false"},
		member{name: "overlap", into: &overlap, expects: `a duration such as "24h", or "0s"`})
	if secret != "" {
		s, err := endpoint.ParseSecret(secret)
		if err != nil {
			mistakes = append(mistakes, control.Problem{Pointer: "/secret", Message: err.Error()})
		}
		if rotation.Ed25519 {
			mistakes = append(mistakes, control.Problem{Pointer: "/ed25519", Message: "the given secret has its own kind", Hint: "leave out ed25519, or the secret"})
		}
		rotation.Secret = &s
	}
	if overlap != "" {
		var wrong []control.Problem
		rotation.Overlap, wrong = duration("/overlap", overlap, 0, control.MaxOverlap)
		mistakes = append(mistakes, wrong...)
	}
	if len(mistakes) > 0 {
		return answer{}, invalid(mistakes...)
	}
	if err := c.precondition(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Rotate(c.ctx, c.actor, c.name(), rotation)
	return answer{body: view, version: view.Endpoint.Version}, err
}

func (c *call) testEndpoint() (answer, error) {
	view, err := c.control.Test(c.ctx, c.actor, c.name())
	return answer{body: view}, err
}

// endpointReply is an answer with the endpoint's entity tag.
func endpointReply(view control.EndpointView, err error) (answer, error) {
	return answer{body: view, version: view.Version}, err
}

// precondition compares the endpoint's version with If-Match, for operations of
// the control that take no version: between the two somebody else may still
// change it, as without If-Match.
func (c *call) precondition() error {
	version, err := c.ifMatch()
	if err != nil || version == 0 {
		return err
	}
	e, err := c.control.Settings(c.ctx, c.actor, c.name())
	switch {
	case err != nil:
		return err
	case e.Version != version:
		return state.ErrConflict
	}
	return nil
}

// needBody refuses a request without a body.
func (c *call) needBody(what string) error {
	if len(c.body) > 0 {
		return nil
	}
	return invalid(control.Problem{Message: "the body is missing", Hint: "it is " + what + " as a JSON object"})
}
