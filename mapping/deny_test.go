package mapping_test

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// denySchema has a table with a denied column, cpf, and whatever leads to it:
// partitions, children and parents, views, and copies that are allowed.
const denySchema = `
create schema privado;
create table pessoas (id int primary key, nome text, cpf text, nascimento date);
create table herdeiras (extra text) inherits (pessoas);
create table raiz (id int, nome text, cpf text, dia date) partition by range (dia);
create table raiz_2026 partition of raiz for values from ('2026-01-01') to ('2027-01-01');
create table raiz_resto partition of raiz default;
create table avo (id int, nome text, cpf text);
create table neta () inherits (avo);
create table livre (id int, nome text, cpf text, pessoa int);
create table apagadas (id int, antigo int, nome text, cpf text);
alter table apagadas drop column antigo;
create view vista as select id, nome, cpf from pessoas;
create view vista_livre as select id, nome from pessoas;
create materialized view copia as select p.id, p::text as tudo from pessoas p;
insert into pessoas values (1, 'Ana', '12345678909', '1990-01-02'), (2, 'Bia', '98765432100', null);
insert into raiz values (1, 'Ana', '12345678909', '2026-02-01');`

func denied() []string {
	return []string{"pessoas.cpf", "pessoas.nascimento", "raiz_2026.cpf", "neta.cpf", "apagadas.cpf", "herdeiras.extra"}
}

