package state

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/delivery/queue"
)

// sealedKind is a kind of values that state.key encrypts. Each is in resealers: what is
// not would be lost with the key that rekey has replaced.
type sealedKind int

const (
	sealedSettings sealedKind = iota // of endpoints
	sealedSecret                     // of endpoints
	sealedParked                     // changes, in Redis
	sealedFields                     // of tenants
	sealedWhere                      // of backfills
	sealedKinds                      // how many there are
)

// sealPlace is where a sealed value belongs. Ids are never reused.
type sealPlace struct {
	kind sealedKind
	text string
}

func settingsPlace(endpoint int64) sealPlace {
	return sealPlace{sealedSettings, fmt.Sprintf("endpoint:%d:settings", endpoint)}
}

func secretPlace(endpoint, secret int64) sealPlace {
	return sealPlace{sealedSecret, fmt.Sprintf("endpoint:%d:secret:%d", endpoint, secret)}
}

func wherePlace(job int64) sealPlace {
	return sealPlace{sealedWhere, fmt.Sprintf("job:%d:where", job)}
}

// parkedPlace is a parked change's. Its epoch is not known when it is encrypted.
func parkedPlace(p cdc.Position, n int) sealPlace {
	return sealPlace{sealedParked, fmt.Sprintf("parked:%s:%d:%d", p.Commit, p.Ordinal, n)}
}

// resealers encrypt all values of a kind with the first key, and return how many were encrypted
// with another one. Those with a tx are one transaction.
var resealers = [sealedKinds]resealer{
	sealedSettings: {inTx: func(ctx context.Context, s *Store, tx pgx.Tx) (int, error) {
		return s.resealRows(ctx, tx, "gancho.endpoints", `select id, id, name, sealed, false from gancho.endpoints order by id`,
			func(v *sealedRow) (sealPlace, string) {
				return settingsPlace(v.endpoint), fmt.Sprintf("the settings of endpoint %q", v.name)
			})
	}},
	sealedSecret: {inTx: func(ctx context.Context, s *Store, tx pgx.Tx) (int, error) {
		return s.resealRows(ctx, tx, "gancho.secrets", `select s.id, e.id, e.name, s.sealed, false from gancho.secrets s join gancho.endpoints e on e.id = s.endpoint_id order by s.id`,
			func(v *sealedRow) (sealPlace, string) {
				return secretPlace(v.endpoint, v.id), fmt.Sprintf("a secret of endpoint %q", v.name)
			})
	}},
	sealedFields: {inTx: func(ctx context.Context, s *Store, tx pgx.Tx) (int, error) {
		return s.resealRows(ctx, tx, "gancho.tenant_fields", `select id, 0::bigint, '', sealed, false from gancho.tenant_fields order by id`,
			func(v *sealedRow) (sealPlace, string) { return fieldsPlace(v.id), fieldsText })
	}},
	// Of what is done or canceled it is shown only. A backfill that has failed can be resumed.
	sealedWhere: {inTx: func(ctx context.Context, s *Store, tx pgx.Tx) (int, error) {
		return s.resealRows(ctx, tx, "gancho.jobs", `select id, 0, '', sealed, state = 'failed' from gancho.jobs where sealed is not null and state not in ('done', 'canceled') order by id`,
			func(v *sealedRow) (sealPlace, string) { return wherePlace(v.id), whereOf(v.id) })
	}},
	sealedParked: {inRedis: (*Store).resealParked},
}

// resealer is of one kind: in the state database or in Redis.
type resealer struct {
	inTx    func(context.Context, *Store, pgx.Tx) (int, error)
	inRedis func(*Store, context.Context, parkedQueue) (int, error)
}

// parkedQueue is the queue, as far as it has what is encrypted.
type parkedQueue interface {
	RekeyParked(ctx context.Context, reseal func(*queue.ParkedChange) (bool, error)) (int64, error)
}

