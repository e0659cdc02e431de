package main_test

import (
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gancho/internal/control"
	"gancho/internal/simulate"
	"gancho/internal/state"
)

const (
	replayOld = `rules:
  - event: aluno.alterado
    table: alunos
    on: [insert, update]
    data: {id: id, valor: valor}
  - event: aluno.sala
    table: alunos
    on: insert
    data: {id: id, sala: s.nome}
    lookup: {s: select nome from salas where id = new.sala}
  - event: aluno.liquido
    table: alunos
    on: update
    collapse: id
    data: {id: id, antes: old.valor}
`
	replayNew = `  - event: aluno.novo
    table: alunos
    on: insert
    data: {id: id, email: email}
`
	replayGone = `  - event: aluno.removido
    table: alunos
    on: delete
    data: {id: id, email: email}
`
)

// TestReplay sends kept events again: as they were, and by other rules, what differs and nothing else. They came to the
// endpoint out of its stream and directly; their rules are of every kind.
func TestReplay(t *testing.T) {
	t.Parallel()
	s := newStateful(t, pg, []string{"keep_events: 7d", "keep_changes: true"},
		"create table salas (id int primary key, nome text)", "insert into salas values (1, 'Centro')",
		"create table alunos (id int primary key, sala int, valor numeric(10,2), email text)", "alter table alunos replica identity full")
	s.rules = replayOld + replayGone
	r := newReceiver(t, nil)
	s.endpoint("crm", r.url(), "state: paused")
	b := s.run()
	s.exec("insert into alunos values (1, 1, 10, 'ana@x.br'), (2, 1, 20, 'bia@x.br')")
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.After(60 * time.Second); s.redisClient().XLen(t.Context(), "gancho:{crm}:q").Val() != 4; {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatal("the events were not queued")
		}
	}
	b.stop()
	s.endpoints[0] = strings.Replace(s.endpoints[0], "paused", "active", 1)
	b = s.run()
	r.waitCount(4)
	s.exec("insert into alunos values (3, 1, 30, 'caio@x.br')")
	s.exec("update alunos set valor = 11.50 where id = 1")
	s.exec("delete from alunos where id = 2")
	first := r.waitCount(9)
	s.until(9, "select count(*) from gancho.events where change is not null")
	config := s.write()
	gancho := func(want int, args ...string) (stdout, stderr string) {
		t.Helper()
		code, stdout, stderr := command(t, append([]string{"replay", "--config", config}, args...)...)
		if code != want {
			t.Fatalf("replay %s: exit %d, want %d\n%s%s", strings.Join(args, " "), code, want, stdout, stderr)
		}
		return stdout, stderr
	}
	wait := func(n int) []arrival {
		t.Helper()
		all := r.waitFor(60*time.Second, "events sent again", func(all []arrival) bool { return len(all) >= n })
		if len(all) != n {
			t.Fatalf("%d events came, want %d", len(all), n)
		}
		return all
	}

	// As they were.
	if out, _ := gancho(0, "--from", "1h", "--dry-run"); !strings.Contains(out, "9 events would be sent to endpoint crm") {
		t.Errorf("the dry run printed\n%s", out)
	}
	gancho(0, "--from", "1h", "--endpoint", "crm", "--wait")
	again := wait(18)[9:]
	if ids := func(all []arrival) (out []string) {
		for _, a := range all {
			out = append(out, a.id+" "+string(a.data["id"]))
		}
		return slices.Sorted(slices.Values(out))
	}; cmp.Diff(ids(first), ids(again)) != "" || slices.ContainsFunc(again, func(a arrival) bool { return !a.replay }) {
		t.Errorf("sent again (-want +got):\n%s", cmp.Diff(ids(first), ids(again)))
	}

	// By other rules.
	dir := filepath.Join(t.TempDir(), "novas")
	write := func(text string) {
		t.Helper()
		if err := os.MkdirAll(dir, 0o750); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(dir, "r.yaml"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(strings.Replace(replayOld, "data: {id: id, valor: valor}", "when: id <> 3\n    data: {id: id, valor: valor * 2}", 1) + replayNew)
	through := []string{"--from", "1h", "--rules", dir}
	out, _ := gancho(3, append(through, "--dry-run", "--json")...)
	var report simulate.SentReport
	if err := json.Unmarshal([]byte(out), &report); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	want := []simulate.EventDiff{
		{Event: "aluno.alterado", Changed: 3, Gone: 1, Fields: map[string]int64{"valor": 3}},
		{Event: "aluno.liquido", Same: 1}, {Event: "aluno.novo", Added: 3}, {Event: "aluno.removido", Gone: 1}, {Event: "aluno.sala", Same: 3},
	}
	if diff := cmp.Diff(want, report.Diff, cmpopts.IgnoreFields(simulate.EventDiff{}, "Examples"), cmpopts.EquateEmpty()); diff != "" || report.Read != 6 { // the net change of the update is one of its own
		t.Errorf("of %d changes (-want +got):\n%s", report.Read, diff)
	}
	asked := func(dry bool) string {
		t.Helper()
		text, err := os.ReadFile(filepath.Join(dir, "r.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		body, err := json.Marshal(map[string]any{"rules": map[string]string{"r.yaml": string(text)}, "filter": map[string]any{"from": time.Now().Add(-time.Hour)}, "dry_run": dry})
		if err != nil {
			t.Fatal(err)
		}
		return string(body)
	}
	var view control.CorrectionView
	s.call(b, http.MethodPost, "/corrections", asked(true), &view)
	if diff := cmp.Diff(want, view.Comparison.Diff, cmpopts.IgnoreFields(simulate.EventDiff{}, "Examples"), cmpopts.EquateEmpty()); diff != "" || view.Comparison.Read != 6 || view.Corrections != 6 || len(view.Jobs) != 0 {
		t.Errorf("the API has %d corrections and %d jobs of %d changes (-want +got):\n%s", view.Corrections, len(view.Jobs), view.Comparison.Read, diff)
	}
	if _, stderr := gancho(2, through...); !strings.Contains(stderr, "add --yes") {
		t.Errorf("without a terminal: %s", stderr)
	}
	if out, _ := gancho(0, append(through, "--yes", "--wait")...); !strings.Contains(out, "6 of 6 events queued") || strings.Contains(out, "@x.br") {
		t.Errorf("printed\n%s", out)
	}
	got := map[string]string{}
	for _, a := range wait(24)[18:] {
		if !a.replay || slices.ContainsFunc(first, func(f arrival) bool { return f.id == a.id }) {
			t.Errorf("event %s: replay %v", a.id, a.replay)
		}
		got[a.event+" "+string(a.data["id"])+" "+a.field("valor")+a.field("email")] = a.id
	}
	for _, want := range []string{"aluno.alterado 1 20.00", "aluno.alterado 1 23.00", "aluno.alterado 2 40.00", "aluno.novo 1 ana@x.br", "aluno.novo 2 bia@x.br", "aluno.novo 3 caio@x.br"} {
		if got[want] == "" {
			t.Errorf("%s did not come: %v", want, got)
		}
	}
	// Again: it is as it was last sent.
	if out, _ := gancho(0, append(through, "--yes", "--wait")...); !strings.Contains(out, "nothing to send") || strings.Contains(out, "have no change beside them") {
		t.Errorf("repeated:\n%s", out)
	}
	if n := s.count("select count(*) from gancho.events"); n != 15 {
		t.Errorf("%d events are kept, want 15", n)
	}
	// A wrong correction is taken back, and what takes it back follows it.
	write(replayOld + replayGone)
	body := asked(false)
	views := make([]control.CorrectionView, 4) // by the API, all at the same time: one of them does it
	var asking sync.WaitGroup
	for i := range views {
		asking.Go(func() { s.ask(b, http.MethodPost, "/corrections", body, &views[i], http.StatusConflict) })
	}
	asking.Wait()
	views = slices.DeleteFunc(views, func(v control.CorrectionView) bool { return len(v.Jobs) == 0 })
	if len(views) != 1 || len(views[0].Jobs) != 1 || views[0].Jobs[0].Endpoint != "crm" || views[0].Jobs[0].Total != 3 {
		t.Errorf("taken back: %+v", views)
	}
	for _, a := range wait(27)[24:] {
		before := slices.IndexFunc(first, func(f arrival) bool { return strings.HasPrefix(a.id, f.id) })
		if before < 0 || string(first[before].data["valor"]) != string(a.data["valor"]) {
			t.Errorf("%s took back %s with %s", a.id, first[max(before, 0)].id, a.body)
		}
		for _, wrong := range got {
			if strings.HasPrefix(wrong, first[max(before, 0)].id+"-c") && wrong >= a.id {
				t.Errorf("%s sorts before the correction %s which it takes back", a.id, wrong)
			}
		}
	}
	key := state.EventKey{Event: "aluno.alterado", Key: "2"}
	if last, err := s.store().LastKept(t.Context(), []state.EventKey{key}); err != nil || last[key] == nil || !strings.Contains(string(last[key].Data), "20.00") {
		t.Errorf("last kept: %+v, %v", last[key], err)
	}
	if out, _ := gancho(0, append(through, "--yes", "--wait")...); !strings.Contains(out, "nothing to send") {
		t.Errorf("taken back twice:\n%s", out)
	}
	b.stop()

	// What is kept of changes is encrypted, and is not there for events from before.
	if n := s.count("select count(*) from gancho.events where position('email' in encode(change, 'escape')) > 0"); n > 0 {
		t.Errorf("%d changes are readable", n)
	}
	s.execState("update gancho.events set change = null")
	if _, stderr := gancho(1, append(through, "--dry-run")...); !strings.Contains(stderr, "set state.keep_changes: true in ") {
		t.Errorf("without changes: %s", stderr)
	}
	if _, stderr := gancho(2); !strings.Contains(stderr, "--from is missing") {
		t.Errorf("without a span: %s", stderr)
	}
}
