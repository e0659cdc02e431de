package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// Remarks returns what a person should know about the source: publications of
// Gancho's that have more than its tables, and what other tools of the database
// do not get along with.
func Remarks(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string) ([]Finding, error) {
	schemas, version := "null", serverVersion(conn)
	with := "publish_via_partition_root = true"
	if version >= 180000 {
		with += ", publish_generated_columns = stored"
	}
	if version >= 150000 {
		schemas = `(select string_agg(` + encoding.SQL("quote_ident(s.nspname)") + `, ', ' order by s.nspname) from pg_catalog.pg_publication_namespace n
			join pg_catalog.pg_namespace s on s.oid = n.pnnspid where n.pnpubid = p.oid)`
	}
	rows, _ := conn.Query(ctx, `
		select pubname::text, puballtables, coalesce(`+schemas+`, ''), pubupdate or pubdelete
		from pg_catalog.pg_publication p where pubname = any($1) order by 1`, []string{publication, InsertPublication(publication)})
	var remarks []Finding
	var name, schema string
	var everything, changes bool
	_, err := pgx.ForEachRow(rows, []any{&name, &everything, &schema, &changes}, func() error {
		what := "all tables of the database"
		if !everything && schema == "" {
			return nil
		} else if !everything {
			what = "all tables of schema " + schema
		}
		r := Finding{
			ID: "publication.whole", Severity: SeverityWarning, Where: "source.publication",
			Title:  fmt.Sprintf("publication %s has %s, those that no rule names and those that are created later: their changes are sent and discarded", QuoteIdentifier(name), what),
			Remedy: fmt.Sprintf("list the rules' tables instead, in one transaction so that no change is missed: BEGIN; DROP PUBLICATION %s; CREATE PUBLICATION %[1]s FOR TABLE ... WITH (%s); COMMIT; (gancho check prints the CREATE PUBLICATION for a name that does not exist)", QuoteIdentifier(name), with),
		}
		if changes {
			r.Why = "a new table without a primary key refuses the application's UPDATE and DELETE, and pg_repack fails on tables that change while it works"
		}
		remarks = append(remarks, r)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read publications: %w", unreadable(err))
	}
	var commandLine, pglogical bool
	err = conn.QueryRow(ctx, `
		select exists (select from pg_catalog.pg_settings where name = 'wal_level' and source = 'command line'),
			exists (select from pg_catalog.pg_extension where extname = 'pglogical')`).Scan(&commandLine, &pglogical)
	if err != nil {
		return nil, fmt.Errorf("read settings of the source: %w", err)
	}
	if commandLine {
		remarks = append(remarks, Finding{
			ID: "server.wal_level.command_line", Severity: SeverityWarning, Where: "source",
			Title:      "wal_level is set on the server's command line alone: pg_upgrade and pg_rewind start the server without it, and then it refuses to start while the slot exists",
			Statements: []Statement{AlterSystem("wal_level", "logical")}, Remedy: "and take it off the command line",
		})
	}
	if pglogical {
		remarks = append(remarks, Finding{
			ID: "server.pglogical", Severity: SeverityWarning, Where: "source",
			Title:  "pglogical is installed: it refuses to add a table with REPLICA IDENTITY FULL to a replication set that replicates updates or deletes",
			Remedy: "leave the tables that it replicates at REPLICA IDENTITY DEFAULT, and let their rules do without old values",
		})
	}
	nullable, err := nullableIdentities(ctx, conn, encoding)
	return append(remarks, nullable...), err
}
