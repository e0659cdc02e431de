package state

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Given chooses the captured events that an endpoint was given, by their commits: each that was delivered to it or became
// a dead letter, but nothing that came to it later only, as a resend or a redrive.
type Given struct {
	Endpoint string
	Source   string // what their webhook-ids begin with; "": anything
	Tenant   string // of this tenant; "": of all
	From, To time.Time
}

// GivenEvent is one of them.
type GivenEvent struct {
	WebhookID string `json:"webhook_id"`
	Event     string `json:"event"`
}

// walEntry chooses attempts of events of the WAL, whose entries begin with an epoch: not those of timers and schedules, which come through the
// side stream, by the milliseconds of a clock, and are not among what an append has counted. A dead letter has another handle; it says
// what has made its event.
const (
	walEntry  = ` and length(split_part(entry, '-', 1)) > 15`
	walLetter = ` and coalesce(encode(substring(unchanged from 1 for 20), 'escape'), '') !~ '^\{"op":"(timer|schedule)"'` // what notes wrote
)

// sql selects event and webhook_id, each pair once; more is added to the conditions.
func (g *Given) sql(w *where, more string) string {
	name, from, to := w.param(w.text.encode(g.Endpoint)), w.param(g.From), w.param(g.To)
	// Operational events have other ids.
	given := ` where endpoint = ` + name + ` and committed >= ` + from + ` and committed < ` + to + ` and not replay and webhook_id not like 'gancho-%'` + more
	if g.Source != "" {
		given += ` and left(webhook_id, 9) = ` + w.param(g.Source) + ` || '-'`
	}
	if g.Tenant != "" {
		given += ` and tenant = ` + w.param(w.text.encode(g.Tenant))
	}
	// No attempt is before its commit, but for clocks that differ: this spares the partitions before it.
	return `select event, webhook_id from gancho.attempts` + given + walEntry + ` and outcome in ('delivered', 'dead') and time >= ` + from + `::timestamptz - interval '1 day'
		union select event, webhook_id from gancho.dead_letters` + given + walLetter
}

// GivenIDs calls yield with the events, without holding them, in the order of their names and, of each,
// of the webhook-ids, both byte by byte.
func (s *Store) GivenIDs(ctx context.Context, g Given, yield func(GivenEvent)) error {
	const what = "read which events an endpoint was given"
	w := &where{text: s.text}
	rows, _ := s.pool.Query(ctx, `select * from (`+g.sql(w, "")+`) given order by event collate "C", webhook_id collate "C"`, w.args...) // ForEachRow returns its error
	var e GivenEvent
	_, err := pgx.ForEachRow(rows, []any{&e.Event, &e.WebhookID}, func() error {
		yield(GivenEvent{WebhookID: decode(e.WebhookID), Event: decode(e.Event)})
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return nil
}

// GivenPage returns up to n of the events, in the order of their webhook-ids, whose ids are beyond one ("": from the first).
func (s *Store) GivenPage(ctx context.Context, g Given, after string, n int) ([]GivenEvent, error) {
	w := &where{text: s.text}
	sql := `select * from (` + g.sql(w, ` and webhook_id collate "C" > `+w.param(w.text.encode(after))) + `) given order by webhook_id collate "C", event limit ` + w.param(n)
	return collectMany(ctx, s, "read which events an endpoint was given", sql, w.args, func(row pgx.CollectableRow) (GivenEvent, error) {
		var e GivenEvent
		err := row.Scan(&e.Event, &e.WebhookID)
		decodeIn(&e.WebhookID, &e.Event)
		return e, err
	})
}
