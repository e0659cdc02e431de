package state

import (
	"context"
	"errors"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
)

const (
	overflowTable   = "gancho.overflow"
	overflowColumns = "endpoint, position, source, event, tenant, key, committed, version, data, previous, unchanged, tags, change, size"
)

// Overflow returns where the queue of an only source, or of none, moves backlogs that are over their quota.
func (s *Store) Overflow() *Overflow { return &Overflow{store: s} }

// OverflowOf returns that of one of several sources, by its slot: the queues of all have endpoints of the same names.
func (s *Store) OverflowOf(slot string) *Overflow {
	return &Overflow{s, s.text.encode(slot) + ofSource}
}

// ofSource stands, in the tables, between a source and the name of an endpoint, which cannot have it.
const ofSource = "/"

// Overflow is a queue.Overflow in the state database.
type Overflow struct {
	store  *Store
	prefix string // of the endpoints' names in the tables: whose queue they are of
}

var _ queue.Overflow = (*Overflow)(nil)

// row is an endpoint's name in the tables.
func (o *Overflow) row(endpoint string) string { return o.prefix + o.store.text.encode(endpoint) }

// endpoint is the endpoint of a name in the tables.
func (o *Overflow) endpoint(row string) string { return decode(strings.TrimPrefix(row, o.prefix)) }

// own adds the condition that rows are of this Overflow's queue.
func (o *Overflow) own(w *where) {
	if o.prefix == "" {
		w.add(`strpos(endpoint, %s) = 0`, ofSource)
		return
	}
	w.add(`starts_with(endpoint, %s)`, o.prefix)
}

// headColumns reads a head with the commit time of its first event.
const headColumns = `position, events, bytes, (select committed from gancho.overflow o where o.endpoint = h.endpoint order by o.position limit 1)`

func scanHead(row pgx.CollectableRow) (h queue.Head, err error) {
	var end []byte
	var oldest *time.Time
	err = row.Scan(&end, &h.Events, &h.Bytes, &oldest)
	h.End, h.Oldest = queue.IDFromBytes(end), utc(oldest)
	return h, err
}

// Heads implements queue.Overflow.
func (o *Overflow) Heads(ctx context.Context) (map[string]queue.Head, error) {
	all, w := map[string]queue.Head{}, &where{text: o.store.text}
	w.add(`events > 0`)
	o.own(w)
	_, err := collect(ctx, o.store, "read which backlogs have overflowed", `select endpoint, `+headColumns+` from gancho.overflow_heads h`+w.sql(), w.args,
		func(row pgx.CollectableRow) (struct{}, error) {
			var name string
			h, err := scanHead(leadingColumns{row, []any{&name}})
			all[o.endpoint(name)] = h
			return struct{}{}, err
		})
	return all, err
}

// Take implements queue.Overflow.
func (o *Overflow) Take(ctx context.Context, endpoint, claim string, begin bool, owned func() error) (h queue.Head, err error) {
	name := o.row(endpoint)
	sql := `update gancho.overflow_heads h set claim = $2 where endpoint = $1 returning ` + headColumns
	if begin { // the end of one that was left behind may be another epoch's
		sql = `insert into gancho.overflow_heads as h (endpoint, claim) values ($1, $2) on conflict (endpoint)
			do update set claim = excluded.claim, position = case when h.events > 0 then h.position else '' end returning ` + headColumns
	}
	err = o.change(ctx, "take the overflow of an endpoint", func(tx pgx.Tx) error {
		if h, err = oneHead(ctx, tx, sql, name, claim); err != nil {
			return err
		}
		return owned()
	})
	return h, err
}

// End implements queue.Overflow.
func (o *Overflow) End(ctx context.Context, endpoint, claim string) error {
	return o.change(ctx, "end the overflow of an endpoint", func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `delete from gancho.overflow_heads where endpoint = $1 and claim = $2 and events = 0`, o.row(endpoint), claim)
		return err
	})
}

