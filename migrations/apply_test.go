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

// appliedTo makes a database with the migrations up to one, and returns what runs statements in it.
func appliedTo(t *testing.T, version int64) (dsn string, run func(sql string)) {
	t.Helper()
	dsn = pg.Database(t, "")
	if _, err := migrations.ApplyTo(t.Context(), dsn, version); err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
	return dsn, func(sql string) {
		t.Helper()
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatalf("%s: %v", sql, err)
		}
	}
}

// TestApplyWhileDeadLettersAreWritten: a bridge of the version before may store an event's
// dead letter a second time while 00003 begins.
func TestApplyWhileDeadLettersAreWritten(t *testing.T) {
	t.Parallel()
	dsn, run := appliedTo(t, 2)
	const write = `insert into gancho.dead_letters (endpoint, handle, webhook_id, event, tenant, key, committed, sequence, version, replay, data, reason,
			attempts, first, last, status, class, error, answer)
		values ('crm', '%s', 'same', 'e', '', '', now(), '', '', false, '', '', 1, now(), now(), 0, '', '', '')`
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

// TestApplyAsOrdinaryRole needs CREATE on the database or, where the schema
// exists, nothing but it.
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

// TestForeignSchema: what others made in the schema gancho, or may make there, never
// runs with our rights: neither in migrate nor when the state is opened.
func TestForeignSchema(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// before are the statements of the other role, migrated says whether they
		// come after our migrations; grants are those of a superuser before them.
		grants, before string
		migrated       bool
		want           string
	}{
		"schema":         {"grant create on database %[1]s to %[2]s", "create schema gancho; grant all on schema gancho to public", false, "the schema belongs to %[2]s"},
		"view":           {"create schema gancho authorization %[3]s; grant create, usage on schema gancho to %[2]s", "create view gancho.schema_version as select 1 as version_id, true as is_applied, armadilha()", false, "relation gancho.schema_version belongs to %[2]s"},
		"right":          {"create schema gancho authorization %[3]s; grant create on schema gancho to public", "", false, "the right to create in it belongs to PUBLIC"},
		"function":       {"grant create, usage on schema gancho to %[2]s", "create function gancho.outra() returns int language sql as 'select 1'", true, "function gancho.outra() belongs to %[2]s"},
		"type":           {"grant create, usage on schema gancho to %[2]s", "create domain gancho.texto as text check (armadilha() is null)", true, "type gancho.texto belongs to %[2]s"},
		"trigger":        {"grant usage on schema gancho to %[2]s; grant trigger on gancho.schema_version, gancho.jobs to %[2]s", "create trigger t before insert on gancho.jobs for each row execute function gatilho()", true, "function public.gatilho(), which a trigger of gancho.jobs calls, belongs to %[2]s"},
		"of a superuser": {"create schema gancho; grant create, usage on schema gancho to %[3]s", "", false, ""},
		"our own":        {"grant create on database %[1]s to %[3]s", "", false, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dsn := pg.Database(t, "")
			config, err := pgx.ParseConfig(dsn)
			if err != nil {
				t.Fatal(err)
			}
			database := config.Database
			other, own := "alheio_"+database, "gancho_"+database
			as := func(role string) string { return strings.Replace(dsn, "postgres@", role+"@", 1) }
			run := func(role, sql string) {
				t.Helper()
				if sql = strings.NewReplacer("%[1]s", database, "%[2]s", other, "%[3]s", own).Replace(sql); sql == "" {
					return
				}
				conn, err := pgx.Connect(t.Context(), as(role))
				if err != nil {
					t.Fatal(err)
				}
				defer func() { _ = conn.Close(context.WithoutCancel(t.Context())) }()
				if _, err := conn.Exec(t.Context(), sql); err != nil {
					t.Fatalf("%s: %v", sql, err)
				}
			}
			run("postgres", "create role %[2]s login; create role %[3]s login; grant create on schema public to %[2]s; grant create on database %[1]s to %[3]s; create table public.rastros (quem text); grant all on public.rastros to public")
			t.Cleanup(func() {
				for _, role := range []string{other, own} {
					if err := pg.Exec(context.Background(), database, fmt.Sprintf("drop owned by %[1]s cascade; drop role %[1]s", role)); err != nil {
						t.Error(err)
					}
				}
			})
			run(other, `create function public.armadilha() returns text language plpgsql as $$ begin insert into public.rastros values (current_user); return null; end $$;
				create function public.gatilho() returns trigger language plpgsql as $$ begin insert into public.rastros values (current_user); return new; end $$`)
			if c.migrated {
				if _, err := migrations.Apply(t.Context(), as(own)); err != nil {
					t.Fatal(err)
				}
			}
			run("postgres", c.grants)
			run(other, c.before)
			_, pending := migrations.Pending(t.Context(), as(own))
			_, err = migrations.Apply(t.Context(), as(own))
			want := strings.NewReplacer("%[2]s", other).Replace(c.want)
			for _, err := range []error{pending, err} {
				if (err == nil) != (want == "") || err != nil && (!errors.Is(err, migrations.ErrForeign) || !strings.Contains(err.Error(), want)) {
					t.Errorf("got %v, want %q", err, want)
				}
			}
			if n := query[int](t, dsn, "select count(*)::int from public.rastros"); n != 0 {
				t.Error("the other role's code ran")
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

// TestApplyOutOfOrder: a step is applied although a later one has been.
func TestApplyOutOfOrder(t *testing.T) {
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
	if _, err := conn.Exec(t.Context(), `delete from gancho.schema_version where version_id = 6; alter table gancho.jobs drop column silent, drop column kept`); err != nil {
		t.Fatal(err)
	}
	want := []string{"00006_parked.sql"}
	if pending, err := migrations.Pending(t.Context(), dsn); err != nil || !cmp.Equal(pending, want) {
		t.Errorf("pending: %v, %v", pending, err)
	}
	if applied, err := migrations.Apply(t.Context(), dsn); err != nil || !cmp.Equal(applied, want) {
		t.Errorf("applied: %v, %v", applied, err)
	}
}

// TestPathsAreMasked: what versions before 00007 have stored of a url's path is hidden,
// in a database of any encoding.
func TestPathsAreMasked(t *testing.T) {
	t.Parallel()
	for _, options := range []string{"", "template template0 encoding 'SQL_ASCII' locale 'C'"} {
		dsn := pg.Database(t, options)
		if _, err := migrations.Apply(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(context.WithoutCancel(t.Context())) })
		urls := map[string]string{
			`https://a.com`: `https://a.com`, `https://a.com/hooks?x=***`: `https://a.com/hooks?x=***`, `https://a.com/hooks/`: `https://a.com/hooks/`,
			`https://a.com:1/hooks/T0/B0\u00e7\"/s?x=***`: `https://a.com:1/hooks/***?x=***`, `http://a.com//s`: `http://a.com//***`,
			`https://a.com/abcdefghijklmnopqrst/s`: `https://a.com/abcdefghijklmnopqrst/***`, `https://a.com/abcdefghijklmnopqrstu?***`: `https://a.com/***?***`,
		}
		const public, entry = `{"events":["a.*"],"extra":{"url":"***"},"url":"%s"}`, `{"settings":{"url":"%s","x":"https://b.com/c/d"},"state":"active"}`
		for url := range urls {
			_, err := conn.Exec(t.Context(), `insert into gancho.endpoints (name, tenants, state, sealed, public) values ($1, '{}', 'active', '', $2::text::json)`, url, fmt.Sprintf(public, url))
			if err == nil {
				_, err = conn.Exec(t.Context(), `insert into gancho.audit (actor, tenant, action, object, before, after) values ('x', '', 'endpoint.edit', $1, $2::text::json, $2::text::json)`, url, fmt.Sprintf(entry, url))
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		if _, err := conn.Exec(t.Context(), `delete from gancho.schema_version where version_id = 7`); err != nil {
			t.Fatal(err)
		}
		if _, err := migrations.Apply(t.Context(), dsn); err != nil {
			t.Fatal(err)
		}
		for url, want := range urls {
			var got, before, after string
			err := conn.QueryRow(t.Context(), `select public::text, before::text, after::text from gancho.endpoints join gancho.audit on object = name where name = $1`, url).Scan(&got, &before, &after)
			if err != nil || got != fmt.Sprintf(public, want) || before != fmt.Sprintf(entry, want) || after != before {
				t.Errorf("%s is shown as %s, %s and %s (%v), want %s", url, got, before, after, err, want)
			}
		}
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
