package mapping

import (
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
)

// lookupRole is the name of the role that LookupRole's statements create.
const lookupRole = "gancho_lookup"

// askReader asks which role logs in for lookups: a DSN's user is the one that a pooler knows.
func (b *binder) askReader(ctx context.Context) (err error) {
	switch {
	case b.reader != "":
	case b.options.Reader != nil:
		b.reader, err = b.options.Reader(ctx)
	default:
		err = b.conn.QueryRow(ctx, "select session_user::text").Scan(&b.reader)
	}
	if err != nil {
		return fmt.Errorf("read the role of lookups: %w", err)
	}
	return nil
}

// LookupRole looks whether the role that reads for lookups, empty for the connection's
// own, may read a column of privacy.deny. The finding has the statements that create
// another one, which may read what the lookups and the parents of children need and
// nothing else. Without privacy.deny, without such a query, and where the role may read no
// such column, it returns nil.
func (rs *Ruleset) LookupRole(ctx context.Context, conn *pgx.Conn, reader string) (*cdc.Finding, error) {
	needed, err := rs.neededColumns(ctx, conn)
	if err != nil || len(needed) == 0 || len(rs.denied) == 0 {
		return nil, err
	}
	for relation, columns := range rs.denied {
		var role string
		var may bool
		err := conn.QueryRow(ctx, `
			select r.rolname::text, exists (select from unnest($2::text[]) c(name) where pg_catalog.has_column_privilege(r.oid, $1::oid, c.name, 'SELECT'))
			from pg_catalog.pg_roles r where r.rolname = coalesce(nullif($3, ''), current_user)`,
			relation, slices.Collect(maps.Keys(columns)), reader).Scan(&role, &may)
		if err != nil {
			return nil, fmt.Errorf("read what the role of lookups may read: %w", err)
		}
		if may {
			statements, err := rs.roleStatements(ctx, conn, lookupRole, needed, nil)
			return &cdc.Finding{
				ID: "role.denied_columns", Severity: cdc.SeverityWarning, Where: "privacy.deny",
				Title:      fmt.Sprintf("role %s, which reads for lookups, may read columns of it, and only Gancho's check of the lookups keeps them from that", role),
				Statements: statements, Remedy: "give the new role a password, and write it in source.lookup_dsn: then PostgreSQL refuses it",
			}, err
		}
	}
	return nil, nil
}

// RoleStatements create a role, with attributes such as REPLICATION, and give it what it lacks
// to connect, to find the tables of the rules, and, if lookups, to read what lookups and the
// parents of children need. What is granted to PUBLIC is not repeated.
func (rs *Ruleset) RoleStatements(ctx context.Context, conn *pgx.Conn, role string, lookups bool, attributes ...string) ([]cdc.Statement, error) {
	var needed map[uint32][]string
	if lookups {
		var err error
		if needed, err = rs.neededColumns(ctx, conn); err != nil {
			return nil, err
		}
	}
	var tables []uint32
	for _, t := range rs.Ruled() {
		tables = append(tables, t.OID)
	}
	return rs.roleStatements(ctx, conn, role, needed, tables, attributes...)
}

// roleStatements are RoleStatements for the columns needed, nil without lookups, and tables that
// need only be found.
func (rs *Ruleset) roleStatements(ctx context.Context, conn *pgx.Conn, role string, needed map[uint32][]string, found []uint32, attributes ...string) ([]cdc.Statement, error) {
	g := grants{conn: conn, role: role, asked: "public"} // who a role that does not exist may do as much as
	var functions, operators []uint32
	if needed != nil {
		var err error
		if functions, operators, err = rs.neededCalls(ctx, conn); err != nil {
			return nil, err
		}
	}
	tables := slices.Sorted(maps.Keys(needed))
	if err := g.ofRole(ctx, tables, attributes); err != nil {
		return nil, fmt.Errorf("read role %s: %w", role, err)
	}
	if err := g.ofSchemas(ctx, append(found, tables...), functions, operators); err != nil {
		return nil, fmt.Errorf("read the schemas of the lookups: %w", err)
	}
	if err := g.ofTables(ctx, needed); err != nil {
		return nil, fmt.Errorf("read the tables of the lookups: %w", err)
	}
	if err := g.ofFunctions(ctx, functions, operators); err != nil {
		return nil, fmt.Errorf("read the functions of the lookups: %w", err)
	}
	return g.statements, nil
}

