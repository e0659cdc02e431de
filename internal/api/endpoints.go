package api

import (
	"context"
	"net/http"
	"strconv"
	"time"

	"gancho/delivery/endpoint"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
)

const (
	// mediaPatch is the type of a merge patch (RFC 7396).
	mediaPatch = "application/merge-patch+json"
	// maxOverlap bounds how long two signing keys may sign side by side.
	maxOverlap = 90 * 24 * time.Hour
)

func (c *call) listEndpoints() (answer, error) {
	cursor, limit := c.query.cursor("endpoints"), c.query.limit()
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	p, err := c.control.Endpoints(c.ctx, c.actor, cursor, limit)
	return paged("endpoints", p, err)
}

func (c *call) showEndpoint() (answer, error) {
	return endpointReply(c.control.Endpoint(c.ctx, c.actor, c.name()))
}

func (c *call) listKeys() (answer, error) {
	e, err := c.control.Endpoint(c.ctx, c.actor, c.name())
	return list(e.Keys, err)
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

func (c *call) activateEndpoint() (answer, error) { return c.switchTo(c.control.Activate) }

func (c *call) pauseEndpoint() (answer, error) { return c.switchTo(c.control.Pause) }

func (c *call) deactivateEndpoint() (answer, error) { return c.switchTo(c.control.Deactivate) }

func (c *call) switchTo(to func(context.Context, control.Actor, string) (control.EndpointView, error)) (answer, error) {
	if err := c.precondition(); err != nil {
		return answer{}, err
	}
	return endpointReply(to(c.ctx, c.actor, c.name()))
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
			mistakes = append(mistakes, mistake{Pointer: "/secret", Message: err.Error()})
		}
		if rotation.Ed25519 {
			mistakes = append(mistakes, mistake{Pointer: "/ed25519", Message: "the secret given is of a kind already", Hint: "leave ed25519 out, or the secret"})
		}
		rotation.Secret = &s
	}
	if overlap != "" {
		d := strictyaml.Parse("", []byte(strconv.Quote(overlap)), nil)
		rotation.Overlap = d.Root().Duration(0, maxOverlap)
		for _, e := range d.Errors() {
			mistakes = append(mistakes, mistake{Pointer: "/overlap", Message: e.Message, Hint: e.Hint})
		}
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

// precondition holds the endpoint against If-Match, for what the control does
// whatever the version: somebody else may still be faster, as without If-Match.
func (c *call) precondition() error {
	version, err := c.ifMatch()
	if err != nil || version == 0 {
		return err
	}
	e, err := c.control.Endpoint(c.ctx, c.actor, c.name())
	switch {
	case err != nil:
		return err
	case e.Version != version:
		return state.ErrConflict
	}
	return nil
}
