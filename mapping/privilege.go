package mapping

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"gancho/cdc"
	"gancho/internal/strictyaml"
)

// A query of the rules that the server refuses for a missing privilege: which one, and the
// statements that grant it. The server's message names one object, in the language of the
// server, and not what the query needs next.

// privileges finds out what the role of a connection lacks for queries.
type privileges struct {
	conn *pgx.Conn
	path string
	// denied are the columns of privacy.deny: of their tables only what is read is granted.
	denied map[uint32]map[string]string
}

// missing is what ends the refusal of a query. It is in words alone where the server does
// not say enough.
func (p *privileges) missing(ctx context.Context, refusal error, query string) (remedy, error) {
	role, err := p.role(ctx)
	if err != nil {
		return remedy{}, err
	}
	pg, ok := errors.AsType[*pgconn.PgError](refusal)
	if ok && pg.Routine == "check_enable_rls" { // the message is in the server's language
		return remedy{[]cdc.Statement{cdc.AlterRole(role, "BYPASSRLS")}, "because row-level security would hide rows, or let a lookup read a view of the table's owner"}, nil
	}
	grants, err := p.missingUsage(ctx, query, "", role)
	if err != nil {
		return remedy{}, err
	}
	in, err := readsOf(ctx, p.conn, p.path, query)
	_, refused := errors.AsType[*pgconn.PgError](err)
	switch {
	case err == nil:
		var more []cdc.Statement
		if more, err = p.missingSelect(ctx, in, role); err == nil {
			grants = append(grants, more...)
			more, err = p.missingExecute(ctx, in, role)
			grants = append(grants, more...)
		}
	case refused && !p.conn.IsClosed(): // the schema's privilege comes first
		err = nil
	}
	if err != nil {
		return remedy{}, fmt.Errorf("read what the role lacks: %w", err)
	}
	if len(grants) == 0 {
		return words("grant what it reads or calls to role %s", role), nil
	}
	return remedy{statements: grants}, nil
}

func (p *privileges) role(ctx context.Context) (role string, err error) {
	if err = p.conn.QueryRow(ctx, "select current_user::text", pgx.QueryExecModeExec).Scan(&role); err != nil {
		err = fmt.Errorf("read the role: %w", err)
	}
	return role, err
}

// namedTable matches what may name a table in a query: what follows a schema, FROM, JOIN or a
// comma.
var namedTable = regexp.MustCompile(`(?i)(?:\.|\bfrom|\bjoin|,)\s*("[^"]*"|[\pL_][\pL\pN_$]*)`)

// unquote is the name that SQL means.
func unquote(written string) string {
	if inner, quoted := strings.CutPrefix(written, `"`); quoted {
		return strings.ReplaceAll(strings.TrimSuffix(inner, `"`), `""`, `"`)
	}
	return strings.ToLower(written)
}

// signatureOf is an SQL expression: a function as GRANT names it, whatever the search_path.
func signatureOf(namespace, function string) string {
	return strings.NewReplacer("N.", namespace+".", "F.", function+".").Replace("format('%I.%I(%s)', N.nspname, F.proname, pg_get_function_identity_arguments(F.oid))")
}

// operatorAt is an operator at the beginning of a text.
var operatorAt = regexp.MustCompile("^[-+*/<>=~!@#%^&|`?]+")

// absent is the name, in the query, of the table, type, function or operator that the server
// does not find; "": the error is not of that kind, such as that of a column.
func absent(refusal error, query string) string {
	pg, ok := errors.AsType[*pgconn.PgError](refusal)
	if !ok || pg.Position < 1 || !slices.Contains([]string{cdc.CodeUndefinedTable, cdc.CodeUndefinedFunction, cdc.CodeUndefinedObject}, pg.Code) {
		return ""
	}
	at := query[byteOffset(query, int(pg.Position)-1):]
	if parts := identifier.FindAllString(writtenName.FindString(at), -1); len(parts) > 0 {
		return unquote(parts[len(parts)-1])
	}
	return operatorAt.FindString(at)
}

