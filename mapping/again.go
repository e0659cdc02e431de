package mapping

import (
	"context"
	"strings"

	"gancho/cdc"
)

// rowOf is the text of the primary key of a change's row.
func rowOf(c *cdc.Change, primaryKey []string) (key []string) {
	row := c.New
	if row == nil {
		row = c.Old
	}
	for _, name := range primaryKey {
		if i := c.Relation.Column(name); i >= 0 && i < len(row) {
			key = append(key, string(row[i].Text))
		}
	}
	return key
}

// sameRow is what changes of one row have in common.
func (k *kept) sameRow() string {
	return k.Change.Relation.TableName().String() + "\x00" + strings.Join(k.Row, "\x00")
}

// MapAll gives the sink what all rules make of changes of one transaction, each an Event.Change, in the order of their
// positions. A row has its changes, which plain rules take, and its net change, which those take that are decided at the
// commit. Of what only one is kept, all rules take that one, unless apart: others of the row may be in another call. Each
// change is taken as if it were alone. Its errors are those of Map.
func (r *Redriver) MapAll(ctx context.Context, changes [][]byte, apart bool, sink Sink) error {
	all := make([]kept, 0, len(changes))
	plain, net := map[string]bool{}, map[string]bool{}
	for _, change := range changes {
		k, err := readKept(change)
		if err != nil {
			return err
		}
		if n := len(all); n > 0 && all[n-1].Change.Position == k.Change.Position {
			continue // another event of it
		}
		all = append(all, k)
		if k.Net {
			net[k.sameRow()] = true
		} else {
			plain[k.sameRow()] = true
		}
	}
	defer r.mapper.Reset()
	for i := range all {
		k := &all[i]
		row := k.sameRow()
		if !k.Net || !apart && !plain[row] {
			if err := r.plainRules(k, sink); err != nil {
				return err
			}
		}
		if k.Net || !apart && !net[row] {
			if err := r.commitRules(k, sink); err != nil {
				return err
			}
		}
		if r.mapper.Full() {
			if err := r.resolve(ctx, sink); err != nil {
				return err
			}
		}
	}
	return r.resolve(ctx, sink)
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

// commitRules applies those that are decided at the commit.
func (r *Redriver) commitRules(k *kept, sink Sink) error {
	op := r.bind(k.Change)
	for _, c := range r.plan.collects {
		if int(op) >= len(c.rules) {
			continue
		}
		for _, t := range c.rules[op] {
			group := t
			if t.group == nil {
				group = nil
			}
			if err := r.one(&t.rulePlan, group, t.bound.number, k, sink); err != nil {
				return err
			}
		}
	}
	return nil
}
