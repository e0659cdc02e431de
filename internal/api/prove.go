package api

import "gancho/delivery/queue"

// prove accounts for the changes and events of a span.
func (c *call) prove() (answer, error) {
	span := queue.TallySpan{From: c.query.time("from"), To: c.query.time("to"), First: c.query.position("from_position"), Last: c.query.position("to_position")}
	if err := c.query.err(); err != nil {
		return answer{}, err
	}
	view, err := c.control.Prove(c.ctx, c.actor, span)
	return answer{body: view}, err
}
