package main_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

// TestCheckTables: a table that cannot serve its rule says so, with the
// statement that fixes it. Where that is SQL, it is run, and check is satisfied.
func TestCheckTables(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	cases := map[string]struct {
		statements []string
		rule       string
		// code is what check exits with; a publication is made by run --create.
		code int
		want string // what it says
		// fix is the statement that it says; empty: the rule is to be edited.
		fix string
		// rest is the rule after that edit, or the statement with what only a
		// person knows filled in.
		rest string
	}{
		"no primary key with update": {
			[]string{"create table parametros (chave text, valor text)"},
			"{event: a, table: parametros, on: update, columns: [chave]}", 1,
			"table public.parametros has no replica identity: with its updates or deletes published, the application's own UPDATE and DELETE of public.parametros would fail",
			"ALTER TABLE public.parametros REPLICA IDENTITY FULL;", "",
		},
		"no primary key with delete": {
			[]string{"create table parametros (chave text, valor text)"},
			"{event: a, table: parametros, on: [insert, delete], columns: [chave]}", 1,
			"table public.parametros has no replica identity", "ALTER TABLE public.parametros REPLICA IDENTITY FULL;", "",
		},
		"partitioned table without primary key": {
			[]string{"create table leituras (id int not null, dia date not null) partition by range (dia)", "create table leituras_resto partition of leituras default"},
			"{event: a, table: leituras, on: update, columns: [id]}", 1,
			"add a primary key: ALTER TABLE public.leituras ADD PRIMARY KEY (...);", "ALTER TABLE public.leituras ADD PRIMARY KEY (", "ALTER TABLE public.leituras ADD PRIMARY KEY (id, dia);",
		},
		"unlogged": {
			[]string{"create unlogged table carrinhos (id int primary key)"},
			"{event: a, table: carrinhos, on: insert, columns: [id]}", 1,
			"table public.carrinhos is unlogged: its changes are not in the WAL", "ALTER TABLE public.carrinhos SET LOGGED;", "",
		},
		"view": {
			[]string{"create table clientes (id int primary key, ativo boolean)", "create view ativos as select id from clientes where ativo"},
			"{event: a, table: ativos, on: insert, columns: [id]}", 1,
			"public.ativos is a view, which has no changes of its own; write table: public.clientes, with the view's condition in when", "",
			"{event: a, table: public.clientes, on: insert, when: ativo, columns: [id]}",
		},
		"materialized view": {
			[]string{"create table clientes (id int primary key)", "create materialized view resumo as select id from clientes"},
			"{event: a, table: resumo, on: insert, columns: [id]}", 1,
			"public.resumo is a materialized view, which has no changes of its own; write table: public.clientes", "",
			"{event: a, table: public.clientes, on: insert, columns: [id]}",
		},
		"partition": {
			[]string{"create table acessos (id int primary key) partition by range (id)", "create table acessos_1 partition of acessos default"},
			"{event: a, table: acessos_1, on: insert, columns: [id]}", 1,
			"the stream has its rows as those of public.acessos; write table: public.acessos", "",
			"{event: a, table: public.acessos, on: insert, columns: [id]}",
		},
		"generated column": {
			[]string{"create table mensalidades (id int primary key, valor numeric(12,2), quantidade int, total numeric generated always as (round(valor * quantidade, 2)) stored)"},
			"{event: a, table: mensalidades, on: insert, columns: [id, total]}", 1,
			`column "total" is generated, and the stream does not carry generated columns; write its formula in data: round((valor * (quantidade)::numeric), 2)`, "",
			"{event: a, table: mensalidades, on: insert, columns: [id], data: {total: 'round((valor * (quantidade)::numeric), 2)'}}",
		},
		"replica identity": {
			[]string{"create table cobrancas (id int primary key, status char(1))"},
			"{event: a, table: cobrancas, on: update, when: old.status <> new.status, columns: [id]}", 1,
			`when needs the old value of column "status", which the server sends only under REPLICA IDENTITY FULL`,
			"ALTER TABLE public.cobrancas REPLICA IDENTITY FULL;", "",
		},
		"replica identity of partitions": {
			[]string{"create table acessos (id int primary key, sentido text) partition by range (id)", "create table acessos_1 partition of acessos default"},
			"{event: a, table: acessos, on: update, watch: [sentido], columns: [id]}", 1,
			"which the server sends only under REPLICA IDENTITY FULL",
			"\nALTER TABLE public.acessos REPLICA IDENTITY FULL;\nALTER TABLE public.acessos_1 REPLICA IDENTITY FULL;", "",
		},
		"no publication": {
			[]string{"create table clientes (id int primary key)"},
			"{event: a, table: clientes, on: insert, columns: [id]}", 0,
			"publication gancho does not exist",
			"CREATE PUBLICATION gancho FOR TABLE public.clientes WITH (publish = 'insert, update, delete, truncate', publish_via_partition_root = true);", "",
		},
		"no publication of inserts": {
			[]string{"create table movimentos (id int)", "create publication gancho"},
			"{event: a, table: movimentos, on: insert, key: id, columns: [id]}", 1,
			"publication gancho_insert does not exist",
			"CREATE PUBLICATION gancho_insert FOR TABLE public.movimentos WITH (publish = 'insert, truncate', publish_via_partition_root = true);", "",
		},
		"publication without the table": {
			[]string{"create table clientes (id int primary key)", "create publication gancho"},
			"{event: a, table: clientes, on: insert, columns: [id]}", 1,
			"publication gancho lacks public.clientes", "ALTER PUBLICATION gancho ADD TABLE public.clientes;", "",
		},
		// In the one with updates, the application's own UPDATE would fail.
		"publication of inserts without the table": {
			[]string{"create table movimentos (id int)", "create publication gancho", "create publication gancho_insert with (publish = 'insert')"},
			"{event: a, table: movimentos, on: insert, key: id, columns: [id]}", 1,
			"publication gancho_insert lacks public.movimentos", "ALTER PUBLICATION gancho_insert ADD TABLE public.movimentos;", "",
		},
		"publication without the partitioned table": {
			[]string{"create table acessos (id int primary key) partition by range (id)", "create table acessos_1 partition of acessos default", "create publication gancho for table acessos"},
			"{event: a, table: acessos, on: insert, columns: [id]}", 1,
			"publication gancho publishes the partitions of public.acessos under their own names", "ALTER PUBLICATION gancho SET (publish_via_partition_root = true)", "",
		},
		"publication without updates": {
			[]string{"create table clientes (id int primary key)", "create publication gancho for table clientes with (publish = 'insert')"},
			"{event: a, table: clientes, on: update, columns: [id]}", 1,
			"publication gancho does not publish update", "ALTER PUBLICATION gancho SET (publish = 'insert, update')", "",
		},
		"table among the inserts only": {
			[]string{"create table clientes (id int primary key)", "create publication gancho", "create publication gancho_insert for table clientes with (publish = 'insert')"},
			"{event: a, table: clientes, on: update, columns: [id]}", 1,
			"publication gancho lacks public.clientes", "ALTER PUBLICATION gancho ADD TABLE public.clientes;", "",
		},
		"column list": {
			[]string{"create table clientes (id int primary key, nome text)", "create publication gancho for table clientes (id)"},
			"{event: a, table: clientes, on: insert, columns: [id, nome]}", 0,
			"publication gancho leaves out the columns nome", "BEGIN; ALTER PUBLICATION gancho DROP TABLE ONLY public.clientes; ALTER PUBLICATION gancho ADD TABLE ONLY public.clientes; COMMIT;", "",
		},
		"row filter": {
			[]string{"create table clientes (id int primary key)", "create publication gancho for table clientes where (id > 5)"},
			"{event: a, table: clientes, on: insert, columns: [id]}", 0,
			"publication gancho has a row filter", "BEGIN; ALTER PUBLICATION gancho DROP TABLE ONLY public.clientes; ALTER PUBLICATION gancho ADD TABLE ONLY public.clientes; COMMIT;", "",
		},
		"unlogged partition": {
			[]string{"create table acessos (id int primary key) partition by range (id)", "create unlogged table acessos_1 partition of acessos default"},
			"{event: a, table: acessos, on: insert, columns: [id]}", 0,
			"public.acessos_1, a part of public.acessos, is unlogged: its rows are not in the WAL and make no events", "ALTER TABLE public.acessos_1 SET LOGGED", "",
		},
		"foreign partition": {
			[]string{"create table acessos (id int not null) partition by range (id)", "create foreign data wrapper f", "create server s foreign data wrapper f", "create foreign table acessos_1 partition of acessos default server s"},
			"{event: a, table: acessos, on: insert, columns: [id]}", 0,
			"public.acessos_1, a part of public.acessos, is a foreign table", "write a rule in the database that holds it", "drop foreign table acessos_1",
		},
		"child that the publication lacks": {
			[]string{"create table vendas (id int primary key)", "create publication gancho for table vendas", "create table vendas_1 (primary key (id)) inherits (vendas)"},
			"{event: a, table: vendas, on: insert, columns: [id]}", 1,
			"publication gancho lacks public.vendas_1", "ALTER PUBLICATION gancho ADD TABLE public.vendas_1;", "",
		},
		"publication of all tables": {
			[]string{"create table clientes (id int primary key)", "create publication gancho for all tables"},
			"{event: a, table: clientes, on: insert, columns: [id]}", 0,
			"publication gancho has all tables of the database", "BEGIN; DROP PUBLICATION gancho; CREATE PUBLICATION gancho FOR TABLE ... WITH (publish_via_partition_root = true",
			"begin; drop publication gancho; create publication gancho for table clientes with (publish_via_partition_root = true); commit",
		},
		"publication of a schema": {
			[]string{"create table clientes (id int primary key)", "create publication gancho for tables in schema public"},
			"{event: a, table: clientes, on: insert, columns: [id]}", 0,
			"publication gancho has all tables of schema public", "BEGIN; DROP PUBLICATION gancho; CREATE PUBLICATION gancho FOR TABLE ... WITH (publish_via_partition_root = true",
			"begin; drop publication gancho; create publication gancho for table clientes; commit",
		},
		"column list of another tool": {
			[]string{"create table clientes (id int primary key, nome text)", "create publication gancho for table clientes", "create publication outra for table clientes (nome)"},
			"{event: a, table: clientes, on: insert, columns: [id]}", 1,
			"PostgreSQL refuses the application's UPDATE and DELETE of public.clientes, because publication outra publishes the table and its column list there lacks columns of the replica identity (id)",
			"add them to the table's column list in publication outra", "alter publication outra set table clientes (id, nome)",
		},
		"old values under another tool's column list": {
			[]string{"create table clientes (id int primary key, nome text)", "create publication gancho for table clientes", "create publication outra for table clientes (id, nome)"},
			"{event: a, table: clientes, on: update, when: old.nome <> new.nome, columns: [id]}", 1,
			"do without it: under REPLICA IDENTITY FULL the application's own UPDATE and DELETE of public.clientes would fail", "",
			"{event: a, table: clientes, on: update, columns: [id]}",
		},
	}
	for _, name := range testservers.Sample(slices.Sorted(maps.Keys(cases))) {
		c := cases[name]
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn, path := pg.Database(t, "", c.statements...), filepath.Join(t.TempDir(), "gancho.yaml")
			check := func(rule string) (int, string) {
				config := "source: {dsn: '" + dsn + "'}\nqueue: {redis: redis://nowhere.invalid}\nrules: [r.yaml]\n"
				for file, text := range map[string]string{path: config, filepath.Join(filepath.Dir(path), "r.yaml"): "rules:\n  - " + rule + "\n"} {
					if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
						t.Fatal(err)
					}
				}
				code, stdout, stderr := command(t, "check", "--config", path)
				return code, stdout + stderr
			}
			code, said := check(c.rule)
			if code != c.code || !strings.Contains(said, c.want) || !strings.Contains(said, c.fix) {
				t.Fatalf("exit %d, want %d with %q and %q:\n%s", code, c.code, c.want, c.fix, said)
			}
			rule := c.rule
			switch {
			case c.fix == "":
				rule = c.rest
			case c.rest != "":
				fix(t, dsn, c.rest)
			default:
				fix(t, dsn, c.fix)
			}
			if code, said = check(rule); code != 0 || strings.Contains(said, c.want) {
				t.Errorf("after it, exit %d:\n%s", code, said)
			}
		})
	}
}