// grants collects what a role lacks.
type grants struct {
	conn        *pgx.Conn
	role, asked string
	statements  []cdc.Statement
}

func (g *grants) add(s ...cdc.Statement) { g.statements = append(g.statements, s...) }

func (g *grants) ofRole(ctx context.Context, tables []uint32, attributes []string) error {
	var database string
	var exists, super, connects, logsIn, replicates, hidesRows, bypasses bool
	err := g.conn.QueryRow(ctx, `
		select current_database()::text, r.oid is not null, coalesce(r.rolsuper, false), has_database_privilege(coalesce(r.rolname, 'public'), current_database(), 'CONNECT'),
			coalesce(r.rolcanlogin, true), coalesce(r.rolreplication, false),
			exists (select from pg_catalog.pg_class where oid = any($1) and relrowsecurity), coalesce(r.rolbypassrls, false)
		from (select) x left join pg_catalog.pg_roles r on r.rolname = $2`, tables, g.role).
		Scan(&database, &exists, &super, &connects, &logsIn, &replicates, &hidesRows, &bypasses)
	if err != nil {
		return err
	}
	if exists {
		g.asked = g.role
	}
	if hidesRows && !bypasses {
		attributes = append(attributes, "BYPASSRLS")
	}
	switch {
	case !exists:
		g.add(cdc.CreateRole(g.role, attributes...))
	case !super:
		for _, attribute := range attributes {
			if attribute != "REPLICATION" || !replicates {
				g.add(cdc.AlterRole(g.role, attribute))
			}
		}
	}
	if !logsIn {
		g.add(cdc.AlterRole(g.role, "LOGIN"))
	}
	if !connects {
		g.add(cdc.GrantConnect(database, g.role))
	}
	return nil
}

func (g *grants) ofSchemas(ctx context.Context, tables, functions, operators []uint32) error {
	rows, _ := g.conn.Query(ctx, `
		select n.nspname::text from pg_catalog.pg_namespace n
		where n.nspname <> 'pg_catalog' and not pg_catalog.has_schema_privilege($4, n.oid, 'USAGE')
			and (n.oid in (select relnamespace from pg_catalog.pg_class where oid = any($1)) or n.nspname = any(`+cdc.DatabasePath+`)
			or n.oid in (select pronamespace from pg_catalog.pg_proc where oid = any($2) union select oprnamespace from pg_catalog.pg_operator where oid = any($3)))
		order by 1`, tables, functions, operators, g.asked) // ForEachRow returns its error
	var schema string
	_, err := pgx.ForEachRow(rows, []any{&schema}, func() error {
		g.add(cdc.GrantUsage(schema, g.role))
		return nil
	})
	return err
}

func (g *grants) ofTables(ctx context.Context, needed map[uint32][]string) error {
	rows, _ := g.conn.Query(ctx, `
		select c.oid, n.nspname::text, c.relname::text,
			array(select a.attname::text from pg_catalog.pg_attribute a where a.attrelid = c.oid and a.attnum > 0 and pg_catalog.has_column_privilege($2, c.oid, a.attnum, 'SELECT'))
		from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
		where c.oid = any($1) and n.nspname <> 'pg_catalog' order by 2, 3`, slices.Sorted(maps.Keys(needed)), g.asked) // ForEachRow returns its error
	var oid uint32
	var table cdc.Name
	var may []string
	_, err := pgx.ForEachRow(rows, []any{&oid, &table.Schema, &table.Name, &may}, func() error {
		lacking := slices.DeleteFunc(slices.Clone(needed[oid]), func(column string) bool { return slices.Contains(may, column) })
		if len(lacking) > 0 {
			g.add(cdc.GrantSelect(table, lacking, g.role))
		}
		return nil
	})
	return err
}

