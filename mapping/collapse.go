package mapping

import (
	"bytes"
	"encoding/binary"
	"slices"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// perTransaction: the rule waits for the commit.
func (r *rule) perTransaction() bool {
	return len(r.collapse) > 0 || len(r.children) > 0 || r.rootOnly != nil
}

// waitsFor names the key that makes the rule wait for the commit.
func (r *rule) waitsFor() string {
	switch {
	case len(r.children) > 0:
		return "children"
	case r.rootOnly != nil:
		return "root_only"
	}
	return "collapse"
}

func parseCollapse(v strictyaml.Value) []*expression {
	items := v.ListOrOne()
	if len(items) == 0 {
		v.Errorf("write the column, or the list of columns, of which one transaction makes one event", "collapse is an empty list")
	}
	return mapped(items, func(item strictyaml.Value) *expression { return parseExpression(item, "collapse") })
}

// collapsesRows: collapse names all columns of the primary key, so that each row
// is its own group.
func (r *rule) collapsesRows(primaryKey []string) bool {
	var named []string
	for _, e := range r.collapse {
		name, err := cdc.ParseName(e.text)
		if err != nil || name.Schema != "" {
			return false
		}
		named = append(named, name.Name)
	}
	return len(primaryKey) > 0 && !slices.ContainsFunc(primaryKey, func(c string) bool { return !slices.Contains(named, c) })
}

// A match is one side of two rows that have a key in common, such as a parent
// and its child. Its own key is rule, common key, tag, time and side.
const (
	tagFirst  = 0 // children, and the keys of deleted rows
	tagSecond = 1 // the rows that ask for them

	matchTail = 1 + 8 + 1
)

// joining is the state while matches with one common key are read.
type joining struct {
	started bool
	number  int
	key     []byte // rule and common key
	// found: there was a first one; last and side are of the last one.
	found bool
	last  uint64
	side  side
	// asked: there was a second one. value is the last one's.
	asked bool
	value []byte
}

// addMatch adds a match of a rule. The common key is in c.key.
func (c *collector) addMatch(number int, tag byte, last uint64, s side, value []byte) error {
	l := &c.matches
	start := len(l.arena)
	l.arena = binary.BigEndian.AppendUint16(l.arena, uint16(number)) //nolint:gosec // bounded when rules are bound
	l.arena = append(append(l.arena, c.key...), tag)
	l.arena = append(binary.BigEndian.AppendUint64(l.arena, last), byte(s))
	key := len(l.arena) - start
	l.arena = append(l.arena, value...)
	return l.push(start, key)
}

// join turns matches into results.
func (m *Mapper) join() error {
	c := &m.collector
	g := &c.joining
	g.started = false
	err := c.matches.each(func(key, value []byte) error {
		common, tail := key[:len(key)-matchTail], key[len(key)-matchTail:]
		if !g.started || !bytes.Equal(common, g.key) {
			if err := m.endGroup(); err != nil {
				return err
			}
			*g = joining{started: true, number: int(binary.BigEndian.Uint16(key)), key: append(g.key[:0], common...), value: g.value[:0]}
		}
		last, s := binary.BigEndian.Uint64(tail[1:]), side(tail[9])
		if tail[0] == tagFirst {
			g.found, g.last, g.side = true, last, s
			return nil
		}
		return m.joinAsking(last, s, value)
	})
	if err != nil {
		return err
	}
	return m.endGroup()
}

// joinAsking handles a row that asks for others of its group, which come before it.
func (m *Mapper) joinAsking(last uint64, s side, value []byte) error {
	c := &m.collector
	g := &c.joining
	b := m.rules.perTransaction[g.number]
	switch {
	case len(b.children) > 0:
		return m.joinParent(b, last, s, value)
	case b.rootOnly != nil:
		if g.found {
			return nil // the parent is deleted too
		}
		return c.addResult(last, s, g.number, value)
	}
	// Rows of one collapse key come in the order of the transaction.
	g.asked, g.last, g.side = true, last, s
	g.value = append(g.value[:0], value...)
	return nil
}

// endGroup adds the result of a whole group.
func (m *Mapper) endGroup() error {
	c := &m.collector
	g := &c.joining
	if !g.started {
		return nil
	}
	b := m.rules.perTransaction[g.number]
	switch {
	case len(b.children) > 0:
		if !g.found || g.asked {
			return nil
		}
		c.parents++
		return c.addResult(g.last, g.side, g.number, append([]byte{resultParent | resultChild}, g.key[2:]...))
	case b.rootOnly != nil || !g.asked:
		return nil
	}
	return c.addResult(g.last, g.side, g.number, g.value)
}

// matchGroup brings together the rows of one collapse key. Of those that the rule
// fires for, the last one makes the event.
func (m *Mapper) matchGroup(tx *cdc.Transaction, r *transactionPlan, n *net) error {
	c := &m.collector
	m.load(c.as(n, tx, n.last))
	fires, failed := m.fires(&r.rulePlan, &c.change)
	switch {
	case failed != nil: // applying the result parks the change
		return c.result(n, n.last, n.side, r.bound.number, 0)
	case !fires:
		return nil
	}
	var known bool
	if c.key, known, failed = m.inputsOf(c.key[:0], r); failed != nil || !known {
		// A null says nothing about what belongs together.
		flags := byte(0)
		if failed != nil {
			flags = resultGroup
		}
		return c.result(n, n.last, n.side, r.bound.number, flags)
	}
	c.scratch = c.reference(append(c.scratch[:0], 0), n)
	return c.addMatch(r.bound.number, tagSecond, n.last, n.side, c.scratch)
}
