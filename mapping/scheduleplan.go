package mapping

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
	"gancho/mapping/expr"
)

// largeTable is how many rows a table has that is not to be read whole at each run of a schedule.
const largeTable = 100_000

// FindingScheduleCost is the id of the findings with what a schedule's query costs: news for who checks, and none for who runs.
const FindingScheduleCost = "schedule.cost"

// planNode is a node of a plan as EXPLAIN (FORMAT JSON) has it.
type planNode struct {
	Type     string  `json:"Node Type"`
	Schema   string  `json:"Schema"`
	Relation string  `json:"Relation Name"`
	Cost     float64 `json:"Total Cost"`
	Rows     float64 `json:"Plan Rows"`
	Plans    []planNode
}

// each calls f for the node and all below it.
func (n *planNode) each(f func(*planNode) error) error {
	if err := f(n); err != nil {
		return err
	}
	for i := range n.Plans {
		if err := n.Plans[i].each(f); err != nil {
			return err
		}
	}
	return nil
}

// explainSchedule reports what the server expects of a schedule's query, and returns the tables that it reads: those that its text names, and
// those of the plan, in which a function may be what it does. A role that may not read the tables is refused the plan alone.
func (b *binder) explainSchedule(ctx context.Context, r *rule, query *boundLookup) ([]cdc.Name, error) {
	tables, err := b.tablesOf(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read what the query of %s reads: %w", r.event, err)
	}
	sql, _ := query.scheduledSQL(time.Now(), query.schemas, nil, "")
	var text []byte
	err = enter(ctx, b.conn, b.room.path, func() error {
		result := b.conn.PgConn().ExecParams(ctx, "explain (verbose, format json) "+sql, nil, nil, nil, nil).Read()
		if result.Err == nil && len(result.Rows) == 1 {
			text = result.Rows[0][0]
		}
		return result.Err
	})
	if _, refused := errors.AsType[*pgconn.PgError](err); refused && !b.conn.IsClosed() {
		return tables, nil // the role of lookups may be another, whose check says it
	}
	if err != nil {
		return nil, fmt.Errorf("read the plan of the query of %s: %w", r.event, err)
	}
	var plans []struct{ Plan planNode }
	if err := json.Unmarshal(text, &plans); err != nil || len(plans) != 1 {
		return nil, fmt.Errorf("read the plan of the query of %s: the server's answer is no plan", r.event)
	}
	top := &plans[0].Plan
	when := r.schedule.timetable.String()
	b.note(FindingScheduleCost, r, words("gancho check shows the cost again when tables have grown"),
		"the query of %s runs %s; the server expects %.0f rows, at a cost of %.0f", r.event, when, top.Rows, top.Cost)
	if err := b.warnOfVolatile(ctx, r, query); err != nil {
		return nil, err
	}
	err = top.each(func(n *planNode) error {
		if table := (cdc.Name{Schema: n.Schema, Name: n.Relation}); n.Relation != "" && !slices.Contains(tables, table) {
			tables = append(tables, table)
		}
		if n.Type != "Seq Scan" {
			return nil
		}
		var rows float64
		err := b.conn.QueryRow(ctx, `
			select c.reltuples from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
			where n.nspname = $1 and c.relname = $2`, n.Schema, n.Relation).Scan(&rows)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && rows < largeTable {
			return nil
		}
		if err != nil {
			return fmt.Errorf("read the size of %s: %w", n.Relation, err)
		}
		b.findings = append(b.findings, cdc.Finding{
			ID: "schedule.scan", Severity: cdc.SeverityWarning, Where: r.place(),
			Title:  fmt.Sprintf("the query of %s reads all of table %s, some %.0f rows, each time it runs (%s)", r.event, cdc.Name{Schema: n.Schema, Name: n.Relation}, rows, when),
			Remedy: "create an index that serves its condition, or run it when the database is quiet",
		})
		return nil
	})
	return tables, err
}

// tablesOf are the tables that a query names, those below views, and their partitions and heirs: they do not depend on who may read them.
func (b *binder) tablesOf(ctx context.Context, query *boundLookup) ([]cdc.Name, error) {
	in, err := query.reads, error(nil)
	if len(in.columns) == 0 {
		in, err = readsOf(ctx, b.conn, b.room.path, query.batch)
	}
	if err == nil {
		in, _, err = expand(ctx, b.conn, in, false)
	}
	oids := slices.Collect(maps.Keys(in.columns))
	if errors.Is(err, errTree) {
		oids, err = query.tables, nil // those of its columns
	}
	if err != nil {
		return nil, err
	}
	rows, err := b.conn.Query(ctx, `
		with recursive tables (oid) as (
			select unnest($1::oid[]) union select i.inhrelid from pg_catalog.pg_inherits i join tables t on i.inhparent = t.oid
		)
		select n.nspname::text, c.relname::text from tables t join pg_catalog.pg_class c on c.oid = t.oid join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.relkind <> 'v' order by 1, 2`, oids)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowToStructByPos[cdc.Name])
}

// warnOfVolatile warns of functions in a schedule's query that say something else each time: a run that is repeated has other
// rows then, under other ids.
func (b *binder) warnOfVolatile(ctx context.Context, r *rule, query *boundLookup) error {
	tokens, _ := expr.Tokens(query.sql) // it was read before
	var called []string
	for i, t := range tokens {
		if t.IsName() && tokens.At(i+1).Is("(") {
			called = append(called, t.Text)
		}
	}
	var volatile string
	err := b.conn.QueryRow(ctx, `
		select coalesce(string_agg(f.proname, ', ' order by f.proname), '') from (
			select proname from pg_catalog.pg_proc where proname = any($1) group by proname having bool_and(provolatile = 'v')) f`, called).Scan(&volatile)
	if err != nil {
		return fmt.Errorf("read what the query of %s calls: %w", r.event, err)
	}
	if volatile != "" {
		b.findings = append(b.findings, cdc.Finding{
			ID: "schedule.volatile", Severity: cdc.SeverityWarning, Where: r.place(),
			Title:  fmt.Sprintf("the query of %s calls %s, which is volatile: a run that is repeated after a failure finds other rows, and sends them as well", r.event, volatile),
			Remedy: "leave it out; or write once with columns that do not depend on it",
		})
	}
	return nil
}