// clauses are, by kind, what generated queries are made of: %t is a table with its
// alias a, %c a column of it, %d another one, %o the alias.
var clauses = map[string][]string{
	"select": {
		"select %o.%c as x from %t", "select upper(%o.%c::text) as x from %t", "select trim(both ' ' from %o.%c::text) as x from %t", "select extract(year from coalesce(%o.%c::text, '2020-01-01')::date) as x from %t",
		"select substring(%c::text from 1 for 2) as x, %d::text as y from %t", "select position('1' in %c::text) as x from %t", "select overlay(%c::text placing 'x' from 1) as x from %t", "select case when %c is null then 1 else 2 end as x from %t",
		"select (%o).%c as x from %t", "select array[%c::text, %d::text] as x from %t", "select row(%c, %d)::text as x from %t", "select nullif(%c::text, %d::text) as x from %t", "select %c is distinct from %d as x from (select id, %c::text, %d::text as z from %t) a(%d, %c, z)",
		"select coalesce(%c::text, 'x') || %d as x from %t", "select greatest(%c::text, %d::text) as x from %t", "select xmlforest(%c, %d)::text as x from %t", "select (%c::text collate \"C\") as x from %t", "select length(format('%%s', %c)) as x from %t",
	},
	"whole row": {
		"select row_to_json(%o) as x from %t", "select %o::text as x from %t", "select * from %t", "select %o.* from %t", "select to_jsonb(%o) - 'cpf' as x from %t", "select count(%o) as x from %t", "select json_agg(%o) as x from %t", "select (%o).%c as x from %t",
		"select count(*) as x from %t", "select 1 as x from %t", "select x.* from %t, lateral (select %o.%c) x", "select (select %o) as x from %t", "select s.%c from (select * from %t) s", "table pessoas", "(table raiz) limit 1", "table livre",
	},
	"distinct": {"select distinct %c from %t", "select distinct on (%c) %d from %t", "select distinct on (id) upper(%c::text) as x from %t", "select count(distinct %c) as x from %t"},
	"where": {
		"select %d from %t where %c is not null", "select %d from %t where %c::text like '1%%'", "select %d from %t where %c::text = any(array['1'])", "select 1 as x from %t where (%c, %d) is not null", "select %d from %t where %c::text in (select nome from livre)",
		"select 1 as x from livre l where exists (select from %t where %o.%c is null)", "select %d from %t where not (%c is null and %d is null)", "select 1 as x from %t where %o is not null",
	},
	"join": {
		"select l.id from livre l join %t on %o.%c::text = l.nome", "select l.id from livre l left join %t using (id)", "select l.id from livre l join %t using (%c)", "select 1 as x from livre l natural join %t", "select %o.%c from livre l, %t", "select %c from (%t cross join (select 1 as um) u)",
		"select j.%c from (%t join (select 2 as dois) b on true) j", "select 1 as x from livre l full join %t on %o.id = l.id and %o.%d is null", "select l.nome from (livre l join %t on %o.id = l.id)",
	},
	"from": {
		"select z.k3 from %t2 z(k1, k2, k3)", "select z.k1 from %t2 as z(k1)", "select s.%c from (select %d, %c from %t) s", "select s.x from (select %d as x, %c as y from %t) s", "select f.x from %t, unnest(array[%o.%c::text]) f(x)", "select s from %t s2, lateral (select s2.nome) s",
		"select %c from only %p", "select %c from %p tablesample system (100)", "select v.column1 from (values ((select max(%c::text) from %t))) v", "select f.v from %t, json_each_text(row_to_json(%o)) f(k, v)", "select g from generate_series(1, (select count(%c)::int from %t)) g",
	},
	"group": {
		"select count(*) as x from %t group by %c", "select %d, max(%c::text) as x from %t group by %d", "select count(*) as x from %t having max(%c::text) > ''", "select count(*) as x from %t group by grouping sets ((%d), (%c))", "select count(*) as x from %t group by rollup (%d, id)",
		"select string_agg(%d::text, ',' order by %c) as x from %t", "select count(*) filter (where %c is not null) as x from %t", "select mode() within group (order by %c) as x from %t", "select percentile_disc(0.5) within group (order by %c::text) as x from %t",
	},
	"order": {"select %d from %t order by %c", "select %d from %t order by 1, %c desc nulls last limit 1", "select %d from %t order by upper(%c::text) using <", "select id from %t order by id limit (select count(%c) from %t)", "select id from %t offset (select count(%d) - 1 from pessoas)", "select id from %t order by id fetch first (1) rows with ties"},
	"window": {
		"select row_number() over (order by %c) as x from %t", "select lag(%c) over (order by id) as x from %t", "select count(*) over w as x from %t window w as (partition by %c)", "select sum(id) over (order by %d rows between 1 preceding and current row) as x from %t",
	},
	"with": {
		"with q as (select %c, %d from %t) select count(*) as x from q", "with q as materialized (select %d from %t) select * from q", "with recursive q(n) as (select id from %t union all select n + 1 from q where n < 3) select n from q", "with q as (select %c from %t) select 1 as x from q", "with pessoas as (select 1 as cpf) select cpf from pessoas",
		"with raiz(cpf) as (select %c::text from %t) select cpf from raiz",
	},
	"set":      {"select %c::text as x from %t union select nome from livre", "select nome from livre except select %d::text from %t", "(select %c::text as x from %t) intersect all (select %d::text from %t)", "values ((select %c::text from %t limit 1))", "select 'a' union all select max(%d::text) from %t"},
	"subquery": {"select (select max(%c::text) from %t) as x", "select array(select %c from %t) as x", "select 1 = all (select id from %t where %d is null) as x", "select exists (select %c from %t) as x", "select (select (select %o.%c::text)) as x from %t", "select nome from livre where (id, nome) = (select id, %c::text from %t limit 1)"},
	"view": {
		"select %d from %t where id in (select id from vista)", "select %d from %t where id in (select id from vista_livre)", "select (select max(x.id) from copia x) as n, %d from %t", "select %d from %t natural join (select id from %t2) z",
		"select nome from vista_livre where id = 1", "select nome from vista where id = 1", "select tudo from copia", "select id from copia", "select l.id from livre l where l.id in (select id from vista_livre)", "select 1 as x from livre where exists (table vista)",
	},
}

// denyQuery makes a query of a clause, with a table that has the denied column, or
// one that has it free, and columns that are denied or not.
func denyQuery(r *rand.Rand, clause string) string {
	pick := func(all ...string) string { return all[r.IntN(len(all))] }
	table := pick("pessoas", "herdeiras", "raiz", "raiz_2026", "raiz_resto", "avo", "neta", "livre", "apagadas", "vista", "vista_livre")
	alias := pick("a", "a", "a", `"a b:relid"`, `":selectedCols"`, `"{(x"`)
	column, other := "nome", "id"
	if table != "vista_livre" {
		column, other = pick("cpf", "cpf", "nome"), pick("id", "nome", "cpf")
	}
	if column == other {
		other = "id"
	}
	return strings.NewReplacer("%%", "%", "%t2", pick("pessoas", "raiz", "livre", "herdeiras"), "%t", table+pick(" ", " as ")+alias, "%o", alias, "%c", column, "%d", other,
		"%p", pick("pessoas", "avo", "livre", "raiz", "neta")).Replace(clause)
}

