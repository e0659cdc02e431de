package state_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// send runs a claimed job to its end, as a bridge does, and returns what it sent.
func send(t *testing.T, s *state.Store, j *state.Job, n int) []webhook.Message {
	t.Helper()
	var sent []webhook.Message
	for {
		page := must[state.JobPage](t)(s.JobPage(t.Context(), j, n))
		sent = append(sent, page.Messages...)
		check(t, s.AdvanceJob(t.Context(), j, page))
		if page.Last {
			check(t, s.FinishJob(t.Context(), j, state.Done, ""))
			return sent
		}
	}
}

func ids(messages []webhook.Message) []string {
	out := []string{}
	for i := range messages {
		out = append(out, messages[i].ID)
	}
	return out
}

func TestResend(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	var all []webhook.Message
	for n := range 100 {
		e := event(n)
		// Three days, and many events of one commit.
		e.Time = noon.AddDate(0, 0, n/40).Add(time.Duration(n/10) * time.Second)
		if n%4 == 0 {
			e.Type, e.Tenant, e.Previous, e.Unchanged = "cliente.novo", "2", []byte(`{}`), []byte(`["a"]`)
			e.Op, e.Errors = []string{"delete", ""}[n/4%2], [][]byte{[]byte(`["b"]`), nil}[n/4%2]
		}
		if of, ok := map[int]string{1: "cliente_1/7", 2: "cliente_10", 3: "cliente_2/7", 5: "x/7", 6: "clienteX1/7", 7: "7/cliente_1"}[n]; ok {
			e.Tenant = of
		}
		all = append(all, e)
	}
	mixed := slices.Clone(all)
	slices.Reverse(mixed)
	check(t, s.WriteEvents(ctx, mixed[30:]))
	check(t, s.WriteEvents(ctx, mixed))
	changed := mixed[0]
	changed.Data = []byte(`"outro"`)
	check(t, s.WriteEvents(ctx, []webhook.Message{changed})) // it is there: it stays as it was

	for name, c := range map[string]struct {
		filter state.Filter
		takes  func(i int) bool
	}{
		"all":         {state.Filter{}, func(int) bool { return true }},
		"ids":         {state.Filter{Webhooks: []string{"abc-0007", "abc-0093"}}, func(i int) bool { return i == 7 || i == 93 }},
		"key":         {state.Filter{Key: "3"}, func(i int) bool { return i%10 == 3 }},
		"pattern":     {state.Filter{Events: []string{"cli*"}}, func(i int) bool { return i%4 == 0 }},
		"tenants":     {state.Filter{Tenants: []string{"2"}}, func(i int) bool { return i%4 == 0 }},
		"sources":     {state.Filter{Sources: []string{"cliente_1*", "x"}}, func(i int) bool { return slices.Contains([]int{1, 2, 5}, i) }},
		"from and to": {state.Filter{From: all[20].Time, To: all[60].Time}, func(i int) bool { return i >= 20 && i < 60 }},
		"none":        {state.Filter{Events: []string{"x*"}}, func(int) bool { return false }},
	} {
		t.Run(name, func(t *testing.T) {
			want := []webhook.Message{}
			for i := range all {
				if c.takes(i) {
					m := all[i]
					m.Replay = true
					want = append(want, m)
				}
			}
			same(t, "dry run", int64(len(want)), must[int64](t)(s.CountEvents(ctx, c.filter)))
			made := must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm", Filter: c.filter, Rate: 50}))
			if made.State != state.Queued || made.Total != int64(len(want)) || made.Actor != "cli:ana" || made.Rate != 50 {
				t.Errorf("made: %+v", made)
			}
			j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
			same(t, "claimed", made.ID, j.ID)
			sent := send(t, s, j, 7)
			same(t, "sent", want, append([]webhook.Message{}, sent...))
			done := must[state.Job](t)(s.Job(ctx, made.ID, ""))
			if done.State != state.Done || done.Sent != made.Total || done.Finished.IsZero() || done.Started.IsZero() {
				t.Errorf("done: %+v", done)
			}
		})
	}
	if j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute)); j != nil {
		t.Errorf("there is still a job: %+v", j)
	}
}

