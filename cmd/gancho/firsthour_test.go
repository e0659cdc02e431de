package main_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"gancho/internal/testservers"
)

// TestFirstHour: on reduced copies of schemas that no one here wrote, init, check, listen
// and run are the way to the first webhook, and every leaf is what a trigger
// in PostgreSQL computes of the same row.
func TestFirstHour(t *testing.T) {
	testservers.Whole(t)
	redis, err := testservers.StartRedis(testservers.RedisOptions{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(redis.Close)
	files, err := filepath.Glob("testdata/firsthour/*.sql")
	if err != nil || len(files) != 5 {
		t.Fatal(files, err)
	}
	for i, file := range files {
		t.Run(filepath.Base(file), func(t *testing.T) {
			setup, rest, _ := strings.Cut(mustRead(t, file), "-- tables: ")
			tables, traffic, _ := strings.Cut(rest, "\n-- traffic\n")
			dsn, dir := initWorld(t, setup)
			t.Setenv("GANCHO_REDIS_URL", strings.TrimSuffix(redis.URL(), "/0")+fmt.Sprintf("/%d", i))
			args := []string{"init", "--dir", dir}
			for _, table := range strings.Fields(tables) {
				args = append(args, "--table", table)
			}
			code, stdout, stderr := command(t, args...)
			if code != 0 || strings.Contains(stdout, "left out of rules:") {
				t.Fatalf("exit %d\n%s%s", code, stdout, stderr)
			}
			config := filepath.Join(dir, "gancho.yaml")
			if secret := regexp.MustCompile(`secret: (whsec_\S+)`).FindStringSubmatch(mustRead(t, config)); secret == nil || !strings.Contains(stdout, "gancho listen --secret "+secret[1]+" ") {
				t.Errorf("init does not say the secret %v:\n%s", secret, stdout)
			}
			r := newReceiver(t, nil)
			mustReplace(t, config, "http://127.0.0.1:8621/", r.url(), "listen: 127.0.0.1:8620", "listen: 127.0.0.1:0")
			checkPasses(t, dir)
			w := &world{t: t, dsn: dsn, dir: dir}
			b := w.start("run", "--create", "--config", config)
			b.waitLog("bridge is ready")

			conn := w.connect()
			watchRows(t, conn)
			for _, statement := range strings.Split(strings.TrimSpace(traffic), "\n") {
				if _, err := conn.Exec(context.Background(), statement); err != nil {
					t.Fatalf("%s: %v", statement, err)
				}
			}
			compareWithTrigger(t, conn, r)
			b.kill()
		})
	}
}

// mustReplace edits a file; everything that is to be replaced must be in it.
func mustReplace(t *testing.T, path string, pairs ...string) {
	t.Helper()
	text := mustRead(t, path)
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("%s does not have %q:\n%s", path, pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// watchRows gives every table a trigger that writes down its rows as JSON, in the
// form that docs/rules.md promises: times of the source's zone, char(n) without padding.
func watchRows(t *testing.T, conn *pgx.Conn) {
	t.Helper()
	_, err := conn.Exec(context.Background(), `
		set timezone = 'America/Sao_Paulo';
		create schema testes; create table testes.rows (n serial, tab text, op text, data jsonb);
		create function testes.shown(r record, tab regclass) returns jsonb language plpgsql as $$
		declare a record; v jsonb := to_jsonb(r); one jsonb;
		begin
			for a in select attname, atttypid::regtype::text as kind from pg_attribute where attrelid = tab and attnum > 0 and not attisdropped loop
				one := v -> a.attname::text;
				if one = 'null' then continue; end if;
				if a.kind = 'character' then v := v || jsonb_build_object(a.attname, rtrim(one #>> '{}')); end if;
				if a.kind = 'timestamp without time zone' then v := v || jsonb_build_object(a.attname, (one #>> '{}')::timestamp::timestamptz); end if;
			end loop;
			return v;
		end $$;
		create function testes.note() returns trigger language plpgsql as $$
		begin
			insert into testes.rows (tab, op, data) values (coalesce((select inhparent::regclass from pg_inherits where inhrelid = tg_relid), tg_relid::regclass)::text, lower(tg_op),
				testes.shown(case tg_op when 'DELETE' then old else new end, tg_relid));
			return null;
		end $$;
		do $$ declare c regclass; begin
			for c in select oid from pg_class where relkind in ('r', 'p') and not relispartition and relnamespace::regnamespace::text not in ('testes', 'pg_catalog', 'information_schema', 'gancho') loop
				execute format('create trigger zz_note after insert or update or delete on %s for each row execute function testes.note()', c);
			end loop;
		end $$`)
	if err != nil {
		t.Fatal(err)
	}
}

// compareWithTrigger waits for as many webhooks as rows were written down, and
// compares them in the order of the commits.
func compareWithTrigger(t *testing.T, conn *pgx.Conn, r *receiver) {
	t.Helper()
	rows, _ := conn.Query(context.Background(), "select tab || ' ' || op, data::text from testes.rows order by n")
	type row struct{ Change, Data string }
	want, err := pgx.CollectRows(rows, pgx.RowToStructByPos[row])
	if err != nil || len(want) < 6 {
		t.Fatal(want, err)
	}
	got := slices.Clone(r.waitCount(len(want)))
	slices.SortFunc(got, func(a, b arrival) int { return cmp.Compare(a.id, b.id) })
	got = slices.CompactFunc(got, func(a, b arrival) bool { return a.id == b.id })
	for i, w := range want {
		op := w.Change[strings.LastIndex(w.Change, " ")+1:]
		if !strings.HasSuffix(got[i].event, "."+op) || len(got[i].data) == 0 {
			t.Errorf("%s makes the event %s: %s", w.Change, got[i].event, got[i].body)
			continue
		}
		row := exactly(t, []byte(w.Data))
		for leaf, value := range got[i].data {
			expected, ok := row[leaf]
			masked := regexp.MustCompile(`(?i)email|phone|fax|telef|telcel|cpf`).MatchString(leaf) && string(value) != "null"
			switch shown := exactly(t, []byte(`{"v":`+string(value)+`}`))["v"]; {
			case !ok:
				t.Errorf("%s: there is no column %s", got[i].event, leaf)
			case masked && (expected == shown || !bytes.Contains(value, []byte("*"))):
				t.Errorf("%s: %s is not masked: %s", got[i].event, leaf, value)
			case !masked && fmt.Sprint(expected) != fmt.Sprint(shown):
				t.Errorf("%s: %s is %v, and in PostgreSQL %v", got[i].event, leaf, shown, expected)
			}
		}
		if op == "insert" && len(got[i].data) < 2 {
			t.Errorf("%s has %d leaves", got[i].event, len(got[i].data))
		}
	}
}

// exactly is a JSON object with its numbers as they are written.
func exactly(t *testing.T, text []byte) map[string]any {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var out map[string]any
	if err := d.Decode(&out); err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return out
}
