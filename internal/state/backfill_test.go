package state_test

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"gancho/internal/state"
)

// TestBackfill: there is one at a time, whose place is kept over a pause and the death of
// its process; whoever had it before learns that it is another's.
func TestBackfill(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, _ := newStore(t)
	made, err := s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill, Filter: state.Filter{Table: "clientes", Where: "id > 7"}, Total: 70, Estimated: true})
	if err != nil || made.Total != 70 || !made.Estimated {
		t.Fatalf("created %+v, %v", made, err)
	}
	if _, err := s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a second backfill: %v, want a conflict", err)
	}
	claim := func() *state.Job {
		t.Helper()
		j, err := s.ClaimJob(ctx, "w", time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		return j
	}
	if j, err := s.ClaimJob(ctx, "w", time.Minute, state.Backfill); j != nil || err != nil {
		t.Errorf("who does no backfills claimed %+v, %v", j, err)
	}
	first := claim()
	at := state.BackfillCursor{
		BackfillPlace: state.BackfillPlace{Table: `"Ação".clientes`, After: [][]byte{[]byte("1"), {0xff}}, Rows: 100, Done: []string{"public.contas"}},
		Round:         2, Epoch: 3, Durable: &state.BackfillPlace{Table: "x", Rows: 7},
		Next: &state.BackfillChunk{XID: "4711", Last: [][]byte{[]byte("2")}, Rows: 50},
	}
	if err := s.AdvanceBackfill(ctx, first, at); err != nil {
		t.Fatal(err)
	}
	if paused, err := s.PauseJob(ctx, "cli:teste", made.ID, ""); err != nil || paused.State != state.Paused || paused.Sent != 150 || paused.Total != 150 {
		t.Errorf("paused as %+v, %v", paused, err)
	}
	if err := s.AdvanceBackfill(ctx, first, at); !errors.Is(err, state.ErrConflict) {
		t.Errorf("the worker of a paused job: %v, want a conflict", err)
	}
	if j := claim(); j != nil {
		t.Errorf("a paused job was claimed: %+v", j)
	}
	if _, err := s.PauseJob(ctx, "cli:teste", made.ID, ""); !errors.Is(err, state.ErrConflict) {
		t.Errorf("paused twice: %v, want a conflict", err)
	}
	if _, err := s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a backfill beside a paused one: %v, want a conflict", err)
	}
	if _, err := s.ResumeJob(ctx, "cli:teste", made.ID, ""); err != nil {
		t.Fatal(err)
	}
	again := claim()
	if again == nil || again.Claim() <= first.Claim() {
		t.Fatalf("claimed %+v after the resume", again)
	}
	got, err := again.BackfillCursor()
	if diff := cmp.Diff(at, got); diff != "" || err != nil {
		t.Errorf("it continues elsewhere (-want +got): %v\n%s", err, diff)
	}
	if err := s.FinishJob(ctx, again, state.Failed, "a table is locked"); err != nil {
		t.Fatal(err)
	}
	between, err := s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.ResumeJob(ctx, "cli:teste", made.ID, ""); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a failed one was resumed beside another: %v, want a conflict", err)
	}
	if _, err := s.CancelJob(ctx, "cli:teste", between.ID, ""); err != nil {
		t.Fatal(err)
	}
	if resumed, err := s.ResumeJob(ctx, "cli:teste", made.ID, ""); err != nil || resumed.State != state.Queued || resumed.Error != "" || resumed.Cursor == "" {
		t.Errorf("a failed one is resumed as %+v, %v", resumed, err)
	}
	if again = claim(); again == nil {
		t.Fatal("a failed job that was resumed is not claimed")
	}
	if err := s.FinishJob(ctx, again, state.Done, ""); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ResumeJob(ctx, "cli:teste", made.ID, ""); !errors.Is(err, state.ErrConflict) {
		t.Errorf("one that is done was resumed: %v, want a conflict", err)
	}
	other, err := s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill})
	if err != nil {
		t.Fatal(err)
	}
	if canceled, err := s.CancelJob(ctx, "cli:teste", other.ID, ""); err != nil || canceled.State != state.Canceled {
		t.Errorf("canceled as %+v, %v", canceled, err)
	}
	if _, err := s.ResumeJob(ctx, "cli:teste", other.ID, ""); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a canceled one was resumed: %v, want a conflict", err)
	}
}

