package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// ValidateConstraint has the server prove a constraint for the rows that were there before it.
// Like the creation of an index it reads the table while rows are written.
func ValidateConstraint(table Name, constraint string) Statement {
	return about(Statement{SQL: fmt.Sprintf("ALTER TABLE %s VALIDATE CONSTRAINT %s;", table, QuoteIdentifier(constraint)), step: stepIndex}, tableObject(table))
}

// nullableIdentities finds replica identities by an index over columns that are NOT NULL by a
// constraint that is NOT VALID, which PostgreSQL 18 accepts: rows from before the constraint may
// have a null there, and the stream has nothing else of one that is deleted.
func nullableIdentities(ctx context.Context, conn *pgx.Conn, encoding Encoding) ([]Finding, error) {
	if serverVersion(conn) < 180000 {
		return nil, nil
	}
	rows, _ := conn.Query(ctx, `
		select `+encoding.SQL("ns.nspname::text")+`, `+encoding.SQL("c.relname::text")+`, `+encoding.SQL("n.conname::text")+`
		from pg_catalog.pg_index i join pg_catalog.pg_class c on c.oid = i.indrelid and c.relreplident = 'i' join pg_catalog.pg_namespace ns on ns.oid = c.relnamespace
		join pg_catalog.pg_constraint n on n.conrelid = c.oid and n.contype = 'n' and not n.convalidated and n.conkey[1] = any((i.indkey::int2[])[0:i.indnkeyatts - 1])
		where i.indisreplident order by 1, 2, 3`)
	var table Name
	var constraint string
	var found []Finding
	_, err := pgx.ForEachRow(rows, []any{&table.Schema, &table.Name, &constraint}, func() error {
		found = append(found, Finding{
			ID: "identity.nullable", Severity: SeverityWarning, Where: "source", Table: table.String(),
			Title:      fmt.Sprintf("%s is identified by an index with a column that is NOT NULL by the constraint %s, which is NOT VALID: rows from before it may have a null there", table, QuoteIdentifier(constraint)),
			Why:        "when such rows are deleted, or their keys change, nothing in the stream tells them apart: the old row has a null and no other column",
			Statements: []Statement{ValidateConstraint(table, constraint)}, Remedy: "after giving a value to the nulls that there are",
		})
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read replica identities: %w", unreadable(err))
	}
	return found, nil
}