// TestDenyAgreesWithPrivileges: a lookup is refused exactly when a role could not run
// it that may read every column but those denied. That role's privileges on partitions,
// children and parents, and on what reads a denied column below, are those of the list.
func TestDenyAgreesWithPrivileges(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	ctx := context.Background()
	conn := connect(t, denySchema, `
		create role sem_cpf login;
		grant select on livre, vista_livre to sem_cpf;
		grant select (id, nome) on pessoas, herdeiras, raiz, raiz_2026, avo, neta, apagadas to sem_cpf;
		grant select (dia) on raiz, raiz_2026 to sem_cpf;
		grant select on raiz_resto to sem_cpf`)
	dropRole(t, conn, "sem_cpf")
	oracle, err := pgx.Connect(ctx, strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://sem_cpf@", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = oracle.Close(ctx) })
	r := rand.New(rand.NewPCG(seed(t), 7))
	for _, kind := range slices.Sorted(maps.Keys(clauses)) {
		templates := clauses[kind]
		queries := map[string]bool{} // whether PostgreSQL lets the role run it
		for range 2000 {
			if len(queries) == testservers.Cases(200) {
				break
			}
			sql := denyQuery(r, templates[r.IntN(len(templates))])
			if _, known := queries[sql]; known {
				continue
			}
			_, err := oracle.PgConn().ExecParams(ctx, sql, nil, nil, nil, nil).Close()
			if fault := cdc.FaultOf(err); err != nil && fault != cdc.FaultDenied && fault != cdc.FaultValue {
				continue // it is no query: a column is missing, or twice
			}
			queries[sql] = cdc.FaultOf(err) != cdc.FaultDenied
		}
		allowed := 0
		// An error names so many mistakes at most.
		for order := range slices.Chunk(slices.Sorted(maps.Keys(queries)), 30) {
			allowed += checkDenied(t, conn, kind, order, queries)
		}
		if t.Logf("%s: %d queries, %d allowed", kind, len(queries), allowed); allowed == 0 || allowed == len(queries) {
			t.Errorf("%s: %d of %d queries are allowed: the test shows nothing", kind, allowed, len(queries))
		}
	}
}

// checkDenied binds queries as lookups, and compares. It returns how many PostgreSQL
// allows.
func checkDenied(t *testing.T, conn *pgx.Conn, kind string, order []string, queries map[string]bool) (allowed int) {
	t.Helper()
	var rules strings.Builder
	rules.WriteString("rules:\n")
	for i, sql := range order {
		if queries[sql] {
			allowed++
		}
		fmt.Fprintf(&rules, "  - event: e\n    table: livre\n    on: insert\n    columns: [id]\n    lookup:\n      q%d: |\n        select count(*) as n from (%s) contada\n", i, sql)
	}
	_, err := parse(t, mapping.Options{Deny: denied()}, rules.String()).Bind(t.Context(), conn)
	refused := map[string]bool{}
	if err != nil {
		for line := range strings.SplitSeq(err.Error(), "\n") {
			found := regexp.MustCompile(`lookup q(\d+) reads .* must not be sent: privacy.deny has`).FindStringSubmatch(line)
			if found == nil {
				t.Errorf("%s: %s", kind, line)
				continue
			}
			refused[found[1]] = true
		}
	}
	for i, sql := range order {
		if refused[fmt.Sprint(i)] == queries[sql] {
			t.Errorf("%s: PostgreSQL lets the role run it: %v; the lookup is refused: %v\n%s", kind, queries[sql], refused[fmt.Sprint(i)], sql)
		}
	}
	return allowed
}

// lookupMistakes binds one lookup and returns its mistakes, "" without any.
func lookupMistakes(t *testing.T, conn *pgx.Conn, o mapping.Options, sql string) string {
	t.Helper()
	rules := "rules:\n  - event: e\n    table: livre\n    on: insert\n    columns: [id]\n    lookup:\n      q: |\n        " + sql + "\n"
	if _, err := parse(t, o, rules).Bind(t.Context(), conn); err != nil {
		return err.Error()
	}
	return ""
}

// TestDenyHoldsInFunctions: what a query calls may read anything, unless it is
// PostgreSQL's own and reads what it is given, or the role cannot read the columns.
func TestDenyHoldsInFunctions(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	conn := connect(t, denySchema, `
		revoke create on schema public from public;
		create extension unaccent;
		create extension citext;
		create extension tablefunc;
		create function le_cpf(int) returns text language sql stable as 'select cpf from pessoas where id = $1';
		create function dono(int) returns text language sql stable security definer as 'select cpf from pessoas where id = $1';
		create function soma(text, int) returns text language plpgsql as $$ begin return $1 || le_cpf($2); end $$;
		create aggregate junta (int) (sfunc = soma, stype = text, initcond = '');
		create function mais(int, int) returns text language sql as 'select le_cpf($1)';
		create operator ### (leftarg = int, rightarg = int, function = mais);
		create view escondida as select id, le_cpf(id) as x from livre;
		create function dobro(int) returns int language sql as 'select $1 * 2';
		create role leitora login; grant select on livre to leitora; grant usage on schema public to leitora;
		create role trocada login in role postgres; create role outra_leitora`)
	dropRole(t, conn, "outra_leitora")
	dropRole(t, conn, "leitora")
	dropRole(t, conn, "trocada")
	o := mapping.Options{Deny: denied()}
	for _, sql := range []string{
		"select le_cpf(id) as x from livre", "select dono(1) as x", "select junta(id) as x from livre", "select 1 ### id as x from livre", "select x from escondida", "select f from le_cpf(1) f", "select 1 as x from livre order by le_cpf(id)",
		"select query_to_xml('select cpf from pessoas', true, true, '')::text as x", "select table_to_xml('pessoas', true, true, '')::text as x", "select schema_to_xml('public', true, true, '')::text as x", "select pg_read_file('PG_VERSION') as x", "select set_config('role', 'postgres', false) as x",
		"select most_common_vals::text as x from pg_stats", "select stavalues1::text as x from pg_statistic", "select query from pg_stat_activity limit 1", "select ts_stat('select cpf::tsvector from pessoas')::text as x",
		"select a from crosstab('select id, nome, cpf from pessoas') as c(a int, b text)", "select data from pg_logical_slot_peek_changes('s', null, null) where false", "select chunk_data from pg_toast.pg_toast_" + fmt.Sprint(relation(t, conn, "", "pessoas").OID),
	} {
		if got := lookupMistakes(t, conn, o, sql); !strings.Contains(got, "lookup q ") || !strings.Contains(got, "privacy.deny") {
			t.Errorf("%s is accepted: %s", sql, got)
		}
		if got := lookupMistakes(t, conn, mapping.Options{}, sql); got != "" && !strings.Contains(got, "does not exist") {
			t.Errorf("%s without privacy.deny: %s", sql, got)
		}
	}
	for _, sql := range []string{
		"select unaccent(nome) as x, to_char(now(), 'YYYY') as y, gen_random_uuid() as z from livre", "select max(nome::citext) as x from livre where nome::citext = 'ANA'", "select g, json_build_object('a', g) as x from generate_series(1, 2) g", "select random() as x, clock_timestamp() as y",
	} {
		if got := lookupMistakes(t, conn, o, sql); got != "" {
			t.Errorf("%s is refused: %s", sql, got)
		}
	}
	// A role that cannot read the columns may call what has its own rights.
	for _, step := range []struct{ sql, role, want string }{
		{"", "leitora", "it may call dono(integer), which has the rights of its owner"},
		{"revoke execute on function dono(int) from public", "leitora", ""},
		{"", "", "is a superuser or may read the WAL"},
		{"", "trocada", "has SELECT on"},
		{"", "ninguem", "not known"},
		{"grant select on vista to leitora", "leitora", "role leitora has SELECT on view vista"},
		{"revoke select on vista from leitora; grant select (nascimento) on pessoas to leitora", "leitora", "role leitora has SELECT on pessoas.nascimento"},
		{"revoke select (nascimento) on pessoas from leitora; alter role leitora replication", "leitora", "REPLICATION"},
	} {
		do(t, conn, step.sql)
		got := lookupMistakes(t, conn, mapping.Options{Deny: denied(), Reader: as(step.role)}, "select dobro(id) as x from livre")
		if (got == "") != (step.want == "") || !strings.Contains(got, step.want) {
			t.Errorf("%q as %q: got %q, want %q", step.sql, step.role, got, step.want)
		}
		if got := lookupMistakes(t, conn, mapping.Options{Deny: denied(), Reader: as(step.role)}, "select dono(id) as x from livre"); got == "" {
			t.Errorf("%q as %q: a function with the rights of its owner is accepted", step.sql, step.role)
		}
	}

	// The role is the one that the server says, and not the DSN's user, in whose place a
	// pooler may log in as another.
	do(t, conn, "alter role leitora noreplication; create role forcada login in role leitora; alter role forcada set role = 'leitora'")
	dropRole(t, conn, "forcada")
	dsn := strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://forcada@", 1)
	source := mapping.NewSource(dsn, "", zerolog.Nop())
	defer source.Close(t.Context())
	forced, err := cdc.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = forced.Close(context.Background()) }()
	const rules = "rules:\n  - {event: e, table: livre, on: insert, data: {x: q.x}, lookup: {q: select dobro(id) as x from livre}}\n"
	for what, rs := range map[string]*mapping.Ruleset{
		"source.dsn":        bind(t, forced, mapping.Options{Deny: denied()}, rules),
		"source.lookup_dsn": bind(t, conn, mapping.Options{Deny: denied(), Reader: source.Login}, rules),
	} {
		if err := source.Check(t.Context(), rs); err != nil {
			t.Errorf("%s leads to another role than its user: %v", what, err)
		}
	}
	if err := source.Check(t.Context(), bind(t, conn, mapping.Options{Deny: denied(), Reader: as("outra_leitora")}, rules)); err == nil || !strings.Contains(err.Error(), "lookups run as role forcada") {
		t.Errorf("rules that were checked for another role: %v", err)
	}
	do(t, conn, "grant select (cpf) on pessoas to forcada") // which a function may become again
	if got := lookupMistakes(t, forced, mapping.Options{Deny: denied()}, "select dobro(id) as x from livre"); !strings.Contains(got, "role forcada has SELECT on") {
		t.Errorf("a role that may become one that reads what is denied: %q", got)
	}
}

