package migrations

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"gancho/cdc"
)

// ErrForeign says that the schema gancho, or something in it, belongs to a role whose
// code must not run with the rights of ours. Nothing of it was used.
var ErrForeign = errors.New("the schema gancho is not trusted")

// checkTrust refuses a schema that others have made or may add to: their view,
// trigger or function would run with our rights as soon as we use a table.
func checkTrust(ctx context.Context, db *sql.DB) error {
	var object, owner, role string
	err := db.QueryRowContext(ctx, `
		with gancho as (select n.oid, n.nspowner, `+cdc.Intruders("n")+` as intruders from pg_catalog.pg_namespace n where n.nspname = 'gancho'),
		owned(number, object, owner) as (
			select 1, 'the schema', nspowner from gancho
			union all select 2, 'relation ' || c.oid::regclass, c.relowner from pg_catalog.pg_class c join gancho on gancho.oid = c.relnamespace
			union all select 3, 'function ' || p.oid::regprocedure, p.proowner from pg_catalog.pg_proc p join gancho on gancho.oid = p.pronamespace
			union all select 4, 'operator ' || o.oid::regoperator, o.oprowner from pg_catalog.pg_operator o join gancho on gancho.oid = o.oprnamespace
			union all select 5, 'type ' || t.oid::regtype, t.typowner from pg_catalog.pg_type t join gancho on gancho.oid = t.typnamespace
			union all select 6, 'function ' || p.oid::regprocedure || ', which a trigger of ' || c.oid::regclass || ' calls,', p.proowner
				from pg_catalog.pg_trigger t join pg_catalog.pg_class c on c.oid = t.tgrelid join gancho on gancho.oid = c.relnamespace join pg_catalog.pg_proc p on p.oid = t.tgfoid)
		select object, pg_get_userbyid(owner)::text, current_user::text, number from owned where not `+cdc.Trusted("owner")+`
		union all select 'the right to create in it', intruders, current_user::text, 7 from gancho where intruders is not null
		order by 4 limit 1`).Scan(&object, &owner, &role, new(int))
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("read to whom the schema gancho belongs: %w", err)
	}
	return fmt.Errorf("%w: %s belongs to %s, whose code would run with the rights of %s; if %[3]s is the role of Gancho, write it in state.dsn, or give what it has to %[4]s (ALTER ... OWNER TO %[4]s; REVOKE CREATE ON SCHEMA gancho FROM ...); else find out who made it, and drop it",
		ErrForeign, object, owner, role)
}
