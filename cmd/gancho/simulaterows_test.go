package main_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"gancho/internal/testservers"
)

// TestSimulateRows: existing rows, with lookups and expressions of PostgreSQL, and what a
// row alone does not say.
func TestSimulateRows(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newGym(t, pg)
	w.exec(gymChanges)
	r := w.simulated(0, "--table", "alunos", "--rows", "where situacao = 'A'")
	if r.Rows != 1 || r.Rules[0].Events != 1 || r.Rules[1].Events != 1 || r.Rules[0].PerHour != 0 {
		t.Errorf("rows of alunos: %d rows, %v", r.Rows, counts(&r))
	}
	text, _ := w.simulation(0, "--table", "alunos", "--rows", "where true", "--limit", "1")
	for _, want := range []string{"as if by an update; not judged, counted as true:", "when: old.situacao <> 'B'", "it is for delete", "only 1 rows were read, because of --limit", "data%5Bunidade%5D=CENTRO"} {
		if !strings.Contains(text, want) {
			t.Errorf("the text lacks %q:\n%s", want, text)
		}
	}
	visits := w.simulated(3, "--table", "visitas", "--rows", "minutos < 91")
	if visits.Rows != 3 || visits.Rules[0].Events != 1 || visits.Rules[1].Parked != 1 {
		t.Errorf("rows of visitas: %v", counts(&visits))
	}
	for _, c := range []struct {
		code            int
		condition, want string
	}{
		{2, "where minutoz = 1", `column "minutoz" does not exist`},
		{2, "where nome::int > 0", "the server refuses a value (SQLSTATE 22P02)"},
		{2, "where true) ; delete from alunos where (true", "syntax error"},
		{2, "where true order by id", "syntax error"},
		{1, "where nextval('contador') > 0", "read-only transaction"},
	} {
		if _, errs := w.simulation(c.code, "--table", "alunos", "--rows", c.condition); !strings.Contains(errs, c.want) || strings.Contains(errs, "Ana") {
			t.Errorf("%s: %s", c.condition, errs)
		}
	}
	portuguese := &portugueseSession{t: t}
	config := filepath.Join(w.dir, "gancho.yaml")
	portuguese.run(0, "simulate", "--table", "alunos", "--rows", "where true", "--limit", "1", "--config", config)
	portuguese.run(3, "simulate", "--table", "visitas", "--rows", "minutos < 91", "--config", config)
	portuguese.run(2, "simulate", "--table", "alunos", "--rows", "where minutoz = 1", "--config", config)
	portuguese.compare("simulate", map[string]string{regexp.QuoteMeta(w.dir): "DIR", `[0-9a-f]{8}-[0-9]{3}-[0-9a-f-]{35}`: "ID", `\d{4}-\d\d-\d\d[T+ ][^&"\n]*?Z`: "TIME"})
	w.exec("do $$ begin assert (select count(*) = 1 from alunos); end $$")
}

// maxSimulationRSS is how much memory a simulation may have used, in KiB.
const maxSimulationRSS = 160 << 10

// TestSimulateMemory: 200,000 existing rows, and a large live transaction that is compared
// with other rules, take no more memory than a few.
func TestSimulateMemory(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorldWithout(t, ownPostgres(t, nil), "", "create table leituras (id int primary key, sala int, texto text)", "create publication gancho for table leituras",
		"insert into leituras select g, g % 100, repeat('leitura ', 20) from generate_series(1, 200000) g")
	w.queue, w.binary = "redis: redis://127.0.0.1:1", buildCommand(t)
	w.rules = "rules:\n  - {event: leitura.feita, table: leituras, on: [insert, update], collapse: id, columns: [id, sala, texto]}\n"
	w.write()
	if err := os.Mkdir(filepath.Join(w.dir, "other"), 0o700); err != nil {
		t.Fatal(err)
	}
	other := strings.Replace(w.rules, "columns:", "lookup: {um: select count(*) as n from leituras where id = new.sala - 1000}, data: {n: um.n}, columns:", 1)
	if err := os.WriteFile(filepath.Join(w.dir, "other", "rules.yaml"), []byte(other), 0o600); err != nil {
		t.Fatal(err)
	}
	rows := w.start("simulate", "--json", "--table", "leituras", "--rows", "where true", "--limit", "200000")
	peak := rows.peak()
	rows.wait(0)
	if r := rows.report(); r.Rules[0].Events != 200_000 || peak > 64<<10 {
		t.Errorf("200,000 rows: %d events with %d KiB", r.Rules[0].Events, peak)
	}
	live := w.live("--json", "--diff", "other")
	w.exec("update leituras set sala = sala + 1 where id <= 60000")
	w.readAll()
	livePeak := peakRSS(t, live.cmd.Process.Pid)
	r := live.interrupted(3)
	if d := r.Diff[0]; d.Changed != 60_000 || d.Fields["n"] != 60_000 || livePeak > maxSimulationRSS {
		t.Errorf("a transaction of 60,000 rows: %+v with %d KiB", d, livePeak)
	}
	t.Logf("peak RSS: rows %d KiB, live %d KiB", peak, livePeak)
}

// peak is the most memory that the process has had, in KiB, as far as that is known
// before it ends.
func (b *bridge) peak() (kib int) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-b.done:
			return kib
		case <-tick.C:
		}
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", b.cmd.Process.Pid))
		for line := range strings.Lines(string(status)) {
			if _, after, found := strings.Cut(line, "VmHWM:"); found && err == nil {
				_, _ = fmt.Sscanf(after, "%d kB", &kib) // a process that is gone has none
			}
		}
	}
}