// TestResendFindsMore: an event that was committed before the job was made, and
// delivered after it, is sent and counted.
func TestResendFindsMore(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	check(t, s.WriteEvents(ctx, []webhook.Message{event(1), event(2)}))
	made := must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm"}))
	same(t, "total", int64(2), made.Total)
	check(t, s.WriteEvents(ctx, []webhook.Message{event(3)}))
	j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	same(t, "sent", 3, len(send(t, s, j, 2)))
	done := must[state.Job](t)(s.Job(ctx, made.ID, ""))
	same(t, "sent of total", [2]int64{3, 3}, [2]int64{done.Sent, done.Total})
	same(t, "as the worker has it", [2]int64{3, 3}, [2]int64{j.Sent, j.Total})
}

// TestRedriveEnds: what dies again while it is redriven is not taken again.
func TestRedriveEnds(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	var dead []state.DeadLetter
	for n := range 30 {
		dead = append(dead, deadLetter("crm", n))
	}
	check(t, s.WriteDead(ctx, append(dead, deadLetter("erp", 1))))
	j := must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm"}))
	same(t, "total", int64(30), j.Total)
	claimed := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	var sent []string
	for round := 1; ; round++ {
		page := must[state.JobPage](t)(s.JobPage(ctx, claimed, 10))
		sent = append(sent, ids(page.Messages)...)
		check(t, s.AdvanceJob(ctx, claimed, page))
		for i := range page.Messages {
			again := deadLetter("crm", 1000*round+i)
			again.Message = page.Messages[i]
			check(t, s.WriteDead(ctx, []state.DeadLetter{again}))
		}
		if page.Last {
			break
		}
		if round > 10 {
			t.Fatal("the redrive does not end")
		}
	}
	var want []string
	for i := range dead {
		want = append(want, dead[i].Message.ID)
	}
	same(t, "sent", want, sent)
	same(t, "dead again", int64(30), must[int64](t)(s.CountDead(ctx, state.Filter{Endpoint: "crm"})))
	same(t, "another endpoint's", int64(1), must[int64](t)(s.CountDead(ctx, state.Filter{Endpoint: "erp"})))
}

// TestLargeBodies: a page ends where its bodies become too many for memory,
// and the job does not.
func TestLargeBodies(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	const size, n = 3 << 20, 10
	for i := range n {
		e, d := event(i), deadLetter("crm", i)
		e.Data = []byte(strings.Repeat("x", size))
		d.Data = e.Data
		check(t, s.WriteEvents(ctx, []webhook.Message{e}))
		check(t, s.WriteDead(ctx, []state.DeadLetter{d}))
	}
	for _, kind := range []state.JobKind{state.Resend, state.Redrive} {
		must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: kind, Endpoint: "crm"}))
		j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
		var pages []int
		for {
			page := must[state.JobPage](t)(s.JobPage(ctx, j, n))
			check(t, s.AdvanceJob(ctx, j, page))
			pages = append(pages, len(page.Messages))
			if page.Last {
				break
			}
		}
		check(t, s.FinishJob(ctx, j, state.Done, ""))
		same(t, string(kind)+": messages of the pages", []int{3, 3, 3, 1}, pages)
	}
}

// TestTwoWorkers: one dies with a page sent and not written down; the other
// goes on at this page when the lease is over, and the dead one, come back,
// can do nothing more.
func TestTwoWorkers(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	for n := range 40 {
		check(t, s.WriteDead(ctx, []state.DeadLetter{deadLetter("crm", n)}))
	}
	must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm"}))
	first := must[*state.Job](t)(s.ClaimJob(ctx, "first", time.Minute))
	if other := must[*state.Job](t)(s.ClaimJob(ctx, "second", time.Minute)); other != nil {
		t.Fatalf("both workers have the job")
	}
	page := must[state.JobPage](t)(s.JobPage(ctx, first, 10))
	check(t, s.AdvanceJob(ctx, first, page))
	lost := must[state.JobPage](t)(s.JobPage(ctx, first, 10)) // sent, and then killed

	execute(t, dsn, `update gancho.jobs set leased = now() - interval '1 second'`)
	second := must[*state.Job](t)(s.ClaimJob(ctx, "second", time.Minute))
	if second == nil {
		t.Fatal("a job whose worker is dead is not taken over")
	}
	next := must[state.JobPage](t)(s.JobPage(ctx, second, 10))
	same(t, "the page after the takeover", ids(lost.Messages), ids(next.Messages))
	check(t, s.AdvanceJob(ctx, second, next))

	if err := s.AdvanceJob(ctx, first, lost); !errors.Is(err, state.ErrConflict) {
		t.Errorf("the first worker goes on: %v", err)
	}
	if err := s.FinishJob(ctx, first, state.Done, ""); !errors.Is(err, state.ErrConflict) {
		t.Errorf("the first worker ends the job: %v", err)
	}
	same(t, "left", int64(20), must[int64](t)(s.CountDead(ctx, state.Filter{})))

	// An orderly end gives it back.
	check(t, s.FinishJob(ctx, second, state.Queued, ""))
	third := must[*state.Job](t)(s.ClaimJob(ctx, "third", time.Minute))
	same(t, "sent by the third", 20, len(send(t, s, third, 7)))
	done := must[state.Job](t)(s.Job(ctx, third.ID, ""))
	same(t, "sent", int64(40), done.Sent)
}

