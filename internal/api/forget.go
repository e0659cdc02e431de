package api

import "gancho/internal/control"

func (c *call) forget() (answer, error) {
	var r control.ForgetRequest
	err := c.decode(
		member{name: "tenant", into: &r.Tenant, expects: "a text", blank: true},
		member{name: "key", into: &r.Key, expects: "a text: the ordering key of the person's events", required: true},
		member{name: "events", into: &r.Events, expects: `a list of names or patterns, such as ["cliente.*"]`},
		dryRunMember(&r.DryRun))
	if err != nil {
		return answer{}, err
	}
	receipt, err := c.control.Forget(c.ctx, c.actor, r)
	return answer{body: receipt}, err
}
