package api

import "gancho/internal/control"

func (c *call) showEventType() (answer, error) {
	view, err := c.control.EventContract(c.ctx, c.actor, c.http.PathValue("name"))
	return answer{body: view}, err
}

// simulate compares the rules with an edited copy of one of their files.
func (c *call) simulate() (answer, error) {
	var r control.Simulation
	err := c.decode(
		member{name: "file", into: &r.File, expects: "a text", required: true},
		member{name: "text", into: &r.Text, expects: "a text", required: true},
		member{name: "table", into: &r.Table, expects: "a text", required: true},
		member{name: "where", into: &r.Where, expects: "a text"},
		member{name: "limit", into: &r.Limit, expects: "a number"})
	if err != nil {
		return answer{}, err
	}
	report, err := c.control.Simulate(c.ctx, c.actor, r)
	return answer{body: report}, err
}
