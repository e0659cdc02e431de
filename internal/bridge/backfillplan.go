package bridge

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/jsontext"
	"gancho/internal/state"
	"gancho/mapping"
)

const (
	// countUpTo is up to how many rows, by the server's estimate, a table is counted exactly, which may
	// take countTimeout.
	countUpTo    = 1_000_000
	countTimeout = "5s"
	// samples is how many rows of a table a plan shows the events of.
	samples = 3
)

// badChoice refuses a part of a backfill's filter.
func badChoice(part, hint, format string, args ...any) error {
	return &control.InvalidError{Problems: []control.Problem{{Pointer: "/filter/" + part, Message: fmt.Sprintf(format, args...), Hint: hint}}}
}

// readTables are the tables whose rows the filter chooses; timers: also those of rules with after.
func readTables(rules *mapping.Ruleset, f *state.Filter, timers bool) ([]mapping.ReadTable, error) {
	tables, err := rules.Reads(func(event string) bool { return queue.Chooses(f.Events, event) }, timers)
	if err != nil {
		return nil, err
	}
	if len(tables) == 0 {
		return nil, badChoice("events", "see gancho events; a rule takes rows that are there already if it is on insert and does not say backfill: never; one with after only sets timers, for all endpoints and tenants", "no rule that makes these events takes rows that are there already")
	}
	if f.Table != "" {
		var names []cdc.Name
		for i := range tables {
			names = append(names, tables[i].Table.Relation.TableName())
		}
		meant, err := cdc.MatchNames(f.Table, names)
		if err != nil {
			return nil, badChoice("table", "write it as in the rules", "%v", err)
		}
		tables = slices.DeleteFunc(tables, func(t mapping.ReadTable) bool { return !slices.Contains(meant, t.Table.Relation.TableName()) })
		if len(tables) == 0 {
			return nil, badChoice("table", "see the tables of the rules: gancho events", "no rule on insert that is chosen is for the table %s", f.Table)
		}
	}
	if f.Where != "" && len(tables) > 1 {
		return nil, badChoice("where", "choose one with --table", "an expression is about one table, and %d are chosen", len(tables))
	}
	for i := range tables {
		t := tables[i].Table
		if len(t.PrimaryKey) == 0 {
			return nil, badChoice("table", "add a primary key, choose other tables or rules, or write backfill: never into the rule ("+tables[i].Rules[0]+")",
				"table %s has no primary key, by which its rows could be read in chunks", t.Relation.TableName())
		}
		if f.Where == "" {
			continue
		}
		if err := rules.CheckWhere(t, f.Where); err != nil {
			return nil, badChoice("where", "write it as the when: of a rule, over the columns of the table", "%v", err)
		}
	}
	return tables, nil
}

// setsTimers reports whether a backfill to an endpoint (empty: to all) sets timers: their events go to all endpoints and tenants.
func setsTimers(endpoint string, f *state.Filter) bool { return endpoint == "" && f.Tenant == nil }

// PlanBackfill says what a backfill would read and, with show, what some rows would lead to, their
// values masked. It changes nothing. The connection is one of cdc.Connect's.
func PlanBackfill(ctx context.Context, o cdc.Options, conn *pgx.Conn, rules *mapping.Ruleset, lookup *mapping.Source, f *state.Filter, show bool) (control.BackfillPlan, error) {
	var plan control.BackfillPlan
	tables, err := readTables(rules, f, setsTimers(f.Endpoint, f))
	if err != nil {
		return plan, err
	}
	rows, err := cdc.OpenRows(ctx, o, rules.Path())
	if errors.Is(err, cdc.ErrStandby) {
		return plan, &control.InvalidError{Problems: []control.Problem{{Message: err.Error()}}}
	}
	if err != nil {
		return plan, err
	}
	defer rows.Close(ctx)
	p := planning{
		rows: rows, reader: cdc.NewReader(o, &cdc.Source{}), mapper: mapping.NewMapper(rules, nil, mapping.WithSource(lookup)), filter: f,
	}
	for i := range tables {
		t := &tables[i]
		shown := control.BackfillTable{Table: t.Table.Relation.TableName().String(), Rules: t.Rules, Events: t.Events}
		if shown.Rows, shown.Estimated, err = countRows(ctx, conn, t.Table); err != nil {
			return plan, err
		}
		if shown.Samples, err = p.look(ctx, t, show); err != nil {
			return plan, err
		}
		plan.Rows += shown.Rows
		plan.Estimated = plan.Estimated || shown.Estimated
		plan.Tables = append(plan.Tables, shown)
	}
	return plan, nil
}

