package state_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

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
		Table: `"Ação".clientes`, After: [][]byte{[]byte("1"), {0xff}}, Rows: 100, Done: []string{"public.contas"},
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
