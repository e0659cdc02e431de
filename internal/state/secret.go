package state

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/endpoint"
)

// secretRow is a secret, encrypted.
type secretRow struct {
	id               int64
	sealed           []byte
	public           string
	created, expires time.Time
}

// RotateSecret gives an endpoint a new secret. The ones before it sign beside it
// for the overlap; 0: they stop immediately. ErrLimit: more than endpoint.MaxKeys would sign.
func (s *Store) RotateSecret(ctx context.Context, actor, name string, secret endpoint.Secret, overlap time.Duration) (Endpoint, error) {
	return s.change(ctx, name, "rotate the secret of endpoint", func(tx pgx.Tx) error {
		if s.keys == nil {
			return ErrKeys
		}
		old, err := s.lockEndpoint(ctx, tx, name)
		if err != nil {
			return err
		}
		_, err = tx.Exec(ctx, `update gancho.secrets set expires = now() + $2 where endpoint_id = $1 and (expires is null or expires > now() + $2)`, old.ID, overlap)
		if err != nil {
			return err
		}
		if err := s.addSecret(ctx, tx, old.ID, secret); err != nil {
			return err
		}
		var keys int
		if err := tx.QueryRow(ctx, `select count(*) from gancho.secrets where endpoint_id = $1 and (expires is null or expires > now())`, old.ID).Scan(&keys); err != nil {
			return err
		}
		if keys > endpoint.MaxKeys {
			return ErrLimit
		}
		if _, err := tx.Exec(ctx, `update gancho.endpoints set version = version + 1, updated = now() where id = $1`, old.ID); err != nil {
			return err
		}
		c := Change{Actor: actor, Tenant: tenantOf(&old.Endpoint), Action: "secret.rotate", Object: endpointObject(name)}
		return s.record(ctx, tx, &c, nil, facts{"overlap": overlap.String(), "public_key": secret.Public()})
	})
}

// addSecret stores a secret under an id of its own, which it is bound to.
func (s *Store) addSecret(ctx context.Context, tx pgx.Tx, endpoint int64, secret endpoint.Secret) error {
	var id int64
	if err := tx.QueryRow(ctx, `select nextval('gancho.secrets_id_seq')`).Scan(&id); err != nil {
		return err
	}
	_, err := tx.Exec(ctx, `insert into gancho.secrets (id, endpoint_id, sealed, public_key) values ($1, $2, $3, $4)`,
		id, endpoint, s.keys.seal(secretPlace(endpoint, id), []byte(secret.Reveal())), secret.Public())
	return err
}

func (s *Store) decryptSecret(e *endpointRow, r *secretRow) (Secret, error) {
	what := fmt.Sprintf("a secret of endpoint %q", e.Name)
	text, err := s.keys.unseal(secretPlace(e.ID, r.id), what, r.sealed)
	if err != nil {
		return Secret{}, err
	}
	secret, err := endpoint.ParseSecret(string(text))
	if err != nil {
		return Secret{}, fmt.Errorf("read %s: %w", what, err)
	}
	return Secret{ID: r.id, Secret: secret, PublicKey: r.public, Created: r.created, Expires: r.expires}, nil
}

// sealedValue is one encrypted value of the database.
type sealedValue struct {
	table    string // gancho.endpoints or gancho.secrets
	endpoint int64
	name     string
	id       int64
	sealed   []byte
}

func (v *sealedValue) place() (place, what string) {
	if v.table == "gancho.endpoints" {
		return settingsPlace(v.endpoint), fmt.Sprintf("the settings of endpoint %q", v.name)
	}
	return secretPlace(v.endpoint, v.id), fmt.Sprintf("a secret of endpoint %q", v.name)
}

// Rekey encrypts everything with the first key of state.key, in one
// transaction, and returns how many values were encrypted with another one.
// *KeyError: nothing was changed. The other keys may be removed from state.key
// once every process has this state.key.
func (s *Store) Rekey(ctx context.Context, actor string) (int, error) {
	n := 0
	err := s.write(ctx, "encrypt with the first key of state.key", func(tx pgx.Tx) error {
		n = 0
		if s.keys == nil {
			return ErrKeys
		}
		// Before any row is read: a transaction that has read a row in order to change
		// it would wait for us, and we for it.
		if _, err := tx.Exec(ctx, `lock table gancho.endpoints, gancho.secrets in exclusive mode`); err != nil {
			return err
		}
		values, err := s.sealedValues(ctx, tx)
		if err != nil {
			return err
		}
		for i := range values {
			done, err := s.reseal(ctx, tx, &values[i])
			if err != nil {
				return err
			}
			if done {
				n++
			}
		}
		if n == 0 {
			return nil
		}
		return s.record(ctx, tx, &Change{Actor: actor, Action: "secret.rekey", Object: "state.key"}, nil,
			facts{"key": s.keys.IDs()[0], "values": n})
	})
	return n, err
}

func (s *Store) sealedValues(ctx context.Context, tx pgx.Tx) ([]sealedValue, error) {
	rows, _ := tx.Query(ctx, `
		select 'gancho.endpoints', id, name, id, sealed from gancho.endpoints
		union all
		select 'gancho.secrets', endpoint_id, name, s.id, s.sealed from gancho.secrets s join gancho.endpoints e on e.id = s.endpoint_id
		order by 1, 4`)
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (v sealedValue, err error) {
		err = row.Scan(&v.table, &v.endpoint, &v.name, &v.id, &v.sealed)
		v.name = decode(v.name)
		return v, err
	})
}

// reseal decrypts the value, so that one that is lost is found, and encrypts it
// again unless the first key has encrypted it.
func (s *Store) reseal(ctx context.Context, tx pgx.Tx, v *sealedValue) (bool, error) {
	place, what := v.place()
	plain, err := s.keys.unseal(place, what, v.sealed)
	if err != nil || s.keys.current(v.sealed) {
		return false, err
	}
	_, err = tx.Exec(ctx, `update `+v.table+` set sealed = $2 where id = $1`, v.id, s.keys.seal(place, plain))
	return err == nil, err
}
