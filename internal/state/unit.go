package state

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/jackc/pgx/v5"

	"gancho/delivery/endpoint"
)

// EndpointPlan is a change of several endpoints of a tenant.
type EndpointPlan struct {
	Add []PlannedEndpoint
	// Change are endpoints as they will be: State, Document and Public of those with their ID.
	Change []Endpoint
	// Remove are the names of endpoints whose queues are kept, Drop of those whose are not.
	Remove, Drop []string
}

// PlannedEndpoint is a new endpoint with its secrets, the newest first.
type PlannedEndpoint struct {
	Endpoint
	Secrets []endpoint.Secret
}

func (p *EndpointPlan) empty() bool { return len(p.Add)+len(p.Change)+len(p.Remove)+len(p.Drop) == 0 }

// ChangeEndpoints changes several endpoints of a tenant, all or none, with one entry of the audit log, of which c has actor, action and object.
// plan gets the tenant's endpoints as they are, by name, and returns what to change; meanwhile they stay so. Its error is returned. The error of Limits.Room:
// there is no room for one of them. ErrConflict: the name of a new one is taken.
func (s *Store) ChangeEndpoints(ctx context.Context, tenant string, c Change, plan func([]Endpoint) (EndpointPlan, error)) error {
	return s.write(ctx, "change the endpoints of a tenant", func(tx pgx.Tx) error {
		if s.keys == nil {
			return ErrKeys
		}
		// Two that add the first endpoint would not see each other's. Before any row, as AddEndpoint has it.
		if err := lockRoom(ctx, tx); err != nil {
			return err
		}
		before, err := s.lockEndpointsOf(ctx, tx, tenant)
		if err != nil {
			return err
		}
		p, err := plan(before)
		if err != nil || p.empty() {
			return err
		}
		was, is, err := s.carryOut(ctx, tx, before, &p)
		if err != nil {
			return err
		}
		c.Tenant = tenant
		return s.record(ctx, tx, &c, was, is)
	})
}

// lockEndpointsOf reads the endpoints that are the tenant's alone. One that cannot be decrypted says so itself.
func (s *Store) lockEndpointsOf(ctx context.Context, tx pgx.Tx, tenant string) ([]Endpoint, error) {
	if _, err := tx.Exec(ctx, `select from gancho.endpoints where tenants = array[$1] order by id for update`, s.text.encode(tenant)); err != nil {
		return nil, err
	}
	rows, err := s.readEndpoints(ctx, tx, "where e.tenants = array[$1]", s.text.encode(tenant))
	if err != nil {
		return nil, err
	}
	out := make([]Endpoint, len(rows))
	for i := range rows {
		e, err := s.decrypt(&rows[i])
		sealed, isSealed := errors.AsType[*KeyError](err)
		if err != nil && !isSealed {
			return nil, err
		}
		e.Sealed = sealed
		out[i] = e
	}
	return out, nil
}

// carryOut carries the plan out, and returns what the audit log says of it: the endpoints that changed, before and after.
func (s *Store) carryOut(ctx context.Context, tx pgx.Tx, before []Endpoint, p *EndpointPlan) (was, is facts, err error) {
	was, is = facts{}, facts{}
	find := func(name string) (*Endpoint, error) {
		i := slices.IndexFunc(before, func(e Endpoint) bool { return e.Name == name })
		if i < 0 {
			return nil, ErrNotFound
		}
		was[name] = before[i].facts()
		return &before[i], nil
	}
	for i, name := range slices.Concat(p.Remove, p.Drop) {
		e, err := find(name)
		if err != nil {
			return nil, nil, err
		}
		if err := s.deleteEndpoint(ctx, tx, e.ID, name, i >= len(p.Remove)); err != nil {
			return nil, nil, err
		}
	}
	for i := range p.Change {
		e := &p.Change[i]
		if _, err := find(e.Name); err != nil {
			return nil, nil, err
		}
		_, err := tx.Exec(ctx, `update gancho.endpoints set state = $2, sealed = $3, public = $4::text::json, version = version + 1, updated = now() where id = $1`,
			e.ID, e.State.String(), s.keys.seal(settingsPlace(e.ID), e.Document), string(asciiJSON(e.Public)))
		if err != nil {
			return nil, nil, err
		}
		is[e.Name] = e.facts()
	}
	for i := range p.Add {
		n := &p.Add[i]
		if err := s.insertEndpoint(ctx, tx, &n.Endpoint, n.Secrets); err != nil {
			return nil, nil, err
		}
		is[n.Name] = n.facts()
	}
	return was, is, nil
}

// TenantFields are fields that every request to a tenant's endpoints has.
type TenantFields struct {
	Tenant string
	Fields map[string]endpoint.Hidden // nil with Sealed
	// Sealed is set when state.key does not decrypt them.
	Sealed *KeyError
}

func fieldsPlace(id int64) sealPlace {
	return sealPlace{sealedFields, fmt.Sprintf("tenant_fields:%d", id)}
}

// fieldsText describes what is sealed, for errors.
const fieldsText = "the fields of a tenant's requests"

// knownFields are the rows of tenants' fields that were decrypted last, by their ids: of thousands an edit changes one. It
// is safe for concurrent use.
type knownFields struct {
	rows atomic.Pointer[map[int64]knownRow]
}

// knownRow is a decrypted row; version is the transaction that wrote it: see rowVersions.
type knownRow struct {
	version string
	TenantFields
}

