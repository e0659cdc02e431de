package main_test

import (
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/cdc"
	"gancho/internal/doctor"
	"gancho/internal/testservers"
)

var updateDoctor = flag.Bool("update-doctor", false, "rewrite testdata/doctor")

// examined is the report of gancho doctor --json on a world, and its exit code.
func (w *world) examined(args ...string) (int, doctor.Report) {
	w.t.Helper()
	code, stdout, stderr := command(w.t, append([]string{"doctor", "--json", "--config", w.write()}, args...)...)
	var r doctor.Report
	if err := json.Unmarshal([]byte(stdout), &r); err != nil {
		w.t.Fatalf("doctor exits %d and prints no report: %v\n%s%s", code, err, stdout, stderr)
	}
	return code, r
}

func findingOf(r *doctor.Report, id string) *doctor.Finding {
	i := slices.IndexFunc(r.Findings, func(f doctor.Finding) bool { return f.ID == id })
	if i < 0 {
		return nil
	}
	return &r.Findings[i]
}

// TestDoctorSession: the help, what is printed before and while a bridge runs, wrong
// input; the texts are in testdata/doctor.
func TestDoctorSession(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, nome text)")
	w.rules = "rules:\n  - {event: cliente.novo, table: clientes, on: insert, columns: [id, nome]}\n"
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	w.endpoint("erp", "http://127.0.0.1:1")
	w.extra = "doctor:\n  snooze:\n    - {id: redis.replicas, until: 2999-01-01, reason: a máquina chega em janeiro}\n    - {id: redis.memory, until: 2001-01-01, reason: era só até então}\n"
	var session strings.Builder
	run := func(code int, args ...string) {
		got, stdout, stderr := command(t, append([]string{"doctor"}, args...)...)
		if got != code {
			t.Errorf("%v exits %d, not %d:\n%s%s", args, got, code, stdout, stderr)
		}
		fmt.Fprintf(&session, "$ gancho doctor %s\n%s%s(exit %d)\n\n", strings.Join(args, " "), stdout, stderr, got)
	}
	config := w.write()
	run(0, "--help")
	run(3, "--config", config)
	portuguese := &portugueseSession{t: t}
	portuguese.run(3, "doctor", "--config", config)
	portuguese.run(0, "check", "--config", config)
	b := w.run()
	run(3, "--config", config, "--only", "slot.reader,endpoint.*,redis.*,state.*")
	run(0, "--config", config, "--only", "rules.valid", "--json")
	run(2, "--config", config, "--only", "redis[")
	run(2, "--config", config, "--only", "redes.*")
	portuguese.run(0, "status", "--config", config)
	b.stop()
	text := session.String()
	replaced := map[string]string{
		regexp.QuoteMeta(config): "gancho.yaml", regexp.QuoteMeta(w.slot()): "SLOT", `127\.0\.0\.1:\d\d+`: "RECEIVER", `pid \d+`: "pid PID",
		`\d+(\.\d+)? [kMGT]?B`: "SIZE", `redis \d[\d.]*`: "redis VERSION", `PostgreSQL \d[\d.]*`: "PostgreSQL VERSION", `\d+ transactions old`: "N transactions old",
		`at \d{4}-\d\d-\d\d \d\d:\d\d`: "at TIME", `"time": "[^"]*"`: `"time": "TIME"`, `\d+ of \d+ `: "N of M ", `since (the statistics began|the last checkpoint)`: "since THEN", `of the last \d+ \w+ only`: "of the last SPAN only", `\d+GB`: "NGB",
		`(?m)^ok       server\.idle_replication_slot_timeout.*\n`: "", `\d+ ok, `: "N ok, ", `, failover => true`: "", // 18 has one more; the slot's copies, from 17 on
		`só durante \d+ \w+, desde o (início das estatísticas|último checkpoint)`: "só durante SPAN, desde THEN", `\d+ de \d+ `: "N de M ",
	}
	for pattern, with := range replaced {
		text = regexp.MustCompile(pattern).ReplaceAllString(text, with)
	}
	portuguese.compare("doctor", replaced)
	const file = "testdata/doctor/session.golden"
	if *updateDoctor {
		if err := os.MkdirAll("testdata/doctor", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if diff := cmp.Diff(mustRead(t, file), text); diff != "" {
		t.Errorf("(-want +got; -update-doctor rewrites it)\n%s", diff)
	}
}

// TestDoctorManyTables: many tables are looked at in one run; how long it took is logged.
func TestDoctorManyTables(t *testing.T) {
	t.Parallel()
	var rules strings.Builder
	rules.WriteString("rules:\n")
	for i := range 60 {
		fmt.Fprintf(&rules, "  - {event: e%d, table: t%d, on: [insert, update], columns: [id]}\n", i, i)
	}
	w := newWorld(t, testservers.RedisOptions{}, "do $$ begin for i in 0..59 loop execute format('create table t%s (id int primary key, x text)', i); end loop; end $$")
	w.rules = rules.String()
	start := time.Now()
	_, report := w.examined()
	took := time.Since(start)
	t.Logf("60 tables: %s", took)
	if f := findingOf(&report, "identity.cost"); f == nil || !strings.Contains(f.Title, "60 of the rules' 60 tables") {
		t.Errorf("the identities: %+v", f)
	}
}

// TestDoctorState: a state database that cannot be reached, that lacks its schema, whose rows
// another key has encrypted, and the one that is in order.
func TestDoctorState(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newSession(t)
	s.ok("endpoints", "add", "crm", "--url", "https://crm.invalid/ganchos")
	bare := newWorldWithout(t, pg, "")
	for name, c := range map[string]struct {
		state string
		id    string
		what  cdc.Severity
		words string
	}{
		"unreachable":    {"  key: " + stateKey + "\n  dsn: postgres://gancho:hunter2@127.0.0.1:1/estado", "state.reachable", cdc.SeverityProblem, "connection refused"},
		"without schema": {"  key: " + stateKey + "\n  dsn: " + bare.dsn, "state.schema", cdc.SeverityProblem, "run gancho migrate"},
		"another key":    {"  key: k2:ODEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE=", "state.key", cdc.SeverityProblem, "its stored settings cannot be read"},
		"in order":       {"  key: " + stateKey, "state.key", cdc.SeverityOK, "reads all 1 stored endpoints"},
	} {
		w := *s.world
		w.t, w.extra = t, "state:\n"+c.state
		code, report := w.examined("--only", "state.*")
		f := findingOf(&report, c.id)
		if f == nil || f.Severity != c.what || !strings.Contains(f.Title, c.words) || (code == 3) != (c.what == cdc.SeverityProblem) {
			t.Errorf("%s: exit %d, %+v", name, code, report.Findings)
		} else if strings.Contains(fmt.Sprint(report), "hunter2") {
			t.Errorf("%s: %s", name, f.Title)
		}
	}
}
