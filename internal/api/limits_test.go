package api_test

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/rs/zerolog"

	"gancho/delivery/endpoint"
	"gancho/internal/api"
	"gancho/internal/control"
	"gancho/internal/state"
	"gancho/internal/strictyaml"
	"gancho/internal/testservers"
)

// A body with a mistake every few bytes gets a short answer, on every route.
func TestManyMistakes(t *testing.T) {
	testservers.Whole(t)
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("crm", "")
	before := w.snapshot()
	var keys, twice, masked strings.Builder
	for i := range 10_000 {
		fmt.Fprintf(&keys, `,"nomee%05d":1`, i)
		fmt.Fprint(&twice, `,"url":1`)
		if i < 5_000 {
			fmt.Fprintf(&masked, `,"x%05d":"***"`, i)
		}
	}
	for _, c := range []struct{ method, path, body string }{
		{"POST", "/endpoints", `{"url":"https://a.example.com"` + keys.String() + "}"},
		{"POST", "/endpoints", `{"url":"https://a.example.com"` + twice.String() + "}"},
		{"PATCH", "/endpoints/crm", `{"url":"https://a.example.com"` + keys.String() + "}"},
		{"PATCH", "/endpoints/crm", `{"url":"https://a.example.com"` + twice.String() + "}"},
		{"PATCH", "/endpoints/crm", `{"extra":{"a":"b"` + masked.String() + "}}"},
		{"POST", "/endpoints/crm/rotate", `{"overlap":"1h"` + keys.String() + "}"},
		{"POST", "/resends", `{"endpoint":"crm","filter":{"key":"1"` + keys.String() + "}}"},
		{"POST", "/dead-letters/redrive", `{"all":true` + keys.String() + "}"},
		{"POST", "/tokens", `{"name":"x"` + keys.String() + "}"},
	} {
		a := w.do(c.method, c.path, "root", c.body)
		p := a.problem(t)
		if a.status != http.StatusBadRequest || len(p.Errors) < strictyaml.MaxErrors || len(p.Errors) > strictyaml.MaxErrors+1 || len(a.body) > 100_000 {
			t.Errorf("%s %s %.60s: %d with %d errors in %d bytes: %.300s", c.method, c.path, c.body, a.status, len(p.Errors), len(a.body), a.body)
		}
	}
	w.unchanged(before, "many mistakes")
}

// endless is a body without an end, which counts what was read of it.
type endless struct{ read int }

func (e *endless) Read(p []byte) (int, error) {
	for i := range p {
		p[i] = '['
	}
	e.read += len(p)
	return len(p), nil
}

// A body without an end is refused by every route, and what is read of it is bounded: nothing
// without a token.
func TestEndlessBodies(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	before := w.snapshot()
	h := api.New(api.Options{Control: control.New(control.Options{Store: w.store, Queue: w.queue}), Logger: zerolog.Nop(), Authenticate: w.store.Authenticate})
	for _, r := range api.Routes() {
		for token, c := range map[string]struct{ status, most int }{
			w.tokens["root"]: {http.StatusRequestEntityTooLarge, api.MaxBody + 1<<20}, "": {http.StatusUnauthorized, 0}, "gancho_wrong": {http.StatusUnauthorized, 0},
		} {
			if r.Path == "/openapi.json" { // it needs none
				c.status, c.most = http.StatusRequestEntityTooLarge, api.MaxBody+1<<20
			}
			body := &endless{}
			request := httptest.NewRequest(r.Method, "/api/v1"+strings.NewReplacer("{name}", "crm", "{id}", "1").Replace(r.Path), body)
			request.Header.Set("Content-Type", "application/json")
			if len(r.Media) > 0 {
				request.Header.Set("Content-Type", r.Media[0])
			}
			if token != "" {
				request.Header.Set("Authorization", "Bearer "+token)
			}
			answer := httptest.NewRecorder()
			h.ServeHTTP(answer, request)
			if answer.Code != c.status && answer.Code != http.StatusTooManyRequests || answer.Code == http.StatusTooManyRequests && token == w.tokens["root"] || body.read > c.most {
				t.Errorf("%s %s with the token %.10q: %d, want %d, and %d bytes were read: %s", r.Method, r.Path, token, answer.Code, c.status, body.read, answer.Body)
			}
		}
	}
	w.unchanged(before, "endless bodies")
}

// A key that stands twice is refused by every route that takes a body: parsers take
// either, and whoever has reviewed the request has seen the other.
func TestKeysAreGivenOnce(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.addEndpoint("crm", "")
	const once, twice = `{"concurrency":4}`, `{"concurrency":4,"concurrency":5}`
	before := w.snapshot()
	for _, c := range []struct{ method, path, body, at string }{
		{"PATCH", "/endpoints/crm", twice, "/concurrency"},
		{"PATCH", "/endpoints/crm", `{"headers":{"X-A":"1","X-A":"2"}}`, "/headers/X-A"},
		{"POST", "/endpoints", `{"name":"x","url":"https://a.example.com","url":"https://b.example.com"}`, "/url"},
		{"POST", "/endpoints/crm/rotate", `{"overlap":"1h","overlap":"2h"}`, "/overlap"},
		{"POST", "/tokens", `{"name":"x","role":"viewer","role":"admin"}`, "/role"},
		{"POST", "/resends", `{"endpoint":"crm","filter":{"key":"1","key":"2"}}`, "/filter/key"},
		{"POST", "/dead-letters/redrive", `{"filter":{"key":"1"},"filter":{"key":"2"}}`, "/filter"},
		{"POST", "/dead-letters/drop", `{"filter":{"key":"1","key":"2"}}`, "/filter/key"},
	} {
		a := w.do(c.method, c.path, "root", c.body)
		p := a.problem(t)
		if a.status != http.StatusBadRequest || len(p.Errors) != 1 || p.Errors[0].Pointer != c.at || !strings.Contains(p.Errors[0].Message, "given twice") {
			t.Errorf("%s %s %s: %d: %s", c.method, c.path, c.body, a.status, a.body)
		}
	}
	w.unchanged(before, "a key given twice")
	if a := w.do("PATCH", "/endpoints/crm", "root", once); a.status != http.StatusOK {
		t.Errorf("the key given once: %d: %s", a.status, a.body)
	}
}

