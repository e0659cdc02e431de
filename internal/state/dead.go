package state

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

const (
	deadColumns = `endpoint, handle, webhook_id, event, tenant, key, committed, sequence, version, replay, data, previous, unchanged, ` +
		`reason, attempts, first, last, status, class, error, answer, tags`
	// dropChunk bounds how long a transaction that deletes dead letters takes.
	dropChunk = 5000
)

// replaceDead has an event's newest dead letter take the place of the one before, with an
// ID of its own: a redrive that has sent the one before does not delete it.
var replaceDead = func() string {
	columns := strings.Split(deadColumns, ", ")
	for i, c := range columns {
		columns[i] = c + " = excluded." + c
	}
	return "(endpoint, webhook_id) do update set id = excluded.id, job = null, " + strings.Join(columns, ", ") +
		" where " + deadTable + ".handle <> excluded.handle"
}()

// WriteDead writes dead letters, in the order in which they died; the store gives them
// their IDs. An endpoint has one dead letter of an event: the newest. One whose handle is
// that of what is written stays as it is.
func (s *Store) WriteDead(ctx context.Context, dead []DeadLetter) error {
	type event struct{ endpoint, webhook string }
	newest := make(map[event]int, len(dead))
	for i := range dead {
		newest[event{dead[i].Endpoint, dead[i].Message.ID}] = i
	}
	rows := slices.Sorted(maps.Values(newest))
	return s.copyIn(ctx, deadTable, deadColumns, replaceDead, nil, len(rows), func(i int) []any {
		d, enc := &dead[rows[i]], s.text.encode
		return []any{
			enc(d.Endpoint), enc(d.Handle), enc(d.Message.ID), enc(d.Type), enc(d.Tenant), enc(d.Key), d.Time, enc(d.Sequence), enc(d.Version), d.Replay,
			body(d.Data), d.Previous, notes(&d.Message),
			enc(d.Reason), int32(d.Attempts), d.First, d.Last, int32(d.Status), enc(d.Class), enc(d.Error), []byte(d.Answer), s.tags(d.Tags),
		}
	})
}

// DeadLetters returns up to n dead letters, the oldest first, whose ID is above
// after (0: from the oldest).
func (s *Store) DeadLetters(ctx context.Context, f Filter, after int64, n int) ([]DeadLetter, error) {
	w, err := s.where(ctx, &f, deadTable)
	if err != nil {
		return nil, err
	}
	if after > 0 {
		w.add("id > %s", after)
	}
	sql := `select id, ` + deadColumns + ` from gancho.dead_letters` + w.sql() + ` order by ` + deadOrder(&f) + ` limit ` + w.param(n)
	if len(f.IDs) > 0 {
		return collect(ctx, s, "read dead letters", sql, w.args, scanDead)
	}
	return collectMany(ctx, s, "read dead letters", sql, w.args, scanDead)
}

// deadOrder is by id. Where a filter chooses single events, the order hides the
// index of ids from the planner, which without statistics would scan all of it.
func deadOrder(f *Filter) string {
	if len(f.IDs) > 0 || len(f.Webhooks) > 0 {
		return "id + 0"
	}
	return "id"
}

// DeadLetter reads one. ErrNotFound: it does not exist, or is not the tenant's ("": any).
func (s *Store) DeadLetter(ctx context.Context, id int64, tenant string) (DeadLetter, error) {
	found, err := s.DeadLetters(ctx, Filter{IDs: []int64{id}, Tenant: orNil(tenant)}, 0, 1)
	if err == nil && len(found) == 0 {
		err = fmt.Errorf("read dead letter %d: %w", id, ErrNotFound)
	}
	if err != nil {
		return DeadLetter{}, err
	}
	return found[0], nil
}

