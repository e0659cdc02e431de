package control_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/rs/zerolog"

	"gancho/delivery/endpoint"
	"gancho/delivery/queue"
	"gancho/delivery/queue/queuetest"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/mapping"
)

// eventWorld are two sources whose webhook-ids are the same, with a queue each: of alfa an event waits for an endpoint of all and for one of another tenant, and
// of beta a change is parked.
type eventWorld struct {
	*gym
	house        *control.Service
	alfa, beta   string // webhook-ids
	unreachable  map[string]error
	remembers    map[string]func(control.WhyQuestion) (control.WhyView, error)
	waits, fails *mapping.Event
}

func newEventWorld(t *testing.T) *eventWorld {
	t.Helper()
	ctx := context.Background()
	w := &eventWorld{gym: newGym(t), unreachable: map[string]error{}, remembers: map[string]func(control.WhyQuestion) (control.WhyView, error){}}
	queues := map[string]*queue.Queue{}
	for _, name := range []string{"alfa", "beta"} {
		q, err := queue.Open(ctx, queue.Options{URL: w.redis.URL(), Prefix: "gancho:" + name, Logger: zerolog.Nop()})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = q.Close() })
		q.Update([]*endpoint.Endpoint{{Name: "todos"}, {Name: "um"}})
		if _, err := q.Claim(ctx, queuetest.Source(), false); err != nil {
			t.Fatal(err)
		}
		queues[name] = q
	}
	w.waits, w.fails = queuetest.Event(1, "7"), queuetest.Event(2, "8")
	w.waits.Tenant = []byte("alfa/7")
	for _, e := range []struct {
		source string
		id     *string
		event  *mapping.Event
	}{{"alfa", &w.alfa, w.waits}, {"beta", &w.beta, w.fails}} {
		var err error
		if *e.id, err = queues[e.source].WebhookID(e.event.Position, e.event.N); err != nil {
			t.Fatal(err)
		}
		b := queues[e.source].NewBatch()
		if e.source == "alfa" {
			_, err = b.Add(e.event)
		} else {
			err = b.Park(&mapping.Parked{Position: e.event.Position, N: e.event.N, Type: "x.y", Rule: "r.yaml:3", Table: "public.clientes", Time: e.event.Time, Reason: "division by zero"})
		}
		if err == nil {
			err = queues[e.source].Append(ctx, b)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	w.house = w.several(func(source string, o *control.Options) {
		if o.Queue, o.QueueDown = queues[source], w.unreachable[source]; o.QueueDown != nil {
			o.Queue = nil
		}
		o.Verdicts = func(q control.WhyQuestion) (control.WhyView, error) {
			if ask := w.remembers[source]; ask != nil {
				return ask(q)
			}
			return control.WhyView{}, &control.ElsewhereError{Slot: "gancho_" + source}
		}
	}, "beta", "alfa")
	of := w.house.EachSource
	w.house.OfSource = func(ctx context.Context, name string, do func(*control.Service) error) (known bool, err error) {
		err = of(ctx, func(s *control.Service) error {
			if s.SourceName != name {
				return nil
			}
			known = true
			return do(s)
		})
		return known, err
	}
	return w
}

// sent notes an attempt.
func (w *eventWorld) sent(id, endpoint, tenant string) {
	w.t.Helper()
	now := time.Now().UTC().Truncate(time.Microsecond)
	err := w.Store.WriteAttempts(context.Background(), []state.Attempt{{Time: now, Endpoint: endpoint, Entry: tenant + endpoint, WebhookID: id, Event: "x.y", Tenant: tenant, Committed: now, Number: 1, Outcome: "retry"}})
	if err != nil {
		w.t.Fatal(err)
	}
}

// asks returns what is answered to an actor, a line for each change.
func (w *eventWorld) asks(s *control.Service, id, tenant string) (out []string, v control.WhyView) {
	w.t.Helper()
	v, err := s.Why(context.Background(), control.Actor{Name: "token:t", Role: state.Viewer, Tenant: tenant}, control.WhyQuestion{WebhookID: id})
	if err != nil {
		w.t.Fatal(err)
	}
	for _, c := range v.Changes {
		line := c.Source + ":"
		for _, r := range c.Rules {
			line += fmt.Sprintf(" %s %s%s", r.Event, r.Outcome, r.Parked)
			for _, e := range r.Endpoints {
				line += fmt.Sprintf(" %s/%d", e.Endpoint, len(e.Attempts))
			}
		}
		out = append(out, line)
	}
	return out, v
}

// TestWhyEvent: an event is looked for by its webhook-id in all sources, in what they remember, in their queues and in the delivery log, and the answer says of
// which it is: of two whose ids are the same it tells both, each with its own.
func TestWhyEvent(t *testing.T) {
	t.Parallel()
	w := newEventWorld(t)
	expect := func(what string, s *control.Service, id, tenant string, want ...string) control.WhyView {
		t.Helper()
		got, v := w.asks(s, id, tenant)
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: -want +got\n%s", what, diff)
		}
		return v
	}
	expect("what waits", w.house, w.alfa, "", "alfa: cobranca.liquidada event todos/0 um/0")
	expect("what waits, of its tenant, whose no endpoint is", w.house, w.alfa, "alfa/7")
	v := expect("what is parked", w.house, w.beta, "", "beta: x.y parkeddivision by zero")
	if v.Table != "public.clientes" || !cmp.Equal(v.OfSources, []string{"alfa", "beta"}) || !cmp.Equal(v.SourcesUnread, v.OfSources) {
		t.Errorf("%+v", v)
	}
	expect("what is parked, of a tenant", w.house, w.beta, "beta/7")
	w.sent(w.alfa, "todos", "alfa/7")
	w.sent(w.alfa, "todos", "beta/7")
	w.sent("evt-1", "todos", "gama/7")
	w.sent("evt-1", "um", "alfa/7")
	expect("two sources", w.house, w.alfa, "", "alfa: cobranca.liquidada event todos/1 um/0", "beta: x.y event todos/1")
	expect("two sources, of a tenant", w.house, w.alfa, "alfa/7", "alfa: x.y event todos/1")
	expect("an id of no position, and a source that is none any more", w.house, "evt-1", "", "alfa: x.y event um/1", "gama: x.y event todos/1")
	expect("the same, of a tenant", w.house, "evt-1", "alfa/7", "alfa: x.y event um/1")
	expect("nothing", w.house, "evt-2", "")
	w.remembers["beta"] = func(q control.WhyQuestion) (control.WhyView, error) {
		set := control.WhyRule{Rule: "r.yaml:3", Event: "x.y", Outcome: control.WhyTimerSet, WebhookID: q.WebhookID}
		canceled := control.WhyRule{Rule: "r.yaml:3", Event: "x.y", Outcome: control.WhyTimerCanceled}
		return control.WhyView{WebhookID: q.WebhookID, Table: "public.clientes", Capturing: true, Changes: []control.WhyChange{{Rules: []control.WhyRule{set, {Event: "x.z"}}}, {Time: time.Unix(9, 0), Rules: []control.WhyRule{canceled}}}}, nil
	}
	v = expect("a timer that is parked", w.house, w.beta, "", "beta: x.y timer_setdivision by zero")
	if !v.Changes[0].Rules[0].TimerParked || !cmp.Equal(v.SourcesUnread, []string{"alfa"}) {
		t.Errorf("%+v", v)
	}
	third := queuetest.Event(3, "9")
	id, err := queue.NewID(1, third.Position, third.N)
	if err != nil {
		t.Fatal(err)
	}
	v = expect("a timer that was canceled", w.house, id.WebhookID(w.alfa[:8]), "", "beta: x.y timer_set")
	if !v.Changes[0].Rules[0].CanceledBy.Equal(time.Unix(9, 0)) {
		t.Errorf("%+v", v.Changes)
	}
	w.remembers["beta"] = func(q control.WhyQuestion) (control.WhyView, error) {
		return control.WhyView{WebhookID: q.WebhookID, Changes: []control.WhyChange{{Rules: []control.WhyRule{{Event: "x.y", Outcome: control.WhyParked, WebhookID: q.WebhookID}}}}}, nil
	}
	redriven := id.WebhookID(w.alfa[:8])
	w.sent(redriven, "todos", "beta/7")
	expect("what was parked and redriven, and is remembered", w.house, redriven, "", "beta: x.y parked todos/1")
	expect("the same, of its tenant", w.house, redriven, "beta/7", "beta: x.y parked todos/1")
	delete(w.remembers, "beta")
	w.unreachable["alfa"] = queue.ErrUnreachable
	if v = expect("without the queue of one", w.house, w.alfa, "", "alfa: x.y event todos/1", "beta: x.y event todos/1"); !v.QueueUnread {
		t.Error("it is not said that a queue was not asked")
	}
	_ = w.house.Of(context.Background(), root, "beta", func(of *control.Service) error {
		expect("of one source", of, w.alfa, "", "beta: x.y event todos/1")
		return nil
	})
	for _, q := range []control.WhyQuestion{{WebhookID: w.alfa, Key: "7"}, {WebhookID: w.alfa, Table: "cobrancas"}, {WebhookID: w.alfa, Row: true}} {
		if _, err := w.house.Why(context.Background(), root, q); !errors.As(err, new(*control.InvalidError)) {
			t.Errorf("%+v: %v", q, err)
		}
	}
}