// TestClaimsAreFair: a tenant's many jobs do not keep another's waiting, nor do those that
// were postponed.
func TestClaimsAreFair(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	create := func(tenant string) int64 {
		return must[state.Job](t)(s.CreateJob(ctx, "token:a", state.Job{Kind: state.Resend, Endpoint: "crm", Tenant: tenant})).ID
	}
	claim := func() *state.Job { return must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Hour)) }
	expect := func(what string, j *state.Job, id int64) {
		t.Helper()
		if j == nil || j.ID != id {
			t.Fatalf("%s: claimed %v, want %d", what, j, id)
		}
	}
	one := []int64{create("1"), create("1"), create("1")}
	two := create("2")
	first := claim()
	expect("the first", first, one[0])
	expect("another tenant's", claim(), two)
	expect("the next", claim(), one[1])
	check(t, s.PostponeJob(ctx, first, 0))
	last := claim()
	expect("one that has waited longer than the postponed", last, one[2])
	expect("the postponed", claim(), one[0])
	check(t, s.PostponeJob(ctx, last, time.Hour))
	if j := claim(); j != nil {
		t.Errorf("a postponed job is claimed before its time: %+v", j)
	}
	if err := s.PostponeJob(ctx, first, 0); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a job that another worker has is postponed: %v", err)
	}
}

// TestClaimsReadJobsOnce: a claim reads each job that has not ended a few times at most,
// however many there are, and those that have ended not at all.
func TestClaimsReadJobsOnce(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	const queued, running, ended = 3000, 1000, 20_000
	execute(t, dsn, fmt.Sprintf(`insert into gancho.jobs (kind, endpoint, filter, rate, state, total, tenant, actor, leased)
		select 'resend', 'crm', '{}', 0, state, 0, n %% 7, 'cli:ana', case when state = 'running' then now() + interval '1 hour' end
		from (select n, case when n <= %d then 'queued' when n <= %d then 'running' else 'done' end as state from generate_series(1, %d) n) rows`,
		queued, queued+running, queued+running+ended))
	execute(t, dsn, "analyze gancho.jobs")
	tx := must[pgx.Tx](t)(connect(t, dsn).Begin(t.Context()))
	var text []byte
	check(t, tx.QueryRow(t.Context(), "explain (analyze, format json) "+state.ClaimSQL, "w", time.Hour, []string{"redrive"}, "", []string{}).Scan(&text))
	check(t, tx.Rollback(t.Context()))
	type node struct {
		Rows    float64 `json:"Actual Rows"`
		Removed float64 `json:"Rows Removed by Filter"`
		Loops   float64 `json:"Actual Loops"`
		Plans   []node
	}
	var explained []struct{ Plan node }
	check(t, json.Unmarshal(text, &explained))
	var read func(node) float64
	read = func(n node) float64 {
		sum := (n.Rows + n.Removed) * n.Loops
		for _, below := range n.Plans {
			sum += read(below)
		}
		return sum
	}
	if n := read(explained[0].Plan); n < queued || n > 8*(queued+running) {
		t.Errorf("of %d jobs that have not ended a claim reads %v rows:\n%s", queued+running, n, text)
	}
	if j := must[*state.Job](t)(s.ClaimJob(t.Context(), "w", time.Hour)); j == nil { // the control
		t.Error("no job is claimed")
	}
}

