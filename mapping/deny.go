package mapping

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/strictyaml"
	"gancho/mapping/expr"
)

// denied is a column that no payload may hold.
type denied struct {
	text   string
	table  cdc.Name
	column string
}

func (d denied) mistake(hint, format string, args ...any) *strictyaml.Error {
	return &strictyaml.Error{File: "privacy.deny: " + d.text, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// hiddenColumns are the columns that a mask or a hash hides, and that no
// payload, key or tenant shows as they are. A condition that names one does not
// show it.
func hiddenColumns(uses []use) map[string]bool {
	hidden := map[string]bool{}
	for _, u := range uses {
		if u.Hidden {
			hidden[u.Name] = true
		}
	}
	for _, u := range uses {
		if u.shown && !u.Hidden {
			delete(hidden, u.Name)
		}
	}
	return hidden
}

// parseDenied reads table.column or schema.table.column.
func parseDenied(s string) (denied, *strictyaml.Error) {
	d := denied{text: s}
	tokens, _ := expr.Tokens(s) // ParseName refuses a quote that does not end
	last := -1
	for _, t := range tokens {
		if t.Is(".") {
			last = t.Start
		}
	}
	if last < 0 {
		return d, d.mistake("write table.column", "the table is missing")
	}
	column, err := cdc.ParseName(s[last+1:])
	if err != nil {
		return d, d.mistake("", "%v", err)
	}
	table, err := cdc.ParseName(strings.TrimSpace(s[:last]))
	if err != nil {
		return d, d.mistake("", "%v", err)
	}
	d.table, d.column = table, column.Name
	return d, nil
}

// denyLookup refuses a lookup that a role could not run that may not read the
// columns of privacy.deny, with all views as security_invoker: one that reads such
// a column anywhere, itself or through views, takes it as an argument, or calls what
// may read anything.
func (b *binder) denyLookup(ctx context.Context, l *boundLookup, on *cdc.Table) error {
	if len(b.denied) == 0 {
		return nil
	}
	for _, p := range l.params {
		if l.expression != nil {
			break // checkUse has it
		}
		if text := b.denied[on.Relation.OID][p.column]; text != "" {
			b.mistake(l.value, p.start, "remove it from the "+l.noun()+", or from privacy.deny", "%s takes column %q, which must not be sent: privacy.deny has %s", l.title(), p.column, text)
		}
	}
	if b.saved != nil {
		return nil // the server must say what it reads
	}
	all, through, err := expand(ctx, b.conn, l.reads, false)
	if err != nil {
		return fmt.Errorf("read what lookup %s reads: %w", l.name, err)
	}
	if err := b.denyColumns(ctx, l, all, through); err != nil {
		return fmt.Errorf("read what lookup %s reads: %w", l.name, err)
	}
	if err := b.denyCalls(ctx, l, all); err != nil {
		return fmt.Errorf("read what lookup %s calls: %w", l.name, err)
	}
	return nil
}

// expand adds what is below views; invoked: below those that read with the rights of
// whoever reads them (security_invoker, 15 and newer). through is, for what is read
// there, the view.
func expand(ctx context.Context, conn *pgx.Conn, top reads, invoked bool) (all reads, through map[uint32]string, err error) {
	all, through = reads{columns: map[uint32][]int{}}, map[uint32]string{}
	all.add(top)
	seen := map[uint32]bool{}
	for found := top; len(found.columns) > 0; {
		below := reads{columns: map[uint32][]int{}}
		relations := slices.DeleteFunc(slices.Sorted(maps.Keys(found.columns)), func(oid uint32) bool { return seen[oid] })
		for _, oid := range relations {
			seen[oid] = true
		}
		rows, _ := conn.Query(ctx, `
			select n.nspname::text, c.relname::text, r.ev_action::text
			from pg_catalog.pg_rewrite r join pg_catalog.pg_class c on c.oid = r.ev_class join pg_catalog.pg_namespace n on n.oid = c.relnamespace
			where r.ev_class = any($1) and c.relkind in ('v', 'm') and r.ev_type = '1'
				and (not $2 or exists (select from pg_catalog.pg_options_to_table(c.reloptions) o where o.option_name = 'security_invoker' and o.option_value::boolean))`, relations, invoked) // ForEachRow returns its error
		var view cdc.Name
		var tree string
		_, err := pgx.ForEachRow(rows, []any{&view.Schema, &view.Name, &tree}, func() error {
			of, err := parseTree(tree)
			for oid := range of.columns {
				through[oid] = cmp.Or(through[oid], view.String())
			}
			below.add(of)
			return err
		})
		if err != nil {
			return all, nil, err
		}
		all.add(below)
		found = below
	}
	for oid := range top.columns {
		delete(through, oid)
	}
	return all, through, nil
}

// denyColumns refuses the columns that a lookup reads.
func (b *binder) denyColumns(ctx context.Context, l *boundLookup, all reads, through map[uint32]string) error {
	rows, _ := b.conn.Query(ctx, `
		select c.oid, c.relkind = 't' or c.oid in ('pg_catalog.pg_statistic'::regclass, 'pg_catalog.pg_statistic_ext_data'::regclass),
			array_agg(a.attname::text order by a.attnum), array_agg(a.attnum::int order by a.attnum)
		from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid and a.attnum > 0 and not a.attisdropped
		where c.oid = any($1) group by c.oid order by c.oid`, slices.Sorted(maps.Keys(all.columns))) // ForEachRow returns its error
	var oid uint32
	var copies bool // it has values of other tables' columns
	var names []string
	var numbers []int
	shown := map[string]bool{}
	_, err := pgx.ForEachRow(rows, []any{&oid, &copies, &names, &numbers}, func() error {
		if copies && len(all.columns[oid]) > 0 {
			b.mistake(l.value, -1, "remove it from the "+l.noun(), "%s reads a table of PostgreSQL's own that has values of all columns, and columns must not be sent: privacy.deny has some", l.title())
		}
		for i, column := range names {
			text := b.denied[oid][column]
			if text == "" || shown[text] || !slices.Contains(all.columns[oid], numbers[i]) && !slices.Contains(all.columns[oid], 0) {
				continue
			}
			shown[text] = true
			if view := through[oid]; view != "" {
				b.mistake(l.value, -1, "read a view without it, or the tables behind it", "%s reads view %s, which reads column %q, which must not be sent: privacy.deny has %s", l.title(), view, column, text)
				continue
			}
			b.mistake(l.value, mention(l.text, "", column), "remove it from the "+l.noun()+", or from privacy.deny", "%s reads column %q, which must not be sent: privacy.deny has %s", l.title(), column, text)
		}
		return nil
	})
	return err
}

// harmless are PostgreSQL's own functions that read nothing, although they are volatile.
var harmless = []string{"array_sample", "array_shuffle", "clock_timestamp", "gen_random_uuid", "random", "random_normal", "timeofday", "uuidv4", "uuidv7"}

// denyCalls refuses functions that may read the columns without the query's naming
// them. PostgreSQL's own read what they are given, unless they are volatile, such as
// query_to_xml. So do immutable functions in C that a superuser installed with an
// extension, and unaccent's, which read a dictionary. Of others the server does not
// say what they read; they may run with the rights of a role that cannot read the
// columns.
func (b *binder) denyCalls(ctx context.Context, l *boundLookup, all reads) error {
	functions, operators := all.called()
	known := func(oid uint32) bool { return b.harmless[oid] }
	functions, operators = slices.DeleteFunc(functions, known), slices.DeleteFunc(slices.Clone(operators), known)
	if len(functions)+len(operators) == 0 {
		return nil
	}
	rows, _ := b.conn.Query(ctx, `
		with called as (select p.* from pg_catalog.pg_proc p where p.oid = any($1) or p.oid in (select oprcode from pg_catalog.pg_operator where oid = any($2)))
		select p.oid::regprocedure::text, p.oid < 16384, p.prosecdef
		from called p join pg_catalog.pg_language g on g.oid = p.prolang
		left join pg_catalog.pg_depend d on d.classid = 'pg_catalog.pg_proc'::regclass and d.objid = p.oid and d.refclassid = 'pg_catalog.pg_extension'::regclass and d.deptype = 'e'
		left join pg_catalog.pg_extension e on e.oid = d.refobjid
		where case
			when p.oid < 16384 then p.provolatile = 'v' and p.proname <> all($3) or p.proname ~ '^(pg_stat_|(database|schema|table)_to_xml)'
			else e.oid is null or not (select rolsuper from pg_catalog.pg_roles where oid = p.proowner)
				or p.prokind = 'f' and (g.lanname <> 'c' or p.provolatile <> 'i' and e.extname <> 'unaccent') or p.prokind not in ('f', 'a') end
		order by 1`, functions, operators, harmless) // ForEachRow returns its error
	type call struct {
		name             string
		builtIn, definer bool
	}
	calls, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (c call, err error) {
		err = row.Scan(&c.name, &c.builtIn, &c.definer)
		return c, err
	})
	if err == nil && len(calls) == 0 {
		for _, oid := range slices.Concat(functions, operators) {
			b.harmless[oid] = true
		}
	}
	if err != nil || len(calls) == 0 {
		return err
	}
	how, err := b.deniedReader(ctx)
	if err != nil {
		return err
	}
	for _, c := range calls {
		switch {
		case c.builtIn || c.definer:
			b.mistake(l.value, -1, "remove it from the "+l.noun(), "%s calls %s, which may read columns of privacy.deny", l.title(), c.name)
		case how == "":
			b.reliesOnRole = true
		default:
			b.mistake(l.value, -1, "write what it does in the lookup; or let lookups run as a role for which that is impossible (gancho check prints its privileges)",
				"%s calls %s, which may read columns of privacy.deny: %s", l.title(), c.name, how)
		}
	}
	return nil
}

// deniedReader says how a function of the database that runs with the rights of the
// role that reads for lookups may read a column of privacy.deny; "": it cannot.
func (b *binder) deniedReader(ctx context.Context) (string, error) {
	var relations []uint32
	var columns []string
	for oid, of := range b.denied {
		for column := range of {
			relations, columns = append(relations, oid), append(columns, column)
		}
	}
	if err := b.askReader(ctx); err != nil {
		return "", err
	}
	var how string
	err := b.conn.QueryRow(ctx, `
		with recursive reader as (select oid, rolname, rolsuper or rolreplication as everything from pg_catalog.pg_roles where rolname = $3),
		who as (select r.oid from pg_catalog.pg_roles r, reader where pg_catalog.pg_has_role(reader.oid, r.oid, 'MEMBER')),
		hidden as (select * from unnest($1::oid[], $2::text[]) h(relation, name)),
		view as (
			select relation as oid from hidden
			union
			select w.ev_class from view v join pg_catalog.pg_depend d on d.refclassid = 'pg_catalog.pg_class'::regclass and d.refobjid = v.oid and d.classid = 'pg_catalog.pg_rewrite'::regclass
			join pg_catalog.pg_rewrite w on w.oid = d.objid)
		select case
			when not exists (select from reader) then 'its role is not known to the server'
			when (select everything from reader) then 'role ' || (select quote_ident(rolname) from reader) || ' is a superuser or may read the WAL (REPLICATION)'
			else coalesce(
				(select 'role ' || quote_ident(pg_get_userbyid(who.oid)) || ' has SELECT on ' || relation::regclass || '.' || quote_ident(name) from who, hidden where has_column_privilege(who.oid, relation, name, 'SELECT') limit 1),
				(select 'role ' || quote_ident(pg_get_userbyid(who.oid)) || ' has SELECT on view ' || view.oid::regclass from who, view where view.oid not in (select relation from hidden) and has_any_column_privilege(who.oid, view.oid, 'SELECT') limit 1),
				(select 'it may call ' || p.oid::regprocedure || ', which has the rights of its owner' from who, pg_catalog.pg_proc p
					where p.prosecdef and p.oid >= 16384 and p.prorettype not in ('trigger'::regtype, 'event_trigger'::regtype) and has_function_privilege(who.oid, p.oid, 'EXECUTE') limit 1), '') end`,
		relations, columns, b.reader).Scan(&how)
	if err != nil {
		return "", fmt.Errorf("read what the role of lookups may read: %w", err)
	}
	return how, nil
}
