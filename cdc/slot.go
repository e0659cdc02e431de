package cdc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// findSlot checks the replication slot, or notes that it is missing.
func (p *preparation) findSlot(ctx context.Context) error {
	s, err := readSlotState(ctx, p.conn, p.Slot)
	if errors.Is(err, ErrNoSlot) {
		if p.Known {
			return &LostSlotError{Slot: p.Slot, Reason: SlotMissing}
		}
		p.newSlot = true
		return nil
	}
	if err != nil {
		return err
	}
	lost := s.lost()
	switch {
	case s.kind != "logical" || s.plugin != "pgoutput" || s.temporary:
		p.setup.addf("slot.foreign", Statement{}, "slot %q exists, but is not a permanent logical slot of pgoutput", p.Slot).Remedy = otherSlot
	case s.twoPhase:
		p.setup.addf("slot.foreign", Statement{}, "slot %q has two_phase on, which sends transactions before they commit", p.Slot).Remedy = otherSlot
	case p.source.Identity.Database != "" && s.database != p.source.Identity.Database:
		p.setup.addf("slot.foreign", Statement{}, "slot %q belongs to database %s, not to %s; "+otherSlot,
			p.Slot, QuoteIdentifier(s.database), QuoteIdentifier(p.source.Identity.Database))
	case s.synced:
		p.setup.addf("slot.unusable", Statement{}, "%v", &SyncedSlotError{Slot: s.name})
	case lost != nil:
		p.setup.Lost = lost
		p.setup.addf("slot.unusable", Statement{}, "%v", lost)
	default:
		p.source.ConfirmedFlush = s.confirmed
	}
	return nil
}

// slotState is what decides whether a slot can be read.
type slotState struct {
	name, plugin, kind, database, status string
	temporary, twoPhase, active          bool
	confirmed                            LSN
	// invalidation is why the server has invalidated it (17 and newer); "": it has
	// not, or does not say.
	invalidation string
	// conflicting: recovery has invalidated a standby's slot (16 and newer).
	conflicting bool
	// synced: it is a standby's copy of its primary's slot (17 and newer).
	synced bool
}

// readSlotState reads a slot. The error wraps [ErrNoSlot] when it does not exist.
func readSlotState(ctx context.Context, q querier, slot string) (slotState, error) {
	s := slotState{name: slot}
	rows, _ := q.Query(ctx, `
		select coalesce(plugin, '')::text, slot_type, coalesce(database, '')::text, temporary, two_phase, coalesce(confirmed_flush_lsn, '0/0'),
			coalesce(wal_status, ''), coalesce(to_jsonb(s)->>'invalidation_reason', ''), coalesce((to_jsonb(s)->>'synced')::bool, false) and pg_is_in_recovery(),
			coalesce((to_jsonb(s)->>'conflicting')::bool, false), active
		from pg_catalog.pg_replication_slots s where slot_name = $1`, slot)
	found, err := pgx.ForEachRow(rows, []any{&s.plugin, &s.kind, &s.database, &s.temporary, &s.twoPhase, &s.confirmed, &s.status, &s.invalidation, &s.synced, &s.conflicting, &s.active},
		func() error { return nil })
	if err == nil && found.RowsAffected() == 0 {
		err = ErrNoSlot
	}
	if err != nil {
		return s, fmt.Errorf("read slot %q: %w", slot, err)
	}
	return s, nil
}

// reconcile is what to do about changes that make no events any more.
const reconcile = "send the rows that were inserted or changed meanwhile with gancho backfill (--where chooses them), because their changes make no events; nothing is known of those that were deleted: let the receivers compare"

const otherSlot = "choose another name for source.slot"

