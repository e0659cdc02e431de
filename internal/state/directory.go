package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/endpoint"
)

// Directory keeps the stored endpoints in memory, so that a list of thousands costs one statement that compares the
// revision, and an edit of one of them reads and decrypts that one. It is safe for concurrent use: of those who ask at
// the same time one reads.
type Directory struct {
	store    *Store
	turn     chan struct{} // capacity 1: taken by who reads; it guards the rest
	known    revision
	versions map[int64]string // rowVersions of what all was read from; nil: nothing was read yet
	all      []*Known         // by name
}

// Known is a stored endpoint as a Directory has it: its Document is nil, and what that means is in Settings.
type Known struct {
	Endpoint
	mu       sync.Mutex
	document json.RawMessage    // nil: it was parsed, or there is none
	settings *endpoint.Endpoint // nil: it was not parsed, or cannot be
	wrong    error              // of the parsing
}

// NewKnown returns an endpoint that was read in some other way.
func NewKnown(e Endpoint) *Known {
	k := &Known{Endpoint: e, document: e.Document}
	k.Document = nil
	return k
}

// Settings returns the endpoint as deliveries need it, with its name, state and secrets: like, which may be nil, when that is equal to it.
// It is shared, and not to be changed. The error is Sealed, or says why the document cannot be read.
func (k *Known) Settings(like *endpoint.Endpoint) (*endpoint.Endpoint, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.Sealed != nil {
		return nil, k.Sealed
	}
	if k.settings == nil && k.wrong == nil {
		k.settings, k.wrong = k.parse()
		k.document = nil
		if k.settings != nil && like != nil && like.Equal(k.settings) {
			k.settings = like
		}
	}
	return k.settings, k.wrong
}

func (k *Known) parse() (*endpoint.Endpoint, error) {
	e, err := endpoint.Parse(k.Name, k.document)
	if err != nil {
		return nil, err
	}
	e.Name, e.State, e.Secrets = k.Name, k.State, make([]endpoint.Secret, len(k.Secrets))
	for i := range k.Secrets {
		e.Secrets[i] = k.Secrets[i].Secret
	}
	return &e, nil
}

// Directory returns one that has read nothing yet.
func (s *Store) Directory() *Directory { return &Directory{store: s, turn: make(chan struct{}, 1)} }

// Endpoints returns all stored endpoints as they are now, by name. One that cannot be decrypted is there with Sealed set. The
// slice, and what it points to, is shared: it is not to be changed. Of an endpoint that did not change it has the same *Known each time.
func (d *Directory) Endpoints(ctx context.Context) ([]*Known, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	select {
	case d.turn <- struct{}{}:
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return nil, fmt.Errorf("read endpoints: %w: %w", ErrUnreachable, ctx.Err())
	}
	now, err := readRevision(ctx, d.store.pool)
	if err == nil && d.versions != nil && now == d.known {
		return d.all, nil
	}
	if err == nil {
		err = pgx.BeginTxFunc(ctx, d.store.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
			return d.read(ctx, tx)
		})
	}
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", explain(err))
	}
	return d.all, nil
}

// read reads what has changed, as of one moment.
func (d *Directory) read(ctx context.Context, tx pgx.Tx) error {
	now, err := readRevision(ctx, tx)
	if err != nil {
		return err
	}
	versions, err := rowVersions(ctx, tx)
	if err != nil {
		return err
	}
	all := make([]*Known, 0, len(versions))
	for _, k := range d.all {
		if versions[k.ID] == d.versions[k.ID] {
			all = append(all, k)
		}
	}
	var changed []int64
	for id, v := range versions {
		if v != d.versions[id] {
			changed = append(changed, id)
		}
	}
	var fresh []endpointRow
	switch len(changed) {
	case 0:
	case len(versions):
		fresh, err = d.store.readEndpoints(ctx, tx, "")
	default:
		fresh, err = d.store.readEndpoints(ctx, tx, "where e.id = any($1)", changed)
	}
	if err != nil {
		return err
	}
	for i := range fresh {
		e, err := d.store.decryptOrSeal(&fresh[i])
		if err != nil {
			return err
		}
		all = append(all, NewKnown(e))
	}
	slices.SortFunc(all, func(a, b *Known) int { return strings.Compare(a.Name, b.Name) })
	d.known, d.versions, d.all = now, versions, all
	return nil
}

// rowVersions returns of each endpoint what differs once its row, or one of the secrets that sign now, is another: the
// transactions that wrote them. The column version does not do: rekeying, and whoever repairs a row by hand, leave it as it is.
func rowVersions(ctx context.Context, tx pgx.Tx) (map[int64]string, error) {
	rows, _ := tx.Query(ctx, `select e.id, e.xmin, s.id, s.xmin from gancho.endpoints e
		left join gancho.secrets s on s.endpoint_id = e.id and (s.expires is null or s.expires > now()) order by e.id, s.id`) // ForEachRow returns its error
	versions := map[int64]string{}
	var id int64
	var written uint32
	var secret *int64
	var sealed *uint32
	var text []byte
	_, err := pgx.ForEachRow(rows, []any{&id, &written, &secret, &sealed}, func() error {
		text = strconv.AppendUint(append(text[:0], versions[id]...), uint64(written), 10)
		if secret != nil && sealed != nil {
			text = strconv.AppendInt(append(text, ' '), *secret, 10)
			text = strconv.AppendUint(append(text, ' '), uint64(*sealed), 10)
		}
		versions[id] = string(append(text, ' '))
		return nil
	})
	return versions, err
}

// readRevision reads what changes with every change of the endpoints.
func readRevision(ctx context.Context, q querier) (revision, error) {
	rows, _ := q.Query(ctx, `select n, (select count(*) from gancho.secrets where expires <= now()) from gancho.revision`) // CollectExactlyOneRow returns its error
	return pgx.CollectExactlyOneRow(rows, func(row pgx.CollectableRow) (r revision, err error) {
		err = row.Scan(&r.n, &r.expired)
		return r, err
	})
}

// decryptOrSeal decrypts an endpoint; of one that no key of the keyring decrypts it says so in Sealed.
func (s *Store) decryptOrSeal(r *endpointRow) (Endpoint, error) {
	e, err := s.decrypt(r)
	if sealed, ok := errors.AsType[*KeyError](err); ok {
		e.Sealed, err = sealed, nil
	}
	return e, err
}