// as answers with a role; nil for none.
func as(role string) func(context.Context) (string, error) {
	if role == "" {
		return nil
	}
	return func(context.Context) (string, error) { return role, nil }
}

// TestDenyInRules: denies hold over inheritance, partitions, generated columns and the
// ordering key, and for what a parked change shows.
func TestDenyInRules(t *testing.T) {
	t.Parallel()
	conn := connect(t, denySchema, `
		create table por_cpf (cpf text primary key, nome text, so_digitos text generated always as (regexp_replace(cpf, '\D', '', 'g')) stored);
		alter table pessoas replica identity full; alter table herdeiras replica identity full`)
	for rule, want := range map[string]string{
		"{event: e, table: raiz, on: insert, columns: [cpf]}":                                                     "raiz_2026.cpf",
		"{event: e, table: avo, on: insert, key: nome, columns: [cpf]}":                                           "neta.cpf",
		"{event: e, table: herdeiras, on: insert, key: id, data: {x: upper(cpf)}}":                                "pessoas.cpf",
		"{event: e, table: pessoas, on: update, data: {x: changed(cpf)}}":                                         "pessoas.cpf",
		"{event: e, table: pessoas, on: update, data: {x: old.cpf}}":                                              "pessoas.cpf",
		"{event: e, table: pessoas, on: insert, tenant: cpf, columns: [id]}":                                      "pessoas.cpf",
		"{event: e, table: pessoas, on: insert, data: {x: mask_cpf(cpf)}}":                                        "pessoas.cpf",
		"{event: e, table: por_cpf, on: insert, columns: [nome]}":                                                 "write key:",
		"{event: e, table: por_cpf, on: insert, key: nome, columns: [nome]}":                                      "",
		"{event: e, table: pessoas, on: insert, when: cpf is not null, columns: [id]}":                            "",
		"{event: e, table: raiz_resto, on: insert, columns: [id]}":                                                "is a partition",
		"{event: e, table: por_cpf, on: insert, key: nome, columns: [nome], lookup: {q: SODIGITOS}}":              "por_cpf.cpf",
		"{event: e, table: pessoas, on: insert, columns: [id], lookup: {q: select 1 as x where new.cpf is null}}": "lookup q takes column",
	} {
		rule = strings.Replace(rule, "SODIGITOS", "select so_digitos from por_cpf", 1)
		_, err := parse(t, mapping.Options{Deny: append(denied(), "por_cpf.cpf")}, "rules:\n  - "+rule).Bind(t.Context(), conn)
		if (err == nil) != (want == "") || err != nil && (!strings.Contains(err.Error(), want) || strings.Count(err.Error(), "\n") > 0) {
			t.Errorf("%s: %v, want %q", rule, err, want)
		}
	}
	// The key of a null is not that of the primary key.
	m := mapping.NewMapper(bind(t, conn, mapping.Options{Deny: []string{"por_cpf.cpf"}}, "rules:\n  - {event: e, table: por_cpf, on: insert, key: nome, columns: [nome]}"), nil)
	rel := relation(t, conn, "", "por_cpf")
	diff(t, "key", run(t, m, change(rel, cdc.Insert, nil, values{"cpf": "12345678909", "nome": nil})), []got{{Type: "e", Data: `{"nome":null}`}})
}

