package main_test

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

// strangeDatabase is one that a new user may have: what init drafts for it without a hand, runs.
type strangeDatabase struct {
	name string // of the database
	// template is what stands behind CREATE DATABASE, setup what makes its tables, alter what a DBA has set.
	template, setup, alter string
	// traffic is what the application does, whose statements must all succeed, and events are what comes of it.
	traffic string
	events  []string
	// says are in what init prints, rules and config are in the files that it writes.
	says, rules, config []string
}

func strangeDatabases() []strangeDatabase {
	return []strangeDatabase{
		{
			name: "FIREBIRD",
			setup: `create table "CLIENTES" ("ID_CLIENTE" numeric(10,0) primary key, "NOME" char(60)); create table "PRODUTOS" ("COD_PRODUTO" char(15) primary key, "DESCRICAO" varchar(80), "TX$" bytea);
				create table "VENDAS" ("ID_VENDA" numeric(10,0) primary key, "ID_CLIENTE" numeric(10,0), "COD_PRODUTO" char(15), "STATUS" char(1));
				create table "VENDA_ITENS" ("ID_VENDA" numeric(10,0), "ITEM" numeric(4,0), "QTD" numeric(15,4), primary key ("ID_VENDA", "ITEM"))`,
			traffic: `insert into "CLIENTES" values (17, 'João'); insert into "PRODUTOS" values ('ABC', 'Coisa'); insert into "VENDAS" values (1, 17, 'ABC', 'A'); update "VENDAS" set "STATUS" = 'F';
				insert into "VENDA_ITENS" values (1, 1, 2.5); delete from "VENDA_ITENS"`,
			events: []string{"clientes.insert", "produtos.insert", "venda_itens.delete", "venda_itens.insert", "vendas.insert", "vendas.update"},
			rules:  []string{`cliente: 'select "NOME" from "CLIENTES" where "ID_CLIENTE" = new."ID_CLIENTE"'  # a guess, by the name of ID_CLIENTE`},
		},
		{
			name: "por unidade d'Ávila",
			setup: `create schema loja01; create schema loja02; create table loja01.vendas (id int primary key, total numeric(10,2)); create table loja02.vendas (like loja01.vendas including all);
				create table "vendas 100%" (id int primary key)`,
			alter:   `set search_path = loja01, loja02, public`,
			traffic: `insert into loja01.vendas values (1, 1.5); insert into loja02.vendas values (1, 2.5); insert into public."vendas 100%" values (1)`,
			events:  []string{"loja01.vendas.insert", "loja02.vendas.insert", "vendas_100.insert"},
			says:    []string{"schema loja02 of loja02.vendas as the tenant"},
		},
		{
			name: "gerada",
			setup: `create table com_indice (a int not null, b int not null, id int generated always as (a * 1000 + b) stored primary key, v text, unique (a, b));
				create table sem_indice (a int not null, id int generated always as (a * 2) stored primary key, v text);
				create table inteira (a int not null, id int generated always as (a * 2) stored primary key, v text); alter table inteira replica identity full`,
			traffic: `insert into com_indice (a, b) values (1, 2); update com_indice set v = 'x'; delete from com_indice; insert into sem_indice (a) values (1); update sem_indice set v = 'x'; delete from sem_indice;
				insert into inteira (a) values (1); update inteira set v = 'x'; delete from inteira`,
			events: []string{"com_indice.insert", "com_indice.update", "inteira.delete", "inteira.insert", "inteira.update", "sem_indice.insert", "sem_indice.update"},
			says:   []string{"com_indice: no deletes: the primary key has a generated column (id), which the stream does not have; ALTER TABLE public.com_indice REPLICA IDENTITY USING INDEX com_indice_a_b_key;"},
		},
		{
			// What a DBA may set for a database must not change what the catalogue is read as, nor that what was asked for is done.
			name:  "ajustes",
			setup: `create table vendas (id int primary key, status char(1) check (status in ('A', 'B')), dia date, fim int generated always as (case when id > 5 then 1 else 2 end) stored)`,
			alter: `set quote_all_identifiers = on; set datestyle = 'SQL, DMY'; set intervalstyle = iso_8601; set standard_conforming_strings = off; set default_transaction_read_only = on;
				set default_transaction_isolation = serializable; set array_nulls = off; set bytea_output = escape; set search_path = ''; set extra_float_digits = -15; set statement_timeout = '30s'; set idle_session_timeout = '2s'`,
			traffic: `insert into public.vendas values (1, 'A', '2026-01-31'); update public.vendas set status = 'B'`,
			events:  []string{"public.vendas.insert", "public.vendas.update"},
			rules:   []string{"# when: became(status, 'A')  # of 'A', 'B'; needs: ALTER TABLE public.vendas REPLICA IDENTITY FULL;\n", "dia: dia        ", "  # date\n"},
		},
		{
			name: "ascii", template: "template template0 encoding 'SQL_ASCII' locale 'C'",
			setup: `do $$ begin execute format('create table clientes (id int primary key, %I text)', E'situa\xe7\xe3o'); execute format('create table %I (id int primary key)', E'a\xe7\xe3o'); end $$;
				insert into clientes select i, E'n\xe3o' from generate_series(1, 50) i; analyze clientes`,
			traffic: `insert into clientes values (100, E'Jo\xe3o')`,
			events:  []string{"clientes.insert"},
			says:    []string{"encoding win1252 of the database's text, in gancho.yaml"},
			config:  []string{"\n  encoding: win1252"},
		},
	}
}

