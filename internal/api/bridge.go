package api

import "gancho/internal/control"

func (c *call) showStatus() (answer, error) {
	view, err := c.control.Status(c.ctx, c.actor)
	return answer{body: view}, err
}

// auditFilter is what the parameters object, action, from and to choose.
func (q *query) auditFilter() control.AuditFilter {
	return control.AuditFilter{Object: q.text("object"), Action: q.text("action"), From: q.time("from"), To: q.time("to")}
}