// TestLeaseIsRenewed: a worker that waits for its queue keeps its job.
func TestLeaseIsRenewed(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm"}))
	j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Hour))
	execute(t, dsn, `update gancho.jobs set leased = now() - interval '1 second'`)
	check(t, s.AdvanceJob(ctx, j, state.JobPage{}))
	if left := query[float64](t, dsn, `select extract(epoch from leased - now()) from gancho.jobs`); left < 3500 {
		t.Errorf("the lease lasts %v s, want an hour", left)
	}
	if other := must[*state.Job](t)(s.ClaimJob(ctx, "other", time.Hour)); other != nil {
		t.Error("another worker has it")
	}
}

// TestManyWorkers claim many jobs: each has one worker.
func TestManyWorkers(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	const jobs, workers = 20, 8
	for n := range jobs {
		must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Resend, Endpoint: fmt.Sprint("ep", n)}))
	}
	claimed, errs := make(chan int64, 2*jobs), make(chan error, workers)
	for w := range workers {
		go func() {
			for {
				j, err := s.ClaimJob(ctx, fmt.Sprint("w", w), time.Minute)
				if err != nil || j == nil {
					errs <- err
					return
				}
				claimed <- j.ID
			}
		}()
	}
	for range workers {
		check(t, <-errs)
	}
	close(claimed)
	seen := map[int64]bool{}
	for id := range claimed {
		if seen[id] {
			t.Errorf("job %d has two workers", id)
		}
		seen[id] = true
	}
	// A job that nobody got because others were looking at it waits for the next claim.
	for j := must[*state.Job](t)(s.ClaimJob(ctx, "last", time.Minute)); j != nil; j = must[*state.Job](t)(s.ClaimJob(ctx, "last", time.Minute)) {
		seen[j.ID] = true
	}
	same(t, "claimed", jobs, len(seen))
}

func TestCancelJob(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	check(t, s.WriteEvents(ctx, []webhook.Message{event(1), event(2), event(3)}))
	made := must[state.Job](t)(s.CreateJob(ctx, "token:a", state.Job{Kind: state.Resend, Endpoint: "crm", Tenant: "1"}))
	other := must[state.Job](t)(s.CreateJob(ctx, "token:b", state.Job{Kind: state.Resend, Endpoint: "erp", Tenant: "2"}))
	free := must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "erp"}))
	same(t, "the redrive's filter", state.Filter{Endpoint: "erp"}, free.Filter)

	list := func(tenant string, before int64, n int) (out []int64) {
		t.Helper()
		for _, j := range must[[]state.Job](t)(s.Jobs(ctx, tenant, before, n)) {
			out = append(out, j.ID)
		}
		return out
	}
	same(t, "all", []int64{free.ID, other.ID, made.ID}, list("", 0, 10))
	same(t, "second page", []int64{other.ID}, list("", free.ID, 1))
	same(t, "the tenant's", []int64{made.ID}, list("1", 0, 10))
	same(t, "no tenant's", []int64(nil), list("3", 0, 10))
	same(t, "one", made.WithoutClaim().ID, must[state.Job](t)(s.Job(ctx, made.ID, "1")).ID)

	for what, err := range map[string]error{
		"another's":         second2(s.Job(ctx, made.ID, "2")),
		"none":              second2(s.Job(ctx, 99, "")),
		"cancel another's":  second2(s.CancelJob(ctx, "token:b", made.ID, "2")),
		"cancel everyone's": second2(s.CancelJob(ctx, "token:b", free.ID, "2")),
	} {
		if !errors.Is(err, state.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}

	j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	same(t, "the oldest is claimed", made.ID, j.ID)
	page := must[state.JobPage](t)(s.JobPage(ctx, j, 2))
	check(t, s.AdvanceJob(ctx, j, page))
	canceled := must[state.Job](t)(s.CancelJob(ctx, "token:a", made.ID, "1"))
	if canceled.State != state.Canceled || canceled.Sent != 2 || canceled.Finished.IsZero() {
		t.Errorf("canceled: %+v", canceled)
	}
	next := must[state.JobPage](t)(s.JobPage(ctx, j, 2))
	if err := s.AdvanceJob(ctx, j, next); !errors.Is(err, state.ErrConflict) {
		t.Errorf("going on with a canceled job: %v", err)
	}
	if _, err := s.CancelJob(ctx, "token:a", made.ID, "1"); !errors.Is(err, state.ErrConflict) {
		t.Errorf("canceling again: %v", err)
	}
	failed := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	check(t, s.FinishJob(ctx, failed, state.Failed, "o endpoint não existe €"))
	stored := must[state.Job](t)(s.Job(ctx, failed.ID, ""))
	if stored.State != state.Failed || stored.Error != "o endpoint não existe €" {
		t.Errorf("failed: %+v", stored)
	}
	var actions []string
	for _, c := range must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Tenant: pointer("1")}, 0, 10)) {
		actions = append(actions, c.Actor+" "+c.Action+" "+c.Object)
		if !strings.Contains(string(c.After), `"total":3`) {
			t.Errorf("audit: %s", c.After)
		}
	}
	same(t, "audit", []string{"token:a resend.cancel endpoint/crm", "token:a resend.create endpoint/crm"}, actions)
}

