package main_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/simulate"
	"gancho/internal/testservers"
)

// TestSchedule: a bridge runs the query of a rule with schedule beside the stream, over the death of the process; check says
// what it costs and that it needs a state, and status when it runs.
func TestSchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, empresa_id int, visto timestamptz)",
		"insert into clientes values (1, 7, '2020-01-01'), (2, 7, '2020-01-02'), (3, 7, now() + interval '10 years')")
	w.rules = `rules:
  - {event: cliente.novo, table: clientes, on: insert, columns: [id]}
  - event: cliente.ausente
    schedule: every 10s
    query: select * from clientes where visto < now() - interval '7 days' order by id
    once: [id, visto]
    tenant: empresa_id
    key: id
    data: {id: id}
`
	r := newReceiver(t, nil)
	w.endpoint("crm", r.url())
	s := &session{world: w, path: w.write()}
	const lacks = "a rule with schedule needs a state database"
	if code, stdout, stderr := s.gancho("check", "--offline"); code != 1 || !strings.Contains(stdout+stderr, lacks) {
		t.Errorf("check without a state: exit %d: %s%s", code, stdout, stderr)
	}
	w.extra = "state:\n  keep_events: 1h\n  key: " + stateKey
	w.write()
	s.ok("migrate")
	if _, stdout, stderr := s.gancho("check"); !strings.Contains(stdout+stderr, "the query of cliente.ausente runs every 10s; the server expects ") {
		t.Errorf("check says %s%s", stdout, stderr)
	}
	simulated := decoded[simulate.Report](s, "simulate", "--schedules")
	if rule := simulated.Rules[0]; len(simulated.Rules) != 1 || rule.Events != 2 || rule.Run == nil || rule.Run.Rows != 2 || rule.Run.PerDay != 8640 || rule.Endpoints["crm"] != 2 || !strings.Contains(rule.Samples[0].Body, `"op":"schedule"`) {
		t.Errorf("simulate makes %+v", simulated)
	}
	if out := s.ok("simulate", "--schedules"); !strings.Contains(out, "The next run of each schedule, on the rows as they are now: 2 rows; 2 events, and 0 rows without an event. Nothing was sent.") {
		t.Errorf("simulate says %s", out)
	}
	s.fails(2, "do not go together", "simulate", "--schedules", "--for", "1s")
	b := w.run()
	r.waitCount(2)
	b.kill()
	b = w.run()
	w.exec("insert into clientes values (4, 7, '2020-01-04')")
	const events = 4 // what was in flight when the bridge was killed comes again
	distinct := func(all []arrival) int {
		ids := map[string]bool{}
		for _, a := range all {
			ids[a.id] = true
		}
		return len(ids)
	}
	got := r.waitFor(time.Minute, "the new row, of the stream and of the next run", func(all []arrival) bool { return distinct(all) >= events })
	ids := map[string]bool{}
	var rows []string
	for _, a := range got {
		if ids[a.id] || a.event != "cliente.ausente" {
			ids[a.id] = true
			continue
		}
		ids[a.id] = true
		var envelope struct{ Op, Tenant, Timestamp string }
		if err := json.Unmarshal(a.body, &envelope); err != nil || envelope.Op != "schedule" || envelope.Tenant != "7" || !strings.HasSuffix(strings.TrimSuffix(envelope.Timestamp, "Z"), "0") || a.replay {
			t.Errorf("the event is %s, %v", a.body, err)
		}
		rows = append(rows, a.field("id"))
	}
	slices.Sort(rows) // of two keys
	if strings.Join(rows, " ") != "1 2 4" || len(ids) != events {
		t.Errorf("the rows are %q, under %d webhook-ids", rows, len(ids))
	}
	var v control.StatusView
	queuetest.Eventually(t, "a run that has ended", func() bool {
		if err := json.Unmarshal([]byte(s.ok("status", "--json")), &v); err != nil {
			t.Fatal(err)
		}
		return len(v.Schedules) == 1 && v.Schedules[0].Last != nil
	})
	if len(v.Schedules) != 1 || v.Schedules[0].Event != "cliente.ausente" || v.Schedules[0].Last == nil || !v.Schedules[0].Next.After(v.Schedules[0].Last.Scheduled) {
		t.Errorf("status has %+v", v.Schedules)
	}
	if stdout := s.ok("status"); !strings.Contains(stdout, "every 10s") {
		t.Errorf("status says %s", stdout)
	}
	why := func(key string) control.WhyView {
		return decoded[control.WhyView](s, "why", "--table", "clientes", "--key", key, "--url", "http://"+b.listening())
	}
	queuetest.Eventually(t, "what was sent of the row", func() bool {
		of := why("1").Schedules
		return len(of) == 1 && of[0].Event == "cliente.ausente" && of[0].Last != nil && of[0].Sent != nil && of[0].Sent.Outcome == "delivered" && of[0].Sent.Key == "1"
	})
	if of := why("3").Schedules; len(of) != 1 || of[0].Sent != nil {
		t.Errorf("why has of a row that no run has had %+v", of)
	}
	// It can be sent again as any other.
	queuetest.Eventually(t, "kept events", func() bool {
		return strings.Contains(s.ok("resend", "--endpoint", "crm", "--event", "cliente.ausente", "--dry-run", "--json"), `"total": 3`)
	})
	s.ok("resend", "--endpoint", "crm", "--event", "cliente.ausente", "--wait")
	again := r.waitFor(time.Minute, "the events again", func(all []arrival) bool {
		n := 0
		for _, a := range all {
			if a.replay {
				n++
			}
		}
		return n >= 3
	})
	if distinct(again) != events {
		t.Errorf("what is sent again has %d webhook-ids, want %d", distinct(again), events)
	}
}

// TestSimulateFailingSchedule: a query that fails leaves the report of the others, of whose equal rows one makes an event.
func TestSimulateFailingSchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, testservers.RedisOptions{}, "create table clientes (id int primary key, empresa_id int)", "insert into clientes values (1, 7), (2, 7), (3, 8)")
	w.rules = `rules:
  - {event: quebra, schedule: daily 08:00, query: select 1 / (id - 2) as n from clientes, columns: [n]}
  - {event: empresa, schedule: daily 08:00, query: select empresa_id from clientes, columns: [empresa_id]}
`
	w.extra = "state: {key: '" + stateKey + "'}"
	w.endpoint("crm", newReceiver(t, nil).url())
	s := &session{world: w, path: w.write()}
	code, stdout, stderr := s.gancho("simulate", "--schedules", "--json")
	var report simulate.Report
	if err := json.Unmarshal([]byte(stdout), &report); err != nil {
		t.Fatalf("%v: %s%s", err, stdout, stderr)
	}
	if code != 1 || !strings.Contains(stderr, "run the query of quebra") || len(report.Rules) != 1 || report.Rules[0].Event != "empresa" || report.Rules[0].Events != 2 {
		t.Errorf("exit %d: %s%s", code, stdout, stderr)
	}
}
