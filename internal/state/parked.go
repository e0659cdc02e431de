package state

import (
	"bytes"
	"cmp"
	"compress/flate"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/delivery/queue"
)

// ParkedRow is what is kept of a parked change, both parts as mapping.Parked has them.
// It is stored encrypted: Row shows what the rule shows, Change is the whole row.
type ParkedRow struct {
	Row    json.RawMessage `json:"row"`
	Change json.RawMessage `json:"change"`
	// Known: its event would have had this tenant and key, whose hash is beside it.
	Known  bool   `json:"known,omitempty"`
	Tenant string `json:"tenant,omitempty"`
	Key    string `json:"key,omitempty"`
}

// deflaters are writers that are kept: one takes half a MiB.
var deflaters = sync.Pool{New: func() any {
	w, _ := flate.NewWriter(nil, flate.BestSpeed) // fails for levels that do not exist
	return w
}}

// SealParked compresses and encrypts a parked change for its place. Each has the columns of
// its table in it, with their types, which take most of it and repeat themselves.
func (k *Keyring) SealParked(p cdc.Position, n int, row *ParkedRow) ([]byte, error) {
	plain, err := json.Marshal(row)
	if err != nil {
		return nil, fmt.Errorf("encrypt a parked change: %w", err)
	}
	small, err := deflated(plain)
	if err != nil {
		return nil, fmt.Errorf("compress a parked change: %w", err)
	}
	return k.seal(parkedPlace(p, n), small), nil
}

// deflated is a text compressed.
func deflated(plain []byte) ([]byte, error) {
	if len(plain) <= quickBytes {
		return quickDeflated(plain), nil
	}
	var small bytes.Buffer
	w, _ := deflaters.Get().(*flate.Writer)
	defer deflaters.Put(w)
	w.Reset(&small)
	_, err := w.Write(plain)
	err = cmp.Or(err, w.Close())
	return small.Bytes(), err
}

// inflaters are readers that are kept: one takes 40 KiB.
var inflaters = sync.Pool{New: func() any { return flate.NewReader(bytes.NewReader(nil)) }}

// inflated undoes deflated.
func inflated(small []byte) ([]byte, error) {
	r, _ := inflaters.Get().(io.Reader)
	defer inflaters.Put(r)
	if again, ok := r.(flate.Resetter); ok {
		if err := again.Reset(bytes.NewReader(small), nil); err != nil {
			return nil, err
		}
	}
	plain := bytes.NewBuffer(make([]byte, 0, 4*len(small)+bytes.MinRead)) // rows and changes shrink to about a quarter
	_, err := plain.ReadFrom(r)
	return plain.Bytes(), err
}

// SealChange compresses and encrypts the change of a kept event, a mapping.Event's, for its place.
func (k *Keyring) SealChange(p cdc.Position, n int, change []byte) ([]byte, error) {
	small, err := deflated(change)
	if err != nil {
		return nil, fmt.Errorf("compress the change of an event: %w", err)
	}
	return k.seal(changePlace(p, n), small), nil
}

// OpenChange decrypts the change of a kept event; *KeyError.
func (k *Keyring) OpenChange(webhookID string, sealed []byte) ([]byte, error) {
	what := "the change of event " + webhookID
	_, id, err := queue.ParseWebhookID(webhookID)
	if err != nil {
		return nil, &KeyError{What: what}
	}
	plain, err := k.unseal(changePlace(id.Position(), id.N()), what, sealed)
	if err != nil {
		return nil, err
	}
	out, err := inflated(plain)
	if err != nil {
		return nil, &KeyError{What: what}
	}
	return out, nil
}

// changePlace is that of an event's change. It is not encrypted again when keys are replaced: it expires with the event.
func changePlace(p cdc.Position, n int) sealPlace {
	return sealPlace{text: fmt.Sprintf("change:%s:%d:%d", p.Commit, p.Ordinal, n)}
}

