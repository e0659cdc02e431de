package forward_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"gancho/delivery/endpoint"
	"gancho/delivery/webhook"
	"gancho/internal/control"
	"gancho/internal/forward"
	"gancho/internal/state"
)

var errAway = errors.New("the bridge is away")

// fakeBridge says in its tails what a test wants, and has a log.
type fakeBridge struct {
	log   []state.Attempt // the oldest first
	tails []func(each func(control.TailLines) error) error
	end   context.CancelFunc
	kept  map[string]bool
}

func (b *fakeBridge) Tail(_ context.Context, _ control.Actor, _ state.Filter, each func(control.TailLines) error) error {
	if len(b.tails) == 0 {
		b.end()
		return nil
	}
	next := b.tails[0]
	b.tails = b.tails[1:]
	return next(each)
}

func (b *fakeBridge) Deliveries(_ context.Context, _ control.Actor, f state.Filter, _ string, limit int) (page control.Page[state.Attempt], err error) {
	for _, a := range slices.Backward(b.log) {
		if !a.Time.Before(f.From) && len(page.Items) < limit {
			page.Items = append(page.Items, a)
		}
	}
	return page, nil
}

func (b *fakeBridge) Event(_ context.Context, _ control.Actor, id, _ string) (control.EventView, error) {
	if !b.kept[id] {
		return control.EventView{}, state.ErrNotFound
	}
	return control.EventView{WebhookID: id, Request: &webhook.ExchangeRequest{Header: http.Header{"Content-Type": {"text/plain"}}, Body: "body of " + id}}, nil
}

func (b *fakeBridge) Endpoint(context.Context, control.Actor, string) (control.EndpointView, error) {
	return control.EndpointView{Settings: json.RawMessage(`{"url":"https://crm.example.com?k=***","standard":false,"signatures":[{"header":"X-S","of":"{body}"}]}`)}, nil
}

// TestForwarder: what the tail leaves out, cuts off or has missed is read from the log, each event is sent once, and what cannot be is
// named.
func TestForwarder(t *testing.T) {
	t.Parallel()
	var bodies []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		bodies = append(bodies, string(body)) // one at a time
		if r.Header.Get("X-S") == "" || r.Header.Get("Webhook-Signature") != "" || r.Header.Get("Content-Type") != "text/plain" {
			t.Errorf("the header: %v", r.Header)
		}
		http.Redirect(w, r, "/elsewhere", http.StatusFound)
	}))
	t.Cleanup(server.Close)
	start := time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)
	attempt := func(second, number int, id, outcome string) state.Attempt {
		return state.Attempt{Time: start.Add(time.Duration(second) * time.Second), Endpoint: "crm", WebhookID: id, Event: "a.new", Number: number, Outcome: outcome}
	}
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b := &fakeBridge{end: cancel, kept: map[string]bool{"old": true, "b": true, "c": true, "d": true, "e": true}}
	b.log = []state.Attempt{attempt(0, 1, "old", "delivered")}
	add := func(list ...state.Attempt) { b.log = append(b.log, list...) }
	b.tails = []func(func(control.TailLines) error) error{
		func(each func(control.TailLines) error) error {
			add(attempt(1, 1, "b", "delivered"), attempt(2, 1, "lost", "delivered")) // before the tail has begun
			if err := each(control.TailLines{}); err != nil {
				return err
			}
			c := attempt(3, 1, "c", "delivered")
			add(c)
			if err := each(control.TailLines{Items: []state.Attempt{c}}); err != nil {
				return err
			}
			w, again := attempt(4, 1, "w", "retry"), attempt(5, 2, "w", "retry")
			add(w, again)
			return errors.Join(each(control.TailLines{Items: []state.Attempt{again, w}}), errAway)
		},
		func(each func(control.TailLines) error) error {
			b.kept["w"] = true
			add(attempt(6, 1, "d", "delivered"), attempt(7, 3, "w", "delivered")) // while it was away
			return each(control.TailLines{})
		},
		func(each func(control.TailLines) error) error {
			if err := each(control.TailLines{}); err != nil {
				return err
			}
			e := attempt(8, 1, "e", "delivered")
			replay := attempt(9, 1, "b", "delivered")
			replay.Replay = true
			add(e, replay)
			return each(control.TailLines{More: 2})
		},
	}
	var shown, notes []string
	f := forward.New(forward.Options{
		Bridge: b, URL: server.URL, Secret: endpoint.GenerateSecret(), Version: "test",
		Interrupted: func(err error) bool { return errors.Is(err, errAway) },
		Show: func(e *forward.Exchange) error {
			line := e.WebhookID + ": " + e.Error
			if e.Answer != nil {
				line = e.WebhookID + ": " + http.StatusText(e.Answer.Status)
			}
			shown = append(shown, line)
			return nil
		},
		Note: func(text string) { notes = append(notes, text) },
	})
	defer f.Close()
	if err := f.Run(ctx); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"b: Found", "lost: the bridge does not keep it: set state.keep_events there", "c: Found",
		"w: its receiver has not taken it (retry); it is forwarded when its delivery ends, with which the bridge keeps it",
		"d: Found", "w: Found", "e: Found", "b: Found",
	}
	if diff := cmp.Diff(want, shown); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if diff := cmp.Diff([]string{"body of b", "body of c", "body of d", "body of w", "body of e", "body of b"}, bodies); diff != "" {
		t.Errorf("bodies: (-want +got)\n%s", diff)
	}
	if len(notes) != 2 || !strings.HasPrefix(notes[0], "the bridge is away; tried again every 2s") || notes[1] != "connected again" {
		t.Errorf("notes: %q", notes)
	}
}