// createSlot creates the slot after the publications: pgoutput looks publications
// up as they were at each change, so that a slot older than its publication
// cannot be read.
func (p *preparation) createSlot(ctx context.Context) error {
	call := fmt.Sprintf("pg_create_logical_replication_slot(%s, 'pgoutput')", quoteLiteral(p.Slot))
	if serverVersion(p.conn) >= 170000 && !p.source.Settings.Standby { // a standby that synchronizes slots has it after a promotion
		call = strings.TrimSuffix(call, ")") + ", failover => true)"
	}
	statement := about(Statement{
		SQL:  fmt.Sprintf("SELECT %s;", call),
		Undo: fmt.Sprintf("SELECT pg_drop_replication_slot(%s);", quoteLiteral(p.Slot)), step: stepSlot, byCreate: true,
	}, object{kind: 'r'})
	if !p.Create || len(p.setup.Findings) > 0 {
		p.setup.addFirstf("slot.missing", statement, "slot %q does not exist", p.Slot)
		return nil
	}
	p.Log.Info().Str("slot", p.Slot).Msg("creating the slot, which waits for transactions that are running")
	err := p.conn.QueryRow(ctx, "select lsn from "+call).Scan(&p.source.ConfirmedFlush)
	switch SQLState(err) {
	case codeLimitExceeded:
		p.setup.addf("server.slots", Statement{}, "all replication slots are in use").Remedy = "drop one that is unused (see pg_replication_slots), or raise max_replication_slots and restart the server"
		return nil
	case codeInsufficientPrivilege:
		f := p.addReplication(ctx, "slot.denied", "the role may not create a replication slot: "+serverMessage(err))
		f.Statements = append(f.Statements, statement)
		return nil
	}
	if err != nil {
		return fmt.Errorf("create slot %q: %w", p.Slot, err)
	}
	p.source.SlotCreated = true
	return nil
}

// Slot is a replication slot as its server has it, and how far it lags behind.
type Slot struct {
	Name   string `json:"slot"`
	Active bool   `json:"active"` // a process reads it
	// Current is the server's position, ConfirmedFlush the slot's confirmed one.
	Current        LSN `json:"-"`
	ConfirmedFlush LSN `json:"-"`
	// UnconfirmedBytes is the WAL written since the confirmed position, of all
	// databases and tables.
	UnconfirmedBytes int64 `json:"unconfirmed_bytes"`
	// HeldBytes is the WAL that the server keeps on its disk for the slot.
	HeldBytes int64 `json:"held_bytes"`
	// WALStatus is reserved, extended, unreserved or lost.
	WALStatus string `json:"wal_status"`
	// Synchronous is synchronous_standby_names if the process that reads the slot
	// stands in it, and so is a synchronous standby or would be in place of another.
	// A process of another role counts only under *.
	Synchronous string `json:"-"`
}

// ErrNoSlot is wrapped by [ReadSlot] when the slot does not exist.
var ErrNoSlot = errors.New("the slot does not exist")

// ReadSlot reads the slot over an ordinary connection.
func ReadSlot(ctx context.Context, conn *pgx.Conn, slot string) (Slot, error) {
	s := Slot{Name: slot}
	var list, reader string
	// pg_stat_replication has sync_state, which it shows to few roles.
	err := conn.QueryRow(ctx, `
		select active, now.lsn, coalesce(confirmed_flush_lsn, '0/0'), greatest(pg_wal_lsn_diff(now.lsn, confirmed_flush_lsn), 0)::int8,
			greatest(pg_wal_lsn_diff(now.lsn, restart_lsn), 0)::int8, coalesce(wal_status, ''),
			case when active and not pg_is_in_recovery() then current_setting('synchronous_standby_names') else '' end,
			coalesce((select application_name from pg_catalog.pg_stat_activity where pid = active_pid), '')
		from pg_catalog.pg_replication_slots
		cross join (select case when pg_is_in_recovery() then pg_last_wal_replay_lsn() else pg_current_wal_lsn() end as lsn) now
		where slot_name = $1`, slot).
		Scan(&s.Active, &s.Current, &s.ConfirmedFlush, &s.UnconfirmedBytes, &s.HeldBytes, &s.WALStatus, &list, &reader)
	if errors.Is(err, pgx.ErrNoRows) {
		err = ErrNoSlot
	}
	if err != nil {
		return Slot{}, fmt.Errorf("read slot %q: %w", slot, err)
	}
	if names := standbyNames(list); slices.Contains(names, "*") || reader != "" && containsFold(names, reader) {
		s.Synchronous = list
	}
	return s, nil
}

// Strain says that the source suffers because of the WAL that it holds for the slot: it is
// about to drop it, and what that means, or it is more than limit bytes, and what to do.
// Empty: neither.
func (s *Slot) Strain(limit int64, dropped, held string) string {
	switch {
	case s.WALStatus == "unreserved" || s.WALStatus == "lost":
		return fmt.Sprintf("the source is about to drop the slot's WAL (wal_status %s, %d MB held): %s", s.WALStatus, s.HeldBytes>>20, dropped)
	case s.HeldBytes > limit:
		return fmt.Sprintf("the source holds %d MB of WAL for the slot: its disk may fill; %s", s.HeldBytes>>20, held)
	}
	return ""
}

