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
		id, endpoint, s.keys.seal(secretPlace(endpoint, id), []byte(secret.Written())), secret.Public())
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
