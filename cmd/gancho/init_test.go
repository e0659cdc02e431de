package main_test

import (
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
	"gancho/migrations"
)

// initWorld is a database with statements, and the environment that the
// configuration of init names.
func initWorld(t *testing.T, statements ...string) (dsn, dir string) {
	t.Helper()
	dsn = pg.Database(t, "", statements...)
	t.Setenv("GANCHO_SOURCE_DSN", dsn)
	return dsn, t.TempDir()
}

func mustRead(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestInitOnTheLegacySchema: the presets are written for it, so that nothing
// is guessed, nothing missing, and check finds all in order.
func TestInitOnTheLegacySchema(t *testing.T) {
	testservers.Whole(t)
	schema, _, identity := migrations.Legacy()
	dsn, dir := initWorld(t, schema, identity)
	code, stdout, stderr := command(t, "init", "--preset", "superlogica,iset,pacto", "--dsn", dsn, "--dir", dir)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, unwanted := range []string{"guessed", "not found", "left out", "commented out:", "run in the source"} {
		if strings.Contains(stdout, unwanted) {
			t.Errorf("init says %q:\n%s", unwanted, stdout)
		}
	}
	checkPasses(t, dir)
	if secretText := mustRead(t, filepath.Join(dir, "gancho.yaml")); strings.Contains(secretText, dsn) {
		t.Error("the connection string is in the configuration")
	}
}

func checkPasses(t *testing.T, dir string) {
	t.Helper()
	code, stdout, stderr := command(t, "check", "--config", filepath.Join(dir, "gancho.yaml"))
	if code != 0 || !strings.Contains(stdout, "are valid") {
		t.Errorf("check exits %d\n%s%s", code, stdout, stderr)
	}
	if _, err := os.Stat(filepath.Join(dir, "tests")); err != nil {
		return // a preset that was adapted has no tests
	}
	code, stdout, stderr = command(t, "test", "--config", filepath.Join(dir, "gancho.yaml"))
	if code != 0 || !strings.Contains(stdout, " 0 failed") {
		t.Errorf("test exits %d\n%s%s", code, stdout, stderr)
	}
}

// TestInitWritesTests: a preset that fits comes with its tests, which pass.
func TestInitWritesTests(t *testing.T) {
	schema, _, identity := migrations.Legacy()
	dsn, dir := initWorld(t, schema, identity)
	code, stdout, stderr := command(t, "init", "--preset", "pacto", "--dsn", dsn, "--dir", dir)
	if code != 0 || !strings.Contains(stdout, "tests/pacto.yaml") {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	checkPasses(t, dir)
}

// TestInitOnAnotherSchema: what has another name is rewritten and listed, what
// is missing is commented out and said, what waits for the DBA is one list of
// statements; after them check passes.
func TestInitOnAnotherSchema(t *testing.T) {
	dsn, dir := initWorld(t, `
		create table "TB_DESPESAS" (codigo serial primary key, id_empresa int, id_fornecedor int, descricao varchar(120), valor numeric(12,2) not null, dt_vencimento date,
			"DATA_LIQUIDACAO" date, valor_pago numeric(12,2), situacao char(1) not null default 'P');
		create schema loja;
		create table loja.produto (id serial primary key, empresa_id int, codigo char(15), tipo char(1), "Descrição" varchar(120), preco numeric(12,2),
			preco_promocional numeric(12,2), situacao char(1) default 'A');
		create table outra_coisa (x int)`)
	code, stdout, stderr := command(t, "init", "--preset", "superlogica", "--dsn", dsn, "--dir", dir)
	if code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	for _, part := range []string{
		`table public."TB_DESPESAS" is used as despesas`, `column situacao of public."TB_DESPESAS" is used as status`,
		`table loja.produto is used as produtos`, `column "Descrição" of loja.produto is used as descricao`,
		"not found, or not publishable:\n", "table clientes, or one like it, is not in the database",
		"commented out:\n", "rules/superlogica.yaml: cliente.novo, ",
		`ALTER TABLE public."TB_DESPESAS" REPLICA IDENTITY FULL;`,
	} {
		if !strings.Contains(stdout, part) {
			t.Errorf("init does not say %q:\n%s", part, stdout)
		}
	}
	rules := mustRead(t, filepath.Join(dir, "rules", "superlogica.yaml"))
	for _, part := range []string{"table: '\"TB_DESPESAS\"'", "old.situacao = 'P' and new.situacao = 'L'", "table: loja.produto", "  # Commented out: table clientes, or one like it, is not in the database.\n", "\n  # - event: cliente.novo\n  #   group: Clientes\n  #   title: Cliente novo\n"} {
		if !strings.Contains(rules, part) {
			t.Errorf("the rules do not have %q:\n%s", part, rules)
		}
	}
	// Check says the same statements, and is satisfied by them.
	config := filepath.Join(dir, "gancho.yaml")
	code, _, stderr = command(t, "check", "--config", config)
	if code != 1 {
		t.Errorf("check exits %d before the statements are run", code)
	}
	_, after, _ := strings.Cut(stdout, "to run in the source database, so that the rules see old values:\n")
	statements, _, _ := strings.Cut(after, "\n\n")
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for statement := range strings.Lines(statements) {
		if !strings.Contains(stderr, strings.TrimSpace(statement)) {
			t.Errorf("check does not say %q:\n%s", statement, stderr)
		}
		if _, err := conn.Exec(context.Background(), statement); err != nil {
			t.Fatal(err)
		}
	}
	checkPasses(t, dir)
}

// TestInitWithoutDatabase writes the presets as they are, once.
func TestInitWithoutDatabase(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	args := []string{"init", "--preset", "iset", "--dir", dir}
	if code, stdout, stderr := command(t, args...); code != 0 || !strings.Contains(stdout, "wrote "+filepath.Join(dir, "rules", "iset.yaml")) {
		t.Fatalf("exit %d: %s%s", code, stdout, stderr)
	}
	path := filepath.Join(dir, "gancho.yaml")
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the configuration may be read by others: %v %v", info.Mode(), err)
	}
	if err := os.WriteFile(path, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	args[2] = "pacto,iset"
	code, _, stderr := command(t, args...)
	if code != 2 || !strings.Contains(stderr, "exists already, and nothing was written") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	if mustRead(t, path) != "mine" {
		t.Error("the configuration was overwritten")
	}
	if _, err := os.Stat(filepath.Join(dir, "rules", "pacto.yaml")); err == nil {
		t.Error("a refused init wrote a file")
	}
}

// TestInitDraft takes the comment marks off what the drafted configuration
// shows as examples: they are in order.
func TestInitDraft(t *testing.T) {
	for name, value := range map[string]string{
		"GANCHO_SOURCE_DSN": "postgres://localhost/legado", "GANCHO_STATE_DSN": "postgres://localhost/gancho", "GANCHO_STATE_KEY": stateKey,
		"GANCHO_CPF_KEY": strings.Repeat("c", 32), "CRM_SECRET": strings.Repeat("s", 32),
	} {
		t.Setenv(name, value)
	}
	dir := t.TempDir()
	if code, _, stderr := command(t, "init", "--preset", "iset", "--dir", dir); code != 0 {
		t.Fatal(stderr)
	}
	path := filepath.Join(dir, "gancho.yaml")
	text := regexp.MustCompile(`(?m)^# (state:|privacy:|  \w+:)|^#(  - name:|    \w+:)`).ReplaceAllString(mustRead(t, path), "$1$2")
	text = strings.Replace(text, "endpoints: []", "endpoints:", 1)
	for _, key := range []string{"\nstate:\n  key:", "\n  keep_events:", "\n  - name: crm\n"} {
		if !strings.Contains(text, key) {
			t.Errorf("the draft does not show %q:\n%s", key, text)
		}
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command(t, "check", "--offline", "--config", path)
	if code != 0 || !strings.Contains(stdout, "1 endpoint") {
		t.Errorf("check exits %d\n%s%s", code, stdout, stderr)
	}
}

func TestInitRefuses(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	for _, c := range []struct {
		args []string
		code int
		want string
	}{
		{nil, 2, "no database: write --dsn postgres://..., or set GANCHO_SOURCE_DSN; or --preset with one or more of iset, pacto, superlogica, which needs none"},
		{[]string{"--table", "vendas"}, 2, "no database: write --dsn"},
		{[]string{"--preset", "superlogca"}, 2, `find preset "superlogca"`},
		{[]string{"--preset", "iset", "--dsn", "postgres://ana:hunter2@127.0.0.1:1/x"}, 2, "check --dsn"},
	} {
		code, _, stderr := command(t, append([]string{"init", "--dir", dir}, c.args...)...)
		if code != c.code || !strings.Contains(stderr, c.want) || strings.Contains(stderr, "hunter2") {
			t.Errorf("init %v: exit %d: %s", c.args, code, stderr)
		}
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) > 0 {
		t.Errorf("a refused init left %v, %v", entries, err)
	}
	// One that fails on the way takes back what it wrote.
	if err := os.WriteFile(filepath.Join(dir, "rules"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	code, stdout, stderr := command(t, "init", "--dir", dir, "--preset", "iset")
	if code == 0 || stdout != "" || !strings.Contains(stderr, "not a directory") {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("a failed init left %v, %v", entries, err)
	}
}
