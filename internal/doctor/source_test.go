package doctor_test

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/doctor"
	"gancho/internal/testservers"
)

// The parts that are in order say so, by a role with the least privileges that a bridge
// runs with, and nothing is changed by looking.
func TestLeastPrivilege(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table clientes (id int primary key, nome text)", "create publication gancho for table clientes")
	o := options(t, dsn)
	role := o.Source.Slot + "_role"
	admin := connect(t, dsn)
	exec(t, admin, fmt.Sprintf("create role %s login replication password 'x'", role), fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", o.Source.Slot))
	t.Cleanup(func() {
		c, err := pgx.Connect(context.Background(), dsn)
		if err != nil {
			return
		}
		_, _ = c.Exec(context.Background(), "drop role "+role)
		_ = c.Close(context.Background())
	})
	o.Source.DSN = asRole(dsn, role)
	o.Check = func(context.Context, bool) ([]cdc.Finding, []cdc.TableNeed) {
		return nil, []cdc.TableNeed{{Schema: "public", Name: "clientes", Update: true}}
	}
	before := slotOf(t, o)
	r := doctor.Run(t.Context(), o)
	for _, id := range []string{"source.reachable", "source.pooler", "server.wal_level", "server.slots", "server.senders", "server.clock", "role.replication", "server.wal_sender_timeout", "identity.cost", "publication.unused", "slot.catalog_xmin", "slot.unconfirmed", "rules.valid", "application.statements", "server.standby"} {
		want(t, &r, id, cdc.SeverityOK)
	}
	want(t, &r, "role.statistics", cdc.SeverityNote, "GRANT pg_read_all_stats TO "+role+";")
	want(t, &r, "server.max_slot_wal_keep_size", cdc.SeverityWarning, "fills the disk", "of WAL a day", "ALTER SYSTEM SET max_slot_wal_keep_size")
	want(t, &r, "slot.reader", cdc.SeverityWarning, "read by no process", "start gancho run")
	want(t, &r, "slot.forecast", cdc.SeveritySkipped)
	if unread := found(&r, "source.unread"); len(unread) > 0 {
		t.Error(unread[0].Title)
	}
	if diff := cmp.Diff(before, slotOf(t, o)); diff != "" {
		t.Errorf("the slot was changed:\n%s", diff)
	}
}

func asRole(dsn, role string) string {
	_, rest, _ := strings.Cut(dsn, "@")
	if rest == "" {
		_, rest, _ = strings.Cut(dsn, "://")
	}
	return "postgres://" + role + ":x@" + rest
}

func slotOf(t *testing.T, o doctor.Options) (text string) {
	t.Helper()
	conn := connect(t, pg.DSN("postgres"))
	if err := conn.QueryRow(t.Context(), "select s.slot_name || coalesce(s.confirmed_flush_lsn::text, '') || s.active from pg_replication_slots s where slot_name = $1", o.Source.Slot).Scan(&text); err != nil {
		t.Fatal(err)
	}
	return text
}

// A transaction that has written something and does not end holds the slot back: it is
// named with its process, its age and its statement without the row's data, and by a role
// that may not see these, with its process.
func TestHolder(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table clientes (id int primary key, nome text)")
	o := options(t, dsn)
	admin := connect(t, dsn)
	exec(t, admin, fmt.Sprintf("select pg_create_logical_replication_slot('%s', 'pgoutput')", o.Source.Slot), "create publication gancho")
	old := connect(t, dsn+"&application_name=erp")
	exec(t, old, "begin", "insert into clientes values (4711, 'Fulano de Tal')")
	// The slot's horizon follows the running transactions that the WAL tells of.
	advance := fmt.Sprintf("select pg_replication_slot_advance('%s', pg_current_wal_lsn())", o.Source.Slot)
	held := func() int64 {
		var n int64
		if err := admin.QueryRow(t.Context(), "select pg_wal_lsn_diff(confirmed_flush_lsn, restart_lsn)::int8 from pg_replication_slots where slot_name = $1", o.Source.Slot).Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	for range 12 {
		exec(t, admin, "checkpoint", "select pg_logical_emit_message(false, 'x', 'x')", "select pg_switch_wal()", advance)
		if held() > 80<<20 {
			break
		}
	}
	r := doctor.Run(t.Context(), o)
	pid := old.PgConn().PID()
	f := want(t, &r, "slot.held", cdc.SeverityWarning, fmt.Sprintf("pid %d", pid), "erp", "holds restart_lsn and catalog_xmin", fmt.Sprintf("SELECT pg_terminate_backend(%d);", pid), "insert into clientes values (?, ?)")
	if strings.Contains(f.Title, "Fulano") || strings.Contains(f.Title, "4711") {
		t.Errorf("row data: %s", f.Title)
	}
	exec(t, old, "rollback")
	queuetest.Eventually(t, "a slot that nobody holds back, other tests' transactions included", func() bool {
		r = doctor.Run(t.Context(), o)
		all := found(&r, "slot.held")
		return len(all) == 1 && all[0].Severity == cdc.SeverityOK
	})
}

// REPLICA IDENTITY FULL says what it costs, from the statistics.
func TestIdentityCost(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table extratos (id int primary key, texto text)", "alter table extratos replica identity full", "create table outra (id int primary key)",
		"insert into extratos select i, repeat('x', 100) from generate_series(1, 1000) i", "update extratos set texto = texto || 'y'", "analyze extratos", "create publication gancho for table extratos, outra")
	o := options(t, dsn)
	o.Check = func(context.Context, bool) ([]cdc.Finding, []cdc.TableNeed) {
		return nil, []cdc.TableNeed{{Schema: "public", Name: "extratos", Update: true}}
	}
	admin := connect(t, dsn)
	exec(t, admin, "select pg_stat_force_next_flush()")
	r := doctor.Run(t.Context(), o)
	f := want(t, &r, "identity.cost", cdc.SeverityNote, "rows updated or deleted a day (1000 in", "bytes of an old row")
	if f.Table != "public.extratos" {
		t.Errorf("the table is %q", f.Table)
	}
	want(t, &r, "publication.unused", cdc.SeverityNote, "list 1 tables that no rule is about, such as public.outra")
}

// Rows that may be too large for the server under REPLICA IDENTITY FULL are told, of a partition, too; others are not.
func TestLargeRows(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "", "create table arquivos (id int primary key, corpo text, anexo text) partition by range (id)",
		"create table arquivos_1 partition of arquivos default", "alter table arquivos_1 alter corpo set storage external, alter anexo set storage external",
		"create table notas (id int primary key, corpo text, anexo text)", "create table fotos (id int primary key, foto text)", "alter table fotos alter foto set storage external",
		"alter table arquivos replica identity full", "alter table arquivos_1 replica identity full", "alter table notas replica identity full", "alter table fotos replica identity full",
		"insert into arquivos values (1, repeat('x', 18000000), repeat('y', 18000000))", "insert into notas select i, 'a', 'b' from generate_series(1, 100) i", "insert into fotos values (1, repeat('x', 36000000))",
		"analyze arquivos", "analyze notas", "analyze fotos")
	o := options(t, dsn)
	o.Check = func(context.Context, bool) ([]cdc.Finding, []cdc.TableNeed) {
		return nil, []cdc.TableNeed{{Schema: "public", Name: "arquivos", Update: true}, {Schema: "public", Name: "notas", Update: true}, {Schema: "public", Name: "fotos", Update: true}}
	}
	r := doctor.Run(t.Context(), o)
	f := want(t, &r, "identity.gigabyte", cdc.SeverityWarning, "public.arquivos_1 has REPLICA IDENTITY FULL, and its rows have", "MB of large values on average", "REPLICA IDENTITY DEFAULT")
	if all := found(&r, "identity.gigabyte"); len(all) != 1 || f.Table != "public.arquivos_1" { // a single column has no more than 1 GB
		t.Errorf("found %+v", all)
	}
	exec(t, connect(t, dsn), "alter table arquivos_1 replica identity default")
	r = doctor.Run(t.Context(), o)
	if all := found(&r, "identity.gigabyte"); len(all) != 0 {
		t.Errorf("under another identity: %+v", all)
	}
}