// TestReturnBackfill: what could not be taken from the stream is read again, once, also when nobody does the job then.
func TestReturnBackfill(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	s, _ := newStore(t)
	made := must[state.Job](t)(s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill}))
	claim := func() *state.Job { return must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute)) }
	durable := &state.BackfillPlace{Table: "contas", Rows: 3}
	check(t, s.AdvanceBackfill(ctx, claim(), state.BackfillCursor{
		BackfillPlace: state.BackfillPlace{Table: "contas", Rows: 50}, Round: 1, Epoch: 1, Durable: durable, Next: &state.BackfillChunk{XID: "7", Rows: 5},
	}))
	must[state.Job](t)(s.PauseJob(ctx, "cli:teste", made.ID, ""))
	to := state.BackfillPlace{Table: "contas", After: [][]byte{[]byte("20")}, Rows: 20}
	check(t, s.ReturnBackfill(ctx, made.ID, 0, state.BackfillPlace{})) // for which it has gone back already
	check(t, s.ReturnBackfill(ctx, made.ID, 1, to))
	check(t, s.ReturnBackfill(ctx, made.ID, 1, state.BackfillPlace{}))
	must[state.Job](t)(s.ResumeJob(ctx, "cli:teste", made.ID, ""))
	j := claim()
	got := must[state.BackfillCursor](t)(j.BackfillCursor())
	if diff := cmp.Diff(state.BackfillCursor{BackfillPlace: to, Round: 2, Epoch: 1, Durable: durable}, got); diff != "" || j.Sent != 20 {
		t.Errorf("it goes on with %d rows sent (-want +got):\n%s", j.Sent, diff)
	}
	check(t, s.FinishJob(ctx, j, state.Done, ""))
	check(t, s.ReturnBackfill(ctx, made.ID, 9, to))
	check(t, s.ReturnBackfill(ctx, made.ID+1, 9, to))
	if j := must[state.Job](t)(s.Job(ctx, made.ID, "")); j.State != state.Done || j.Cursor == "" {
		t.Errorf("one that is done has become %+v", j)
	}
}

// TestJobsOfSources: two bridges share a state database. Each does the backfill, and the parked changes, of its own source.
func TestJobsOfSources(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	shared, _ := newStore(t)
	one, other := shared.Of("gancho_um"), shared.Of("gancho_dois")
	var mine []int64
	for _, kind := range []state.JobKind{state.Backfill, state.RedriveParked} {
		mine = append(mine, must[state.Job](t)(one.CreateJob(ctx, "cli:teste", state.Job{Kind: kind})).ID)
	}
	if _, err := one.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill}); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a second backfill of a source: %v, want a conflict", err)
	}
	theirs := must[state.Job](t)(other.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill}))
	if theirs.Source != "gancho_dois" {
		t.Errorf("it is of %q", theirs.Source)
	}
	if j := must[*state.Job](t)(other.ClaimJob(ctx, "w", time.Minute)); j == nil || j.ID != theirs.ID {
		t.Errorf("the other one claimed %+v, want %d", j, theirs.ID)
	}
	if j := must[*state.Job](t)(other.ClaimJob(ctx, "w", time.Minute)); j != nil {
		t.Errorf("the other one claimed %+v, too", j)
	}
	for _, id := range mine {
		if j := must[*state.Job](t)(one.ClaimJob(ctx, "w", time.Minute)); j == nil || j.ID != id {
			t.Errorf("claimed %+v, want %d", j, id)
		}
	}
}

// TestAuditOfSources: the audit log has a source by its name, not by its slot, whatever is done to it, and none where there is one source.
func TestAuditOfSources(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	shared, _ := newStore(t)
	one := shared.Of("gancho_um")
	for _, f := range []state.Filter{{}, {Sources: []string{"um"}}} {
		for _, kind := range []state.JobKind{state.Backfill, state.RedriveParked} {
			j := must[state.Job](t)(one.CreateJob(ctx, "cli:teste", state.Job{Kind: kind, Total: 1, Filter: f}))
			must[state.Job](t)(shared.CancelJob(ctx, "cli:teste", j.ID, ""))
		}
		name := ""
		if len(f.Sources) > 0 {
			name = f.Sources[0]
		}
		check(t, shared.RecordDroppedParked(ctx, "cli:teste", name, state.Filter{}, 1))
	}
	var objects []string
	for _, e := range must[[]state.Change](t)(shared.Audit(ctx, state.AuditFilter{}, 0, 20)) {
		objects = append(objects, e.Object)
	}
	slices.Reverse(objects)
	same(t, "objects", []string{"source", "source", "parked", "parked", "parked", "source/um", "source/um", "parked/um", "parked/um", "parked/um"}, objects)
}

