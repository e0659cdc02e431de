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
	l := leftovers{conn: conn, options: o, published: map[cdc.Name]bool{}, decided: map[cdc.Name]bool{}, restored: map[cdc.Name]bool{}}
	for _, e := range slices.Backward(r.entries) {
		if e.System != is.SystemID || e.Database != is.Database || e.State != done && e.State != begun {
			continue
		}
		if err := l.take(ctx, &e, needed); err != nil {
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
	options    Options
	statements []cdc.Statement
	published  map[cdc.Name]bool // tables that a statement has put into a publication
	decided    map[cdc.Name]bool // tables whose newest change of the identity was looked at
	restored   map[cdc.Name]bool // tables whose identity is taken back
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
		case strings.Contains(e.SQL, " REPLICA IDENTITY "):
			err = l.identity(ctx, table, e)
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
func (l *leftovers) identity(ctx context.Context, table cdc.Name, e *entry) error {
	if l.decided[table] {
		return nil
	}
	l.decided[table] = true
	if e.Leftover || e.Undo == "" {
		return nil
	}
	back, err := cdc.ResolveOwners(ctx, l.conn, l.options.Encoding, []cdc.Statement{cdc.RestoreIdentity(table, e.Undo)})
	if err != nil || back[0].Undo != e.SQL {
		return err
	}
	l.restored[table] = true
	l.statements = append(l.statements, back[0])
	return nil
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
