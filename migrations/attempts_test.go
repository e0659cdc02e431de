package migrations_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/migrations"
)

// TestLogKeepsItsDays: 00027 leaves the partitions of the log as they are, with their rows and indexes; they are written to as before. A
// partition that is created after it has the shorter indexes alone.
func TestLogKeepsItsDays(t *testing.T) {
	t.Parallel()
	dsn, run := appliedTo(t, 26)
	first := time.Date(2026, 3, 14, 0, 0, 0, 0, time.UTC)
	day := func(n int) time.Time { return first.AddDate(0, 0, n) }
	create := func(n int) { // as internal/state does
		t.Helper()
		name := "gancho.attempts_p" + day(n).Format("20060102")
		run(fmt.Sprintf(`create table %[1]s (like gancho.attempts including all);
			alter table gancho.attempts attach partition %[1]s for values from ('%[2]s') to ('%[3]s')`, name, day(n).Format(time.RFC3339), day(n+1).Format(time.RFC3339)))
	}
	write := func(n, hour int) {
		t.Helper()
		run(fmt.Sprintf(`insert into gancho.attempts (time, endpoint, entry, number, webhook_id, event, tenant, key, committed, outcome, class, status, error, micros, replay)
			values ('%s', 'crm', '1-1', 1, 'x', 'e', '', '', now(), 'delivered', 'ok', 200, '', 1, false)`, day(n).Add(time.Duration(hour)*time.Hour).Format(time.RFC3339)))
	}
	const indexed = `select coalesce(string_agg(substring(pg_get_indexdef(i.indexrelid) from '\(.*'), ' ' order by pg_get_indexdef(i.indexrelid)) , '') from pg_index i
		where i.indrelid = 'gancho.attempts_p%s'::regclass and i.indisvalid and pg_get_indexdef(i.indexrelid) ~ '\((endpoint|event), "time"'`
	indexes := func(n int) string { return query[string](t, dsn, fmt.Sprintf(indexed, day(n).Format("20060102"))) }
	create(0)
	create(1)
	write(0, 23)
	write(1, 0)
	bounds := func() string {
		return query[string](t, dsn, `select string_agg(relname || ' ' || pg_get_expr(relpartbound, oid), ' ' order by relname) from pg_class where relname like 'attempts_p________' and relispartition`)
	}
	before, within := indexes(0), bounds()
	run(`set timezone = 'America/Sao_Paulo'`)
	if _, err := migrations.Apply(t.Context(), dsn); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(within, bounds()); diff != "" {
		t.Errorf("partitions (-before +after):\n%s", diff)
	}
	create(2)
	for n := range 3 {
		write(n, 12)
	}
	const long, short = `(endpoint, "time", entry, number) (event, "time", endpoint, entry, number)`, `(endpoint, "time") (event, "time", endpoint)`
	for n, want := range []string{long, long, short} {
		if got := indexes(n); got != want {
			t.Errorf("day %d has %s, want %s", n, got, want)
		}
	}
	if before != long {
		t.Errorf("before there were %s", before)
	}
	if n := query[int](t, dsn, `select count(*)::int from gancho.attempts`); n != 5 {
		t.Errorf("%d rows, want 5", n)
	}
	// All indexes but the two are the parent's, so that whatever is done to those is done to these.
	const attached = `select count(*)::int from pg_index i join pg_inherits h on h.inhrelid = i.indexrelid where i.indrelid = 'gancho.attempts_p%s'::regclass`
	for n, want := range []int{7, 7, 9} {
		if got := query[int](t, dsn, fmt.Sprintf(attached, day(n).Format("20060102"))); got != want {
			t.Errorf("%d indexes of day %d are attached, want %d", got, n, want)
		}
	}
	run(`drop table gancho.attempts_p` + first.Format("20060102"))
}
