package mapping_test

import (
	"context"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/rs/zerolog"

	"gancho/cdc"
	"gancho/internal/testservers"
	"gancho/mapping"
)

// TestNobodyShadowsPostgres: a role that may create in public makes functions and
// operators that fit a lookup better than PostgreSQL's own, before the rules are
// bound and after. None of them runs, and the tables of public are found as before.
func TestNobodyShadowsPostgres(t *testing.T) {
	t.Parallel()
	ctx := context.Background()
	l := newLab(t, pg, mapping.Options{}, `
rules:
  - event: contrato
    table: contratos
    on: insert
    data: {id: id, nome: c.nome, situacao: c.situacao, sentido: c.s, n: c.n, outro: c.outro}
    lookup:
      c: >-
        with clientes_de as (select * from clientes where codigo = 'A1')
        select upper(c.nome) as nome, c.situacao, 'ENTRADA'::tp_sentido as s, (select count(*) from "TB_FORNECEDOR") as n, clientes.nome as outro
        from clientes c join clientes_de on clientes_de.id = c.id, loja.produtos p right join clientes on true
        where c.id = new.cliente_id and clientes.email = c.email
`, fewClients, "grant create on schema public to public; create table vistos (quem text); grant all on vistos to public")
	shadow := func(name string) {
		t.Helper()
		intruder := "intruso_" + name
		do(t, l.conn, "create role "+intruder+" login")
		dropRole(t, l.conn, intruder)
		conn, err := pgx.Connect(ctx, strings.Replace(l.dsn, "postgres://postgres@", "postgres://"+intruder+"@", 1))
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = conn.Close(ctx) }()
		do(t, conn, `
			create or replace function public.upper(`+name+`) returns text language plpgsql as $$ begin raise exception 'upper runs as %', current_user; end $$;
			create or replace function public.igual_`+name+`(`+name+`, `+name+`) returns boolean language plpgsql as $$ begin raise exception '= runs as %', current_user; end $$;
			create operator public.= (leftarg = `+name+`, rightarg = `+name+`, function = public.igual_`+name+`)`)
	}
	contract := l.change("contratos", values{"id": "9", "cliente_id": "1"})
	want := []got{{Type: "contrato", Key: "9", Data: `{"id":9,"nome":"ANA \"A\" \\ ","situacao":"VI","sentido":"ENTRADA","n":0,"outro":"Ana \"a\" \\ "}`}}
	diff(t, "before", l.resolve(contract), want)
	shadow("varchar")
	diff(t, "while it runs", l.resolve(contract), want)
	// The control: along the database's search_path they do run.
	_, err := l.conn.Exec(ctx, "select upper(nome) from clientes")
	if err == nil || !strings.Contains(err.Error(), "upper runs as postgres") {
		t.Errorf("the shadow has no effect: %v", err)
	}
	l.mapper.Swap(bind(t, l.conn, mapping.Options{}, `
rules:
  - {event: a, table: contratos, on: insert, data: {x: c.x}, lookup: {c: "select upper(nome) as x from clientes where id = new.cliente_id and nome = nome"}}
`))
	shadow("bpchar")
	diff(t, "bound afterwards", l.resolve(contract), []got{{Type: "a", Key: "9", Data: `{"x":"ANA \"A\" \\ "}`}})
	// What they have made outlasts their right to.
	do(t, l.conn, "revoke create on schema public from public; create table livre (id int primary key)")
	for sql, want := range map[string]string{
		"select upper(nome) as x from clientes":                  "intruso_varchar made it, who is neither a superuser nor the owner of the database or of schema public; if it is what you expect, let ",
		"select 1 as x from clientes where nome = nome":          "make a copy of it under another name",
		"select pg_catalog.upper(nome::text) as x from clientes": "",
	} {
		if got := lookupMistakes(t, l.conn, mapping.Options{}, sql); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

// TestRoomRefuses: functions and operators that a lookup would have from a schema
// where others may create are refused, with the statement that closes the schema;
// once that was run the lookup has them.
func TestRoomRefuses(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	conn := connect(t, denySchema, `
		create extension citext;
		create schema ferramentas;
		create function ferramentas.dobro(int) returns int language sql immutable as 'select $1 * 2';
		create function meia(int) returns int language sql immutable as 'select $1 / 2';
		create table logins (login citext primary key, id int);
		create table ferramentas.livre (id int);
		create function conta() returns bigint language sql as 'select count(*) from livre';
		create view contada as select conta() as n;
		grant create on schema public to public`)
	do(t, conn, "set search_path = public, ferramentas")
	const fix = "REVOKE CREATE ON SCHEMA public FROM PUBLIC"
	for sql, want := range map[string]string{
		"select meia(id) as x from livre":                                     fix,
		"select public.meia(id) as x from livre":                              fix,
		"select login as x from logins where login = 'ANA'":                   fix, // as text it would be another comparison
		"select l.id as x from logins l join logins m using (login)":          fix,
		"select l.id as x from logins l where login operator(public.=) 'ANA'": fix,
		"select n as x from contada":                                          fix, // its function finds no table
		"select nao_existe(id) as x from livre":                               "does not exist",
		"select pessoa as x from livre":                                       "", // public's, which comes first
		"select dobro(id) as x from livre":                                    "write ferramentas. before it",
		"select ferramentas.dobro(id) as x from livre":                        "",
		"select 'a'::citext::text as x, login::text as y from logins":         "",
		"select nome from livres":                                             "did you mean livre?",
	} {
		if got := lookupMistakes(t, conn, mapping.Options{}, sql); (got == "") != (want == "") || !strings.Contains(got, want) || strings.Contains(got, "\n") {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
		if want != fix {
			continue
		}
		do(t, conn, fix)
		if got := lookupMistakes(t, conn, mapping.Options{}, sql); got != "" {
			t.Errorf("%s in a closed schema: %s", sql, got)
		}
		do(t, conn, "grant create on schema public to public")
	}
}

// TestRoomMissesNothing: what a lookup would find along the database's search_path and
// not in the room is named, also where a closed schema is outside because of its tables.
func TestRoomMissesNothing(t *testing.T) {
	t.Parallel()
	conn := connect(t, denySchema, "create schema app; create extension citext schema app; create table app.livre (); create table app.contas (email app.citext, id int); grant create on schema public to public")
	do(t, conn, "set search_path = public, app")
	for sql, want := range map[string]string{
		"select id as x from contas where email = 'ANA'":               "would not call operator =(citext,citext); lookups find it only with its schema: write OPERATOR(app.=)",
		"select id as x from contas where email operator(app.=) 'ANA'": "",
	} {
		if got := lookupMistakes(t, conn, mapping.Options{}, sql); (got == "") != (want == "") || !strings.Contains(got, want) {
			t.Errorf("%s: %q, want %q", sql, got, want)
		}
	}
}

// TestRoomSparesTheApplication: no advice takes a right that the application uses.
func TestRoomSparesTheApplication(t *testing.T) {
	t.Parallel()
	conn := connect(t, denySchema, "create function meia(int) returns int language sql immutable as 'select $1 / 2'; grant create on schema public to public; create role dono_legado; create role usa_legado; create role cria_legado login")
	dropRole(t, conn, "cria_legado")
	dropRole(t, conn, "usa_legado")
	dropRole(t, conn, "dono_legado")
	t.Cleanup(func() {
		_, _ = conn.Exec(context.Background(), "reassign owned by usa_legado, dono_legado to postgres")
	})
	do(t, conn, "alter database "+conn.Config().Database+" owner to dono_legado; alter schema public owner to postgres")
	t.Cleanup(func() {
		_, _ = conn.Exec(context.Background(), "alter database "+conn.Config().Database+" owner to postgres")
	})
	for _, step := range []struct{ sql, want string }{
		{"", "run GRANT CREATE ON SCHEMA public TO dono_legado; REVOKE CREATE ON SCHEMA public FROM PUBLIC, unless "}, // it owns nothing in it yet
		{"revoke create on schema public from public; grant create on schema public to cria_legado", "run REVOKE CREATE ON SCHEMA public FROM cria_legado, unless cria_legado may have to create there"},
		{"grant create on schema public to public; revoke create on schema public from cria_legado", ""},
		{"alter table avo owner to dono_legado", "run GRANT CREATE ON SCHEMA public TO dono_legado; REVOKE CREATE ON SCHEMA public FROM PUBLIC"},
		{"alter table livre owner to usa_legado", "REVOKE CREATE ON SCHEMA public FROM PUBLIC closes it, and usa_legado, which made something in it, could no longer create there"},
	} {
		do(t, conn, step.sql)
		if got := lookupMistakes(t, conn, mapping.Options{}, "select meia(1) as x"); !strings.Contains(got, step.want) {
			t.Errorf("%s: %s, want %s", step.sql, got, step.want)
		}
	}
}

// TestBodiesInTheRoom: a function whose body finds no table in the room is noted, and
// under every policy concerns the change alone that it fails for.
func TestBodiesInTheRoom(t *testing.T) {
	t.Parallel()
	const rules = "rules:\n  - {event: e, table: contratos, on: insert, data: {n: s.n}, lookup: {s: select n from saldos where id = new.cliente_id}}\n"
	l := newLab(t, pg, mapping.Options{OnSchemaChange: mapping.Stop}, rules, fewClients, `
		grant create on schema public to public; create schema app;
		create function app.saldo(int) returns int language plpgsql as $$ begin return (select count(*) from contratos); end $$;
		create function app.fixo() returns int language plpgsql set search_path = pg_catalog as $$ begin return 0; end $$;
		create view saldos as select id, app.saldo(id) + app.fixo() as n from clientes`)
	findings := bind(t, l.conn, mapping.Options{}, rules).Findings()
	if len(findings) != 1 || !strings.Contains(findings[0].Title, "calls app.saldo(integer), whose body does not find what is in public without its schema") || !strings.Contains(findings[0].Fix(), "OPERATOR(public.=)") {
		t.Errorf("findings %+v", findings)
	}
	if got := l.resolve(l.change("contratos", values{"id": "9", "cliente_id": "1"})); len(got) != 1 || !strings.Contains(got[0].Parked, "(SQLSTATE 42P01)") {
		t.Errorf("got %+v", got)
	}
	do(t, l.conn, "revoke create on schema public from public")
	if findings := bind(t, l.conn, mapping.Options{}, rules).Findings(); len(findings) != 0 {
		t.Errorf("in a closed schema: %+v", findings)
	}
}

// TestRoomOfRoles: a role of lookups that may not use a schema of the path would find
// other tables; and a DSN opens nothing.
func TestRoomOfRoles(t *testing.T) {
	t.Parallel()
	conn := connect(t, denySchema, "create role fora login; revoke all on schema public from public; grant select on livre to fora")
	dropRole(t, conn, "fora")
	do(t, conn, "create schema alheio; create table alheio.clientela (); set search_path = public, alheio")
	rs := bind(t, conn, mapping.Options{}, "rules:\n  - {event: e, table: livre, on: insert, columns: [id], lookup: {q: select nome from livre}}")
	dsn := strings.Replace(conn.Config().ConnString(), "postgres://postgres@", "postgres://fora@", 1)
	source := mapping.NewSource(dsn+"&search_path=privado&row_security=on&default_transaction_read_only=off", "", zerolog.Nop())
	t.Cleanup(func() { source.Close(context.Background()) })
	if err := source.Check(t.Context(), rs); err == nil || !strings.Contains(err.Error(), "\nGRANT USAGE ON SCHEMA public TO fora;") {
		t.Errorf("without USAGE: %v", err)
	}
	do(t, conn, "grant usage on schema public to fora")
	if err := source.Check(t.Context(), rs); err != nil {
		t.Errorf("without USAGE on a schema that no lookup needs: %v", err)
	}
	do(t, conn, "create table alheio.livre ()")
	if err := source.Check(t.Context(), rs); err == nil || !strings.Contains(err.Error(), "others have the same names: run GRANT USAGE ON SCHEMA alheio TO fora") {
		t.Errorf("without USAGE on a schema with the same name: %v", err)
	}
	do(t, conn, "drop table alheio.livre")
	for name, want := range map[string]string{"search_path": `pg_catalog, "public", "alheio", pg_temp`, "row_security": "off", "transaction_read_only": "on", "statement_timeout": "30s"} {
		err := source.Query(t.Context(), "select current_setting('"+name+"')", nil, nil, func(row []cdc.Datum) error {
			if got := string(row[0].Text); got != want {
				t.Errorf("%s is %q, want %q", name, got, want)
			}
			return nil
		})
		if err != nil {
			t.Error(err)
		}
	}
}
