package cdc

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// What rules have needed of a table, and need no longer, is taken back in this order: it leaves
// the publication, its replica identity goes back to what it was, its index is dropped. Else the
// application's UPDATE would fail in between.

// LeavePublication takes a table that no rule is about out of a publication.
func LeavePublication(publication string, table Name) Statement {
	alter := "ALTER PUBLICATION " + QuoteIdentifier(publication)
	return about(Statement{
		SQL: fmt.Sprintf("%s DROP TABLE ONLY %s;", alter, table), Undo: fmt.Sprintf("%s ADD TABLE ONLY %s;", alter, table),
		Why: "no rule is about the table any more; a bridge that runs with earlier rules misses it: let it read the rules first (SIGHUP)", step: stepLeave,
	}, publicationObject(publication), tableObject(table))
}

// RestoreIdentity is the statement that sets the replica identity of a table that no rule is
// about to what it was; sql is what undid the change of it.
func RestoreIdentity(table Name, sql string) Statement {
	return about(Statement{SQL: sql, Why: "no rule is about the table any more", step: stepRestore, identity: true}, tableObject(table))
}

// DropIdentityIndex drops an index that was created as the identity of a table that no rule is
// about; create is the statement that creates it again.
func DropIdentityIndex(table Name, drop, create string) Statement {
	return about(Statement{SQL: drop, Undo: create, Why: "no rule is about the table any more", step: stepDropIndex}, tableObject(table))
}

// Leftover reports whether the statement takes back what rules no longer need.
func (s *Statement) Leftover() bool { return s.step >= stepLeave }

// Member is a table that a publication lists by its name.
type Member struct {
	Publication string
	Table       Name
}

// Members returns the tables that Gancho's publications list by their names.
func Members(ctx context.Context, conn *pgx.Conn, encoding Encoding, publication string) ([]Member, error) {
	rows, _ := conn.Query(ctx, `
		select p.pubname::text, `+encoding.SQL("n.nspname::text")+`, `+encoding.SQL("c.relname::text")+`
		from pg_catalog.pg_publication p join pg_catalog.pg_publication_rel r on r.prpubid = p.oid
		join pg_catalog.pg_class c on c.oid = r.prrelid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where p.pubname = any($1) order by 1, 2, 3`, []string{publication, InsertPublication(publication)})
	members, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (m Member, err error) {
		return m, row.Scan(&m.Publication, &m.Table.Schema, &m.Table.Name)
	})
	if err != nil {
		return nil, fmt.Errorf("read the tables of the publications: %w", unreadable(err))
	}
	return members, nil
}

// Family returns the tables with those that are partitions of them or inherit from them.
func Family(ctx context.Context, conn *pgx.Conn, encoding Encoding, tables []Name) (map[Name]bool, error) {
	schemas, names := []string{}, []string{} // not null
	for _, t := range tables {
		schemas, names = append(schemas, encoding.Encode(t.Schema)), append(names, encoding.Encode(t.Name))
	}
	rows, _ := conn.Query(ctx, `
		with recursive family(oid) as (
			select c.oid from unnest($1::text[], $2::text[]) o(space, name)
			join pg_catalog.pg_namespace n on n.nspname = o.space join pg_catalog.pg_class c on c.relnamespace = n.oid and c.relname = o.name
			union
			select i.inhrelid from family f join pg_catalog.pg_inherits i on i.inhparent = f.oid
		)
		select `+encoding.SQL("n.nspname::text")+`, `+encoding.SQL("c.relname::text")+`
		from family join pg_catalog.pg_class c using (oid) join pg_catalog.pg_namespace n on n.oid = c.relnamespace`, schemas, names)
	family := map[Name]bool{}
	var name Name
	_, err := pgx.ForEachRow(rows, []any{&name.Schema, &name.Name}, func() error {
		family[name] = true
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the partitions and children of the rules' tables: %w", unreadable(err))
	}
	return family, nil
}
