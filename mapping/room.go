package mapping

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
)

// Lookups run in a closed room. Their search_path has no schema in which others
// may create, because a function or operator there that fits better than
// PostgreSQL's own would run with our rights: public.upper(varchar). Tables and
// types, for which nothing fits better than their name, are found in these schemas
// as the database's search_path says, once, when rules are bound: their names get
// the schema then, where the server says that it does not find them.

// room is where the lookups of a set of rules run.
type room struct {
	// path is its search_path, schemas are those of the database in it, as an array.
	path, schemas string
	// database is the search_path of the database, along which people expect
	// names to be found.
	database string
	// outside are the schemas of that which are not in path, in order.
	outside []outsideSchema
	// doubtful: a lookup may call what others have made, or something else than along
	// the database's search_path.
	doubtful bool
}

type outsideSchema struct {
	name string
	// intruders are the roles that may create in it; "": a table of an earlier
	// schema outside hides one of this.
	intruders string
	// trusted and users are the roles that have made something in it, and may need to
	// again; those of trusted are no intruders, and the database's owner is among them
	// in any case. idle are those that may log in and create, and have nothing in it.
	trusted, users, idle string
}

// makersOf is an SQL subquery: the roles that have made something in a schema n.
const makersOf = "(select relowner from pg_catalog.pg_class where relnamespace = n.oid union select proowner from pg_catalog.pg_proc where pronamespace = n.oid)"

// makers is an SQL expression: the roles besides its owner and superusers that have made
// something in a schema, or own the database and would lose their right to, and for which the
// condition of their oid holds. The schema is a row of pg_namespace with the alias n.
func makers(condition string) string {
	return `coalesce((select string_agg(quote_ident(maker.rolname), ', ' order by maker.rolname) from pg_catalog.pg_roles maker
		where not maker.rolsuper and maker.oid <> n.nspowner and ` + condition + `
		and (maker.oid in ` + makersOf + ` or maker.oid = (select datdba from pg_catalog.pg_database where datname = pg_catalog.current_database())
			and not pg_catalog.pg_has_role(maker.oid, n.nspowner, 'USAGE') and pg_catalog.has_schema_privilege(maker.oid, n.oid, 'CREATE'))), '')`
}

// idle is an SQL expression: who may create in a schema n, and has made nothing there that
// is still there, such as an application that creates tables and drops them.
func idle() string {
	return `coalesce((select string_agg(quote_ident(r.rolname), ', ' order by r.i) filter (where r.i <= 3) || case when count(*) > 3 then ' and ' || count(*) - 3 || ' others' else '' end
		from (select maker.rolname, row_number() over (order by maker.rolname) as i from pg_catalog.pg_roles maker
			where maker.rolcanlogin and not maker.rolsuper and not ` + cdc.Trusted("maker.oid") + ` and not pg_catalog.pg_has_role(maker.oid, n.nspowner, 'USAGE') and maker.oid not in ` + makersOf + `
				and pg_catalog.has_schema_privilege(maker.oid, n.oid, 'CREATE') and pg_catalog.has_database_privilege(maker.oid, pg_catalog.current_database(), 'CONNECT')) r), '')`
}

// schemaColumns are the SQL columns of an outsideSchema, of a row of pg_namespace n.
func schemaColumns() string {
	return "n.nspname::text as name, coalesce(" + cdc.Intruders("n") + ", '') as intruders, " +
		makers(cdc.Trusted("maker.oid")) + " as trusted, " + makers("not "+cdc.Trusted("maker.oid")) + " as users, " + idle() + " as idle"
}

// into are where the columns are scanned to.
func (s *outsideSchema) into() []any {
	return []any{&s.name, &s.intruders, &s.trusted, &s.users, &s.idle}
}

// planted is an SQL condition: others than those trusted made an object of a schema n,
// whose owner is the expression. They may no longer be able to, and it is still there.
func planted(owner string) string {
	return "(n.nspname <> 'pg_catalog' and n.nspname = any(" + cdc.DatabasePath + ") and " + owner + " <> n.nspowner and not " + cdc.Trusted(owner) + ")"
}

