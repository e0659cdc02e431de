package mapping

import (
	"fmt"
	"slices"

	"gancho/cdc"
)

// View is what the kept transactions make of the rows of a table, once Seen has dropped those that the
// rows' snapshot sees. Over applies it.
type View struct {
	mapper *Mapper
	groups []viewGroup
	count  int                     // of changes
	order  map[*cdc.Relation][]int // the index of a change's column by that of the row's, -1: it has none
	key    []byte
	row    []cdc.Datum
}

// viewGroup are changes whose rows are told apart by the same columns.
type viewGroup struct {
	columns []string
	changes map[string][]viewChange // by the key before the change, and by that behind it, in their order
}

// viewChange is a change of a row, and its number among those of the view.
type viewChange struct {
	*cdc.Change
	number int
}

// View returns the kept changes of a table with this primary key. ErrOverlayFull; another error is of
// a change that does not say which row it is of.
func (o *Overlay) View(m *Mapper, table uint32, primaryKey []string) (*View, error) {
	v := &View{mapper: m, order: map[*cdc.Relation][]int{}}
	for i := range o.transactions {
		t := &o.transactions[i]
		if t.lost {
			return nil, ErrOverlayFull
		}
		for j := range t.changes {
			c := &t.changes[j]
			if c.Relation.OID != table || c.Op == cdc.Truncate {
				continue // no TRUNCATE gets between a query and the end of its transaction
			}
			if err := v.add(c, primaryKey); err != nil {
				return nil, err
			}
		}
	}
	return v, nil
}

// identity are the columns by which the stream tells rows apart: the primary key if it is always
// sent, else the replica identity.
func identity(rel *cdc.Relation, primaryKey []string) []string {
	var sent []string
	for _, c := range rel.Columns {
		if c.Key {
			sent = append(sent, c.Name)
		}
	}
	if len(sent) == 0 || !slices.ContainsFunc(primaryKey, func(name string) bool { return !slices.Contains(sent, name) }) {
		return primaryKey
	}
	return sent
}

func (v *View) add(c *cdc.Change, primaryKey []string) error {
	names := identity(c.Relation, primaryKey)
	columns := columnIndexes(c.Relation, names)
	i := slices.IndexFunc(v.groups, func(g viewGroup) bool { return slices.Equal(g.columns, names) })
	if i < 0 {
		i = len(v.groups)
		v.groups = append(v.groups, viewGroup{names, map[string][]viewChange{}})
	}
	changes, number := v.groups[i].changes, v.count
	v.count++
	for _, row := range [][]cdc.Datum{c.Old, c.New} {
		if row == nil {
			continue
		}
		key, known := v.mapper.collector.appendColumns(nil, c.Relation, columns, row)
		if !known {
			return fmt.Errorf("a change of table %s does not say which row it is of: its replica identity (%v) was not sent", c.Relation.TableName(), names)
		}
		changes[string(key)] = append(changes[string(key)], viewChange{c, number})
	}
	return nil
}

// Over makes the row of a cdc.Read what it is at its place in the stream. It reports false when it
// is no longer there. The row is valid until the next call.
//
// A row that has another key now is followed to it: its rows may have been read up to there already, and a
// table whose replica identity is not its primary key is not read in the order of that.
func (v *View) Over(c *cdc.Change) (there bool, err error) {
	there = true
	for from := 0; ; {
		change, err := v.next(c, from)
		if err != nil || change.Change == nil {
			return there, err
		}
		if from == 0 {
			v.row = append(v.row[:0], c.New...)
			c.New = v.row
		}
		from = change.number + 1
		if there = change.Op != cdc.Delete; there {
			v.apply(change.Change, c)
		}
	}
}

// next is the first change, from a number on, of a row with the key that the row has; its Change is nil if there is none.
func (v *View) next(c *cdc.Change, from int) (first viewChange, err error) {
	for i := range v.groups {
		g := &v.groups[i]
		var known bool
		v.key, known = v.mapper.collector.appendColumns(v.key[:0], c.Relation, columnIndexes(c.Relation, g.columns), c.New)
		if !known {
			return first, fmt.Errorf("rows of table %s were read without their replica identity (%v)", c.Relation.TableName(), g.columns)
		}
		changes := g.changes[string(v.key)]
		at, _ := slices.BinarySearchFunc(changes, from, func(c viewChange, from int) int { return c.number - from })
		if at < len(changes) && (first.Change == nil || changes[at].number < first.number) {
			first = changes[at]
		}
	}
	return first, nil
}

// apply gives the row the values that a change has sent: others are as they were.
func (v *View) apply(change, row *cdc.Change) {
	order, ok := v.order[change.Relation]
	if !ok {
		for _, c := range row.Relation.Columns {
			order = append(order, change.Relation.Column(c.Name))
		}
		v.order[change.Relation] = order
	}
	for i, from := range order {
		if from >= 0 && change.New[from].Sent() {
			row.New[i] = change.New[from]
		}
	}
}
