package testservers

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// startTimeout is how long a server may take until it answers.
const startTimeout = 60 * time.Second

// PostgresOptions are what a test may change.
type PostgresOptions struct {
	// Settings are added to postgresql.conf, and win over the defaults.
	Settings map[string]string
	// Arguments are those of the server program.
	Arguments []string
	// Clock is the server's; nil: the machine's.
	Clock *Clock
}

// Postgres is a private PostgreSQL server with wal_level=logical. Its
// superuser is postgres, trusted on the loopback interface.
type Postgres struct {
	dir, bin   string
	port       int
	user       *syscall.Credential
	process    *Process
	arguments  []string
	clock      *Clock
	databases  atomic.Int64
	templateMu sync.Mutex
	templates  map[string]func() error // by name, what makes it, once
}

// StartPostgres creates a cluster in a temporary directory, starts it, and waits
// until it answers. Close removes it.
func StartPostgres(o PostgresOptions) (_ *Postgres, err error) {
	p := &Postgres{arguments: o.Arguments, clock: o.Clock}
	if p.bin, err = postgresBin(); err != nil {
		return nil, err
	}
	if p.user, err = postgresUser(); err != nil {
		return nil, err
	}
	if p.port, err = quietPort(); err != nil {
		return nil, err
	}
	if p.dir, err = newDirectory("pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n%s", err, p.Log())
			p.Close()
		}
	}()
	if p.user != nil {
		if err := os.Chown(p.dir, int(p.user.Uid), int(p.user.Gid)); err != nil {
			return nil, err
		}
	}
	initdb := exec.Command(filepath.Join(p.bin, "initdb"), "-D", p.data(), "-U", "postgres", "-A", "trust",
		"-E", "UTF8", "--locale=C.UTF-8", "--no-sync", "--no-instructions")
	initdb.SysProcAttr = &syscall.SysProcAttr{Credential: p.user}
	initdb.Dir = p.dir
	if out, err := initdb.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	if err := p.configure(o.Settings); err != nil {
		return nil, err
	}
	return p, p.Start()
}

// Standby copies the server, as pg_basebackup does, and starts the copy as its standby, which
// pg_promote() makes a primary of its own. Close removes it.
func (p *Postgres) Standby() (_ *Postgres, err error) {
	s := &Postgres{bin: p.bin, user: p.user, arguments: p.arguments}
	if s.port, err = quietPort(); err != nil {
		return nil, err
	}
	if s.dir, err = newDirectory("pg"); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			s.Close()
		}
	}()
	if s.user != nil {
		if err := os.Chown(s.dir, int(s.user.Uid), int(s.user.Gid)); err != nil {
			return nil, err
		}
	}
	program := filepath.Join(s.bin, "pg_basebackup")
	if _, err := os.Stat(program); errors.Is(err, fs.ErrNotExist) { // a server that came without: it is stopped for a moment
		p.Stop("fast")
		if err := s.copyFiles(p, nil); err != nil {
			return nil, err
		}
		primary := fmt.Sprintf("'host=127.0.0.1 port=%d user=postgres dbname=postgres sslmode=disable'", p.port)
		if err := s.configure(map[string]string{"primary_conninfo": primary}); err != nil {
			return nil, err
		}
		return s, errors.Join(p.Start(), s.Start())
	}
	backup := exec.Command(program, "-h", "127.0.0.1", "-p", strconv.Itoa(p.port), "-U", "postgres", "-D", s.data(), "-R", "-c", "fast", "--no-sync")
	backup.SysProcAttr = &syscall.SysProcAttr{Credential: s.user}
	backup.Dir = s.dir
	if out, err := backup.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	if err := s.configure(nil); err != nil {
		return nil, err
	}
	return s, s.Start()
}

// Data is the server's data directory.
func (p *Postgres) Data() string { return p.data() }

func (p *Postgres) data() string { return filepath.Join(p.dir, "data") }

