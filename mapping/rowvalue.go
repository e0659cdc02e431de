package mapping

import (
	"context"
	"slices"

	"gancho/cdc"
)

// RowValue is the value of a column, as a test of rules writes it.
type RowValue struct {
	Column string
	// Text is what PostgreSQL reads as the value; nil: it is null, or Hidden.
	Text   *string
	Hidden bool // it is somebody's: hide, or the rules, say so
	// IsText: any text is a value of the column's type.
	IsText bool
}

// RowValues reads the row of the table with this key as it is now, as lookups read: the columns of the primary key and those that rules use, without
// those that the role may not read. Hide says by a column's name what is not shown. Nil: there is no such row. An error is of the kinds of [Ruleset.Judge],
// and holds no row data.
func (rs *Ruleset) RowValues(ctx context.Context, s *Source, table cdc.Name, key string, hide func(column string) bool) ([]RowValue, error) {
	bound := rs.byTable[table]
	if len(bound) == 0 {
		return nil, errChild(table)
	}
	s.path = rs.path
	j := &judge{rs: rs, table: bound[0].table, hide: hide}
	found, _, err := j.read(ctx, s, key)
	if err != nil || !found {
		return nil, err
	}
	out := []RowValue{}
	for i, column := range j.table.Relation.Columns {
		if j.row[i].State == cdc.Missing {
			continue
		}
		base := column.Type.Base().Name
		v := RowValue{Column: column.Name, IsText: base == "text" || base == "varchar"}
		v.Hidden = slices.ContainsFunc(bound, func(b *boundRule) bool { return j.column(b, i).Hidden }) && !slices.Contains(j.table.PrimaryKey, column.Name)
		if !v.Hidden && j.row[i].State == cdc.Present {
			text := string(j.row[i].Text)
			v.Text = &text
		}
		out = append(out, v)
	}
	return out, nil
}
