package api

import "gancho/internal/control"

func (c *call) listEventTypes() (answer, error) {
	return list(c.control.EventTypes(c.ctx, c.actor))
}

func (c *call) showStatus() (answer, error) {
	view, err := c.control.Status(c.ctx, c.actor)
	return answer{body: view}, err
}

func (c *call) listChanges() (answer, error) {
	filter := control.AuditFilter{Object: c.query.text("object"), Action: c.query.text("action"), From: c.query.time("from"), To: c.query.time("to")}
	cursor, limit := c.query.cursor("audit"), c.query.limit()
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	p, err := c.control.Audit(c.ctx, c.actor, filter, cursor, limit)
	return paged("audit", p, err)
}
