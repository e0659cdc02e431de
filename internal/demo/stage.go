package demo

import (
	"context"
	"embed"
	_ "embed"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"text/template"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
	"gancho/migrations"
)

//go:embed rules/*.yaml
var ruleFiles embed.FS

//go:embed gancho.yaml.tmpl
var configuration string

// database is the legacy system's. It has the settings of a Brazilian system
// that is twenty years old, which must not show in what is sent.
const database = "legado"

// stage is where the demo is played: the servers, the legacy database and the
// directory with the bridge's files.
type stage struct {
	postgres *testservers.Postgres
	redis    *testservers.Redis
	dir      string
	listen   string // of the bridge's own HTTP server
}

// newStage starts the servers and loads the legacy database, with rows beside its
// seed. Close ends all of it.
func newStage(ctx context.Context, rows string) (_ *stage, err error) {
	s := &stage{}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.Close())
		}
	}()
	if s.dir, err = os.MkdirTemp("", "gancho-demo-"); err != nil {
		return nil, fmt.Errorf("create the demo's directory: %w", err)
	}
	if s.postgres, err = testservers.StartPostgres(testservers.PostgresOptions{}); err != nil {
		return nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	if s.redis, err = testservers.StartRedis(testservers.RedisOptions{}); err != nil {
		return nil, fmt.Errorf("start Redis: %w", err)
	}
	if s.listen, err = testservers.FreeAddress(); err != nil {
		return nil, err
	}
	if err := s.postgres.Exec(ctx, "postgres", "create database "+database); err != nil {
		return nil, fmt.Errorf("create the legacy database: %w", err)
	}
	err = s.postgres.Exec(ctx, database, `alter database `+database+` set timezone = 'America/Sao_Paulo';
		alter database `+database+` set datestyle = 'SQL, DMY'`)
	if err != nil {
		return nil, fmt.Errorf("set up the legacy database: %w", err)
	}
	conn, err := s.connect(ctx)
	if err != nil {
		return nil, err
	}
	err = load(ctx, conn, rows)
	return s, errors.Join(err, conn.Close(context.WithoutCancel(ctx)))
}

// connect opens a connection of the legacy application.
func (s *stage) connect(ctx context.Context) (*pgx.Conn, error) {
	conn, err := pgx.Connect(ctx, s.postgres.DSN(database))
	if err != nil {
		return nil, fmt.Errorf("connect to the legacy database: %w", err)
	}
	return conn, nil
}

// settings are what differs between the configurations of the demo's plays.
type settings struct {
	rules       map[string][]byte // files
	deny        []string          // privacy.deny
	subscribers []subscriber
}

// demoSettings are those of the working day.
func demoSettings() (settings, error) {
	c := settings{rules: map[string][]byte{}, deny: []string{"clientes.cpf_cnpj", "clientes.rg", "clientes.foto", "clientes.biometria"}, subscribers: endpoints()}
	files, err := fs.Glob(ruleFiles, "rules/*.yaml")
	if err != nil {
		return c, fmt.Errorf("read the demo's rules: %w", err)
	}
	for _, name := range files {
		if c.rules[path.Base(name)], err = ruleFiles.ReadFile(name); err != nil {
			return c, fmt.Errorf("read the demo's rules: %w", err)
		}
	}
	return c, nil
}

// write puts the bridge's configuration and rules into the directory and
// returns the configuration's path. Only this user may read the secrets in it.
func (s *stage) write(c settings, receivers string) (string, error) {
	dir := filepath.Join(s.dir, "rules")
	err := os.Mkdir(dir, 0o700)
	for name, text := range c.rules {
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
	}
	if err != nil {
		return "", fmt.Errorf("write the demo's rules: %w", err)
	}
	name := filepath.Join(s.dir, "gancho.yaml")
	if err := s.writeConfiguration(name, c, receivers); err != nil {
		return "", fmt.Errorf("write the demo's configuration: %w", err)
	}
	return name, nil
}

func (s *stage) writeConfiguration(name string, c settings, receivers string) error {
	t, err := template.New("gancho.yaml").Parse(configuration)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	err = t.Execute(f, map[string]any{
		"Source": s.postgres.DSN(database), "Redis": s.redis.URL(), "Listen": s.listen,
		"Endpoints": c.subscribers, "Receivers": receivers, "Deny": c.deny,
	})
	return errors.Join(err, f.Close())
}

// Close stops the servers and removes every file.
func (s *stage) Close() error {
	if s.redis != nil {
		s.redis.Close()
	}
	if s.postgres != nil {
		s.postgres.Close()
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the demo's directory: %w", err)
	}
	return nil
}

//go:embed rows.sql
var rows string

// Load fills an empty database with the legacy system's: schema, seed, the demo's
// rows, and what a DBA sets up for Gancho.
func Load(ctx context.Context, conn *pgx.Conn) error { return load(ctx, conn, rows) }

func load(ctx context.Context, conn *pgx.Conn, rows string) error {
	schema, seed, identity := migrations.Legacy()
	for _, script := range []struct{ name, sql string }{
		{"schema", schema}, {"seed", seed}, {"rows", rows}, {"identity", identity},
	} {
		if _, err := conn.Exec(ctx, script.sql); err != nil {
			return fmt.Errorf("load the legacy %s: %w", script.name, err)
		}
	}
	return nil
}
