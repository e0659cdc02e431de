package migrations_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"gancho/internal/testservers"
	"gancho/migrations"
)

// steps are the names of all migrations.
func steps(t *testing.T) []string {
	t.Helper()
	paths, err := filepath.Glob("gancho/*.sql")
	if err != nil || len(paths) == 0 {
		t.Fatalf("no migrations: %v", err)
	}
	for i := range paths {
		paths[i] = filepath.Base(paths[i])
	}
	return paths
}

func query[T any](t *testing.T, dsn, sql string) T {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	var v T
	if err := conn.QueryRow(t.Context(), sql).Scan(&v); err != nil {
		t.Fatal(err)
	}
	return v
}

func TestApply(t *testing.T) {
	t.Parallel()
	for name, options := range map[string]string{
		"utf8":      "",
		"latin1":    "template template0 encoding 'LATIN1' locale 'C'",
		"win1252":   "template template0 encoding 'WIN1252' locale 'C'",
		"sql_ascii": "template template0 encoding 'SQL_ASCII' locale 'C'",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, options, "create table de_outros (id int)")
			const others = `select coalesce(string_agg(c.oid::regclass::text, ' ' order by 1), '') from pg_class c
				where relnamespace::regnamespace::text not in ('gancho', 'pg_catalog', 'information_schema', 'pg_toast')`
			before := query[string](t, dsn, others)

			pending, err := migrations.Pending(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(steps(t), pending); diff != "" {
				t.Errorf("pending (-want +got):\n%s", diff)
			}
			if query[bool](t, dsn, `select to_regnamespace('gancho') is not null`) {
				t.Error("looking has made the schema")
			}
			applied, err := migrations.Apply(t.Context(), dsn)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(steps(t), applied); diff != "" {
				t.Errorf("applied (-want +got):\n%s", diff)
			}
			again, err := migrations.Apply(t.Context(), dsn)
			if err != nil || len(again) > 0 {
				t.Errorf("applying again: %v, %v", again, err)
			}
			if after := query[string](t, dsn, others); after != before {
				t.Errorf("outside of the schema there was %q and is %q", before, after)
			}
		})
	}
}

// TestApplyAtOnce has eight processes migrate one database.
func TestApplyAtOnce(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	applied := make([][]string, 8)
	group, ctx := errgroup.WithContext(t.Context())
	for i := range applied {
		group.Go(func() (err error) {
			applied[i], err = migrations.Apply(ctx, dsn)
			return err
		})
	}
	if err := group.Wait(); err != nil {
		t.Fatal(err)
	}
	total := 0
	for _, a := range applied {
		total += len(a)
	}
	if want := len(steps(t)); total != want {
		t.Errorf("%d steps were applied, want %d: %v", total, want, applied)
	}
}