// TestRoleOfLookups runs the statements that the rules want for a role of their
// lookups: it can run them, and cannot read a denied column.
func TestRoleOfLookups(t *testing.T) {
	t.Parallel()
	invoker := ""
	if serverVersion(t) >= "15" {
		invoker = "; alter view chamada set (security_invoker = on)"
	}
	conn := connect(t, denySchema, `create table livre_itens (id int primary key, livre int); alter table livre add primary key (id); alter table livre_itens replica identity full; alter table livre replica identity full;
		create schema longe; create extension citext schema longe; revoke execute on function longe.citext_eq from public;
		create view chamada as select nome::longe.citext operator(longe.=) 'ANA' as x from livre`+invoker)
	rs := bind(t, conn, mapping.Options{Deny: denied()}, `
rules:
  - event: a
    table: livre
    on: [insert, update]
    columns: [id, nome]
    children: {table: livre_itens, parent: livre}
    lookup:
      p: select nome from pessoas where id = new.pessoa
      v: select * from vista_livre where id = new.pessoa
      n: select count(*) as n from raiz
      f: select x from chamada limit 1
`)
	role, err := rs.LookupRole(t.Context(), conn, "")
	if err != nil || role == nil || !strings.Contains(role.Title, "role postgres,") || !strings.Contains(role.Fix(), "GRANT SELECT (id, nome) ON public.pessoas TO gancho_lookup;") {
		t.Fatalf("%+v, %v", role, err)
	}
	for _, s := range cdc.Gather(role.Statements) {
		do(t, conn, s.SQL)
	}
	dropRole(t, conn, "gancho_lookup")
	if role, err := rs.LookupRole(t.Context(), conn, "gancho_lookup"); err != nil || role != nil {
		t.Errorf("with its role: %+v, %v", role, err)
	}
	// It is enough for binding the rules, too: the server says what they read without
	// any privilege.
	do(t, conn, "revoke temporary on database "+conn.Config().Database+" from public")
	limited, err := pgx.Connect(t.Context(), strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://gancho_lookup@", 1))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = limited.Close(context.Background()) })
	for sql, want := range map[string]string{"select nome from pessoas where id = new.pessoa": "", "select cpf from pessoas": "permission denied"} {
		if got := lookupMistakes(t, limited, mapping.Options{Deny: denied()}, sql); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s as that role: %q, want %q", sql, got, want)
		}
	}
	source := mapping.NewSource(strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://gancho_lookup@", 1), "", zerolog.Nop())
	t.Cleanup(func() { source.Close(context.Background()) })
	if err := source.Check(t.Context(), rs); err != nil {
		t.Error(err)
	}
	for _, column := range []string{"cpf", "nascimento", "pessoas"} {
		err := source.Query(t.Context(), "select "+column+" from public.pessoas", nil, nil, func([]cdc.Datum) error { return nil })
		if cdc.FaultOf(err) != cdc.FaultDenied {
			t.Errorf("the role reads %s: %v", column, err)
		}
	}
	if slices.ContainsFunc(role.Statements, func(s cdc.Statement) bool { return s.SQL == "" }) {
		t.Error("an empty statement")
	}
}
