package main_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

var updateSessions = flag.Bool("update-sessions", false, "rewrite testdata/sessions")

// slotSession are the commands of the slot's life beside one bridge, each in both languages.
type slotSession struct {
	*session
	english    strings.Builder
	portuguese *portugueseSession
}

func (s *slotSession) both(code int, args ...string) {
	s.t.Helper()
	s.once(code, args...)
	s.inPortuguese(code, args...)
}

func (s *slotSession) once(code int, args ...string) {
	s.t.Helper()
	got, stdout, stderr := s.gancho(args...)
	if got != code {
		s.t.Errorf("gancho %s: exit %d, want %d\n%s%s", strings.Join(args, " "), got, code, stdout, stderr)
	}
	_, _ = fmt.Fprintf(&s.english, "$ gancho %s\n%s%s(exit %d)\n\n", strings.Join(args, " "), stdout, stderr, got)
}

func (s *slotSession) inPortuguese(code int, args ...string) {
	s.t.Helper()
	s.portuguese.run(code, append(args, "--config", s.path)...)
}

// differing is what differs from run to run, in the order in which it is replaced.
func (s *slotSession) differing() [][2]string {
	return [][2]string{
		{` --config ` + regexp.QuoteMeta(s.path), ""}, {regexp.QuoteMeta(s.path), "gancho.yaml"}, {regexp.QuoteMeta(s.dir), "DIR"}, {regexp.QuoteMeta(s.slot()), "SLOT"},
		{`127\.0\.0\.1:\d+`, "RECEIVER"}, {`[0-9a-f]{8}-\d{3}-[0-9a-f]{16}-[0-9a-f]{12}-[0-9a-f]{4}(-c[0-9a-f-]+)?`, "WEBHOOK-ID"}, {`\b[0-9A-F]+/[0-9A-F]+\b`, "LSN"},
		{`\d{4}-\d\d-\d\d[ T]\d\d:\d\d(:\d\d(\.\d+)?)?( ?(Z|UTC|[+-]\d\d(:?\d\d)?))?`, "TIME"}, {`\d\d/\d\d/\d{4},? \d\d:\d\d(:\d\d)?`, "TIME"}, {`\b\d\d:\d\d:\d\d\b`, "TIME"},
		{`system(a)? \d{10,}`, "system$1 SYSTEM"}, {`\d+([.,]\d+)? [kMGT]?B\b`, "SIZE"}, {`\d+([.,]\d+)? %`, "N %"}, {`\b\d+([.,]\d+)?(ms|s|m|h)( \d+(ms|s|m|h))*\b`, "SPAN"},
		{`\b\d+([.,]\d+)?/(s|min)\b`, "RATE"}, {` {2,}`, "  "},
		{`(evento\.criado  \d+  \d+  )\d+[.,]\d`, "${1}N.N"}, {`(ativo|active)(  -  -  -  -  -  )\d+`, "${1}${2}N"}, {`(RECEIVER/readyz|pid \d+)`, "THERE"},
	}
}

func (s *slotSession) compare(name string) {
	s.t.Helper()
	for file, text := range map[string]string{"testdata/sessions/" + name + ".golden": s.english.String(), "testdata/portuguese/" + name + ".golden": s.portuguese.String()} {
		for _, r := range s.differing() {
			text = regexp.MustCompile(r[0]).ReplaceAllString(text, r[1])
		}
		if *updateSessions {
			if err := os.MkdirAll("testdata/sessions", 0o755); err != nil {
				s.t.Fatal(err)
			}
			if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
				s.t.Fatal(err)
			}
		}
		if diff := cmp.Diff(mustRead(s.t, file), text); diff != "" {
			s.t.Errorf("(-want +got; -update-sessions rewrites it)\n%s", diff)
		}
	}
}