// countRows counts a table's rows, or says about how many there are.
func countRows(ctx context.Context, conn *pgx.Conn, t *cdc.Table) (rows int64, estimated bool, err error) {
	estimate, err := cdc.Estimate(ctx, conn, t)
	if err != nil || estimate > countUpTo {
		return max(estimate, 0), true, err
	}
	rows, err = cdc.Count(ctx, conn, t, countTimeout)
	if cdc.FaultOf(err) == cdc.FaultTimeout && ctx.Err() == nil {
		return max(estimate, 0), true, nil
	}
	return rows, false, err
}

// planning reads some rows as a backfill would.
type planning struct {
	rows    *cdc.RowReader
	reader  *cdc.Reader
	mapper  *mapping.Mapper
	filter  *state.Filter
	samples []json.RawMessage
}

// rowsRefused is why rows of a table cannot be read, as a part of the filter where that is the reason.
func rowsRefused(t *mapping.ReadTable, err error) error {
	switch cdc.FaultOf(err) {
	case cdc.FaultDenied:
		return badChoice("table", fmt.Sprintf("run GRANT SELECT ON %s TO the role of source.dsn, which reading the stream does not need (with row-level security it needs BYPASSRLS, too)", t.Table.Relation.TableName()), "%v", err)
	case cdc.FaultSchema, cdc.FaultValue:
		return badChoice("where", "PostgreSQL evaluates it, which has none of Gancho's own functions", "%v", err)
	}
	return err
}

// look reads the first rows, which shows that it is possible.
func (p *planning) look(ctx context.Context, t *mapping.ReadTable, show bool) ([]json.RawMessage, error) {
	q := &cdc.RowQuery{Table: t.Table, Columns: t.Columns, Where: p.filter.Where}
	chunk, text, err := p.rows.Read(ctx, q, nil, samples, nil)
	if err != nil {
		return nil, rowsRefused(t, err)
	}
	p.rows.Discard(ctx)
	if !show || chunk.Rows == 0 {
		return nil, nil
	}
	p.samples = nil
	tx := &cdc.Transaction{}
	err = p.reader.DecodeRows(ctx, tx, text, func(c *cdc.Change) error {
		return p.mapper.Read(c, func(event string) bool { return queue.Chooses(p.filter.Events, event) }, p)
	})
	if err == nil {
		err = p.mapper.Resolve(ctx, p)
	}
	return p.samples, err
}

// Event implements mapping.Sink.
func (p *planning) Event(e *mapping.Event) error {
	if p.filter.Tenant != nil && *p.filter.Tenant != string(e.Tenant) {
		return nil
	}
	return p.add(map[string]any{"event": e.Type, "op": e.Op.String(), "data": json.RawMessage(jsontext.Mask(e.Data))})
}

// Park implements mapping.Sink.
func (p *planning) Park(parked *mapping.Parked) error {
	return p.add(map[string]any{"event": parked.Type, "op": parked.Op.String(), "parked": parked.Reason})
}

func (p *planning) add(v map[string]any) error {
	text, err := json.Marshal(v)
	p.samples = append(p.samples, text)
	return err
}

// planBackfill plans a backfill by the rules of this process.
func (b *bridge) planBackfill(ctx context.Context, f state.Filter, show bool) (control.BackfillPlan, error) {
	u := b.inUse()
	if u == nil || b.member == nil && !b.capturing() { // the job of one of several sources has it read
		return control.BackfillPlan{}, &control.ElsewhereError{Slot: b.Source.Slot}
	}
	conn, err := cdc.Connect(ctx, b.Source.DSN)
	if err != nil {
		return control.BackfillPlan{}, fmt.Errorf("connect to the source: %w", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	lookup := b.newLookup(u.identity)
	defer lookup.Close(context.WithoutCancel(ctx))
	return PlanBackfill(ctx, b.Source, conn, u.rules, lookup, &f, show)
}
