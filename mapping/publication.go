package mapping

import (
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
)

// insertSuffix names the publication for tables of which only inserts are read.
const insertSuffix = "_insert"

// publicationFindings compares what the rules need with what the publications publish.
func publicationFindings(rs *Ruleset, publication string) []Finding {
	if publication == "" {
		return nil
	}
	var out []Finding
	for _, b := range rs.withChildren() {
		var members []cdc.Membership
		for _, m := range b.table.Memberships {
			if m.Publication == publication || m.Publication == publication+insertSuffix {
				members = append(members, m)
			}
		}
		out = append(out, b.memberFindings(members, publication)...)
	}
	return out
}

func (b *boundRule) memberFindings(members []cdc.Membership, publication string) []Finding {
	name := b.table.Relation.TableName()
	finding := func(s Severity, fix, format string, args ...any) Finding {
		return Finding{s, b.place(), name, fmt.Sprintf(format, args...), fix}
	}
	alter := "ALTER PUBLICATION " + cdc.QuoteIdentifier(publication)
	if len(members) == 0 && b.table.Kind == 'p' {
		// A publication without the option has the partitions, and not the table.
		return []Finding{finding(Unpublished, fmt.Sprintf("%s SET (publish_via_partition_root = true); and, unless it has the table, %[1]s ADD TABLE %s;", alter, name),
			"publication %s does not have the partitioned table as one", publication)}
	}
	if len(members) == 0 {
		return []Finding{finding(Unpublished, fmt.Sprintf("%s ADD TABLE %s;", alter, name), "publication %s does not have the table", publication)}
	}
	var out []Finding
	for _, op := range b.seen.list() {
		if !slices.ContainsFunc(members, func(m cdc.Membership) bool { return publishes(m, op) }) {
			out = append(out, finding(Unpublished, alter+" SET (publish = 'insert, update, delete, truncate');", "publication %s does not publish %s", publication, op))
		}
	}
	for _, m := range members {
		if m.Filter != "" {
			out = append(out, finding(Note, fmt.Sprintf("publish %s without WHERE", name), "publication %s has a row filter: changes of other rows are never seen", m.Publication))
		}
		var missing []string
		for column := range b.columns {
			if m.Columns != nil && !slices.Contains(m.Columns, column) {
				missing = append(missing, column)
			}
		}
		if len(missing) > 0 {
			slices.Sort(missing)
			out = append(out, finding(Unpublished, fmt.Sprintf("publish %s without a column list", name), "publication %s leaves out the columns %s", m.Publication, strings.Join(missing, ", ")))
		}
	}
	return out
}

func publishes(m cdc.Membership, op cdc.Op) bool {
	switch op {
	case cdc.Insert:
		return m.Insert
	case cdc.Update:
		return m.Update
	case cdc.Delete:
		return m.Delete
	}
	return m.Truncate
}