func (g *grants) ofFunctions(ctx context.Context, functions, operators []uint32) error {
	rows, _ := g.conn.Query(ctx, `
		select p.oid, p.oid::regprocedure::text from pg_catalog.pg_proc p
		where (p.oid = any($1) or p.oid in (select oprcode from pg_catalog.pg_operator where oid = any($2))) and not pg_catalog.has_function_privilege($3, p.oid, 'EXECUTE')
		order by 2`, functions, operators, g.asked) // ForEachRow returns its error
	var oid uint32
	var function string
	_, err := pgx.ForEachRow(rows, []any{&oid, &function}, func() error {
		g.add(cdc.GrantExecute(oid, function, g.role))
		return nil
	})
	return err
}

// neededCalls are the functions and operators that the role of lookups must be able to
// call, those below views included.
func (rs *Ruleset) neededCalls(ctx context.Context, conn *pgx.Conn) (functions, operators []uint32, err error) {
	for _, b := range rs.readers() {
		for _, l := range b.lookups {
			reads, err := rs.readsOf(ctx, conn, l)
			if err != nil {
				return nil, nil, err
			}
			all, _, err := expand(ctx, conn, reads, false)
			if err != nil {
				return nil, nil, fmt.Errorf("read what lookup %s calls: %w", l.name, err)
			}
			f, o := all.called()
			functions, operators = append(functions, f...), append(operators, o...)
		}
	}
	return functions, operators, nil
}

// readsOf is what a lookup reads, which binding asks only where it needs to know.
func (rs *Ruleset) readsOf(ctx context.Context, conn *pgx.Conn, l *boundLookup) (reads, error) {
	if len(l.reads.columns) > 0 {
		return l.reads, nil
	}
	found, err := readsOf(ctx, conn, rs.path, l.batch)
	if err != nil {
		return reads{}, fmt.Errorf("read what lookup %s reads: %w", l.name, err)
	}
	return found, nil
}

// neededColumns are the columns that the role of lookups must be able to read, by
// table, in the order of the table.
func (rs *Ruleset) neededColumns(ctx context.Context, conn *pgx.Conn) (map[uint32][]string, error) {
	all, parents := reads{columns: map[uint32][]int{}}, map[uint32]map[string]*cdc.Type{}
	for _, b := range rs.readers() {
		for _, l := range b.lookups {
			reads, err := rs.readsOf(ctx, conn, l)
			if err != nil {
				return nil, err
			}
			below, _, err := expand(ctx, conn, reads, true)
			if err != nil {
				return nil, fmt.Errorf("read what lookup %s reads: %w", l.name, err)
			}
			all.add(below)
		}
		if len(b.children) > 0 {
			oid := b.table.Relation.OID
			parents[oid] = b.columns
			all.columns[oid] = append(all.columns[oid], []int{}...)
		}
	}
	needed := map[uint32][]string{}
	rows, _ := conn.Query(ctx, `
		select attrelid, attname::text, attnum::int from pg_catalog.pg_attribute where attrelid = any($1) and attnum > 0 and not attisdropped order by 1, 3`,
		slices.Sorted(maps.Keys(all.columns))) // ForEachRow returns its error
	var oid uint32
	var column string
	var number int
	first := map[uint32]string{} // where no column is read, any one will do
	_, err := pgx.ForEachRow(rows, []any{&oid, &column, &number}, func() error {
		if first[oid] == "" && rs.denied[oid][column] == "" {
			first[oid] = column
		}
		_, parent := parents[oid][column]
		if parent || slices.Contains(all.columns[oid], number) || slices.Contains(all.columns[oid], 0) {
			needed[oid] = append(needed[oid], column)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("read the columns of the lookups: %w", err)
	}
	for oid, column := range first {
		if len(needed[oid]) == 0 {
			needed[oid] = []string{column}
		}
	}
	return needed, nil
}