// TestApplyAsOrdinaryRole needs CREATE on the database or, where the schema
// exists, nothing but it.
// TestApplyWhileDeadLettersAreWritten: a bridge of the version before may store an event's
// dead letter a second time while 00003 begins.
func TestApplyWhileDeadLettersAreWritten(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	if _, err := migrations.Apply(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
	run := func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	const write = `insert into gancho.dead_letters (endpoint, handle, webhook_id, event, tenant, key, committed, sequence, version, replay, data, reason,
			attempts, first, last, status, class, error, answer)
		values ('crm', '%s', 'same', 'e', '', '', now(), '', '', false, '', '', 1, now(), now(), 0, '', '', '')`
	// As 00002 has left it.
	run(`drop index gancho.dead_letters_once; alter table gancho.dead_letters drop column job; drop table gancho.sources;
		alter table gancho.jobs drop column claimed; alter table gancho.dead_letters add unique (endpoint, handle); delete from gancho.schema_version where version_id > 2`)
	run(fmt.Sprintf(write, "1"))
	run("begin")
	run(fmt.Sprintf(write, "2"))
	var applying errgroup.Group
	applying.Go(func() error {
		_, err := migrations.Apply(t.Context(), dsn)
		return err
	})
	for waits := false; !waits; {
		waits = query[bool](t, dsn, `select exists (select from pg_locks where not granted and relation = 'gancho.dead_letters'::regclass)`)
	}
	run("commit")
	if err := applying.Wait(); err != nil {
		t.Fatal(err)
	}
	if handle := query[string](t, dsn, `select string_agg(handle, ' ') from gancho.dead_letters`); handle != "2" {
		t.Errorf("dead letters %q are left, want the newest", handle)
	}
}

func TestApplyAsOrdinaryRole(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		grant string
		want  string
	}{
		"create on the database": {"grant create on database %[1]s to %[2]s", ""},
		"a schema of its own":    {"create schema gancho authorization %[2]s", ""},
		"rights in the schema":   {"create schema gancho; grant create, usage on schema gancho to %[2]s", ""},
		"nothing":                {"select '%[1]s', '%[2]s'", "CREATE SCHEMA gancho AUTHORIZATION"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "")
			config, err := pgx.ParseConfig(dsn)
			if err != nil {
				t.Fatal(err)
			}
			role := "dono_" + config.Database
			for _, sql := range []string{"create role " + role + " login", fmt.Sprintf(c.grant, config.Database, role)} {
				if err := pg.Exec(t.Context(), config.Database, sql); err != nil {
					t.Fatal(err)
				}
			}
			t.Cleanup(func() {
				if err := pg.Exec(context.Background(), config.Database, fmt.Sprintf("drop owned by %[1]s; drop role %[1]s", role)); err != nil {
					t.Error(err)
				}
			})
			applied, err := migrations.Apply(t.Context(), strings.Replace(dsn, "postgres@", role+"@", 1))
			switch {
			case c.want == "" && (err != nil || len(applied) == 0):
				t.Errorf("applied %v: %v", applied, err)
			case c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)):
				t.Errorf("got %v, want %q", err, c.want)
			}
		})
	}
}

func TestNewerSchema(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	if _, err := migrations.Apply(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	query[int](t, dsn, `insert into gancho.schema_version (version_id, is_applied) values (9999, true) returning 1`)
	if _, err := migrations.Pending(t.Context(), dsn); !errors.Is(err, migrations.ErrNewer) {
		t.Errorf("pending: %v, want ErrNewer", err)
	}
	if applied, err := migrations.Apply(t.Context(), dsn); !errors.Is(err, migrations.ErrNewer) || len(applied) > 0 {
		t.Errorf("apply: %v, %v, want ErrNewer", applied, err)
	}
}

// TestStepsAreASCII: a session's encoding is set, but a step that a person
// feeds to psql is read with the terminal's.
func TestStepsAreASCII(t *testing.T) {
	t.Parallel()
	for _, name := range steps(t) {
		text, err := os.ReadFile(filepath.Join("gancho", name))
		if err != nil {
			t.Fatal(err)
		}
		for i, b := range text {
			if b >= 0x80 {
				t.Fatalf("%s: byte %d is not ASCII", name, i)
			}
		}
	}
}

// TestApplyThroughPooler: nothing is migrated, and no lock stays in the session
// that the application uses next; what is up to date is no error.
func TestApplyThroughPooler(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	pooler := testservers.StartPooler(t, dsn)
	_, err := migrations.Apply(t.Context(), pooler.DSN())
	if err == nil || !strings.Contains(err.Error(), "leads to the server itself") {
		t.Errorf("through a pooler: %v", err)
	}
	if n := query[int](t, dsn, "select count(*)::int from pg_locks where locktype = 'advisory' and database = (select oid from pg_database where datname = current_database())"); n != 0 {
		t.Errorf("%d locks are left", n)
	}
	if _, err := migrations.Apply(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	if applied, err := migrations.Apply(t.Context(), pooler.DSN()); err != nil || len(applied) != 0 {
		t.Errorf("what is up to date: %v, %v", applied, err)
	}
}