// TestRedrivesShare: of several redrives at the same time each dead letter is sent by one.
func TestRedrivesShare(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	var all []state.DeadLetter
	for n := range 60 {
		all = append(all, deadLetter("crm", n))
	}
	check(t, s.WriteDead(ctx, all))
	var jobs []*state.Job
	for range 3 {
		must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm"}))
		jobs = append(jobs, must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute)))
	}
	sent := map[string]int{}
	for open := len(jobs); open > 0; {
		for i, j := range jobs {
			if j == nil {
				continue
			}
			page := must[state.JobPage](t)(s.JobPage(ctx, j, 7))
			for _, m := range page.Messages {
				sent[m.ID]++
			}
			if i == 2 { // canceled: what it had claimed is for the others
				for _, m := range page.Messages {
					delete(sent, m.ID)
				}
				must[state.Job](t)(s.CancelJob(ctx, "cli:ana", j.ID, ""))
				check(t, s.DropSent(ctx, j, ""))
				jobs[i], open = nil, open-1
				continue
			}
			check(t, s.AdvanceJob(ctx, j, page))
			if page.Last {
				check(t, s.FinishJob(ctx, j, state.Done, ""))
				jobs[i], open = nil, open-1
			}
		}
	}
	left := must[int64](t)(s.CountDead(ctx, state.Filter{}))
	for id, n := range sent {
		if n != 1 {
			t.Errorf("%s was sent %d times", id, n)
		}
	}
	if len(sent)+int(left) != 60 || left > 7 {
		t.Errorf("%d were sent, %d are left", len(sent), left)
	}
}

// TestRedriveClaimsForward: a redrive whose worker died after it had sent a page claims
// nothing before the end of that page, which is how far Redis says that it has got.
func TestRedriveClaimsForward(t *testing.T) {
	t.Parallel()
	for name, gone := range map[string]bool{"the page is there": false, "the page was dropped": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s, dsn := newStore(t)
			ctx := t.Context()
			var dead []state.DeadLetter
			for n := range 40 {
				dead = append(dead, deadLetter("crm", n))
			}
			check(t, s.WriteDead(ctx, dead))
			claim := func() *state.Job {
				t.Helper()
				must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm"}))
				return must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
			}
			a, b := claim(), claim()
			check(t, s.AdvanceJob(ctx, a, must[state.JobPage](t)(s.JobPage(ctx, a, 10))))
			held := must[state.JobPage](t)(s.JobPage(ctx, b, 10))
			sent := must[state.JobPage](t)(s.JobPage(ctx, a, 10))
			must[state.Job](t)(s.CancelJob(ctx, "cli:ana", b.ID, ""))
			check(t, s.DropSent(ctx, b, ""))
			if gone {
				must[int64](t)(s.DropDead(ctx, "cli:ana", state.Filter{Webhooks: ids(sent.Messages)}))
			}
			execute(t, dsn, `update gancho.jobs set leased = now() - interval '1 second' where state = 'running'`)
			second := must[*state.Job](t)(s.ClaimJob(ctx, "second", time.Minute))
			page := must[state.JobPage](t)(s.JobPage(ctx, second, 10))
			if !gone {
				same(t, "the page after the takeover", ids(sent.Messages), ids(page.Messages))
			} else if n := must[int](t)(page.Reached(sent.Position())); n > 0 {
				t.Errorf("%d letters count as sent that were not", n)
			}
			check(t, s.AdvanceJob(ctx, second, page))
			send(t, s, second, 10)
			same(t, "for the next redrive", ids(held.Messages), ids(send(t, s, claim(), 10)))
			if _, err := s.JobPage(ctx, a, 10); !errors.Is(err, state.ErrConflict) {
				t.Errorf("the first worker goes on: %v", err)
			}
		})
	}
}

