package state

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/endpoint"
)

// EndpointsOf returns the stored endpoints that are the tenant's alone ("": all) by name, of which a [Directory] reads only
// those that have changed. Next to an error that joins *KeyErrors it still returns all; those that could not be decrypted
// have no Document and no Secrets.
func (s *Store) EndpointsOf(ctx context.Context, tenant string) ([]Endpoint, error) {
	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	rows, err := s.readEndpoints(ctx, s.pool, "where $1 = '' or e.tenants = array[$1]", s.text.encode(tenant))
	if err != nil {
		return nil, fmt.Errorf("read endpoints: %w", explain(err))
	}
	out := make([]Endpoint, 0, len(rows))
	var errs []error
	for i := range rows {
		e, err := s.decryptOrSeal(&rows[i])
		if err != nil {
			return nil, err
		}
		out = append(out, e)
		if e.Sealed != nil {
			errs = append(errs, e.Sealed)
		}
	}
	return out, errors.Join(errs...)
}

// EndpointTenants returns the tenants of each stored endpoint, by name: without what is
// encrypted, which takes longest to read.
func (s *Store) EndpointTenants(ctx context.Context) (map[string][]string, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	of, err := endpointTenants(ctx, s.pool)
	if err != nil {
		return nil, fmt.Errorf("read the tenants of endpoints: %w", explain(err))
	}
	return of, nil
}

func endpointTenants(ctx context.Context, q querier) (map[string][]string, error) {
	of := map[string][]string{}
	rows, _ := q.Query(ctx, `select name, tenants from gancho.endpoints`) // ForEachRow returns its error
	var name string
	var tenants []string
	_, err := pgx.ForEachRow(rows, []any{&name, &tenants}, func() error {
		of[decode(name)] = decodeAll(tenants)
		return nil
	})
	return of, err
}

// Endpoint reads one, or ErrNotFound. Next to a *KeyError it returns the endpoint
// without Document and Secrets.
func (s *Store) Endpoint(ctx context.Context, name string) (Endpoint, error) {
	row, err := s.readEndpoint(ctx, s.pool, name)
	if err != nil {
		return Endpoint{}, fmt.Errorf("read endpoint %q: %w", name, explain(err))
	}
	return s.decrypt(row)
}

// AddEndpoint stores a new endpoint with its secrets, the newest first, and
// returns it with what the store has added. ErrConflict: the name is taken, or
// the queue of an endpoint that had it is not dropped yet; the error of Limits.Room.
func (s *Store) AddEndpoint(ctx context.Context, actor string, e Endpoint, secrets []endpoint.Secret) (Endpoint, error) {
	return s.change(ctx, e.Name, "add endpoint", func(tx pgx.Tx) error {
		if s.keys == nil {
			return ErrKeys
		}
		if err := s.insertEndpoint(ctx, tx, &e, secrets); err != nil {
			return err
		}
		return s.recordEndpoint(ctx, tx, actor, "endpoint.add", nil, &e)
	})
}

// insertEndpoint adds the rows of an endpoint.
func (s *Store) insertEndpoint(ctx context.Context, tx pgx.Tx, e *Endpoint, secrets []endpoint.Secret) error {
	if err := s.checkRoom(ctx, tx); err != nil {
		return err
	}
	var id int64
	if err := tx.QueryRow(ctx, `select nextval('gancho.endpoints_id_seq')`).Scan(&id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `insert into gancho.endpoints (id, name, tenants, state, sealed, public) values ($1, $2, $3, $4, $5, $6::text::json)`,
		id, s.text.encode(e.Name), s.text.encodeAll(e.Tenants), e.State.String(), s.keys.seal(settingsPlace(id), e.Document), string(asciiJSON(e.Public)))
	if isTaken(err) {
		return fmt.Errorf("%w: an endpoint of this name exists", ErrConflict)
	}
	if err != nil {
		return err
	}
	// Checked only now: the insert has waited for a removal of the same name.
	var dropping bool
	err = tx.QueryRow(ctx, `select exists (select from gancho.drops where name = $1)`, s.text.encode(e.Name)).Scan(&dropping)
	if err != nil {
		return err
	}
	if dropping {
		return fmt.Errorf("%w: the queue of an endpoint that had this name is not dropped yet; try again when a bridge has dropped it, or choose another name", ErrConflict)
	}
	for _, secret := range slices.Backward(secrets) {
		if err := s.addSecret(ctx, tx, id, secret); err != nil {
			return err
		}
	}
	return nil
}

// UpdateEndpoint stores tenants, state, document and public of the endpoint of
// that name. ErrConflict: its Version is no longer e's; read it again.
func (s *Store) UpdateEndpoint(ctx context.Context, actor string, e Endpoint) (Endpoint, error) {
	return s.change(ctx, e.Name, "change endpoint", func(tx pgx.Tx) error {
		if s.keys == nil {
			return ErrKeys
		}
		old, err := s.lockEndpoint(ctx, tx, e.Name)
		if err != nil {
			return err
		}
		if old.Version != e.Version {
			return ErrConflict
		}
		_, err = tx.Exec(ctx, `update gancho.endpoints set tenants = $2, state = $3, sealed = $4, public = $5::text::json, version = version + 1, updated = now() where id = $1`,
			old.ID, s.text.encodeAll(e.Tenants), e.State.String(), s.keys.seal(settingsPlace(old.ID), e.Document), string(asciiJSON(e.Public)))
		if err != nil {
			return err
		}
		return s.recordEndpoint(ctx, tx, actor, "endpoint.edit", &old.Endpoint, &e)
	})
}

