package main_test

import (
	"context"
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/internal/testservers"
)

// publishedCase is a case of cdc/testdata/published.json: tables whose publications were
// made by hand.
type publishedCase struct {
	Since      int
	Statements []string
	Tables     []string
	Also       map[string]bool // other statements, and whether they fail while those on the tables do
}

func publishedCases(t *testing.T) (cases map[string]publishedCase) {
	t.Helper()
	text, err := os.ReadFile("../../cdc/testdata/published.json")
	if err == nil {
		err = json.Unmarshal(text, &cases)
	}
	if err != nil {
		t.Fatal(err)
	}
	return cases
}

// root is the table that the rule of a case is about.
func (c *publishedCase) root() string {
	for _, root := range []string{"s.r", "m", "r", "outra"} {
		if strings.Contains(strings.Join(c.Statements, ";"), "create table "+root+" (") {
			return root
		}
	}
	return "t"
}

// rules are those of the i-th case: of every operation, or such as need old values.
func (c *publishedCase) rules(i int) string {
	what := []string{"on: [insert, update, delete]", "on: update, when: old.q <> new.q", "on: delete, when: old.q > 0"}[i%3]
	return "rules:\n  - {event: a, table: " + c.root() + ", " + what + ", key: '1', columns: [id]}\n"
}

// TestBreakingCombinations: in each situation in which publications made by hand let
// statements of the application fail, they are shown failing, doctor reports those and no
// others, and a plan that is applied lets none fail that worked before: either it leaves
// none failing, or it refuses. Where nothing had failed, the way back leads to the same
// catalogue.
func TestBreakingCombinations(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newPlanWorld(t, ownPostgres(t, nil), "")
	w.queue = "redis: redis://127.0.0.1:1/0"
	version := 0
	if err := w.conn.QueryRow(t.Context(), "select current_setting('server_version_num')::int").Scan(&version); err != nil {
		t.Fatal(err)
	}
	cases := publishedCases(t)
	type numbered struct { // its rules depend on the number
		i    int
		name string
	}
	var all []numbered
	for i, name := range slices.Sorted(maps.Keys(cases)) {
		all = append(all, numbered{i, name})
	}
	outcomes := map[int]int{} // how often plan ended with each exit code
	reported, due, ran := 0, 0, 0
	for _, n := range all {
		c := cases[n.name]
		if version < c.Since {
			continue
		}
		due++
		t.Run(n.name, func(t *testing.T) {
			w.t = t
			ran++
			code, refused := w.breaking(&c, n.i)
			outcomes[code]++
			if refused {
				reported++
			}
		})
		w.t = t
		w.reset()
	}
	t.Logf("exit codes of plan: %v; statements fail in %d cases", outcomes, reported)
	if ran == due && (outcomes[0] < 10 || outcomes[1] < 2 || reported < 20) {
		t.Errorf("exit codes of plan: %v; statements fail in %d cases", outcomes, reported)
	}
}

// breaking goes through the i-th case. It returns the exit code of plan --apply, and
// whether statements had failed before.
func (w *planWorld) breaking(c *publishedCase, i int) (code int, refused bool) {
	t := w.t
	for _, statement := range c.Statements {
		w.exec(statement)
	}
	tables := c.Tables
	if tables == nil {
		tables = []string{"t"}
	}
	for _, table := range tables {
		w.exec("insert into " + table + " (id, q) values (case '" + table + "' when 'b' then 20 else 1 end, 1)")
	}
	w.rules = c.rules(i)
	w.path = w.write()
	before, catalogue := failing(t, w.conn, tables), w.catalogue()
	c.others(t, w.conn, len(before) > 0)
	w.diagnosed(before)
	var stdout, stderr string
	for range 3 { // of an identity that goes first another statement may follow
		if code, stdout, stderr = command(t, "plan", "--config", w.path, "--apply", "--yes"); !strings.Contains(stderr, "came to light by that") {
			break
		}
	}
	after := failing(t, w.conn, tables)
	for statement := range after {
		if !before[statement] {
			t.Errorf("%s fails since (exit %d):\n%s%s", statement, code, stdout, stderr)
		}
	}
	c.others(t, w.conn, len(after) > 0)
	switch code {
	case 0:
		if len(after) > 0 {
			t.Errorf("the plan leaves statements failing:\n%s", stdout)
		}
	case 1:
		if !strings.Contains(stderr, "that no statement ends") {
			t.Errorf("exit 1:\n%s%s", stdout, stderr)
		}
	default:
		if !strings.Contains(stderr, "gancho does not run it: locks the table for as long as it takes to write it again") {
			t.Errorf("exit %d:\n%s%s", code, stdout, stderr)
		}
	}
	if len(before) == 0 { // else the way back would let them fail again
		w.plan(0, "--undo", "--yes")
		if diff := cmp.Diff(catalogue, w.catalogue()); diff != "" {
			t.Errorf("the catalogue after the way back (-before +after):\n%s", diff)
		}
	}
	return code, len(before) > 0
}

