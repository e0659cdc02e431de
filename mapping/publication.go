package mapping

import (
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
)

// insertSuffix names the publication for tables of which only inserts are read.
const insertSuffix = "_insert"

// publicationFindings tells what the publications hold back of tables that they
// have. Which tables and operations they lack is cdc.Prepare's business, which
// knows what is safe to add.
func publicationFindings(rs *Ruleset, publication string) []Finding {
	if publication == "" {
		return nil
	}
	var out []Finding
	for _, b := range rs.rules {
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
	var out []Finding
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
