package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/pflag"

	"gancho/cdc"
	"gancho/config"
	"gancho/delivery/endpoint"
	"gancho/internal/bridge"
	"gancho/internal/strictyaml"
)

// sourceFlag chooses one of several sources.
const sourceFlag = "source"

// registerSource adds it to a command that works on one source.
func registerSource(flags *pflag.FlagSet, name *string) {
	flags.StringVar(name, sourceFlag, "", "`name` of the one source that it is about, where the configuration has many databases")
}

// onSource is the configuration of a command that works on one source: as it is, or as if the source of that name were its only one.
func onSource(ctx context.Context, c *config.Config, name string) (*config.Config, error) {
	switch {
	case c.Sources == nil && name == "":
		return c, nil
	case c.Sources == nil:
		return nil, usageError{fmt.Errorf("--source %s: %s has one source only; leave it out", name, c.File)}
	}
	all, err := allSources(ctx, c)
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == name {
			return c.For(all[i]), nil
		}
	}
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	some := strings.Join(names[:min(len(names), shownSources)], ", ")
	if name == "" {
		return nil, usageError{fmt.Errorf("which source: add --source NAME; there are %d, such as %s", len(all), some)}
	}
	if closest := strictyaml.Closest(name, names); closest != "" {
		return nil, usageError{fmt.Errorf("--source: there is no source %q; did you mean %q?", name, closest)}
	}
	return nil, usageError{fmt.Errorf("--source: there is no source %q; there are %d, such as %s", name, len(all), some)}
}

// shownSources are how many of them a message names.
const shownSources = 3

// databasesTimeout bounds the question which databases there are.
const databasesTimeout = 15 * time.Second

// listSources returns the sources of a configuration that has several, as they are now, in the order of the file or of their names.
func listSources(ctx context.Context, c *config.Config) ([]config.Database, error) {
	k := c.Sources.Cluster
	if k == nil {
		return c.Sources.Listed, nil
	}
	ctx, cancel := context.WithTimeout(ctx, databasesTimeout)
	defer cancel()
	names, err := clusterDatabases(ctx, k)
	if err != nil {
		return nil, err
	}
	out := make([]config.Database, 0, len(names))
	for _, name := range names {
		if (len(k.Databases) == 0 || endpoint.CoveredBy(k.Databases, name)) && !endpoint.CoveredBy(k.Except, name) {
			out = append(out, c.Sources.Of(name))
		}
	}
	slices.SortFunc(out, func(a, b config.Database) int { return cmp.Compare(a.Name, b.Name) })
	return out, nil
}

const databasesOfCluster = `select datname::text from pg_catalog.pg_database where datallowconn and not datistemplate`

// clusterDatabases are those of the server, or those that the SQL of the configuration names.
func clusterDatabases(ctx context.Context, k *config.SourceCluster) ([]string, error) {
	conn, err := cdc.Connect(ctx, k.DSN.Reveal())
	if err != nil {
		return nil, fmt.Errorf("connect to the cluster: %w; check cluster.dsn", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	names, err := firstColumn(ctx, conn, cmp.Or(k.SQL, databasesOfCluster))
	switch {
	case err != nil && k.SQL != "":
		return nil, fmt.Errorf("list the databases by cluster.sql: %w", err)
	case err != nil:
		return nil, fmt.Errorf("list the databases of the cluster: %w", err)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}

// firstColumn is the first column of a query, as text, in a transaction that can write nothing.
func firstColumn(ctx context.Context, conn *pgx.Conn, query string) ([]string, error) {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{AccessMode: pgx.ReadOnly})
	if err != nil {
		return nil, err
	}
	defer func() { _ = tx.Rollback(context.WithoutCancel(ctx)) }() // there is nothing to commit
	rows, err := tx.Query(ctx, query, pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	var out []string
	for rows.Next() {
		values := rows.RawValues()
		if len(values) == 0 || len(values[0]) == 0 {
			return nil, errors.New("a row has no name in its first column; leave such rows out")
		}
		out = append(out, string(values[0]))
	}
	return out, rows.Err()
}

// currentConfig is the configuration that a bridge was loaded with last.
type currentConfig struct{ atomic.Pointer[config.Config] }

// sources are those of the configuration for a bridge; nil: it has one.
func (current *currentConfig) sources() *bridge.Sources {
	s := current.Load().Sources
	if s == nil {
		return nil
	}
	o := &bridge.Sources{Streams: s.Walsenders, VisitEvery: s.Visit}
	if s.Cluster != nil {
		o.Cluster = func() string {
			if now := current.Load().Sources; now != nil && now.Cluster != nil {
				return now.Cluster.DSN.Reveal()
			}
			return s.Cluster.DSN.Reveal() // what it has become needs another process
		}
	}
	o.List = func(ctx context.Context) ([]bridge.Source, error) {
		c := current.Load()
		if c.Sources == nil {
			return nil, errors.New("the configuration has one source now: restart the bridge")
		}
		all, err := listSources(ctx, c)
		if err != nil {
			return nil, err
		}
		out := make([]bridge.Source, len(all))
		for i, d := range all {
			out[i] = bridge.Source{Name: d.Name, DSN: d.DSN.Reveal(), LookupDSN: cmp.Or(d.LookupDSN, d.DSN).Reveal(), Slot: d.Slot, QueuePrefix: d.QueuePrefix}
		}
		return out, nil
	}
	return o
}
