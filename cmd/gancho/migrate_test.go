package main_test

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	main "gancho/cmd/gancho"
	"gancho/internal/testservers"
)

// stateFile writes a configuration whose Redis nobody needs, with the lines of
// its state section, and returns its path.
func stateFile(t *testing.T, dsn string, lines ...string) string {
	t.Helper()
	dir := t.TempDir()
	text := "source:\n  dsn: " + dsn + "\nqueue:\n  redis: redis://127.0.0.1:1\nrules: [rules.yaml]\n"
	if len(lines) > 0 {
		text += "state:\n  " + strings.Join(lines, "\n  ") + "\n"
	}
	for name, text := range map[string]string{"gancho.yaml": text, "rules.yaml": loadRules} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return filepath.Join(dir, "gancho.yaml")
}

// expect runs a command and checks its exit code and what it prints.
func expect(t *testing.T, code int, stdout, stderr string, args ...string) {
	t.Helper()
	gotCode, gotOut, gotErr := command(t, args...)
	if gotCode != code || !strings.Contains(gotOut, stdout) || !strings.Contains(gotErr, stderr) {
		t.Errorf("gancho %s: exit %d, stdout %q, stderr %q; want %d, %q, %q", strings.Join(args, " "), gotCode, gotOut, gotErr, code, stdout, stderr)
	}
}

func TestMigrate(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	config := stateFile(t, dsn, "key: "+stateKey)

	// Nothing works before, and looking changes nothing.
	expect(t, 1, "", "run gancho migrate", "secrets", "rekey", "--config", config)
	expect(t, 0, "to be applied: 00001_state.sql\n", "", "migrate", "--dry-run", "--config", config)
	expect(t, 0, "to be applied: 00001_state.sql\n", "", "migrate", "--dry-run", "--config", config)
	expect(t, 0, "applied: 00001_state.sql\n", "", "migrate", "--config", config)
	expect(t, 0, "up to date", "", "migrate", "--config", config)
	expect(t, 0, "up to date", "", "migrate", "--dry-run", "--config", config)

	execute(t, dsn, `insert into gancho.schema_version (version_id, is_applied) values (9999, true)`)
	expect(t, 1, "", "newer than this program", "migrate", "--config", config)
	expect(t, 1, "", "newer than this program", "migrate", "--dry-run", "--config", config)
	expect(t, 1, "", "newer than this program", "secrets", "rekey", "--config", config)
}

// TestMigrateElsewhere: state.dsn keeps the source's database untouched.
func TestMigrateElsewhere(t *testing.T) {
	t.Parallel()
	source, own := pg.Database(t, ""), pg.Database(t, "")
	config := stateFile(t, source, "key: "+stateKey, "dsn: "+own)
	expect(t, 0, "applied: 00001_state.sql\n", "", "migrate", "--config", config)
	for dsn, want := range map[string]bool{source: false, own: true} {
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		var there bool
		err = conn.QueryRow(t.Context(), `select to_regnamespace('gancho') is not null`).Scan(&there)
		_ = conn.Close(t.Context())
		if err != nil || there != want {
			t.Errorf("the schema is there: %v, want %v (%v)", there, want, err)
		}
	}
}

