package mapping

import (
	"bytes"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// failure is why a rule could not be applied, and in which part.
type failure struct {
	part       string // watch, previous or key, when there is no expression
	expression *expression
	err        error
}

func (m *Mapper) apply(r *rulePlan, n int, c *cdc.Change, sink Sink) error {
	undecided := "" // why the part of the condition that is decided here is not
	if r.decides {
		fires, failed := m.fires(r, c)
		switch {
		case failed != nil && len(r.late) > 0 && r.broken == nil:
			undecided = failed.reason(r, c.Relation)
		case failed != nil:
			return m.park(r, n, c, sink, failed.reason(r, c.Relation))
		case !fires:
			m.refused(n)
			return nil
		}
	}
	if r.broken != nil {
		return m.park(r, n, c, sink, r.broken.Error())
	}
	if r.awaits {
		return m.suspend(r, n, c, sink, undecided)
	}
	if failed := m.build(r, n, c); failed != nil {
		return m.park(r, n, c, sink, failed.reason(r, c.Relation))
	}
	m.told(n, Fired)
	return m.emit(sink)
}

// emit gives m.event to the sink, or puts it behind what is pending.
func (m *Mapper) emit(sink Sink) error {
	if len(m.waiting.entries) > 0 {
		m.waiting.event(&m.event)
		return nil
	}
	return sink.Event(&m.event)
}

// fires evaluates watch AND when in three-valued logic: what was not sent
// matters only if the rest does not decide.
func (m *Mapper) fires(r *rulePlan, c *cdc.Change) (bool, *failure) {
	if m.coverage != nil {
		m.coverage.count(m, r, c)
	}
	var unknown *failure
	if c.Op == cdc.Update && len(r.watch) > 0 && !m.childChanged {
		var changed bool
		changed, unknown = m.changed(r, c)
		if !changed && unknown == nil {
			m.why = Verdict{Outcome: Unwatched}
			return false, nil
		}
	}
	if r.when != nil {
		value, null, part, err := m.machine.Decide(r.when)
		switch {
		case err != nil:
			return false, &failure{expression: r.bound.when, err: err}
		case null || !value:
			m.why = r.reason(part, null)
			return false, nil
		}
	}
	return unknown == nil, unknown
}

// changed reports whether an update changed a watched column.
func (m *Mapper) changed(r *rulePlan, c *cdc.Change) (bool, *failure) {
	var unknown *failure
	for _, w := range r.watch {
		now := c.New[w.index]
		if now.State == cdc.Unchanged {
			continue
		}
		if c.Old == nil && c.Relation.KeepsKey(w.index) {
			continue
		}
		if c.Old != nil && c.Old[w.index].Sent() && (now.State == cdc.Invalid || c.Old[w.index].State == cdc.Invalid) {
			if bytes.Equal(now.Text, c.Old[w.index].Text) {
				continue
			}
			return true, nil
		}
		if c.Old == nil || !c.Old[w.index].Known() {
			unknown = &failure{part: "watch", err: &expr.UnknownError{Column: c.Relation.Columns[w.index].Name, Old: true, State: cdc.Missing}}
			continue
		}
		was := c.Old[w.index]
		if was.State == now.State && (now.State == cdc.Null || bytes.Equal(was.Text, now.Text)) {
			continue
		}
		if w.changed == nil || was.State != now.State {
			return true, nil
		}
		differs, _, err := m.machine.Bool(w.changed)
		if err != nil {
			return false, &failure{part: "watch", err: err}
		}
		if differs {
			return true, nil
		}
	}
	return false, unknown
}

// subject fills in m.tenant and m.key.
func (m *Mapper) subject(r *rulePlan, c *cdc.Change) *failure {
	m.tenant, m.given = m.tenant[:0], m.given[:0]
	if err := m.machine.Sent(r.sent); err != nil {
		return &failure{part: "tenant or key", err: err}
	}
	if r.tenant != nil {
		var err error
		if m.given, _, err = m.machine.AppendText(m.given, r.tenant); err != nil {
			return &failure{expression: r.bound.tenant, err: err}
		}
		m.given = unpadded(m.given, r.tenant.Type())
	}
	m.tenant = m.rules.appendTenant(m.tenant, m.given)
	return m.orderingKey(r, c)
}

// build fills in m.event.
func (m *Mapper) build(r *rulePlan, n int, c *cdc.Change) *failure {
	if failed := m.subject(r, c); failed != nil {
		return failed
	}
	m.unchanged, m.errors, m.nullErrors = m.unchanged[:0], m.errors[:0], r.bound.onError.Valid()
	var failed *failure
	if m.data, failed = m.renderObject(m.data[:0], r.payload, m.options(r)); failed != nil {
		return failed
	}
	e := &m.event
	*e = Event{
		Position: c.Position, N: n, Type: r.bound.event, Rule: r.place, Version: r.bound.version,
		Time: c.Tx.Time, Tenant: m.tenant, Key: m.key, Op: c.Op, Data: m.data,
	}
	if m.keepsEvents {
		e.Change, _ = m.keep(r, n, c) // an event without is sent all the same
	}
	if len(m.unchanged) > 0 {
		m.unchanged = append(m.unchanged, ']')
		e.Unchanged = m.unchanged
	}
	if r.bound.previous && c.Op == cdc.Update {
		if m.previous, failed = m.renderPrevious(m.previous[:0], r, c); failed != nil {
			return failed
		}
		e.Previous = m.previous
	}
	if len(m.errors) > 0 {
		m.errors = append(m.errors, ']')
		e.Errors = m.errors
	}
	if len(r.tags) == 0 {
		return nil
	}
	if failed = m.renderTags(r, m.options(r)); failed == nil && len(m.tags) > 0 {
		e.Tags = m.tags
	}
	return failed
}

// orderingKey fills in m.key: the rule's, or the primary key.
func (m *Mapper) orderingKey(r *rulePlan, c *cdc.Change) *failure {
	m.key = m.key[:0]
	if r.key != nil {
		var null bool
		var err error
		if m.key, null, err = m.machine.AppendText(m.key, r.key); err != nil {
			return &failure{expression: r.bound.key, err: err}
		}
		if !null {
			m.key = append(m.key[:0], m.rules.settings.KeyText(m.key, r.key.Type())...)
			return nil
		}
		m.key = m.key[:0]
	}
	row, old := c.New, false
	if c.Op == cdc.Delete {
		row, old = c.Old, true
	}
	for i, column := range r.fallback {
		if i > 0 {
			m.key = append(m.key, ',')
		}
		state := cdc.Missing
		if row != nil {
			state = row[column].State
		}
		if state != cdc.Present && state != cdc.Null {
			return &failure{part: "key", err: &expr.UnknownError{Column: c.Relation.Columns[column].Name, Old: old, State: state}}
		}
		m.key = append(m.key, m.rules.settings.KeyText(row[column].Text, c.Relation.Columns[column].Type)...)
	}
	return nil
}

// unpadded returns a text without the padding of char(n).
func unpadded(text []byte, t *cdc.Type) []byte {
	if len(text) > 0 && text[len(text)-1] == ' ' && padded(t) {
		return bytes.TrimRight(text, " ")
	}
	return text
}