// SlotGauge measures a slot again and again over one connection; see [CatalogWatch],
// whose statements may take long. It is safe for concurrent use: measurements take
// turns.
type SlotGauge struct {
	*reading
	slot string
}

// NewSlotGauge returns a gauge of the slot; nothing is opened yet.
func NewSlotGauge(dsn, slot string) *SlotGauge {
	r := newReading(dsn)
	return &SlotGauge{&r, slot}
}

// CatalogWatch reads again and again what the publications do, over one connection of
// its own: the statements read much of the catalogue, may take seconds, and nobody waits
// for them as for a [SlotGauge]. It is safe for concurrent use: they take turns.
type CatalogWatch struct {
	reading
	options Options
}

// NewCatalogWatch returns a watch of the source's catalogue; nothing is opened yet.
func NewCatalogWatch(o Options) *CatalogWatch { return &CatalogWatch{newReading(o.DSN), o} }

// reading is a connection that is opened for its first use and again after one that
// failed. While it is open, a server that is told to shut down "smart", which no
// service manager does, waits for it.
type reading struct {
	dsn  string
	turn chan struct{} // holds one signal while conn is in use
	conn *pgx.Conn     // nil: none is open
}

func newReading(dsn string) reading { return reading{dsn: dsn, turn: make(chan struct{}, 1)} }

// Measure reads the slot, with one statement. It takes 15 seconds at most, as
// does a connection that has to be opened first. The error wraps [ErrNoSlot]
// when the slot does not exist.
func (g *SlotGauge) Measure(ctx context.Context) (s Slot, err error) {
	err = g.read(ctx, func(ctx context.Context, conn *pgx.Conn) error {
		s, err = ReadSlot(ctx, conn, g.slot)
		return err
	})
	return s, err
}

// read calls f with the connection, which it gives up when that fails. It tries once
// more when the connection had ended, and not when f took too long.
func (g *reading) read(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	select {
	case g.turn <- struct{}{}:
		defer func() { <-g.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if g.conn != nil {
		err := g.try(ctx, f)
		if g.conn != nil || ctx.Err() != nil || FaultOf(err) == FaultTimeout {
			return err
		} // somebody has ended the connection since: a new one tells
	}
	conn, err := connect(ctx, g.dsn, watchSettings())
	if err != nil {
		return fmt.Errorf("connect to the source: %w", err)
	}
	g.conn = conn
	return g.try(ctx, f)
}

func (g *reading) try(ctx context.Context, f func(context.Context, *pgx.Conn) error) error {
	reading, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	err := f(reading, g.conn)
	if err != nil && !errors.Is(err, ErrNoSlot) {
		g.disconnect(ctx)
	}
	return err
}

// Close closes the connection, if one is open, after a statement in flight. Its
// owner may be used again.
func (g *reading) Close(ctx context.Context) {
	g.turn <- struct{}{}
	defer func() { <-g.turn }()
	if g.conn != nil {
		g.disconnect(ctx)
	}
}

func (g *reading) disconnect(ctx context.Context) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), goodbyeTimeout)
	defer cancel()
	_ = g.conn.Close(closing) // nothing is in flight
	g.conn = nil
}

// Advance confirms a position to the server after the reader has ended: what
// became durable only during shutdown. Without it the next start would read that
// again, perhaps with rules that do not fit the tables as they were then. lsn is
// a [Transaction]'s End or a Keepalive's.
func Advance(ctx context.Context, o Options, lsn LSN) error {
	conn, err := Connect(ctx, o.DSN)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		// A slot never goes back, and the function refuses to take it there.
		_, err = conn.Exec(ctx, `
			select pg_replication_slot_advance(slot_name, $2::pg_lsn) from pg_catalog.pg_replication_slots
			where slot_name = $1 and confirmed_flush_lsn < $2::pg_lsn`, o.Slot, lsn.String())
	}
	if err != nil {
		return fmt.Errorf("advance slot %q: %w", o.Slot, err)
	}
	return nil
}

// DropSlot drops a slot that nobody is going to read, or that is given up: it would hold
// WAL for ever.
func DropSlot(ctx context.Context, o Options) error {
	conn, err := Connect(ctx, o.DSN)
	if err == nil {
		defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
		_, err = conn.Exec(ctx, `select pg_drop_replication_slot($1)`, o.Slot)
	}
	if err != nil {
		return fmt.Errorf("drop slot %q, which holds WAL until it is dropped: %w", o.Slot, err)
	}
	return nil
}