// loadRoom reads what the room is for the connection's database.
func loadRoom(ctx context.Context, conn *pgx.Conn) (room, error) {
	r := room{path: "pg_catalog"}
	rows, _ := conn.Query(ctx, `
		with listed as (
			select n.oid, s.i, `+schemaColumns()+`
			from unnest(`+cdc.DatabasePath+`) with ordinality s(name, i) join pg_catalog.pg_namespace n on n.nspname = s.name
			where n.nspname <> 'pg_catalog')
		select l.name, l.intruders, l.trusted, l.users, l.idle, l.intruders <> '' or exists (
			select from listed o join pg_catalog.pg_class a on a.relnamespace = o.oid join pg_catalog.pg_class b on b.relname = a.relname
			where o.i < l.i and o.intruders <> '' and b.relnamespace = l.oid)
		from listed l order by l.i`) // ForEachRow returns its error
	var s outsideSchema
	var outside bool
	var schemas []byte
	_, err := pgx.ForEachRow(rows, append(s.into(), &outside), func() error {
		if outside {
			r.outside = append(r.outside, s)
		} else {
			r.path += ", " + quoted(s.name)
			schemas = appendElement(schemas, []byte(s.name), false)
		}
		return nil
	})
	r.path += ", pg_temp" // else it comes first
	if r.schemas = "{}"; schemas != nil {
		r.schemas = string(schemas) + "}"
	}
	if err == nil {
		err = conn.QueryRow(ctx, `
			with open as (select n.oid from pg_catalog.pg_namespace n where `+cdc.Intruders("n")+` is not null)
			select (select coalesce(string_agg(quote_ident(s.name::text), ', ' order by s.i), '') from unnest(`+cdc.DatabasePath+`) with ordinality s(name, i)),
				exists (select from pg_catalog.pg_proc join open on open.oid = pronamespace)
				or exists (select from pg_catalog.pg_operator join open on open.oid = oprnamespace)
				or exists (select from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace where `+planted("p.proowner")+`)
				or exists (select from pg_catalog.pg_operator o join pg_catalog.pg_namespace n on n.oid = o.oprnamespace where `+planted("o.oprowner")+`)`).Scan(&r.database, &r.doubtful)
		r.doubtful = r.doubtful || len(r.outside) > 0
	}
	if err != nil {
		return r, fmt.Errorf("read who may create in the schemas of search_path: %w", err)
	}
	return r, nil
}

// enterPatience is how long a statement within enter waits for the lock of a table: the server
// opens all that it names.
const enterPatience = "2s"

// enter calls f within a read-only transaction with the settings of the sessions that
// run lookups, and rolls it back. Of a table that is locked it is a *cdc.LockedError.
func enter(ctx context.Context, conn *pgx.Conn, path string, f func() error) error {
	err := execute(ctx, conn, "begin read only; select pg_catalog.set_config('search_path', "+literal(path)+", true), pg_catalog.set_config('row_security', 'off', true), "+
		"pg_catalog.set_config('lock_timeout', "+literal(enterPatience)+", true), pg_catalog.set_config('standard_conforming_strings', 'on', true), pg_catalog.set_config('array_nulls', 'on', true)")
	if err == nil {
		err = f()
	}
	if conn.IsClosed() {
		return err
	}
	if ended := execute(context.WithoutCancel(ctx), conn, "rollback"); ended != nil {
		return errors.Join(err, ended)
	}
	return cdc.Locked(ctx, conn, err)
}

// execute runs statements whose results nobody needs.
func execute(ctx context.Context, conn *pgx.Conn, sql string) error {
	_, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	return err
}

// literal is a text as SQL writes it.
func literal(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }

// qualify returns the schema to write before the name of a table or type that the
// server does not find in the room, at an offset of the lookup's text; "": none.
func (b *binder) qualify(ctx context.Context, l *lookup, pg *pgconn.PgError, at int) (string, error) {
	catalog := map[string]string{
		cdc.CodeUndefinedTable:  "pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname",
		cdc.CodeUndefinedObject: "pg_catalog.pg_type t where t.typnamespace = n.oid and t.typname",
	}[pg.Code]
	if catalog == "" || at < 0 || len(b.room.outside) == 0 {
		return "", nil
	}
	name, err := cdc.ParseName(writtenName.FindString(l.text[at:]))
	if err != nil || name.Schema != "" {
		return "", nil //nolint:nilerr // it is no name, and the server's message stands
	}
	var schema string
	err = b.conn.QueryRow(ctx, `
		select n.nspname::text from unnest($1::text[]) with ordinality s(name, i) join pg_catalog.pg_namespace n on n.nspname = s.name
		where exists (select from `+catalog+` = $2) order by s.i limit 1`, b.room.outsideNames(), name.Name).Scan(&schema)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find %s: %w", name, err)
	}
	return quoted(schema) + ".", nil
}

func (r *room) outsideNames() []string {
	return mapped(r.outside, func(s outsideSchema) string { return s.name })
}

// calledName is the name of a function or operator at the beginning of a text.
var calledName = regexp.MustCompile(`^([\pL_][\pL\pN_$]*|"[^"]*"|[-+*/<>=~!@#%^&|` + "`" + `?]+)`)

// unresolvedHint says why a function or operator is not found that a person may
// expect; "": there is none in the schemas outside.
func (b *binder) unresolvedHint(ctx context.Context, text string) (string, error) {
	name := strings.Trim(calledName.FindString(text), `"`)
	var schema string
	err := b.conn.QueryRow(ctx, `
		select n.nspname::text from unnest($1::text[]) with ordinality s(name, i) join pg_catalog.pg_namespace n on n.nspname = s.name
		where exists (select from pg_catalog.pg_proc where pronamespace = n.oid and proname = any($2))
			or exists (select from pg_catalog.pg_operator where oprnamespace = n.oid and oprname = any($2))
		order by s.i limit 1`, b.room.outsideNames(), []string{name, strings.ToLower(name)}).Scan(&schema)
	if errors.Is(err, pgx.ErrNoRows) {
		return "", nil
	}
	if err != nil {
		return "", fmt.Errorf("find function %s: %w", name, err)
	}
	i := slices.IndexFunc(b.room.outside, func(s outsideSchema) bool { return s.name == schema })
	if s := b.room.outside[i]; s.intruders != "" {
		return openHint(s), nil
	}
	return "write " + cdc.QuoteIdentifier(schema) + ". before it", nil
}

// openHint closes a schema, unless the application creates in it.
func openHint(s outsideSchema) string {
	schema := cdc.QuoteIdentifier(s.name)
	hint := fmt.Sprintf("lookups use no functions and operators of schema %s, because %s may create others there, which would run with the rights of gancho's role; ", schema, s.intruders)
	revoke := fmt.Sprintf("REVOKE CREATE ON SCHEMA %s FROM %s", schema, s.intruders)
	const move = "move them to a schema where only its owner may create"
	if s.users != "" {
		return hint + fmt.Sprintf("do in the lookup what they do, or %s, which the application's search_path has to have then; %s closes it, and %s, which made something in it, could no longer create there", move, revoke, s.users)
	}
	if s.trusted != "" {
		revoke = fmt.Sprintf("GRANT CREATE ON SCHEMA %s TO %s; %s", schema, s.trusted, revoke)
	}
	if s.idle != "" {
		revoke += fmt.Sprintf(", unless %s may have to create there, which can and have nothing in it now", s.idle)
	}
	return hint + "run " + revoke + "; or " + move
}

