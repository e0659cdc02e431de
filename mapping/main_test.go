package mapping_test

import (
	"cmp"
	"context"
	"flag"
	"os"
	"strconv"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

var (
	update = flag.Bool("update", false, "write the golden files")
	pg     *testservers.Postgres
)

// seed is that of random tests: fixed, unless GANCHO_TEST_SEED has another.
func seed(t *testing.T) uint64 {
	t.Helper()
	text := cmp.Or(os.Getenv("GANCHO_TEST_SEED"), "1")
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatalf("GANCHO_TEST_SEED: %v", err)
	}
	return n
}

func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }

// schema is a legacy database in small: char(n) codes, domains, an enum, a
// table without primary key, an unlogged one, partitions, quoted names.
const schema = `
create domain dm_sn as char(1) check (value in ('S','N'));
create type tp_sentido as enum ('ENTRADA','SAIDA');
create table clientes (
	id serial primary key, empresa_id int not null, codigo char(6), nome varchar(120) not null, cpf_cnpj varchar(14), email varchar(120),
	situacao char(2) not null default 'VI', ativo dm_sn not null default 'S', saldo numeric, foto bytea, observacao text,
	extras jsonb, config json, tags text[], dt_cadastro timestamp, alterado_em timestamptz);
alter table clientes replica identity full;
create table contratos (
	id serial primary key, empresa_id int, cliente_id int, situacao char(2), valor numeric(12,2), observacao text);
create table pedidos (empresa_id int not null, id int primary key, status char(2), total numeric(12,2));
create unique index pedidos_identidade on pedidos (empresa_id, id);
alter table pedidos replica identity using index pedidos_identidade;
create table mensalidades (
	id serial primary key, valor numeric(12,2) not null, quantidade numeric(8,3) not null default 1,
	total numeric(14,2) generated always as (round(valor*quantidade,2)) stored);
alter table mensalidades replica identity full;
create table estoque_movimentos (empresa_id int, produto_id int, quantidade numeric(14,3));
create table parametros (chave varchar(60), valor text);
alter table parametros replica identity nothing;
create table acessos (id bigserial, cliente_id int, dt_acesso timestamp not null, sentido tp_sentido not null, liberado boolean not null,
	primary key (id, dt_acesso)) partition by range (dt_acesso);
create table acessos_2026 partition of acessos for values from ('2026-01-01') to ('2027-01-01');
create table acessos_resto partition of acessos default;
alter table acessos_resto replica identity full;
create unlogged table carrinhos (id uuid primary key, itens jsonb);
create view vw_clientes as select id, total from pedidos;
create table "TB_FORNECEDOR" ("ID_FORNECEDOR" int primary key, "VL_ÚLTIMA_COMPRA" numeric);
create schema loja;
create table loja.produtos (id serial primary key, codigo char(15), descricao text);
`

// connect returns a connection to a fresh database with the schema.
func connect(t testing.TB, statements ...string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), pg.Database(t, "", append([]string{schema}, statements...)...))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.Background()) })
	return conn
}

// serverVersion is such as 15.13.
func serverVersion(t testing.TB) (version string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), pg.DSN("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	if err := conn.QueryRow(context.Background(), "show server_version").Scan(&version); err != nil {
		t.Fatal(err)
	}
	return version
}

// golden compares with a golden file, or writes it with -update.
func golden(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := gocmp.Diff(string(want), got); diff != "" {
		t.Errorf("-want +got; go test ./mapping -update writes it:\n%s", diff)
	}
}