func (p *Postgres) configure(settings map[string]string) error {
	conf := map[string]string{
		"listen_addresses":        "'127.0.0.1'",
		"port":                    strconv.Itoa(p.port),
		"unix_socket_directories": "'" + p.dir + "'",
		"wal_level":               "logical",
		"max_wal_senders":         "40",
		"max_replication_slots":   "40",
		"max_connections":         "200",
		"shared_buffers":          "'64MB'",
		"fsync":                   "off", // tests kill processes, never the kernel
		"synchronous_commit":      "on",  // only flushed WAL is sent
		"full_page_writes":        "off",
		"max_wal_size":            "'256MB'",
	}
	maps.Copy(conf, settings)
	var b strings.Builder
	for k, v := range conf {
		fmt.Fprintf(&b, "%s = %s\n", k, v)
	}
	f, err := os.OpenFile(filepath.Join(p.data(), "postgresql.conf"), os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(b.String())
	return errors.Join(err, f.Close())
}

// Start starts a server that was stopped or killed and waits until it answers.
func (p *Postgres) Start() error {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	for {
		if !p.process.running() {
			// A new postmaster refuses to start while a killed one's children
			// still hold the shared memory: try again.
			logfile, err := os.OpenFile(filepath.Join(p.dir, "log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
			if err != nil {
				return err
			}
			cmd := exec.Command(filepath.Join(p.bin, "postgres"), append([]string{"-D", p.data()}, p.arguments...)...)
			cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, logfile, logfile
			if p.clock != nil {
				cmd.Env = os.Environ()
				for name, value := range p.clock.Environment() {
					cmd.Env = append(cmd.Env, name+"="+value)
				}
			}
			p.process, err = StartProcess(cmd, syscall.SIGQUIT, p.user)
			_ = logfile.Close()
			if err != nil {
				return err
			}
		}
		conn, err := pgx.Connect(ctx, p.DSN("postgres"))
		if err == nil {
			return conn.Close(ctx)
		}
		if ctx.Err() != nil {
			return fmt.Errorf("wait for PostgreSQL: %w", err)
		}
		pause()
	}
}

// Stop shuts the server down in the given mode: fast (disconnecting clients)
// or immediate (like a crash). It returns when the server has ended.
func (p *Postgres) Stop(mode string) {
	sig := syscall.SIGINT
	if mode == "immediate" {
		sig = syscall.SIGQUIT
	}
	p.process.Signal(sig)
}

// Kill kills the postmaster with SIGKILL.
func (p *Postgres) Kill() { p.process.Signal(syscall.SIGKILL) }

// Port is the TCP port on 127.0.0.1.
func (p *Postgres) Port() int { return p.port }

// PID is the postmaster's.
func (p *Postgres) PID() int { return p.process.cmd.Process.Pid }

// Bin is the directory of the server programs.
func (p *Postgres) Bin() string { return p.bin }

// DSN is the connection string of a database, as superuser.
func (p *Postgres) DSN(database string) string {
	return fmt.Sprintf("postgres://postgres@127.0.0.1:%d/%s?sslmode=disable", p.port, url.PathEscape(database))
}

// Log is what the server wrote.
func (p *Postgres) Log() string { return logIn(p.dir) }

// Close stops the server and removes its directory. It may be called twice.
func (p *Postgres) Close() {
	if p.process != nil {
		p.process.Signal(syscall.SIGQUIT)
	}
	_ = os.RemoveAll(p.dir) // a temporary directory: nobody needs the error
}

// Exec runs statements, written in UTF-8, on a database, for setting up.
func (p *Postgres) Exec(ctx context.Context, database, sql string) error {
	conn, err := pgx.Connect(ctx, p.DSN(database)+"&client_encoding=UTF8")
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, sql)
	return err
}

// Database creates a database for the test, runs the statements in it, and
// returns its DSN. It is dropped, with its slots, when the test ends. The
// options are those of CREATE DATABASE, such as "template template0 encoding
// 'LATIN1' locale 'C'"; empty: UTF8 with C.UTF-8.
func (p *Postgres) Database(t testing.TB, options string, statements ...string) string {
	t.Helper()
	name := fmt.Sprintf("test_%d", p.databases.Add(1))
	ctx := context.Background()
	if err := p.Exec(ctx, "postgres", "create database "+name+" "+options); err != nil {
		t.Fatalf("create database: %v", err)
	}
	t.Cleanup(func() { p.drop(t, name) })
	for _, s := range statements {
		if err := p.Exec(ctx, name, s); err != nil {
			t.Fatalf("set up database: %v", err)
		}
	}
	return p.DSN(name)
}

// Template returns the options of Database that have it begin with what prepare, such as migrations.Apply, has put into
// the named database, which is prepared once for the server: a copy is a third of the work of a schema that many tests need.
func (p *Postgres) Template(t testing.TB, name string, prepare func(ctx context.Context, dsn string) ([]string, error)) string {
	t.Helper()
	p.templateMu.Lock()
	made := p.templates[name]
	if made == nil {
		made = sync.OnceValue(func() error {
			ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
			defer cancel()
			if err := p.Exec(ctx, "postgres", "create database "+name); err != nil {
				return err
			}
			_, err := prepare(ctx, p.DSN(name))
			return err
		})
		if p.templates == nil {
			p.templates = map[string]func() error{}
		}
		p.templates[name] = made
	}
	p.templateMu.Unlock()
	if err := made(); err != nil {
		t.Fatalf("prepare database %s: %v", name, err)
	}
	return "template " + name
}

func (p *Postgres) drop(t testing.TB, name string) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, p.DSN("postgres"))
	if err != nil {
		return // the test stopped the server
	}
	defer func() { _ = conn.Close(ctx) }()
	// A terminated walsender needs a moment to release its slot.
	for range 100 {
		_, err = conn.Exec(ctx, `select pg_terminate_backend(active_pid) from pg_replication_slots where database = $1 and active`, name)
		if err == nil {
			_, err = conn.Exec(ctx, `select pg_drop_replication_slot(slot_name) from pg_replication_slots where database = $1`, name)
		}
		if err == nil {
			_, err = conn.Exec(ctx, "drop database if exists "+name+" with (force)")
		}
		if err == nil {
			return
		}
		pause()
	}
	t.Logf("drop database %s: %v", name, err)
}

// Main starts a PostgreSQL server for a test binary, runs its tests, and
// stops the server. Use it as: func TestMain(m *testing.M) { os.Exit(testservers.Main(m, &pg)) }
func Main(m *testing.M, server **Postgres) int {
	// Tests wait for servers more than they compute; -parallel wins over this.
	if err := flag.Set("test.parallel", "8"); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	// PostgreSQL 14 sends empty transactions, too: autovacuum's would come
	// between a test's own.
	p, err := StartPostgres(PostgresOptions{Settings: map[string]string{"autovacuum": "off"}})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer p.Close()
	*server = p
	return m.Run()
}

// pause waits a little between two questions to a server that does not announce
// when it is ready.
func pause() { <-time.After(20 * time.Millisecond) }