// TestDropSent: what a redrive had sent of its last page, when it was canceled or failed, is
// gone; the rest of the page is not.
func TestDropSent(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	for n := range 40 {
		check(t, s.WriteDead(ctx, []state.DeadLetter{deadLetter("crm", n)}))
	}
	left := int64(40)
	for _, c := range []struct {
		ends string
		sent int
	}{{"canceled", 4}, {"failed", 4}, {"canceled, nothing sent", 0}, {"taken over", 0}} {
		must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm"}))
		j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
		check(t, s.AdvanceJob(ctx, j, must[state.JobPage](t)(s.JobPage(ctx, j, 3))))
		page := must[state.JobPage](t)(s.JobPage(ctx, j, 5))
		position := page.PositionAfter(4)
		switch c.ends {
		case "canceled":
			must[state.Job](t)(s.CancelJob(ctx, "cli:ana", j.ID, ""))
		case "canceled, nothing sent":
			must[state.Job](t)(s.CancelJob(ctx, "cli:ana", j.ID, ""))
			position = ""
		case "taken over":
			execute(t, dsn, `update gancho.jobs set leased = now() - interval '1 second' where state = 'running'`)
			must[*state.Job](t)(s.ClaimJob(ctx, "other", time.Minute))
		}
		check(t, s.DropSent(ctx, j, position))
		left -= int64(3 + c.sent)
		same(t, c.ends+": left", left, must[int64](t)(s.CountDead(ctx, state.Filter{})))
		same(t, c.ends+": sent", int64(3+c.sent), must[state.Job](t)(s.Job(ctx, j.ID, "")).Sent)
		if c.ends == "failed" {
			check(t, s.FinishJob(ctx, j, state.Failed, "x"))
		}
	}
}

// TestCanceledRedriveLetsGo: what a canceled redrive is sending, no other sends before that is
// deleted; whoever claims it then does that when its worker does not.
func TestCanceledRedriveLetsGo(t *testing.T) {
	t.Parallel()
	for _, how := range []string{"by its worker", "by another", "given back"} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			s, dsn := newStore(t)
			ctx := t.Context()
			for n := range 10 {
				check(t, s.WriteDead(ctx, []state.DeadLetter{deadLetter("crm", n)}))
			}
			redrive := func() *state.Job {
				must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm"}))
				return must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
			}
			first := redrive()
			sending := must[state.JobPage](t)(s.JobPage(ctx, first, 5))
			if how == "given back" {
				check(t, s.FinishJob(ctx, first, state.Queued, ""))
			}
			must[state.Job](t)(s.CancelJob(ctx, "cli:ana", first.ID, ""))
			second := redrive()
			if how == "given back" { // nobody has it
				first, second = second, must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
			}
			page := must[state.JobPage](t)(s.JobPage(ctx, second, 100))
			if len(page.Messages) > 0 || page.Last {
				t.Errorf("%d of what another is sending; last: %v", len(page.Messages), page.Last)
			}
			if how == "by another" {
				if j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute)); j != nil {
					t.Errorf("claimed job %d, whose worker has its lease", j.ID)
				}
				execute(t, dsn, `update gancho.jobs set leased = now() - interval '1 second' where state = 'canceled'`)
				first = must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
			}
			if how != "by its worker" {
				same(t, "claimed", state.Canceled, first.State)
			}
			check(t, s.DropSent(ctx, first, sending.PositionAfter(3)))
			page = must[state.JobPage](t)(s.JobPage(ctx, second, 100))
			if len(page.Messages) != 7 || !page.Last {
				t.Errorf("%d events, last: %v, want the 7 that were not sent", len(page.Messages), page.Last)
			}
			if j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute)); j != nil {
				t.Errorf("claimed job %d, which has let go", j.ID)
			}
		})
	}
}

