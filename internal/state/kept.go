package state

import (
	"context"
	"fmt"

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

// EachKept calls yield with the kept events that a filter chooses, in the order of their commits, without holding
// them. Change is decrypted; nil: it is not kept, as state.keep_changes was not set. It ends with yield's first error; *KeyError.
func (s *Store) EachKept(ctx context.Context, f Filter, yield func(*webhook.Message) error) error {
	const what = "read kept events"
	end, err := waitForTurn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer end()
	w, err := s.where(ctx, &f, eventsTable)
	if err != nil {
		return err
	}
	rows, err := s.pool.Query(ctx, `select change, `+eventColumns+` from `+eventsTable+w.sql()+` order by committed, webhook_id`, w.args...)
	if err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	defer rows.Close()
	for rows.Next() {
		var sealed []byte
		m, err := scanEvent(leadingColumns{rows, []any{&sealed}})
		if err != nil {
			return fmt.Errorf("%s: %w", what, explain(err))
		}
		if sealed != nil {
			if s.keys == nil {
				return ErrKeys
			}
			if m.Change, err = s.keys.OpenChange(m.ID, sealed); err != nil {
				return err
			}
		}
		if err := yield(&m); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return nil
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

// EachLast calls yield with the newest kept event of every key that the filter chooses, without its data, and without
// holding them.
func (s *Store) EachLast(ctx context.Context, f Filter, yield func(*webhook.Message)) error {
	const what = "read what was last sent"
	end, err := waitForTurn(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer end()
	w, err := s.where(ctx, &f, eventsTable)
	if err != nil {
		return err
	}
	rows, _ := s.pool.Query(ctx, `select distinct on (event, tenant, key) event, tenant, key, webhook_id, committed, unchanged from `+eventsTable+w.sql()+
		` order by event, tenant, key, committed desc, webhook_id desc`, w.args...) // ForEachRow returns its error
	var m webhook.Message
	var notes []byte
	_, err = pgx.ForEachRow(rows, []any{&m.Type, &m.Tenant, &m.Key, &m.ID, &m.Time, &notes}, func() error {
		last := webhook.Message{Type: m.Type, Tenant: m.Tenant, Key: m.Key, ID: m.ID, Time: m.Time.UTC()}
		decodeIn(&last.Type, &last.Tenant, &last.Key, &last.ID)
		if err := readNotes(&last, notes); err != nil {
			return err
		}
		yield(&last)
		return nil
	})
	if err != nil {
		return fmt.Errorf("%s: %w", what, explain(err))
	}
	return nil
}
