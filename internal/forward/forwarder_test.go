package forward_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
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
	fails []error // of the next calls of Event
	gone  bool    // the endpoint, after its events
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

// Deliveries sorts the log by time, as a database does.
func (b *fakeBridge) Deliveries(_ context.Context, _ control.Actor, f state.Filter, cursor string, limit int) (page control.Page[state.Attempt], err error) {
	found := slices.DeleteFunc(slices.Clone(b.log), func(a state.Attempt) bool { return a.Time.Before(f.From) })
	slices.SortStableFunc(found, func(a, b state.Attempt) int { return b.Time.Compare(a.Time) })
	from, _ := strconv.Atoi(cursor)
	page.Items = found[from:min(from+limit, len(found))]
	if from+limit < len(found) {
		page.Next = strconv.Itoa(from + limit)
	}
	return page, nil
}

func (b *fakeBridge) Event(_ context.Context, _ control.Actor, id, _ string) (control.EventView, error) {
	if len(b.fails) > 0 {
		err := b.fails[0]
		b.fails = b.fails[1:]
		return control.EventView{}, err
	}
	if !b.kept[id] {
		return control.EventView{}, state.ErrNotFound
	}
	return control.EventView{WebhookID: id, Request: &webhook.ExchangeRequest{Header: http.Header{"Content-Type": {"text/plain"}}, Body: "body of " + id}}, nil
}

