package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// BackfillPlace is a place among the rows that a backfill reads.
type BackfillPlace struct {
	// Table is the one whose rows it reads, as SQL writes its name; empty: it has not begun.
	Table string `json:"table,omitempty"`
	// After is the key of the last row before it, its columns as the server sent them; none: the table has not been begun.
	After [][]byte `json:"after,omitempty"`
	// Rows are those that were read of all tables up to there.
	Rows int64 `json:"rows"`
	// Done are the tables whose rows have been read.
	Done []string `json:"done,omitempty"`
}

// BackfillCursor is how far a backfill is: the stream has the rows up to its place.
type BackfillCursor struct {
	BackfillPlace
	// Next is the chunk that may be in the stream, too; nil: there is none.
	Next *BackfillChunk `json:"next,omitempty"`
	// Round rises each time it goes back because rows could not be taken from the stream.
	Round int64 `json:"round,omitempty"`
	// Epoch is the source's whose stream has the rows, Timeline its server's. In others the events of those between Durable
	// and the place may be missing: the stream that had them is lost, or a server that was promoted has not got its end.
	// Epoch 0: not known yet.
	Epoch    uint16         `json:"epoch,omitempty"`
	Timeline int32          `json:"timeline,omitempty"`
	Durable  *BackfillPlace `json:"durable,omitempty"` // up to there all is in Redis; nil: nothing is known to be
}

// BackfillChunk are rows that a transaction puts into the stream.
type BackfillChunk struct {
	XID string `json:"xid"` // of the transaction
	// Claim and Seq are those of its message, by which capture knows it. XID alone does not tell: a server that
	// has crashed may give it out again.
	Claim int64    `json:"claim"`
	Seq   int64    `json:"seq"`
	Last  [][]byte `json:"last"`
	Rows  int64    `json:"rows"`
}

// BackfillCursor reads where a backfill continues.
func (j *Job) BackfillCursor() (BackfillCursor, error) {
	var c BackfillCursor
	if j.Cursor == "" {
		return c, nil
	}
	if err := json.Unmarshal([]byte(j.Cursor), &c); err != nil {
		return c, errors.New("read where a backfill continues: it is not what Gancho has stored there")
	}
	return c, nil
}

// Claim is the number of the claim by which a worker has the job: each has a higher one.
func (j *Job) Claim() int64 { return j.claim.number }

// AdvanceBackfill stores how far a backfill is, before a chunk is committed and at the end of a
// table, and renews the lease. Its total rises when more was read than it had counted. ErrConflict: the job was paused or
// canceled, or another worker has it; stop.
func (s *Store) AdvanceBackfill(ctx context.Context, j *Job, c BackfillCursor) error {
	return s.advanceBackfill(ctx, j, c, false)
}

// AdvanceBackfillSoon is AdvanceBackfill without the wait for the disk: the next commit of the server that waits for it
// waits for this one, too. A crash before that loses both.
func (s *Store) AdvanceBackfillSoon(ctx context.Context, j *Job, c BackfillCursor) error {
	return s.advanceBackfill(ctx, j, c, true)
}

func (s *Store) advanceBackfill(ctx context.Context, j *Job, c BackfillCursor, soon bool) error {
	position, err := json.Marshal(&c)
	if err != nil {
		return err
	}
	rows := c.Rows
	if c.Next != nil {
		rows += c.Next.Rows
	}
	err = s.write(ctx, fmt.Sprintf("store how far job %d is", j.ID), func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.jobs set position = $3, sent = $4, total = greatest(total, $4), leased = now() + $5
			from (select case when $6 then pg_catalog.set_config('synchronous_commit', 'off', true) end offset 0) as soon
			where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, string(asciiJSON(position)), rows, j.claim.lease, soon)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrConflict
		}
		return err
	})
	if err != nil {
		return err
	}
	j.Cursor, j.Sent, j.Total = string(position), rows, max(j.Total, rows)
	return nil
}