// TestReusedHandle: an emptied Redis gives handles that others had before.
func TestReusedHandle(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	old, other := deadLetter("crm", 1), deadLetter("crm", 2)
	other.Handle = old.Handle
	check(t, s.WriteDead(ctx, []state.DeadLetter{old}))
	check(t, s.WriteDead(ctx, []state.DeadLetter{other}))
	check(t, s.WriteDead(ctx, []state.DeadLetter{old, other}))
	same(t, "dead letters", int64(2), must[int64](t)(s.CountDead(ctx, state.Filter{})))
}

// TestOneDeadLetterOfAnEvent: what dies again while its redrive waits for the disk takes
// the place of the one before, and is not deleted with it.
func TestOneDeadLetterOfAnEvent(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	check(t, s.WriteDead(ctx, []state.DeadLetter{deadLetter("crm", 1), deadLetter("crm", 2)}))
	must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm"}))
	j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	page := must[state.JobPage](t)(s.JobPage(ctx, j, 10))
	same(t, "page", []string{"abc-0001", "abc-0002"}, ids(page.Messages))
	again := deadLetter("crm", 1)
	again.Handle, again.Reason, again.Attempts = "1800000000000-0", "refused", 1
	newest := again
	newest.Handle = "1800000000001-0"
	check(t, s.WriteDead(ctx, []state.DeadLetter{again, newest}))
	check(t, s.WriteDead(ctx, []state.DeadLetter{newest})) // it had not been removed from Redis
	check(t, s.AdvanceJob(ctx, j, page))
	same(t, "the next page", 0, len(must[state.JobPage](t)(s.JobPage(ctx, j, 10)).Messages))
	stored := must[[]state.DeadLetter](t)(s.DeadLetters(ctx, state.Filter{}, 0, 10))
	if len(stored) != 1 || stored[0].Handle != newest.Handle || stored[0].Reason != "refused" {
		t.Errorf("stored: %+v", stored)
	}
}

// TestPositions: a page says which of its messages a job has reached.
func TestPositions(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	var events []webhook.Message
	for n := range 20 {
		e := event(n)
		e.Time = noon.Add(time.Duration(n/5) * time.Second)
		events = append(events, e)
	}
	check(t, s.WriteEvents(ctx, events))
	must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Resend, Endpoint: "crm"}))
	j := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	check(t, s.AdvanceJob(ctx, j, must[state.JobPage](t)(s.JobPage(ctx, j, 5))))
	page := must[state.JobPage](t)(s.JobPage(ctx, j, 10))
	for n := range 11 {
		same(t, fmt.Sprintf("position %d", n), n, must[int](t)(page.Reached(page.PositionAfter(n))))
	}
	same(t, "before", 0, must[int](t)(page.Reached("")))
	later := must[state.JobPage](t)(s.JobPage(ctx, j, 12))
	same(t, "beyond", 10, must[int](t)(page.Reached(later.Position())))
}

// TestParkedJob: a job of parked changes is for those who except none, and counts what
// became of them.
func TestParkedJob(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	j := must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.RedriveParked, Filter: state.Filter{Parked: []string{"5-1"}}, Total: 9}))
	if j.Total != 9 || j.Endpoint != "" || j.Filter.Parked[0] != "5-1" {
		t.Errorf("%+v", j)
	}
	entries := must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Action: "redrive_parked.create"}, 0, 10))
	if len(entries) != 1 || entries[0].Object != "parked" {
		t.Errorf("the audit log has %+v", entries)
	}
	if other := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute, state.RedriveParked)); other != nil {
		t.Errorf("claimed by a worker that cannot do it: %+v", other)
	}
	claimed := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	id, last := must[queue.ID](t)(queue.ParseID("5-1")), must[queue.ID](t)(queue.ParseID("9-1"))
	check(t, s.AdvanceParked(ctx, claimed, id, last, last, 3, 2, 1))
	check(t, s.AdvanceJob(ctx, claimed, state.JobPage{})) // its lease is renewed as any
	check(t, s.AdvanceParked(ctx, claimed, id, last, last, 0, 0, 1))
	check(t, s.FinishJob(ctx, claimed, state.Done, ""))
	done := must[state.Job](t)(s.Job(ctx, j.ID, ""))
	if done.Sent != 3 || done.Silent != 2 || done.Kept != 2 || done.Total != 7 {
		t.Errorf("%+v", done)
	}
	for cursor, want := range map[string][2]queue.ID{done.Cursor: {last, last}, "5-1 9-1": {last, id}, "5-1": {{}, id}} { // all but the first are older versions'
		if after, to, seen, err := state.ParkedCursor(cursor); err != nil || after != id || to != want[0] || seen != want[1] {
			t.Errorf("cursor %q: %s to %s, seen %s, %v", cursor, after, to, seen, err)
		}
	}
	if err := s.AdvanceParked(ctx, claimed, id, last, last, 1, 0, 0); !errors.Is(err, state.ErrConflict) {
		t.Errorf("a job that has ended: %v", err)
	}
}

