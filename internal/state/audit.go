package state

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// AuditFilter chooses entries of the audit log; its parts are joined by "and",
// and an empty part chooses all.
type AuditFilter struct {
	Tenant         *string // nil: all; "": of what is not one tenant's
	Object, Action string
	From, To       time.Time // To is exclusive
}

// Audit returns up to n entries, the newest first, whose ID is below before (0:
// from the newest).
func (s *Store) Audit(ctx context.Context, f AuditFilter, before int64, n int) ([]Change, error) {
	w := &where{text: s.text}
	if before > 0 {
		w.add("id < %s", before)
	}
	w.equal("tenant", f.Tenant)
	w.equal("object", orNil(f.Object))
	w.given("action = %s", f.Action)
	w.between("time", f.From, f.To)
	sql := `select id, time, actor, tenant, action, object, before::text, after::text from gancho.audit` +
		w.sql() + ` order by id desc limit ` + w.param(n)
	return collectMany(ctx, s, "read the audit log", sql, w.args, scanChange)
}

func scanChange(row pgx.CollectableRow) (Change, error) {
	var c Change
	var before, after *string
	if err := row.Scan(&c.ID, &c.Time, &c.Actor, &c.Tenant, &c.Action, &c.Object, &before, &after); err != nil {
		return c, err
	}
	c.Time = c.Time.UTC()
	decodeIn(&c.Actor, &c.Tenant, &c.Object)
	if before != nil {
		c.Before = json.RawMessage(*before)
	}
	if after != nil {
		c.After = json.RawMessage(*after)
	}
	return c, nil
}

// Record writes an entry for what has no row here, such as a file's endpoint
// that was activated again. ID and Time are the store's.
func (s *Store) Record(ctx context.Context, c Change) error {
	return s.write(ctx, "write the audit log", func(tx pgx.Tx) error {
		return s.record(ctx, tx, &c, nil, nil)
	})
}

// RecordRead is Record of something that was read, unless its actor has such an entry of
// the last hour: who reads it again and again does not fill the log.
func (s *Store) RecordRead(ctx context.Context, c Change) error {
	return s.write(ctx, "write the audit log", func(tx pgx.Tx) error {
		var known bool
		err := tx.QueryRow(ctx, `select exists (select from gancho.audit
			where left(object, 128) = left($1, 128) and object = $1 and action = $2 and actor = $3 and tenant = $4 and time > now() - interval '1 hour')`,
			s.text.encode(c.Object), s.text.encode(c.Action), s.text.encode(c.Actor), s.text.encode(c.Tenant)).Scan(&known)
		if err != nil || known {
			return err
		}
		return s.record(ctx, tx, &c, nil, nil)
	})
}

// facts are what an entry says about an object before or after a change; nil:
// there was or is nothing, or c has it already.
type facts map[string]any

// record writes an entry in the transaction of the change, and sets its ID.
func (s *Store) record(ctx context.Context, tx pgx.Tx, c *Change, before, after facts) (err error) {
	if before != nil {
		c.Before, err = json.Marshal(before)
	}
	if after != nil && err == nil {
		c.After, err = json.Marshal(after)
	}
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	err = tx.QueryRow(ctx, `insert into gancho.audit (actor, tenant, action, object, before, after)
		values ($1, $2, $3, $4, $5::text::json, $6::text::json) returning id`,
		s.text.encode(c.Actor), s.text.encode(c.Tenant), s.text.encode(c.Action), s.text.encode(c.Object),
		orNil(string(asciiJSON(c.Before))), orNil(string(asciiJSON(c.After)))).Scan(&c.ID)
	if err != nil {
		return fmt.Errorf("write the audit log: %w", err)
	}
	return nil
}
