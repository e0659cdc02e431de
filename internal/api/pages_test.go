package api_test

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/cdc"
	"gancho/delivery/queue"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// Each list comes in pages that together are the whole, without a repetition.
func TestPages(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const n = 7
	for i := range n {
		w.addEndpoint(fmt.Sprintf("crm-%d", i), "")
		must[object](w, http.StatusAccepted, "POST", "/resends", "root", fmt.Sprintf(`{"endpoint":"crm-0","filter":{"key":"k%d"}}`, i))
	}
	w.addAttempts("crm-0", "1", n)
	w.addDead("crm-0", "1", n)
	w.park(n)
	for _, c := range []struct {
		path string
		n    int
		id   func(object) any
	}{
		{"/endpoints", n, func(o object) any { return o["name"] }},
		{"/deliveries?endpoint=crm-0", n, func(o object) any { return o["webhook_id"] }},
		{"/deliveries?tenant=1", n, func(o object) any { return o["webhook_id"] }},
		{"/dead-letters?event=cobranca.*", n, func(o object) any { return o["id"] }},
		{"/resends", n, func(o object) any { return o["id"] }},
		{"/audit?action=endpoint.add", n, func(o object) any { return o["id"] }},
		{"/parked", n, func(o object) any { return o["id"] }},
	} {
		whole := w.ids(c.path, c.id)
		if len(whole) != c.n {
			t.Errorf("%s has %d items, not %d", c.path, len(whole), c.n)
		}
		for _, limit := range []int{1, 3, n, n + 1} {
			var got []any
			cursor, pages := "", 0
			for {
				page := must[items[object]](w, http.StatusOK, "GET", with(c.path, fmt.Sprintf("limit=%d", limit), cursor), "eyes", "")
				for _, o := range page.Items {
					got = append(got, c.id(o))
				}
				pages++
				if page.Next == "" {
					break
				}
				if len(page.Items) != limit {
					t.Errorf("%s: a page that is not the last has %d items, not %d", c.path, len(page.Items), limit)
				}
				cursor = "cursor=" + page.Next
			}
			if !slices.Equal(got, whole) || pages != (c.n+limit-1)/limit {
				t.Errorf("%s in %d pages of %d: %v, not %v", c.path, pages, limit, got, whole)
			}
		}
	}
	for path, want := range map[string]float64{"/dead-letters/groups": n, "/parked/groups": n} {
		groups := must[items[object]](w, http.StatusOK, "GET", path, "eyes", "").Items
		var count float64
		for _, g := range groups {
			count += g["count"].(float64)
		}
		if count != want || len(groups) == 0 || groups[0]["sample"] == nil {
			t.Errorf("%s has %v in %d groups: %v", path, count, len(groups), groups)
		}
	}
	if got := w.ids("/deliveries?webhook_id=crm-0-1&webhook_id=crm-0-3", func(o object) any { return o["webhook_id"] }); len(got) != 2 {
		t.Errorf("two webhook-ids choose %v", got)
	}
	if got := w.ids("/dead-letters?event=nothing.*&event=cobranca.paga", func(o object) any { return o["id"] }); len(got) != n {
		t.Errorf("two patterns choose %v", got)
	}
	if got := w.ids("/deliveries?key=key-2", func(o object) any { return o["key"] }); len(got) != 1 {
		t.Errorf("a key chooses %v", got)
	}
	if got := w.ids("/deliveries?outcome=retry", func(o object) any { return o["key"] }); len(got) != 0 {
		t.Errorf("an outcome that there was not chooses %v", got)
	}
}

func (w *world) ids(path string, id func(object) any) []any {
	w.t.Helper()
	all := []any{}
	for _, o := range must[items[object]](w, http.StatusOK, "GET", path, "eyes", "").Items {
		all = append(all, id(o))
	}
	return all
}

func with(path string, parameters ...string) string {
	for _, p := range parameters {
		sign := "&"
		if !strings.Contains(path, "?") {
			sign = "?"
		}
		if p != "" {
			path += sign + p
		}
	}
	return path
}

// park adds parked changes, as the capture does.
func (w *world) park(n int) {
	w.t.Helper()
	ctx := w.t.Context()
	if _, err := w.queue.Claim(ctx, queue.Source{SystemID: "7300000000000000001", Database: "academia", Slot: "gancho", Timeline: 1, ConfirmedFlush: 0x1000}, false); err != nil {
		w.t.Fatal(err)
	}
	batch := w.queue.NewBatch()
	for i := range n {
		err := batch.Park(&mapping.Parked{
			Position: cdc.Position{Commit: cdc.LSN(0x2000 + i)}, Type: "cobranca.paga", Rule: "rules/a.yaml:3", Table: "public.cobrancas", Op: cdc.Update,
			Time: time.Now(), Reason: "division by zero", Row: []byte(`{"new":{"valor":"0"}}`),
		})
		if err != nil {
			w.t.Fatal(err)
		}
	}
	if err := w.queue.Append(ctx, batch); err != nil {
		w.t.Fatal(err)
	}
}