// adviceHolds adds to the configuration what the refusal says to add.
func adviceHolds(t *testing.T, dsn, without string) {
	t.Helper()
	_, _, refusal := command(t, "migrate", "--config", without)
	_, advice, _ := strings.Cut(refusal, "add ")
	advice, _, _ = strings.Cut(advice, ", and run ")
	with := filepath.Join(filepath.Dir(stateFile(t, dsn)), "with.yaml")
	text := mustRead(t, without) + strings.ReplaceAll(advice, "${GANCHO_STATE_KEY}", stateKey) + "\n"
	if err := os.WriteFile(with, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	expect(t, 0, "to be applied", "", "migrate", "--dry-run", "--config", with)
	if !strings.Contains(refusal, "'${GANCHO_STATE_KEY}'") {
		t.Errorf("unquoted, a variable breaks the mapping in braces: %q", advice)
	}
}

func TestMigrateRefusals(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	without := stateFile(t, dsn)
	expect(t, 1, "", "has no state.key", "migrate", "--config", without)
	expect(t, 1, "", "gancho secrets generate-key", "secrets", "rekey", "--config", without)
	adviceHolds(t, dsn, without)
	expect(t, 2, "", `unexpected argument "tudo"`, "migrate", "tudo")
	expect(t, 2, "", "unknown flag: --force", "migrate", "--force")
	expect(t, 2, "", `did you mean "generate-key"?`, "secrets", "generatekey")
	expect(t, 1, "", "name the file with --config", "migrate", "--config", "nowhere.yaml")

	away := stateFile(t, dsn, "key: "+stateKey, "dsn: postgres://ana:senha-secreta@127.0.0.1:1/x?sslmode=disable")
	for _, args := range [][]string{{"migrate"}, {"migrate", "--dry-run"}, {"secrets", "rekey"}} {
		code, stdout, stderr := command(t, append(args, "--config", away)...)
		if code != 1 || stdout != "" || !strings.Contains(stderr, "state.dsn") || strings.Contains(stderr, "senha") {
			t.Errorf("gancho %v: exit %d, stdout %q, stderr %q", args, code, stdout, stderr)
		}
	}
	wrong := stateFile(t, dsn, "key: curta-demais")
	expect(t, 1, "", "gancho.yaml:7: state.key: ", "secrets", "rekey", "--config", wrong)
	if _, _, stderr := command(t, "secrets", "rekey", "--config", wrong); strings.Contains(stderr, "curta-demais") {
		t.Errorf("the error shows the key: %s", stderr)
	}
}

func TestGenerateKey(t *testing.T) {
	t.Parallel()
	code, stdout, stderr := command(t, "secrets", "generate-key")
	if code != 0 || stderr != "" || !regexp.MustCompile(`^\d{8}-[0-9a-f]{4}:[A-Za-z0-9+/]{43}=\n$`).MatchString(stdout) {
		t.Errorf("exit %d, stdout %q, stderr %q", code, stdout, stderr)
	}
	if _, again, _ := command(t, "secrets", "generate-key"); again == stdout {
		t.Error("two keys are the same")
	}
	expect(t, 0, "chave-2:", "", "secrets", "generate-key", "--id", "chave-2")
	expect(t, 2, "", "1 to 32 letters", "secrets", "generate-key", "--id", "com espaço")
	expect(t, 2, "", "--id has an empty value", "secrets", "generate-key", "--id", "")
	expect(t, 2, "", `unexpected argument "x"`, "secrets", "generate-key", "x")
	expect(t, 2, "", `unknown command "lst" for "gancho secrets"; there are generate-key, rekey`, "secrets", "lst")
	expect(t, 0, "To replace it", "", "secrets")
}

// TestRekey replaces state.key as the command's help says.
func TestRekey(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	_, second, _ := command(t, "secrets", "generate-key", "--id", "k2")
	second = strings.TrimSpace(second)
	first := stateFile(t, dsn, "key: "+stateKey)
	both := stateFile(t, dsn, `key: "`+second+","+stateKey+`"`)
	last := stateFile(t, dsn, "key: "+second)
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	unreachable := stateFile(t, dsn, "key: "+stateKey)
	for _, file := range []string{first, both, last} {
		text, err := os.ReadFile(file)
		if err == nil {
			err = os.WriteFile(file, []byte(strings.Replace(string(text), "redis://127.0.0.1:1", redis.URL(), 1)), 0o600)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	expect(t, 0, "applied", "", "migrate", "--config", first)
	expect(t, 1, "", "keep all keys, and run this again", "secrets", "rekey", "--config", unreachable)
	expect(t, 0, `0 values encrypted again, all now with the key "k1"`, "", "secrets", "rekey", "--config", first)

	var out, errs bytes.Buffer
	code := main.Main(context.Background(), []string{"endpoints", "add", "crm", "--url", "https://crm.example.com", "--config", first}, strings.NewReader(""), &out, &errs)
	if code != 0 {
		t.Fatalf("add: exit %d\n%s%s", code, out.String(), errs.String())
	}
	expect(t, 1, "", `with the key "k1", which state.key does not have`, "secrets", "rekey", "--config", last)
	expect(t, 0, `2 values encrypted again, all now with the key "k2"`, "", "secrets", "rekey", "--config", both)
	expect(t, 0, `0 values encrypted again`, "", "secrets", "rekey", "--config", last)
	expect(t, 1, "", `with the key "k2"`, "secrets", "rekey", "--config", first)
}

func execute(t *testing.T, dsn, sql string) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}
