package mapping

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// insertSuffix names the publication for tables of which only inserts are read.
const insertSuffix = "_insert"

// everything is what the publication of whole changes publishes; the other one
// leaves out updates and deletes.
const (
	everything  = "insert, update, delete, truncate"
	insertsOnly = "insert, truncate"
)

// publicationFindings compares what the rules need with what the publications
// publish. An empty name looks at none.
func publicationFindings(ctx context.Context, conn *pgx.Conn, rs *Ruleset, publication string) ([]Finding, error) {
	if publication == "" {
		return nil, nil
	}
	rows, err := conn.Query(ctx, "select pubname::text from pg_catalog.pg_publication where pubname in ($1, $2)", publication, publication+insertSuffix)
	if err != nil {
		return nil, fmt.Errorf("read publications: %w", err)
	}
	exist, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read publications: %w", err)
	}
	var out []Finding
	for _, name := range []string{publication, publication + insertSuffix} {
		if !slices.Contains(exist, name) {
			out = append(out, missingPublication(rs, publication, name)...)
		}
	}
	for _, b := range rs.withChildren() {
		var members []cdc.Membership
		for _, m := range b.table.Memberships {
			if m.Publication == publication || m.Publication == publication+insertSuffix {
				members = append(members, m)
			}
		}
		if target := b.publication(publication); len(members) > 0 || slices.Contains(exist, target) {
			out = append(out, b.memberFindings(members, target)...)
		}
	}
	return out, nil
}

// publication is the one that a rule's table belongs in. A table without
// replica identity would refuse the application's own UPDATE and DELETE in one
// that publishes those.
func (b *boundRule) publication(name string) string {
	if len(b.table.WithoutIdentity) > 0 {
		return name + insertSuffix
	}
	return name
}

// missingPublication is one finding for all tables that belong in a publication.
func missingPublication(rs *Ruleset, publication, name string) []Finding {
	var tables []string
	var first *boundRule
	for _, b := range rs.withChildren() {
		if b.publication(publication) != name {
			continue
		}
		if first == nil {
			first = b
		}
		if table := b.table.Relation.TableName().String(); !slices.Contains(tables, table) {
			tables = append(tables, table)
		}
	}
	if first == nil {
		return nil
	}
	publish := everything
	if name != publication {
		publish = insertsOnly
	}
	return []Finding{{
		Severity: Unpublished, Rule: first.place(), Table: first.table.Relation.TableName(),
		Message: fmt.Sprintf("publication %s does not exist", name),
		Fix: fmt.Sprintf("run: CREATE PUBLICATION %s FOR TABLE %s WITH (publish = '%s', publish_via_partition_root = true); (gancho run --create does)",
			cdc.QuoteIdentifier(name), strings.Join(tables, ", "), publish),
	}}
}

// memberFindings looks at the publications that have a rule's table; target is
// the one that should.
func (b *boundRule) memberFindings(members []cdc.Membership, target string) []Finding {
	name := b.table.Relation.TableName()
	finding := func(s Severity, fix, format string, args ...any) Finding {
		return Finding{s, b.place(), name, fmt.Sprintf(format, args...), fix}
	}
	alter := "ALTER PUBLICATION " + cdc.QuoteIdentifier(target)
	add := fmt.Sprintf("%s ADD TABLE %s;", alter, name)
	if len(members) == 0 && b.table.Kind == 'p' {
		// A publication without the option has the partitions, and not the table.
		return []Finding{finding(Unpublished, fmt.Sprintf("%s SET (publish_via_partition_root = true); and, unless it has the table, %s", alter, add),
			"publication %s does not have the partitioned table as one", target)}
	}
	if len(members) == 0 {
		return []Finding{finding(Unpublished, add, "publication %s does not have the table", target)}
	}
	member := slices.ContainsFunc(members, func(m cdc.Membership) bool { return m.Publication == target })
	var out []Finding
	for _, op := range b.seen.list() {
		if slices.ContainsFunc(members, func(m cdc.Membership) bool { return publishes(m, op) }) {
			continue
		}
		if !member {
			out = append(out, finding(Unpublished, add, "publication %s does not have the table, so that %s is not published", target, op))
			break
		}
		out = append(out, finding(Unpublished, alter+" SET (publish = '"+everything+"');", "publication %s does not publish %s", target, op))
	}
	for _, m := range members {
		out = append(out, b.restrictionFindings(m)...)
	}
	return out
}

// restrictionFindings looks at the row filter and the column list of a membership.
func (b *boundRule) restrictionFindings(m cdc.Membership) []Finding {
	name := b.table.Relation.TableName()
	alter := "ALTER PUBLICATION " + cdc.QuoteIdentifier(m.Publication)
	// In one transaction, so that no change is missed between the two.
	again := fmt.Sprintf("BEGIN; %s DROP TABLE %s; %[1]s ADD TABLE %[2]s; COMMIT;", alter, name)
	var out []Finding
	if m.Filter != "" {
		out = append(out, Finding{Note, b.place(), name, fmt.Sprintf("publication %s has a row filter: changes of other rows are never seen", m.Publication), again})
	}
	var missing []string
	for column := range b.columns {
		if m.Columns != nil && !slices.Contains(m.Columns, column) {
			missing = append(missing, column)
		}
	}
	if len(missing) > 0 {
		slices.Sort(missing)
		out = append(out, Finding{Unpublished, b.place(), name, fmt.Sprintf("publication %s leaves out the columns %s", m.Publication, strings.Join(missing, ", ")), again})
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