func fix(t *testing.T, dsn, statements string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if _, err := conn.Exec(context.Background(), statements, pgx.QueryExecModeSimpleProtocol); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// TestCheckRoles: check warns of superusers, and of a role that may read what
// privacy.deny has; its statements create one that may not, with which it is satisfied.
func TestCheckRoles(t *testing.T) {
	t.Parallel()
	dsn, path := pg.Database(t, "", "create table cobrancas (id int primary key, cliente int)", "create table clientes (id int primary key, nome text, cpf text)"), filepath.Join(t.TempDir(), "gancho.yaml")
	check := func(lookup string) (int, string) {
		t.Helper()
		for file, text := range map[string]string{
			path: "source: {dsn: '" + dsn + "'" + lookup + "}\nqueue: {redis: redis://nowhere.invalid}\nrules: [r.yaml]\nprivacy: {deny: [clientes.cpf]}\n",
			filepath.Join(filepath.Dir(path), "r.yaml"): "rules:\n  - {event: a, table: cobrancas, on: insert, columns: [id], data: {nome: c.nome}, lookup: {c: select nome from clientes where id = new.cliente}}\n",
		} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		code, stdout, stderr := command(t, "check", "--config", path)
		return code, stdout + stderr
	}
	const super, note = "is a superuser, for which no privilege", "privacy.deny: role postgres, which reads for lookups, may read columns of it"
	code, said := check("")
	if code != 0 || strings.Count(said, super) != 1 || !strings.Contains(said, note) {
		t.Fatalf("exit %d:\n%s", code, said)
	}
	var statements []string
	for line := range strings.Lines(said) {
		if strings.HasPrefix(line, "CREATE ROLE") || strings.HasPrefix(line, "GRANT") {
			statements = append(statements, strings.ReplaceAll(line, "gancho_lookup", "leitor_de_lookups"))
		}
	}
	t.Cleanup(func() {
		fix(t, dsn, "drop owned by leitor_de_lookups; drop role leitor_de_lookups")
	})
	fix(t, dsn, strings.Join(statements, ""))
	code, said = check(", lookup_dsn: '" + strings.Replace(dsn, "postgres@", "leitor_de_lookups@", 1) + "'")
	if code != 0 || strings.Count(said, super) != 1 || strings.Contains(said, "privacy.deny") {
		t.Errorf("with the role of %q, exit %d:\n%s", statements, code, said)
	}
	fix(t, dsn, "grant select on clientes to leitor_de_lookups")
	if _, said = check(", lookup_dsn: '" + strings.Replace(dsn, "postgres@", "leitor_de_lookups@", 1) + "'"); !strings.Contains(said, "privacy.deny: role leitor_de_lookups") {
		t.Errorf("with SELECT on the table:\n%s", said)
	}
}

// TestCheckInOneRun: mistakes of the configuration, of the syntax, of types, lookups,
// privileges and identities come in one run, and the statements once, behind them, for each
// role that must run them. Once they are run, and the files corrected, check is satisfied.
func TestCheckInOneRun(t *testing.T) {
	t.Parallel()
	const role, owner = "gancho_check", "dona_check"
	dsn := pg.Database(t, "", "create role "+role+" login replication", "create role "+owner,
		"create schema app authorization "+owner, "revoke create on schema public from public",
		"create table clientes (id int primary key, nome text, cpf bigint, status text)",
		"create table app.pedidos (id int primary key, cliente int, total numeric)", "alter table app.pedidos owner to "+owner,
		"create table itens (id int primary key, pedido int)", "alter table itens replica identity full",
		"create function selo(int) returns text language plpgsql stable as $$ begin return 'S' || $1; end $$", "revoke execute on function selo(int) from public")
	t.Cleanup(func() { fix(t, dsn, "drop owned by "+role+", "+owner+" cascade; drop role "+role+"; drop role "+owner) })
	path := filepath.Join(t.TempDir(), "gancho.yaml")
	check := func(config, rules string) (int, string) {
		t.Helper()
		config = "source: {dsn: '" + strings.Replace(dsn, "postgres://postgres@", "postgres://"+role+"@", 1) + "'}\nqueue: {redis: redis://nowhere.invalid}\nrules: [r.yaml]\n" + config
		for file, text := range map[string]string{path: config, filepath.Join(filepath.Dir(path), "r.yaml"): rules} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		code, stdout, stderr := command(t, "check", "--config", path)
		return code, stdout + stderr
	}
	code, said := check("log: {level: loud}\n", mustRead(t, "testdata/check/mistakes.yaml"))
	if code != 1 {
		t.Errorf("exit %d", code)
	}
	const file = "testdata/check/mistakes.golden"
	got := strings.ReplaceAll(strings.ReplaceAll(said, filepath.Dir(path), "DIR"), ", failover => true", "") // 17 and newer
	if *updateInit {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(mustRead(t, file), got); diff != "" {
		t.Errorf("-want +got; go test ./cmd/gancho -run TestCheckInOneRun -update-init rewrites it:\n%s", diff)
	}
	_, script, _ := strings.Cut(said, "run this in the source database:\n")
	script, _, _ = strings.Cut(script, "gancho: ")
	fix(t, dsn, strings.ReplaceAll(script, "SELECT pg_create_logical_replication_slot", "-- "))
	code, said = check("", mustRead(t, "testdata/check/corrected.yaml"))
	if code != 0 || strings.Contains(said, "publication") || strings.Contains(said, "GRANT") {
		t.Errorf("after the statements, exit %d:\n%s", code, said)
	}
}

// TestCheckAsksForAll: a database may have thousands of tables, far away. What check asks does not
// depend on how many there are.
func TestCheckAsksForAll(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	asked := func(tables int) int {
		statements := []string{"do $$ begin execute format('alter database %I set log_statement = ''all''', current_database()); end $$"}
		rules := "rules:\n"
		for i := range tables {
			statements = append(statements,
				fmt.Sprintf("create table t%d (id int primary key, unidade_id int not null, status char(1) check (status in ('A', 'B')), valor numeric)", i))
			on := "on: update, when: old.status <> new.status"
			if i%2 == 0 { // an index is enough
				on = "on: [insert, delete], tenant: unidade_id"
			}
			rules += fmt.Sprintf("  - {event: t%d.mudou, table: t%[1]d, %s, data: {id: id}}\n", i, on)
		}
		dsn, path := pg.Database(t, "", statements...), filepath.Join(t.TempDir(), "gancho.yaml")
		config := "source: {dsn: '" + dsn + "'}\nqueue: {redis: redis://nowhere.invalid}\nrules: [r.yaml]\n"
		for file, text := range map[string]string{path: config, filepath.Join(filepath.Dir(path), "r.yaml"): rules} {
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		before := len(pg.Log())
		code, _, stderr := command(t, "check", "--config", path)
		if full, index := strings.Count(stderr, "REPLICA IDENTITY FULL;\n"), strings.Count(stderr, "REPLICA IDENTITY USING INDEX"); code != 1 || full != tables/2 || index != tables/2 {
			t.Fatalf("exit %d, %d statements for whole rows and %d for an index, of %d tables:\n%s", code, full, index, tables, stderr)
		}
		return len(regexp.MustCompile(`LOG:  (statement|execute )`).FindAllString(pg.Log()[before:], -1))
	}
	few, many := asked(4), asked(40)
	if few < 20 || many != few {
		t.Errorf("%d statements for 4 tables, %d for 40", few, many)
	}
}