// OpenParked decrypts a parked change; *KeyError.
func (k *Keyring) OpenParked(p *queue.ParkedChange) (ParkedRow, error) {
	var row ParkedRow
	what := fmt.Sprintf("the row of parked change %s", p.ID)
	plain, err := k.unseal(parkedPlace(p.ID.Position(), p.ID.N()), what, p.Change)
	if err != nil {
		return row, err
	}
	if json.NewDecoder(flate.NewReader(bytes.NewReader(plain))).Decode(&row) != nil {
		return row, &KeyError{What: what}
	}
	return row, nil
}

// OpenParked is the Keyring's; ErrKeys without one.
func (s *Store) OpenParked(p *queue.ParkedChange) (ParkedRow, error) {
	if s.keys == nil {
		return ParkedRow{}, ErrKeys
	}
	return s.keys.OpenParked(p)
}

// AdvanceParked stores, as AdvanceJob does, how far a job of parked changes is: up to the
// change with the id after, of those up to last, of which it has been as far as seen, and what
// became of the changes since the last call.
func (s *Store) AdvanceParked(ctx context.Context, j *Job, after, last, seen queue.ID, sent, silent, kept int64) error {
	position := after.String() + " " + last.String() + " " + seen.String()
	err := s.write(ctx, fmt.Sprintf("store how far job %d is", j.ID), func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, `update gancho.jobs set position = $3, sent = sent + $4, silent = silent + $5, kept = kept + $6,
			total = greatest(total, sent + silent + kept + $4 + $5 + $6), leased = now() + $7
			where id = $1 and claims = $2 and state = 'running'`, j.ID, j.claim.number, position, sent, silent, kept, j.claim.lease)
		if err == nil && done.RowsAffected() == 0 {
			err = ErrConflict
		}
		return err
	})
	if err != nil {
		return err
	}
	j.Cursor = position
	j.Sent, j.Silent, j.Kept = j.Sent+sent, j.Silent+silent, j.Kept+kept
	return nil
}

// ParkedCursor reads a position that AdvanceParked has stored. In one of an older version
// last is zero, and seen is after.
func ParkedCursor(position string) (after, last, seen queue.ID, err error) {
	ids := strings.Fields(position)
	for i, id := range []*queue.ID{&after, &last, &seen} {
		if i < len(ids) && err == nil {
			*id, err = queue.ParseID(ids[i])
		}
	}
	if len(ids) < 3 {
		seen = after
	}
	return after, last, seen, err
}

// ParkedFilter is the filter as one of parked changes. It fails for an id
// or a webhook-id that is none.
func (f *Filter) ParkedFilter() (queue.ParkedFilter, error) {
	out := queue.ParkedFilter{WebhookIDs: f.Webhooks, Events: f.Events, Rule: f.Rule, Reason: f.Reason, From: f.From, To: f.To}
	for _, text := range f.Parked {
		id, err := queue.ParseID(text)
		if err != nil {
			return out, err
		}
		out.IDs = append(out.IDs, id)
	}
	for _, text := range f.Webhooks {
		if _, _, err := queue.ParseWebhookID(text); err != nil {
			return out, err
		}
	}
	return out, nil
}

// parkedObject is what changes of parked changes are of, in the audit log.
const parkedObject = "parked"

// inSource is what something is of, in the audit log, that is done to the one of several sources that has the name; empty: there is one.
func inSource(object, source string) string {
	if source == "" {
		return object
	}
	return object + "/" + source
}

// RecordDroppedParked writes to the audit log that parked changes are dropped, of the one of several sources that has the name; empty: there is one.
func (s *Store) RecordDroppedParked(ctx context.Context, actor, source string, f Filter, n int) error {
	return s.write(ctx, "record that parked changes are dropped", func(tx pgx.Tx) error {
		return s.record(ctx, tx, &Change{Actor: actor, Action: "parked.drop", Object: inSource(parkedObject, source)}, nil, facts{"filter": f, "changes": n})
	})
}