// A test of an endpoint, which waits for its receiver, takes no slot of all.
func TestTestsHoldUpNobody(t *testing.T) {
	t.Parallel()
	started, release := make(chan struct{}), make(chan struct{})
	h := api.New(api.Options{
		Control: control.New(control.Options{File: func() []*endpoint.Endpoint {
			close(started)
			<-release
			return nil
		}}),
		Authenticate: fixed(map[string]state.Token{"gancho_x": {Name: "x", Role: state.Operator}}), Logger: zerolog.Nop(), TotalRequests: 1,
	})
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		post(h, "/api/v1/endpoints/x/test", "gancho_x", "")
	}()
	<-started
	if a := ask(h, "192.0.2.1:1", "/api/v1/event-types", bearer("gancho_x")); a.Code != http.StatusOK {
		t.Errorf("beside a test another request is answered %d: %s", a.Code, a.Body)
	}
	close(release)
	<-ended
}

// Of requests that read all queues, one does so at once; who waits for it keeps nobody from
// reading, and is told what it has waited for.
func TestForgetsWait(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	held := make(chan struct{}, 2)
	h := api.New(api.Options{
		Control: control.New(control.Options{Store: w.store, Queue: w.queue}), Logger: zerolog.Nop(), Authenticate: w.store.Authenticate, TotalRequests: 1,
		Hold: func(r *http.Request) func() {
			if r.Method == http.MethodPost {
				select { // it is held again after each wait
				case held <- struct{}{}:
				default:
				}
			}
			return func() {}
		},
	})
	forget := func(tenant string) *httptest.ResponseRecorder {
		return post(h, "/api/v1/forget", w.tokens["admin-"+tenant], `{"key":"4711","dry_run":true}`)
	}
	end := api.Scan(t, h) // another one reads
	codes := make(chan int, 2)
	for _, tenant := range []string{"1", "2"} {
		go func() { codes <- forget(tenant).Code }()
		<-held
	}
	if a := ask(h, "192.0.2.1:1", "/api/v1/dead-letters", bearer(w.tokens["root"])); a.Code != http.StatusOK {
		t.Errorf("beside forgets that wait, a query is answered %d: %s", a.Code, a.Body)
	}
	if len(held) > 0 || len(codes) > 0 {
		t.Error("a forget goes on while another one reads all queues")
	}
	end()
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a forget is answered %d", code)
		}
	}
	end = api.Scan(t, h)
	api.Impatient(h)
	if a := forget("1"); a.Code != http.StatusTooManyRequests || !strings.Contains(a.Body.String(), "Others' forgets are in flight") {
		t.Errorf("a forget that has waited for another tenant's is answered %d: %s", a.Code, a.Body)
	}
	end()
}

// A forget that waits for its statements keeps no other from reading the queues.
func TestForgetsDoNotWaitForStatements(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := api.New(api.Options{Control: control.New(control.Options{Store: w.store, Queue: w.queue}), Logger: zerolog.Nop(), Authenticate: w.store.Authenticate})
	lock := w.lock("gancho.attempts")
	codes := make(chan int, 2)
	for _, tenant := range []string{"1", "2"} {
		go func() {
			codes <- post(h, "/api/v1/forget", w.tokens["admin-"+tenant], `{"key":"4711","dry_run":true}`).Code
		}()
	}
	for lock.waiting() < 2 { // asks the database again
		if t.Context().Err() != nil || len(codes) > 0 {
			t.Fatalf("%d statements wait for the lock, and %d forgets were answered", lock.waiting(), len(codes))
		}
	}
	lock.release()
	for range 2 {
		if code := <-codes; code != http.StatusOK {
			t.Errorf("a forget is answered %d", code)
		}
	}
}

func post(h http.Handler, path, token, body string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(http.MethodPost, path, strings.NewReader(body))
	r.Header.Set("Authorization", "Bearer "+token)
	if body != "" {
		r.Header.Set("Content-Type", "application/json")
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A token expires, unless who creates it says that it never does.
func TestTokensExpire(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	for expires, want := range map[string]func(time.Time) bool{
		"": func(at time.Time) bool {
			return at.After(time.Now().Add(89*24*time.Hour)) && at.Before(time.Now().Add(91*24*time.Hour))
		},
		`,"expires":"never"`:                time.Time.IsZero,
		`,"expires":"2099-01-01T00:00:00Z"`: func(at time.Time) bool { return at.Year() == 2099 },
	} {
		name := fmt.Sprint("t", len(expires))
		made := must[control.CreatedToken](w, http.StatusCreated, "POST", "/tokens", "root", `{"name":"`+name+`","role":"viewer"`+expires+`}`)
		if !want(made.Expires) {
			t.Errorf("with %q a token expires %s", expires, made.Expires)
		}
	}
	if a := w.do("POST", "/tokens", "root", `{"name":"x","role":"viewer","expires":"ever"}`); a.status != http.StatusBadRequest || len(a.problem(t).Errors) != 1 {
		t.Errorf("a time that is none: %d: %s", a.status, a.body)
	}
}
