package mapping

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"

	"gancho/cdc"
)

// batchResults and batchBytes bound how many results wait for one query of
// their parents' rows.
const (
	batchResults = 1000
	batchBytes   = 1 << 20
)

// What a result says besides its rule and row.
const (
	resultChild  = 1 << iota // a child of the row has changed
	resultParent             // the row is a parent's, to be read from the source
	resultGroup              // the row's collapse key could not be computed
)

// result is a per-transaction rule to apply: the stored form is a key of
// ordinal and rule, and flags before a reference to the row or a parent's key.
type result struct {
	ordinal uint64
	number  int
	flags   byte
	about   []byte
	// row is the parent's, once it has been read; nil when it no longer exists. It
	// has the key alone when reason says why it cannot be read.
	row    []byte
	reason string
}

// Commit ends the transaction and gives the sink the events of the rules that
// waited for it. It may read the source; it then waits until that is available
// or the context ends.
func (m *Mapper) Commit(ctx context.Context, tx *cdc.Transaction, sink Sink) error {
	c := &m.collector
	defer c.reset()
	if len(c.plans) == 0 {
		return nil
	}
	m.committed = tx
	err := c.each(func(n *net) error { return m.consider(tx, n) })
	if err != nil {
		return err
	}
	if c.changes.spilled() {
		c.changes.arena, c.changes.records = nil, nil
	}
	if err := m.join(); err != nil {
		return err
	}
	return m.applyResults(ctx, tx, sink)
}

// consider finds the rules that a net change concerns. Those that depend on no
// other row become results.
func (m *Mapper) consider(tx *cdc.Transaction, n *net) error {
	c := &m.collector
	op, identical := n.op(), n.identical()
	for _, f := range n.plan.families {
		if err := m.matchOwn(f, n, op); err != nil {
			return err
		}
	}
	if op == 0 || identical {
		m.toldNothing(n, op)
		return nil
	}
	for i := range n.plan.children {
		if err := m.matchChild(&n.plan.children[i], n, op); err != nil {
			return err
		}
	}
	for _, r := range n.plan.rules[op] {
		var err error
		switch {
		case r.broken != nil:
			err = c.result(n, n.last, n.side, r.bound.number, 0)
		case len(r.bound.children) > 0: // matched above
		case r.group != nil:
			err = m.matchGroup(tx, r, n)
		case r.parent != nil:
			err = m.matchParent(r, n)
		default:
			err = c.result(n, n.last, n.side, r.bound.number, 0)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// result adds the application of a rule to a net change.
func (c *collector) result(n *net, last uint64, s side, number int, flags byte) error {
	c.scratch = c.reference(append(c.scratch[:0], flags), n)
	return c.addResult(last, s, number, c.scratch)
}

func (c *collector) addResult(last uint64, s side, number int, value []byte) error {
	r := &c.results
	start := len(r.arena)
	r.arena = binary.BigEndian.AppendUint64(r.arena, s.ordinal(c.count, last))
	r.arena = binary.BigEndian.AppendUint16(r.arena, uint16(number)) // bounded when rules are bound
	key := len(r.arena) - start
	r.arena = append(r.arena, value...)
	return r.push(start, key)
}

// applyResults applies rules in the order of their positions.
func (m *Mapper) applyResults(ctx context.Context, tx *cdc.Transaction, sink Sink) error {
	c := &m.collector
	size := 0
	err := c.results.each(func(key, value []byte) error {
		r := result{ordinal: binary.BigEndian.Uint64(key), number: int(binary.BigEndian.Uint16(key[8:])), flags: value[0], about: value[1:]}
		if c.parents == 0 {
			return m.applyResult(ctx, tx, &r, sink)
		}
		if c.results.spilled() {
			r.about = bytes.Clone(r.about)
		}
		c.batch = append(c.batch, r)
		size += len(r.about)
		if len(c.batch) < batchResults && size < batchBytes {
			return nil
		}
		size = 0
		return m.applyBatch(ctx, tx, sink)
	})
	if err != nil {
		return err
	}
	return m.applyBatch(ctx, tx, sink)
}

func (m *Mapper) applyBatch(ctx context.Context, tx *cdc.Transaction, sink Sink) error {
	c := &m.collector
	defer func() {
		clear(c.batch)
		c.batch = c.batch[:0]
	}()
	if err := m.readParents(ctx, tx, c.batch); err != nil {
		return err
	}
	for i := range c.batch {
		if err := m.applyResult(ctx, tx, &c.batch[i], sink); err != nil {
			return err
		}
	}
	return nil
}

// parkResult parks a net change that the rule cannot be applied to, and tells the observer.
func (m *Mapper) parkResult(p *transactionPlan, r *result, c *cdc.Change, sink Sink, reason string) error {
	err := m.park(&p.rulePlan, r.number, c, sink, reason)
	if err == nil && m.observer != nil && len(m.observation.Verdicts) > 0 {
		m.toldNet(r.ordinal)
	}
	m.forgetVerdicts()
	return err
}

// applyResult applies one rule to one net change.
func (m *Mapper) applyResult(ctx context.Context, tx *cdc.Transaction, r *result, sink Sink) error {
	if err := ctx.Err(); err != nil {
		return err // shutdown does not wait for a large transaction
	}
	c := &m.collector
	var n net
	if r.flags&resultParent == 0 {
		n = c.dereference(r.about)
	} else {
		if r.row == nil {
			return nil // deleted since then, which is another event
		}
		n = net{plan: m.parentPlan(m.rules.perTransaction[r.number]), before: true, after: true, old: r.row, new: r.row}
	}
	change := c.as(&n, tx, r.ordinal)
	plan := n.plan.rule(change.Op, r.number)
	if plan == nil {
		return fmt.Errorf("apply rule %s to a transaction: it is not for %s; report this as a bug", m.rules.perTransaction[r.number].place(), change.Op)
	}
	if r.reason != "" {
		m.unreadParent = true
		defer func() { m.unreadParent = false }()
		return m.parkResult(plan, r, change, sink, r.reason)
	}
	m.load(change)
	m.childChanged = r.flags&resultChild != 0
	defer func() { m.childChanged = false }()
	if r.flags&resultGroup != 0 {
		if _, _, failed := m.inputsOf(nil, plan); failed != nil {
			return m.parkResult(plan, r, change, sink, failed.reason(&plan.rulePlan, change.Relation))
		}
	}
	m.observation.Net = true
	defer func() { m.observation.Net = false }()
	before := len(m.observation.Verdicts)
	err := m.apply(&plan.rulePlan, r.number, change, sink)
	if err == nil {
		m.observeEvent(change, &n.plan.subjects[change.Op], before)
		if len(m.observation.Verdicts) > 0 {
			m.observe(change, &n.plan.subjects[change.Op])
		}
	}
	m.forgetVerdicts()
	if err != nil || !m.Full() {
		return err
	}
	return m.Resolve(ctx, sink)
}