// change is write for what has to survive a crash of the server, whatever the role's settings are.
func (o *Overflow) change(ctx context.Context, what string, f func(pgx.Tx) error) error {
	return o.store.write(ctx, what, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `select set_config('synchronous_commit', 'local', true) where current_setting('synchronous_commit') = 'off'`)
		if err != nil {
			return err
		}
		return f(tx)
	})
}

// oneHead returns the head that a statement returns, the zero one if it returns none.
func oneHead(ctx context.Context, tx pgx.Tx, sql string, args ...any) (queue.Head, error) {
	rows, _ := tx.Query(ctx, sql, args...)
	h, err := pgx.CollectOneRow(rows, scanHead)
	if errors.Is(err, pgx.ErrNoRows) {
		err = nil
	}
	return h, err
}

// lock keeps the head of the claim from being changed by anybody else; there: it exists.
func (o *Overflow) lock(ctx context.Context, tx pgx.Tx, name, claim string) (end queue.ID, there bool, err error) {
	var has string
	var position []byte
	err = tx.QueryRow(ctx, `select claim, position from gancho.overflow_heads where endpoint = $1 for update`, name).Scan(&has, &position)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return queue.ID{}, false, nil
	case err == nil && has != claim:
		err = queue.ErrStale
	}
	return queue.IDFromBytes(position), true, err
}

// Move implements queue.Overflow.
func (o *Overflow) Move(ctx context.Context, endpoint, claim string, read func(end queue.ID) ([]queue.Entry, error)) (h queue.Head, err error) {
	s, name := o.store, o.row(endpoint)
	err = o.change(ctx, "move events to the state database", func(tx pgx.Tx) error {
		end, there, err := o.lock(ctx, tx, name, claim)
		if err == nil && !there {
			err = queue.ErrStale
		}
		if err != nil {
			return err
		}
		page, err := read(end)
		if err != nil {
			return err
		}
		before := end
		err = copyOnce(ctx, tx, overflowTable, overflowColumns, "do nothing", copyValues(len(page), func(i int) []any {
			e, m, enc := &page[i], page[i].Msg, s.text.encode
			end = e.ID
			return []any{name, e.ID.Bytes(), m.ID[:webhook.SourceDigits], enc(m.Type), enc(m.Tenant), enc(m.Key), m.Time, enc(m.Version), body(m.Data), m.Previous, notes(m), s.tags(m.Tags), m.Change, int32(overflowSize(m))}
		}))
		if err != nil {
			return err
		}
		h, err = oneHead(ctx, tx, `update gancho.overflow_heads h set position = $2, events = events + added.n, bytes = bytes + added.size
			from (select count(*) as n, coalesce(sum(size), 0)::bigint as size from gancho.overflow where endpoint = $1 and position > $3 and position <= $2) added
			where endpoint = $1 returning `+headColumns, name, end.Bytes(), before.Bytes())
		return err
	})
	return h, err
}

// overflowSize is about what a row takes, in bytes.
func overflowSize(m *webhook.Message) int {
	const row = 128 // and its part of the indexes
	return row + len(m.Type) + len(m.Tenant) + len(m.Key) + len(m.Version) + len(m.Data) + len(m.Previous) + len(m.Unchanged) + len(m.Errors) + len(m.Change)
}

