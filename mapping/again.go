package mapping

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
)

// rowOf tells a change's row from others of its transaction: the primary key as text, of denied columns a hash that is
// another one in each transaction.
func rowOf(c *cdc.Change, b *boundRule) (key []string) {
	row := c.New
	if row == nil {
		row = c.Old
	}
	for _, name := range b.table.PrimaryKey {
		i := c.Relation.Column(name)
		switch {
		case i < 0 || i >= len(row):
		case b.denied[name]:
			h := sha256.Sum256(fmt.Appendf(nil, "%s %d %s", c.Commit, c.Tx.XID, row[i].Text))
			key = append(key, hex.EncodeToString(h[:12]))
		default:
			key = append(key, string(row[i].Text))
		}
	}
	return key
}

// sameRow is what changes of one row have in common.
func (k *kept) sameRow() string {
	return k.Change.Relation.TableName().String() + "\x00" + strings.Join(k.Row, "\x00")
}

// identical reports whether an update is known to have changed nothing: also that which stands for a row of which only a
// child has changed.
func (k *kept) identical() bool {
	c := k.Change
	if c.Op != cdc.Update || len(c.Old) != len(c.New) {
		return false
	}
	for i := range c.New {
		was, now := &c.Old[i], &c.New[i]
		if now.State != cdc.Unchanged && (was.State != now.State || !bytes.Equal(was.Text, now.Text)) {
			return false
		}
	}
	return true
}

// madeBy reports whether an event of the rule was made of the change.
func (k *kept) madeBy(identity string) bool {
	return k.Rule == identity || slices.Contains(k.also, identity)
}

// add adds what another event has kept of the same change: each leaves out the denied columns that its rule does not use.
func (k *kept) add(other *kept) {
	k.also = append(k.also, other.Rule)
	missing := func(name string) bool { return slices.Contains(other.Denied, name) }
	for _, name := range k.Denied {
		i := k.Change.Relation.Column(name)
		if i < 0 || missing(name) {
			continue
		}
		for _, rows := range [][2][]cdc.Datum{{k.Change.New, other.Change.New}, {k.Change.Old, other.Change.Old}} {
			if i < len(rows[0]) && i < len(rows[1]) {
				rows[0][i] = rows[1][i]
			}
		}
	}
	k.Denied = slices.DeleteFunc(k.Denied, func(name string) bool { return !missing(name) })
}

// rowChanges are what is kept of one row's changes in a transaction.
type rowChanges struct {
	plain, net int
	// whole is the index of the change that stands for the net change of the row, -1: none does.
	whole int
	// makers are the rules that were decided at the commit and have made an event.
	makers map[string]bool
}

// transactionOf are the kept changes of a transaction, each once, and what there is of each row. At one position there may
// be several: a parent's event has that of its child's change.
func transactionOf(changes [][]byte) (all []kept, rows map[string]*rowChanges, err error) {
	type identity struct {
		cdc.Position
		row        string
		net, child bool
	}
	known := map[identity]int{}
	for _, change := range changes {
		k, err := readKept(change)
		if err != nil {
			return nil, nil, err
		}
		id := identity{k.Change.Position, k.sameRow(), k.Net, k.Child}
		if i, is := known[id]; is {
			all[i].add(&k)
			continue
		}
		known[id] = len(all)
		all = append(all, k)
	}
	rows = map[string]*rowChanges{}
	for i := range all {
		k := &all[i]
		of := rows[k.sameRow()]
		if of == nil {
			of = &rowChanges{whole: -1, makers: map[string]bool{}}
			rows[k.sameRow()] = of
		}
		if !k.Net {
			of.plain++
			continue
		}
		of.net++
		for _, rule := range append(k.also, k.Rule) {
			of.makers[rule] = true
		}
		if !k.identical() && (of.whole < 0 || all[of.whole].Child && !k.Child) {
			of.whole = i
		}
	}
	for i := range all {
		if of := rows[all[i].sameRow()]; of.net == 0 && of.plain == 1 && !all[i].identical() {
			of.whole = i
		}
	}
	return all, rows, nil
}

// Remapped is what MapAll has done.
type Remapped struct {
	// Changes is how many changes there were, each counted once.
	Changes int
	// Undecided are, by the names of their events, the changes of which it cannot be said whether rules make an event: it
	// depends on other changes of the transaction, of which not all are kept. The sink got nothing of them.
	Undecided map[string]int
}

