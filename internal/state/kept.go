package state

import (
	"context"
	"fmt"
	"hash/maphash"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/webhook"
)

// KeptIDs calls yield with the webhook-ids of the kept events that a filter chooses, in the order of their
// commits, without holding them; it ends with yield's first error.
func (s *Store) KeptIDs(ctx context.Context, f Filter, yield func(webhookID string) error) error {
	const what = "read the ids of kept events"
	end, err := waitForTurn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer end()
	w, err := s.where(ctx, &f, eventsTable)
	if err != nil {
		return err
	}
	rows, _ := s.pool.Query(ctx, `select webhook_id from `+eventsTable+w.sql()+` order by committed, webhook_id`, w.args...) // ForEachRow returns its error
	var id string
	var refused error
	_, err = pgx.ForEachRow(rows, []any{&id}, func() error {
		refused = yield(decode(id))
		return refused
	})
	if err != nil && refused == nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return refused
}

// SupersededIDs are the webhook-ids of the events committed from a time on (zero: all) that were superseded at an endpoint.
func (s *Store) SupersededIDs(ctx context.Context, endpoint string, from time.Time) (map[string]bool, error) {
	w := &where{text: s.text}
	w.add("outcome = 'superseded' and endpoint = %s", s.text.encode(endpoint))
	if !from.IsZero() { // no event is superseded before its commit, but for clocks that differ: this spares the partitions before it
		w.add("committed >= %s and time >= %s::timestamptz - interval '1 day'", from, from)
	}
	ids, err := collect(ctx, s, "read which events were superseded", `select webhook_id from gancho.attempts`+w.sql(), w.args, pgx.RowTo[string])
	out := make(map[string]bool, len(ids))
	for _, id := range ids {
		out[decode(id)] = true
	}
	return out, err
}

// keptPage is how many events EachKept and EachLast read at a time: whoever takes them may be slow, and a statement must
// not last as long.
const keptPage = 1000

// EachKept calls yield with the kept events that a filter chooses, in the order of their commits, without holding
// them all: page by page. Change is decrypted; nil: it is not kept, as state.keep_changes was not set. It ends with yield's first error; *KeyError.
func (s *Store) EachKept(ctx context.Context, f Filter, yield func(*webhook.Message) error) error {
	var sealed []byte
	var found int64
	scan := func(row pgx.CollectableRow) (webhook.Message, error) {
		sealed = nil
		m, err := scanEvent(leadingColumns{row, []any{&found, &sealed}})
		m.Change = sealed
		return m, err
	}
	var last *webhook.Message
	for {
		w, err := s.keptWhere(ctx, f, last, ">")
		if err != nil {
			return err
		}
		page, err := collectMany(ctx, s, "read kept events", pageSQL("change, "+eventColumns, eventsTable+w.sql(), "committed, webhook_id", w.param(keptPage), " + coalesce(octet_length(change), 0)"), w.args, scan)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			m := &page[i]
			if m.Change != nil {
				if s.keys == nil {
					return ErrKeys
				}
				if m.Change, err = s.keys.OpenChange(m.ID, m.Change); err != nil {
					return err
				}
			}
			if err := yield(m); err != nil {
				return err
			}
		}
		last = &page[len(page)-1]
	}
}

// keptWhere chooses what a filter does, behind an event in an order; nil: from the beginning.
func (s *Store) keptWhere(ctx context.Context, f Filter, last *webhook.Message, order string) (*where, error) {
	w, err := s.where(ctx, &f, eventsTable)
	if err == nil && last != nil {
		w.add("committed "+order+"= %s", last.Time) // it is implied, and spares the partitions of other days
		w.add("(committed, webhook_id) "+order+" (%s, %s)", last.Time, s.text.encode(last.ID))
	}
	return w, err
}

// EventKey names what events are about: those of a name with one ordering key of a tenant.
type EventKey struct{ Event, Tenant, Key string }

func keyOf(m *webhook.Message) EventKey { return EventKey{m.Type, m.Tenant, m.Key} }

// LastKept returns the newest kept event of each key that has one.
func (s *Store) LastKept(ctx context.Context, keys []EventKey) (map[EventKey]*webhook.Message, error) {
	var events, tenants, names []string
	for _, k := range keys {
		events, tenants, names = append(events, s.text.encode(k.Event)), append(tenants, s.text.encode(k.Tenant)), append(names, s.text.encode(k.Key))
	}
	found, err := collect(ctx, s, "read what was last sent", `select last.* from (select distinct * from unnest($1::text[], $2::text[], $3::text[]) k (event, tenant, key)) k
		cross join lateral (select `+eventColumns+` from `+eventsTable+` e
			where left(e.key, 128) = left(k.key, 128) and e.key = k.key and e.event = k.event and e.tenant = k.tenant
			order by e.committed desc, e.webhook_id desc limit 1) last`, []any{events, tenants, names}, scanEvent)
	out := make(map[EventKey]*webhook.Message, len(found))
	for i := range found {
		out[keyOf(&found[i])] = &found[i]
	}
	return out, err
}

// EachLast calls yield with the newest kept event of every key that the filter chooses, the newest first, without its
// data, and without holding them all: of each key only a hash.
func (s *Store) EachLast(ctx context.Context, f Filter, yield func(*webhook.Message)) error {
	seed, seen := maphash.MakeSeed(), map[uint64]struct{}{}
	scan := func(row pgx.CollectableRow) (m webhook.Message, err error) {
		var notes []byte
		if err = row.Scan(&m.Type, &m.Tenant, &m.Key, &m.ID, &m.Time, &notes); err != nil {
			return m, err
		}
		m.Time = m.Time.UTC()
		decodeIn(&m.Type, &m.Tenant, &m.Key, &m.ID)
		return m, readNotes(&m, notes)
	}
	var last *webhook.Message
	for {
		w, err := s.keptWhere(ctx, f, last, "<")
		if err != nil {
			return err
		}
		page, err := collectMany(ctx, s, "read what was last sent", `select event, tenant, key, webhook_id, committed, unchanged from `+eventsTable+w.sql()+
			` order by committed desc, webhook_id desc limit `+w.param(keptPage), w.args, scan)
		if err != nil || len(page) == 0 {
			return err
		}
		for i := range page {
			h := maphash.Comparable(seed, keyOf(&page[i]))
			if _, newer := seen[h]; !newer {
				seen[h] = struct{}{}
				yield(&page[i])
			}
		}
		last = &page[len(page)-1]
	}
}
