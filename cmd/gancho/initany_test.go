package main_test

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sys/unix"

	main "gancho/cmd/gancho"

	"gancho/internal/testservers"
)

var updateInit = flag.Bool("update-init", false, "rewrite testdata/init")

// shop has what a list of tables has to say something about.
const shop = `
	create table lojas (id int primary key, nome varchar(80) not null, cnpj char(14));
	create table clientes (id int primary key, loja_id int not null references lojas, nome text not null, cpf varchar(11), email text, senha text, foto bytea, nascimento date);
	create table vendas (id int primary key, loja_id int not null references lojas, cliente_id int references clientes, status char(1) not null, total numeric(12, 2));
	create table itens (venda_id int not null references vendas, seq int not null, produto text, unique (venda_id, seq));
	create table leituras (sensor text, valor float8);
	create unlogged table sessoes (id int primary key);
	create view vendas_abertas as select * from vendas where status = 'A';
	insert into lojas values (1, 'Centro');
	insert into vendas select i, 1, null, case when i % 4 = 0 then 'A' else 'P' end, i from generate_series(1, 200) i;
	update vendas set total = 0 where id <= 20; delete from vendas where id = 1;
	insert into itens select i, 1, 'x' from generate_series(2, 100) i;
	analyze vendas; analyze itens; analyze lojas`

// counted waits until the server's statistics have the shop's rows: before
// PostgreSQL 15 another process gathers them.
func counted(t *testing.T, dsn string) {
	t.Helper()
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for range 600 {
		var done bool
		if err := conn.QueryRow(context.Background(), `
			select pg_stat_get_tuples_deleted('vendas'::regclass) = 1 and pg_stat_get_tuples_inserted('itens'::regclass) = 99 and pg_stat_get_tuples_inserted('lojas'::regclass) = 1
			from pg_sleep(0.02)`).Scan(&done); err != nil {
			t.Fatal(err)
		}
		if done {
			return
		}
	}
	t.Fatal("the statistics do not have the rows")
}

// golden compares with a file, without what differs from run to run.
func golden(t *testing.T, name, dir, got string) {
	t.Helper()
	got = strings.ReplaceAll(got, dir, "DIR")
	got = regexp.MustCompile(`whsec_[A-Za-z0-9+/=]+`).ReplaceAllString(got, "whsec_...")
	got = regexp.MustCompile(`'?postgres://[^ ]*@127[^\s]*`).ReplaceAllString(got, "DSN")
	file := filepath.Join("testdata", "init", name+".golden")
	if *updateInit {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := mustRead(t, file)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("-want +got; go test ./cmd/gancho -run TestInit -update-init rewrites it:\n%s", diff)
	}
}