// SetEndpointState activates, pauses or deactivates an endpoint.
func (s *Store) SetEndpointState(ctx context.Context, actor, name string, to endpoint.State) (Endpoint, error) {
	return s.change(ctx, name, "change the state of endpoint", func(tx pgx.Tx) error {
		old, err := s.lockEndpoint(ctx, tx, name)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update gancho.endpoints set state = $2, version = version + 1, updated = now() where id = $1`, old.ID, to.String())
		if err != nil {
			return err
		}
		after := old.Endpoint
		after.State = to
		action := map[endpoint.State]string{endpoint.Active: "endpoint.activate", endpoint.Paused: "endpoint.pause", endpoint.Inactive: "endpoint.deactivate"}[to]
		return s.recordEndpoint(ctx, tx, actor, action, &old.Endpoint, &after)
	})
}

// RemoveEndpoint deletes an endpoint, also one whose key is lost. With dropQueue,
// a row that Drops returns asks the capturing bridge to delete its queue; else
// the queue is kept.
func (s *Store) RemoveEndpoint(ctx context.Context, actor, name string, dropQueue bool) error {
	return s.write(ctx, fmt.Sprintf("remove endpoint %q", name), func(tx pgx.Tx) error {
		old, err := s.lockEndpoint(ctx, tx, name)
		if err != nil {
			return err
		}
		if err := s.deleteEndpoint(ctx, tx, old.ID, name, dropQueue); err != nil {
			return err
		}
		return s.recordEndpoint(ctx, tx, actor, "endpoint.remove", &old.Endpoint, nil)
	})
}

func (s *Store) deleteEndpoint(ctx context.Context, tx pgx.Tx, id int64, name string, dropQueue bool) error {
	if dropQueue {
		_, err := tx.Exec(ctx, `insert into gancho.drops (name) values ($1) on conflict do nothing`, s.text.encode(name))
		if err != nil {
			return err
		}
	}
	if _, err := tx.Exec(ctx, `delete from gancho.endpoint_tests where endpoint = $1`, s.text.encode(name)); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `delete from gancho.endpoints where id = $1`, id)
	return err
}

// DropQueue asks the bridge to drop the queue of an endpoint that was removed.
// ErrConflict: an endpoint of that name exists.
func (s *Store) DropQueue(ctx context.Context, actor, name string) error {
	return s.write(ctx, fmt.Sprintf("drop the queue of endpoint %q", name), func(tx pgx.Tx) error {
		// AddEndpoint changes the revision, too, and checks for drops only after
		// that: of the two, the later sees the earlier.
		if _, err := tx.Exec(ctx, `select from gancho.revision for update`); err != nil {
			return err
		}
		var exists bool
		if err := tx.QueryRow(ctx, `select exists (select from gancho.endpoints where name = $1)`, s.text.encode(name)).Scan(&exists); err != nil {
			return err
		}
		if exists {
			return ErrConflict
		}
		if _, err := tx.Exec(ctx, `insert into gancho.drops (name) values ($1) on conflict do nothing`, s.text.encode(name)); err != nil {
			return err
		}
		return s.record(ctx, tx, &Change{Actor: actor, Action: "queue.drop", Object: endpointObject(name)}, nil, nil)
	})
}

// Drops returns the names of endpoints whose queues are to be dropped, the
// oldest first.
func (s *Store) Drops(ctx context.Context) ([]string, error) {
	names, err := collect(ctx, s, "read the queues to drop", `select name from gancho.drops order by created, name`, nil, pgx.RowTo[string])
	return decodeAll(names), err
}

// Dropped records that the queue of the endpoint has been dropped.
func (s *Store) Dropped(ctx context.Context, name string) error {
	return s.write(ctx, fmt.Sprintf("record that the queue of endpoint %q was dropped", name), func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, `delete from gancho.drops where name = $1`, s.text.encode(name))
		return err
	})
}

// change runs f in a transaction and returns the endpoint as it then is.
func (s *Store) change(ctx context.Context, name, what string, f func(pgx.Tx) error) (Endpoint, error) {
	var out Endpoint
	err := s.write(ctx, fmt.Sprintf("%s %q", what, name), func(tx pgx.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		row, err := s.readEndpoint(ctx, tx, name)
		if err != nil {
			return err
		}
		out, err = s.decrypt(row)
		return err
	})
	return out, err
}

// recordEndpoint writes the audit entry of a change of settings. Its tenant is
// the endpoint's, when before and after agree on one.
func (s *Store) recordEndpoint(ctx context.Context, tx pgx.Tx, actor, action string, before, after *Endpoint) error {
	e := cmp.Or(after, before)
	c := Change{Actor: actor, Tenant: tenantOf(e), Action: action, Object: endpointObject(e.Name)}
	if before != nil && tenantOf(before) != c.Tenant {
		c.Tenant = ""
	}
	return s.record(ctx, tx, &c, before.facts(), after.facts())
}

func (e *Endpoint) facts() facts {
	if e == nil {
		return nil
	}
	return facts{"state": e.State.String(), "settings": e.Public}
}

func endpointObject(name string) string { return "endpoint/" + name }

// tenantOf is the tenant whose tokens see the endpoint; empty: none's.
func tenantOf(e *Endpoint) string {
	if len(e.Tenants) == 1 {
		return e.Tenants[0]
	}
	return ""
}

// endpointRow is an endpoint with what is encrypted still encrypted.
type endpointRow struct {
	Endpoint
	sealed  []byte
	secrets []secretRow
}

// querier is the pool or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}

// lockEndpoint locks the endpoint against changes by others, and reads it.
func (s *Store) lockEndpoint(ctx context.Context, tx pgx.Tx, name string) (*endpointRow, error) {
	var id int64
	if err := tx.QueryRow(ctx, `select id from gancho.endpoints where name = $1 for update`, s.text.encode(name)).Scan(&id); err != nil {
		return nil, err
	}
	return s.readEndpoint(ctx, tx, name)
}

func (s *Store) readEndpoint(ctx context.Context, q querier, name string) (*endpointRow, error) {
	rows, err := s.readEndpoints(ctx, q, "where e.name = $1", s.text.encode(name))
	if err != nil {
		return nil, err
	}
	if len(rows) == 0 {
		return nil, ErrNotFound
	}
	return &rows[0], nil
}

// readEndpoints reads endpoints by name with the secrets that sign now, the newest first, in one
// statement, so that they belong together. They are sorted here: the server would do it on its disk.
func (s *Store) readEndpoints(ctx context.Context, q querier, condition string, args ...any) ([]endpointRow, error) {
	rows, _ := q.Query(ctx, `select e.id, e.name, e.tenants, e.state, e.sealed, e.public::text, e.version, e.created, e.updated,
			s.id, s.sealed, s.public_key, s.created, s.expires
		from gancho.endpoints e
		left join gancho.secrets s on s.endpoint_id = e.id and (s.expires is null or s.expires > now()) `+condition, args...)
	var out []endpointRow
	at := map[int64]int{} // where in out, by id
	var r struct {
		endpointRow
		state, public string
		secret        struct {
			id               *int64
			sealed           []byte
			public           *string
			created, expires *time.Time
		}
	}
	to := []any{
		&r.ID, &r.Name, &r.Tenants, &r.state, &r.sealed, &r.public, &r.Version, &r.Created, &r.Updated,
		&r.secret.id, &r.secret.sealed, &r.secret.public, &r.secret.created, &r.secret.expires,
	}
	_, err := pgx.ForEachRow(rows, to, func() (err error) {
		i, ok := at[r.ID]
		if !ok {
			e := r.endpointRow
			e.Name, e.Tenants, e.Public = decode(r.Name), decodeAll(r.Tenants), json.RawMessage(r.public)
			e.Created, e.Updated = r.Created.UTC(), r.Updated.UTC()
			e.sealed = slices.Clone(r.sealed)
			if e.State, err = parseState(r.state); err != nil {
				return err
			}
			i = len(out)
			at[r.ID], out = i, append(out, e)
		}
		if r.secret.id != nil {
			out[i].secrets = append(out[i].secrets, secretRow{
				id: *r.secret.id, sealed: slices.Clone(r.secret.sealed), public: *r.secret.public,
				created: utc(r.secret.created), expires: utc(r.secret.expires),
			})
		}
		return nil
	})
	for i := range out {
		slices.SortFunc(out[i].secrets, func(a, b secretRow) int { return cmp.Compare(b.id, a.id) })
	}
	slices.SortFunc(out, func(a, b endpointRow) int { return strings.Compare(a.Name, b.Name) })
	return out, err
}

func parseState(text string) (endpoint.State, error) {
	for _, state := range []endpoint.State{endpoint.Active, endpoint.Paused, endpoint.Inactive} {
		if state.String() == text {
			return state, nil
		}
	}
	return 0, fmt.Errorf("%w: an endpoint's state is %q", ErrSchema, text)
}

// decrypt decrypts an endpoint. Next to an error it returns what is not encrypted.
func (s *Store) decrypt(r *endpointRow) (Endpoint, error) {
	if s.keys == nil {
		return r.Endpoint, fmt.Errorf("decrypt endpoint %q: %w", r.Name, ErrKeys)
	}
	e := r.Endpoint
	var err error
	if e.Document, err = s.keys.unseal(settingsPlace(r.ID), fmt.Sprintf("the settings of endpoint %q", r.Name), r.sealed); err != nil {
		return r.Endpoint, err
	}
	for i := range r.secrets {
		secret, err := s.decryptSecret(r, &r.secrets[i])
		if err != nil {
			return r.Endpoint, err
		}
		e.Secrets = append(e.Secrets, secret)
	}
	return e, nil
}