// TestWhereIsSealed: what chooses the rows of a backfill may be personal data. No table has it in clear, whoever has the
// key reads it, and so does the next key.
func TestWhereIsSealed(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dsn := database(t, "")
	s := open(t, dsn, keys(t, "a"))
	const where = "cpf = '529.982.247-25'"
	made := must[state.Job](t)(s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill, Filter: state.Filter{Table: "clientes", Where: where}}))
	if made.Filter.Where != where || made.Unsealed() != nil {
		t.Errorf("created with %q, %v", made.Filter.Where, made.Unsealed())
	}
	for _, table := range []string{"jobs", "audit"} {
		text := query[string](t, dsn, "select string_agg(t::text, ' ') from gancho."+table+" t")
		if strings.Contains(text, "982.247") || !strings.Contains(text, "clientes") {
			t.Errorf("gancho.%s: %s", table, text)
		}
	}
	hidden := must[state.Job](t)(open(t, dsn, keys(t, "b")).Job(ctx, made.ID, ""))
	if lost := new(state.KeyError); hidden.Filter.Where != state.HiddenWhere || !errors.As(hidden.Unsealed(), &lost) {
		t.Errorf("without the key it is %q, %v", hidden.Filter.Where, hidden.Unsealed())
	}
	if n := must[int](t)(open(t, dsn, keys(t, "b", "a")).Rekey(ctx, "cli:teste", parked{})); n != 1 {
		t.Errorf("%d values were encrypted again, want 1", n)
	}
	if j := must[*state.Job](t)(open(t, dsn, keys(t, "b")).ClaimJob(ctx, "w", time.Minute)); j.Filter.Where != where || j.Unsealed() != nil {
		t.Errorf("with the new key it is %q, %v", j.Filter.Where, j.Unsealed())
	}
}

// TestRekeyOfFailedBackfills: a backfill that has failed can be resumed, so its where is encrypted again. One that no key
// decrypts is left as it is, which is said.
func TestRekeyOfFailedBackfills(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	dsn := database(t, "")
	var log bytes.Buffer
	both := must[*state.Store](t)(state.Open(ctx, state.Options{DSN: dsn, Keyring: keys(t, "b", "a"), Logger: zerolog.New(&log)}))
	t.Cleanup(both.Close)
	var made []state.Job
	for _, key := range []string{"lost", "a"} {
		s := open(t, dsn, keys(t, key))
		j := must[state.Job](t)(s.CreateJob(ctx, "cli:teste", state.Job{Kind: state.Backfill, Filter: state.Filter{Table: "clientes", Where: "id = 1"}}))
		check(t, s.FinishJob(ctx, must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute)), state.Failed, "the table was gone"))
		made = append(made, j)
	}
	if n := must[int](t)(both.Rekey(ctx, "cli:teste", parked{})); n != 1 {
		t.Errorf("%d values were encrypted again, want 1", n)
	}
	if said := log.String(); !strings.Contains(said, `"level":"warn"`) || !strings.Contains(said, fmt.Sprintf("the where of job %d:", made[0].ID)) || strings.Count(said, "\n") != 1 {
		t.Errorf("of the one that is lost it says %s", said)
	}
	alone := open(t, dsn, keys(t, "b"))
	if j := must[state.Job](t)(alone.ResumeJob(ctx, "cli:teste", made[1].ID, "")); j.Filter.Where != "id = 1" || j.Unsealed() != nil {
		t.Errorf("resumed with the new key it has %q, %v", j.Filter.Where, j.Unsealed())
	}
}

// TestSealRows: what somebody else writes into the WAL, or copies from another slot's, is not taken.
func TestSealRows(t *testing.T) {
	t.Parallel()
	keys, err := state.ParseKeys(must[string](t)(state.GenerateKey("k")))
	if err != nil {
		t.Fatal(err)
	}
	sealed, err := keys.SealRows("gancho", []byte("linhas"))
	if err != nil {
		t.Fatal(err)
	}
	if plain, err := keys.OpenRows("gancho", sealed); string(plain) != "linhas" || err != nil {
		t.Errorf("opened %q, %v", plain, err)
	}
	for slot, content := range map[string][]byte{"outro": sealed, "gancho": []byte("linhas")} {
		if _, err := keys.OpenRows(slot, content); err == nil {
			t.Errorf("%q of slot %s was opened", content, slot)
		}
	}
}