// TestInitAny: every message of init for a database of any kind.
func TestInitAny(t *testing.T) {
	testservers.Whole(t)
	other := pg.Database(t, "", `create table leituras (id int primary key, sensor text);
		create table conta_pagar (id int primary key, titulo text, aberta_em date, usuario int, ramo int, dados jsonb);
		create table acessos (id int primary key, usuario_id int, ip inet, navegador text, entrou_em timestamp, sucesso bool);
		create table mae (id int primary key, x text); create table filha (y text) inherits (mae)`)
	dsn, _ := initWorld(t, shop)
	counted(t, dsn)
	portuguese, drafts := &portugueseSession{t: t}, t.TempDir()
	portuguese.run(3, "init", "--dir", drafts)
	portuguese.run(0, "init", "--dir", drafts, "--table", "vendas", "--table", "itens", "--table", "vendas_abertas")
	portuguese.run(2, "init", "--dir", drafts, "--table", "vendas")
	portuguese.run(2, "init", "--dir", drafts+"/b", "--table", "cliente")
	for _, name := range []string{"vendas.yaml", "itens.yaml"} {
		golden(t, "portuguese-"+name, drafts, mustRead(t, filepath.Join(drafts, "rules", name)))
	}
	golden(t, "portuguese-gancho.yaml", drafts, mustRead(t, filepath.Join(drafts, "gancho.yaml")))
	portuguese.compare("init", map[string]string{regexp.QuoteMeta(drafts): "DIR", `whsec_\S+`: "whsec_..."})
	for _, c := range []struct {
		name string
		code int
		args []string
	}{
		{"list", 3, nil},
		{"empty", 3, []string{"--dsn", pg.Database(t, "")}},
		{"tables", 0, []string{"--table", "vendas", "--table", "it*", "--table", "clientes", "--table", "vendas_abertas"}},
		{"none", 3, []string{"--table", "sessoes", "--table", "vendas_*", "--table", "vendas_abertas"}},
		{"unknown-table", 2, []string{"--table", "vendas", "--table", "cliente"}},
		{"unknown-pattern", 2, []string{"--table", "fin_*"}},
		{"heirs", 0, []string{"--table", "mae", "--dsn", other}}, // one line for both rules that do not fit
		{"no-preset-fits", 3, []string{"--preset", "pacto,superlogica", "--dsn", other}},
	} {
		dir := t.TempDir()
		code, stdout, stderr := command(t, append([]string{"init", "--dir", dir}, c.args...)...)
		if code != c.code {
			t.Errorf("%s: exit %d, want %d", c.name, code, c.code)
		}
		golden(t, c.name, dir, stdout+stderr)
		if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 != (code == 0) {
			t.Errorf("%s left %v, %v", c.name, entries, err)
		}
		if c.name == "tables" {
			golden(t, "vendas.yaml", dir, mustRead(t, filepath.Join(dir, "rules", "vendas.yaml")))
			golden(t, "clientes.yaml", dir, mustRead(t, filepath.Join(dir, "rules", "clientes.yaml")))
			checkPasses(t, dir)
			code, stdout, stderr = command(t, append([]string{"init", "--dir", dir}, c.args...)...)
			if code != 2 || stdout != "" {
				t.Errorf("a second init exits %d: %s", code, stdout)
			}
			golden(t, "exists", dir, stderr)
		}
	}
}

// TestInitDialog: at a terminal init asks for the database and for the tables, again
// after a name that does not exist.
func TestInitDialog(t *testing.T) {
	dsn, dir := initWorld(t, shop)
	counted(t, dsn)
	t.Setenv("GANCHO_SOURCE_DSN", "")
	terminal, person := openTerminal(t)
	done := make(chan int, 1)
	go func() {
		done <- main.Main(context.Background(), []string{"init", "--dir", dir}, terminal, terminal, terminal)
		_ = terminal.Close()
	}()
	var seen bytes.Buffer
	answer := func(question, text string) {
		t.Helper()
		one := make([]byte, 1)
		for !strings.HasSuffix(seen.String(), question) {
			if _, err := person.Read(one); err != nil {
				t.Fatalf("%v while waiting for %q:\n%s", err, question, seen.String())
			}
			_, _ = seen.Write(one)
		}
		if _, err := fmt.Fprintln(person, text); err != nil {
			t.Fatal(err)
		}
	}
	answer("are read): ", dsn)
	answer("none): ", "1, cliemtes")
	answer("none): ", "1, cli*")
	rest, _ := io.ReadAll(person) // the terminal's end is an error
	if code := <-done; code != 0 {
		t.Errorf("exit %d", code)
	}
	golden(t, "dialog", dir, strings.ReplaceAll(seen.String()+string(rest), "\r\n", "\n"))
	t.Setenv("GANCHO_SOURCE_DSN", dsn)
	checkPasses(t, dir)
}

// openTerminal opens a pseudo-terminal without echo, and the person's side of it.
func openTerminal(t *testing.T) (terminal, person *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = person.Close() })
	fd := int(person.Fd())
	if err := unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	number, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	terminal, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", number), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	settings, err := unix.IoctlGetTermios(int(terminal.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	settings.Lflag &^= unix.ECHO
	if err := unix.IoctlSetTermios(int(terminal.Fd()), unix.TCSETS, settings); err != nil {
		t.Fatal(err)
	}
	return terminal, person
}
