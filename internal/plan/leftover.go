package plan

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// Leftovers returns the statements that take back what the record has of tables that the rules
// are no longer about. Tables that somebody else has put into a publication, identities that
// were changed since, and privileges stay.
func (r *Record) Leftovers(ctx context.Context, conn *pgx.Conn, o Options, rules []cdc.TableNeed) ([]cdc.Statement, error) {
	if len(r.entries) == 0 {
		return nil, nil
	}
	is, err := cdc.LoadIdentity(ctx, conn)
	if err != nil {
		return nil, err
	}
	names := make([]cdc.Name, len(rules))
	for i, t := range rules {
		names[i] = cdc.Name{Schema: t.Schema, Name: t.Name}
	}
	needed, err := cdc.Family(ctx, conn, o.Encoding, names)
	if err != nil {
		return nil, err
	}
	var entries []entry // the newest first
	for _, e := range slices.Backward(r.entries) {
		if e.System == is.SystemID && e.Database == is.Database && (e.State == done || e.State == begun) {
			entries = append(entries, e)
		}
	}
	l := leftovers{conn: conn, published: map[cdc.Name]bool{}, restored: map[cdc.Name]bool{}}
	if l.identities, err = identities(ctx, conn, o, entries, needed); err != nil {
		return nil, err
	}
	for i := range entries {
		if err := l.take(ctx, &entries[i], needed); err != nil {
			return nil, err
		}
	}
	members, err := cdc.Members(ctx, conn, o.Encoding, o.Publication)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if l.published[m.Table] {
			l.statements = append(l.statements, cdc.LeavePublication(m.Publication, m.Table))
		}
	}
	return l.statements, nil
}

// leftovers are collected from a record, the newest entry first.
type leftovers struct {
	conn       *pgx.Conn
	statements []cdc.Statement
	published  map[cdc.Name]bool          // tables that a statement has put into a publication
	identities map[cdc.Name]cdc.Statement // that take the newest change of tables' identities back
	restored   map[cdc.Name]bool          // tables whose identity is taken back
}

// setsIdentity: the entry has changed how its tables identify their rows.
func (e *entry) setsIdentity() bool { return strings.Contains(e.SQL, " REPLICA IDENTITY ") }

// identities are the statements that take back the newest change of each table's identity, unless rules
// need the table or the change was itself one back. Who owns the tables, and how they identify their rows
// now, is one question for all.
func identities(ctx context.Context, conn *pgx.Conn, o Options, entries []entry, needed map[cdc.Name]bool) (map[cdc.Name]cdc.Statement, error) {
	decided := map[cdc.Name]bool{}
	var tables []cdc.Name
	var back []cdc.Statement
	for i := range entries {
		e := &entries[i]
		for _, text := range e.Tables {
			table, err := cdc.ParseName(text)
			if err != nil {
				return nil, err
			}
			if !e.setsIdentity() || strings.Contains(e.SQL, "PUBLICATION ") || needed[table] || decided[table] {
				continue
			}
			decided[table] = true
			if !e.Leftover && e.Undo != "" {
				tables, back = append(tables, table), append(back, cdc.RestoreIdentity(table, e.Undo))
			}
		}
	}
	back, err := cdc.ResolveOwners(ctx, conn, o.Encoding, back)
	if err != nil {
		return nil, err
	}
	out := map[cdc.Name]cdc.Statement{}
	for i, table := range tables {
		out[table] = back[i]
	}
	return out, nil
}

func (l *leftovers) take(ctx context.Context, e *entry, needed map[cdc.Name]bool) error {
	for _, text := range e.Tables {
		table, err := cdc.ParseName(text)
		if err != nil {
			return err
		}
		if needed[table] {
			continue
		}
		switch {
		case strings.Contains(e.SQL, "PUBLICATION "):
			l.published[table] = true
		case e.setsIdentity():
			l.identity(table, e)
		case strings.HasPrefix(e.SQL, "CREATE UNIQUE INDEX CONCURRENTLY "):
			err = l.index(ctx, table, e)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// identity takes an identity back that is still the one that the entry has set.
func (l *leftovers) identity(table cdc.Name, e *entry) {
	back, newest := l.identities[table]
	delete(l.identities, table) // older changes are no longer how it is
	if newest && back.Undo == e.SQL {
		l.restored[table] = true
		l.statements = append(l.statements, back)
	}
}

// index takes an index back that is there, unless it stays the identity.
func (l *leftovers) index(ctx context.Context, table cdc.Name, e *entry) error {
	name := strings.TrimSuffix(strings.TrimPrefix(e.Undo, "DROP INDEX CONCURRENTLY "), ";")
	var exists, used bool
	err := l.conn.QueryRow(ctx, `
		select i.indexrelid is not null, coalesce(i.indisreplident and c.relreplident = 'i', false)
		from (select pg_catalog.to_regclass($1)::oid as oid) o left join pg_catalog.pg_index i on i.indexrelid = o.oid left join pg_catalog.pg_class c on c.oid = i.indrelid`, name).Scan(&exists, &used)
	if err != nil {
		return fmt.Errorf("read index %s: %w", name, err)
	}
	if exists && (!used || l.restored[table]) {
		l.statements = append(l.statements, cdc.DropIdentityIndex(table, e.Undo, e.SQL))
	}
	return nil
}