// Page implements queue.Overflow.
func (o *Overflow) Page(ctx context.Context, endpoint string, after, end queue.ID, count, budget int) ([]queue.Entry, error) {
	return collect(ctx, o.store, "read overflowed events", `select position, source, event, tenant, key, committed, version, data, previous, unchanged, tags, change from (
			select *, sum(size) over (order by position rows between unbounded preceding and 1 preceding) as before
			from (select * from gancho.overflow where endpoint = $1 and position > $2 and position <= $3 order by position limit $4) rows
		) page where before is null or before < $5 order by position`,
		[]any{o.row(endpoint), after.Bytes(), end.Bytes(), count, budget}, func(row pgx.CollectableRow) (queue.Entry, error) {
			m := &webhook.Message{}
			var position, kept []byte
			var source string
			err := row.Scan(&position, &source, &m.Type, &m.Tenant, &m.Key, &m.Time, &m.Version, &m.Data, &m.Previous, &kept, &m.Tags, &m.Change)
			if err == nil {
				err = readNotes(m, kept)
			}
			m.Time = m.Time.UTC()
			decodeIn(&m.Type, &m.Tenant, &m.Key, &m.Version)
			m.Tags = decodeAll(m.Tags)
			id := queue.IDFromBytes(position)
			m.ID, m.Sequence = id.WebhookID(source), id.Sequence()
			return queue.Entry{ID: id, Msg: m}, err
		})
}

// Acknowledge implements queue.Overflow.
func (o *Overflow) Acknowledge(ctx context.Context, endpoint, claim string, done, superseded []queue.ID, dead []queue.DeadResult) (h queue.Head, err error) {
	s, name := o.store, o.row(endpoint)
	delivered, passed := positionsOf(done), positionsOf(superseded)
	err = o.change(ctx, "acknowledge overflowed events", func(tx pgx.Tx) error {
		h = queue.Head{}
		_, there, err := o.lock(ctx, tx, name, claim)
		if err != nil || !there {
			return err
		}
		var died [][]byte
		for i := range dead {
			d, enc := &dead[i], s.text.encode
			// An id of a WAL event is no handle of a dead letter in Redis, which begins with a time.
			_, err := tx.Exec(ctx, `insert into gancho.dead_letters (`+deadColumns+`)
				select $13, $3, source || '-' || $4, event, tenant, key, committed, $4, version, false, data, previous, unchanged, $5, $6, $7, $8, $9, $10, $11, $12, tags
				from gancho.overflow where endpoint = $1 and position = $2 on conflict `+replaceDead,
				name, d.ID.Bytes(), enc(d.ID.String()), enc(d.ID.Sequence()), enc(d.Reason), int32(d.N), d.First, d.Last, int32(d.Status),
				enc(d.Class), enc(d.Error), []byte(d.Answer), enc(endpoint))
			if err != nil {
				return err
			}
			died = append(died, d.ID.Bytes())
		}
		if len(died) > 0 {
			if _, err := deleteOverflowed(ctx, tx, name, queue.FateDead, died); err != nil {
				return err
			}
		}
		if len(passed) > 0 {
			if _, err := deleteOverflowed(ctx, tx, name, queue.FateSuperseded, passed); err != nil {
				return err
			}
		}
		h, err = deleteOverflowed(ctx, tx, name, queue.FateDelivered, delivered)
		return err
	})
	return h, err
}

// positionsOf are the events' positions; never nil, which would be all.
func positionsOf(ids []queue.ID) [][]byte {
	positions := make([][]byte, 0, len(ids))
	for _, id := range ids {
		positions = append(positions, id.Bytes())
	}
	return positions
}

// tallyOfPosition is where an overflowed event counts: the interval of its commit, and the epoch
// and the rule that its position has.
var tallyOfPosition = `floor(extract(epoch from committed) / ` + strconv.Itoa(int(queue.TallyInterval/time.Second)) + `)::bigint, get_byte(position, 0) * 16 + get_byte(position, 1) / 16, get_byte(position, 14) * 256 + get_byte(position, 15)`