// others tries the other statements of a case.
func (c *publishedCase) others(t *testing.T, conn *pgx.Conn, refusing bool) {
	t.Helper()
	for statement, refused := range c.Also {
		if is := refusedNow(t, conn, statement); is != (refused && refusing) {
			t.Errorf("%s: refused %v, while statements on the tables are: %v", statement, is, refusing)
		}
	}
}

// diagnosed is that doctor reports exactly the statements that fail, and ends with 3 then.
func (w *planWorld) diagnosed(failing map[string]bool) {
	t := w.t
	t.Helper()
	code, report := w.examined("--only", "application.*")
	said := map[string]bool{}
	for i := range report.Findings {
		f := &report.Findings[i]
		m := regexp.MustCompile(`refuses the application's ([A-Z and]+) of (?:public\.)?([a-z_0-9.]+), because`).FindStringSubmatch(f.Title)
		if m == nil {
			continue
		}
		if f.Severity != cdc.SeverityProblem || f.Remedy == "" && len(f.Statements) == 0 {
			t.Errorf("no problem, or nothing to do about it: %+v", f)
		}
		for _, verb := range strings.Split(m[1], " and ") {
			said[verb+" "+m[2]] = true
		}
	}
	if want := map[bool]int{false: 0, true: 3}[len(failing) > 0]; code != want {
		t.Errorf("doctor exits %d, not %d: %+v", code, want, report.Findings)
	}
	if diff := cmp.Diff(failing, said); diff != "" {
		t.Errorf("statements that fail (-), and that doctor says (+):\n%s", diff)
	}
}

// reset takes a case away.
func (w *planWorld) reset() {
	w.t.Helper()
	w.exec("select pg_drop_replication_slot(slot_name) from pg_replication_slots where slot_name = '" + w.slot() + "'")
	if err := os.RemoveAll(filepath.Join(w.dir, "gancho.plan.jsonl")); err != nil {
		w.t.Fatal(err)
	}
	var publications *string
	if err := w.conn.QueryRow(context.Background(), "select string_agg(format('drop publication %I', pubname), '; ') from pg_publication").Scan(&publications); err != nil {
		w.t.Fatal(err)
	}
	if publications != nil {
		w.exec(*publications)
	}
	w.exec("drop schema if exists s cascade; drop schema public cascade; create schema public")
}

// failing tries the application's statements on the tables, and leaves the rows as they were.
func failing(t *testing.T, conn *pgx.Conn, tables []string) map[string]bool {
	t.Helper()
	refused := map[string]bool{}
	for _, table := range tables {
		for verb, statement := range map[string]string{"UPDATE ": "update only " + table + " set q = q + 1", "DELETE ": "delete from only " + table} {
			if refusedNow(t, conn, statement) {
				refused[verb+table] = true
			}
		}
	}
	return refused
}

// refusedNow tries a statement, and takes it back.
func refusedNow(t *testing.T, conn *pgx.Conn, statement string) bool {
	t.Helper()
	_, err := conn.Exec(context.Background(), "begin; "+statement)
	code := cdc.SQLState(err)
	if err != nil && code != "42P10" && code != "55000" {
		t.Fatalf("%s: %v", statement, err)
	}
	if _, err := conn.Exec(context.Background(), "rollback"); err != nil {
		t.Fatal(err)
	}
	return err != nil
}