// A source that cannot be reached is one problem; what depends on it is skipped, and the
// check runs without it.
func TestUnreachableSource(t *testing.T) {
	t.Parallel()
	online := true
	o := doctor.Options{Source: cdc.Options{DSN: "postgres://u:hunter2@127.0.0.1:1/x", Slot: "s", Publication: "p"}, Check: func(_ context.Context, on bool) ([]cdc.Finding, []cdc.TableNeed) {
		online = on
		return nil, nil
	}}
	r := doctor.Run(t.Context(), o)
	f := want(t, &r, "source.unreachable", cdc.SeverityProblem, "connection refused", "check source.dsn")
	if strings.Contains(f.Title, "hunter2") || online {
		t.Errorf("online is %v: %s", online, f.Title)
	}
	for _, id := range []string{"server.settings", "slot.reader", "identity.cost", "redis.reachable", "state.reachable", "endpoint.reachable"} {
		want(t, &r, id, cdc.SeveritySkipped)
	}
}

// A pooler is noticed, and nothing stays in its sessions.
func TestPooler(t *testing.T) {
	t.Parallel()
	dsn := pg.Database(t, "")
	o := options(t, testservers.StartPooler(t, dsn).DSN())
	r := doctor.Run(t.Context(), o)
	want(t, &r, "source.pooler", cdc.SeverityWarning, "another process answers")
	if unread := found(&r, "source.unread"); len(unread) > 0 {
		t.Error(unread[0].Title)
	}
}

