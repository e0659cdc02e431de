package state_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"gancho/delivery/webhook"
	"gancho/internal/state"
)

// Tags choose attempts, kept events and dead letters, and come back with them, through the
// overflow too; an attempt's detail is read with it alone.
func TestTags(t *testing.T) {
	t.Parallel()
	s, _ := newStore(t)
	ctx := t.Context()
	a := attempt("crm", 1)
	a.Tags, a.Detail = []string{"pedido=1", "nome=\x00é"}, []byte(`{"answer":"não"}`)
	check(t, s.WriteAttempts(ctx, []state.Attempt{a, attempt("crm", 2)}))
	m := webhook.Message{ID: "0badcafe-1", Type: "pedido.criado", Time: noon, Data: []byte("{}"), Tags: a.Tags}
	check(t, s.WriteEvents(ctx, []webhook.Message{m}))
	dead := deadLetter("crm", 1)
	dead.Tags = a.Tags
	check(t, s.WriteDead(ctx, []state.DeadLetter{dead}))
	for _, c := range []struct {
		tags []string
		want int64
	}{{[]string{"pedido=1"}, 1}, {a.Tags, 1}, {[]string{"pedido=1", "pedido=2"}, 0}, {[]string{"pedido"}, 0}} {
		f := state.Filter{Tags: c.tags}
		page, _, err := s.Attempts(ctx, f, "", 10)
		check(t, err)
		events, err := s.CountEvents(ctx, f)
		check(t, err)
		letters, err := s.DeadLetters(ctx, f, 0, 10)
		check(t, err)
		if int64(len(page)) != c.want || events != c.want || int64(len(letters)) != c.want {
			t.Errorf("the tags %q choose %d attempts, %d events and %d dead letters, not %d", c.tags, len(page), events, len(letters), c.want)
		}
		if c.want == 1 {
			same(t, "tags of an attempt", a.Tags, page[0].Tags)
			same(t, "tags of a dead letter", a.Tags, letters[0].Tags)
			if page[0].Detail != nil {
				t.Error("a list has details")
			}
		}
	}
	got, err := s.Attempt(ctx, state.AttemptID(&a), "1")
	check(t, err)
	same(t, "attempt", a, got)
	for id, tenant := range map[string]string{state.AttemptID(&a): "2", "x": ""} {
		if _, err := s.Attempt(ctx, id, tenant); !strings.Contains(fmt.Sprint(err), state.ErrNotFound.Error()) {
			t.Errorf("attempt %s of tenant %s: %v", id, tenant, err)
		}
	}
}

// What people search by is found by an index, however many attempts there are: one event, a
// rare tag; several events by each one's newest attempts.
func TestAttemptsPlans(t *testing.T) {
	t.Parallel()
	s, dsn := newStore(t)
	ctx := t.Context()
	check(t, s.Maintain(ctx, time.Hour, 24*time.Hour))
	pool := connect(t, dsn)
	_, err := pool.Exec(ctx, `insert into gancho.attempts (time, endpoint, entry, number, webhook_id, event, tenant, key, committed, outcome, class, status, error, micros, replay, tags)
		select now() - n * interval '1 ms', 'e' || n % 10, n::text, 1, n::text, 'evento.' || case when n % 5000 = 0 then 'raro' else 'comum' || n % 3 end,
			(n % 7)::text, n::text, now(), 'delivered', 'ok', 200, '', 1, false, array['pedido=' || n, 'tipo=' || n % 3]
		from generate_series(1, 30000) n`)
	check(t, err)
	_, err = pool.Exec(ctx, "analyze gancho.attempts")
	check(t, err)
	today := time.Now().UTC().Format("20060102")
	for name, c := range map[string]struct {
		filter state.Filter
		want   string
		rows   int
	}{
		"event":    {state.Filter{Events: []string{"evento.raro"}}, "event", 6},
		"patterns": {state.Filter{Events: []string{"*raro", "evento.comum1"}}, "event", 50},
		"tag":      {state.Filter{Tags: []string{"pedido=4711"}}, "tags", 1},
		"frequent": {state.Filter{Tags: []string{"tipo=1"}}, "pkey", 50},
		"both":     {state.Filter{Tags: []string{"pedido=4711"}, Events: []string{"evento.comum1"}, From: time.Now().Add(-time.Hour)}, "tags", 1},
	} {
		rows, _, err := s.Attempts(ctx, c.filter, "", 50)
		check(t, err)
		if len(rows) != c.rows {
			t.Errorf("%s: %d rows, not %d", name, len(rows), c.rows)
		}
		plan, err := s.ExplainAttempts(ctx, c.filter, "", 50)
		check(t, err)
		if !strings.Contains(plan, "attempts_p"+today+"_"+c.want) || strings.Contains(plan, "Seq Scan on attempts_p"+today) {
			t.Errorf("%s: no index of %s is used:\n%s", name, c.want, plan)
		}
	}
}