// deleteOverflowed deletes events of a head that is locked, nil: all, and counts what became of them.
func deleteOverflowed(ctx context.Context, tx pgx.Tx, name string, fate queue.Fate, positions [][]byte) (queue.Head, error) {
	var events, bytes int64
	chosen := `position = any($2)`
	if positions == nil {
		chosen = `$2::bytea[] is null`
	}
	err := tx.QueryRow(ctx, `with gone as (delete from gancho.overflow where endpoint = $1 and `+chosen+` returning size, committed, position),
		counted as (insert into gancho.overflow_tallies as t (endpoint, fate, "interval", epoch, rule, n) select $1, $3, `+tallyOfPosition+`, count(*) from gone group by 3, 4, 5
			on conflict (endpoint, "interval", epoch, rule, fate) do update set n = t.n + excluded.n)
		select count(*), coalesce(sum(size), 0) from gone`,
		name, positions, string(fate)).Scan(&events, &bytes)
	if err != nil {
		return queue.Head{}, err
	}
	return oneHead(ctx, tx, `update gancho.overflow_heads h set events = events - $2, bytes = bytes - $3 where endpoint = $1 returning `+headColumns, name, events, bytes)
}

// Drop implements queue.Overflow.
func (o *Overflow) Drop(ctx context.Context, endpoint string) error {
	name := o.row(endpoint)
	return o.store.write(ctx, "drop overflowed events", func(tx pgx.Tx) error {
		_, err := deleteOverflowed(ctx, tx, name, queue.FateDropped, nil)
		if err == nil {
			_, err = tx.Exec(ctx, `delete from gancho.overflow_heads where endpoint = $1`, name)
		}
		return err
	})
}

// Forget implements queue.Overflow.
func (o *Overflow) Forget(ctx context.Context, of queue.Subject, remove bool, each func(endpoint string, found []queue.ID) error) error {
	s := o.store
	elsewhere := make([]string, 0, len(of.Elsewhere)) // not nil, of which nothing is known
	for _, name := range of.Elsewhere {
		elsewhere = append(elsewhere, o.row(name))
	}
	w := s.overflowedOf(&of)
	here := &where{text: s.text, args: w.args}
	here.add(`endpoint <> all(%s::text[])`, elsewhere)
	o.own(here)
	w.conditions = append(w.conditions, here.conditions...)
	names := `select distinct endpoint from ` + overflowTable + w.sql()
	if remove { // one that moves events now has none of the subject yet
		names += ` union select endpoint from gancho.overflow_heads` + here.sql()
	}
	endpoints, err := collect(ctx, s, "look for overflowed events of a key", names+` order by 1`, here.args, pgx.RowTo[string])
	if err != nil {
		return err
	}
	for _, name := range endpoints {
		found, err := o.forgetIn(ctx, name, &of, remove)
		if told := each(o.endpoint(name), found); err == nil {
			err = told
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// overflowedOf chooses the rows of a subject.
func (s *Store) overflowedOf(of *queue.Subject) *where {
	w := &where{text: s.text}
	w.equal("tenant", &of.Tenant)
	w.equal("key", &of.Key)
	w.events(of.Events)
	return w
}

// forgetIn is Forget for one endpoint, whose head it locks, and nobody else's meanwhile: whoever
// has read entries to move them has inserted them then, and who reads them later finds none
// of the subject in the stream, from which they were removed before.
func (o *Overflow) forgetIn(ctx context.Context, name string, of *queue.Subject, remove bool) (ids []queue.ID, err error) {
	w := o.store.overflowedOf(of)
	w.add("endpoint = %s", name)
	err = o.change(ctx, "erase overflowed events of a key", func(tx pgx.Tx) error {
		ids = nil
		if remove {
			if _, err := tx.Exec(ctx, `select from gancho.overflow_heads where endpoint = $1 for update`, name); err != nil {
				return err
			}
		}
		rows, _ := tx.Query(ctx, `select position from `+overflowTable+w.sql(), w.args...)
		positions, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
		for _, p := range positions {
			ids = append(ids, queue.IDFromBytes(p))
		}
		if err != nil || !remove || len(ids) == 0 {
			return err
		}
		_, err = deleteOverflowed(ctx, tx, name, queue.FateDropped, positions)
		return err
	})
	if err != nil {
		return nil, err
	}
	return ids, nil
}