// TestStrangeDatabases: the way from init to the first webhook has no dead end in databases of kinds that nobody here had
// in mind, and the application's own statements do not fail on it.
func TestStrangeDatabases(t *testing.T) {
	testservers.Whole(t)
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	for i, c := range strangeDatabases() {
		t.Run(c.name, func(t *testing.T) {
			dsn, dir := strangeWorld(t, &c)
			t.Setenv("GANCHO_SOURCE_DSN", dsn)
			t.Setenv("GANCHO_REDIS_URL", strings.TrimSuffix(redis.URL(), "/0")+fmt.Sprintf("/%d", i))
			args := []string{"init", "--dir", dir, "--table", "*"}
			code, stdout, stderr := command(t, args...)
			if code != 0 || strings.Contains(stdout, "left out of rules:") || strings.Contains(stdout, "\ncommented out:") {
				t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
			}
			config, rules := filepath.Join(dir, "gancho.yaml"), ""
			files, err := filepath.Glob(dir + "/rules/*.yaml")
			if err != nil {
				t.Fatal(err)
			}
			for _, file := range files {
				rules += mustRead(t, file)
			}
			for _, of := range []struct {
				text  string
				parts []string
			}{{stdout, c.says}, {strings.ReplaceAll(rules, "''", "'"), c.rules}, {mustRead(t, config), c.config}} {
				for _, part := range of.parts {
					if !strings.Contains(of.text, part) {
						t.Errorf("%q is not in:\n%s", part, of.text)
					}
				}
			}
			r := newReceiver(t, nil)
			mustReplace(t, config, "http://127.0.0.1:8621/", r.url(), "listen: 127.0.0.1:8620", "listen: 127.0.0.1:0")
			checkPasses(t, dir)
			w := &world{t: t, dsn: dsn, dir: dir}
			b := w.start("run", "--create", "--config", config)
			b.waitLog("bridge is ready")
			conn := strangeConnection(t, dsn)
			for statement := range strings.SplitSeq(c.traffic, ";") {
				if _, err := conn.Exec(context.Background(), statement); err != nil {
					t.Errorf("the application's %s: %v", statement, err)
				}
			}
			var events []string
			for _, a := range r.waitCount(len(c.events)) {
				events = append(events, a.event)
			}
			slices.Sort(events)
			if !slices.Equal(events, c.events) {
				t.Errorf("events %v, want %v", events, c.events)
			}
			b.kill()
		})
	}
}