// Dead letters and kept events are counted, redriven and dropped by what the
// filter chooses, and by nothing else.
func TestDeadLetters(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("crm", "")
	w.addEndpoint("erp", "")
	dead := w.addDead("crm", "1", 5)
	w.addDead("erp", "2", 2)
	detail := must[control.DeadDetail](w, http.StatusOK, "GET", fmt.Sprintf("/dead-letters/%d", dead[0].ID), "eyes", "")
	if detail.Message.ID != "crm-0" || detail.Answer != "oops" || len(detail.Data) == 0 {
		t.Errorf("the dead letter is %+v", detail)
	}
	if raw := w.do("GET", fmt.Sprintf("/dead-letters/%d", dead[0].ID), "eyes", ""); !strings.Contains(string(raw.body), "10.50") || !strings.Contains(string(raw.body), "12345678901234567890") {
		t.Errorf("the numbers are not as they were: %s", raw.body)
	}
	count := must[items[state.Job]](w, http.StatusOK, "POST", "/dead-letters/redrive", "hands", `{"all":true,"dry_run":true}`).Items
	if len(count) != 2 || count[0].Total != 5 || count[1].Total != 2 || count[0].ID != 0 {
		t.Errorf("the dry run counts %+v", count)
	}
	group := must[items[state.DeadGroup]](w, http.StatusOK, "GET", "/dead-letters/groups", "eyes", "").Items[0]
	for status, want := range map[int]int{group.Status: 1, group.Status + 1: 0} {
		body := fmt.Sprintf(`{"filter":{"endpoint":%q,"class":%q,"status":%d},"dry_run":true}`, group.Endpoint, group.Class, status)
		if got := must[items[state.Job]](w, http.StatusOK, "POST", "/dead-letters/redrive", "hands", body).Items; len(got) != want {
			t.Errorf("%s counts %+v", body, got)
		}
	}
	jobs := must[items[state.Job]](w, http.StatusAccepted, "POST", "/dead-letters/redrive", "hands", `{"filter":{"endpoint":"crm","key":"key-1"},"rate":2.5}`).Items
	if len(jobs) != 1 || jobs[0].Total != 1 || jobs[0].Rate != 2.5 || jobs[0].State != "queued" || jobs[0].Actor != "token:hands" {
		t.Errorf("the jobs are %+v", jobs)
	}
	canceled := must[state.Job](w, http.StatusOK, "POST", fmt.Sprintf("/resends/%d/cancel", jobs[0].ID), "hands", "")
	if canceled.State != "canceled" {
		t.Errorf("the job is %+v", canceled)
	}
	if a := w.do("POST", fmt.Sprintf("/resends/%d/cancel", jobs[0].ID), "hands", ""); a.status != http.StatusConflict || !strings.Contains(a.problem(t).Detail, "ended already") {
		t.Errorf("cancel again: %d: %s", a.status, a.body)
	}
	must[object](w, http.StatusNoContent, "DELETE", fmt.Sprintf("/dead-letters/%d", dead[4].ID), "root", "")
	if got := must[struct{ Dropped int }](w, http.StatusOK, "POST", "/dead-letters/drop", "root", `{"filter":{"tenant":"1","events":["cobranca.*"]}}`); got.Dropped != 4 {
		t.Errorf("%d were dropped, not 4", got.Dropped)
	}
	if got := w.ids("/dead-letters", func(o object) any { return o["endpoint"] }); !slices.Equal(got, []any{"erp", "erp"}) {
		t.Errorf("what is left is of %v", got)
	}
	if got := must[struct{ Dropped int }](w, http.StatusOK, "POST", "/dead-letters/drop", "root", `{"all":true}`); got.Dropped != 2 {
		t.Errorf("%d were dropped, not 2", got.Dropped)
	}
	var actions []string
	for _, c := range must[items[state.Change]](w, http.StatusOK, "GET", "/audit?limit=5", "eyes", "").Items {
		actions = append(actions, c.Action+" by "+c.Actor)
	}
	want := []string{"dead.drop by token:root", "dead.drop by token:root", "dead.drop by token:root", "redrive.cancel by token:hands", "redrive.create by token:hands"}
	if !slices.Equal(actions, want) {
		t.Errorf("the audit log says %v", actions)
	}
}
