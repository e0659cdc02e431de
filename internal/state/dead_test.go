package state_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue"
	"gancho/delivery/webhook"
	"gancho/internal/state"
	"gancho/internal/testservers"
)

// message is the n-th event.
func message(n int) webhook.Message {
	return webhook.Message{
		ID: fmt.Sprintf("abc-%04d", n), Type: "cobranca.liquidada", Tenant: "1", Key: fmt.Sprint(n % 10), Time: noon.Add(time.Duration(n) * time.Second),
		Sequence: fmt.Sprintf("%04d", n), Data: []byte(fmt.Sprintf(`{"id":%d,"nome":"São \u0000"}`, n)), Version: "v1",
	}
}

func event(n int) webhook.Message { return message(n) }

func deadLetter(endpoint string, n int) state.DeadLetter {
	return state.DeadLetter{Endpoint: endpoint, DeadEvent: queue.DeadEvent{
		Handle: fmt.Sprintf("17000000%05d-0", n), Message: message(n), Reason: "exhausted", Attempts: 11,
		Failures: queue.Failures{First: noon, Last: noon.Add(time.Hour), Status: 500, Class: "status", Error: "answered 500", Answer: "não sei"},
	}}
}

func TestDeadLetters(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	var all []state.DeadLetter
	for n := range 60 {
		d := deadLetter("crm", n)
		switch n % 3 {
		case 1:
			d.Tenant, d.Type, d.Previous, d.Unchanged = "2", "cliente.novo", []byte(`{"nome":"a"}`), []byte(`["foto"]`)
			d.Op, d.Errors = []string{"insert", ""}[n/3%2], [][]byte{nil, []byte("[\"\xe9\"]")}[n/3%2]
		case 2:
			d.Endpoint, d.Tenant, d.Type, d.Replay = "erp", "", "gancho.endpoint.paused", true
			d.Class, d.Status = "dns", 0
		}
		all = append(all, d)
	}
	check(t, s.WriteDead(ctx, all[:20]))
	check(t, s.WriteDead(ctx, all)) // again, and more
	check(t, s.WriteDead(ctx, all))
	stored := must[[]state.DeadLetter](t)(s.DeadLetters(ctx, state.Filter{}, 0, 100))
	for i := range all {
		all[i].ID = stored[i].ID
	}
	same(t, "all", all, stored)

	for name, c := range map[string]struct {
		filter state.Filter
		takes  func(i int, d *state.DeadLetter) bool
	}{
		"ids":           {state.Filter{IDs: []int64{all[3].ID, all[40].ID}}, func(i int, _ *state.DeadLetter) bool { return i == 3 || i == 40 }},
		"endpoint":      {state.Filter{Endpoint: "erp"}, func(_ int, d *state.DeadLetter) bool { return d.Endpoint == "erp" }},
		"class":         {state.Filter{Class: "dns"}, func(_ int, d *state.DeadLetter) bool { return d.Class == "dns" }},
		"status":        {state.Filter{Status: new(500)}, func(_ int, d *state.DeadLetter) bool { return d.Status == 500 }},
		"no answer":     {state.Filter{Status: new(0)}, func(_ int, d *state.DeadLetter) bool { return d.Status == 0 }},
		"tenant":        {state.Filter{Tenant: pointer("2")}, func(_ int, d *state.DeadLetter) bool { return d.Tenant == "2" }},
		"no tenant":     {state.Filter{Tenant: pointer("")}, func(_ int, d *state.DeadLetter) bool { return d.Tenant == "" }},
		"key":           {state.Filter{Key: "7"}, func(_ int, d *state.DeadLetter) bool { return d.Key == "7" }},
		"webhook":       {state.Filter{Webhooks: []string{"abc-0005"}}, func(i int, _ *state.DeadLetter) bool { return i == 5 }},
		"event":         {state.Filter{Events: []string{"cliente.novo"}}, func(_ int, d *state.DeadLetter) bool { return d.Type == "cliente.novo" }},
		"pattern":       {state.Filter{Events: []string{"c*"}}, func(_ int, d *state.DeadLetter) bool { return d.Type[0] == 'c' }},
		"other pattern": {state.Filter{Events: []string{"x*", "cliente.velho"}}, func(int, *state.DeadLetter) bool { return false }},
		"from and to":   {state.Filter{From: all[10].Time, To: all[20].Time}, func(i int, _ *state.DeadLetter) bool { return i >= 10 && i < 20 }},
		"all at once": {
			state.Filter{Endpoint: "crm", Tenant: pointer("2"), Key: "7", Events: []string{"cliente.*"}, From: noon},
			func(_ int, d *state.DeadLetter) bool { return d.Endpoint == "crm" && d.Tenant == "2" && d.Key == "7" },
		},
	} {
		t.Run(name, func(t *testing.T) {
			var want, got []state.DeadLetter
			for i := range all {
				if c.takes(i, &all[i]) {
					want = append(want, all[i])
				}
			}
			var after int64
			for {
				page := must[[]state.DeadLetter](t)(s.DeadLetters(ctx, c.filter, after, 7))
				if len(page) == 0 {
					break
				}
				got, after = append(got, page...), page[len(page)-1].ID
			}
			same(t, "dead letters", want, got)
			same(t, "count", int64(len(want)), must[int64](t)(s.CountDead(ctx, c.filter)))
		})
	}
	same(t, "by endpoint", map[string]int64{"crm": 40, "erp": 20}, must[map[string]int64](t)(s.CountDeadByEndpoint(ctx, state.Filter{})))

	same(t, "one", all[4], must[state.DeadLetter](t)(s.DeadLetter(ctx, all[4].ID, "")))
	same(t, "one of the tenant's", all[4], must[state.DeadLetter](t)(s.DeadLetter(ctx, all[4].ID, "2")))
	for what, err := range map[string]error{
		"another tenant's": second2(s.DeadLetter(ctx, all[4].ID, "1")),
		"nobody's":         second2(s.DeadLetter(ctx, all[5].ID, "1")),
		"none":             second2(s.DeadLetter(ctx, 1<<40, "")),
	} {
		if !errors.Is(err, state.ErrNotFound) {
			t.Errorf("%s: %v, want ErrNotFound", what, err)
		}
	}

	n := must[int64](t)(s.DropDead(ctx, "cli:ana", state.Filter{Endpoint: "crm", Tenant: pointer("2")}))
	same(t, "dropped", int64(20), n)
	same(t, "left", int64(40), must[int64](t)(s.CountDead(ctx, state.Filter{})))
	changes := must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Action: "dead.drop", Tenant: pointer("2")}, 0, 10))
	if len(changes) != 1 || !strings.Contains(string(changes[0].Before), `"dropped":20`) || changes[0].Object != "endpoint/crm" || changes[0].Actor != "cli:ana" {
		t.Errorf("audit: %+v", changes)
	}
	same(t, "dropping nothing", int64(0), must[int64](t)(s.DropDead(ctx, "cli:ana", state.Filter{Endpoint: "nenhum"})))
	if n := len(must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Action: "dead.drop"}, 0, 10))); n != 1 {
		t.Errorf("%d entries of the audit log, want 1: dropping nothing is none", n)
	}
}

