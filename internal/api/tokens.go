package api

import (
	"net/http"

	"gancho/internal/state"
)

func (c *call) createToken() (answer, error) {
	var n state.Token
	err := c.decode(
		member{name: "name", into: &n.Name, expects: "a text", required: true},
		member{name: "role", into: &n.Role, expects: "viewer, operator or admin", required: true},
		member{name: "tenant", into: &n.Tenant, expects: "a text"},
		member{name: "expires", into: &n.Expires, expects: `a time such as "2027-01-01T00:00:00Z"`})
	if err != nil {
		return answer{}, err
	}
	view, err := c.control.CreateToken(c.ctx, c.actor, n)
	return answer{status: http.StatusCreated, body: view, location: root + "/tokens/" + view.Name}, err
}

func (c *call) revokeToken() (answer, error) {
	return answer{}, c.control.RevokeToken(c.ctx, c.actor, c.name())
}