// Rekey encrypts everything with the first key of state.key, and returns how many values
// were encrypted with another one: what is in the database in one transaction, and then what is in
// the queue's Redis. After a *KeyError of the database nothing was changed; the where of a failed backfill that cannot be
// decrypted is left as it is, with a warning in the log. Parked changes that cannot be decrypted are left as they are, and are a *KeyError next to the others' number. The
// other keys may be removed from state.key once every process has this state.key, and
// there was no error.
func (s *Store) Rekey(ctx context.Context, actor string, q parkedQueue) (int, error) {
	total := 0
	err := s.write(ctx, "encrypt with the first key of state.key", func(tx pgx.Tx) error {
		total = 0
		if s.keys == nil {
			return ErrKeys
		}
		// Before any row is read: a transaction that has read a row in order to change
		// it would wait for us, and we for it.
		if _, err := tx.Exec(ctx, `lock table gancho.endpoints, gancho.secrets, gancho.jobs, gancho.tenant_fields in exclusive mode`); err != nil {
			return err
		}
		for _, r := range resealers {
			if r.inTx == nil {
				continue
			}
			n, err := r.inTx(ctx, s, tx)
			if err != nil {
				return err
			}
			total += n
		}
		return s.recordRekey(ctx, tx, actor, "secret.rekey", total)
	})
	if err != nil {
		return 0, err
	}
	var errs []error
	for _, r := range resealers {
		if r.inRedis == nil {
			continue
		}
		n, err := r.inRedis(s, ctx, q)
		if n > 0 {
			err = errors.Join(err, s.write(ctx, "write the audit log", func(tx pgx.Tx) error { return s.recordRekey(ctx, tx, actor, "parked.rekey", n) }))
		}
		total, errs = total+n, append(errs, err)
	}
	return total, errors.Join(errs...)
}

func (s *Store) recordRekey(ctx context.Context, tx pgx.Tx, actor, action string, n int) error {
	if n == 0 {
		return nil
	}
	return s.record(ctx, tx, &Change{Actor: actor, Action: action, Object: "state.key"}, nil, facts{"key": s.keys.IDs()[0], "values": n})
}

// sealedRow is an encrypted value of the database.
type sealedRow struct {
	id, endpoint int64
	name         string
	sealed       []byte
	spare        bool // nothing depends on it, and nobody can remove it: one that is lost is left as it is
}

// resealRows decrypts the values of a table, so that one that is lost is found, and encrypts
// those again that the first key has not encrypted.
func (s *Store) resealRows(ctx context.Context, tx pgx.Tx, table, sql string, of func(*sealedRow) (sealPlace, string)) (int, error) {
	rows, _ := tx.Query(ctx, sql)
	values, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (v sealedRow, err error) {
		err = row.Scan(&v.id, &v.endpoint, &v.name, &v.sealed, &v.spare)
		v.name = decode(v.name)
		return v, err
	})
	n := 0
	for i := 0; err == nil && i < len(values); i++ {
		v := &values[i]
		at, what := of(v)
		plain, err := s.keys.unseal(at, what, v.sealed)
		if err != nil && v.spare {
			s.logger.Warn().Err(err).Msg("a value that cannot be decrypted is not encrypted again, and is left as it is")
			continue
		}
		if err != nil {
			return n, err
		}
		if s.keys.current(v.sealed) {
			continue
		}
		if _, err := tx.Exec(ctx, `update `+table+` set sealed = $2 where id = $1`, v.id, s.keys.seal(at, plain)); err != nil {
			return n, err
		}
		n++
	}
	return n, err
}

// resealParked encrypts parked changes again, and hashes whose they are with the first key,
// if they say so.
func (s *Store) resealParked(ctx context.Context, q parkedQueue) (int, error) {
	lost := 0
	var first error
	n, err := q.RekeyParked(ctx, func(p *queue.ParkedChange) (bool, error) {
		if s.keys.current(p.Change) {
			return false, nil
		}
		row, err := s.keys.OpenParked(p)
		if err != nil {
			if lost++; first == nil {
				first = err
			}
			return false, nil
		}
		if row.Known {
			p.Subject = s.keys.Subjects(row.Tenant, row.Key)[0]
		}
		p.Change, err = s.keys.SealParked(p.ID.Position(), p.ID.N(), &row)
		return true, err
	})
	if err == nil && lost > 0 {
		err = fmt.Errorf("%d parked changes are not encrypted again: %w (or drop them: gancho parked drop)", lost, first)
	}
	return int(n), err
}