// strangeWorld makes the database, and returns its DSN and a directory.
func strangeWorld(t *testing.T, c *strangeDatabase) (dsn, dir string) {
	t.Helper()
	dsn = pg.Database(t, c.template)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	was := strings.TrimPrefix(u.Path, "/")
	name := was + " " + c.name
	if c.template == "" { // its name is strange, too
		if err := pg.Exec(context.Background(), "postgres", "alter database "+pgx.Identifier{was}.Sanitize()+" rename to "+pgx.Identifier{name}.Sanitize()); err != nil {
			t.Fatal(err)
		}
		u.Path = "/" + name
		dsn = u.String()
		t.Cleanup(func() { // the one that Database removes
			_ = pg.Exec(context.Background(), "postgres", "alter database "+pgx.Identifier{name}.Sanitize()+" rename to "+pgx.Identifier{was}.Sanitize())
		})
	} else {
		name = was
	}
	conn := strangeConnection(t, dsn)
	if _, err := conn.Exec(context.Background(), c.setup); err != nil {
		t.Fatal(err)
	}
	for setting := range strings.SplitSeq(c.alter, ";") {
		if setting = strings.TrimSpace(setting); setting != "" {
			if _, err := conn.Exec(context.Background(), "alter database "+pgx.Identifier{name}.Sanitize()+" "+setting); err != nil {
				t.Fatal(err)
			}
		}
	}
	return dsn, t.TempDir()
}

// strangeConnection is the application's, whatever the database's settings are.
func strangeConnection(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		t.Fatal(err)
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	for name, value := range map[string]string{"default_transaction_read_only": "off", "standard_conforming_strings": "on", "client_encoding": "UTF8", "idle_session_timeout": "0", "datestyle": "ISO"} {
		config.RuntimeParams[name] = value
	}
	conn, err := pgx.ConnectConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// TestCreateIsOffered: check says that gancho run --create does it only where the role of source.dsn may.
func TestCreateIsOffered(t *testing.T) {
	testservers.Whole(t)
	dsn, dir := initWorld(t, `create table vendas (id int primary key); create table minhas (id int primary key)`)
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	database := strings.TrimPrefix(u.Path, "/")
	role := "dono_" + database
	conn := strangeConnection(t, dsn)
	for _, sql := range []string{"create role " + role + " login replication", "alter table minhas owner to " + role, "alter role " + role + " set default_transaction_read_only = on"} {
		if _, err := conn.Exec(context.Background(), sql); err != nil {
			t.Fatal(err)
		}
	}
	u.User = url.User(role)
	t.Setenv("GANCHO_SOURCE_DSN", u.String())
	const offered = "run this in the source database, or let gancho run --create do it:"
	for i, c := range []struct {
		grant string
		table string
		want  bool
	}{{"select", "minhas", false}, {"grant create on database " + database + " to " + role, "vendas", false}, {"select", "minhas", true}, {"alter table vendas owner to " + role, "*", true}} {
		if _, err := conn.Exec(context.Background(), c.grant); err != nil {
			t.Fatal(err)
		}
		sub := filepath.Join(dir, fmt.Sprint(i))
		if code, stdout, stderr := command(t, "init", "--dir", sub, "--table", c.table); code != 0 {
			t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
		}
		_, stdout, stderr := command(t, "check", "--config", filepath.Join(sub, "gancho.yaml"))
		if got := strings.Contains(stdout+stderr, offered); got != c.want || !regexp.MustCompile(`(?m)^run this in the source database`).MatchString(stdout+stderr) {
			t.Errorf("%s, %s: offered: %v, want %v\n%s%s", c.grant, c.table, got, c.want, stdout, stderr)
		}
	}
}