// A snoozed finding is shown as such and no problem; when it is over, it is back.
func TestSnooze(t *testing.T) {
	t.Parallel()
	day := time.Now().UTC().Truncate(24 * time.Hour)
	for name, c := range map[string]struct {
		until   time.Time
		snoozed bool
	}{"put off": {day.AddDate(0, 0, 1), true}, "over": {day, false}} {
		o := doctor.Options{
			Check: func(context.Context, bool) ([]cdc.Finding, []cdc.TableNeed) {
				return []cdc.Finding{{ID: "rule.mistake", Severity: cdc.SeverityProblem, Title: "t"}}, nil
			},
			Snooze: []doctor.Snooze{{ID: "rule.mistake", Until: c.until, Reason: "a tabela muda em janeiro"}},
		}
		r := doctor.Run(t.Context(), o)
		f := want(t, &r, "rule.mistake", cdc.SeverityProblem)
		if (f.Snoozed != nil) != c.snoozed || f.Problem() == c.snoozed || r.Count(cdc.SeverityProblem) == 1 == c.snoozed {
			t.Errorf("%s: %+v", name, f)
		}
		if !c.snoozed && !strings.Contains(f.Why, "it was snoozed until") {
			t.Errorf("%s: %s", name, f.Why)
		}
	}
}

// The page explains every id of doctor's own, and names none that does not exist.
func TestOperationsPage(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	_, table, _ := strings.Cut(string(page), "## What doctor looks at")
	table, _, _ = strings.Cut(table, "\n## ")
	var patterns []string
	for _, row := range regexp.MustCompile("(?m)^\\| (`[^|]*) \\|").FindAllStringSubmatch(table, -1) {
		for _, id := range strings.Split(row[1], ", ") {
			patterns = append(patterns, strings.Trim(id, "`"))
		}
	}
	explains := func(pattern, id string) bool { ok, err := path.Match(pattern, id); return ok && err == nil }
	ofRules := []string{"expression.*", "identity.children", "inheritance.*", "key.*", "lookup.*", "config.warning", "source.lookup_dsn", "source.timezone", "identity.large", "identity.deleted", "source.not_ready", "server.settings"}
	for _, id := range doctor.IDs() {
		if !slices.ContainsFunc(slices.Concat(patterns, ofRules), func(p string) bool { return explains(p, id) }) {
			t.Errorf("docs/operations.md does not explain %s", id)
		}
	}
	for _, p := range patterns {
		if !slices.ContainsFunc(doctor.IDs(), func(id string) bool { return explains(p, id) }) {
			t.Errorf("docs/operations.md explains %s, which there is not", p)
		}
	}
	if !slices.IsSorted(doctor.IDs()) {
		t.Error("the ids are not sorted")
	}
}

// Every id that is written in the source is in the list, so that --only knows it.
func TestIDs(t *testing.T) {
	t.Parallel()
	names := regexp.MustCompile(`"((?:application|catalogue|config|endpoint|expression|identity|inheritance|key|lookup|privilege|publication|redis|role|rows|rule|rules|secret|server|slot|source|state|table)\.[a-z_]+(?:\.[a-z_]+)?)"`)
	const keys = "source.dsn source.slot source.publication source.encoding endpoints queue" // of the configuration
	met := 0
	for _, pattern := range []string{"*.go", "../../cdc/*.go", "../../mapping/*.go", "../../cmd/gancho/check.go"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			t.Fatal(err)
		}
		for _, file := range files {
			if strings.HasSuffix(file, "_test.go") || strings.HasSuffix(file, "ids.go") {
				continue
			}
			text, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			for _, m := range names.FindAllStringSubmatch(string(text), -1) {
				met++
				if !slices.Contains(doctor.IDs(), m[1]) && !strings.Contains(keys, m[1]) {
					t.Errorf("%s: %s is not in the list", file, m[1])
				}
			}
		}
	}
	if met < 100 {
		t.Errorf("only %d ids were found", met)
	}
}

// TestOwnersOfHazardsAreOneQuestion: however many tables a publication makes refuse statements, who
// has to run what is asked once.
func TestOwnersOfHazardsAreOneQuestion(t *testing.T) {
	t.Parallel()
	const many = 60
	dsn := pg.Database(t, "", fmt.Sprintf("do $$ begin for i in 1..%d loop execute format('create table t%%s (id int)', i); end loop; end $$", many), "create publication gancho for all tables")
	r := doctor.Run(t.Context(), options(t, dsn))
	refused := found(&r, "application.refused.identity")
	if len(refused) != many || slices.ContainsFunc(refused, func(f doctor.Finding) bool { return len(f.Statements) == 0 || f.Statements[0].Who == (cdc.Who{}) }) {
		t.Fatalf("%d findings: %+v", len(refused), refused)
	}
	admin := connect(t, dsn)
	var transactions int
	queuetest.Eventually(t, "the sessions of doctor have ended", func() bool {
		var sessions int
		err := admin.QueryRow(t.Context(), `select (select count(*) from pg_stat_activity where datname = current_database() and backend_type = 'client backend' and pid <> pg_backend_pid()), xact_commit
			from pg_stat_database where datname = current_database()`).Scan(&sessions, &transactions)
		return err == nil && sessions == 0
	})
	if transactions >= many {
		t.Errorf("doctor has taken %d transactions for %d tables", transactions, many)
	}
}