func scanDead(row pgx.CollectableRow) (DeadLetter, error) {
	var d DeadLetter
	var answer, kept []byte
	err := row.Scan(&d.ID, &d.Endpoint, &d.Handle, &d.Message.ID, &d.Type, &d.Tenant, &d.Key, &d.Time, &d.Sequence, &d.Version, &d.Replay,
		&d.Data, &d.Previous, &kept, &d.Reason, &d.Attempts, &d.First, &d.Last, &d.Status, &d.Class, &d.Error, &answer, &d.Tags)
	d.Answer = string(answer)
	if err == nil {
		err = readNotes(&d.Message, kept)
	}
	d.Time, d.First, d.Last = d.Time.UTC(), d.First.UTC(), d.Last.UTC()
	d.Tags = decodeAll(d.Tags)
	decodeIn(&d.Endpoint, &d.Handle, &d.Message.ID, &d.Type, &d.Tenant, &d.Key, &d.Sequence, &d.Version, &d.Reason, &d.Class, &d.Error)
	return d, err
}

// CountDead counts the dead letters that a filter chooses.
func (s *Store) CountDead(ctx context.Context, f Filter) (int64, error) {
	return s.countRows(ctx, deadTable, &f)
}

// CountDeadByEndpoint counts the dead letters that a filter chooses of each endpoint that
// has any.
func (s *Store) CountDeadByEndpoint(ctx context.Context, f Filter) (map[string]int64, error) {
	w, err := s.where(ctx, &f, deadTable)
	if err != nil {
		return nil, err
	}
	type count struct {
		Endpoint string
		N        int64
	}
	rows, err := collectMany(ctx, s, "count dead letters", `select endpoint, count(*) from gancho.dead_letters`+w.sql()+` group by endpoint`, w.args, pgx.RowToStructByPos[count])
	counts := make(map[string]int64, len(rows))
	for _, r := range rows {
		counts[decode(r.Endpoint)] = r.N
	}
	return counts, err
}

// DropDead deletes the dead letters that exist now and that a filter chooses,
// and returns how many. It deletes in transactions of some thousands; after an
// error the number, and the audit log, say how many were deleted.
func (s *Store) DropDead(ctx context.Context, actor string, f Filter) (int64, error) {
	last, err := collectOne(ctx, s, "drop dead letters", `select coalesce(max(id), 0) from gancho.dead_letters`, nil, pgx.RowTo[int64])
	if err != nil {
		return 0, err
	}
	d := drop{store: s, filter: f, last: last, entry: Change{Actor: actor, Action: "dead.drop", Object: "dead"}}
	if f.Endpoint != "" {
		d.entry.Object = endpointObject(f.Endpoint)
	}
	if f.Tenant != nil {
		d.entry.Tenant = *f.Tenant
	}
	for {
		n, err := d.chunk(ctx)
		if err != nil || n < dropChunk {
			return d.dropped, err
		}
	}
}

// drop is the state of DropDead between its transactions.
type drop struct {
	store       *Store
	filter      Filter
	after, last int64 // ids
	dropped     int64
	entry       Change // in the audit log, once it has an ID
}

// chunk deletes the next dead letters and keeps the audit entry up to date.
func (d *drop) chunk(ctx context.Context) (int64, error) {
	s := d.store
	w, err := s.where(ctx, &d.filter, deadTable)
	if err != nil {
		return 0, err
	}
	w.add("id > %s and id <= %s", d.after, d.last)
	sql := fmt.Sprintf(`with gone as (
			delete from gancho.dead_letters where id in (select id from gancho.dead_letters%s order by id limit %s) returning id
		) select count(*), coalesce(max(id), 0) from gone`, w.sql(), w.param(dropChunk))
	var n, after int64
	entry := d.entry
	err = s.writeMany(ctx, "drop dead letters", func(tx pgx.Tx) error {
		if err := tx.QueryRow(ctx, sql, w.args...).Scan(&n, &after); err != nil || n == 0 {
			return err
		}
		what := facts{"dropped": d.dropped + n, "filter": d.filter}
		if entry.ID == 0 {
			return s.record(ctx, tx, &entry, what, nil)
		}
		text, err := json.Marshal(what)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update gancho.audit set before = $2::text::json where id = $1`, entry.ID, string(asciiJSON(text)))
		return err
	})
	if err != nil || n == 0 {
		return 0, err
	}
	d.after, d.entry = after, entry
	d.dropped += n
	return n, nil
}