// TestSlotSessions: what backfill, replay, why, status, prove and recover print of a small day's work, in both languages; the
// texts are in testdata/sessions and testdata/portuguese. Of a command that changes something only the first is real.
func TestSlotSessions(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := &slotSession{session: newSession(t, "keep_events: 7d", "keep_changes: true"), portuguese: &portugueseSession{t: t}}
	s.rules = strings.Replace(loadRules, "data: {id", "changed_at: criado_em\n    data: {id", 1)
	s.exec("alter table eventos add criado_em timestamptz not null default '2026-01-01'")
	r := newReceiver(t, nil)
	s.endpoints = nil
	s.endpoint("crm", r.url())
	s.endpoint("parado", r.url(), "state: paused")
	s.path = s.write()
	b := s.run()
	s.exec("insert into eventos (cliente_id, seq) select 1, i from generate_series(1, 3) i")
	r.waitCount(3)
	settled := func() {
		t.Helper()
		queuetest.Eventually(t, "what was delivered to be stored and counted", func() bool {
			code, stdout, _ := s.gancho("prove", "--from", "1h", "--json")
			return code == 0 && strings.Contains(stdout, `"waiting": `) && s.redisClient().XLen(t.Context(), "gancho:{crm}:log").Val() == 0
		})
	}

	s.both(0, "backfill", "--table", "eventos", "--dry-run")
	s.both(2, "backfill")
	s.both(2, "backfill", "--table", "evento")
	s.once(0, "backfill", "--table", "eventos", "--endpoint", "crm")
	r.waitCount(6)
	s.jobIn(1, state.Done)
	s.both(0, "backfill", "list")
	s.both(1, "backfill", "pause", "1")
	s.both(0, "replay", "--from", "1h", "--dry-run")
	s.both(2, "replay", "--from", "1h", "--endpoint", "ninguem")
	s.once(0, "replay", "--from", "1h", "--endpoint", "crm", "--wait")
	other := filepath.Join(s.dir, "outras")
	if err := os.Mkdir(other, 0o750); err != nil {
		t.Fatal(err)
	}
	s.file("outras/rules.yaml", strings.Replace(s.rules, "seq: seq", "seq: seq + 1", 1))
	s.both(3, "replay", "--from", "1h", "--rules", other, "--dry-run")
	s.both(2, "replay", "--from", "1h", "--rules", other)
	r.waitFor(queuetest.Patience, "the events again", func(all []arrival) bool { return len(all) >= 12 })
	settled()
	at := "http://" + b.listening()
	s.both(0, "why", "--table", "eventos", "--key", "1", "--url", at)
	s.both(0, "why", "--table", "eventos", "--key", "4711", "--url", at)
	s.both(2, "why", "--table", "evento", "--key", "1", "--url", at)
	s.both(0, "prove", "--from", "1h")
	s.both(2, "prove", "--from", "ontem")
	s.both(0, "recover", "--dry-run")
	s.both(0, "recover", "--list")
	s.both(1, "recover", "--skip", "0/1", "--yes")
	b.stop()
	s.both(3, "status")

	s.dropSlot()
	s.both(3, "recover", "--dry-run")
	s.once(0, "recover", "--yes")
	b = s.run() // which would not continue, had the slot not been recovered
	b.stop()
	s.dropSlot()
	s.inPortuguese(0, "recover", "--yes")
	s.both(0, "recover", "--list")
	s.compare("slot")
}

// TestReplayTo: a replay to all endpoints leaves out those that it cannot be sent to, and says why; to one that is named it is
// refused, and nothing is sent.
func TestReplayTo(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, []string{"keep_events: 7d"}, "create table alunos (id int primary key, nome text)")
	s.rules = "rules:\n  - {event: aluno.novo, table: alunos, on: insert, columns: [id]}\n"
	r, stored := newReceiver(t, nil), newReceiver(t, nil)
	s.endpoint("crm", r.url())
	s.endpoint("velho", r.url(), "state: inactive")
	b := s.run()
	s.add(b, "antigo", stored.url())
	s.exec("insert into alunos values (1, 'Ana'), (2, 'Bia')")
	r.waitCount(2)
	stored.waitCount(2)
	s.until(2, "select count(*) from gancho.events")
	s.execState("update gancho.endpoints set sealed = '\\x00'") // as after a key that was lost
	config := s.write()
	replay := func(code int, args ...string) string {
		t.Helper()
		got, stdout, stderr := command(t, append([]string{"replay", "--from", "1h", "--config", config}, args...)...)
		if got != code {
			t.Fatalf("replay %v: exit %d, want %d\n%s%s", args, got, code, stdout, stderr)
		}
		return stdout + stderr
	}
	jobs := func() int { return s.count("select count(*) from gancho.jobs") }
	if out := replay(0, "--dry-run"); !strings.Contains(out, "endpoint antigo is left out: ") || strings.Contains(out, "velho") || !strings.Contains(out, "2 events would be sent to endpoint crm") {
		t.Errorf("the dry run printed\n%s", out)
	}
	replay(1, "--endpoint", "antigo")
	if out := replay(2, "--endpoint", "ninguem"); !strings.Contains(out, `endpoint "ninguem" does not exist`) {
		t.Errorf("no such endpoint:\n%s", out)
	}
	if out := replay(2, "--endpoint", "velho"); !strings.Contains(out, "is inactive: nothing is queued for it") {
		t.Errorf("an inactive endpoint:\n%s", out)
	}
	if n := jobs(); n != 0 {
		t.Errorf("%d jobs were created by what was refused", n)
	}
	if out := replay(0, "--wait"); !strings.Contains(out, "endpoint antigo is left out: ") {
		t.Errorf("it printed\n%s", out)
	}
	r.waitFor(queuetest.Patience, "the events again", func(all []arrival) bool { return len(all) == 4 })
	if n := jobs(); n != 1 {
		t.Errorf("%d jobs, want 1", n)
	}
	if all, _ := stored.snapshot(); len(all) != 2 {
		t.Errorf("the endpoint that is left out has %s events", strconv.Itoa(len(all)))
	}
	// With none left there is nothing to say but why.
	s.endpoints = s.endpoints[1:]
	config = s.write()
	if out := replay(1); !strings.Contains(out, "endpoint antigo is left out: ") {
		t.Errorf("without an endpoint:\n%s", out)
	}
	b.stop()
}