// ReturnBackfill has a backfill go on at a place, in the round behind one, because the rows behind it could not be taken
// from the stream; unless it has gone back for that already. Its worker, if there is one, learns of it from the stream.
func (s *Store) ReturnBackfill(ctx context.Context, id, round int64, to BackfillPlace) error {
	return s.write(ctx, fmt.Sprintf("store that job %d goes back", id), func(tx pgx.Tx) error {
		j := Job{ID: id}
		err := tx.QueryRow(ctx, `select position from gancho.jobs where id = $1 and kind = 'backfill' and state not in ('done', 'canceled') for update`, id).Scan(&j.Cursor)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil // it does not go on
		}
		if err != nil {
			return err
		}
		c, err := j.BackfillCursor()
		if err != nil || c.Round > round {
			return err
		}
		c.BackfillPlace, c.Next, c.Round = to, nil, round+1
		position, err := json.Marshal(&c)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update gancho.jobs set position = $2, sent = $3 where id = $1`, id, string(asciiJSON(position)), to.Rows)
		return err
	})
}

// HiddenWhere stands for a Filter's Where, which may be personal data, where it is not to be seen.
const HiddenWhere = "***"

// withoutWhere is the filter with a text in the place of its Where, if it has one.
func (f Filter) withoutWhere(text string) Filter {
	if f.Where != "" {
		f.Where = text
	}
	return f
}

func whereOf(job int64) string { return fmt.Sprintf("the where of job %d", job) }

// sealWhere stores an encrypted Where. ErrKeys.
func (s *Store) sealWhere(ctx context.Context, tx pgx.Tx, j *Job, where string) error {
	if where == "" {
		return nil
	}
	if s.keys == nil {
		return ErrKeys
	}
	j.Filter.Where = where
	_, err := tx.Exec(ctx, `update gancho.jobs set sealed = $2 where id = $1`, j.ID, s.keys.seal(wherePlace(j.ID), []byte(where)))
	return err
}

// openWhere decrypts it; see Unsealed.
func (s *Store) openWhere(j *Job, sealed []byte) {
	if sealed == nil {
		return
	}
	where, err := []byte(HiddenWhere), ErrKeys
	if s.keys != nil {
		where, err = s.keys.unseal(wherePlace(j.ID), whereOf(j.ID), sealed)
	}
	if j.closed = err; err != nil {
		where = []byte(HiddenWhere)
	}
	j.Filter.Where = string(where)
}

// Unsealed reports why the job's Filter lacks its Where, which then is HiddenWhere: a *KeyError, or ErrKeys.
func (j *Job) Unsealed() error { return j.closed }

// Of returns the store of a source, by its slot: the backfills, and redrives of parked changes, that it creates are
// for the bridge of that one, and of those it claims no others. It shares the connections.
func (s *Store) Of(source string) *Store {
	out := *s
	out.source = source
	return &out
}

// sourceOf is the source of a job of the kind; empty: it has none.
func (s *Store) sourceOf(kind JobKind) string {
	if kind == Backfill || kind == RedriveParked {
		return s.source
	}
	return ""
}

// PauseJob stops a backfill before its next chunk, until ResumeJob. ErrNotFound: it does not exist, or
// is not the tenant's ("": any); ErrConflict: it has ended, is paused, or is of a kind that cannot be.
func (s *Store) PauseJob(ctx context.Context, actor string, id int64, tenant string) (Job, error) {
	return s.switchJob(ctx, actor, id, tenant, "pause", Paused, "queued", "running")
}

// ResumeJob lets a paused backfill, or one that has failed, go on where it was. Its errors are those of PauseJob;
// ErrConflict, too: another backfill has not ended.
func (s *Store) ResumeJob(ctx context.Context, actor string, id int64, tenant string) (Job, error) {
	return s.switchJob(ctx, actor, id, tenant, "resume", Queued, "paused", "failed")
}

// switchJob gives a backfill another state. Its worker's claim ends.
func (s *Store) switchJob(ctx context.Context, actor string, id int64, tenant, action string, to JobState, from ...string) (Job, error) {
	j, err := s.Job(ctx, id, tenant)
	if err != nil {
		return Job{}, err
	}
	err = s.write(ctx, fmt.Sprintf("%s job %d", action, id), func(tx pgx.Tx) error {
		rows, _ := tx.Query(ctx, `update gancho.jobs set state = $2, waits = '', error = '', finished = null, worker = '', claims = claims + 1, leased = null
			where id = $1 and kind = 'backfill' and state = any($3) returning `+jobColumns, id, string(to), from)
		switched, err := pgx.CollectExactlyOneRow(rows, s.scanJob)
		if errors.Is(err, pgx.ErrNoRows) {
			return fmt.Errorf("%w: the job cannot %s", ErrConflict, action)
		}
		if isTaken(err) {
			return fmt.Errorf("%w: another backfill has not ended", ErrConflict)
		}
		if err != nil {
			return err
		}
		j = switched
		return s.recordJob(ctx, tx, actor, action, &j)
	})
	return j, err
}

// SealRows compresses and encrypts rows that travel through the stream of a slot: other readers of the WAL
// are not to see them, and what others write there is not to be taken for ours.
func (k *Keyring) SealRows(slot string, plain []byte) ([]byte, error) {
	small, err := deflated(plain)
	if err != nil {
		return nil, fmt.Errorf("compress rows: %w", err)
	}
	return k.seal(rowsPlace(slot), small), nil
}

// OpenRows decrypts what SealRows has encrypted; *KeyError.
func (k *Keyring) OpenRows(slot string, sealed []byte) ([]byte, error) {
	const what = "rows of a backfill in the stream"
	plain, err := k.unseal(rowsPlace(slot), what, sealed)
	if err != nil {
		return nil, err
	}
	out, err := inflated(plain)
	if err != nil {
		return nil, &KeyError{What: what}
	}
	return out, nil
}

// rowsPlace is that of rows in the WAL, which are not stored.
func rowsPlace(slot string) sealPlace { return sealPlace{text: "rows:" + slot} }