// manyDead is how many dead letters "many" are.
const manyDead = 80_000

// TestManyDeadLetters: no first page takes as long as reading the table, whatever
// the filter, and what works on all goes by chunks.
func TestManyDeadLetters(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	execute(t, dsn, `insert into gancho.dead_letters (endpoint, handle, webhook_id, event, tenant, key, committed, sequence, version, replay, data,
			reason, attempts, first, last, status, class, error, answer)
		select 'ep' || n % 7, n || '-0', 'abc-' || lpad(n::text, 8, '0'), case when n % 20000 = 19999 then 'cliente.raro' else 'cobranca.' || n % 20 end,
			(n % 100)::text, (n % 5000)::text, timestamptz '2026-03-14' + n * interval '1 second', lpad(n::text, 8, '0'), 'v1', false,
			convert_to('{"id":' || n || ',"x":"' || repeat('x', 400) || '"}', 'UTF8'),
			'exhausted', 11, now(), now(), 500, 'status', 'answered 500', ''::bytea
		from generate_series(0, $1::int - 1) n`, manyDead)
	execute(t, dsn, `analyze gancho.dead_letters`) // as autovacuum does within a minute
	fastest := func(f func() int) (took time.Duration, n int) {
		took = time.Hour
		for range 3 { // the machine does other things, too
			began := time.Now()
			n = f()
			took = min(took, time.Since(began))
		}
		return took, n
	}
	conn := connect(t, dsn)
	whole, _ := fastest(func() (n int) {
		check(t, conn.QueryRow(ctx, `select count(*) from gancho.dead_letters where data::text like '%no such text%'`).Scan(&n))
		return n
	})
	for name, f := range map[string]state.Filter{
		"all":              {},
		"endpoint":         {Endpoint: "ep3"},
		"tenant":           {Tenant: pointer("42")},
		"key":              {Key: "4242"},
		"tenant and key":   {Tenant: pointer("42"), Key: "4242"},
		"webhook":          {Webhooks: []string{"abc-00023456"}},
		"rare event":       {Events: []string{"cliente.*"}},
		"common events":    {Events: []string{"cobranca.*"}},
		"last minutes":     {From: time.Date(2026, 3, 14, 0, 0, manyDead-100, 0, time.UTC)},
		"half of the time": {From: time.Date(2026, 3, 14, 0, 0, manyDead/2, 0, time.UTC)},
		"everything":       {Endpoint: "ep3", Tenant: pointer("42"), Key: "4242", Events: []string{"cobranca.*"}, From: noon},
	} {
		took, n := fastest(func() int { return len(must[[]state.DeadLetter](t)(s.DeadLetters(ctx, f, 0, 50))) })
		if n == 0 || took > whole {
			t.Errorf("%s: %d letters in %v; reading the table takes %v", name, n, took, whole)
		}
	}
	same(t, "count", int64(manyDead), must[int64](t)(s.CountDead(ctx, state.Filter{})))

	job := must[state.Job](t)(s.CreateJob(ctx, "cli:ana", state.Job{Kind: state.Redrive, Endpoint: "ep3"}))
	claimed := must[*state.Job](t)(s.ClaimJob(ctx, "w", time.Minute))
	for last := false; !last; {
		page := must[state.JobPage](t)(s.JobPage(ctx, claimed, 500))
		check(t, s.AdvanceJob(ctx, claimed, page))
		last = page.Last
	}
	same(t, "sent", job.Total, claimed.Sent)

	n := must[int64](t)(s.DropDead(ctx, "cli:ana", state.Filter{}))
	same(t, "dropped", manyDead-job.Total, n)
	same(t, "left", int64(0), must[int64](t)(s.CountDead(ctx, state.Filter{})))
	changes := must[[]state.Change](t)(s.Audit(ctx, state.AuditFilter{Action: "dead.drop"}, 0, 10))
	if len(changes) != 1 || !strings.Contains(string(changes[0].Before), fmt.Sprintf(`"dropped":%d`, n)) {
		t.Errorf("audit: %+v", changes)
	}
}
