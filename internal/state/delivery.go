package state

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/webhook"
)

// latest is the condition of attempts after which there was no other of the same event at the same endpoint. It is written so that there is one way
// to look for another: along the index of webhook-ids, for each row of a page. An anti join would read the table; and an equality of endpoints, or a
// comparison that an index knows, had the planner read all later attempts of the endpoint for each row.
const latest = `(select true from gancho.attempts later where later.webhook_id = attempts.webhook_id and later.endpoint is not distinct from attempts.endpoint
	and not (later.time, later.entry, later.number) <= (attempts.time, attempts.entry, attempts.number) limit 1) is null`

// Event reads a kept event. ErrNotFound: it is not kept, or is not the tenant's ("": any).
func (s *Store) Event(ctx context.Context, webhookID, tenant string) (webhook.Message, error) {
	w := &where{text: s.text}
	w.given("webhook_id = %s", webhookID)
	w.equal("tenant", orNil(tenant))
	return collectOne(ctx, s, "read a kept event", `select `+eventColumns+` from gancho.events`+w.sql()+` limit 1`, w.args, scanEvent)
}

// Interval is what was sent in a span of time.
type Interval struct {
	From      time.Time `json:"from"`
	Delivered int64     `json:"delivered"`
	// Failed are attempts that failed, not events.
	Failed int64 `json:"failed"`
	// P50 and P95 are of the durations of attempts that delivered; 0: there were none.
	P50 webhook.Milliseconds `json:"p50_ms"`
	P95 webhook.Milliseconds `json:"p95_ms"`
}

// Intervals returns what was sent to an endpoint ("": to all) of a tenant's events ("": of all) from one time to another, by steps. Those
// in which nothing was sent are missing. The total, of all of the time, has the percentiles of all.
func (s *Store) Intervals(ctx context.Context, from, to time.Time, step time.Duration, endpoint, tenant string) (total Interval, found []Interval, err error) {
	w := &where{text: s.text}
	w.between("time", from, to)
	w.given("endpoint = %s", endpoint)
	w.equal("tenant", orNil(tenant))
	w.conditions = append(w.conditions, "outcome <> 'superseded'") // nothing was sent
	width := w.param(fmt.Sprintf("%d microseconds", step.Microseconds()))
	origin := w.param(from)
	// The row of all of the time is the first one: that of the time 0.
	sql := fmt.Sprintf(`select coalesce(span, 'epoch'), count(*) filter (where outcome = 'delivered'), count(*) filter (where outcome <> 'delivered'),
		coalesce(percentile_disc(array[0.5, 0.95]) within group (order by micros) filter (where outcome = 'delivered'), '{0,0}')
		from (select date_bin(%s::text::interval, time, %s::timestamptz) span, outcome, micros from gancho.attempts%s) sent
		group by grouping sets ((span), ()) order by 1`, width, origin, w.sql())
	found, err = collectMany(ctx, s, "read the rates of deliveries", sql, w.args, func(row pgx.CollectableRow) (Interval, error) {
		var i Interval
		var micros []int64
		err := row.Scan(&i.From, &i.Delivered, &i.Failed, &micros)
		if err == nil {
			i.P50, i.P95 = milliseconds(micros[0]), milliseconds(micros[1])
		}
		i.From = i.From.UTC()
		return i, err
	})
	if err != nil || len(found) == 0 {
		return Interval{}, nil, err
	}
	return found[0], found[1:], nil
}

func milliseconds(micros int64) webhook.Milliseconds {
	return webhook.Milliseconds(time.Duration(micros) * time.Microsecond)
}