// Fields returns the fields of all tenants, of which it decrypts those alone that have changed since it did so last; with a
// tenant, only its own, if it has any. The maps are shared: they are not to be changed.
func (s *Store) Fields(ctx context.Context, tenant string) ([]TenantFields, error) {
	var known map[int64]knownRow
	if all := s.fields.rows.Load(); all != nil && tenant == "" {
		known = *all
	}
	ids, versions := make([]int64, 0, len(known)), make([]string, 0, len(known))
	for id := range known {
		ids, versions = append(ids, id), append(versions, known[id].version)
	}
	rows, err := collect(ctx, s, "read the fields of tenants", `select f.id, f.tenant, f.xmin::text, case when k.id is null then f.sealed end
		from gancho.tenant_fields f left join unnest($2::bigint[], $3::text[]) k (id, version) on k.id = f.id and k.version = f.xmin::text
		where $1 = '' or f.tenant = $1 order by f.tenant`, []any{s.text.encode(tenant), ids, versions}, scanFields)
	if err != nil {
		return nil, err
	}
	out, now := make([]TenantFields, len(rows)), make(map[int64]knownRow, len(rows))
	for i := range rows {
		r := &rows[i]
		if out[i] = known[r.id].TenantFields; r.sealed != nil {
			if out[i], err = s.openFields(r); err != nil {
				return nil, err
			}
		}
		now[r.id] = knownRow{r.version, out[i]}
	}
	if tenant == "" {
		s.fields.rows.Store(&now)
	}
	return out, nil
}

type fieldsRow struct {
	id              int64
	tenant, version string
	sealed          []byte // nil: it is known
}

func scanFields(row pgx.CollectableRow) (r fieldsRow, err error) {
	err = row.Scan(&r.id, &r.tenant, &r.version, &r.sealed)
	decodeIn(&r.tenant)
	return r, err
}

func (s *Store) openFields(r *fieldsRow) (TenantFields, error) {
	f := TenantFields{Tenant: r.tenant}
	if s.keys == nil {
		return f, ErrKeys
	}
	plain, err := s.keys.unseal(fieldsPlace(r.id), fieldsText, r.sealed)
	if sealed, isSealed := errors.AsType[*KeyError](err); isSealed {
		f.Sealed = sealed
		return f, nil
	}
	if err != nil {
		return f, err
	}
	f.Fields, err = decodeFields(plain)
	return f, err
}

// ChangeFields sets fields of a tenant's requests, and removes those whose value is nil. The audit log has their names only.
func (s *Store) ChangeFields(ctx context.Context, actor, tenant string, set map[string]*endpoint.Hidden) error {
	return s.write(ctx, "change the fields of a tenant", func(tx pgx.Tx) error {
		if s.keys == nil {
			return ErrKeys
		}
		var id int64
		// The row exists for whoever comes second, who waits for the first here.
		err := tx.QueryRow(ctx, `insert into gancho.tenant_fields (tenant, sealed) values ($1, '') on conflict (tenant) do update set updated = now() returning id`,
			s.text.encode(tenant)).Scan(&id)
		if err != nil {
			return err
		}
		row := fieldsRow{id: id, tenant: tenant}
		if err := tx.QueryRow(ctx, `select sealed from gancho.tenant_fields where id = $1`, id).Scan(&row.sealed); err != nil {
			return err
		}
		var before TenantFields
		if len(row.sealed) > 0 {
			if before, err = s.openFields(&row); err != nil {
				return err
			}
			if before.Sealed != nil {
				return before.Sealed
			}
		}
		return s.writeFields(ctx, tx, id, &Change{Actor: actor, Tenant: tenant, Object: "tenant/" + tenant, Action: "fields.edit"}, before.Fields, set)
	})
}

func (s *Store) writeFields(ctx context.Context, tx pgx.Tx, id int64, c *Change, before map[string]endpoint.Hidden, set map[string]*endpoint.Hidden) error {
	after := map[string]endpoint.Hidden{}
	was, is := facts{}, facts{}
	for name, v := range before {
		after[name], was[name] = v, endpoint.Masked
	}
	for name, v := range set {
		if delete(after, name); v != nil {
			after[name] = *v
		}
	}
	for name := range after {
		is[name] = endpoint.Masked
	}
	for name, v := range set {
		if old, had := before[name]; had && v != nil && old != *v {
			is[name] = endpoint.Masked + " (new)"
		}
	}
	if len(after) == 0 {
		if _, err := tx.Exec(ctx, `delete from gancho.tenant_fields where id = $1`, id); err != nil {
			return err
		}
		return s.record(ctx, tx, c, was, is)
	}
	plain, err := encodeFields(after)
	if err != nil {
		return err
	}
	if _, err = tx.Exec(ctx, `update gancho.tenant_fields set sealed = $2, updated = now() where id = $1`, id, s.keys.seal(fieldsPlace(id), plain)); err != nil {
		return err
	}
	return s.record(ctx, tx, c, was, is)
}

// decodeFields and encodeFields read and write fields as a JSON object.
func decodeFields(plain []byte) (map[string]endpoint.Hidden, error) {
	var texts map[string]string
	if err := json.Unmarshal(plain, &texts); err != nil {
		return nil, fmt.Errorf("read %s: %w", fieldsText, err)
	}
	out := make(map[string]endpoint.Hidden, len(texts))
	for name, text := range texts {
		out[name] = endpoint.Hidden(text)
	}
	return out, nil
}

func encodeFields(fields map[string]endpoint.Hidden) ([]byte, error) {
	texts := map[string]string{}
	for name, v := range fields {
		texts[name] = v.Reveal()
	}
	return json.Marshal(texts)
}
