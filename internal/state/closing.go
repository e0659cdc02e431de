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

// conditions are those of both tables, and those of an attempt beside them.
func (g *Given) conditions(w *where) (given, attempt string) {
	name, from, to := w.param(w.text.encode(g.Endpoint)), w.param(g.From), w.param(g.To)
	// Operational events have other ids.
	given = ` where endpoint = ` + name + ` and committed >= ` + from + ` and committed < ` + to + ` and not replay and webhook_id not like 'gancho-%'`
	if g.Source != "" { // as a range: of an expression PostgreSQL would believe that hardly any row has it, and sort the whole day for each page
		given += ` and webhook_id >= ` + w.param(g.Source+"-") + ` and webhook_id < ` + w.param(g.Source+".")
	}
	if g.Tenant != "" {
		given += ` and tenant = ` + w.param(w.text.encode(g.Tenant))
	}
	// No attempt is before its commit, but for clocks that differ: this spares the partitions before it.
	return given, walEntry + ` and outcome in ('delivered', 'dead') and time >= ` + from + `::timestamptz - interval '1 day'`
}

// page is the query of up to n rows, event and webhook_id, beyond after and not beyond last, in the order of the latter; a pair may
// come twice. Each of the two tables is read by its index, as far as n: a day may have millions of events.
func (g *Given) page(text encoding, after, last string, n int) (string, []any) {
	w := &where{text: text}
	given, attempt := g.conditions(w)
	given += ` and webhook_id > ` + w.param(w.text.encode(after)) + ` and webhook_id <= ` + w.param(w.text.encode(last))
	order := ` order by webhook_id limit ` + w.param(n)
	return `(select event, webhook_id from gancho.attempts` + given + attempt + order + `)
		union all (select event, webhook_id from gancho.dead_letters` + given + walLetter + order + `)` + order, w.args
}

// latest is the query of the last webhook_id. The log is read backwards by it in the partitions up to an hour after To, and what was
// given later is found by an index of its own, attempts_late, so that days after that cost nothing. offset 0 has what that index finds by
// committed read as a whole: ids are no way to it. It is little but after an outage, when it is a row for each event of the day, and the
// index has all that is asked for. Its predicate repeats the conditions here: whoever changes these changes that.
func (g *Given) latest(text encoding) (string, []any) {
	w := &where{text: text}
	given, attempt := g.conditions(w)
	to := w.param(g.To)
	return `select coalesce(max(webhook_id), '') from (
		(select webhook_id from gancho.attempts` + given + attempt + ` and time < ` + to + `::timestamptz + interval '1 hour' order by webhook_id desc limit 1)
		union all (select webhook_id from gancho.attempts` + given + attempt + ` and time >= ` + to + `::timestamptz + interval '1 hour' and time - committed > interval '1 hour' offset 0)
		union all (select webhook_id from gancho.dead_letters` + given + walLetter + ` offset 0)) given`, w.args
}

// givenAtOnce is how many rows GivenIDs reads at once.
const givenAtOnce = 10_000

// GivenIDs calls yield with the events, each once, without holding them, in the order of the bytes of their webhook-ids.
func (s *Store) GivenIDs(ctx context.Context, g Given, yield func(GivenEvent)) error {
	last, err := s.LastGiven(ctx, g)
	if err != nil || last == "" {
		return err
	}
	for after := ""; ; {
		page, err := s.GivenPage(ctx, g, after, last, givenAtOnce)
		if err != nil {
			return err
		}
		for _, e := range page {
			yield(e)
		}
		if len(page) < givenAtOnce {
			return nil
		}
		after = page[len(page)-1].WebhookID
	}
}

const readGiven = "read which events an endpoint was given"

// LastGiven is the last webhook-id of the events; "": there are none.
func (s *Store) LastGiven(ctx context.Context, g Given) (string, error) {
	var last string
	sql, args := g.latest(s.text)
	err := s.pool.QueryRow(ctx, sql, args...).Scan(&last)
	if err != nil {
		return "", fmt.Errorf("%s: %w", readGiven, explain(err))
	}
	return decode(last), nil
}

// GivenPage returns up to n of the events, each once, in the order of their webhook-ids, whose ids are beyond after ("": from the
// first) and not beyond last, which LastGiven has returned: what was given after the day is not looked through.
func (s *Store) GivenPage(ctx context.Context, g Given, after, last string, n int) ([]GivenEvent, error) {
	page := []GivenEvent{}
	for len(page) < n {
		left := n - len(page)
		sql, args := g.page(s.text, after, last, left)
		rows, err := collectMany(ctx, s, readGiven, sql, args, func(row pgx.CollectableRow) (GivenEvent, error) {
			var e GivenEvent
			err := row.Scan(&e.Event, &e.WebhookID)
			decodeIn(&e.WebhookID, &e.Event)
			return e, err
		})
		if err != nil {
			return nil, err
		}
		for _, e := range rows {
			if k := len(page); k == 0 || page[k-1].WebhookID != e.WebhookID {
				page = append(page, e)
			}
		}
		if len(rows) < left {
			break
		}
		after = page[len(page)-1].WebhookID // the others were repeated
	}
	return page, nil
}