// TestParkedIsSmall: a parked change has the relation of its table in it, of which little
// is stored.
func TestParkedIsSmall(t *testing.T) {
	t.Parallel()
	r := &cdc.Relation{Schema: "public", Name: "clientes"}
	for i := range 200 {
		r.Columns = append(r.Columns, cdc.Column{Name: fmt.Sprint("coluna_", i), Type: &cdc.Type{Name: "numeric"}})
	}
	change := must[[]byte](t)(json.Marshal(cdc.Change{Relation: r}))
	key := must[*state.Keyring](t)(state.ParseKeys(must[string](t)(state.GenerateKey("k"))))
	sealed := must[[]byte](t)(key.SealParked(cdc.Position{}, 0, &state.ParkedRow{Row: []byte("{}"), Change: change}))
	if len(sealed) > len(change)/5 {
		t.Errorf("%d bytes of %d", len(sealed), len(change))
	}
}

// TestSealedParked: a row opens at its own place, by a key of state.key.
func TestSealedParked(t *testing.T) {
	t.Parallel()
	key := func(id string) *state.Keyring {
		return must[*state.Keyring](t)(state.ParseKeys(must[string](t)(state.GenerateKey(id))))
	}
	keys := key("k1")
	id := must[queue.ID](t)(queue.NewID(1, cdc.Position{Commit: 0x1000, Ordinal: 2}, 3))
	sealed := must[[]byte](t)(keys.SealParked(id.Position(), id.N(), &state.ParkedRow{Row: []byte(`{"new":{}}`), Change: []byte(`{"cpf":"1"}`)}))
	if row, err := keys.OpenParked(&queue.ParkedChange{ID: id, Change: sealed}); err != nil || string(row.Row) != `{"new":{}}` || string(row.Change) != `{"cpf":"1"}` {
		t.Errorf("%s %s, %v", row.Row, row.Change, err)
	}
	other := must[queue.ID](t)(queue.NewID(1, id.Position(), 4))
	for name, open := range map[string]func() (state.ParkedRow, error){
		"another place": func() (state.ParkedRow, error) {
			return keys.OpenParked(&queue.ParkedChange{ID: other, Change: sealed})
		},
		"another key": func() (state.ParkedRow, error) {
			return key("k2").OpenParked(&queue.ParkedChange{ID: id, Change: sealed})
		},
		"cut": func() (state.ParkedRow, error) {
			return keys.OpenParked(&queue.ParkedChange{ID: id, Change: sealed[:5]})
		},
	} {
		if _, err := open(); !errors.As(err, new(*state.KeyError)) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestJobNeeds: a worker leaves a job alone whose filter has a part that only a newer version knows. What this version stores, it claims.
func TestJobNeeds(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	d := deadLetter("crm", 1)
	check(t, s.WriteDead(ctx, []state.DeadLetter{d}))
	made := must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "crm", Filter: state.Filter{Status: &d.Status, Class: d.Class}}))
	same(t, "what it needs", []string{"class", "endpoint", "status"}, query[[]string](t, dsn, `select array(select unnest(needs) order by 1) from gancho.jobs`))
	execute(t, dsn, `update gancho.jobs set needs = needs || '{weather}'::text[]`)
	if j := must[*state.Job](t)(s.ClaimJob(ctx, "worker", time.Minute)); j != nil {
		t.Fatalf("a job that it cannot do is claimed: %+v", j)
	}
	execute(t, dsn, `update gancho.jobs set needs = array_remove(needs, 'weather')`)
	if j := must[*state.Job](t)(s.ClaimJob(ctx, "worker", time.Minute)); j == nil || j.ID != made.ID {
		t.Errorf("one that it can do is not claimed: %+v", j)
	}
}
