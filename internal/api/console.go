package api

import (
	"net/http"
	"time"

	"gancho/internal/control"
)

// createLink creates a one-time link into the console. It has no address of its own: only who has the link knows it.
func (c *call) createLink() (answer, error) {
	var n control.NewLink
	var life string
	err := c.decode(
		member{name: "role", into: &n.Role, expects: "viewer, operator or admin", required: true},
		member{name: "tenant", into: &n.Tenant, expects: "a text"},
		member{name: "for", into: &life, expects: `a duration such as "15m"`},
		member{name: "return_url", into: &n.ReturnURL, expects: "a text"},
		member{name: "language", into: &n.Language, expects: "pt-BR or en"},
		member{name: "theme", into: &n.Theme, expects: "light or dark"})
	if err != nil {
		return answer{}, err
	}
	if life != "" {
		var mistakes []control.Problem
		if n.For, mistakes = duration("/for", life, time.Second, control.MaxLinkLife); len(mistakes) > 0 {
			return answer{}, invalid(mistakes...)
		}
	}
	view, err := c.control.CreateLink(c.ctx, c.actor, n)
	return answer{status: http.StatusCreated, body: view}, err
}
