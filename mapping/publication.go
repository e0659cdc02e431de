package mapping

import (
	"fmt"
	"slices"
	"strings"

	"gancho/cdc"
)

// publicationFindings reports what row filters and column lists of publications
// hold back. Missing tables and operations are reported by cdc.Prepare, which
// knows what is safe to add. With an empty name nothing is checked.
func publicationFindings(rs *Ruleset, publication string) []Finding {
	if publication == "" {
		return nil
	}
	var out []Finding
	for _, b := range rs.withChildren() {
		for _, m := range b.table.Memberships {
			if m.Publication == publication || m.Publication == cdc.InsertPublication(publication) {
				out = append(out, b.restrictionFindings(m)...)
			}
		}
	}
	return out
}

// restrictionFindings checks the row filter and the column list of a membership.
func (b *boundRule) restrictionFindings(m cdc.Membership) []Finding {
	name := b.table.Relation.TableName()
	alter := "ALTER PUBLICATION " + cdc.QuoteIdentifier(m.Publication)
	// In one transaction, so that no change is missed between the two.
	again := fmt.Sprintf("BEGIN; %s DROP TABLE %s; %[1]s ADD TABLE %[2]s; COMMIT;", alter, name)
	var out []Finding
	if m.Filter != "" {
		out = append(out, Finding{b.place(), name, fmt.Sprintf("publication %s has a row filter: changes of other rows are never seen", m.Publication), again})
	}
	var missing []string
	for column := range b.columns {
		if m.Columns != nil && !slices.Contains(m.Columns, column) {
			missing = append(missing, column)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		out = append(out, Finding{b.place(), name, fmt.Sprintf("publication %s leaves out the columns %s", m.Publication, strings.Join(missing, ", ")), again})
	}
	return out
}