// checkCalls refuses a lookup that calls what others have made or may replace, or that
// means something else in the room than along the database's search_path.
func (b *binder) checkCalls(ctx context.Context, l *lookup, in reads) error {
	plain, _ := l.batchSQL(nil)
	expected, err := readsOf(ctx, b.conn, b.room.database, plain)
	if _, refused := errors.AsType[*pgconn.PgError](err); err != nil && !refused {
		return err
	}
	// What a person expects and does not get; not what a stranger made to get it called.
	missed := func(all, has []uint32) []uint32 {
		return slices.DeleteFunc(slices.Clone(all), func(oid uint32) bool { return slices.Contains(has, oid) })
	}
	rows, _ := b.conn.Query(ctx, `
		with called(namespace, owner, kind, name, bare, missed) as (
			select pronamespace, proowner, 'function', p.oid::regprocedure::text, proname, not p.oid = any($1) from pg_catalog.pg_proc p where p.oid = any($1 || $2)
			union all
			select oprnamespace, oprowner, 'operator', o.oid::regoperator::text, oprname, not o.oid = any($3) from pg_catalog.pg_operator o where o.oid = any($3 || $4))
		select c.kind, c.name, c.bare::text, c.missed, quote_ident(pg_get_userbyid(c.owner)), quote_ident(pg_get_userbyid(n.nspowner)), `+schemaColumns()+`
		from called c join pg_catalog.pg_namespace n on n.oid = c.namespace
		where case when c.missed then c.owner = n.nspowner or `+cdc.Trusted("c.owner")+` else `+cdc.Intruders("n")+` is not null or `+planted("c.owner")+` end
		order by c.kind, c.name limit 1`,
		in.functions, missed(expected.functions, in.functions), in.operators, missed(expected.operators, in.operators))
	var kind, called, bare, owner, schemaOwner string
	var isMissed bool
	var s outsideSchema
	_, err = pgx.ForEachRow(rows, append([]any{&kind, &called, &bare, &isMissed, &owner, &schemaOwner}, s.into()...), func() error {
		hint := openHint(s)
		switch {
		case s.intruders != "":
		case !isMissed:
			hint = fmt.Sprintf("%s made it, who is neither a superuser nor the owner of the database or of schema %s; if it is what you expect, let %s make a copy of it under another name, and call that; else drop it",
				owner, cdc.QuoteIdentifier(s.name), schemaOwner)
		case kind == "operator":
			hint = fmt.Sprintf("lookups find it only with its schema: write OPERATOR(%s.%s)", cdc.QuoteIdentifier(s.name), bare)
		default:
			hint = fmt.Sprintf("lookups find it only with its schema: write %s. before it", cdc.QuoteIdentifier(s.name))
		}
		verb := "would call"
		if isMissed {
			verb = "would not call"
		}
		b.mistake(l.value, -1, hint, "%s %s %s %s", l.title(), verb, kind, called)
		return nil
	})
	if err != nil {
		return fmt.Errorf("read what lookup %s calls: %w", l.name, err)
	}
	return nil
}

// noteBodies reports functions that a lookup calls, below its views as well, and whose
// bodies look names up when they run: they run in the room, and may have been written
// for the database's search_path.
func (b *binder) noteBodies(ctx context.Context, r *rule, l *boundLookup) error {
	if len(b.room.outside) == 0 {
		return nil
	}
	all, _, err := expand(ctx, b.conn, l.reads, false)
	if err != nil {
		return fmt.Errorf("read what lookup %s reads: %w", l.name, err)
	}
	functions, operators := all.called()
	var names string
	err = b.conn.QueryRow(ctx, `
		select coalesce(string_agg(p.oid::regprocedure::text, ', ' order by 1), '')
		from pg_catalog.pg_proc p join pg_catalog.pg_language g on g.oid = p.prolang
		where (p.oid = any($1) or p.oid in (select oprcode from pg_catalog.pg_operator where oid = any($2)))
			and g.lanname not in ('internal', 'c') and p.oid >= 16384 and p.prosqlbody is null
			and not exists (select from unnest(p.proconfig) c(setting) where c.setting like 'search_path=%')`, functions, operators).Scan(&names)
	if err != nil {
		return fmt.Errorf("read what lookup %s calls: %w", l.name, err)
	}
	if names != "" {
		b.note("lookup.body", r, words("write the schema of each name in the body, operators included (OPERATOR(public.=)); or, %s", openHint(b.room.outside[0])),
			"%s calls %s, whose body does not find what is in %s without its schema: a table is not found when a change comes, and an operator may be another one",
			l.title(), names, strings.Join(mapped(b.room.outsideNames(), cdc.QuoteIdentifier), ", "))
	}
	return nil
}