// MapAll gives the sink what all rules make of changes of one transaction, each an Event.Change, in the order of their
// positions. A row has its changes, which plain rules take, and its net change, which those take that are decided at the
// commit. Of what only one is kept, all rules take that one, unless apart: others of the row may be in another call. Each
// row is taken as if it were alone: whether a rule whose result depends on others makes an event is undecided, unless it
// has made one. Its errors are those of Map.
func (r *Redriver) MapAll(ctx context.Context, changes [][]byte, apart bool, sink Sink) (Remapped, error) {
	all, rows, err := transactionOf(changes)
	done := Remapped{Changes: len(all), Undecided: map[string]int{}}
	if err != nil {
		return done, err
	}
	defer r.mapper.Reset()
	for i := range all {
		k := &all[i]
		of := rows[k.sameRow()]
		if !k.Net || !apart && of.plain == 0 && of.whole == i {
			if err := r.plainRules(k, sink); err != nil {
				return done, err
			}
		}
		if err := r.commitRules(k, of, place{whole: of.whole == i, apart: apart}, done.Undecided, sink); err != nil {
			return done, err
		}
		if r.mapper.Full() {
			if err := r.resolve(ctx, sink); err != nil {
				return done, err
			}
		}
	}
	return done, r.resolve(ctx, sink)
}

// one applies a rule to a change.
func (r *Redriver) one(plan *rulePlan, group *transactionPlan, n int, k *kept, sink Sink) error {
	if reason := k.lacks(plan.bound); reason != "" {
		return r.mapper.park(plan, n, k.Change, sink, reason)
	}
	return r.apply(plan, group, n, k, sink)
}

func (r *Redriver) plainRules(k *kept, sink Sink) error {
	op := r.bind(k.Change)
	plans := r.plan.byOp[op]
	for i := range plans {
		if err := r.one(&plans[i], nil, plans[i].n, k, sink); err != nil {
			return err
		}
	}
	return nil
}

// place is what a change is among those of its row.
type place struct{ whole, apart bool }

// commitRules applies those that are decided at the commit.
func (r *Redriver) commitRules(k *kept, of *rowChanges, at place, undecided map[string]int, sink Sink) error {
	op := r.bind(k.Change)
	for _, c := range r.plan.collects {
		if int(op) >= len(c.rules) {
			continue
		}
		for _, t := range c.rules[op] {
			switch r.decided(t, k, of, at) {
			case ruleTakes:
				group := t
				if t.group == nil {
					group = nil
				}
				if err := r.one(&t.rulePlan, group, t.bound.number, k, sink); err != nil {
					return err
				}
			case ruleUndecided:
				if r.mayFire(&t.rulePlan, k) {
					undecided[t.bound.event]++
				}
			}
		}
	}
	return nil
}

// What a rule that is decided at the commit does with a change.
type decision int

const (
	ruleLeaves decision = iota
	ruleTakes
	ruleUndecided
)

func (r *Redriver) decided(t *transactionPlan, k *kept, of *rowChanges, at place) decision {
	identity, parent := r.mapper.rules.identity(t.bound), len(t.bound.children) > 0
	switch {
	case k.Net && k.madeBy(identity):
		return ruleTakes
	case of.makers[identity]: // of another
		return ruleLeaves
	case at.apart && !k.Net:
		return ruleLeaves
	case k.Net && k.Child && k.identical():
		if parent {
			return ruleUndecided // whether it was one of this rule's children
		}
		return ruleLeaves
	case at.apart:
		if k.Child || parent || t.group != nil || t.parent != nil {
			return ruleUndecided
		}
		return ruleTakes
	case of.net == 0 && of.plain > 1:
		return ruleUndecided // the net change of these
	case !at.whole:
		return ruleLeaves
	case t.group != nil || t.parent != nil:
		return ruleUndecided
	}
	return ruleTakes
}

// mayFire reports whether the rule's condition does not refuse the change.
func (r *Redriver) mayFire(plan *rulePlan, k *kept) bool {
	m := r.mapper
	if !plan.decides || k.lacks(plan.bound) != "" {
		return true
	}
	m.load(k.Change)
	m.childChanged = k.Child && len(plan.bound.children) > 0
	fires, failed := m.fires(plan, k.Change)
	m.childChanged = false
	return fires || failed != nil
}
