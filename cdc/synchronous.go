package cdc

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
)

// A walsender whose application_name stands in synchronous_standby_names is a
// synchronous standby, a logical one as well: every commit of the server then
// waits until Gancho has confirmed it, which takes as long as the disk of Redis,
// and for ever when Gancho waits for the commit to become visible to a lookup. It
// also takes the place of a real standby.
// https://www.postgresql.org/docs/current/runtime-config-replication.html#GUC-SYNCHRONOUS-STANDBY-NAMES

// SynchronousError is a stream that is, or would be, a synchronous standby of the
// source. It is not opened, or closed immediately.
type SynchronousError struct {
	Names string // synchronous_standby_names, "" if it was not read
}

// Error implements error.
func (e *SynchronousError) Error() string {
	names := "synchronous_standby_names"
	if e.Names != "" {
		names += " = " + quoteLiteral(e.Names)
	}
	return names + " makes gancho's stream a synchronous standby, for which every commit of the server would wait; " +
		"name the standbys instead of *, such as ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (standby1, standby2)', and run SELECT pg_reload_conf()"
}

// standAside gives a connection that is about to stream a name that
// synchronous_standby_names does not have, or returns a [*SynchronousError]: * is
// every name.
func standAside(ctx context.Context, pg *pgconn.PgConn) error {
	g := greetingOf(pg)
	names := standbyNames(g.standbys)
	switch {
	case g.replica: // its walsenders are never synchronous
		return nil
	case slices.Contains(names, "*"):
		return &SynchronousError{Names: g.standbys}
	case !containsFold(names, g.name):
		return nil
	}
	other := "gancho-stream"
	for containsFold(names, other) {
		other += "-"
	}
	if _, err := ask(ctx, pg, "select pg_catalog.set_config('application_name', "+quoteLiteral(other)+", false)"); err != nil {
		return fmt.Errorf("choose an application_name: %w", err)
	}
	return nil
}

// standbyNames are the names in synchronous_standby_names, and perhaps the words
// and numbers between them. "*" means the same as *.
func standbyNames(list string) []string {
	var names []string
	for i, part := range strings.Split(strings.ReplaceAll(list, `""`, "\x00"), `"`) {
		if i%2 == 1 { // within quotes
			names = append(names, strings.ReplaceAll(part, "\x00", `"`))
			continue
		}
		names = append(names, strings.FieldsFunc(part, func(r rune) bool { return strings.ContainsRune(" \t\r\n\f\v,()", r) })...)
	}
	return names
}

// containsFold compares as the server does: without regard to case.
func containsFold(names []string, name string) bool {
	return slices.ContainsFunc(names, func(n string) bool { return strings.EqualFold(n, name) })
}
