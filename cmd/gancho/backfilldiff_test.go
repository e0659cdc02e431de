package main_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/simulate"
	"gancho/internal/testservers"
)

// keptEvent is a kept event of the number-th change.
func keptEvent(t *testing.T, number int, event, key, op, data string) webhook.Message {
	t.Helper()
	id, err := queue.NewID(1, cdc.Position{Commit: cdc.LSN(0x1000 + number)}, 0)
	if err != nil {
		t.Fatal(err)
	}
	return webhook.Message{
		ID: id.WebhookID("a1b2c3d4"), Type: event, Key: key, Time: time.Now().Add(time.Duration(number)*time.Second - time.Hour),
		Sequence: id.Sequence(), Op: op, Data: []byte(data),
	}
}

// TestBackfillDiff compares the rows of a table with what was last sent of each.
func TestBackfillDiff(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s := newSession(t, "keep_events: 7d")
	s.exec("create table alunos (id int primary key, email text, fatura numeric(10,2))")
	s.exec("insert into alunos values (1, 'ana@x.br', 10.00), (2, 'Bia', 20.50), (3, 'Caio', 30.00), (4, 'Davi', 1), (6, 'Eva', 1)")
	s.rules = "rules:\n  - {event: aluno.estado, table: alunos, on: [insert, update, delete], data: {id: id, email: email, fatura: fatura}}\n"
	s.write()
	kept := []webhook.Message{
		keptEvent(t, 1, "aluno.estado", "1", "insert", `{"id":1,"email":"ana@x.br","fatura":9.00}`),
		keptEvent(t, 2, "aluno.estado", "1", "update", `{"id":1,"email":"ana@x.br","fatura":10.00}`), // the newest counts
		keptEvent(t, 3, "aluno.estado", "2", "insert", `{"id":2,"email":"Beatriz","fatura":20.5,"cpf":"52998224725"}`),
		keptEvent(t, 4, "aluno.estado", "4", "delete", `{"id":4}`),                                  // the row is there again
		keptEvent(t, 5, "aluno.estado", "5", "insert", `{"id":5,"email":"Fernanda","fatura":1.00}`), // gone
		keptEvent(t, 6, "aluno.estado", "7", "delete", `{"id":7}`),                                  // and its removal was sent
		keptEvent(t, 7, "aluno.outro", "8", "insert", `{"id":8}`),                                   // not of this backfill
	}
	if err := s.store().WriteEvents(context.Background(), kept); err != nil {
		t.Fatal(err)
	}
	ask := []string{"backfill", "--table", "alunos", "--diff"}
	code, out, stderr := s.gancho(append(ask, "--json")...)
	var report simulate.SentReport
	if err := json.Unmarshal([]byte(out), &report); err != nil || code != 3 {
		t.Fatalf("exit %d: %v\n%s%s", code, err, out, stderr)
	}
	want := []simulate.EventDiff{{Event: "aluno.estado", Same: 1, Changed: 1, Added: 3, Gone: 1, Fields: map[string]int64{"email": 1, "fatura": 1, "cpf": 1}}}
	if diff := cmp.Diff(want, report.Diff, cmpopts.IgnoreFields(simulate.EventDiff{}, "Examples")); diff != "" || report.Read != 5 || report.Events != 5 {
		t.Errorf("%d rows, %d events (-want +got):\n%s", report.Read, report.Events, diff)
	}
	code, out, stderr = s.gancho(ask...)
	for _, part := range []string{"5 rows read; 5 events, and 0 changes would be parked. Nothing was sent.", "aluno.estado: fatura differs in 1 event", "fatura: 20.5, now 20.50", kept[2].ID, kept[4].ID, "email: \"***\", now \"***\""} {
		if !strings.Contains(out, part) {
			t.Errorf("it does not say %q:\n%s", part, out)
		}
	}
	for _, secret := range []string{"Beatriz", "52998224725", "Fernanda", "Bia"} {
		if strings.Contains(out+stderr, secret) {
			t.Errorf("it shows %q:\n%s", secret, out)
		}
	}
	if code != 3 || !strings.Contains(stderr, "events differ from what was last sent") {
		t.Errorf("exit %d: %s", code, stderr)
	}
	// Rows of which the rest is not asked for are not gone.
	if out := s.ok(append(ask, "--where", "id in (1, 3)")...); !strings.Contains(out, "what is gone was not looked for") {
		t.Errorf("printed\n%s", out)
	}
	if jobs := s.ok("resend", "list"); !strings.Contains(jobs, "there are no jobs") {
		t.Errorf("the comparison has created a job:\n%s", jobs)
	}
	s.fails(2, "leave out --endpoint", append(ask, "--endpoint", "do-arquivo")...)
	s.fails(2, "--diff sends nothing", append(ask, "--wait")...)
	s.extra = strings.Replace(s.extra, "keep_events: 7d", "keep_events: off", 1)
	s.write()
	s.fails(1, "set state.keep_events", ask...)
}
