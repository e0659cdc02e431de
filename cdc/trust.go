package cdc

import "strings"

// Whoever may create functions and operators in a schema that a session looks
// names up in has it run their code with its rights: public.upper(varchar) fits
// better than upper(text).
// https://wiki.postgresql.org/wiki/A_Guide_to_CVE-2018-1058

// Trusted is an SQL condition: code of the role, whose oid the expression role is,
// may run in our session. It is a superuser, the database's owner or the session's
// own role.
func Trusted(role string) string {
	return strings.ReplaceAll(`exists (select from pg_catalog.pg_roles trusted where trusted.oid = ROLE and (trusted.rolsuper or trusted.rolname = current_user
		or trusted.oid = (select datdba from pg_catalog.pg_database where datname = pg_catalog.current_database())
		or trusted.rolname = 'pg_database_owner'))`, "ROLE", role)
}

// Intruders is an SQL expression: the roles besides its owner and those trusted
// that may create objects in a schema, such as "PUBLIC, app"; null: nobody. The
// schema is a row of pg_namespace with the alias.
func Intruders(alias string) string {
	return strings.ReplaceAll(`(select pg_catalog.string_agg(case g.grantee when 0 then 'PUBLIC' else pg_catalog.quote_ident(pg_catalog.pg_get_userbyid(g.grantee)::text) end, ', ')
		from pg_catalog.aclexplode(coalesce(N.nspacl, pg_catalog.acldefault('n', N.nspowner))) g
		where g.privilege_type = 'CREATE' and g.grantee <> N.nspowner and not `+Trusted("g.grantee")+`)`, "N.", alias+".")
}
