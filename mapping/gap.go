package mapping

import (
	"cmp"
	"slices"
	"strings"
	"time"

	"gancho/cdc"
)

// GapTable are the rows of a table that changes missing from the stream may have inserted or
// altered.
type GapTable struct {
	Table cdc.Name
	// Where chooses them, by the columns that the rules' changed_at name; empty: it may be any row.
	Where string
	// Events are those that the rows can make again: of rules on insert.
	Events []string
	// Unknown are events of the table that are not made again: of rules on other operations alone.
	Unknown []string
}

// longTransaction is how long before its commit a row may have been given its time: now() of SQL is the
// time at which the transaction began.
const longTransaction = time.Hour

// GapTables are the tables of the rules, sorted, with the rows that may have changed since a time; zero:
// it is not known.
func (rs *Ruleset) GapTables(since time.Time) []GapTable {
	var out []GapTable
	whole := map[cdc.Name]bool{}
	for _, b := range rs.rules {
		name := b.table.Relation.TableName()
		i := slices.IndexFunc(out, func(t GapTable) bool { return t.Table == name })
		if i < 0 {
			i, out = len(out), append(out, GapTable{Table: name})
		}
		t := &out[i]
		if !b.ops.has(cdc.Insert) {
			t.Unknown = append(t.Unknown, b.event)
			continue
		}
		t.Events = append(t.Events, b.event)
		where := b.changedSince(since, rs.settings.Location)
		whole[name] = whole[name] || where == ""
		switch {
		case whole[name]:
			t.Where = ""
		case t.Where == "":
			t.Where = where
		case !strings.Contains(t.Where, where):
			t.Where += " or " + where
		}
	}
	slices.SortFunc(out, func(a, b GapTable) int { return cmp.Compare(a.Table.String(), b.Table.String()) })
	return out
}

// changedSince chooses the rows that have changed since a time, and more; "": they are not known.
func (b *boundRule) changedSince(since time.Time, zone *time.Location) string {
	if len(b.changedAt) == 0 || since.IsZero() {
		return ""
	}
	from := since.Add(-longTransaction)
	var conditions []string
	for _, ref := range b.changedAt {
		i := b.table.Relation.Column(ref.name)
		if i < 0 {
			return ""
		}
		var text string
		switch b.table.Relation.Columns[i].Type.Base().Name {
		case "timestamptz":
			text = from.UTC().Format("2006-01-02 15:04:05+00")
		case "timestamp":
			text = from.In(zone).Format(time.DateTime)
		default: // a date
			text = from.In(zone).Format(time.DateOnly)
		}
		conditions = append(conditions, cdc.QuoteIdentifier(ref.name)+" >= '"+text+"'")
	}
	return strings.Join(conditions, " or ")
}

// checkChangedAt checks that the columns are there and have a time. The rule does not depend on them.
func (c *compiler) checkChangedAt(r *rule) {
	for _, ref := range r.changedAt {
		i := c.find(ref)
		if i < 0 {
			continue
		}
		if t := c.relation.Columns[i].Type.Base(); !slices.Contains([]string{"timestamptz", "timestamp", "date"}, t.Name) {
			c.mistakes = append(c.mistakes, ref.value.Mistake(-1, "name a column with the time of the row's last change, such as atualizado_em",
				"changed_at needs a timestamp or a date, and column %q is %s", ref.name, t.Name))
		}
	}
}