func (b *fakeBridge) Endpoint(context.Context, control.Actor, string) (control.EndpointView, error) {
	if b.gone {
		return control.EndpointView{}, state.ErrNotFound
	}
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

var start = time.Date(2026, 11, 29, 12, 0, 0, 0, time.UTC)

func attempt(second, number int, id, outcome string) state.Attempt {
	return state.Attempt{Time: start.Add(time.Duration(second) * time.Second), Endpoint: "crm", WebhookID: id, Event: "a.new", Number: number, Outcome: outcome}
}

// forwarded runs a forwarder with the tails of a bridge, and returns what it shows and notes.
func forwarded(t *testing.T, b *fakeBridge, secret endpoint.Secret) (shown, notes []string) {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer server.Close()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.end = cancel
	f := forward.New(forward.Options{
		Bridge: b, URL: server.URL, Secret: secret, Version: "test",
		Interrupted: func(err error) bool { return errors.Is(err, errAway) },
		Show: func(e *forward.Exchange) error {
			line := e.WebhookID + ": " + e.Error
			if e.OK() {
				line = e.WebhookID
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
	return shown, notes
}

// TestNothingIsLost: an event whose reading failed comes with the next tail, and so do attempts that come to the log up to 15 seconds
// late, before it has begun and later.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	b := &fakeBridge{kept: map[string]bool{"old": true, "a": true, "b": true, "c": true, "late": true, "later": true, "d": true}}
	b.log = []state.Attempt{attempt(0, 1, "old", "delivered")}
	add := func(list ...state.Attempt) []state.Attempt { b.log = append(b.log, list...); return list }
	b.tails = []func(func(control.TailLines) error) error{
		func(each func(control.TailLines) error) error {
			if err := each(control.TailLines{}); err != nil {
				return err
			}
			b.fails = []error{errAway}
			return each(control.TailLines{Items: add(attempt(21, 1, "b", "delivered"), attempt(20, 1, "a", "delivered"))})
		},
		func(each func(control.TailLines) error) error {
			if err := each(control.TailLines{}); err != nil {
				return err
			}
			// The first line of a tail may have what the log had not yet.
			return each(control.TailLines{Items: add(attempt(40, 1, "c", "delivered"))})
		},
		func(each func(control.TailLines) error) error {
			first := attempt(30, 1, "late", "delivered")
			if err := each(control.TailLines{Items: []state.Attempt{first}}); err != nil {
				return err
			}
			add(first, attempt(26, 1, "later", "delivered"))
			return each(control.TailLines{Missed: true, Items: add(attempt(50, 1, "d", "delivered"))})
		},
	}
	shown, notes := forwarded(t, b, endpoint.GenerateSecret())
	if diff := cmp.Diff([]string{"a", "b", "c", "late", "later", "d"}, shown); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	if len(notes) != 2 {
		t.Errorf("notes: %q", notes)
	}
}

// TestBusyLog: what is known already is no reason to leave out what is new, however much of it there is.
func TestBusyLog(t *testing.T) {
	t.Parallel()
	b := &fakeBridge{kept: map[string]bool{"new": true, "old": true}}
	b.log = []state.Attempt{attempt(0, 1, "old", "delivered")}
	var many []state.Attempt
	for i := range 450 {
		many = append(many, attempt(30, 1, strconv.Itoa(i), "retry"))
	}
	b.tails = []func(func(control.TailLines) error) error{func(each func(control.TailLines) error) error {
		if err := each(control.TailLines{}); err != nil {
			return err
		}
		b.log = append(b.log, many...)
		if err := each(control.TailLines{Items: many}); err != nil {
			return err
		}
		b.log = append(b.log, attempt(20, 1, "new", "delivered"))
		return each(control.TailLines{More: 1})
	}}
	shown, notes := forwarded(t, b, endpoint.GenerateSecret())
	if len(shown) != 451 || shown[450] != "new" || len(notes) != 0 {
		t.Errorf("%d are shown, the last as %s; notes: %q", len(shown), shown[len(shown)-1], notes)
	}
}

// TestTooMany: what is said to be left out does not come later, neither with the tail's lines nor when the log is read again; what
// comes late beside the newest does.
func TestTooMany(t *testing.T) {
	t.Parallel()
	b := &fakeBridge{kept: map[string]bool{"late": true}}
	b.log = []state.Attempt{attempt(0, 1, "old", "delivered")}
	var many []state.Attempt // the newest first
	for i := range 600 {
		a := attempt(20, 1, strconv.Itoa(600-i), "retry")
		a.Time = a.Time.Add(time.Duration(600-i) * time.Millisecond)
		many = append(many, a)
	}
	b.tails = []func(func(control.TailLines) error) error{func(each func(control.TailLines) error) error {
		if err := each(control.TailLines{}); err != nil {
			return err
		}
		b.log = append(b.log, many...)
		if err := each(control.TailLines{Items: slices.Clone(many[:500]), More: 100}); err != nil {
			return err
		}
		late := attempt(20, 1, "late", "delivered")
		late.Time = late.Time.Add(500*time.Millisecond + time.Microsecond)
		b.log = append(b.log, late)
		return errors.Join(each(control.TailLines{More: 1}), each(control.TailLines{Missed: true}))
	}}
	shown, notes := forwarded(t, b, endpoint.GenerateSecret())
	if len(shown) != 201 || shown[200] != "late" || len(notes) != 1 {
		t.Errorf("%d are shown, %q; notes: %q", len(shown), shown, notes)
	}
}

// TestOldestForgotten: of more attempts than are remembered the newest are known again.
func TestOldestForgotten(t *testing.T) {
	t.Parallel()
	b := &fakeBridge{}
	var all []state.Attempt // the newest first
	for i := range 25_000 {
		all = append(all, attempt(25_000-i, 1, strconv.Itoa(25_000-i), "retry"))
	}
	b.tails = []func(func(control.TailLines) error) error{func(each func(control.TailLines) error) error {
		return errors.Join(each(control.TailLines{}), each(control.TailLines{Items: all}), each(control.TailLines{Items: all[:20_000]}))
	}}
	if shown, _ := forwarded(t, b, endpoint.GenerateSecret()); len(shown) != 25_000 {
		t.Errorf("%d are shown", len(shown))
	}
}

// TestOneThatCannotBeSigned: it is shown with the reason, and the rest goes on.
func TestOneThatCannotBeSigned(t *testing.T) {
	t.Parallel()
	tail := func(b *fakeBridge) {
		b.kept = map[string]bool{"a": true, "b": true}
		b.tails = []func(func(control.TailLines) error) error{func(each func(control.TailLines) error) error {
			return errors.Join(each(control.TailLines{}), each(control.TailLines{Items: []state.Attempt{attempt(2, 1, "b", "delivered"), attempt(1, 1, "a", "delivered")}}))
		}}
	}
	b := &fakeBridge{gone: true}
	tail(b)
	const gone = ": its endpoint is not there, not yours, or cannot be delivered to"
	shown, _ := forwarded(t, b, endpoint.GenerateSecret())
	if diff := cmp.Diff([]string{"a" + gone, "b" + gone}, shown); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
	b = &fakeBridge{}
	tail(b)
	asymmetric := endpoint.GenerateSigningKey()
	if shown, _ = forwarded(t, b, asymmetric); len(shown) != 2 || !strings.HasPrefix(shown[0], "a: sign as endpoint crm does: ") || strings.Contains(shown[0], asymmetric.Reveal()) {
		t.Errorf("with a key of another kind: %q", shown)
	}
}