// missingUsage finds the schemas that a query names, or in which its names are found, and
// that the role may not use, and the tables and functions there that it may not use, either.
// With lost, the name of what the server does not find, it is about the schemas of the path that
// have such an object: the server passes over them.
func (p *privileges) missingUsage(ctx context.Context, query, lost, role string) ([]cdc.Statement, error) {
	all, tables := mapped(identifier.FindAllString(query, -1), unquote), []string{}
	for _, m := range namedTable.FindAllStringSubmatch(query, -1) {
		tables = append(tables, unquote(m[1]))
	}
	rows, _ := p.conn.Query(ctx, `
		with lacking as (
			select n.oid, n.nspname from pg_catalog.pg_namespace n
			cross join lateral (select n.nspname = any(`+cdc.DatabasePath+`) or '"' || replace(n.nspname::text, '"', '""') || '"' = any(string_to_array($3::text, ', ')) as path) i
			where not has_schema_privilege(n.oid, 'USAGE') and case when $4::text <> '' then i.path and (
					exists (select from pg_catalog.pg_class where relnamespace = n.oid and relname::text = $4) or exists (select from pg_catalog.pg_type where typnamespace = n.oid and typname::text = $4)
					or exists (select from pg_catalog.pg_proc where pronamespace = n.oid and proname::text = $4) or exists (select from pg_catalog.pg_operator where oprnamespace = n.oid and oprname::text = $4))
				else n.nspname::text = any($1::text[]) or i.path and (
					exists (select from pg_catalog.pg_class c where c.relnamespace = n.oid and c.relname::text = any($2::text[]))
					or exists (select from pg_catalog.pg_proc f where f.pronamespace = n.oid and f.proname::text = any($1::text[]))) end)
		select l.nspname::text, o.name, o.function, o.signature from lacking l
		cross join lateral (
			select '' as name, 0::oid as function, '' as signature
			union all
			select c.relname::text, 0, '' from pg_catalog.pg_class c where c.relnamespace = l.oid and c.relkind in ('r', 'p', 'v', 'm', 'f')
				and c.relname::text = any($2::text[]) and not has_any_column_privilege(c.oid, 'SELECT')
			union all
			select '', f.oid, `+signatureOf("l", "f")+` from pg_catalog.pg_proc f
			where f.pronamespace = l.oid and f.prokind in ('f', 'a') and f.proname::text = any($1::text[]) and not has_function_privilege(f.oid, 'EXECUTE')
		) o order by 1, 2, 4`, pgx.QueryExecModeExec, all, tables, p.path, lost) // ForEachRow returns its error
	var schema, table, signature string
	var function uint32
	var grants, objects []cdc.Statement
	_, err := pgx.ForEachRow(rows, []any{&schema, &table, &function, &signature}, func() error {
		if usage := cdc.GrantUsage(schema, role); !slices.ContainsFunc(grants, func(s cdc.Statement) bool { return s.SQL == usage.SQL }) {
			grants = append(grants, usage)
		}
		switch {
		case table != "":
			objects = append(objects, cdc.GrantSelect(cdc.Name{Schema: schema, Name: table}, nil, role))
		case signature != "":
			objects = append(objects, cdc.GrantExecute(function, signature, role))
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read which schemas the role may use: %w", err)
	}
	return append(grants, objects...), nil
}

// missingSelect are the grants for what a query reads.
func (p *privileges) missingSelect(ctx context.Context, in reads, role string) ([]cdc.Statement, error) {
	var grants []cdc.Statement
	for _, oid := range slices.Sorted(maps.Keys(in.columns)) {
		var table cdc.Name
		var columns []string
		var may bool
		err := p.conn.QueryRow(ctx, `
			select n.nspname::text, c.relname::text, has_table_privilege(c.oid, 'SELECT') or a.needed is not null and a.may or a.needed is null and has_any_column_privilege(c.oid, 'SELECT'), coalesce(a.needed, '{}')
			from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
			cross join lateral (select array_agg(attname::text order by attnum) as needed, bool_and(has_column_privilege(attrelid, attnum, 'SELECT')) as may
				from pg_catalog.pg_attribute where attrelid = c.oid and attnum > 0 and not attisdropped and (attnum::int = any($2::text::int[]) or 0 = any($2::text::int[]))) a
			where c.oid = $1::text::oid`, pgx.QueryExecModeExec, strconv.FormatUint(uint64(oid), 10), "{"+strings.Join(mapped(in.columns[oid], strconv.Itoa), ",")+"}").
			Scan(&table.Schema, &table.Name, &may, &columns)
		if errors.Is(err, pgx.ErrNoRows) || err == nil && may {
			continue
		}
		if err != nil {
			return nil, err
		}
		if len(p.denied[oid]) == 0 {
			columns = nil
		}
		grants = append(grants, cdc.GrantSelect(table, columns, role))
	}
	return grants, nil
}

// missingExecute are the grants for what a query calls.
func (p *privileges) missingExecute(ctx context.Context, in reads, role string) ([]cdc.Statement, error) {
	functions, operators := in.called()
	list := func(oids []uint32) string {
		return "{" + strings.Join(mapped(oids, func(oid uint32) string { return strconv.FormatUint(uint64(oid), 10) }), ",") + "}"
	}
	rows, _ := p.conn.Query(ctx, `
		select p.oid, `+signatureOf("n", "p")+` from pg_catalog.pg_proc p join pg_catalog.pg_namespace n on n.oid = p.pronamespace
		where (p.oid = any($1::text::oid[]) or p.oid in (select oprcode from pg_catalog.pg_operator where oid = any($2::text::oid[]))) and not has_function_privilege(p.oid, 'EXECUTE')
		order by 2`, pgx.QueryExecModeExec, list(functions), list(operators)) // ForEachRow returns its error
	var oid uint32
	var signature string
	var grants []cdc.Statement
	_, err := pgx.ForEachRow(rows, []any{&oid, &signature}, func() error {
		grants = append(grants, cdc.GrantExecute(oid, signature, role))
		return nil
	})
	return grants, err
}

// refuseDenied is the mistake of a query that the role of source.dsn may not run.
func (b *binder) refuseDenied(ctx context.Context, id string, v strictyaml.Value, at int, refusal *pgconn.PgError, query, title string) error {
	p := privileges{b.conn, b.room.path, b.denied}
	r, err := p.missing(ctx, refusal, query)
	if err == nil {
		b.propose(id, v, at, r, "%s: %s", title, refusal.Message)
	}
	return err
}

// ownHint is the server's hint, unless it is the general one about casts, for which there
// are better words.
func ownHint(pg *pgconn.PgError) string {
	if pg.Code == cdc.CodeUndefinedFunction {
		return "check its name and the types of its arguments"
	}
	return pg.Hint
}
